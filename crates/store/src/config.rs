//! Settings of the engines, and the address that says which one.

use std::{path::PathBuf, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{CqlConfig, cql::AddressError};

/// Which engine is opened, with its settings.
#[derive(Clone, Debug)]
pub enum StoreConfig {
    /// On this machine's disk.
    Embedded(Config),
    /// Over a cluster.
    Cql(CqlConfig),
}

impl StoreConfig {
    /// The defaults at an address: `cql://host:port,host:port/keyspace`, else the folder of an embedded store.
    ///
    /// # Errors
    /// [`AddressError`] for what begins with `cql://` and is no such address.
    pub fn at(address: &str) -> Result<Self, AddressError> {
        if address.starts_with("cql://") {
            Ok(Self::Cql(CqlConfig::at(address)?))
        } else {
            Ok(Self::Embedded(Config::in_folder(address)))
        }
    }
}

impl From<Config> for StoreConfig {
    fn from(config: Config) -> Self {
        Self::Embedded(config)
    }
}

impl From<CqlConfig> for StoreConfig {
    fn from(config: CqlConfig) -> Self {
        Self::Cql(config)
    }
}

/// Settings of the embedded engine; every size is a bound.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The store's own folder; made if it is not there.
    pub folder: PathBuf,
    /// How long rows that the log can replay may wait for the disk, in ms.
    pub sync_interval_ms: u64,
    /// Cache of blocks read from disk, in bytes.
    pub cache_bytes: u64,
    /// Rows of one table kept in memory before they are written as a file, in bytes.
    pub memtable_bytes: u64,
    /// Journals kept on disk, in bytes; at least 64 MiB. What a start has to replay grows with it.
    pub journal_bytes: u64,
    /// Threads that write files and merge them; one is enough for most, and more cost (see `embedded::tables`).
    pub background_threads: usize,
    /// Writes that may wait, in bytes; later ones wait for room.
    pub queue_bytes: usize,
    /// Writes that may wait, by count; later ones wait for room.
    pub queue_writes: usize,
    /// A write without an answer for so long fails as stalled, in ms.
    pub stall_limit_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            folder: PathBuf::from("heliograph-data/store"),
            sync_interval_ms: 1_000,
            cache_bytes: 128 << 20,
            memtable_bytes: 32 << 20,
            journal_bytes: 256 << 20,
            background_threads: 1,
            queue_bytes: 32 << 20,
            queue_writes: 4_096,
            stall_limit_ms: 30_000,
        }
    }
}

impl Config {
    /// The defaults, in `folder`.
    pub fn in_folder(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into(), ..Self::default() }
    }

    /// The first setting that cannot work, if there is one.
    pub fn fault(&self) -> Option<&'static str> {
        let checks = [
            (self.sync_interval_ms > 0, "sync_interval_ms must not be 0"),
            (self.memtable_bytes > 0, "memtable_bytes must not be 0"),
            (self.journal_bytes >= 64 << 20, "journal_bytes must be at least 64 MiB"),
            (self.background_threads > 0, "background_threads must not be 0"),
            (self.queue_bytes > 0 && self.queue_writes > 0, "queue_bytes and queue_writes must not be 0"),
            (self.stall_limit_ms > 0, "stall_limit_ms must not be 0"),
        ];
        checks.iter().find(|(holds, _)| !holds).map(|(_, reason)| *reason)
    }

    pub(crate) fn sync_interval(&self) -> Duration {
        Duration::from_millis(self.sync_interval_ms)
    }

    pub(crate) fn stall_limit(&self) -> Duration {
        Duration::from_millis(self.stall_limit_ms)
    }
}
