//! Each chat's log as its final histories agree on it, and who was a member when.

use std::collections::{BTreeMap, HashMap};

use crate::{Chat, Content, Hash, Line, Observation, SeenEntry, User};

/// One chat: what every other observation of it is held against.
#[derive(Debug, Default)]
pub(crate) struct ChatTruth<'a> {
    /// By seq; the index is seq − 1. A hole is `None`.
    entries: Vec<Option<Placed<'a>>>,
    /// No hole, and it begins with its creation: membership can be told.
    pub(crate) whole: bool,
    /// Per user: from which seq, and through which one when it ended. Inclusive, ascending.
    intervals: HashMap<User, Vec<(u64, Option<u64>)>>,
    /// What stands below was imported: read, but never pushed to anybody.
    imported_to: u64,
}

/// An entry and the final history that shows it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Placed<'a> {
    pub(crate) entry: &'a SeenEntry,
    pub(crate) line: &'a Line,
}

/// All chats that have a final history.
pub(crate) type Truth<'a> = BTreeMap<Chat, ChatTruth<'a>>;

/// Puts the final histories together; the first reader's entry stands where they differ.
pub(crate) fn gather(history: &[Line]) -> Truth<'_> {
    let mut truth = Truth::new();
    for line in history {
        let Observation::FinalHistory { chat, entries, .. } = &line.saw else { continue };
        let of_chat: &mut ChatTruth<'_> = truth.entry(*chat).or_default();
        // A seq above this belongs to no honest log of these many entries; it must not cost memory.
        let highest = (of_chat.entries.len() + entries.len()) as u64 * 16 + (1 << 16);
        for entry in entries.iter().filter(|entry| entry.chat == *chat && (1..=highest).contains(&entry.seq)) {
            let place = entry.seq as usize - 1;
            if of_chat.entries.len() <= place {
                of_chat.entries.resize(place + 1, None);
            }
            of_chat.entries[place].get_or_insert(Placed { entry, line });
        }
    }
    for of_chat in truth.values_mut() {
        of_chat.fold_members();
    }
    truth
}

impl<'a> ChatTruth<'a> {
    pub(crate) fn head(&self) -> u64 {
        self.entries.len() as u64
    }

    pub(crate) fn at(&self, seq: u64) -> Option<Placed<'a>> {
        let place = usize::try_from(seq.checked_sub(1)?).ok()?;
        self.entries.get(place).copied().flatten()
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = Placed<'a>> + '_ {
        self.entries.iter().copied().flatten()
    }

    /// The first seqs that no final history shows, as ranges.
    pub(crate) fn holes(&self) -> Vec<(u64, u64)> {
        let mut holes: Vec<(u64, u64)> = Vec::new();
        for (seq, entry) in (1..).zip(&self.entries) {
            if entry.is_some() {
                continue;
            }
            match holes.last_mut() {
                Some((_, last)) if *last + 1 == seq => *last = seq,
                Some(_) | None => holes.push((seq, seq)),
            }
        }
        holes
    }

    /// Whether the user was a member before this entry or is one after it.
    pub(crate) fn shows(&self, user: User, seq: u64) -> bool {
        self.intervals
            .get(&user)
            .is_some_and(|all| all.iter().any(|(from, through)| *from <= seq && through.is_none_or(|last| seq <= last)))
    }

    /// Whether this entry was imported, before anybody was in the chat.
    pub(crate) fn is_imported(&self, seq: u64) -> bool {
        seq < self.imported_to
    }

    /// The highest seq that the user's membership shows; 0 if none.
    pub(crate) fn last_shown(&self, user: User) -> u64 {
        let last = self.intervals.get(&user).and_then(|all| all.last());
        last.map_or(0, |(_, through)| through.unwrap_or_else(|| self.head()))
    }

    pub(crate) fn is_member_now(&self, user: User) -> bool {
        self.intervals.get(&user).and_then(|all| all.last()).is_some_and(|(_, through)| through.is_none())
    }

    pub(crate) fn members_now(&self) -> impl Iterator<Item = User> + '_ {
        self.intervals.keys().copied().filter(|user| self.is_member_now(*user))
    }

    /// Whether these are one entry, each as the log has it or in a version that a later entry made (N3).
    pub(crate) fn agree(&self, one: &SeenEntry, other: &SeenEntry) -> bool {
        if one.changed.is_none() && other.changed.is_none() {
            return one == other;
        }
        let lasting = |entry: &SeenEntry| SeenEntry {
            hash: Hash::of(b""),
            content: Hash::of(b""),
            changed: None,
            ..entry.clone()
        };
        lasting(one) == lasting(other) && [one, other].into_iter().all(|entry| self.is_so(entry))
    }

    /// Whether the version is what the entry that it names has made.
    fn is_so(&self, entry: &SeenEntry) -> bool {
        let gone = entry.content == Hash::of(b"");
        match (entry.changed, &entry.event) {
            (None, _) => true,
            (Some(0), Content::Edited { seq }) => {
                gone && self.entries().any(|placed| placed.entry.event == Content::Deleted { seq: *seq })
            }
            (Some(by), Content::Message) if by > entry.seq => match self.at(by).map(|placed| placed.entry) {
                Some(SeenEntry { event: Content::Deleted { seq }, .. }) => gone && *seq == entry.seq,
                // Of an edit that is erased since nothing can be said.
                Some(SeenEntry { event: Content::Edited { seq }, content, changed, .. }) => {
                    *seq == entry.seq && (*content == entry.content || changed.is_some())
                }
                Some(_) | None => false,
            },
            _ => false,
        }
    }

    fn fold_members(&mut self) {
        self.whole = self.entries.iter().all(Option::is_some)
            && self.at(1).is_some_and(|first| {
                matches!(first.entry.event, Content::ChatCreated { .. } | Content::ImportBegun { .. })
            });
        if !self.whole {
            return;
        }
        let mut intervals: HashMap<User, Vec<(u64, Option<u64>)>> = HashMap::new();
        let mut imported_to = 0;
        for Placed { entry, .. } in self.entries() {
            let mut join = |user: User| {
                let all = intervals.entry(user).or_default();
                if all.last().is_none_or(|(_, through)| through.is_some()) {
                    let whole_history = matches!(entry.event, Content::ImportEnded { .. });
                    all.push((if whole_history { 1 } else { entry.seq }, None));
                }
            };
            match &entry.event {
                Content::ChatCreated { members, .. } => members.iter().for_each(|(user, _)| join(*user)),
                Content::ImportEnded { members } => {
                    imported_to = entry.seq;
                    members.iter().for_each(|(user, _)| join(*user));
                }
                Content::MemberAdded { user, .. } => join(*user),
                Content::MemberRemoved { user } => leave(&mut intervals, *user, entry.seq),
                Content::MemberLeft => leave(&mut intervals, entry.sender, entry.seq),
                Content::Message
                | Content::Edited { .. }
                | Content::Deleted { .. }
                | Content::Reacted { .. }
                | Content::PolicySet { .. }
                | Content::Pinned { .. }
                | Content::RoleSet { .. }
                | Content::ChatRenamed
                | Content::OwnershipTransferred { .. }
                | Content::ImportBegun { .. } => {}
            }
        }
        (self.intervals, self.imported_to) = (intervals, imported_to);
    }
}

fn leave(intervals: &mut HashMap<User, Vec<(u64, Option<u64>)>>, user: User, seq: u64) {
    if let Some((_, through @ None)) = intervals.get_mut(&user).and_then(|all| all.last_mut()) {
        *through = Some(seq);
    }
}
