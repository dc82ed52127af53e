//! The chats in memory: a cache bounded in bytes, in which what is not yet appended stays (M1).
//!
//! Beside a chat stands what is known of messages that were edited or deleted, or are to be.

use std::collections::BTreeMap;

use domain::{Chat, ChatId, Rules, Seq, Target};

use super::targets::Targets;

/// What a chat that does not exist takes: its id, and its places in both maps.
const ABSENT_BYTES: usize = 128;

#[derive(Debug)]
struct Slot {
    /// None: there is no such chat.
    chat: Option<Box<Chat>>,
    targets: Targets,
    /// Entries decided and not yet appended, by batch.
    pinned: u32,
    bytes: usize,
    used: u64,
}

/// Chats by id, the least recently used given up first.
#[derive(Debug)]
pub(super) struct Chats {
    slots: BTreeMap<ChatId, Slot>,
    by_use: BTreeMap<u64, ChatId>,
    clock: u64,
    bytes: usize,
    bytes_max: usize,
    rules: Rules,
}

impl Chats {
    pub(super) fn new(bytes_max: usize, rules: Rules) -> Self {
        Self { slots: BTreeMap::new(), by_use: BTreeMap::new(), clock: 0, bytes: 0, bytes_max, rules }
    }

    pub(super) fn holds(&self, chat: ChatId) -> bool {
        self.slots.contains_key(&chat)
    }

    /// The chat, if it is in memory and exists.
    pub(super) fn get(&self, chat: ChatId) -> Option<&Chat> {
        self.slots.get(&chat).and_then(|slot| slot.chat.as_deref())
    }

    /// Takes in what was read; what is in memory already is newer and stays (M1).
    pub(super) fn loaded(&mut self, id: ChatId, chat: Option<Box<Chat>>) {
        if self.rules.m1 && self.slots.contains_key(&id) {
            return;
        }
        let pinned = self.slots.get(&id).map_or(0, |slot| slot.pinned);
        self.put(id, chat, pinned);
    }

    /// What is known of the message at this seq.
    pub(super) fn target(&self, id: ChatId, seq: Seq) -> Option<Target> {
        self.slots.get(&id).and_then(|slot| slot.targets.get(seq))
    }

    /// Takes in what was read of a message; what is known of it already is newer and stays (M1).
    pub(super) fn target_loaded(&mut self, id: ChatId, seq: Seq, target: Target) {
        let rules = self.rules;
        self.change_targets(id, |targets| targets.loaded(seq, target, &rules));
    }

    /// Takes in what the entry `by` made of a message.
    pub(super) fn target_changed(&mut self, id: ChatId, seq: Seq, target: Target, by: Seq) {
        self.change_targets(id, |targets| targets.changed(seq, target, by));
    }

    fn change_targets(&mut self, id: ChatId, change: impl FnOnce(&mut Targets)) {
        let Some(slot) = self.slots.get_mut(&id) else { return };
        change(&mut slot.targets);
        self.bytes -= slot.bytes;
        slot.bytes = slot.weight();
        self.bytes += slot.bytes;
    }

    /// Takes in a chat that its first entry made.
    pub(super) fn created(&mut self, id: ChatId, chat: Box<Chat>) {
        let pinned = self.slots.get(&id).map_or(0, |slot| slot.pinned);
        self.put(id, Some(chat), pinned);
    }

    fn put(&mut self, id: ChatId, chat: Option<Box<Chat>>, pinned: u32) {
        self.remove(id);
        self.clock += 1;
        let mut slot = Slot { chat, targets: Targets::default(), pinned, bytes: 0, used: self.clock };
        slot.bytes = slot.weight();
        self.bytes += slot.bytes;
        self.by_use.insert(self.clock, id);
        self.slots.insert(id, slot);
    }

    fn remove(&mut self, id: ChatId) {
        if let Some(old) = self.slots.remove(&id) {
            self.by_use.remove(&old.used);
            self.bytes -= old.bytes;
        }
    }

    /// Folds into a chat in memory and marks it used.
    pub(super) fn change(&mut self, id: ChatId, fold: impl FnOnce(&mut Chat)) {
        let Some(slot) = self.slots.get_mut(&id) else { return };
        let Some(chat) = slot.chat.as_deref_mut() else { return };
        fold(chat);
        self.clock += 1;
        self.by_use.remove(&slot.used);
        self.by_use.insert(self.clock, id);
        slot.used = self.clock;
        self.bytes -= slot.bytes;
        slot.bytes = slot.weight();
        self.bytes += slot.bytes;
    }

    /// The chat's state for a snapshot, once its head crosses a multiple of `entries`; a large state, which costs more
    /// to write, waits for a larger multiple. So a load never folds more rows, however often the chat is given up.
    pub(super) fn snapshot_due(&self, id: ChatId, first: Seq, entries: u64) -> Option<proto::log::ChatSnapshot> {
        let slot = self.slots.get(&id)?;
        let chat = slot.chat.as_deref()?;
        let every = entries.max((chat_weight(Some(chat)) as u64 / 1024).next_power_of_two());
        ((first - 1) / every != chat.head() / every).then(|| chat.snapshot())
    }

    pub(super) fn pin(&mut self, id: ChatId) {
        if let Some(slot) = self.slots.get_mut(&id) {
            slot.pinned += 1;
        }
    }

    pub(super) fn unpin(&mut self, id: ChatId) {
        if let Some(slot) = self.slots.get_mut(&id) {
            slot.pinned = slot.pinned.saturating_sub(1);
        }
    }

    /// The store has the chat's entries through this one: what it says of a message is no older.
    pub(super) fn appended(&mut self, id: ChatId, through: Seq) {
        self.change_targets(id, |targets| targets.appended(through));
    }

    /// Whether it is time to give some up.
    pub(super) const fn is_full(&self) -> bool {
        self.bytes > self.bytes_max
    }

    /// Gives up the least recently used until there is room for a while; `needed` says which must stay.
    pub(super) fn evict(&mut self, needed: impl Fn(ChatId) -> bool) {
        let mut from = 0;
        while self.bytes > self.bytes_max / 8 * 7 {
            let Some((&used, &id)) = self.by_use.range(from..).next() else { return };
            from = used + 1;
            // M1: a store that does not have the entry yet would give the seq away again.
            let pinned = self.rules.m1 && self.slots.get(&id).is_some_and(|slot| slot.pinned > 0);
            if !pinned && !needed(id) {
                self.remove(id);
            }
        }
    }
}

impl Slot {
    fn weight(&self) -> usize {
        chat_weight(self.chat.as_deref()) + self.targets.weight()
    }
}

fn chat_weight(chat: Option<&Chat>) -> usize {
    ABSENT_BYTES + chat.map_or(0, Chat::weight)
}
