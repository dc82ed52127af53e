//! Expands one partition's events, in order, into pushes for the sessions of who may see them.
//!
//! A record is expanded as a whole, once the members of all its chats are known as of the entry before (M18). So the
//! `as_of` of an ack never lies inside a record: what is above it is expanded with all sessions of the acknowledged
//! version, what is at or below it is found through the heads (M17).

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use domain::{ChatId, Epoch, GatewayId, LoggedEntry, Micros, Ordinal, Partition, Rules, Seq, TenureId};
use prost::Message as _;
use proto::log::{EventBatch, StatusBatch};
use proto::relay::push::What;
use proto::relay::{AnnouncementAck, Receipt, Through, ToGateway, to_gateway};

use super::hot::{HotChat, HotChats, Membership};
use super::lanes::{Lanes, Stamp};
use super::mirror::Mirror;
use super::receipts::{Desk, Receipts};

/// Bounds of one partition's delivery.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Most bytes of hot chats that are kept beyond those of the records in work.
    pub hot_bytes_max: usize,
    /// Most users whose status waits for its publish or for the table.
    pub statuses_max: usize,
    /// Most receipts that wait for members or for an ordinal.
    pub receipts_max: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { hot_bytes_max: 32 * 1024 * 1024, statuses_max: 65_536, receipts_max: 16_384 }
    }
}

/// One record of EVENTS-p, decoded.
#[derive(Clone, Debug)]
pub struct EventRecord {
    /// Its sequence in the stream.
    pub sequence: Seq,
    /// Its entries, in order of decision.
    pub entries: Vec<LoggedEntry>,
}

impl EventRecord {
    /// Decodes a record's payload and says of which epoch it is.
    pub fn decode(sequence: Seq, payload: Bytes) -> Result<(Epoch, Self), crate::Error> {
        let batch = EventBatch::decode(payload).map_err(|source| crate::Error::Record { sequence, source })?;
        if batch.schema > domain::limits::SCHEMA {
            return Err(crate::Error::Schema { sequence, schema: batch.schema });
        }
        let entry = |bytes| LoggedEntry::decode(bytes).map_err(|source| crate::Error::Entry { sequence, source });
        let entries = batch.entries.into_iter().map(entry).collect::<Result<_, _>>()?;
        Ok((Epoch(batch.epoch), Self { sequence, entries }))
    }
}

/// How long a load may wait for a row.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Patience {
    /// For an event: until ingest has appended the entry before it.
    Long,
    /// For a receipt: not at all, the client asserts it again.
    None,
}

/// What one partition's delivery is told.
#[derive(Debug)]
pub enum Input {
    /// The partition was acquired; events after this sequence are expanded, numbers start at 1 (M15).
    Took {
        /// This acquisition.
        owner: TenureId,
        /// The streams' epoch.
        epoch: Epoch,
        /// Sequence in EVENTS-p of the checkpoint.
        after: Seq,
    },
    /// Records in order, the first one next to what was given before.
    Events(Vec<EventRecord>),
    /// The members that an [`Action::LoadMembers`] asked for.
    Members {
        /// The chat.
        chat: ChatId,
        /// The `at_least` of the load.
        at_least: Seq,
        /// The patience of the load.
        patience: Patience,
        /// All memberships that the store holds; none if the row was not there in time.
        rows: Option<Vec<Membership>>,
    },
    /// The ordinal that an [`Action::ReadOrdinal`] asked for; none if the row is not there.
    Ordinal {
        /// The chat.
        chat: ChatId,
        /// The entry.
        seq: Seq,
        /// How many messages the chat had up to it.
        ordinal: Option<Ordinal>,
    },
    /// The mirror holds this version.
    Announced {
        /// Who announced.
        gateway: GatewayId,
        /// What the mirror holds of it.
        version: u64,
    },
    /// The mirror forgot this gateway.
    Forgotten(GatewayId),
    /// A gateway's receipts.
    Receipts(Vec<Receipt>),
    /// The statuses handed out last are published at this sequence; none: not published.
    StatusesPublished(Option<Seq>),
    /// Statuses up to this sequence stand in the table.
    Written {
        /// Of STATUS-p.
        epoch: Epoch,
        /// Sequence in STATUS-p.
        statuses: Seq,
    },
    /// About once a second.
    Tick,
}

/// What was dropped; each kind has a counter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Dropped {
    /// A receipt of somebody who never was a member.
    NotMember,
    /// A receipt that names no chat of this partition or no user.
    BadReceipt,
    /// A receipt above a bound, or for a chat that the store does not hold so far.
    Receipt,
    /// An echo above the bound.
    Echo,
}

impl Dropped {
    /// The counter's label.
    pub fn label(self) -> &'static str {
        match self {
            Self::NotMember => "not_member",
            Self::BadReceipt => "bad_receipt",
            Self::Receipt => "receipt",
            Self::Echo => "echo",
        }
    }
}

/// What one partition's delivery wants done.
#[derive(Debug)]
pub enum Action {
    /// Send to a gateway, in order. What cannot be sent may be dropped: its number is then missing.
    Send {
        /// To whom.
        gateway: GatewayId,
        /// What.
        message: ToGateway,
    },
    /// Read all memberships of a chat that the store holds at least through this seq.
    LoadMembers {
        /// The chat.
        chat: ChatId,
        /// The row that must be there.
        at_least: Seq,
        /// How long to wait for it.
        patience: Patience,
    },
    /// Read the ordinal of an entry's row.
    ReadOrdinal {
        /// The chat.
        chat: ChatId,
        /// The entry.
        seq: Seq,
    },
    /// Publish to STATUS-p and report by [`Input::StatusesPublished`]; one at a time.
    PublishStatuses(StatusBatch),
    /// Keep the checkpoint.
    Checkpoint {
        /// Sequence in EVENTS-p.
        events: Seq,
    },
    /// Count what was dropped.
    Dropped(Dropped),
}

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
            self.hot.evict(|chat| needed.contains(&chat));
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
        self.hot.put(chat, HotChat::as_of(as_of, rows));
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
        let sessions = recipients.iter().flat_map(|user| mirror.sessions_of(*user)).copied();
        self.lanes.push(&What::Entry(logged.bytes.clone()), sessions);
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
