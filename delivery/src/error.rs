//! What stops delivery, or one partition of it.

use domain::Seq;

/// Why delivery of a partition ends, or a record cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The log refused or is gone.
    #[error("log: {0}")]
    Log(#[from] event_log::Error),
    /// The event stream cannot be read on.
    #[error("log: {0}")]
    Read(#[from] event_log::ReadError),
    /// The store failed.
    #[error("store: {0}")]
    Store(#[from] store::Error),
    /// A record of events that is none.
    #[error("event record {sequence} is undecodable")]
    Record {
        /// Sequence in EVENTS-p.
        sequence: Seq,
        /// Why.
        #[source]
        source: prost::DecodeError,
    },
    /// A record that a newer version wrote.
    #[error("event record {sequence} has schema {schema}, newer than this version")]
    Schema {
        /// Sequence in EVENTS-p.
        sequence: Seq,
        /// Its schema.
        schema: u32,
    },
    /// An entry in a record that cannot be read.
    #[error("an entry of event record {sequence} cannot be read")]
    Entry {
        /// Sequence in EVENTS-p.
        sequence: Seq,
        /// Why.
        #[source]
        source: domain::Error,
    },
    /// A record of another epoch than the streams'.
    #[error("event record {sequence} is of another epoch")]
    Epoch {
        /// Sequence in EVENTS-p.
        sequence: Seq,
    },
    /// The announcements of the gateways cannot be followed any longer.
    #[error("the mirror of sessions stopped")]
    MirrorStopped,
}

impl Error {
    /// Whether acquiring the partition anew may help.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            Self::Log(error) => error.is_passing(),
            Self::Read(error) => match error {
                // After a gap the next tenure starts at what is left: its new id makes every gateway resync (M15).
                event_log::ReadError::Lost | event_log::ReadError::Broker(_) | event_log::ReadError::Gap { .. } => true,
                event_log::ReadError::LostTail { .. } => false,
            },
            Self::Store(error) => error.is_retryable(),
            Self::Record { .. }
            | Self::Schema { .. }
            | Self::Entry { .. }
            | Self::Epoch { .. }
            | Self::MirrorStopped => false,
        }
    }
}
