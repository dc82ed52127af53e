//! How often the hostile clients met their limits, as far as the gateway told them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use super::Kind;

/// Counted by the clients themselves.
#[derive(Debug, Default)]
pub(super) struct Tally {
    met: [AtomicU64; Kind::ALL.len()],
    standing: AtomicU64,
}

/// What the parent is told.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Report {
    /// Half-sent requests that are open.
    pub(crate) standing: u64,
    /// How often a client was told so by a status or a close code, or let go without a word where that is the answer.
    pub(crate) met: BTreeMap<Kind, u64>,
}

impl Tally {
    pub(super) fn met(&self, kind: Kind) {
        if let Some(met) = self.met.get(kind as usize) {
            met.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts a half-sent request as open until dropped.
    pub(super) fn stand(self: &Arc<Self>) -> Standing {
        self.standing.fetch_add(1, Ordering::Relaxed);
        Standing(Arc::clone(self))
    }

    /// All of it; those that do not read are counted by whoever has them.
    pub(super) fn report(&self, stuck: u64) -> Report {
        let mut met: BTreeMap<_, _> =
            Kind::ALL.into_iter().zip(self.met.iter().map(|met| met.load(Ordering::Relaxed))).collect();
        met.insert(Kind::Stuck, stuck);
        Report { standing: self.standing.load(Ordering::Relaxed), met }
    }
}

/// One half-sent request.
#[derive(Debug)]
pub(super) struct Standing(Arc<Tally>);

impl Drop for Standing {
    fn drop(&mut self) {
        self.0.standing.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_survives_its_line() {
        let tally = Arc::new(Tally::default());
        let _standing = tally.stand();
        drop(tally.stand());
        tally.met(Kind::Strangers);
        let report = tally.report(3);
        assert_eq!((report.standing, report.met[&Kind::Strangers], report.met[&Kind::Stuck]), (1, 1, 3));
        let line = serde_json::to_string(&report).unwrap();
        assert_eq!(serde_json::from_str::<Report>(&line).unwrap(), report);
    }
}
