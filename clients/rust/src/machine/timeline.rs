//! Merges what the chats say by seq: pushes, history answers and heads, into each chat's unbroken run.
//!
//! An entry is shown once and in order. What arrives beyond a gap is held, within a bound, while history fills the
//! gap. A partition is caught up when it is ready, its heads are current and every chat of it is known to its head.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use prost::Message;
use proto::v1::{self, ErrorCode, entry};
use xxhash_rust::xxh3::xxh3_64;

use super::{Micros, Receipts, back_off};
use crate::{ChatId, Rules, UserId};

/// Seqs and hashes of the last entries of a chat that are kept to find the common head of two epochs (M7).
const RECENT: usize = 32;

/// What a timeline may hold, and how long it waits.
#[derive(Clone, Copy, Debug)]
pub struct TimelineBounds {
    /// Most entries held beyond gaps; further ones are left to history.
    pub held: usize,
    /// Most bytes of them.
    pub held_bytes: usize,
    /// Most history requests under way.
    pub fetches: usize,
    /// Time without an answer after which history is asked again.
    pub fetch_us: Micros,
    /// First wait after a refusal; doubles from there.
    pub rest_us: Micros,
    /// Longest such wait.
    pub longest_us: Micros,
    /// Whether what arrives is claimed as received on its own.
    pub receipts: bool,
}

impl Default for TimelineBounds {
    fn default() -> Self {
        Self {
            held: 1_024,
            held_bytes: 1 << 20,
            fetches: 4,
            fetch_us: 10_000_000,
            rest_us: 50_000,
            longest_us: 10_000_000,
            receipts: true,
        }
    }
}

/// Where a client left off, to go on from after a restart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resume {
    /// Known without a hole up to this seq.
    pub known: BTreeMap<ChatId, u64>,
    /// The epoch of each partition.
    pub epochs: BTreeMap<u32, u64>,
}

/// One entry of a chat with the hash of its bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The chat.
    pub chat: ChatId,
    /// xxh3-64 of the encoded entry.
    pub hash: u64,
    /// The entry.
    pub entry: v1::Entry,
}

impl Entry {
    /// Hashes an entry; none if its chat id is not one.
    pub fn new(entry: v1::Entry) -> Option<Self> {
        let chat = ChatId::from_wire(&entry.chat)?;
        let hash = xxh3_64(&entry.encode_to_vec());
        Some(Self { chat, hash, entry })
    }

    /// The body, if this is a message.
    pub fn body(&self) -> Option<&Bytes> {
        match &self.entry.event {
            Some(entry::Event::MessageSent(message)) => Some(&message.body),
            Some(
                entry::Event::ChatCreated(_)
                | entry::Event::MemberAdded(_)
                | entry::Event::MemberRemoved(_)
                | entry::Event::MemberLeft(_),
            )
            | None => None,
        }
    }
}

/// What happens to a timeline.
#[derive(Clone, Debug)]
pub enum TimelineInput {
    /// A socket is signed in as this user.
    Opened(UserId),
    /// The socket is gone.
    Closed,
    /// Time has passed; see [`Timeline::deadline`].
    Tick,
    /// A partition's owner knows this session.
    Ready(v1::Ready),
    /// The user's chats of a partition, or a part of them.
    Heads(v1::Heads),
    /// An entry was pushed.
    Pushed {
        /// The epoch of its partition.
        epoch: u64,
        /// The entry.
        entry: Entry,
    },
    /// History answered a request.
    History {
        /// The request.
        request: u64,
        /// The answer but for its entries.
        epoch: u64,
        /// No entry at or below is missing.
        through: u64,
        /// Ascending.
        entries: Vec<Entry>,
    },
    /// History refused a request.
    Refused {
        /// The request.
        request: u64,
        /// Why.
        code: ErrorCode,
        /// Whether to ask again.
        retryable: bool,
        /// Not before this time has passed.
        retry_after_us: Micros,
    },
    /// The chat is to be known at least through `head`.
    Want {
        /// The chat.
        chat: ChatId,
        /// How far.
        head: u64,
    },
    /// The user read the chat up to here.
    Seen {
        /// The chat.
        chat: ChatId,
        /// How far.
        through: u64,
    },
    /// Everything up to here reached this device; needed only where receipts are not automatic.
    Received {
        /// The chat.
        chat: ChatId,
        /// How far.
        through: u64,
    },
    /// The server's table says how far this user got.
    Echo {
        /// The chat.
        chat: ChatId,
        /// Received up to here.
        delivered: u64,
        /// Read up to here.
        seen: u64,
    },
}

/// What a timeline wants done.
#[derive(Clone, Debug)]
pub enum TimelineAction {
    /// Show this entry: the next of its chat, or one that replaces what another epoch said.
    Show {
        /// The entry.
        entry: Entry,
        /// It takes the place of one shown before (M7).
        replaces: bool,
    },
    /// Ask history.
    Fetch {
        /// Names the request.
        request: u64,
        /// The chat.
        chat: ChatId,
        /// Entries above this seq.
        after: u64,
        /// Wait until the chat is stored through this seq.
        at_least: u64,
    },
    /// The chat is known without a hole through `seq`.
    Known {
        /// The chat.
        chat: ChatId,
        /// How far.
        seq: u64,
    },
    /// The chat's history is refused for good.
    Unreadable {
        /// The chat.
        chat: ChatId,
        /// Why.
        code: ErrorCode,
    },
    /// Report how far this device got.
    Report {
        /// The chat.
        chat: ChatId,
        /// Received up to here.
        received: Option<u64>,
        /// Read up to here.
        seen: Option<u64>,
    },
    /// All that the partition's chats hold is shown, and what comes will be pushed.
    CaughtUp {
        /// The partition.
        partition: u32,
        /// Its epoch.
        epoch: u64,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Fetch {
    #[default]
    Idle,
    Queued,
    Asked {
        request: u64,
        after: u64,
        again: Micros,
    },
    Resting(Micros),
}

#[derive(Debug, Default)]
struct Chat {
    known: u64,
    // The highest seq that is said to exist.
    target: u64,
    held: BTreeMap<u64, Entry>,
    fetch: Fetch,
    refusals: u32,
    recent: VecDeque<(u64, u64)>,
    // Shown before under another epoch up to here.
    replaced_to: u64,
    // Ask on until an answer brings nothing new: the head of this epoch is not known.
    probe: bool,
    receipts: Receipts,
    report_at: Option<Micros>,
}

impl Chat {
    const fn is_behind(&self) -> bool {
        self.known < self.target || self.probe
    }
}

#[derive(Debug, Default)]
struct Partition {
    epoch: Option<u64>,
    ready: bool,
    current: bool,
    caught_up: bool,
    behind: BTreeSet<ChatId>,
}

/// All chats of one user as this device knows them.
#[derive(Debug)]
pub struct Timeline {
    rules: Rules,
    bounds: TimelineBounds,
    me: Option<UserId>,
    open: bool,
    chats: BTreeMap<ChatId, Chat>,
    partitions: BTreeMap<u32, Partition>,
    held: usize,
    held_bytes: usize,
    next_request: u64,
    asked: BTreeMap<u64, ChatId>,
    queue: VecDeque<ChatId>,
    fetch_timers: BTreeSet<(Micros, ChatId)>,
    report_timers: BTreeSet<(Micros, ChatId)>,
}

impl Timeline {
    /// A timeline that goes on from `resume`.
    pub fn new(rules: Rules, bounds: TimelineBounds, resume: Resume) -> Self {
        let chats =
            resume.known.into_iter().map(|(chat, known)| (chat, Chat { known, target: known, ..Chat::default() }));
        let partitions =
            (resume.epochs.into_iter()).map(|(p, epoch)| (p, Partition { epoch: Some(epoch), ..Partition::default() }));
        Self {
            rules,
            bounds,
            me: None,
            open: false,
            chats: chats.collect(),
            partitions: partitions.collect(),
            held: 0,
            held_bytes: 0,
            next_request: 1,
            asked: BTreeMap::new(),
            queue: VecDeque::new(),
            fetch_timers: BTreeSet::new(),
            report_timers: BTreeSet::new(),
        }
    }

    /// Where this timeline stands, to go on from after a restart.
    pub fn resume(&self) -> Resume {
        Resume {
            known: self.chats.iter().map(|(chat, state)| (*chat, state.known)).collect(),
            epochs: self.partitions.iter().filter_map(|(p, state)| Some((*p, state.epoch?))).collect(),
        }
    }

    /// The seq up to which the chat is known without a hole.
    pub fn known(&self, chat: ChatId) -> u64 {
        self.chats.get(&chat).map_or(0, |chat| chat.known)
    }

    /// The highest seq that the chat is said to have: what a new command is based on (M14).
    pub fn head(&self, chat: ChatId) -> u64 {
        self.chats.get(&chat).map_or(0, |chat| chat.known.max(chat.target))
    }

    /// Whether the partition is caught up on this socket.
    pub fn is_caught_up(&self, partition: u32) -> bool {
        self.partitions.get(&partition).is_some_and(|partition| partition.caught_up)
    }

    /// When [`TimelineInput::Tick`] is due at the latest.
    pub fn deadline(&self) -> Option<Micros> {
        if !self.open {
            return None;
        }
        let first = |timers: &BTreeSet<(Micros, ChatId)>| timers.first().map(|(at, _)| *at);
        first(&self.fetch_timers).into_iter().chain(first(&self.report_timers)).min()
    }

    /// Takes one input; appends what is to be done.
    pub fn handle(&mut self, now: Micros, input: TimelineInput, actions: &mut Vec<TimelineAction>) {
        match input {
            TimelineInput::Opened(me) => self.opened(now, me),
            TimelineInput::Closed => self.closed(),
            TimelineInput::Tick => {}
            TimelineInput::Ready(ready) => self.ready(now, &ready),
            TimelineInput::Heads(heads) => self.heads(now, &heads, actions),
            TimelineInput::Pushed { epoch, entry } => self.pushed(now, epoch, entry, actions),
            TimelineInput::History { request, epoch, through, entries } => {
                self.history(now, request, epoch, through, entries, actions);
            }
            TimelineInput::Refused { request, code, retryable, retry_after_us } => {
                self.refused(now, request, code, retryable, retry_after_us, actions);
            }
            TimelineInput::Want { chat, head } => {
                let state = self.chats.entry(chat).or_default();
                state.target = state.target.max(head);
                if state.known >= head {
                    actions.push(TimelineAction::Known { chat, seq: state.known });
                }
                self.follow(now, chat, actions);
            }
            TimelineInput::Seen { chat, through } => {
                self.chats.entry(chat).or_default().receipts.seen(through);
                self.schedule_report(now, chat);
            }
            TimelineInput::Received { chat, through } => {
                self.chats.entry(chat).or_default().receipts.received(through);
                self.schedule_report(now, chat);
            }
            TimelineInput::Echo { chat, delivered, seen } => {
                self.chats.entry(chat).or_default().receipts.echoed(delivered, seen);
                self.schedule_report(now, chat);
            }
        }
        self.run_timers(now, actions);
    }

    fn opened(&mut self, now: Micros, me: UserId) {
        self.me = Some(me);
        self.open = true;
        for (chat, state) in &mut self.chats {
            state.receipts.reopened();
            state.report_at = state.receipts.due(now, self.rules.m20);
            self.report_timers.extend(state.report_at.map(|at| (at, *chat)));
            if state.is_behind() {
                state.fetch = Fetch::Queued;
                self.queue.push_back(*chat);
            }
        }
    }

    fn closed(&mut self) {
        self.open = false;
        self.asked.clear();
        self.queue.clear();
        self.fetch_timers.clear();
        self.report_timers.clear();
        for chat in self.chats.values_mut() {
            chat.fetch = Fetch::Idle;
            chat.refusals = 0;
            chat.report_at = None;
        }
        for partition in self.partitions.values_mut() {
            (partition.ready, partition.current, partition.caught_up) = (false, false, false);
        }
    }

    fn ready(&mut self, now: Micros, ready: &v1::Ready) {
        if !self.enter(now, ready.partition, ready.epoch) {
            return;
        }
        // A second ready is a resync (M19): caught up again only with heads at its `as_of`.
        let partition = self.partitions.entry(ready.partition).or_default();
        (partition.ready, partition.current, partition.caught_up) = (true, false, false);
    }

    /// Whether the epoch is the partition's, or a later one, which then becomes it.
    fn enter(&mut self, now: Micros, partition: u32, epoch: u64) -> bool {
        let state = self.partitions.entry(partition).or_default();
        match state.epoch {
            Some(known) if epoch < known && self.rules.m7 => return false,
            Some(known) if epoch == known => return true,
            None => {
                state.epoch = Some(epoch);
                return true;
            }
            Some(_) => state.epoch = Some(epoch),
        }
        if !self.rules.m7 {
            return true;
        }
        // M7: what was pushed under the old epoch may be gone or other: go back to where both can be compared.
        (state.ready, state.current, state.caught_up) = (false, false, false);
        let chats: Vec<_> = self.chats.keys().filter(|chat| chat.partition() == partition).copied().collect();
        for chat in chats {
            self.go_back(now, chat, None);
        }
        true
    }

    fn go_back(&mut self, now: Micros, chat: ChatId, to: Option<u64>) {
        let Some(state) = self.chats.get_mut(&chat) else { return };
        state.replaced_to = state.replaced_to.max(state.known);
        let common = to.unwrap_or_else(|| state.recent.front().map_or(0, |(seq, _)| seq - 1));
        state.known = state.known.min(common);
        state.target = state.known;
        state.probe = true;
        let held = std::mem::take(&mut state.held);
        self.held -= held.len();
        self.held_bytes -= held.values().map(weight).sum::<usize>();
        self.rest(chat, now);
    }

    fn heads(&mut self, now: Micros, heads: &v1::Heads, actions: &mut Vec<TimelineAction>) {
        for head in &heads.heads {
            let Some(chat) = ChatId::from_wire(&head.chat) else { continue };
            let state = self.chats.entry(chat).or_default();
            state.target = state.target.max(head.head);
            state.receipts.echoed(head.delivered, head.seen);
            self.schedule_report(now, chat);
            self.follow(now, chat, actions);
        }
        let partition = self.partitions.entry(heads.partition).or_default();
        // Only a list that is not older than the ready says that nothing is missing.
        if heads.last && heads.current && partition.ready {
            partition.current = true;
        }
        self.judge(heads.partition, actions);
    }

    fn pushed(&mut self, now: Micros, epoch: u64, entry: Entry, actions: &mut Vec<TimelineAction>) {
        let chat = entry.chat;
        if !self.enter(now, chat.partition(), epoch) {
            return;
        }
        self.arrived(chat, entry, actions);
        self.follow(now, chat, actions);
    }

    /// Shows an entry that is next, holds one beyond a gap, drops one that is known.
    fn arrived(&mut self, chat: ChatId, entry: Entry, actions: &mut Vec<TimelineAction>) {
        let seq = entry.entry.seq;
        let state = self.chats.entry(chat).or_default();
        state.target = state.target.max(seq);
        if seq <= state.known {
            return;
        }
        if seq > state.known + 1 {
            let weight = weight(&entry);
            // At the bound it is dropped: history brings it, for `target` names it.
            if self.held < self.bounds.held
                && self.held_bytes + weight <= self.bounds.held_bytes
                && !state.held.contains_key(&seq)
            {
                state.held.insert(seq, entry);
                self.held += 1;
                self.held_bytes += weight;
            }
            return;
        }
        self.show(chat, entry, actions);
        self.drain(chat, actions);
    }

    fn drain(&mut self, chat: ChatId, actions: &mut Vec<TimelineAction>) {
        loop {
            let Some(state) = self.chats.get_mut(&chat) else { return };
            let Some(seq) = state.held.first_key_value().map(|(seq, _)| *seq) else { return };
            if seq > state.known + 1 {
                return;
            }
            let Some((_, entry)) = state.held.pop_first() else { return };
            let fits = seq == state.known + 1;
            self.held -= 1;
            self.held_bytes -= weight(&entry);
            if fits {
                self.show(chat, entry, actions);
            }
        }
    }

    fn show(&mut self, chat: ChatId, entry: Entry, actions: &mut Vec<TimelineAction>) {
        let Some(state) = self.chats.get_mut(&chat) else { return };
        let seq = entry.entry.seq;
        state.known = state.known.max(seq);
        if seq <= state.replaced_to {
            let before = state.recent.iter().find(|(recent, _)| *recent == seq).map(|(_, hash)| *hash);
            if before == Some(entry.hash) {
                return;
            }
            state.recent.retain(|(recent, _)| *recent < seq);
        }
        state.recent.push_back((seq, entry.hash));
        if state.recent.len() > RECENT {
            state.recent.pop_front();
        }
        match &entry.entry.event {
            Some(entry::Event::MemberRemoved(removed)) if UserId::from_wire(&removed.user) == self.me => {
                state.receipts.over();
            }
            Some(entry::Event::MemberLeft(_)) if UserId::from_wire(&entry.entry.sender) == self.me => {
                state.receipts.over();
            }
            Some(entry::Event::MemberAdded(added))
                if added.member.as_ref().and_then(|member| UserId::from_wire(&member.user)) == self.me =>
            {
                state.receipts.resumed();
            }
            Some(_) | None => {}
        }
        let replaces = seq <= state.replaced_to;
        actions.push(TimelineAction::Show { entry, replaces });
    }

    fn history(
        &mut self,
        now: Micros,
        request: u64,
        epoch: u64,
        through: u64,
        entries: Vec<Entry>,
        actions: &mut Vec<TimelineAction>,
    ) {
        let Some(chat) = self.asked.remove(&request) else { return };
        if !self.enter(now, chat.partition(), epoch) {
            self.rest(chat, now + self.bounds.rest_us);
            return;
        }
        let Some(state) = self.chats.get_mut(&chat) else { return };
        let Fetch::Asked { request: asked, after, again } = state.fetch else { return };
        if asked != request {
            return;
        }
        self.fetch_timers.remove(&(again, chat));
        state.fetch = Fetch::Idle;
        if state.known < after {
            self.follow(now, chat, actions);
            return;
        }
        // M22: whole through `through`, entries or not; what an answer shows above may have holes below.
        let through = if self.rules.m22 { through } else { entries.last().map_or(after, |entry| entry.entry.seq) };
        // M7: the oldest entry kept differs already: the common head lies further down than can be compared.
        let oldest = state.recent.front().copied();
        let differs = state.probe
            && oldest.is_some_and(|(seq, hash)| {
                seq > 1 && entries.iter().any(|entry| entry.entry.seq == seq && entry.hash != hash)
            });
        if differs && after > 0 {
            state.recent.clear();
            self.go_back(now, chat, Some(0));
            return;
        }
        let moved = through > after;
        let known = state.known;
        for entry in entries {
            let seq = entry.entry.seq;
            if seq > through {
                self.arrived(chat, entry, actions);
            } else if seq > self.known(chat) {
                self.show(chat, entry, actions);
            }
        }
        let Some(state) = self.chats.get_mut(&chat) else { return };
        state.known = state.known.max(through);
        state.target = state.target.max(state.known);
        if !moved {
            state.probe = false;
        }
        self.drain(chat, actions);
        let Some(state) = self.chats.get_mut(&chat) else { return };
        if moved || state.known > known {
            state.refusals = 0;
        } else if state.is_behind() {
            state.refusals += 1;
            let wait = back_off(self.bounds.rest_us * 2, state.refusals, self.bounds.longest_us, now);
            self.rest(chat, now + wait);
        }
        self.follow(now, chat, actions);
    }

    fn refused(
        &mut self,
        now: Micros,
        request: u64,
        code: ErrorCode,
        retryable: bool,
        retry_after_us: Micros,
        actions: &mut Vec<TimelineAction>,
    ) {
        let Some(chat) = self.asked.remove(&request) else { return };
        let Some(state) = self.chats.get_mut(&chat) else { return };
        let Fetch::Asked { request: asked, again, .. } = state.fetch else { return };
        if asked != request {
            return;
        }
        self.fetch_timers.remove(&(again, chat));
        state.fetch = Fetch::Idle;
        if retryable {
            let wait = back_off(self.bounds.rest_us * 2, state.refusals, self.bounds.longest_us, now ^ request);
            state.refusals += 1;
            self.rest(chat, now + wait.max(retry_after_us));
        } else {
            // Not for this user, or gone: there is nothing to wait for.
            state.target = state.known;
            state.probe = false;
            state.receipts.over();
            let held = std::mem::take(&mut state.held);
            self.held -= held.len();
            self.held_bytes -= held.values().map(weight).sum::<usize>();
            actions.push(TimelineAction::Unreadable { chat, code });
            self.follow(now, chat, actions);
        }
    }

    /// After a chat moved: says so, asks on if it is behind, and judges its partition.
    fn follow(&mut self, now: Micros, chat: ChatId, actions: &mut Vec<TimelineAction>) {
        let Some(state) = self.chats.get_mut(&chat) else { return };
        let behind = state.is_behind();
        if behind && state.fetch == Fetch::Idle && self.open {
            state.fetch = Fetch::Queued;
            self.queue.push_back(chat);
        }
        let known = state.known;
        if self.bounds.receipts && known > 0 {
            state.receipts.received(known);
        }
        let partition = self.partitions.entry(chat.partition()).or_default();
        if behind {
            partition.behind.insert(chat);
        } else {
            partition.behind.remove(&chat);
        }
        actions.push(TimelineAction::Known { chat, seq: known });
        self.schedule_report(now, chat);
        self.judge(chat.partition(), actions);
    }

    fn judge(&mut self, partition: u32, actions: &mut Vec<TimelineAction>) {
        let Some(state) = self.partitions.get_mut(&partition) else { return };
        if state.ready && state.current && state.behind.is_empty() && !state.caught_up {
            state.caught_up = true;
            actions.push(TimelineAction::CaughtUp { partition, epoch: state.epoch.unwrap_or_default() });
        }
    }

    /// Asks again at `until`, not before.
    fn rest(&mut self, chat: ChatId, until: Micros) {
        let Some(state) = self.chats.get_mut(&chat) else { return };
        if let Fetch::Asked { again, request, .. } = state.fetch {
            self.fetch_timers.remove(&(again, chat));
            self.asked.remove(&request);
        } else if let Fetch::Resting(at) = state.fetch {
            self.fetch_timers.remove(&(at, chat));
        } else if state.fetch == Fetch::Queued {
            return;
        }
        state.fetch = Fetch::Resting(until);
        self.fetch_timers.insert((until, chat));
        if state.is_behind() {
            self.partitions.entry(chat.partition()).or_default().behind.insert(chat);
        }
    }

    fn schedule_report(&mut self, now: Micros, chat: ChatId) {
        if !self.open {
            return;
        }
        let Some(state) = self.chats.get_mut(&chat) else { return };
        let at = state.receipts.due(now, self.rules.m20);
        if at != state.report_at {
            self.report_timers.extend(at.map(|at| (at, chat)));
            if let Some(before) = std::mem::replace(&mut state.report_at, at) {
                self.report_timers.remove(&(before, chat));
            }
        }
    }

    fn run_timers(&mut self, now: Micros, actions: &mut Vec<TimelineAction>) {
        if !self.open {
            return;
        }
        while let Some((at, chat)) = self.fetch_timers.first().copied()
            && at <= now
        {
            self.fetch_timers.pop_first();
            let Some(state) = self.chats.get_mut(&chat) else { continue };
            if let Fetch::Asked { request, .. } = state.fetch {
                self.asked.remove(&request);
            }
            state.fetch = Fetch::Idle;
            if state.is_behind() {
                state.fetch = Fetch::Queued;
                self.queue.push_back(chat);
            }
        }
        while self.asked.len() < self.bounds.fetches
            && let Some(chat) = self.queue.pop_front()
        {
            self.ask(now, chat, actions);
        }
        while let Some((at, chat)) = self.report_timers.first().copied()
            && at <= now
        {
            self.report_timers.pop_first();
            let Some(state) = self.chats.get_mut(&chat) else { continue };
            state.report_at = None;
            let (received, seen) = state.receipts.report(now);
            if received.is_some() || seen.is_some() {
                actions.push(TimelineAction::Report { chat, received, seen });
            }
            self.schedule_report(now + 1, chat);
        }
    }

    fn ask(&mut self, now: Micros, chat: ChatId, actions: &mut Vec<TimelineAction>) {
        let Some(state) = self.chats.get_mut(&chat) else { return };
        state.fetch = Fetch::Idle;
        if !state.is_behind() {
            return;
        }
        let request = self.next_request;
        self.next_request += 1;
        let again = now + self.bounds.fetch_us;
        let after = state.known;
        // Through the entry beyond the gap, not just up to it: it may be the one that let this user in, and a push can
        // be faster than its row. What is asked for too early would be refused for good.
        let beyond = state.held.first_key_value().map(|(seq, _)| *seq);
        let at_least = if state.probe { 0 } else { beyond.unwrap_or(state.target) };
        state.fetch = Fetch::Asked { request, after, again };
        self.asked.insert(request, chat);
        self.fetch_timers.insert((again, chat));
        actions.push(TimelineAction::Fetch { request, chat, after, at_least });
    }
}

fn weight(entry: &Entry) -> usize {
    256 + entry.body().map_or(0, Bytes::len)
}

#[cfg(test)]
#[path = "timeline_tests.rs"]
mod tests;
