//! What is appended, and what the owner's records say of it: `appended_through` of each.
//!
//! A reader of EVENTS-p learns from it by when an entry was stored. The next record says it; where none comes, one of
//! its own does, once. That one is not followed by another that says that it was appended too.

use domain::Seq;

/// Ticks in which nothing was under way before a record of its own says it: a second at the usual 200 ms.
const QUIET_TICKS: u32 = 5;

#[derive(Debug)]
pub(super) struct Appended {
    /// All records through this one are appended.
    through: Seq,
    /// The last of them that was appended in this tenure and has entries: less need not be said.
    entries: Seq,
    /// What the newest record says.
    said: Seq,
    quiet: u32,
}

impl Appended {
    pub(super) const fn new(through: Seq) -> Self {
        Self { through, entries: 0, said: 0, quiet: 0 }
    }

    /// What the record says that is made now.
    pub(super) fn say(&mut self) -> Seq {
        self.quiet = 0;
        self.said = self.through;
        self.said
    }

    pub(super) fn through(&mut self, sequence: Seq, has_entries: bool) {
        self.through = sequence;
        if has_entries {
            self.entries = sequence;
        }
    }

    /// After a tick in which nothing was under way: whether a record of its own has to say it now.
    pub(super) fn is_unsaid_for_long(&mut self) -> bool {
        if self.said >= self.entries {
            return false;
        }
        self.quiet += 1;
        self.quiet >= QUIET_TICKS
    }
}
