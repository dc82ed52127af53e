//! What one client holds of one chat: an unbroken run and what lies above its first hole.

use std::collections::BTreeSet;

use crate::{User, truth::ChatTruth};

#[derive(Debug, Default)]
pub(crate) struct Run {
    /// Nothing that the user may see is missing at or below.
    through: u64,
    above: BTreeSet<u64>,
    highest: u64,
}

impl Run {
    /// The client's timeline begins above this seq, whatever an earlier one held.
    pub(crate) fn begin(&mut self, through: u64) {
        *self = Self { through, above: BTreeSet::new(), highest: through };
    }

    /// M7: another epoch begins, whose log may end below what came before.
    pub(crate) fn epoch_began(&mut self) {
        self.highest = 0;
    }

    pub(crate) fn got(&mut self, seq: u64) {
        self.highest = self.highest.max(seq);
        if seq > self.through {
            self.above.insert(seq);
        }
    }

    /// Whether this one came, or is older than the timeline.
    pub(crate) fn holds(&self, seq: u64) -> bool {
        seq <= self.through || self.above.contains(&seq)
    }

    /// The highest seq that came in this epoch, whatever is missing below it.
    pub(crate) const fn highest(&self) -> u64 {
        self.highest
    }

    /// The first seq at or below `last` that the user may see and the client does not hold.
    pub(crate) fn missing(&mut self, truth: &ChatTruth<'_>, user: User, last: u64) -> Option<u64> {
        // What membership hides counts as held. Each seq is passed once in the life of a run.
        while self.through < last.min(truth.head()) {
            let next = self.through + 1;
            if !self.above.remove(&next) && truth.shows(user, next) {
                return Some(next);
            }
            self.through = next;
        }
        None
    }
}
