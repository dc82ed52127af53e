//! Counts what the code under test counts, for the tests of this thread alone.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use metrics::{
    Counter, Gauge, Histogram, Key, KeyName, LocalRecorderGuard, Metadata, Recorder, SharedString, Unit,
    set_default_local_recorder,
};

/// All counters of one test; a test runs on one thread, so it sees its own only.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    by_name: Mutex<BTreeMap<String, Arc<AtomicU64>>>,
}

impl Counters {
    pub(crate) fn install(&self) -> LocalRecorderGuard<'_> {
        set_default_local_recorder(self)
    }

    /// Sum of the counters of that name whose labels contain `label`.
    pub(crate) fn get(&self, name: &str, label: &str) -> u64 {
        let counters = self.by_name.lock().unwrap();
        let fits = |key: &&String| key.starts_with(name) && key.contains(label);
        counters.iter().filter(|(key, _)| fits(key)).map(|(_, count)| count.load(Ordering::Relaxed)).sum()
    }
}

impl Recorder for Counters {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        let mut name = key.name().to_owned();
        for label in key.labels() {
            name.extend([" ", label.key(), "=", label.value()]);
        }
        let count = Arc::clone(self.by_name.lock().unwrap().entry(name).or_default());
        Counter::from_arc(count)
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}
