//! A page of history while it is read: what both engines let onto it, and how far it is whole.

use bytes::Bytes;
use domain::{ChatId, LoggedEntry, Seq};

use crate::{Error, HISTORY_BYTES_MAX, HISTORY_ROWS_MAX, HistoryPage, join};

/// Rows in the order of their seqs, from the one that the caller knows on, as far as the run is unbroken (M22).
#[derive(Debug)]
pub(crate) struct Page {
    chat: ChatId,
    first_seq: Seq,
    after: Seq,
    limit_entries: usize,
    limit_bytes: usize,
    expected: Seq,
    through: Seq,
    rows: Vec<LoggedEntry>,
    bytes: usize,
}

impl Page {
    /// Of a chat whose lowest kept seq is `first_seq`.
    pub(crate) fn new(chat: ChatId, first_seq: Seq, after: Seq, limit_entries: usize, limit_bytes: usize) -> Self {
        // What lies below the first kept row counts as known.
        let after = after.max(first_seq - 1);
        Self {
            chat,
            first_seq,
            after,
            limit_entries: limit_entries.clamp(1, HISTORY_ROWS_MAX),
            limit_bytes: limit_bytes.min(HISTORY_BYTES_MAX),
            // The row `after` itself, when that is one: it proves that what the caller knows is stored.
            expected: after.max(first_seq),
            through: first_seq - 1,
            rows: Vec::new(),
            bytes: 0,
        }
    }

    /// The seq of the row that is due.
    pub(crate) const fn expected(&self) -> Seq {
        self.expected
    }

    /// How far it is whole.
    pub(crate) const fn through(&self) -> Seq {
        self.through
    }

    /// Takes the next stored row, which `copy` makes the caller's own; whether the page goes on behind it.
    pub(crate) fn take(&mut self, seq: Seq, bytes: usize, copy: impl FnOnce() -> Bytes) -> Result<bool, Error> {
        if seq != self.expected {
            // A hole: what lies above it is not told, else the answer would look whole (M22).
            return Ok(false);
        }
        if seq > self.after {
            if !self.rows.is_empty() && self.bytes + bytes > self.limit_bytes {
                return Ok(false);
            }
            self.bytes += bytes;
            self.rows.push(join::logged(self.chat, seq, copy())?);
        }
        self.through = seq;
        let Some(next) = seq.checked_add(1) else { return Ok(false) };
        self.expected = next;
        Ok(self.rows.len() < self.limit_entries)
    }

    /// Whether the caller is ahead of what is stored: it is told how far that is whole, never more (M22).
    pub(crate) const fn is_below_after(&self) -> bool {
        self.through < self.after
    }

    /// The answer; of a caller that is ahead, `below` is the highest row that is stored.
    pub(crate) fn whole(self, below: Option<Seq>) -> HistoryPage {
        HistoryPage { rows: self.rows, through: below.unwrap_or(self.through), first_seq: self.first_seq }
    }
}
