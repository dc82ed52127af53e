//! Turns the log configuration into the process's one subscriber, writing to standard error.

use std::io;

use serde::{Deserialize, Serialize};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::{Layer, SubscriberExt as _};
use tracing_subscriber::registry;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::Error;

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One line for people, coloured on a terminal.
    #[default]
    Text,
    /// One JSON object a line, fields at the top, for a collector.
    Json,
}

/// What is logged, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// Levels, as `level` or `target=level`, separated by commas.
    pub filter: String,
    /// `text` or `json`.
    pub format: LogFormat,
}

impl Default for LogConfig {
    fn default() -> Self {
        // The broker client reports each reconnect at info; the event-log crate says the same with its partition.
        Self { filter: "info,async_nats=warn".to_owned(), format: LogFormat::Text }
    }
}

impl LogConfig {
    /// Checks the filter without installing anything.
    pub fn check(&self) -> Result<(), Error> {
        self.parsed().map(|_| ())
    }

    fn parsed(&self) -> Result<EnvFilter, Error> {
        EnvFilter::builder()
            .parse(&self.filter)
            .map_err(|error| Error::Filter { filter: self.filter.clone(), reason: error.to_string() })
    }
}

/// Installs the process's subscriber; a second call is an error.
///
/// Lines go to standard error, so that standard output stays what a command answers.
pub fn init_logs(config: &LogConfig) -> Result<(), Error> {
    let filter = config.parsed()?;
    let lines = tracing_subscriber::fmt::layer().with_writer(io::stderr);
    let lines = match config.format {
        LogFormat::Text => lines.with_ansi(io::IsTerminal::is_terminal(&io::stderr())).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    #[expect(clippy::map_err_ignore, reason = "the library's error says only that a subscriber is there")]
    registry().with(filter).with(lines).try_init().map_err(|_| Error::LogsInstalled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_stand_for_what_a_file_leaves_out() {
        let config: LogConfig = toml::from_str("format = \"json\"").unwrap();
        assert_eq!(config, LogConfig { format: LogFormat::Json, ..LogConfig::default() });
        config.check().unwrap();
    }

    #[test]
    fn unknown_keys_are_refused() {
        let error = toml::from_str::<LogConfig>("colour = true").unwrap_err();
        assert!(error.to_string().contains("unknown field `colour`"), "{error}");
    }

    #[test]
    fn a_filter_that_does_not_parse_is_named() {
        let config = LogConfig { filter: "gateway=loudly".to_owned(), ..LogConfig::default() };
        assert!(config.check().unwrap_err().to_string().starts_with("log filter `gateway=loudly` does not parse"));
    }
}
