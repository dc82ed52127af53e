//! What can go wrong in the store.

use std::{path::PathBuf, sync::Arc, time::Duration};

use domain::{ChatId, Seq};

use crate::cql::SchemaError;

/// Why a cluster did not do what it was asked, in the words of its driver.
pub type Cause = Arc<dyn std::error::Error + Send + Sync>;

/// A refused or failed operation.
///
/// Cheap to clone: one failed commit answers every write that was in it.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// Another process, or another handle of this one, has the folder open.
    #[error("the store in {} is already open; one process at a time may use it", folder.display())]
    Locked {
        /// The store's folder.
        folder: PathBuf,
    },
    /// The folder was written by a newer or unknown version.
    #[error("the store in {} has format {found}; this version reads format {expected}", folder.display())]
    Format {
        /// The store's folder.
        folder: PathBuf,
        /// What stands in it.
        found: String,
        /// What this version writes.
        expected: u8,
    },
    /// The engine failed. After a failed write it takes no further ones until it is opened again.
    #[error("the storage engine failed")]
    Engine(#[source] Arc<fjall::Error>),
    /// The cluster cannot be reached, or too few of its nodes answer. Of a write, whether it landed is open.
    #[error("the store's cluster does not answer")]
    Unavailable(#[source] Cause),
    /// The cluster refuses a statement: no right to it, or another schema than this version's.
    #[error("the store's cluster refuses a statement")]
    Refused(#[source] Cause),
    /// Others keep changing a row between this one's look and write.
    #[error("too many write to one row of {table} at the same time")]
    Contended {
        /// The table.
        table: &'static str,
    },
    /// The keyspace does not have the tables of this version.
    #[error(transparent)]
    Schema(#[from] SchemaError),
    /// The operating system refused something that the store needs.
    #[error("cannot {what}")]
    System {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        #[source]
        source: Arc<std::io::Error>,
    },
    /// A stored row cannot be read.
    #[error("a row of {table} cannot be read: {reason}")]
    Corrupt {
        /// The table.
        table: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// An entry or a snapshot cannot be read.
    #[error("an entry of chat {chat} cannot be read")]
    Entry {
        /// The chat.
        chat: ChatId,
        /// Why.
        #[source]
        source: Arc<domain::Error>,
    },
    /// A row with this seq is stored and says something else. Nothing of the write was stored (M8).
    #[error("chat {chat} already has another entry with seq {seq}")]
    Conflict {
        /// The chat.
        chat: ChatId,
        /// The seq that is taken.
        seq: Seq,
    },
    /// A write names a row of another chat or partition than its own.
    #[error("a write for one chat or partition carries a row of another, {chat}")]
    Misplaced {
        /// The chat of the row.
        chat: ChatId,
    },
    /// A text or a list of an account's row is longer than its bound, or empty where it may not be.
    #[error("{what} has a length of {length}; from {min} to {max} are allowed")]
    Length {
        /// What it is.
        what: &'static str,
        /// Bytes of the text, or rows of the list.
        length: usize,
        /// The least that is allowed.
        min: usize,
        /// The most that is allowed.
        max: usize,
    },
    /// A user has as many of these as one may have.
    #[error("the user has {max} {what} already")]
    Full {
        /// What there are too many of.
        what: &'static str,
        /// How many one may have.
        max: usize,
    },
    /// The row that was waited for did not come in time. Asking again later is fine.
    #[error("chat {chat} is not stored through seq {at_least} yet")]
    NotYet {
        /// The chat.
        chat: ChatId,
        /// What was asked for.
        at_least: Seq,
    },
    /// Too many readers wait for rows.
    #[error("too many readers wait for rows that are not stored yet")]
    Busy,
    /// The writer gave no answer in time: the disk or the engine stands still. Whether the write landed is open.
    #[error("the store's writer gave no answer in {waited:?}")]
    Stalled {
        /// How long it was given.
        waited: Duration,
    },
    /// The writer has ended.
    #[error("the store is closed")]
    Closed,
}

impl Error {
    /// Whether asking again later may help without any repair.
    ///
    /// After [`Error::Stalled`] a write may have landed; those of the fold may be repeated, since rows only move forward.
    pub fn is_retryable(&self) -> bool {
        matches!(
            self,
            Self::NotYet { .. } | Self::Busy | Self::Stalled { .. } | Self::Unavailable(_) | Self::Contended { .. }
        )
    }

    /// Whether the store takes nothing more until it is opened again: the process had better end.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Engine(_) | Self::Closed)
    }

    pub(crate) fn engine(error: fjall::Error) -> Self {
        Self::Engine(Arc::new(error))
    }

    pub(crate) fn corrupt(table: &'static str, reason: impl Into<String>) -> Self {
        Self::Corrupt { table, reason: reason.into() }
    }
}
