//! Judges what a client's user is shown: each entry that membership shows, in order, once.

use std::collections::{BTreeMap, BTreeSet};

use super::Court;
use crate::{Chat, Invariant, Line, User, truth::ChatTruth};

/// What one client showed of all chats.
#[derive(Debug, Default)]
pub(super) struct Screen {
    chats: BTreeMap<Chat, Shown>,
    epochs: BTreeMap<u16, Epoch>,
}

#[derive(Debug, Default)]
struct Epoch {
    known: Option<u64>,
    /// How often a later one took its place.
    changes: u64,
}

#[derive(Debug, Default)]
struct Shown {
    /// The last one shown.
    through: u64,
    /// Nothing is due above `through` up to here.
    looked: u64,
    /// Passed over without being shown.
    skipped: BTreeSet<u64>,
    /// Changes of the epoch that were taken in.
    changes: u64,
    /// The epoch changed since the timeline began: what was shown may be replaced.
    may_replace: bool,
    /// It changed since the last replacement: the next one may go back.
    may_go_back: bool,
}

impl Screen {
    pub(super) fn chats(&self) -> impl Iterator<Item = Chat> + '_ {
        self.chats.keys().copied()
    }

    /// A frame of the partition names its epoch; whether that takes the place of an earlier one.
    pub(super) fn epoch(&mut self, partition: u16, epoch: u64) -> bool {
        let Epoch { known, changes } = self.epochs.entry(partition).or_default();
        let changed = known.is_some_and(|known| known < epoch);
        *changes += u64::from(changed);
        *known = (*known).max(Some(epoch));
        changed
    }

    /// N4: the client goes on above `through`, by its account having shown what is older.
    pub(super) fn resumed(
        &mut self,
        court: &mut Court<'_>,
        line: &Line,
        user: User,
        (chat, through, epoch): (Chat, u64, u64),
        again: bool,
    ) {
        let of_partition = self.epochs.entry(chat.partition()).or_default();
        of_partition.known = (epoch > 0).then_some(epoch);
        let changes = of_partition.changes;
        let shown = self.chats.entry(chat).or_default();
        if again
            && let Some(log) = court.truth.get(&chat).filter(|log| log.whole)
            && let Some(due) = shown.due(log, user, through)
        {
            let what = || format!("seq {due} of chat {chat} was not shown before the client went on above {through}");
            court.report.fault(Invariant::N4, what, [line]);
        }
        *shown = Shown { through, looked: through, changes, ..Shown::default() };
    }

    /// N2, N3, N4, N5, N7: an entry is shown that is due.
    pub(super) fn shown(
        &mut self,
        court: &mut Court<'_>,
        line: &Line,
        user: User,
        (chat, seq, replaces): (Chat, u64, bool),
    ) {
        if !court.has_truth(line, chat) {
            return;
        }
        let Court { truth, report, options, .. } = court;
        let log = &truth[&chat];
        if log.at(seq).is_none() {
            let what = || format!("seq {seq} of chat {chat} was shown, yet is in no final history");
            report.fault(Invariant::N5, what, [line]);
            return;
        }
        let allowed = log.shows(user, seq) || (options.earlier_history && seq <= log.last_shown(user));
        if log.whole && !allowed {
            let what = || format!("{user} is shown seq {seq} of chat {chat} without being a member");
            report.fault(Invariant::N7, what, [line]);
        }
        let shown = self.chats.entry(chat).or_default();
        let changes = self.epochs.get(&chat.partition()).map_or(0, |epoch| epoch.changes);
        if shown.changes != changes {
            (shown.changes, shown.may_replace, shown.may_go_back) = (changes, true, true);
        }
        if replaces && !shown.may_replace {
            let what = || format!("seq {seq} of chat {chat} is replaced within one epoch");
            report.fault(Invariant::N3, what, [line]);
        }
        let last = shown.through;
        if seq > last {
            if log.whole
                && let Some(due) = shown.due(log, user, seq - 1)
            {
                let what = || format!("seq {seq} of chat {chat} is shown after seq {last}, without seq {due}");
                report.fault(Invariant::N4, what, [line]);
                shown.skipped.extend(due..seq);
            }
            shown.move_to(seq);
        } else if replaces && shown.may_go_back {
            shown.may_go_back = false;
            shown.move_to(seq);
        } else if shown.skipped.remove(&seq) {
            report.fault(Invariant::N3, || format!("seq {seq} of chat {chat} is shown after seq {last}"), [line]);
        } else {
            let what = || format!("seq {seq} of chat {chat} is shown again, after seq {last}");
            report.fault(Invariant::N2, what, [line]);
        }
    }

    /// The first seq at or below `last` that the user should have been shown and was not.
    pub(super) fn due(&mut self, log: &ChatTruth<'_>, user: User, chat: Chat, last: u64) -> Option<u64> {
        self.chats.entry(chat).or_default().due(log, user, last)
    }
}

impl Shown {
    fn move_to(&mut self, seq: u64) {
        (self.through, self.looked) = (seq, seq);
    }

    fn due(&mut self, log: &ChatTruth<'_>, user: User, last: u64) -> Option<u64> {
        // Each seq is passed once in the life of a timeline.
        while self.looked < last.min(log.head()) {
            if log.shows(user, self.looked + 1) {
                return Some(self.looked + 1);
            }
            self.looked += 1;
        }
        None
    }
}
