//! What stops the projections of a partition.

use domain::{ChatId, Seq};

/// Why the projections of a partition end.
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
    /// A record of events that cannot be folded.
    #[error("fold: {0}")]
    Fold(#[from] FoldError),
    /// Events above the checkpoint are trimmed: the models can only be built anew from the chat log.
    #[error("events from {expected} on are trimmed up to {found}, the models need a rebuild")]
    NeedsRebuild {
        /// The event that is due.
        expected: Seq,
        /// The first one that is left.
        found: Seq,
    },
}

impl Error {
    /// Whether only a rebuild helps.
    pub fn needs_rebuild(&self) -> bool {
        matches!(self, Self::NeedsRebuild { .. } | Self::Fold(FoldError::Hole { .. }))
    }

    /// Whether acquiring the partition anew may help.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            Self::Log(error) => error.is_passing(),
            Self::Read(error) => matches!(error, event_log::ReadError::Lost | event_log::ReadError::Broker(_)),
            Self::Store(error) => error.is_retryable(),
            Self::Fold(_) | Self::NeedsRebuild { .. } => false,
        }
    }
}

/// Records that do not fold on from where the models stand.
#[derive(Debug, thiserror::Error)]
pub enum FoldError {
    /// A record that is none.
    #[error("event record {sequence} is undecodable")]
    Record {
        /// Sequence in EVENTS-p.
        sequence: Seq,
        /// Why.
        #[source]
        source: prost::DecodeError,
    },
    /// A record that a newer version wrote.
    #[error("record {sequence} has schema {schema}, newer than this version")]
    Schema {
        /// Sequence in its stream.
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
    /// A record that does not follow the last one.
    #[error("event record {found} came where {expected} was due")]
    OutOfOrder {
        /// Due in EVENTS-p.
        expected: Seq,
        /// What came.
        found: Seq,
    },
    /// An entry whose predecessors the model has never seen.
    #[error("chat {chat} goes on from {head} with {seq}, the models need a rebuild")]
    Hole {
        /// The chat.
        chat: ChatId,
        /// Where the model stands.
        head: Seq,
        /// What came.
        seq: Seq,
    },
}
