//! Expands one partition's events, in order, into pushes for the sessions of who may see them.
//!
//! A record is expanded as a whole, once the members of all its chats are known as of the entry before (M18). So the
//! `as_of` of an ack never lies inside a record: what is above it is expanded with all sessions of the acknowledged
//! version, what is at or below it is found through the heads (M17).

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use domain::{ChatId, Epoch, GatewayId, LoggedEntry, Micros, Partition, Rules, Seq, TenureId, UserId};
use proto::relay::push::What;
use proto::relay::{AnnouncementAck, Through, ToGateway, to_gateway};

use super::hot::{HotChat, HotChats, Membership};
use super::io::{Action, EventRecord, Input, Patience, Settings};
use super::lanes::{Lanes, Stamp};
use super::mirror::Mirror;
use super::receipts::{Desk, Receipts};

#[derive(Debug)]
struct Loading {
    at_least: Seq,
    failed: bool,
}

/// One partition's delivery.
#[derive(Debug)]
pub struct Expansion {
    rules: Rules,
    stamp: Stamp,
    owned: bool,
    through: Seq,
    checkpointed: Seq,
    pending: VecDeque<EventRecord>,
    loading: BTreeMap<ChatId, Loading>,
    hot: HotChats,
    lanes: Lanes,
    receipts: Receipts,
    settings: Settings,
}

impl Expansion {
    /// Delivery of one partition; does nothing until [`Input::Took`].
    pub fn new(partition: Partition, rules: Rules, settings: Settings) -> Self {
        Self {
            rules,
            stamp: Stamp { partition, epoch: Epoch(0), owner: TenureId(0) },
            owned: false,
            through: 0,
            checkpointed: 0,
            pending: VecDeque::new(),
            loading: BTreeMap::new(),
            hot: HotChats::new(settings.hot_bytes_max),
            lanes: Lanes::default(),
            receipts: Receipts::new(partition, settings),
            settings,
        }
    }

    /// Sequence in EVENTS-p through which all is expanded.
    pub fn through(&self) -> Seq {
        self.through
    }

    /// Whether all records given so far are expanded; only then give more.
    pub fn wants_events(&self) -> bool {
        self.pending.is_empty()
    }

    /// The hot chats, for figures.
    pub fn hot(&self) -> &HotChats {
        &self.hot
    }

    /// Takes one input; `mirror` must stay as it is meanwhile.
    pub fn handle(&mut self, now: Micros, input: Input, mirror: &Mirror, actions: &mut Vec<Action>) {
        match input {
            Input::Took { owner, epoch, after } => self.took(owner, epoch, after),
            _ if !self.owned => return,
            Input::Events(records) => self.events(now, records, mirror, actions),
            Input::Members { chat, at_least, patience: Patience::Long, rows } => {
                self.members(now, chat, at_least, rows.as_deref(), mirror, actions);
            }
            Input::Members { chat, at_least, patience: Patience::None, rows } => {
                let (receipts, mut desk) = self.desk(now, mirror, actions);
                receipts.members(chat, at_least, rows.as_deref(), &mut desk);
            }
            Input::Ordinal { chat, seq, ordinal } => {
                let (receipts, mut desk) = self.desk(now, mirror, actions);
                receipts.ordinal(chat, seq, ordinal, &mut desk);
            }
            Input::Announced { gateway, version } => self.announced(gateway, version, actions),
            Input::Forgotten(gateway) => self.lanes.forgotten(gateway),
            Input::Receipts(batch) => {
                let (receipts, mut desk) = self.desk(now, mirror, actions);
                for receipt in batch {
                    receipts.take(&receipt, &mut desk);
                }
            }
            Input::StatusesPublished(sequence) => {
                let (receipts, mut desk) = self.desk(now, mirror, actions);
                receipts.published(sequence, &mut desk);
            }
            Input::Written { epoch, statuses } => {
                if epoch == self.stamp.epoch {
                    let (receipts, mut desk) = self.desk(now, mirror, actions);
                    receipts.written(statuses, &mut desk);
                }
            }
            Input::Tick => self.tick(now, mirror, actions),
        }
        let epoch = self.stamp.epoch;
        let (receipts, mut desk) = self.desk(now, mirror, actions);
        receipts.flush(epoch, &mut desk);
        self.lanes.flush(&self.stamp, actions);
        if self.hot.bytes() > self.settings.hot_bytes_max {
            let needed = self.pending.iter().flat_map(|record| &record.entries).map(|logged| logged.entry.chat);
            let needed: BTreeSet<ChatId> = needed.collect();
            let receipts = &self.receipts;
            self.hot.evict(|chat| needed.contains(&chat) || receipts.need(chat));
        }
    }

    fn desk<'a>(
        &'a mut self,
        now: Micros,
        mirror: &'a Mirror,
        actions: &'a mut Vec<Action>,
    ) -> (&'a mut Receipts, Desk<'a>) {
        let desk = Desk { now, rules: &self.rules, mirror, hot: &mut self.hot, lanes: &mut self.lanes, actions };
        (&mut self.receipts, desk)
    }

    /// All state of an earlier tenure is gone: the events are read again from the checkpoint.
    fn took(&mut self, owner: TenureId, epoch: Epoch, after: Seq) {
        // M15: the owner is this acquisition, not this process.
        let owner = if self.rules.m15 { owner } else { TenureId(0) };
        self.stamp = Stamp { owner, epoch, ..self.stamp };
        self.owned = true;
        self.through = after;
        self.checkpointed = after;
        self.pending.clear();
        self.loading.clear();
        self.hot.clear();
        self.lanes = Lanes::default();
        self.receipts = Receipts::new(self.stamp.partition, self.settings);
    }

    fn events(&mut self, now: Micros, records: Vec<EventRecord>, mirror: &Mirror, actions: &mut Vec<Action>) {
        self.pending.extend(records);
        // Chats that will be needed are asked for at once, not each when its turn comes.
        let mut first: BTreeMap<ChatId, Seq> = BTreeMap::new();
        for logged in self.pending.iter().flat_map(|record| &record.entries) {
            first.entry(logged.entry.chat).or_insert(logged.entry.seq);
        }
        for (chat, seq) in first {
            self.require(chat, seq, actions);
        }
        self.expand(now, mirror, actions);
    }

    /// Whether the chat is known as of the entry before `seq`; asks the store if not.
    fn require(&mut self, chat: ChatId, seq: Seq, actions: &mut Vec<Action>) -> bool {
        let at_least = seq.saturating_sub(1);
        if self.hot.peek(chat).is_some_and(|known| known.head == at_least) {
            return true;
        }
        if seq == 1 {
            self.hot.put(chat, HotChat::default());
            return true;
        }
        if self.loading.get(&chat).is_none_or(|loading| loading.at_least != at_least) {
            self.loading.insert(chat, Loading { at_least, failed: false });
            // M18: the rows must be whole through the entry before; later ones are folded here.
            let at_least = if self.rules.m18 { at_least } else { 0 };
            actions.push(Action::LoadMembers { chat, at_least, patience: Patience::Long });
        }
        false
    }

    fn members(
        &mut self,
        now: Micros,
        chat: ChatId,
        at_least: Seq,
        rows: Option<&[Membership]>,
        mirror: &Mirror,
        actions: &mut Vec<Action>,
    ) {
        let Some(loading) = self.loading.get_mut(&chat) else { return };
        if self.rules.m18 && loading.at_least != at_least {
            return;
        }
        let Some(rows) = rows else {
            loading.failed = true;
            return;
        };
        let as_of = loading.at_least;
        self.loading.remove(&chat);
        let judged = if self.rules.as_of { as_of } else { Seq::MAX };
        let mut known = HotChat::as_of(judged, rows);
        known.head = as_of;
        self.hot.put(chat, known);
        self.expand(now, mirror, actions);
    }

    fn expand(&mut self, now: Micros, mirror: &Mirror, actions: &mut Vec<Action>) {
        while let Some(record) = self.pending.pop_front() {
            let mut first: BTreeMap<ChatId, Seq> = BTreeMap::new();
            for logged in &record.entries {
                first.entry(logged.entry.chat).or_insert(logged.entry.seq);
            }
            let mut ready = true;
            for (chat, seq) in first {
                ready &= self.require(chat, seq, actions);
            }
            if !ready {
                self.pending.push_front(record);
                return;
            }
            for logged in &record.entries {
                self.expand_entry(now, logged, mirror, actions);
            }
            self.through = record.sequence;
        }
    }

    fn expand_entry(&mut self, now: Micros, logged: &LoggedEntry, mirror: &Mirror, actions: &mut Vec<Action>) {
        let entry = &logged.entry;
        let recipients = self.hot.update(entry.chat, |chat| chat.fold(entry)).unwrap_or_default();
        let is_own = |user: &&UserId| **user == entry.sender;
        let others = recipients.iter().filter(|user| !is_own(user)).flat_map(|user| mirror.sessions_of(*user));
        let own = recipients.iter().filter(is_own).flat_map(|user| mirror.sessions_of(*user));
        self.lanes.push(&What::Entry(logged.bytes.clone()), others, own);
        let (receipts, mut desk) = self.desk(now, mirror, actions);
        receipts.folded(entry, &mut desk);
    }

    fn announced(&mut self, gateway: GatewayId, version: u64, actions: &mut Vec<Action>) {
        self.lanes.heard(gateway);
        let ack = AnnouncementAck {
            gateway: gateway.0,
            version,
            partition: u32::from(self.stamp.partition.0),
            epoch: self.stamp.epoch.0,
            owner: self.stamp.owner.0,
            as_of: self.through,
            last_batch: self.lanes.last_batch(gateway),
        };
        let message = ToGateway { what: Some(to_gateway::What::Ack(ack)) };
        actions.push(Action::Send { gateway, message });
    }

    fn tick(&mut self, now: Micros, mirror: &Mirror, actions: &mut Vec<Action>) {
        for (chat, loading) in &mut self.loading {
            if loading.failed {
                loading.failed = false;
                let at_least = if self.rules.m18 { loading.at_least } else { 0 };
                actions.push(Action::LoadMembers { chat: *chat, at_least, patience: Patience::Long });
            }
        }
        let (receipts, mut desk) = self.desk(now, mirror, actions);
        receipts.tick(&mut desk);
        for gateway in mirror.gateways() {
            let through = Through {
                partition: u32::from(self.stamp.partition.0),
                epoch: self.stamp.epoch.0,
                owner: self.stamp.owner.0,
                // M16: else the loss of the last batch would stay unseen.
                last_batch: if self.rules.m16 { self.lanes.last_batch(gateway) } else { 0 },
                events: self.through,
            };
            actions
                .push(Action::Send { gateway, message: ToGateway { what: Some(to_gateway::What::Through(through)) } });
        }
        if self.through > self.checkpointed {
            self.checkpointed = self.through;
            actions.push(Action::Checkpoint { events: self.through });
        }
    }
}
