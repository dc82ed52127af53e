//! Settings of delivery; every size is a bound.

use domain::Rules;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::machine::Settings;

/// Settings of delivery; every size is a bound.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Members, recent senders and watermarks of busy chats kept in memory, in bytes, for each partition.
    pub hot_bytes_max: usize,
    /// Users of one partition whose watermark waits to be stored; beyond it clients assert again.
    pub statuses_max: usize,
    /// Receipts of one partition that wait for a read of the store; beyond it clients assert again.
    pub receipts_max: usize,
    /// What one partition may have waiting for the broker, in bytes; beyond it gateways resync.
    pub outgoing_bytes_max: usize,
    /// What one partition may have waiting for the broker, by count; beyond it gateways resync.
    pub outgoing_messages_max: usize,
    /// Reads of the store that one partition makes at a time.
    pub loads_max: usize,
    /// How long an event waits for the row before it, in ms, until its read is tried again.
    pub row_wait_ms: u64,
    /// How long gateways may take to announce at the start before events are pushed, in ms.
    pub settle_ms: u64,
    /// How long a partition rests between two records of statuses, in ms, so that one carries what came meanwhile.
    ///
    /// For each status of the first record 4 ms more, up to a second in all: so a large group whose members all read comes to
    /// few. Statuses stand beside a message's path, and ticks do not wait for them.
    pub statuses_rest_ms: u64,
    /// Switches for tests that show what each is needed for; all on, and no file can say otherwise.
    #[serde(skip)]
    pub rules: Rules,
}

impl Default for Config {
    fn default() -> Self {
        let settings = Settings::default();
        Self {
            hot_bytes_max: settings.hot_bytes_max,
            statuses_max: settings.statuses_max,
            receipts_max: settings.receipts_max,
            outgoing_bytes_max: 16 << 20,
            outgoing_messages_max: 8_192,
            loads_max: 64,
            row_wait_ms: 2_000,
            settle_ms: 250,
            statuses_rest_ms: 20,
            rules: Rules::ALL,
        }
    }
}

impl Config {
    /// The first setting that cannot work, if there is one.
    pub fn fault(&self) -> Option<&'static str> {
        let checks = [
            (self.loads_max > 0, "loads_max must not be 0"),
            (
                self.outgoing_bytes_max > 0 && self.outgoing_messages_max > 0,
                "outgoing_bytes_max and outgoing_messages_max must not be 0",
            ),
        ];
        checks.iter().find(|(holds, _)| !holds).map(|(_, reason)| *reason)
    }

    pub(crate) fn settings(&self) -> Settings {
        Settings { hot_bytes_max: self.hot_bytes_max, statuses_max: self.statuses_max, receipts_max: self.receipts_max }
    }
}
