//! One client's observer, and what it has seen.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use checker::{Answer, Chat, ClientRecorder, Content, Hash, Observation, Policy, SeenEntry, SendKey, User, Via};
use client::machine::{Entry, Progress, Source};
use client::{ChatId, Event, Observer, SendId, Settlement, UserId};
use proto::v1::{self, command, entry, outcome};

/// One client's observer.
#[derive(Debug)]
pub struct Eyes {
    recorder: ClientRecorder,
    birth: Instant,
    born_at_us: u64,
    seen: Mutex<Seen>,
}

/// What tests wait for.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Every partition is caught up on the live socket.
    pub caught_up: bool,
    /// The program has ended, and no later one signed in.
    pub ended: bool,
    /// How often a socket was signed in.
    pub connections: u32,
    /// Close codes of lost sockets; none where the server gave none.
    pub losses: Vec<Option<u16>>,
    /// Commands that the server said to have.
    pub accepted: BTreeSet<SendId>,
    /// The latest settlement of each command.
    pub settled: BTreeMap<SendId, Settlement>,
    /// Outcome frames of each command, as they came.
    pub answers: BTreeMap<SendId, Vec<v1::Outcome>>,
    /// Entries that were pushed.
    pub pushed: usize,
    /// (delivered, seen) of each chat and user, merged.
    pub marks: BTreeMap<(ChatId, UserId), (u64, u64)>,
    /// Chats of which the user was shown something.
    shown: BTreeSet<ChatId>,
    /// Under which identities each command was sent.
    keys: BTreeMap<SendId, SendKey>,
}

impl Eyes {
    /// Sees for this client from now on.
    pub fn new(recorder: ClientRecorder) -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let born_at_us = u64::try_from(since.as_micros()).unwrap_or_default();
        Self { recorder, birth: Instant::now(), born_at_us, seen: Mutex::default() }
    }

    /// The device's program has ended; a later one may go on from here.
    pub fn ended(&self) {
        let mut seen = self.seen();
        (seen.ended, seen.caught_up) = (true, false);
        self.saw(Observation::Disconnected);
    }

    /// The device's program goes on from here.
    pub fn resumed(&self, progress: &Progress) {
        let shown = self.seen().shown.clone();
        // A chat that is not in it begins anew.
        for chat in progress.known.keys().chain(&shown).copied().collect::<BTreeSet<_>>() {
            let through = progress.known.get(&chat).copied().unwrap_or_default();
            let epoch = progress.epochs.get(&chat.partition()).copied().unwrap_or_default();
            self.saw(Observation::Resumed { chat: chat_of(chat), through, epoch });
        }
    }

    /// What there is to wait for.
    pub fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The highest seq that the client was told some command of its own is stored at.
    pub fn highest_stored(&self, chat: ChatId) -> u64 {
        let seen = self.seen();
        let seqs = seen.settled.values().filter_map(|settlement| match settlement {
            Settlement::Stored { chat: of, seq, .. } if *of == chat => Some(*seq),
            Settlement::Stored { .. } | Settlement::Rejected { .. } => None,
        });
        seqs.max().unwrap_or_default()
    }

    fn saw(&self, observation: Observation) {
        self.recorder.saw(observation);
    }

    fn outcome(&self, asked: Option<SendKey>, outcome: &v1::Outcome) {
        let (Some(asked), Some(result), Some(chat)) = (asked, &outcome.result, ChatId::from_wire(&outcome.chat)) else {
            return;
        };
        // A late answer names the identity that it is about, which may be an earlier one of the same command.
        let send = if asked.is_creation() { asked } else { SendKey { origin: outcome.origin, n: outcome.n, ..asked } };
        let answer = match result {
            outcome::Result::Stored(stored) => {
                Answer::Stored { chat: chat_of(chat), seq: stored.seq, time: stored.time_us }
            }
            outcome::Result::Rejected(rejected) => {
                Answer::Rejected { code: u32::try_from(rejected.code).unwrap_or_default() }
            }
        };
        self.saw(Observation::Outcome { send, answer });
    }
}

impl Observer for Eyes {
    fn observe(&self, event: &Event) {
        let mut seen = self.seen();
        match event {
            Event::Connected { .. } => {
                seen.connections += 1;
                seen.ended = false;
                self.saw(Observation::Connected);
            }
            Event::Disconnected { code } => {
                seen.caught_up = false;
                seen.losses.push(*code);
                self.saw(Observation::Disconnected);
            }
            Event::Ready(ready) => {
                self.saw(Observation::Ready { partition: partition(ready.partition), epoch: ready.epoch });
            }
            Event::Heads(heads) => {
                for head in &heads.heads {
                    if let Some(chat) = ChatId::from_wire(&head.chat) {
                        self.saw(Observation::HeadTold { chat: chat_of(chat), head: head.head });
                    }
                }
            }
            Event::CaughtUp { partition: number, all, .. } => {
                seen.caught_up = *all;
                self.saw(Observation::CaughtUp { partition: partition(*number) });
            }
            Event::Sent { id, command } => {
                let Some((key, content)) = key_of(command) else { return };
                seen.keys.insert(*id, key);
                let at = self.born_at_us + u64::try_from(self.birth.elapsed().as_micros()).unwrap_or_default();
                self.saw(Observation::Sent { send: key, content, at });
            }
            Event::Accepted { id } => {
                seen.accepted.insert(*id);
                if let Some(send) = seen.keys.get(id).copied() {
                    self.saw(Observation::Accepted { send });
                }
            }
            Event::Answered { id, outcome } => {
                self.outcome(seen.keys.get(id).copied(), outcome);
                seen.answers.entry(*id).or_default().push(outcome.clone());
            }
            Event::Settled { id, settlement, .. } => {
                seen.settled.insert(*id, *settlement);
            }
            Event::Arrived { source, epoch, entry } => {
                let via = match source {
                    Source::Push => Via::Push,
                    Source::History => Via::History,
                };
                seen.pushed += usize::from(via == Via::Push);
                if let Some(entry) = seen_entry(entry) {
                    self.saw(Observation::Entry { via, epoch: *epoch, entry });
                }
            }
            Event::History { chat, after, through, seqs } => self.saw(Observation::HistoryAnswer {
                chat: chat_of(*chat),
                after: *after,
                through: *through,
                seqs: seqs.clone(),
            }),
            Event::Watermark { chat, user, delivered, seen: read } => {
                let mark = seen.marks.entry((*chat, *user)).or_default();
                // Every reader merges by maximum (N8): a tick goes out before it is stored, and a new owner of the
                // partition knows less.
                *mark = (mark.0.max(*delivered), mark.1.max(*read));
                let (chat, user) = (chat_of(*chat), user_of(*user));
                self.saw(Observation::Watermark { chat, user, delivered: *delivered, seen: *read });
            }
            Event::Entry { entry, replaces } => {
                let (chat, seq) = (chat_of(entry.chat), entry.entry.seq);
                seen.shown.insert(entry.chat);
                self.saw(Observation::Shown { chat, seq, replaces: *replaces });
            }
            Event::Error(_) | Event::Closing { .. } | Event::Unreachable { .. } | Event::Fatal { .. } => {}
        }
    }
}

/// As the checker names it.
pub fn chat_of(chat: ChatId) -> Chat {
    Chat::from(chat.0)
}

/// As the checker names it.
pub fn user_of(user: UserId) -> User {
    User::from(user.0)
}

/// An entry as the checker compares it; none if its sender is no user.
pub fn seen_entry(from: &Entry) -> Option<SeenEntry> {
    let user = |bytes: &[u8]| UserId::from_wire(bytes).map(user_of);
    let v1::Entry { seq, ordinal, sender, origin, n, time_us, event, .. } = &from.entry;
    let event = event.as_ref()?;
    let (mut content, mut changed) = (None, None);
    let what = match event {
        entry::Event::ChatCreated(created) => {
            let members = created.members.iter().filter_map(|member| Some((user(&member.user)?, member.role)));
            Content::ChatCreated { kind: created.kind, members: members.collect() }
        }
        entry::Event::MemberAdded(added) => {
            let member = added.member.as_ref()?;
            Content::MemberAdded { user: user(&member.user)?, role: member.role }
        }
        entry::Event::MemberRemoved(removed) => Content::MemberRemoved { user: user(&removed.user)? },
        entry::Event::MemberLeft(_) => Content::MemberLeft,
        entry::Event::RoleSet(set) => Content::RoleSet { user: user(&set.user)?, role: set.role },
        entry::Event::ChatRenamed(_) => Content::ChatRenamed,
        entry::Event::OwnershipTransferred(transferred) => {
            Content::OwnershipTransferred { user: user(&transferred.user)? }
        }
        entry::Event::MessageSent(message) if message.edited_seq > 0 => {
            (changed, content) = (Some(message.edited_seq), Some(Hash::of(&message.body)));
            Content::Message
        }
        entry::Event::MessageSent(message) => {
            changed = (message.deleted_seq > 0).then_some(message.deleted_seq);
            content = Some(content_of(message));
            Content::Message
        }
        entry::Event::MessageEdited(edited) => {
            changed = edited.erased.then_some(0);
            content = Some(Hash::of(&edited.body));
            Content::Edited { seq: edited.seq }
        }
        entry::Event::MessageDeleted(deleted) => Content::Deleted { seq: deleted.seq },
        entry::Event::MessageReacted(reacted) => Content::Reacted { seq: reacted.seq },
        entry::Event::ChatPolicySet(set) => Content::PolicySet {
            policy: policy(set.policy.unwrap_or_default()),
            change: policy(set.change.unwrap_or_default()),
        },
        entry::Event::MessagePinned(pinned) => {
            Content::Pinned { seq: pinned.seq, unpinned: pinned.unpinned, pins: pinned.pins.clone() }
        }
        entry::Event::ImportBegun(begun) => Content::ImportBegun { kind: begun.kind },
        entry::Event::ImportEnded(ended) => {
            let members = ended.members.iter().filter_map(|member| Some((user(&member.user)?, member.role)));
            Content::ImportEnded { members: members.collect() }
        }
    };
    Some(SeenEntry {
        chat: chat_of(from.chat),
        seq: *seq,
        ordinal: *ordinal,
        sender: user(sender)?,
        origin: *origin,
        n: *n,
        time: *time_us,
        hash: Hash(from.hash.into()),
        content: content.unwrap_or_else(|| Hash::of(format!("{event:?}").as_bytes())),
        changed,
        event: what,
    })
}

fn policy(from: v1::ChatPolicy) -> Policy {
    Policy { members_add: from.members_add, slow_mode_s: from.slow_mode_s }
}

/// What is compared of a message: its body where it refers to nothing, as the checker's users name it, else all of it.
pub fn content_of(message: &v1::MessageSent) -> Hash {
    let v1::MessageSent { body, reply_to, mentions, mention_all, .. } = message;
    if *reply_to == 0 && mentions.is_empty() && !mention_all {
        return Hash::of(body);
    }
    Hash::of(format!("{body:?} {reply_to} {mentions:?} {mention_all}").as_bytes())
}

/// The message that a granted send becomes.
pub fn asked_as(send: &v1::SendMessage) -> v1::MessageSent {
    let v1::SendMessage { body, reply_to, mentions, mention_all } = send.clone();
    v1::MessageSent { body, reply_to, mentions, mention_all, ..v1::MessageSent::default() }
}

/// What the checker knows a command by; its content where it stands unchanged in the entry.
fn key_of(command: &v1::Command) -> Option<(SendKey, Option<Hash>)> {
    let chat = chat_of(ChatId::from_wire(&command.chat)?);
    match command.action.as_ref()? {
        command::Action::CreateChat(_) => Some((SendKey { chat, origin: 0, n: 0 }, None)),
        command::Action::SendMessage(message) => {
            let key = SendKey { chat, origin: command.origin, n: command.n };
            Some((key, Some(content_of(&asked_as(message)))))
        }
        command::Action::EditMessage(edit) => {
            Some((SendKey { chat, origin: command.origin, n: command.n }, Some(Hash::of(&edit.body))))
        }
        command::Action::AddMember(_)
        | command::Action::RemoveMember(_)
        | command::Action::LeaveChat(_)
        | command::Action::SetRole(_)
        | command::Action::RenameChat(_)
        | command::Action::TransferOwnership(_)
        | command::Action::DeleteMessage(_)
        | command::Action::React(_)
        | command::Action::SetChatPolicy(_)
        | command::Action::PinMessage(_) => Some((SendKey { chat, origin: command.origin, n: command.n }, None)),
    }
}

fn partition(number: u32) -> u16 {
    u16::try_from(number).unwrap_or(u16::MAX)
}
