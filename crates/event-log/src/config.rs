//! How the log is reached and how its streams are set up.

use std::fmt;
use std::time::Duration;

use domain::PARTITIONS_MAX;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Error, MESSAGE_BYTES_MAX};

/// What the log's durability rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// A single broker that syncs each write before it acknowledges (`sync_interval: always`).
    #[default]
    Synced,
    /// A single broker that syncs now and then: a power cut may cost the last writes (M7).
    Lazy,
    /// Three replicas of each stream in a cluster.
    Replicated,
}

/// What signs in at the broker.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BrokerLogin {
    /// The broker's user.
    pub user: String,
    /// Its password.
    #[schemars(extend("writeOnly" = true))]
    pub password: String,
}

impl fmt::Debug for BrokerLogin {
    // Without what no log may have: the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BrokerLogin").field("user", &self.user).finish_non_exhaustive()
    }
}

/// How the log is reached and how its streams are set up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// Addresses of the broker, `nats://HOST:PORT`.
    pub servers: Vec<String>,
    /// Who signs in there; none: it lets anybody in.
    pub login: Option<BrokerLogin>,
    /// The process's name among those that share the partitions, each with another; none: it is the only one.
    pub worker: Option<String>,
    /// How many partitions the log has; fixed at the first start.
    pub partitions: u16,
    /// What the log's durability rests on: `synced`, `lazy` or `replicated`.
    pub durability: Durability,
    /// Stands before all names on the broker, so that several deployments may share one. Empty: none.
    pub prefix: String,
    /// Most bytes of one partition's commands; at the bound clients are told to come back later.
    pub commands_bytes_max: u64,
    /// Most bytes of one partition's events.
    pub events_bytes_max: u64,
    /// Most bytes of one partition's statuses; the oldest go first.
    pub statuses_bytes_max: u64,
    /// How long statuses stay, in seconds.
    pub statuses_age_max_s: u64,
    /// Most bytes of what every gateway must learn; at the bound nothing can be revoked until the oldest have gone.
    pub control_bytes_max: u64,
    /// How long it stays, in seconds: longer than any token is valid.
    pub control_age_max_s: u64,
    /// How many bytes of commands and of events trimming leaves behind in each partition.
    pub window_bytes: u64,
    /// How long a publish of commands is tried before it counts as failed, in milliseconds.
    pub publish_deadline_ms: u64,
    /// How long one attempt of a publish waits for its acknowledgement, in milliseconds.
    pub attempt_deadline_ms: u64,
    /// Most core messages that wait in one subscription; what comes beyond is dropped and its reader told.
    pub subscription_messages_max: usize,
    /// Most bytes of core messages that wait in one subscription for having been sent within the process.
    pub subscription_bytes_max: usize,
    /// Whether command records go to an owner in this process directly, and into COMMANDS only where there is none.
    pub hand_over_commands: bool,
    /// Most event records of one partition that are kept for this process's own readers; 0: they ask the broker.
    pub tap_records_max: usize,
    /// Most bytes of them.
    pub tap_bytes_max: usize,
}

/// What stands in a key of the broker as it is.
fn is_worker_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            servers: vec!["nats://127.0.0.1:4222".to_owned()],
            login: None,
            worker: None,
            partitions: 8,
            durability: Durability::default(),
            prefix: String::new(),
            commands_bytes_max: 512 << 20,
            events_bytes_max: 512 << 20,
            statuses_bytes_max: 64 << 20,
            statuses_age_max_s: 60 * 60,
            control_bytes_max: 64 << 20,
            control_age_max_s: 31 * 24 * 60 * 60,
            window_bytes: 64 << 20,
            publish_deadline_ms: 10_000,
            attempt_deadline_ms: 2_000,
            subscription_messages_max: 8_192,
            subscription_bytes_max: 32 << 20,
            hand_over_commands: true,
            tap_records_max: 1_024,
            tap_bytes_max: 4 << 20,
        }
    }
}

impl LogConfig {
    /// Says what is wrong, before anything is connected.
    pub fn check(&self) -> Result<(), Error> {
        let wrong = |text: &str| Err(Error::Config(text.to_owned()));
        if self.servers.is_empty() {
            return wrong("`servers` is empty");
        }
        if self.partitions == 0 || self.partitions > PARTITIONS_MAX {
            return wrong("`partitions` must be 1 to 4096");
        }
        if !self.prefix.bytes().all(|byte| byte.is_ascii_alphanumeric()) || self.prefix.len() > 32 {
            return wrong("`prefix` takes up to 32 letters and digits");
        }
        if let Some(worker) = &self.worker
            && !is_worker_name(worker)
        {
            return wrong("`worker` takes 1 to 64 letters, digits, `-` and `_`");
        }
        // A window above what the stream holds would stop trimming for good, and with it the stream.
        if self.window_bytes > self.commands_bytes_max.min(self.events_bytes_max) / 2 {
            return wrong("`window_bytes` must be at most half of `commands_bytes_max` and of `events_bytes_max`");
        }
        // Repeats are recognised for two minutes; a later one would be stored twice.
        if self.publish_deadline_ms == 0 || self.publish_deadline_ms > 60_000 {
            return wrong("`publish_deadline_ms` must be 1 to 60000");
        }
        if self.attempt_deadline_ms == 0 || self.subscription_messages_max == 0 {
            return wrong("`attempt_deadline_ms` and `subscription_messages_max` must be above 0");
        }
        if self.subscription_bytes_max < MESSAGE_BYTES_MAX {
            return wrong("`subscription_bytes_max` must hold a message of 524288 bytes");
        }
        if self.statuses_age_max_s < 120 {
            return wrong("`statuses_age_max_s` must be at least 120");
        }
        Ok(())
    }

    pub(crate) fn replicas(&self) -> usize {
        match self.durability {
            Durability::Synced | Durability::Lazy => 1,
            Durability::Replicated => 3,
        }
    }

    pub(crate) fn publish_deadline(&self) -> Duration {
        Duration::from_millis(self.publish_deadline_ms)
    }

    pub(crate) fn attempt_deadline(&self) -> Duration {
        Duration::from_millis(self.attempt_deadline_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_valid() {
        LogConfig::default().check().unwrap();
    }

    #[test]
    fn each_bad_value_is_refused() {
        type Spoil = fn(&mut LogConfig);
        let spoils: [Spoil; 9] = [
            |config| config.servers.clear(),
            |config| config.partitions = 0,
            |config| config.partitions = 4097,
            |config| config.prefix = "a.b".to_owned(),
            |config| config.window_bytes = config.events_bytes_max,
            |config| config.publish_deadline_ms = 600_000,
            |config| config.attempt_deadline_ms = 0,
            |config| config.subscription_bytes_max = 0,
            |config| config.statuses_age_max_s = 1,
        ];
        for (number, spoil) in spoils.into_iter().enumerate() {
            let mut config = LogConfig::default();
            spoil(&mut config);
            assert!(matches!(config.check(), Err(Error::Config(_))), "spoil {number}");
        }
    }

    #[test]
    fn unknown_keys_are_refused() {
        assert!(serde_json::from_str::<LogConfig>(r#"{"partitions": 4}"#).is_ok());
        assert!(serde_json::from_str::<LogConfig>(r#"{"partition": 4}"#).is_err());
    }
}
