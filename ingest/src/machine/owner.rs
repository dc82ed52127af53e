//! The owner: folds commands in the order of the log and lets nothing out before it stands.

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;
use domain::{
    Chat, ChatId, CommandPosition, Decision, Epoch, EventPosition, LoggedEntry, Micros, Outcome, PartitionPosition,
    Rules, Seq, Target, WriterId, limits,
};
use prost::Message as _;
use proto::log::EventBatch;

use super::appended::Appended;
use super::batch::Batch;
use super::chats::Chats;
use super::{Action, Asked, CommandRecord, Halt, HandedRecord, Input, Item, Plan, TailRecord};

/// What a record holds beside entries: header, positions, message id.
const RECORD_OVERHEAD_BYTES: usize = 4 * 1024;
/// Loads in flight; enough to keep a store busy, few enough to bound memory.
const LOADS_MAX: usize = 256;
/// How many commands ahead of the fold keep their chats in memory.
const AHEAD: usize = 1_024;
/// Rows that are read together, for commands that follow one that waits for a row.
const TARGETS_TOGETHER: usize = 64;

/// Bounds of an owner.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Chats in memory, in bytes.
    pub chats_bytes_max: usize,
    /// Commands that were read and wait; beyond it the shell reads no more.
    pub waiting_max: usize,
    /// The same in bytes of their records.
    pub waiting_bytes_max: usize,
    /// Commands of one batch.
    pub batch_max: usize,
    /// Batches published and not yet appended; beyond it nothing is decided.
    pub unappended_max: usize,
    /// Entries from one snapshot of a chat to the next.
    pub snapshot_entries: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            chats_bytes_max: 64 << 20,
            waiting_max: 16_384,
            waiting_bytes_max: 8 << 20,
            batch_max: 4_096,
            unappended_max: 64,
            snapshot_entries: 256,
        }
    }
}

/// A record that is read or handed over, and not wholly decided.
#[derive(Debug)]
struct Waiting {
    source: Source,
    items: Vec<Item>,
    bytes: usize,
    /// How many of its items are decided.
    decided: usize,
}

/// What a command cannot be decided without.
#[derive(Debug)]
enum Missing {
    Chat(ChatId),
    Target(ChatId, Seq),
}

#[derive(Debug)]
enum Source {
    Log { sequence: Seq, time_ns: i64, message_id: String },
    Gateway { ticket: u64, stamp: Micros },
}

impl Source {
    /// The time that its commands are decided with (M4).
    fn stamp(&self) -> Micros {
        match self {
            Self::Log { time_ns, .. } => u64::try_from(time_ns / 1_000).unwrap_or(0),
            Self::Gateway { stamp, .. } => *stamp,
        }
    }
}

/// A batch that is being published.
#[derive(Debug)]
struct Publishing {
    batch: Batch,
    payload: Bytes,
    number: u64,
    /// Waits for the next tick: the stream was full.
    held: bool,
}

/// The owner of one partition, for one tenure.
#[derive(Debug)]
pub struct Owner {
    rules: Rules,
    settings: Settings,
    epoch: Epoch,
    writer: WriterId,
    /// The stream's last sequence: what the next publish expects.
    expected: Seq,
    last_batch: u64,
    /// The last command decided.
    folded: CommandPosition,
    chats: Chats,
    loading: BTreeSet<ChatId>,
    load_again: BTreeSet<ChatId>,
    /// Rows that are being read. Their chats stay in memory, so none comes that is older than what is known (M1).
    loading_targets: BTreeSet<(ChatId, Seq)>,
    load_targets_again: BTreeSet<(ChatId, Seq)>,
    replay: VecDeque<TailRecord>,
    waiting: VecDeque<Waiting>,
    waiting_items: usize,
    waiting_bytes: usize,
    /// Chats of commands that came, to be read ahead.
    wanted: VecDeque<ChatId>,
    publishing: Option<Publishing>,
    /// Published, not yet handed to the store.
    unappended: VecDeque<(Batch, EventPosition)>,
    appending: Option<(Batch, EventPosition)>,
    append_again: bool,
    appended: Appended,
    trimmed: (Seq, Seq),
    stepped_down: bool,
}

impl Owner {
    /// The owner that goes on as planned; `writer` was drawn for this takeover (M3).
    pub fn new(plan: Plan, writer: WriterId, settings: Settings, rules: Rules) -> Self {
        let folded = plan.commands;
        Self {
            rules,
            settings,
            epoch: plan.epoch,
            writer,
            expected: plan.expected,
            last_batch: 0,
            folded,
            chats: Chats::new(settings.chats_bytes_max, rules),
            loading: BTreeSet::new(),
            load_again: BTreeSet::new(),
            loading_targets: BTreeSet::new(),
            load_targets_again: BTreeSet::new(),
            replay: plan.tail.into(),
            waiting: VecDeque::new(),
            waiting_items: 0,
            waiting_bytes: 0,
            wanted: VecDeque::new(),
            publishing: None,
            unappended: VecDeque::new(),
            appending: None,
            append_again: false,
            appended: Appended::new(plan.appended),
            trimmed: (0, 0),
            stepped_down: false,
        }
    }

    /// Whether the shell should read further commands.
    pub fn wants_commands(&self) -> bool {
        self.waiting_items.max(self.waiting.len()) < self.settings.waiting_max
            && self.waiting_bytes < self.settings.waiting_bytes_max
    }

    /// Whether a record may be handed over now: nothing of it would have to wait for the store.
    ///
    /// What waits is promised to nobody, and holds up its gateway; in COMMANDS-p it is.
    pub fn may_take(&self, record: &HandedRecord) -> bool {
        let held = self.publishing.as_ref().is_some_and(|publishing| publishing.held);
        let mut asked = record.items.iter().filter_map(|item| item.asked.as_ref().ok());
        self.wants_commands()
            && self.replay.is_empty()
            && self.unappended.len() < self.settings.unappended_max
            && !held
            && asked.all(|asked| self.chats.holds(asked.chat()) && self.missing_target(None, asked).is_none())
    }

    /// The writer's name for itself in fingerprints.
    pub const fn writer(&self) -> WriterId {
        self.writer
    }

    /// Takes in what happened and says what to do.
    pub fn handle(&mut self, input: Input, actions: &mut Vec<Action>) {
        if self.stepped_down {
            return;
        }
        match input {
            Input::Commands(records) => {
                for record in records {
                    let CommandRecord { sequence, time_ns, message_id, items, bytes } = record;
                    // The first one after a takeover may be folded in part.
                    let decided = if self.folded.sequence == sequence { self.folded.count as usize } else { 0 };
                    let decided = decided.min(items.len());
                    self.wait(Waiting { source: Source::Log { sequence, time_ns, message_id }, items, bytes, decided });
                }
            }
            Input::Handed(HandedRecord { ticket, stamp, items, bytes }) => {
                self.wait(Waiting { source: Source::Gateway { ticket, stamp }, items, bytes, decided: 0 });
            }
            Input::Loaded(id, chat) => {
                self.loading.remove(&id);
                self.chats.loaded(id, chat);
            }
            Input::LoadFailed(id) => {
                self.loading.remove(&id);
                self.load_again.insert(id);
            }
            Input::TargetLoaded(id, seq, target) => {
                self.loading_targets.remove(&(id, seq));
                self.chats.target_loaded(id, seq, target);
            }
            Input::TargetFailed(id, seq) => {
                self.loading_targets.remove(&(id, seq));
                self.load_targets_again.insert((id, seq));
            }
            Input::Published(sequence) => self.published(sequence, actions),
            // M3: the same bytes with the same expectation; without the rule it is taken for landed.
            Input::PublishInDoubt if self.rules.m3 => self.publish_again(actions),
            Input::PublishInDoubt => self.published(self.expected + 1, actions),
            Input::PublishFull => {
                if let Some(publishing) = &mut self.publishing {
                    publishing.held = true;
                }
            }
            Input::PublishRefused(tail) => self.refused(tail, actions),
            Input::Appended => self.appended(actions),
            Input::AppendFailed => self.append_again = true,
            Input::Synced { position, events_needed } => self.trim(&position, events_needed, actions),
            Input::Tick => self.tick(actions),
        }
        if !self.stepped_down {
            self.go_on(actions);
        }
    }

    fn wait(&mut self, record: Waiting) {
        self.waiting_items += record.items.len();
        self.waiting_bytes += record.bytes;
        let asked = record.items.iter().filter_map(|item| item.asked.as_ref().ok());
        self.wanted.extend(asked.map(Asked::chat).filter(|chat| !self.chats.holds(*chat)));
        self.waiting.push_back(record);
    }

    fn tick(&mut self, actions: &mut Vec<Action>) {
        for id in std::mem::take(&mut self.load_again) {
            self.load(id, actions);
        }
        for (id, seq) in std::mem::take(&mut self.load_targets_again) {
            self.load_target(id, seq, actions);
        }
        if self.publishing.as_ref().is_some_and(|publishing| publishing.held) {
            self.publish_again(actions);
        }
        if std::mem::take(&mut self.append_again)
            && let Some((batch, position)) = &self.appending
        {
            actions.push(append(self.epoch, batch, *position));
        }
        if self.is_quiet() && self.appended.is_unsaid_for_long() {
            self.publish(Batch { commands: self.folded.clone(), ..Batch::default() }, actions);
        }
    }

    /// Nothing waits and nothing is under way.
    fn is_quiet(&self) -> bool {
        let published = self.publishing.is_none() && self.unappended.is_empty() && self.appending.is_none();
        published && self.replay.is_empty() && self.waiting.is_empty()
    }

    fn go_on(&mut self, actions: &mut Vec<Action>) {
        self.replay(actions);
        if self.stepped_down {
            return;
        }
        if self.replay.is_empty() {
            self.load_ahead(actions);
            if self.publishing.is_none() && self.unappended.len() < self.settings.unappended_max {
                self.decide_batch(actions);
            }
        }
        self.append_next(actions);
    }

    /// Appends what another owner published, before anything new is decided.
    fn replay(&mut self, actions: &mut Vec<Action>) {
        while let Some(record) = self.replay.front() {
            let missing: BTreeSet<_> =
                record.entries.iter().map(|entry| entry.entry.chat).filter(|chat| !self.chats.holds(*chat)).collect();
            if !missing.is_empty() {
                for id in missing {
                    self.load(id, actions);
                }
                return;
            }
            let Some(record) = self.replay.pop_front() else { return };
            let has_entries = !record.entries.is_empty();
            let mut batch = Batch { commands: record.commands, has_entries, ..Batch::default() };
            for entry in record.entries {
                let head = self.chats.get(entry.entry.chat).map_or(0, Chat::head);
                if entry.entry.seq > head + 1 {
                    self.stepped_down = true;
                    actions.push(Action::Halt(Halt::Hole));
                    return;
                }
                self.fold(&mut batch, entry);
            }
            self.close(&mut batch);
            self.unappended.push_back((batch, record.position));
        }
    }

    /// Folds an entry unless the store had it already.
    fn fold(&mut self, batch: &mut Batch, entry: LoggedEntry) {
        let id = entry.entry.chat;
        let before = self.chats.get(id);
        if before.is_some_and(|chat| entry.entry.seq <= chat.head()) {
            if let Some((seq, target)) = Target::after(&entry.entry) {
                // The store has the row, and perhaps not yet what it makes of others.
                let by = entry.entry.seq;
                batch.add(before, entry);
                self.chats.target_changed(id, seq, target, by);
            }
            return;
        }
        let decoded = entry.entry.clone();
        batch.add(before, entry);
        match Chat::create(&decoded) {
            Some(chat) => self.chats.created(id, Box::new(chat)),
            None => self.chats.change(id, |chat| chat.apply(&decoded)),
        }
        if let Some((seq, target)) = Target::after(&decoded) {
            self.chats.target_changed(id, seq, target, decoded.seq);
        }
    }

    /// Pins what a batch changed until it is appended (M1), and takes snapshots that are due.
    fn close(&mut self, batch: &mut Batch) {
        for (id, rows) in &mut batch.chats {
            self.chats.pin(*id);
            let Some(first) = rows.rows.first() else { continue };
            let snapshot = self.chats.snapshot_due(*id, first.entry.seq, self.settings.snapshot_entries);
            rows.snapshot = snapshot.map(|snapshot| snapshot.encode_to_vec().into());
        }
    }

    fn load(&mut self, id: ChatId, actions: &mut Vec<Action>) {
        let known = self.chats.holds(id) || self.load_again.contains(&id);
        if !known && self.loading.len() < LOADS_MAX && self.loading.insert(id) {
            actions.push(Action::Load(id));
        }
    }

    fn load_target(&mut self, id: ChatId, seq: Seq, actions: &mut Vec<Action>) -> bool {
        let place = (id, seq);
        let has_room = self.loading.len() + self.loading_targets.len() < LOADS_MAX;
        let is_new = has_room && !self.load_targets_again.contains(&place) && self.loading_targets.insert(place);
        if is_new {
            actions.push(Action::LoadTarget(id, seq));
        }
        is_new
    }

    /// What stands at a seq of a chat in memory: by what became of it, else by what was said and is on its way.
    ///
    /// None: only the store knows, which has all entries that are not on their way.
    fn target(&self, forming: Option<&Batch>, chat: ChatId, seq: Seq) -> Option<Target> {
        let publishing = self.publishing.as_ref().map(|publishing| &publishing.batch);
        let unappended = self.unappended.iter().rev().map(|(batch, _)| batch);
        let appending = self.appending.as_ref().map(|(batch, _)| batch);
        let mut batches = forming.into_iter().chain(publishing).chain(unappended).chain(appending);
        self.chats.target(chat, seq).or_else(|| batches.find_map(|batch| batch.target(chat, seq)))
    }

    /// The row that must be read before this can be decided.
    fn missing_target(&self, forming: Option<&Batch>, asked: &Asked) -> Option<Seq> {
        let seq = asked.target(self.chats.get(asked.chat()))?;
        self.target(forming, asked.chat(), seq).is_none().then_some(seq)
    }

    /// Reads the row that the next command waits for, and at once those of the ones behind it.
    fn load_targets(&mut self, batch: &Batch, id: ChatId, seq: Seq, actions: &mut Vec<Action>) {
        if !self.load_target(id, seq, actions) {
            return;
        }
        let items = self.waiting.iter().flat_map(|record| &record.items).take(AHEAD);
        let asked = items.filter_map(|item| item.asked.as_ref().ok());
        let missing = asked.filter_map(|asked| Some((asked.chat(), self.missing_target(Some(batch), asked)?)));
        let missing: BTreeSet<_> = missing.take(TARGETS_TOGETHER).collect();
        for (id, seq) in missing {
            self.load_target(id, seq, actions);
        }
    }

    fn load_ahead(&mut self, actions: &mut Vec<Action>) {
        while self.loading.len() < LOADS_MAX
            && let Some(id) = self.wanted.pop_front()
        {
            self.load(id, actions);
        }
    }

    fn ahead(&self) -> impl Iterator<Item = ChatId> {
        let items = self.waiting.iter().flat_map(|record| &record.items).take(AHEAD);
        items.filter_map(|item| item.asked.as_ref().ok().map(Asked::chat))
    }

    /// Decides what waits, in order, as far as the chats are in memory and the record has room.
    fn decide_batch(&mut self, actions: &mut Vec<Action>) {
        let mut batch = Batch { commands: self.folded.clone(), ..Batch::default() };
        let (mut moved, mut missing) = (false, None);
        while let Some(mut record) = self.waiting.pop_front() {
            let (from, stamp) = (record.decided, record.source.stamp());
            while let Some(item) = record.items.get(record.decided)
                && self.has_room(&batch)
            {
                match self.decide_one(&mut batch, item, stamp) {
                    None => record.decided += 1,
                    Some(absent) => {
                        missing = Some(absent);
                        break;
                    }
                }
            }
            let finished = record.decided == record.items.len();
            let went_on = record.decided > from || finished;
            match &record.source {
                Source::Log { sequence, .. } if from == record.items.len() && *sequence <= self.folded.sequence => {}
                Source::Log { sequence, time_ns, message_id } if went_on => {
                    batch.commands = CommandPosition {
                        sequence: *sequence,
                        count: u32::try_from(record.decided).unwrap_or(u32::MAX),
                        time_ns: *time_ns,
                        message_id: message_id.clone(),
                    };
                    moved = true;
                }
                Source::Gateway { ticket, .. } => {
                    batch.tickets.extend(finished.then_some(*ticket));
                    moved |= went_on;
                }
                Source::Log { .. } => {}
            }
            if !finished {
                self.waiting.push_front(record);
                break;
            }
            self.waiting_items -= record.items.len();
            self.waiting_bytes -= record.bytes;
        }
        match missing {
            Some(Missing::Chat(id)) => self.load(id, actions),
            Some(Missing::Target(id, seq)) => self.load_targets(&batch, id, seq, actions),
            None => {}
        }
        if !moved {
            return;
        }
        self.folded = batch.commands.clone();
        self.close(&mut batch);
        // M2: also a batch without events, so that no answer is given by an owner that others have replaced.
        if !self.rules.m2 && batch.entries.is_empty() {
            answer(std::mem::take(&mut batch.answers), actions);
            taken(std::mem::take(&mut batch.tickets), actions);
            return;
        }
        self.publish(batch, actions);
    }

    fn has_room(&self, batch: &Batch) -> bool {
        let largest = limits::BODY_BYTES_MAX.max(limits::MEMBERS_MAX * 24) + 256;
        batch.decided < self.settings.batch_max
            && batch.bytes + largest + RECORD_OVERHEAD_BYTES <= limits::RECORD_BYTES_MAX
    }

    /// Decides one command, or says what must be read first.
    fn decide_one(&mut self, batch: &mut Batch, item: &Item, stamp: u64) -> Option<Missing> {
        let asked = match &item.asked {
            Ok(asked) => asked,
            Err(refused) => {
                let outcome = Outcome::Rejected { code: refused.code, head: 0 };
                let mut named = refused.named.clone();
                named.result = outcome.to_wire(ChatId::new([0; 16]), domain::Origin(0), 0).result;
                batch.answer(item.route, named);
                batch.decided += 1;
                return None;
            }
        };
        let chat = asked.chat();
        if !self.chats.holds(chat) {
            return Some(Missing::Chat(chat));
        }
        let known = self.chats.get(chat);
        let target = match asked.target(known) {
            Some(seq) => match self.target(Some(batch), chat, seq) {
                Some(target) => target,
                None => return Some(Missing::Target(chat, seq)),
            },
            None => Target::Missing,
        };
        let outcome = match asked.decide(known, target, stamp, &self.rules) {
            Decision::Append(entry) => {
                let outcome = Outcome::Stored { seq: entry.seq, time: entry.time };
                self.fold(batch, LoggedEntry::encode(entry));
                outcome
            }
            Decision::Repeat { seq, time } => Outcome::Stored { seq, time },
            Decision::Reject { code, head } => Outcome::Rejected { code, head },
        };
        batch.answer(item.route, asked.answered(outcome));
        batch.decided += 1;
        None
    }

    fn publish(&mut self, mut batch: Batch, actions: &mut Vec<Action>) {
        self.last_batch += 1;
        batch.has_entries = !batch.entries.is_empty();
        let commands = &batch.commands;
        let record = EventBatch {
            schema: limits::SCHEMA,
            epoch: self.epoch.0,
            writer: self.writer.0,
            batch: self.last_batch,
            commands_through: Some(proto::log::CommandPosition {
                sequence: commands.sequence,
                count: commands.count,
                time_ns: commands.time_ns,
                message_id: commands.message_id.clone(),
            }),
            entries: std::mem::take(&mut batch.entries),
            appended_through: self.appended.say(),
        };
        let payload = Bytes::from(record.encode_to_vec());
        actions.push(Action::Publish { payload: payload.clone(), expected: self.expected });
        self.publishing = Some(Publishing { batch, payload, number: self.last_batch, held: false });
    }

    fn publish_again(&mut self, actions: &mut Vec<Action>) {
        if let Some(publishing) = &mut self.publishing {
            publishing.held = false;
            actions.push(Action::Publish { payload: publishing.payload.clone(), expected: self.expected });
        }
    }

    fn published(&mut self, sequence: Seq, actions: &mut Vec<Action>) {
        if let Some(Publishing { mut batch, number, .. }) = self.publishing.take() {
            self.expected = sequence;
            // From here on an outcome follows (N1): whoever takes over appends what stands in the stream.
            taken(std::mem::take(&mut batch.tickets), actions);
            self.unappended.push_back((batch, EventPosition { sequence, writer: self.writer, batch: number }));
        }
    }

    /// M3: the tail says whether our batch landed before the answer was lost.
    fn refused(&mut self, tail: Option<(WriterId, u64, Seq)>, actions: &mut Vec<Action>) {
        let ours = self.publishing.as_ref().map(|publishing| (self.writer, publishing.number));
        match tail {
            Some((writer, batch, sequence)) if self.rules.m3 && ours == Some((writer, batch)) => {
                self.published(sequence, actions);
            }
            Some(_) | None => {
                self.stepped_down = true;
                actions.push(Action::StepDown);
            }
        }
    }

    /// One append at a time; what was published meanwhile goes in one.
    fn append_next(&mut self, actions: &mut Vec<Action>) {
        if self.appending.is_some() {
            return;
        }
        let Some((mut batch, mut position)) = self.unappended.pop_front() else { return };
        while let Some((later, at)) = self.unappended.pop_front() {
            // Each batch pinned its chats; a joined one unpins them once.
            for id in later.chats.keys().filter(|id| batch.chats.contains_key(id)) {
                self.chats.unpin(*id);
            }
            batch.join(later);
            position = at;
        }
        actions.push(append(self.epoch, &batch, position));
        self.appending = Some((batch, position));
    }

    fn appended(&mut self, actions: &mut Vec<Action>) {
        let Some((batch, position)) = self.appending.take() else { return };
        self.appended.through(position.sequence, batch.has_entries);
        for (id, rows) in &batch.chats {
            self.chats.unpin(*id);
            self.chats.appended(*id, rows.rows.last().map_or(0, |row| row.entry.seq));
        }
        answer(batch.answers, actions);
        if !self.chats.is_full() {
            return;
        }
        let ahead: BTreeSet<_> = self.ahead().collect();
        let replayed: BTreeSet<_> =
            self.replay.iter().flat_map(|record| &record.entries).map(|entry| entry.entry.chat).collect();
        let read: BTreeSet<_> = self.loading_targets.iter().map(|(chat, _)| *chat).collect();
        self.chats.evict(|id| ahead.contains(&id) || replayed.contains(&id) || read.contains(&id));
    }

    /// M9: below what is appended and on disk, and what every required reader has; the last of each stays.
    fn trim(&mut self, synced: &PartitionPosition, events_needed: Seq, actions: &mut Vec<Action>) {
        if synced.epoch != self.epoch {
            return;
        }
        let below = if self.rules.m9 {
            (synced.commands.sequence, synced.events.sequence.min(events_needed))
        } else {
            (self.folded.sequence + 1, self.expected + 1)
        };
        if below.0 > self.trimmed.0 || below.1 > self.trimmed.1 {
            self.trimmed = below;
            actions.push(Action::Trim { commands_below: below.0, events_below: below.1 });
        }
    }
}

fn append(epoch: Epoch, batch: &Batch, events: EventPosition) -> Action {
    Action::Append {
        position: PartitionPosition { epoch, commands: batch.commands.clone(), events },
        chats: batch.chats.values().cloned().collect(),
    }
}

fn taken(tickets: Vec<u64>, actions: &mut Vec<Action>) {
    if !tickets.is_empty() {
        actions.push(Action::Taken(tickets));
    }
}

fn answer(
    answers: std::collections::BTreeMap<domain::GatewayId, Vec<proto::relay::Answer>>,
    actions: &mut Vec<Action>,
) {
    actions.extend(answers.into_iter().map(|(gateway, answers)| Action::Answer(gateway, answers)));
}
