//! How far a user got in a chat. Readers merge by maximum, so order and repetition do no harm.

use crate::{Ordinal, Seq};

/// Highest seq delivered to and read by a user; `seen ≤ delivered`.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Watermark {
    /// Highest seq that reached a device of the user.
    pub delivered: Seq,
    /// Highest seq that the user has read.
    pub seen: Seq,
    /// How many messages the chat had up to `seen`: what unread counts are made of.
    pub seen_ordinal: Ordinal,
}

impl Watermark {
    /// The maximum of both in each part.
    #[must_use]
    pub fn merge(self, other: Self) -> Self {
        Self {
            delivered: self.delivered.max(other.delivered).max(self.seen).max(other.seen),
            seen: self.seen.max(other.seen),
            seen_ordinal: self.seen_ordinal.max(other.seen_ordinal),
        }
    }
}
