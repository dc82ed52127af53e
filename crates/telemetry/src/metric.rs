//! The process's one metrics recorder, rendered as Prometheus text.

use std::sync::{Mutex, PoisonError};

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use crate::Error;

/// Upper bounds of every histogram whose name ends in `_seconds`.
///
/// From half of a loopback round trip to the longest wait that a client is ever given, about a factor of two apart.
pub const BUCKETS_SECONDS: [f64; 16] =
    [0.000_25, 0.000_5, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.125, 0.25, 0.5, 1.0, 2.5, 10.0, 35.0];

/// The library holds one recorder a process, so the handle to it is one a process too.
static INSTALLED: Mutex<Option<Metrics>> = Mutex::new(None);

/// Reads what the whole process has recorded.
#[derive(Debug, Clone)]
pub struct Metrics {
    handle: PrometheusHandle,
}

impl Metrics {
    /// Installs the recorder, or returns the handle to the one that it installed before.
    pub fn install() -> Result<Self, Error> {
        // Held over the set-up: two threads that come at once get the same recorder.
        let mut installed = INSTALLED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(metrics) = installed.as_ref() {
            return Ok(metrics.clone());
        }
        let handle = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &BUCKETS_SECONDS)?
            .install_recorder()?;
        Ok(installed.insert(Self { handle }).clone())
    }

    /// All metrics in the Prometheus text format.
    pub fn render(&self) -> String {
        self.handle.render()
    }

    /// Folds waiting histogram samples; call it every few seconds.
    ///
    /// Without it the samples wait in memory until somebody renders.
    pub fn fold_samples(&self) {
        self.handle.run_upkeep();
    }
}
