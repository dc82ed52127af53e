//! Merges what the chats say by seq: pushes, history answers and heads, into each chat's unbroken run.
//!
//! An entry is shown once and in order. What arrives beyond a gap is held, within a bound, while history fills the
//! gap. A partition is caught up when it is ready, its heads are current and every chat of it is known to its head.

mod fetch;
mod io;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use proto::v1::{self, entry};

use super::{Micros, Receipts};
use crate::{ChatId, Rules, UserId};
pub use io::{Entry, Progress, TimelineAction, TimelineBounds, TimelineInput};

/// Seqs and hashes of the last entries of a chat that are kept to find the common head of two epochs (M7).
const RECENT: usize = 32;

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Fetch {
    #[default]
    Idle,
    Queued,
    Asked {
        request: u64,
        after: u64,
        /// The chat's target when it was asked.
        target: u64,
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
    /// The session goes on, and not all that it was pushed has come yet.
    replaying: bool,
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
    /// A timeline that goes on from `progress`.
    pub fn new(rules: Rules, bounds: TimelineBounds, progress: Progress) -> Self {
        let chats =
            progress.known.into_iter().map(|(chat, known)| (chat, Chat { known, target: known, ..Chat::default() }));
        let partitions = (progress.epochs.into_iter())
            .map(|(p, epoch)| (p, Partition { epoch: Some(epoch), ..Partition::default() }));
        Self {
            rules,
            bounds,
            me: None,
            open: false,
            replaying: false,
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
    pub fn progress(&self) -> Progress {
        Progress {
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
            TimelineInput::Opened(me) => {
                self.me = Some(me);
                for partition in self.partitions.values_mut() {
                    (partition.ready, partition.current) = (false, false);
                }
                self.opened(now);
            }
            TimelineInput::Reopened => {
                self.replaying = true;
                self.opened(now);
            }
            TimelineInput::Replayed => {
                self.replaying = false;
                for partition in self.partitions.keys().copied().collect::<Vec<_>>() {
                    self.judge(partition, actions);
                }
            }
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

    fn opened(&mut self, now: Micros) {
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
        self.replaying = false;
        for partition in self.partitions.values_mut() {
            partition.caught_up = false;
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
        let Some(state) = self.partitions.get_mut(&partition).filter(|_| self.open && !self.replaying) else { return };
        if state.ready && state.current && state.behind.is_empty() && !state.caught_up {
            state.caught_up = true;
            actions.push(TimelineAction::CaughtUp { partition, epoch: state.epoch.unwrap_or_default() });
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
}

fn weight(entry: &Entry) -> usize {
    256 + entry.body().map_or(0, Bytes::len)
}

#[cfg(test)]
mod tests;
