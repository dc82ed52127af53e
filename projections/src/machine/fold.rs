//! Folds records of events and statuses into one write, coalesced by key.
//!
//! Events are folded each once and without a hole, in the stream and in each chat; a hole halts the partition, since a
//! model with one would look whole. Statuses are merged by maximum, so holes among them do no harm.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use domain::limits::SCHEMA;
use domain::{ChatId, Edit, Entry, Epoch, Event, LoggedEntry, Message, Seq, UserId, Watermark};
use prost::Message as _;
use proto::log::{EventBatch, StatusBatch};

use super::facts::{Facts, Reactions};
use super::rows::{Name, Preview, Projected, Stay, Summary};
use crate::error::FoldError;

/// A record as it was read.
#[derive(Clone, Debug)]
pub struct Raw {
    /// Its sequence in its stream.
    pub sequence: Seq,
    /// What was published.
    pub payload: Bytes,
}

/// What the fold is told.
#[derive(Debug)]
pub enum Input {
    /// The partition was acquired; records after these are folded.
    Took {
        /// The streams' epoch.
        epoch: Epoch,
        /// Sequence in EVENTS-p of the checkpoint.
        events: Seq,
        /// Sequence in STATUS-p of the checkpoint.
        statuses: Seq,
    },
    /// Records in order; only while [`Fold::wants_records`].
    Read {
        /// Of EVENTS-p.
        events: Vec<Raw>,
        /// Of STATUS-p.
        statuses: Vec<Raw>,
    },
    /// The rows that an [`Action::Load`] asked for, where they are stored.
    Loaded {
        /// Summaries by chat.
        summaries: BTreeMap<ChatId, Summary>,
        /// Latest stays.
        stays: BTreeMap<(UserId, ChatId), Stay>,
    },
    /// The rows of the last [`Action::Project`] stand in the store.
    Stored,
    /// About once a second.
    Tick,
}

/// What the fold wants done.
#[derive(Debug)]
pub enum Action {
    /// Read these rows of the models and answer by [`Input::Loaded`].
    Load {
        /// Whose summaries.
        summaries: BTreeSet<ChatId>,
        /// Whose latest stay in which chat.
        stays: BTreeSet<(UserId, ChatId)>,
    },
    /// Write this and answer by [`Input::Stored`].
    Project(Projected),
    /// Say that statuses up to this one stand in the store.
    Written {
        /// Of STATUS-p.
        epoch: Epoch,
        /// Sequence in STATUS-p.
        statuses: Seq,
    },
    /// A status record that cannot be read was passed over.
    StatusesSkipped,
    /// The partition cannot go on.
    Halt(FoldError),
}

/// What was read and waits for its rows.
#[derive(Debug, Default)]
struct Batch {
    entries: Vec<Entry>,
    marks: BTreeMap<(ChatId, UserId), Watermark>,
    events: Seq,
    statuses: Seq,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Idle,
    Loading(Batch),
    Storing(Projected),
    Halted,
}

/// The fold of one partition.
#[derive(Debug)]
pub struct Fold {
    epoch: Epoch,
    events: Seq,
    statuses: Seq,
    summaries: BTreeMap<ChatId, Summary>,
    summaries_max: usize,
    state: State,
}

impl Fold {
    /// A fold that keeps at most so many summaries between writes.
    pub fn new(summaries_max: usize) -> Self {
        Self {
            epoch: Epoch(0),
            events: 0,
            statuses: 0,
            summaries: BTreeMap::new(),
            summaries_max,
            state: State::Halted,
        }
    }

    /// Whether the last records are stored; only then give more.
    pub fn wants_records(&self) -> bool {
        matches!(self.state, State::Idle)
    }

    /// Sequence in EVENTS-p through which all is folded and stored.
    pub fn events(&self) -> Seq {
        self.events
    }

    /// Takes one input.
    pub fn handle(&mut self, input: Input, actions: &mut Vec<Action>) {
        match input {
            Input::Took { epoch, events, statuses } => {
                (self.epoch, self.events, self.statuses) = (epoch, events, statuses);
                self.summaries.clear();
                self.state = State::Idle;
            }
            Input::Read { events, statuses } => {
                if let State::Idle = self.state
                    && let Err(error) = self.read(events, statuses, actions)
                {
                    self.halt(error, actions);
                }
            }
            Input::Loaded { summaries, stays } => {
                if let State::Loading(batch) = std::mem::take(&mut self.state) {
                    self.summaries.extend(summaries);
                    match self.fold(batch, &stays) {
                        Ok(projected) => self.project(projected, actions),
                        Err(error) => self.halt(error, actions),
                    }
                }
            }
            Input::Stored => {
                if let State::Storing(projected) = std::mem::take(&mut self.state) {
                    let advanced = projected.statuses > self.statuses;
                    (self.events, self.statuses) = (projected.events, projected.statuses);
                    if self.summaries.len() > self.summaries_max {
                        self.summaries.clear();
                    }
                    // Events alone tell its readers nothing.
                    if advanced {
                        actions.push(Action::Written { epoch: self.epoch, statuses: self.statuses });
                    }
                }
            }
            // The last one may have been lost on its way.
            Input::Tick if self.statuses > 0 => {
                actions.push(Action::Written { epoch: self.epoch, statuses: self.statuses });
            }
            Input::Tick => {}
        }
    }

    fn halt(&mut self, error: FoldError, actions: &mut Vec<Action>) {
        self.state = State::Halted;
        actions.push(Action::Halt(error));
    }

    fn read(&mut self, events: Vec<Raw>, statuses: Vec<Raw>, actions: &mut Vec<Action>) -> Result<(), FoldError> {
        let mut batch = Batch { events: self.events, statuses: self.statuses, ..Batch::default() };
        for raw in events {
            batch.read_events(raw, self.epoch)?;
        }
        for raw in statuses {
            batch.read_statuses(&raw, self.epoch, actions)?;
        }
        if batch.events == self.events && batch.statuses == self.statuses {
            return Ok(());
        }
        let mut summaries = BTreeSet::new();
        let mut stays = BTreeSet::new();
        for entry in &batch.entries {
            if entry.seq > 1 && !self.summaries.contains_key(&entry.chat) {
                summaries.insert(entry.chat);
            }
            match &entry.event {
                Event::MemberRemoved { user } => stays.insert((*user, entry.chat)),
                Event::MemberLeft => stays.insert((entry.sender, entry.chat)),
                Event::ChatCreated { .. }
                | Event::MemberAdded { .. }
                | Event::MessageSent { .. }
                | Event::RoleSet { .. }
                | Event::ChatRenamed { .. }
                | Event::OwnershipTransferred { .. }
                | Event::MessageEdited(_)
                | Event::MessageDeleted { .. }
                | Event::MessageReacted { .. }
                | Event::ChatPolicySet { .. }
                | Event::MessagePinned { .. }
                | Event::ImportBegun { .. }
                | Event::ImportEnded { .. } => false,
            };
        }
        if summaries.is_empty() && stays.is_empty() {
            let projected = self.fold(batch, &BTreeMap::new())?;
            self.project(projected, actions);
        } else {
            self.state = State::Loading(batch);
            actions.push(Action::Load { summaries, stays });
        }
        Ok(())
    }

    fn project(&mut self, projected: Projected, actions: &mut Vec<Action>) {
        actions.push(Action::Project(projected.clone()));
        self.state = State::Storing(projected);
    }

    fn fold(&mut self, batch: Batch, stored_stays: &BTreeMap<(UserId, ChatId), Stay>) -> Result<Projected, FoldError> {
        let mut marks = batch.marks;
        let mut stays: BTreeMap<(UserId, ChatId), Stay> = BTreeMap::new();
        let mut changed = BTreeSet::new();
        let mut names = BTreeMap::new();
        let mut facts = Facts::default();
        let mut reactions = Reactions::default();
        for entry in &batch.entries {
            let hole = |head| FoldError::Hole { chat: entry.chat, head, seq: entry.seq };
            let head = self.summaries.get(&entry.chat).map_or(0, |summary| summary.head);
            if entry.seq <= head {
                // Folded before: the records were read again, or an epoch re-emits them.
                continue;
            }
            if entry.seq != head + 1 {
                return Err(hole(head));
            }
            changed.insert(entry.chat);
            let mut lift = |user| {
                let implied = Watermark { delivered: entry.seq, seen: entry.seq, seen_ordinal: entry.ordinal };
                let mark = marks.entry((entry.chat, user)).or_default();
                *mark = mark.merge(implied);
            };
            let join = Stay { joined_seq: entry.seq, left_seq: None };
            let mut leaving = None;
            match &entry.event {
                Event::ChatCreated { kind, members } => {
                    for member in members {
                        stays.insert((member.user, entry.chat), join);
                        lift(member.user);
                    }
                    self.summaries.insert(entry.chat, Summary::first(entry.seq, *kind));
                }
                Event::MemberAdded { member } => {
                    stays.insert((member.user, entry.chat), join);
                    // Old history is never unread.
                    lift(member.user);
                }
                Event::MemberRemoved { user } => leaving = Some(*user),
                Event::MemberLeft => leaving = Some(entry.sender),
                // Its members come in with the end, if its sender is among them.
                Event::MessageSent { .. } if entry.is_imported_message() => {}
                // Own sends are never unread.
                Event::MessageSent { .. } => lift(entry.sender),
                // Roles stand in the members' rows.
                Event::RoleSet { .. } | Event::OwnershipTransferred { .. } => {}
                // Of a message that is counted; for the preview see below.
                Event::MessageEdited(_) => {}
                Event::MessageDeleted { seq } => reactions.delete(entry, *seq),
                Event::MessageReacted { seq, reaction } => reactions.set(entry, *seq, reaction),
                Event::ChatPolicySet { policy, .. } => facts.set_policy(entry, *policy),
                Event::MessagePinned { pins, .. } => facts.set_pins(entry, pins),
                Event::ChatRenamed { name } => {
                    names.insert(entry.chat, Name { seq: entry.seq, text: name.clone() });
                }
                Event::ImportBegun { kind, .. } => {
                    self.summaries.insert(entry.chat, Summary::first(entry.seq, *kind));
                }
                Event::ImportEnded { members } => {
                    for member in members {
                        // What was imported is theirs, and never unread.
                        stays.insert((member.user, entry.chat), Stay { joined_seq: 1, left_seq: None });
                        lift(member.user);
                    }
                }
            }
            if let Some(user) = leaving {
                let key = (user, entry.chat);
                let stay = stays.get(&key).or_else(|| stored_stays.get(&key)).copied().ok_or_else(|| hole(head))?;
                // A later stay is another owner's work, who has folded on: it is not this one that ends.
                if stay.joined_seq < entry.seq {
                    stays.insert(key, Stay { left_seq: Some(entry.seq), ..stay });
                }
            }
            let summary = self.summaries.get_mut(&entry.chat).ok_or_else(|| hole(head))?;
            summary.head = entry.seq;
            summary.ordinal = entry.ordinal;
            summary.activity = entry.time;
            // Rows may be newer than the fold: an erased edit is of a message that is deleted further on.
            if let Event::MessageSent(Message { body, version, .. }) = &entry.event {
                let (seq, sender, time) = (entry.seq, entry.sender, entry.time);
                let none = Preview { seq, sender, time, length: 0, body: Bytes::new(), deleted: false };
                summary.preview = Some(none.with((!version.is_deleted()).then_some(body)));
            } else if let Event::MessageEdited(Edit { seq, body, erased, .. }) = &entry.event {
                summary.change(*seq, (!erased).then_some(body));
            } else if let Event::MessageDeleted { seq } = &entry.event {
                summary.change(*seq, None);
            }
        }
        let summary = |chat: ChatId| self.summaries.get(&chat).map(|summary| (chat, summary.clone()));
        Ok(Projected {
            stays: stays.into_iter().map(|((user, chat), stay)| (user, chat, stay)).collect(),
            summaries: changed.into_iter().filter_map(summary).collect(),
            names: names.into_iter().collect(),
            policies: facts.policies.into_iter().collect(),
            pins: facts.pins.into_iter().collect(),
            reactions: reactions.latest.into_iter().collect(),
            deleted: reactions.deleted,
            watermarks: marks.into_iter().map(|((chat, user), mark)| (chat, user, mark)).collect(),
            events: batch.events,
            statuses: batch.statuses,
        })
    }
}

/// Folds rows of one chat, whatever partition and record they came by.
pub(super) fn fold_chat(
    chat: ChatId,
    summary: Option<Summary>,
    stays: &BTreeMap<(UserId, ChatId), Stay>,
    entries: Vec<Entry>,
) -> Result<Projected, FoldError> {
    let mut fold = Fold::new(1);
    // Also where no row is new: of a summary that is handed in, one is handed out.
    let unchanged = summary.clone();
    fold.summaries.extend(summary.map(|summary| (chat, summary)));
    let mut projected = fold.fold(Batch { entries, ..Batch::default() }, stays)?;
    if projected.summaries.is_empty() {
        projected.summaries.extend(unchanged.map(|summary| (chat, summary)));
    }
    Ok(projected)
}

impl Batch {
    fn read_events(&mut self, raw: Raw, epoch: Epoch) -> Result<(), FoldError> {
        let sequence = raw.sequence;
        if sequence != self.events + 1 {
            return Err(FoldError::OutOfOrder { expected: self.events + 1, found: sequence });
        }
        let record = EventBatch::decode(raw.payload).map_err(|source| FoldError::Record { sequence, source })?;
        if record.schema > SCHEMA {
            return Err(FoldError::Schema { sequence, schema: record.schema });
        }
        if record.epoch != epoch.0 {
            return Err(FoldError::Epoch { sequence });
        }
        for bytes in record.entries {
            let logged = LoggedEntry::decode(bytes).map_err(|source| FoldError::Entry { sequence, source })?;
            self.entries.push(logged.entry);
        }
        self.events = sequence;
        Ok(())
    }

    fn read_statuses(&mut self, raw: &Raw, epoch: Epoch, actions: &mut Vec<Action>) -> Result<(), FoldError> {
        let sequence = raw.sequence;
        if sequence <= self.statuses {
            return Ok(());
        }
        self.statuses = sequence;
        let Ok(record) = StatusBatch::decode(raw.payload.clone()) else {
            // Harmless: clients assert again what is not echoed.
            actions.push(Action::StatusesSkipped);
            return Ok(());
        };
        if record.schema > SCHEMA {
            return Err(FoldError::Schema { sequence, schema: record.schema });
        }
        if record.epoch != epoch.0 {
            actions.push(Action::StatusesSkipped);
            return Ok(());
        }
        for status in record.statuses {
            let (Ok(chat), Ok(user)) = (ChatId::try_from(&status.chat[..]), UserId::try_from(&status.user[..])) else {
                actions.push(Action::StatusesSkipped);
                continue;
            };
            let said = Watermark { delivered: status.delivered, seen: status.seen, seen_ordinal: status.seen_ordinal };
            let mark = self.marks.entry((chat, user)).or_default();
            *mark = mark.merge(said);
        }
        Ok(())
    }
}
