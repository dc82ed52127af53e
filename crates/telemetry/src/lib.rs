//! Logs and metrics of one process: set up once by the binary, before any role runs.
//!
//! Roles only emit, through `tracing` and `metrics`; they never see this crate's set-up. The admin listener calls
//! [`Metrics::render`]. Nothing here opens a port or writes a file.

mod logs;
mod metric;

pub use logs::{LogConfig, LogFormat, init_logs};
pub use metric::{BUCKETS_SECONDS, Metrics};

/// Why logs or metrics could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The filter does not parse; nothing was installed.
    #[error("log filter `{filter}` does not parse: {reason}")]
    Filter {
        /// What the configuration said.
        filter: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Logs were set up before in this process.
    #[error("a log subscriber is installed already")]
    LogsInstalled,
    /// Another recorder was installed before, or the exporter refused its set-up.
    #[error("metrics cannot be set up: {0}")]
    Metrics(#[from] metrics_exporter_prometheus::BuildError),
}
