//! A batch on its way: what was decided, what is to be written, who is to be told.

use std::collections::BTreeMap;

use bytes::Bytes;
use domain::{Chat, ChatId, CommandPosition, Entry, Event, GatewayId, LoggedEntry, Role, Seq, Target, UserId};
use proto::relay::Answer;

use super::Route;

/// One stay of a user in a chat, as it began or ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stay {
    /// Who.
    pub user: UserId,
    /// The entry that let the user in.
    pub joined_seq: Seq,
    /// As what.
    pub role: Role,
    /// The entry that ended it.
    pub left_seq: Option<Seq>,
}

/// The role of a member, as it changed within a stay.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NewRole {
    /// Who.
    pub user: UserId,
    /// The entry that let the user in.
    pub joined_seq: Seq,
    /// As what, from now on.
    pub role: Role,
    /// The entry that says so.
    pub seq: Seq,
}

/// What is written of one chat.
#[derive(Clone, Debug)]
pub struct ChatRows {
    /// Which.
    pub chat: ChatId,
    /// Stays that began or ended.
    pub stays: Vec<Stay>,
    /// Roles that changed, of stays that go on.
    pub roles: Vec<NewRole>,
    /// Its entries, in order.
    pub rows: Vec<LoggedEntry>,
    /// An encoded `ChatSnapshot` as of the last row, now and then.
    pub snapshot: Option<Bytes>,
}

/// Rows by chat and answers by gateway.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) chats: BTreeMap<ChatId, ChatRows>,
    pub(super) answers: BTreeMap<GatewayId, Vec<Answer>>,
    /// The entries in order of decision, as they stand in the record.
    pub(super) entries: Vec<Bytes>,
    /// What the entries take in the record.
    pub(super) bytes: usize,
    pub(super) decided: usize,
    /// Its record has entries, also such as the store had already.
    pub(super) has_entries: bool,
    /// Handed-over records that it ends.
    pub(super) tickets: Vec<u64>,
    pub(super) commands: CommandPosition,
}

impl Batch {
    /// Adds an entry; `before` is the chat as it was, none for a creation.
    pub(super) fn add(&mut self, before: Option<&Chat>, entry: LoggedEntry) {
        let chat = entry.entry.chat;
        let rows = self.chats.entry(chat).or_insert_with(|| ChatRows {
            chat,
            stays: Vec::new(),
            roles: Vec::new(),
            rows: Vec::new(),
            snapshot: None,
        });
        rows.stays.extend(stays(before, &entry.entry));
        rows.roles.extend(new_roles(before, &entry.entry));
        self.bytes += entry.bytes.len() + 8;
        self.entries.push(entry.bytes.clone());
        rows.rows.push(entry);
    }

    /// What stands at this seq of a chat by the entries of this batch alone, as it was said.
    pub(super) fn target(&self, chat: ChatId, seq: Seq) -> Option<Target> {
        let rows = &self.chats.get(&chat)?.rows;
        let place = rows.binary_search_by_key(&seq, |row| row.entry.seq).ok()?;
        Some(Target::of(&rows[place].entry))
    }

    pub(super) fn answer(&mut self, route: Option<Route>, outcome: proto::v1::Outcome) {
        if let Some(Route { gateway, session, request }) = route {
            let answer = Answer { session, request, outcome: Some(outcome) };
            self.answers.entry(gateway).or_default().push(answer);
        }
    }

    /// Joins a later batch to this one, so that one write carries both.
    pub(super) fn join(&mut self, later: Self) {
        for (id, rows) in later.chats {
            match self.chats.get_mut(&id) {
                Some(own) => {
                    own.stays.extend(rows.stays);
                    own.roles.extend(rows.roles);
                    own.rows.extend(rows.rows);
                    own.snapshot = rows.snapshot.or_else(|| own.snapshot.take());
                }
                None => {
                    self.chats.insert(id, rows);
                }
            }
        }
        for (gateway, answers) in later.answers {
            self.answers.entry(gateway).or_default().extend(answers);
        }
        self.bytes += later.bytes;
        self.decided += later.decided;
        self.has_entries |= later.has_entries;
        self.commands = later.commands;
    }
}

/// The stays that an entry begins or ends.
fn stays(before: Option<&Chat>, entry: &Entry) -> Vec<Stay> {
    let ended = |user: UserId| {
        before.and_then(|chat| chat.members().get(&user)).map(|member| Stay {
            user,
            joined_seq: member.joined_seq,
            role: member.role,
            left_seq: Some(entry.seq),
        })
    };
    let begun =
        |member: &domain::Member| Stay { user: member.user, joined_seq: entry.seq, role: member.role, left_seq: None };
    match &entry.event {
        Event::ChatCreated { members, .. } => members.iter().map(begun).collect(),
        Event::MemberAdded { member } => vec![begun(member)],
        Event::MemberRemoved { user } => ended(*user).into_iter().collect(),
        Event::MemberLeft => ended(entry.sender).into_iter().collect(),
        // What was imported is theirs too.
        Event::ImportEnded { members } => {
            members.iter().map(|member| Stay { joined_seq: 1, ..begun(member) }).collect()
        }
        Event::ImportBegun { .. }
        | Event::MessageSent { .. }
        | Event::RoleSet { .. }
        | Event::ChatRenamed { .. }
        | Event::OwnershipTransferred { .. }
        | Event::MessageEdited(_)
        | Event::MessageDeleted { .. }
        | Event::MessageReacted { .. }
        | Event::ChatPolicySet { .. }
        | Event::MessagePinned { .. } => Vec::new(),
    }
}

/// The roles that an entry changes.
fn new_roles(before: Option<&Chat>, entry: &Entry) -> impl Iterator<Item = NewRole> {
    let changed = match &entry.event {
        Event::RoleSet { member } => [Some((member.user, member.role)), None],
        Event::OwnershipTransferred { user } => [Some((entry.sender, Role::Admin)), Some((*user, Role::Owner))],
        Event::ChatCreated { .. }
        | Event::MemberAdded { .. }
        | Event::MemberRemoved { .. }
        | Event::MemberLeft
        | Event::MessageSent { .. }
        | Event::ChatRenamed { .. }
        | Event::MessageEdited(_)
        | Event::MessageDeleted { .. }
        | Event::MessageReacted { .. }
        | Event::ChatPolicySet { .. }
        | Event::MessagePinned { .. }
        | Event::ImportBegun { .. }
        | Event::ImportEnded { .. } => [None, None],
    };
    changed.into_iter().flatten().filter_map(move |(user, role)| {
        let joined_seq = before?.members().get(&user)?.joined_seq;
        Some(NewRole { user, joined_seq, role, seq: entry.seq })
    })
}
