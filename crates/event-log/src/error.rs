//! What can go wrong with the log, by what the caller does about it.

use crate::streams::Stream;

/// Connecting, setting up streams, acquiring, reading one record, trimming.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration cannot hold.
    #[error("log configuration: {0}")]
    Config(String),
    /// The broker cannot be reached.
    #[error("cannot connect to the broker: {0}")]
    Connect(#[source] async_nats::ConnectError),
    /// The broker refused or did not answer in time.
    #[error("{what}: {detail}")]
    Broker {
        /// What was asked.
        what: String,
        /// The broker's words.
        detail: String,
    },
    /// The log was set up with another number of partitions, which is fixed for ever.
    #[error("the log has {stored} partitions, the configuration says {configured}")]
    Partitions {
        /// As at the first start.
        stored: u16,
        /// As configured now.
        configured: u16,
    },
    /// A stream exists with settings that the log cannot rest on.
    #[error("stream {stream} is set up differently: {what}")]
    Settings {
        /// Its name on the broker.
        stream: String,
        /// The setting.
        what: String,
    },
    /// A new epoch of the partition was begun and not ended.
    #[error("the new epoch of partition {partition} is not whole: run `heliograph epoch renew` again")]
    Renewing {
        /// Which.
        partition: u16,
    },
    /// The tenure's connection is gone; acquire again (M6).
    #[error("the tenure is lost")]
    Lost,
    /// Another worker took the partition first.
    #[error("the partition was taken by another worker")]
    Taken,
    /// A later run of this worker is there.
    #[error("another process runs as the same worker")]
    Superseded,
}

impl Error {
    /// Whether it may be otherwise soon: acquire again.
    pub const fn is_passing(&self) -> bool {
        match self {
            Self::Lost | Self::Taken | Self::Broker { .. } | Self::Connect(_) => true,
            Self::Config(_)
            | Self::Partitions { .. }
            | Self::Settings { .. }
            | Self::Renewing { .. }
            | Self::Superseded => false,
        }
    }

    pub(crate) fn broker(what: impl Into<String>, detail: impl ToString) -> Self {
        Self::Broker { what: what.into(), detail: detail.to_string() }
    }
}

/// A publish that is not fenced.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// The stream is full; nothing was stored. Goes on by itself after trimming.
    #[error("the stream is full")]
    Full,
    /// No acknowledgement in time: it may be stored.
    #[error("not acknowledged in time: {last}")]
    Timeout {
        /// What the last attempt met.
        last: String,
    },
    /// The payload is above [`RECORD_BYTES_MAX`](crate::RECORD_BYTES_MAX); nothing was sent.
    #[error("a record of {bytes} bytes is too large")]
    TooLarge {
        /// Of the payload.
        bytes: usize,
    },
    /// The tenure's connection is gone: it may be stored.
    #[error("the tenure is lost")]
    Lost,
}

/// A publish fenced by the stream's last sequence (M3).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FencedError {
    /// The stream's last sequence is another one: read the tail. An earlier attempt of ours may have landed.
    #[error("refused, the stream's last sequence is {last:?}")]
    Refused {
        /// The last sequence, where the broker names it.
        last: Option<u64>,
    },
    /// No answer: publish the same bytes with the same expectation again.
    #[error("in doubt: {last}")]
    InDoubt {
        /// What the last attempt met.
        last: String,
    },
    /// The stream is full; nothing was stored. Goes on by itself after trimming.
    #[error("the stream is full")]
    Full,
    /// The tenure's connection is gone: step down with all state.
    #[error("the tenure is lost")]
    Lost,
    /// The payload is above [`RECORD_BYTES_MAX`](crate::RECORD_BYTES_MAX); nothing was sent.
    #[error("a record of {bytes} bytes is too large")]
    TooLarge {
        /// Of the payload.
        bytes: usize,
    },
}

/// Why a reader ends.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// Records between the checkpoint and what the stream holds are gone.
    #[error("{stream}: record {expected} is gone, the next one is {found}")]
    Gap {
        /// Which stream.
        stream: Stream,
        /// The next record that was due.
        expected: u64,
        /// The first one from there that is left.
        found: u64,
    },
    /// The checkpoint is above what the stream holds: the stream lost its tail.
    #[error("{stream}: record {expected} is due, but the stream ends at {last}")]
    LostTail {
        /// Which stream.
        stream: Stream,
        /// The next record that was due.
        expected: u64,
        /// The stream's last sequence.
        last: u64,
    },
    /// The tenure's connection is gone: acquire again.
    #[error("the tenure is lost")]
    Lost,
    /// The broker did not let the reader go on for too long.
    #[error("cannot read on: {0}")]
    Broker(String),
}

/// A core message that was not sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// There is no connection now; nothing is kept for later.
    #[error("not connected to the broker")]
    Disconnected,
    /// The payload is above [`MESSAGE_BYTES_MAX`](crate::MESSAGE_BYTES_MAX).
    #[error("a message of {bytes} bytes is too large")]
    TooLarge {
        /// Of the payload.
        bytes: usize,
    },
}
