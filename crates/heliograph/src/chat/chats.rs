//! The chats as the terminal knows them: who is in each, its last entries, how far each got.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use client::machine::Entry;
use client::{ChatId, UserId};
use proto::v1::{self, entry};

/// Entries of a chat that are remembered, to be printed when it is opened.
pub(super) const SHOWN_AT_OPEN: usize = 10;

#[derive(Debug, Default)]
pub(super) struct Chat {
    pub(super) kind: v1::ChatKind,
    pub(super) name: String,
    pub(super) members: BTreeMap<UserId, v1::Role>,
    pub(super) last: VecDeque<Entry>,
    // (delivered, seen)
    marks: BTreeMap<UserId, (u64, u64)>,
    own: BTreeSet<u64>,
    // Its number in the list; a mark may come before its first entry.
    number: Option<usize>,
}

/// The last of one's own messages that a mark newly covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tick {
    Delivered(u64),
    Seen(u64),
}

#[derive(Debug, Default)]
pub(super) struct Chats {
    chats: BTreeMap<ChatId, Chat>,
    order: Vec<ChatId>,
}

impl Chats {
    /// The chat, once an entry of it came.
    pub(super) fn get(&self, id: ChatId) -> Option<&Chat> {
        self.chats.get(&id).filter(|chat| chat.number.is_some())
    }

    /// In the order of the list, whose numbers start at 1.
    pub(super) fn list(&self) -> &[ChatId] {
        &self.order
    }

    /// The number in the list; 0 before the first entry.
    pub(super) fn number(&self, id: ChatId) -> usize {
        self.chats.get(&id).and_then(|chat| chat.number).unwrap_or_default()
    }

    /// The chat with the latest entry.
    pub(super) fn latest(&self) -> Option<ChatId> {
        let time = |id: &&ChatId| self.chats.get(*id).and_then(|chat| chat.last.back()).map(|last| last.entry.time_us);
        self.order.iter().max_by_key(time).copied()
    }

    pub(super) fn entry(&mut self, entry: &Entry, me: UserId) {
        let chat = self.chats.entry(entry.chat).or_default();
        if chat.number.is_none() {
            self.order.push(entry.chat);
            chat.number = Some(self.order.len());
        }
        let sender = UserId::from_wire(&entry.entry.sender).unwrap_or_default();
        let join = |member: &v1::Member| UserId::from_wire(&member.user).map(|user| (user, member.role()));
        match &entry.entry.event {
            Some(entry::Event::ChatCreated(created)) => {
                chat.kind = created.kind();
                chat.members.extend(created.members.iter().filter_map(join));
            }
            Some(entry::Event::ImportBegun(begun)) => chat.kind = begun.kind(),
            Some(entry::Event::ImportEnded(ended)) => chat.members.extend(ended.members.iter().filter_map(join)),
            Some(entry::Event::MemberAdded(added)) => chat.members.extend(added.member.iter().filter_map(join)),
            Some(entry::Event::MemberRemoved(removed)) => {
                UserId::from_wire(&removed.user).map(|user| chat.members.remove(&user));
            }
            Some(entry::Event::MemberLeft(_)) => {
                chat.members.remove(&sender);
            }
            Some(entry::Event::RoleSet(set)) => {
                UserId::from_wire(&set.user).map(|user| chat.members.insert(user, set.role()));
            }
            Some(entry::Event::ChatRenamed(renamed)) => chat.name.clone_from(&renamed.name),
            Some(entry::Event::OwnershipTransferred(transferred)) => {
                chat.members.insert(sender, v1::Role::Admin);
                UserId::from_wire(&transferred.user).map(|user| chat.members.insert(user, v1::Role::Owner));
            }
            Some(entry::Event::MessageSent(_)) if sender == me => {
                chat.own.insert(entry.entry.seq);
            }
            Some(
                entry::Event::MessageSent(_)
                | entry::Event::MessageEdited(_)
                | entry::Event::MessageDeleted(_)
                | entry::Event::MessageReacted(_)
                | entry::Event::ChatPolicySet(_)
                | entry::Event::MessagePinned(_),
            )
            | None => {}
        }
        // One that replaces another takes its place, and what followed that is told anew.
        chat.last.retain(|last| last.entry.seq < entry.entry.seq);
        chat.last.push_back(entry.clone());
        if chat.last.len() > SHOWN_AT_OPEN {
            chat.last.pop_front();
        }
    }

    /// A user got so far: what that says about one's own messages.
    pub(super) fn mark(&mut self, id: ChatId, user: UserId, delivered: u64, seen: u64) -> Option<Tick> {
        let chat = self.chats.entry(id).or_default();
        let before = chat.marks.get(&user).copied().unwrap_or_default();
        let after = (before.0.max(delivered).max(seen), before.1.max(seen));
        chat.marks.insert(user, after);
        let covered =
            |from: u64, to: u64| (from < to).then(|| chat.own.range(from + 1..=to).next_back().copied()).flatten();
        let seen = covered(before.1, after.1).map(Tick::Seen);
        seen.or_else(|| covered(before.0, after.0).map(Tick::Delivered))
    }
}

impl Chat {
    /// How far a user got: delivered, seen.
    pub(super) fn got(&self, user: UserId) -> (u64, u64) {
        self.marks.get(&user).copied().unwrap_or_default()
    }
}
