//! Hot chats: members, recent senders and watermarks of chats that something happens in, bounded in bytes.
//!
//! All of it can be rebuilt from the store and by clients that assert their receipts again, so eviction loses nothing.

use std::collections::{BTreeMap, VecDeque};

use domain::{ChatId, Entry, Event, Micros, Ordinal, Seq, UserId, Watermark};

/// Recent entries of a chat whose ordinal and sender are known without a row read.
const RING_MAX: usize = 256;
/// Former members of a chat that may still report up to their leaving.
const LEFT_MAX: usize = 1_024;

/// One membership of a user in a chat, both ends inclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Membership {
    /// Who.
    pub user: UserId,
    /// The entry that made the user a member.
    pub joined_seq: Seq,
    /// The entry that ended it.
    pub left_seq: Option<Seq>,
}

#[derive(Clone, Copy, Debug)]
struct Recent {
    seq: Seq,
    ordinal: Ordinal,
    sender: UserId,
    is_message: bool,
}

/// Where the last status of a user stands.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) enum Standing {
    #[default]
    Unclaimed,
    // Waits for its publish, or the publish is in flight.
    Waiting,
    Published {
        sequence: Seq,
        at: Micros,
    },
}

/// How far a user got, as known here.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Mark {
    /// Claimed or implied, merged.
    pub(super) merged: Watermark,
    /// What the last status said or will say.
    pub(super) claimed: Watermark,
    pub(super) standing: Standing,
}

/// What delivery knows of one chat.
#[derive(Debug, Default)]
pub struct HotChat {
    /// Folded through, or a seq that the store is known to hold.
    pub(super) head: Seq,
    /// An entry was folded since the load: the head is exact.
    pub(super) live: bool,
    members: BTreeMap<UserId, Seq>,
    left: BTreeMap<UserId, Seq>,
    ring: VecDeque<Recent>,
    marks: BTreeMap<UserId, Mark>,
    /// Claims above the head.
    pub(super) held: BTreeMap<UserId, Watermark>,
}

impl HotChat {
    /// The chat as of `head` by its member rows, which may know more than that.
    pub(super) fn as_of(head: Seq, rows: &[Membership]) -> Self {
        let mut chat = Self { head, ..Self::default() };
        for row in rows.iter().filter(|row| row.joined_seq <= head) {
            match row.left_seq {
                Some(left) if left <= head => chat.note_left(row.user, left),
                _ => {
                    chat.members.insert(row.user, row.joined_seq);
                }
            }
        }
        chat
    }

    /// Takes over what a reload of the members must not forget.
    pub(super) fn inherit(&mut self, earlier: Self) {
        self.marks = earlier.marks;
        self.held = earlier.held;
    }

    /// Folds the next entry and returns who gets it: the members before it and after it.
    pub(super) fn fold(&mut self, entry: &Entry) -> Vec<UserId> {
        let recipients = match &entry.event {
            Event::ChatCreated { members, .. } => {
                self.members = members.iter().map(|member| (member.user, entry.seq)).collect();
                self.members.keys().copied().collect()
            }
            Event::MemberAdded { member } => {
                self.left.remove(&member.user);
                self.members.insert(member.user, entry.seq);
                self.members.keys().copied().collect()
            }
            Event::MemberRemoved { user } => self.fold_leaving(*user, entry.seq),
            Event::MemberLeft => self.fold_leaving(entry.sender, entry.seq),
            Event::ImportEnded { members } => {
                // All that was imported counts as delivered and seen.
                self.members = members.iter().map(|member| (member.user, entry.seq)).collect();
                self.members.keys().copied().collect()
            }
            // Pushed to nobody, also where the rows tell of members already: the history has ended since.
            Event::ImportBegun { .. } => Vec::new(),
            Event::MessageSent { .. } if entry.is_imported_message() => Vec::new(),
            Event::MessageSent { .. }
            | Event::RoleSet { .. }
            | Event::ChatRenamed { .. }
            | Event::OwnershipTransferred { .. }
            | Event::MessageEdited(_)
            | Event::MessageDeleted { .. }
            | Event::MessageReacted { .. }
            | Event::ChatPolicySet { .. }
            | Event::MessagePinned { .. } => self.members.keys().copied().collect(),
        };
        self.head = entry.seq;
        self.live = true;
        if self.ring.len() == RING_MAX {
            self.ring.pop_front();
        }
        self.ring.push_back(Recent {
            seq: entry.seq,
            ordinal: entry.ordinal,
            sender: entry.sender,
            is_message: entry.event.is_message(),
        });
        recipients
    }

    fn fold_leaving(&mut self, user: UserId, seq: Seq) -> Vec<UserId> {
        let recipients = self.members.keys().copied().collect();
        self.members.remove(&user);
        self.held.remove(&user);
        self.note_left(user, seq);
        recipients
    }

    fn note_left(&mut self, user: UserId, seq: Seq) {
        let left = self.left.entry(user).or_default();
        *left = seq.max(*left);
        if self.left.len() > LEFT_MAX {
            self.left.pop_first();
        }
    }

    /// How far this user may claim: a member to the head, a former one to the leaving, others not at all.
    pub(super) fn bound_of(&self, user: UserId) -> Option<Seq> {
        if self.members.contains_key(&user) {
            return Some(self.head);
        }
        self.left.get(&user).copied()
    }

    pub(super) fn is_member(&self, user: UserId) -> bool {
        self.members.contains_key(&user)
    }

    pub(super) fn members(&self) -> impl Iterator<Item = UserId> + '_ {
        self.members.keys().copied()
    }

    pub(super) fn member_count(&self) -> usize {
        self.members.len()
    }

    /// How many messages the chat had up to `seq`, if the ring still knows.
    pub(super) fn ordinal_at(&self, seq: Seq) -> Option<Ordinal> {
        let first = self.ring.front()?.seq;
        let place = usize::try_from(seq.checked_sub(first)?).ok()?;
        self.ring.get(place).filter(|recent| recent.seq == seq).map(|recent| recent.ordinal)
    }

    /// The lowest seq in the ring.
    pub(super) fn ring_from(&self) -> Option<Seq> {
        self.ring.front().map(|recent| recent.seq)
    }

    /// Senders of the messages with `after` < seq ≤ `through` that the ring knows.
    pub(super) fn senders(&self, after: Seq, through: Seq) -> impl Iterator<Item = UserId> + '_ {
        self.ring
            .iter()
            .rev()
            .skip_while(move |recent| recent.seq > through)
            .take_while(move |recent| recent.seq > after)
            .filter(|recent| recent.is_message)
            .map(|recent| recent.sender)
    }

    /// The user's mark; at first what joining implies.
    pub(super) fn mark(&mut self, user: UserId) -> &mut Mark {
        let joined = self.members.get(&user).copied().unwrap_or_default();
        self.marks.entry(user).or_insert_with(|| Mark {
            merged: Watermark { delivered: joined, seen: joined, seen_ordinal: 0 },
            ..Mark::default()
        })
    }

    pub(super) fn known_mark(&mut self, user: UserId) -> Option<&mut Mark> {
        self.marks.get_mut(&user)
    }

    /// About how many bytes this chat takes.
    fn weight(&self) -> usize {
        256 + 40 * (self.members.len() + self.left.len())
            + 40 * self.ring.len()
            + 128 * self.marks.len()
            + 64 * self.held.len()
    }
}

#[derive(Debug)]
struct Slot {
    chat: HotChat,
    used: u64,
    weight: usize,
}

/// The hot chats of one partition, the least recently used ones evicted first.
#[derive(Debug)]
pub struct HotChats {
    slots: BTreeMap<ChatId, Slot>,
    by_use: BTreeMap<u64, ChatId>,
    clock: u64,
    bytes: usize,
    bytes_max: usize,
}

impl HotChats {
    /// None yet; at most `bytes_max` after each [`evict`](Self::evict).
    pub fn new(bytes_max: usize) -> Self {
        Self { slots: BTreeMap::new(), by_use: BTreeMap::new(), clock: 0, bytes: 0, bytes_max }
    }

    /// About how many bytes all take.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    pub(super) fn clear(&mut self) {
        *self = Self::new(self.bytes_max);
    }

    pub(super) fn peek(&self, chat: ChatId) -> Option<&HotChat> {
        self.slots.get(&chat).map(|slot| &slot.chat)
    }

    /// Puts a chat in, or in place of what was known, whose marks it keeps.
    pub(super) fn put(&mut self, id: ChatId, mut chat: HotChat) {
        if let Some(slot) = self.slots.remove(&id) {
            self.bytes -= slot.weight;
            self.by_use.remove(&slot.used);
            chat.inherit(slot.chat);
        }
        self.clock += 1;
        let weight = chat.weight();
        self.bytes += weight;
        self.by_use.insert(self.clock, id);
        self.slots.insert(id, Slot { chat, used: self.clock, weight });
    }

    /// Works on a chat, marks it as used and weighs it again.
    pub(super) fn update<R>(&mut self, id: ChatId, work: impl FnOnce(&mut HotChat) -> R) -> Option<R> {
        let slot = self.slots.get_mut(&id)?;
        let result = work(&mut slot.chat);
        self.by_use.remove(&slot.used);
        self.clock += 1;
        slot.used = self.clock;
        self.by_use.insert(self.clock, id);
        let weight = slot.chat.weight();
        self.bytes = self.bytes - slot.weight + weight;
        slot.weight = weight;
        Some(result)
    }

    /// Lets go of the least recently used ones until the bound holds; those that `pinned` names stay.
    pub(super) fn evict(&mut self, pinned: impl Fn(ChatId) -> bool) {
        while self.bytes > self.bytes_max {
            let Some((used, id)) = self.by_use.iter().find(|(_, id)| !pinned(**id)).map(|(used, id)| (*used, *id))
            else {
                return;
            };
            self.by_use.remove(&used);
            if let Some(slot) = self.slots.remove(&id) {
                self.bytes -= slot.weight;
            }
        }
    }
}
