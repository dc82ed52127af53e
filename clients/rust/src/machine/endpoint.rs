//! One signed-in device as a machine: server frames in, client frames and events out.
//!
//! Joins the outbox and the timeline: own entries settle sends, what is known feeds the recovery of an origin.
//! The handshake up to `welcome` and the socket are the shell's.

use proto::v1::{self, client_frame, command, entry, server_frame};

use super::outbox::{Action, Bounds, Draft, Full, Identity, Input, Kept, Outbox, SendId, Settlement, Sighting};
use super::timeline::{Entry, Progress, Timeline, TimelineAction, TimelineBounds, TimelineInput};
use super::{Micros, mixed};
use crate::{ChatId, Rules, UserId};

/// Bit of a frame id that names a timeline's own history request.
const FETCH: u64 = 1 << 63;
/// Bit of a frame id that names a caller's history request.
const READ: u64 = 1 << 62;

/// How an entry came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Source {
    /// Pushed.
    Push,
    /// In a history answer.
    History,
}

/// What a client saw, in the order in which it saw it.
#[derive(Clone, Debug)]
pub enum Event {
    /// Signed in on a new socket.
    Connected {
        /// The session.
        session: u64,
        /// Who the server says this is.
        user: UserId,
        /// How many partitions new chats are spread over.
        partitions: u32,
        /// The session of before goes on: it misses nothing, and reads nothing again.
        resumed: bool,
    },
    /// The socket is gone; the code if the server gave one.
    Disconnected {
        /// The close code.
        code: Option<u16>,
    },
    /// A partition's owner knows this session.
    Ready(v1::Ready),
    /// The chats of a partition, or a part of them.
    Heads(v1::Heads),
    /// All of the partition is shown, and what comes will be pushed.
    CaughtUp {
        /// The partition.
        partition: u32,
        /// Its epoch.
        epoch: u64,
        /// Every partition is caught up.
        all: bool,
    },
    /// A command was given to the socket, first time or again.
    Sent {
        /// The command's id.
        id: SendId,
        /// The command as sent.
        command: v1::Command,
    },
    /// The server has the command in its log.
    Accepted {
        /// The command's id.
        id: SendId,
    },
    /// An outcome frame as it came; what it means for the send is in `Settled`.
    Answered {
        /// The command's id.
        id: SendId,
        /// The frame.
        outcome: v1::Outcome,
    },
    /// A command has its final answer.
    Settled {
        /// The command's id.
        id: SendId,
        /// What the server knows it by.
        identity: Identity,
        /// The answer.
        settlement: Settlement,
        /// It had been rejected before (M13).
        corrected: bool,
    },
    /// An entry as it came, duplicates and those beyond a gap too.
    Arrived {
        /// How.
        source: Source,
        /// The epoch of its partition.
        epoch: u64,
        /// The entry.
        entry: Entry,
    },
    /// The next entry of a chat, in order and once.
    Entry {
        /// The entry.
        entry: Entry,
        /// It takes the place of one shown before (M7).
        replaces: bool,
    },
    /// A history answer; its entries came as `Arrived` before it.
    History {
        /// The chat.
        chat: ChatId,
        /// Entries above this seq were asked for.
        after: u64,
        /// Nothing at or below is missing.
        through: u64,
        /// The entries' seqs.
        seqs: Vec<u64>,
    },
    /// How far somebody got in a chat.
    Watermark {
        /// The chat.
        chat: ChatId,
        /// Who.
        user: UserId,
        /// Received up to here.
        delivered: u64,
        /// Read up to here.
        seen: u64,
    },
    /// An error that no request names.
    Error(v1::Error),
    /// The server will close the socket: come back after the time.
    Closing {
        /// ms from now.
        reconnect_after_ms: u32,
    },
    /// No socket can be had; told once, until one is signed in again. The client keeps trying.
    Unreachable {
        /// Why, in words.
        error: String,
    },
    /// The server says not to come back; 0 if it spoke no WebSocket that we understand.
    Fatal {
        /// The close code.
        code: u16,
    },
}

impl Event {
    /// Whether only an observer sees it: what is raw is told again, in order and once.
    pub const fn is_raw(&self) -> bool {
        matches!(
            self,
            Self::Ready(_) | Self::Sent { .. } | Self::Answered { .. } | Self::Arrived { .. } | Self::History { .. }
        )
    }
}

/// What an endpoint wants done.
#[derive(Clone, Debug)]
pub enum EndpointAction {
    /// Give this frame to the socket.
    Transmit(v1::ClientFrame),
    /// Tell whoever listens.
    Tell(Event),
    /// The answer to [`Endpoint::read_history`].
    Answer(u64, Result<v1::History, v1::Error>),
}

/// One user's device.
#[derive(Debug)]
pub struct Endpoint {
    /// Sends until settled.
    pub outbox: Outbox,
    /// The chats.
    pub timeline: Timeline,
    me: Option<UserId>,
    partitions: u32,
    /// The session, and how many of its pushes arrived; more are to come before it is whole.
    session: Option<v1::Resume>,
    replayed_at: u64,
    seed: u64,
    draws: u64,
    next_read: u64,
    // (frame id, after) of requests under way.
    reads: std::collections::BTreeMap<u64, u64>,
    for_outbox: Vec<Action>,
    for_timeline: Vec<TimelineAction>,
}

impl Endpoint {
    /// A device that goes on from `progress` and, where there is one, from a kept outbox. `seed` are 64 random bits.
    pub fn new(
        rules: Rules,
        bounds: (Bounds, TimelineBounds),
        progress: Progress,
        kept: Option<Kept>,
        seed: u64,
    ) -> Self {
        let outbox = match kept {
            Some(kept) => Outbox::restore(rules, bounds.0, kept, mixed(seed)),
            None => Outbox::new(rules, bounds.0, mixed(seed)),
        };
        Self {
            outbox,
            timeline: Timeline::new(rules, bounds.1, progress),
            me: None,
            partitions: 0,
            session: None,
            replayed_at: 0,
            seed,
            draws: 1,
            next_read: 1,
            reads: std::collections::BTreeMap::new(),
            for_outbox: Vec::new(),
            for_timeline: Vec::new(),
        }
    }

    /// Who the server said this is, once it did.
    pub fn me(&self) -> Option<UserId> {
        self.me
    }

    /// How many partitions new chats are spread over; 0 before the first welcome.
    pub fn partitions(&self) -> u32 {
        self.partitions
    }

    /// When [`Endpoint::tick`] is due at the latest.
    pub fn deadline(&self) -> Option<Micros> {
        self.outbox.deadline().into_iter().chain(self.timeline.deadline()).min()
    }

    /// Takes a command; it is held until it settles.
    pub fn submit(
        &mut self,
        now: Micros,
        chat: ChatId,
        action: command::Action,
        actions: &mut Vec<EndpointAction>,
    ) -> Result<(SendId, Identity), Full> {
        let basis = self.timeline.head(chat);
        let submitted = self.outbox.submit(now, Draft { chat, basis, action }, &mut self.for_outbox);
        self.settle(now, actions);
        submitted
    }

    /// Asks for a page of history; answered by [`EndpointAction::Answer`] under the returned id.
    pub fn read_history(
        &mut self,
        chat: ChatId,
        after: u64,
        limit: u32,
        at_least: u64,
        actions: &mut Vec<EndpointAction>,
    ) -> u64 {
        let id = READ | self.next_read;
        self.next_read += 1;
        self.reads.insert(id, after);
        let read = v1::ReadHistory { chat: chat.to_wire(), after, limit, at_least };
        actions.push(transmit(id, client_frame::Frame::ReadHistory(read)));
        id
    }

    /// The user read the chat up to here.
    pub fn seen(&mut self, now: Micros, chat: ChatId, through: u64, actions: &mut Vec<EndpointAction>) {
        self.with_timeline(now, TimelineInput::Seen { chat, through }, actions);
    }

    /// Everything up to here reached the device; needed only where receipts are not automatic.
    pub fn received(&mut self, now: Micros, chat: ChatId, through: u64, actions: &mut Vec<EndpointAction>) {
        self.with_timeline(now, TimelineInput::Received { chat, through }, actions);
    }

    /// A socket is signed in.
    pub fn opened(&mut self, now: Micros, welcome: &v1::Welcome, actions: &mut Vec<EndpointAction>) {
        let user = UserId::from_wire(&welcome.user).unwrap_or_default();
        self.me = Some(user);
        self.partitions = welcome.partitions;
        let resumed = welcome.resumed.filter(|_| self.session.is_some_and(|own| own.session == welcome.session));
        let (session, partitions) = (welcome.session, welcome.partitions);
        let connected = Event::Connected { session, user, partitions, resumed: resumed.is_some() };
        actions.push(EndpointAction::Tell(connected));
        if let Some(v1::Resumed { pushes }) = resumed {
            self.replayed_at = pushes;
            self.timeline.handle(now, TimelineInput::Reopened, &mut self.for_timeline);
        } else {
            self.replayed_at = 0;
            self.session = Some(v1::Resume { session, pushes: 0 });
            self.timeline.handle(now, TimelineInput::Opened(user), &mut self.for_timeline);
        }
        self.look_for_replayed(now);
        self.outbox.handle(now, Input::Opened, &mut self.for_outbox);
        self.settle(now, actions);
    }

    /// What a new socket names to go on with the session; none before the first welcome.
    pub const fn resume(&self) -> Option<v1::Resume> {
        self.session
    }

    fn count_push(&mut self, now: Micros) {
        if let Some(session) = &mut self.session {
            session.pushes += 1;
        }
        self.look_for_replayed(now);
    }

    fn look_for_replayed(&mut self, now: Micros) {
        if self.session.is_some_and(|session| session.pushes == self.replayed_at) {
            self.timeline.handle(now, TimelineInput::Replayed, &mut self.for_timeline);
        }
    }

    /// The socket is gone. Reads under way will not be answered.
    pub fn closed(&mut self, now: Micros, code: Option<u16>, actions: &mut Vec<EndpointAction>) {
        self.reads.clear();
        self.timeline.handle(now, TimelineInput::Closed, &mut self.for_timeline);
        self.outbox.handle(now, Input::Closed, &mut self.for_outbox);
        actions.push(EndpointAction::Tell(Event::Disconnected { code }));
        self.settle(now, actions);
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Micros, actions: &mut Vec<EndpointAction>) {
        self.outbox.handle(now, Input::Tick, &mut self.for_outbox);
        self.with_timeline(now, TimelineInput::Tick, actions);
    }

    /// Takes one frame of a signed-in socket.
    pub fn frame(&mut self, now: Micros, frame: v1::ServerFrame, actions: &mut Vec<EndpointAction>) {
        let id = frame.id;
        let Some(frame) = frame.frame else { return };
        let is_push = matches!(
            frame,
            server_frame::Frame::Ready(_)
                | server_frame::Frame::Heads(_)
                | server_frame::Frame::Pushed(_)
                | server_frame::Frame::Watermark(_)
        );
        let mut tell = |event| actions.push(EndpointAction::Tell(event));
        match frame {
            server_frame::Frame::Accepted(v1::Accepted {}) => {
                self.outbox.handle(now, Input::Accepted(SendId(id)), &mut self.for_outbox);
            }
            server_frame::Frame::Outcome(outcome) => {
                tell(Event::Answered { id: SendId(id), outcome: outcome.clone() });
                self.outbox.handle(now, Input::Outcome(SendId(id), outcome), &mut self.for_outbox);
            }
            server_frame::Frame::History(history) => self.history(now, id, history, actions),
            server_frame::Frame::Error(error) => self.error(now, id, error, actions),
            server_frame::Frame::Ready(ready) => {
                tell(Event::Ready(ready));
                self.timeline.handle(now, TimelineInput::Ready(ready), &mut self.for_timeline);
            }
            server_frame::Frame::Heads(heads) => {
                tell(Event::Heads(heads.clone()));
                self.timeline.handle(now, TimelineInput::Heads(heads), &mut self.for_timeline);
            }
            server_frame::Frame::Pushed(v1::Pushed { epoch, entry }) => {
                if let Some(entry) = entry.and_then(Entry::new) {
                    tell(Event::Arrived { source: Source::Push, epoch, entry: entry.clone() });
                    self.sight(now, &entry);
                    self.timeline.handle(now, TimelineInput::Pushed { epoch, entry }, &mut self.for_timeline);
                }
            }
            server_frame::Frame::Watermark(mark) => {
                if let (Some(chat), Some(user)) = (ChatId::from_wire(&mark.chat), UserId::from_wire(&mark.user)) {
                    let v1::Watermark { delivered, seen, .. } = mark;
                    tell(Event::Watermark { chat, user, delivered, seen });
                    if self.me == Some(user) {
                        let echo = TimelineInput::Echo { chat, delivered, seen };
                        self.timeline.handle(now, echo, &mut self.for_timeline);
                    }
                }
            }
            server_frame::Frame::Closing(v1::Closing { reconnect_after_ms }) => {
                tell(Event::Closing { reconnect_after_ms });
            }
            // The sign-in is over, and tokens are the link's.
            server_frame::Frame::Hello(_) | server_frame::Frame::Welcome(_) | server_frame::Frame::Renewed(_) => {}
        }
        if is_push {
            self.count_push(now);
        }
        self.settle(now, actions);
    }

    fn history(&mut self, now: Micros, id: u64, history: v1::History, actions: &mut Vec<EndpointAction>) {
        let Some(chat) = ChatId::from_wire(&history.chat) else { return };
        let Some(after) = self.reads.remove(&id) else { return };
        let entries: Vec<_> = history.entries.iter().cloned().filter_map(Entry::new).collect();
        let (epoch, through) = (history.epoch, history.through);
        for entry in &entries {
            let arrived = Event::Arrived { source: Source::History, epoch, entry: entry.clone() };
            actions.push(EndpointAction::Tell(arrived));
            self.sight(now, entry);
        }
        let seqs = entries.iter().map(|entry| entry.entry.seq).collect();
        actions.push(EndpointAction::Tell(Event::History { chat, after, through, seqs }));
        if id & FETCH != 0 {
            let input = TimelineInput::History { request: id & !FETCH, epoch, through, entries };
            self.timeline.handle(now, input, &mut self.for_timeline);
        } else {
            actions.push(EndpointAction::Answer(id, Ok(history)));
        }
    }

    fn error(&mut self, now: Micros, id: u64, error: v1::Error, actions: &mut Vec<EndpointAction>) {
        let retry_after_us = u64::from(error.retry_after_ms) * 1_000;
        let (code, retryable) = (error.code(), error.retryable);
        if id == 0 {
            actions.push(EndpointAction::Tell(Event::Error(error)));
        } else if id & FETCH != 0 {
            self.reads.remove(&id);
            let refused = TimelineInput::Refused { request: id & !FETCH, code, retryable, retry_after_us };
            self.timeline.handle(now, refused, &mut self.for_timeline);
        } else if id & READ != 0 {
            if self.reads.remove(&id).is_some() {
                actions.push(EndpointAction::Answer(id, Err(error)));
            }
        } else {
            let refused = Input::Refused { id: SendId(id), code, retryable, retry_after_us };
            self.outbox.handle(now, refused, &mut self.for_outbox);
        }
    }

    /// Shows the outbox an own entry as soon as it arrives: what was pushed is final (N5).
    fn sight(&mut self, now: Micros, entry: &Entry) {
        if self.me.is_none() || UserId::from_wire(&entry.entry.sender) != self.me {
            return;
        }
        let created = matches!(entry.entry.event, Some(entry::Event::ChatCreated(_)));
        let v1::Entry { seq, time_us, origin, n, .. } = entry.entry;
        let (origin, n) = if created { (0, 0) } else { (origin, n) };
        let seen = Sighting { chat: entry.chat, seq, time_us, origin, n };
        self.outbox.handle(now, Input::Seen(seen), &mut self.for_outbox);
    }

    fn with_timeline(&mut self, now: Micros, input: TimelineInput, actions: &mut Vec<EndpointAction>) {
        self.timeline.handle(now, input, &mut self.for_timeline);
        self.settle(now, actions);
    }

    /// Carries out what both machines want until neither wants more.
    fn settle(&mut self, now: Micros, actions: &mut Vec<EndpointAction>) {
        while !self.for_outbox.is_empty() || !self.for_timeline.is_empty() {
            for action in std::mem::take(&mut self.for_timeline) {
                self.act_for_timeline(now, action, actions);
            }
            for action in std::mem::take(&mut self.for_outbox) {
                self.act_for_outbox(now, action, actions);
            }
        }
    }

    fn act_for_timeline(&mut self, now: Micros, action: TimelineAction, actions: &mut Vec<EndpointAction>) {
        match action {
            TimelineAction::Show { entry, replaces } => {
                actions.push(EndpointAction::Tell(Event::Entry { entry, replaces }));
            }
            TimelineAction::Fetch { request, chat, after, at_least } => {
                let id = FETCH | request;
                self.reads.insert(id, after);
                let read = v1::ReadHistory { chat: chat.to_wire(), after, limit: 0, at_least };
                actions.push(transmit(id, client_frame::Frame::ReadHistory(read)));
            }
            TimelineAction::Known { chat, seq } => {
                self.draws += 1;
                let fresh = mixed(self.seed ^ mixed(self.draws));
                let read = Input::Read { chat, through: seq, fresh };
                self.outbox.handle(now, read, &mut self.for_outbox);
            }
            TimelineAction::Unreadable { chat, code } => {
                self.outbox.handle(now, Input::Unreadable { chat, code }, &mut self.for_outbox);
            }
            TimelineAction::Report { chat, received, seen } => {
                let chat = chat.to_wire();
                if let Some(through) = received {
                    let received = v1::Received { chat: chat.clone(), through };
                    actions.push(transmit(0, client_frame::Frame::Received(received)));
                }
                if let Some(through) = seen {
                    actions.push(transmit(0, client_frame::Frame::Seen(v1::Seen { chat, through })));
                }
            }
            TimelineAction::CaughtUp { partition, epoch } => {
                let all = (0..self.partitions).all(|partition| self.timeline.is_caught_up(partition));
                actions.push(EndpointAction::Tell(Event::CaughtUp { partition, epoch, all }));
            }
        }
    }

    fn act_for_outbox(&mut self, now: Micros, action: Action, actions: &mut Vec<EndpointAction>) {
        let mut tell = |event| actions.push(EndpointAction::Tell(event));
        match action {
            Action::Send(id, command) => {
                tell(Event::Sent { id, command: command.clone() });
                actions.push(transmit(id.0, client_frame::Frame::Command(command)));
            }
            Action::Read { chat, head } => {
                let want = TimelineInput::Want { chat, head };
                self.timeline.handle(now, want, &mut self.for_timeline);
            }
            Action::Accepted(id) => tell(Event::Accepted { id }),
            Action::Settled(id, identity, settlement) => {
                // Its push is on the way and moves the timeline; asking history now would double the load.
                tell(Event::Settled { id, identity, settlement, corrected: false });
            }
            Action::Corrected(id, identity, settlement) => {
                tell(Event::Settled { id, identity, settlement, corrected: true });
            }
        }
    }
}

/// A request with an id, or a receipt with none.
fn transmit(id: u64, frame: client_frame::Frame) -> EndpointAction {
    EndpointAction::Transmit(v1::ClientFrame { id, frame: Some(frame) })
}
