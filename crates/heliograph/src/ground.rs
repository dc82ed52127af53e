//! What a process of roles has before its store and its broker.

use anyhow::Result;
use issuers::Issuers;
use telemetry::Metrics;

use crate::config::Config;
use crate::folder::DataFolder;

/// What settings name beside the store and the broker.
#[derive(Debug)]
pub(crate) struct Ground {
    pub(crate) issuers: Issuers,
    pub(crate) audit: audit::Log,
    pub(crate) metrics: Metrics,
}

impl Ground {
    /// Of settings that were checked, of which it says what is seldom meant.
    ///
    /// The folder is this process's alone for as long as it is held: longer than anything that lies in it.
    ///
    /// # Errors
    /// A folder that another process has, or what the file system refuses.
    pub(crate) fn lay(config: &Config) -> Result<(DataFolder, Self)> {
        for warning in config.warnings() {
            tracing::warn!("{warning}");
        }
        let (metrics, issuers) = (Metrics::install()?, config.issuers()?);
        let folder = DataFolder::open(&config.data)?;
        let audit = match &config.audit_log {
            Some(off) if off.as_os_str() == "off" => audit::Log::off(),
            Some(file) => audit::Log::append_to(file)?,
            None => audit::Log::append_to(&folder.audit_log())?,
        };
        Ok((folder, Self { issuers, audit, metrics }))
    }
}
