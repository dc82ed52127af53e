//! Turns what a device's endpoint tells into the checker's observations.
//!
//! Every frame is noted as it came; watermarks are also merged by maximum, as every reader does (N8).

use std::collections::{BTreeMap, BTreeSet};

use checker::{Answer, Chat, ClientRecorder, Hash, Observation, SendKey, User, Via};
use client::machine::{Progress, Source};
use client::{ChatId, Event, SendId, Settlement};
use domain::Micros;
use proto::v1::{self, command, outcome};
use witness::{asked_as, content_of, seen_entry};

/// One device's record.
#[derive(Debug)]
pub(crate) struct Eyes {
    recorder: ClientRecorder,
    keys: BTreeMap<SendId, SendKey>,
    copies: Vec<SendKey>,
    marks: BTreeMap<(Chat, User), (u64, u64)>,
    /// Chats of which the user was shown something.
    shown: BTreeSet<Chat>,
    /// How often each command was sent, in all its copies.
    pub(crate) sent: BTreeMap<SendKey, u64>,
    /// What the device believes of each identity that it used.
    pub(crate) believed: BTreeMap<SendKey, Settlement>,
    /// What the server said to have, under the identity that the command travels under now. One that is given up for
    /// another (M14) needs no answer of its own, so this is recorded once the command is settled.
    accepted: BTreeMap<SendId, SendKey>,
    caught_up: bool,
}

impl Eyes {
    pub(crate) const fn new(recorder: ClientRecorder) -> Self {
        Self {
            recorder,
            keys: BTreeMap::new(),
            copies: Vec::new(),
            marks: BTreeMap::new(),
            shown: BTreeSet::new(),
            sent: BTreeMap::new(),
            believed: BTreeMap::new(),
            accepted: BTreeMap::new(),
            caught_up: false,
        }
    }

    fn saw(&self, observation: Observation) {
        self.recorder.saw(observation);
    }

    /// The device's program goes on from here.
    pub(crate) fn resumed(&self, progress: &Progress) {
        let epoch = progress.epochs.get(&0).copied().unwrap_or_default();
        let known: BTreeMap<_, _> = progress.known.iter().map(|(chat, known)| (Chat::from(chat.0), *known)).collect();
        // A chat that is not in it begins anew.
        for chat in known.keys().chain(&self.shown).copied().collect::<BTreeSet<_>>() {
            let through = known.get(&chat).copied().unwrap_or_default();
            self.saw(Observation::Resumed { chat, through, epoch });
        }
    }

    /// The run is over; what was accepted has to be answered, unless the partition had to stop.
    pub(crate) fn end(&self, stopped: bool) {
        for send in self.accepted.values() {
            self.saw(Observation::Accepted { send: *send });
        }
        if stopped {
            self.saw(Observation::Stopped);
        }
    }

    pub(crate) fn observe(&mut self, now: Micros, event: &Event) {
        match event {
            Event::Connected { .. } => self.saw(Observation::Connected),
            Event::Disconnected { .. } => {
                self.caught_up = false;
                self.saw(Observation::Disconnected);
            }
            Event::Ready(ready) => {
                self.saw(Observation::Ready { partition: 0, epoch: ready.epoch });
                if std::mem::take(&mut self.caught_up) {
                    self.saw(Observation::FellBehind { partition: 0 });
                }
            }
            Event::Heads(heads) => {
                for head in &heads.heads {
                    if let Some(chat) = ChatId::from_wire(&head.chat) {
                        self.saw(Observation::HeadTold { chat: Chat::from(chat.0), head: head.head });
                    }
                }
            }
            Event::CaughtUp { .. } => {
                self.caught_up = true;
                self.saw(Observation::CaughtUp { partition: 0 });
            }
            Event::Sent { id, command } => {
                if let Some((key, content)) = key_of(command) {
                    if self.keys.insert(*id, key).is_some_and(|before| before != key) {
                        self.accepted.remove(id);
                    }
                    *self.sent.entry(key).or_default() += 1;
                    self.saw(Observation::Sent { send: key, content, at: now });
                }
            }
            Event::Accepted { id } => {
                if let Some(send) = self.keys.get(id).copied() {
                    self.accepted.insert(*id, send);
                }
            }
            Event::Answered { id, outcome } => self.answered(self.keys.get(id).copied(), outcome),
            Event::Settled { id, settlement, .. } => {
                if let Some(key) = self.keys.get(id).copied() {
                    self.believed.insert(key, *settlement);
                }
            }
            Event::Arrived { source, epoch, entry } => {
                let via = match source {
                    Source::Push => Via::Push,
                    Source::History => Via::History,
                };
                if let Some(entry) = seen_entry(entry) {
                    self.saw(Observation::Entry { via, epoch: *epoch, entry });
                }
            }
            Event::History { chat, after, through, seqs } => self.saw(Observation::HistoryAnswer {
                chat: Chat::from(chat.0),
                after: *after,
                through: *through,
                seqs: seqs.clone(),
            }),
            Event::Watermark { chat, user, delivered, seen } => {
                let (chat, user) = (Chat::from(chat.0), User::from(user.0));
                let mark = self.marks.entry((chat, user)).or_default();
                *mark = (mark.0.max(*delivered), mark.1.max(*seen));
                self.saw(Observation::Watermark { chat, user, delivered: *delivered, seen: *seen });
            }
            Event::Entry { entry, replaces } => {
                let (chat, seq) = (Chat::from(entry.chat.0), entry.entry.seq);
                self.shown.insert(chat);
                self.saw(Observation::Shown { chat, seq, replaces: *replaces });
            }
            Event::Error(_) | Event::Closing { .. } | Event::Unreachable { .. } | Event::Fatal { .. } => {}
        }
    }

    /// How far this device was told that the user got.
    pub(crate) fn mark(&self, chat: Chat, user: User) -> (u64, u64) {
        self.marks.get(&(chat, user)).copied().unwrap_or_default()
    }

    fn answered(&self, asked: Option<SendKey>, outcome: &v1::Outcome) {
        let (Some(asked), Some(result), Some(chat)) = (asked, &outcome.result, ChatId::from_wire(&outcome.chat)) else {
            return;
        };
        // A late answer names the identity that it is about, which may be an earlier one of the same command.
        let send = if asked.is_creation() { asked } else { SendKey { origin: outcome.origin, n: outcome.n, ..asked } };
        let answer = match result {
            outcome::Result::Stored(stored) => {
                Answer::Stored { chat: Chat::from(chat.0), seq: stored.seq, time: stored.time_us }
            }
            outcome::Result::Rejected(rejected) => {
                Answer::Rejected { code: u32::try_from(rejected.code).unwrap_or_default() }
            }
        };
        self.saw(Observation::Outcome { send, answer });
    }

    /// Notes a copy beside the endpoint, and numbers it.
    pub(crate) fn copy_sent(&mut self, now: Micros, command: &v1::Command) -> u64 {
        if let Some((key, content)) = key_of(command) {
            *self.sent.entry(key).or_default() += 1;
            self.saw(Observation::Sent { send: key, content, at: now });
            self.copies.push(key);
        }
        self.copies.len() as u64
    }

    /// Notes the answer to a copy.
    pub(crate) fn copy_answered(&self, number: u64, frame: &v1::ServerFrame) {
        let key = usize::try_from(number).ok().and_then(|number| self.copies.get(number.checked_sub(1)?));
        if let Some(v1::server_frame::Frame::Outcome(outcome)) = &frame.frame {
            self.answered(key.copied(), outcome);
        }
    }
}

/// What the checker knows a command by; its content where it stands unchanged in the entry.
fn key_of(command: &v1::Command) -> Option<(SendKey, Option<Hash>)> {
    let chat = Chat::from(ChatId::from_wire(&command.chat)?.0);
    let key = SendKey { chat, origin: command.origin, n: command.n };
    match command.action.as_ref()? {
        command::Action::SendMessage(message) => Some((key, Some(content_of(&asked_as(message))))),
        command::Action::EditMessage(edit) => Some((key, Some(Hash::of(&edit.body)))),
        command::Action::CreateChat(_)
        | command::Action::AddMember(_)
        | command::Action::RemoveMember(_)
        | command::Action::LeaveChat(_)
        | command::Action::SetRole(_)
        | command::Action::RenameChat(_)
        | command::Action::TransferOwnership(_)
        | command::Action::DeleteMessage(_)
        | command::Action::React(_)
        | command::Action::SetChatPolicy(_)
        | command::Action::PinMessage(_) => Some((key, None)),
    }
}
