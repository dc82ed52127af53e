//! What ends a tenure, or stops a partition.

use domain::Seq;

use crate::machine::Halt;

/// Why a tenure of a partition ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The log refused or is gone.
    #[error("log: {0}")]
    Log(#[from] event_log::Error),
    /// A stream cannot be read on.
    #[error("log: {0}")]
    Read(#[from] event_log::ReadError),
    /// The store failed.
    #[error("store: {0}")]
    Store(#[from] store::Error),
    /// Takeover found what must not be.
    #[error("{0}; `heliograph epoch renew` opens a new epoch")]
    Halt(#[from] Halt),
    /// An event record that cannot be read: nothing behind it may be decided.
    #[error("event record {sequence} cannot be read: {reason}")]
    Record {
        /// Sequence in EVENTS-p.
        sequence: Seq,
        /// What is wrong with it.
        reason: String,
    },
    /// A record that a newer version wrote.
    #[error("command record {sequence} has schema {schema}, newer than this version")]
    Schema {
        /// Sequence in COMMANDS-p.
        sequence: Seq,
        /// Its schema.
        schema: u32,
    },
    /// The broker's connection ended, or another owner took over.
    #[error("the tenure is lost")]
    TenureLost,
}

impl Error {
    /// Whether taking over anew may help; else the partition stops until a person has looked.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            Self::Log(error) => error.is_passing(),
            Self::Read(error) => match error {
                event_log::ReadError::Lost | event_log::ReadError::Broker(_) | event_log::ReadError::Gap { .. } => true,
                event_log::ReadError::LostTail { .. } => false,
            },
            Self::Store(error) => error.is_retryable(),
            Self::TenureLost => true,
            Self::Halt(_) | Self::Record { .. } | Self::Schema { .. } => false,
        }
    }
}
