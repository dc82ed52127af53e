//! Settings of ingest; every size is a bound.

use domain::Rules;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::machine::Settings;

/// Settings of ingest; every size is a bound.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Chats in memory, in bytes, for each partition.
    pub chats_bytes_max: usize,
    /// Commands of one partition that were read and wait.
    pub waiting_max: usize,
    /// The same in bytes of their records.
    pub waiting_bytes_max: usize,
    /// Commands of one published batch.
    pub batch_max: usize,
    /// Batches of one partition that are published and not yet appended; beyond it nothing is decided.
    pub unappended_max: usize,
    /// Entries from one snapshot of a chat to the next.
    pub snapshot_entries: u64,
    /// How often what failed is tried again, in ms.
    pub tick_ms: u64,
    /// How often what is stored is trimmed off the streams, in ms.
    pub trim_ms: u64,
    /// How long a partition waits on average after a lost tenure before it takes over again, in ms.
    pub takeover_again_ms: u64,
    /// Switches for tests that show what each is needed for; all on, and no file can say otherwise.
    #[serde(skip)]
    pub rules: Rules,
}

impl Default for Config {
    fn default() -> Self {
        let Settings { chats_bytes_max, waiting_max, waiting_bytes_max, batch_max, unappended_max, snapshot_entries } =
            Settings::default();
        Self {
            chats_bytes_max,
            waiting_max,
            waiting_bytes_max,
            batch_max,
            unappended_max,
            snapshot_entries,
            tick_ms: 200,
            trim_ms: 2_000,
            takeover_again_ms: 250,
            rules: Rules::ALL,
        }
    }
}

impl Config {
    /// The first setting that cannot work, if there is one.
    pub fn fault(&self) -> Option<&'static str> {
        let checks = [
            (self.tick_ms > 0 && self.trim_ms > 0, "tick_ms and trim_ms must not be 0"),
            (self.waiting_max > 0 && self.waiting_bytes_max > 0, "waiting_max and waiting_bytes_max must not be 0"),
            (self.batch_max > 0 && self.unappended_max > 0, "batch_max and unappended_max must not be 0"),
            (self.snapshot_entries > 0, "snapshot_entries must not be 0"),
        ];
        checks.iter().find(|(holds, _)| !holds).map(|(_, reason)| *reason)
    }

    pub(crate) const fn settings(&self) -> Settings {
        Settings {
            chats_bytes_max: self.chats_bytes_max,
            waiting_max: self.waiting_max,
            waiting_bytes_max: self.waiting_bytes_max,
            batch_max: self.batch_max,
            unappended_max: self.unappended_max,
            snapshot_entries: self.snapshot_entries,
        }
    }
}
