//! The model store: rows and positions that only move forward (M8), one journal, a crash that loses what is not synced.
//!
//! It answers as the port of `store` does. Without M8 the last write wins.

use std::collections::BTreeMap;
use std::rc::Rc;

use bytes::Bytes;
use domain::{Chat, ChatId, Entry, LoggedEntry, MemberState, PartitionPosition, Policy, Role, Seq, UserId, Watermark};
use ingest::machine::{ChatRows, NewRole};
use projections::machine::{Fact, Name, Projected, Reaction, Stay, Summary};
use prost::Message as _;
use proto::log::ChatSnapshot;

/// Who keeps a checkpoint.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Reader {
    Delivery,
    Projections,
}

/// One atomic write.
#[derive(Debug)]
pub(crate) enum Write {
    Append { position: PartitionPosition, chats: Vec<ChatRows> },
    Project(Projected),
    Checkpoint(Reader, (Seq, Seq)),
}

/// Brings each row that the entry changes to its new version.
pub(crate) fn rewrite<'a>(rows: impl IntoIterator<Item = &'a mut LoggedEntry>, by: &Entry) {
    if by.changes().is_none() {
        return;
    }
    for row in rows {
        if let Some(changed) = row.entry.changed_by(by) {
            *row = LoggedEntry::encode(changed);
        }
    }
}

/// One stay of a member.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct MemberRow {
    pub(crate) user: UserId,
    pub(crate) joined_seq: Seq,
    pub(crate) role: Role,
    pub(crate) left_seq: Option<Seq>,
}

impl MemberRow {
    fn is_member_after(&self, seq: Seq) -> bool {
        self.joined_seq <= seq && self.left_seq.is_none_or(|left| left > seq)
    }
}

/// What is stored of a stay.
#[derive(Clone, Copy, Debug)]
struct Stored {
    role: Role,
    /// The entry that gave the role.
    role_seq: Seq,
    left_seq: Option<Seq>,
}

#[derive(Clone, Debug, Default)]
struct ChatTable {
    rows: BTreeMap<Seq, LoggedEntry>,
    members: BTreeMap<(UserId, Seq), Stored>,
    snapshot: Option<(Seq, Bytes)>,
}

/// All tables of one partition.
#[derive(Clone, Debug, Default)]
struct Tables {
    position: Option<PartitionPosition>,
    chats: BTreeMap<ChatId, ChatTable>,
    stays: BTreeMap<(UserId, ChatId), Stay>,
    summaries: BTreeMap<ChatId, Summary>,
    names: BTreeMap<ChatId, Name>,
    policies: BTreeMap<ChatId, Fact<Policy>>,
    pins: BTreeMap<ChatId, Fact<Vec<Seq>>>,
    reactions: BTreeMap<(ChatId, Seq, UserId), Reaction>,
    watermarks: BTreeMap<(ChatId, UserId), Watermark>,
    checkpoints: BTreeMap<Reader, (Seq, Seq)>,
}

/// The store of one partition.
#[derive(Debug, Default)]
pub(crate) struct Store {
    forward_only: bool,
    live: Tables,
    synced: Tables,
    unsynced: Vec<Rc<Write>>,
    /// Power cuts so far: what was on its way to the store at one never arrives.
    pub(crate) cuts: u64,
    /// Rows that were written with other bytes than they had.
    pub(crate) differing: Vec<(ChatId, Seq)>,
}

impl Store {
    pub(crate) fn new(forward_only: bool) -> Self {
        Self { forward_only, ..Self::default() }
    }

    pub(crate) fn write(&mut self, write: Rc<Write>) {
        self.live.write(&write, self.forward_only, &mut self.differing);
        self.unsynced.push(write);
    }

    pub(crate) fn sync(&mut self) {
        let mut ignored = Vec::new();
        for write in self.unsynced.drain(..) {
            self.synced.write(&write, self.forward_only, &mut ignored);
        }
    }

    pub(crate) fn unsynced(&self) -> usize {
        self.unsynced.len()
    }

    /// A power cut: the journal recovers to a prefix that holds at least what was synced.
    pub(crate) fn lose_all_but(&mut self, kept: usize) {
        self.cuts += 1;
        self.unsynced.truncate(kept);
        self.sync();
        self.live = self.synced.clone();
    }

    pub(crate) fn position(&self) -> Option<PartitionPosition> {
        self.live.position.clone()
    }

    pub(crate) fn synced_position(&self) -> Option<PartitionPosition> {
        self.synced.position.clone()
    }

    pub(crate) fn checkpoint(&self, reader: Reader) -> (Seq, Seq) {
        self.live.checkpoints.get(&reader).copied().unwrap_or_default()
    }

    pub(crate) fn chats(&self) -> impl Iterator<Item = ChatId> + '_ {
        self.live.chats.keys().copied()
    }

    pub(crate) fn row(&self, chat: ChatId, seq: Seq) -> Option<&LoggedEntry> {
        self.live.chats.get(&chat)?.rows.get(&seq)
    }

    /// All stays, if row `at_least` is stored.
    pub(crate) fn members(&self, chat: ChatId, at_least: Seq) -> Option<Vec<MemberRow>> {
        let table = self.live.chats.get(&chat);
        if at_least > 0 && table.is_none_or(|table| !table.rows.contains_key(&at_least)) {
            return None;
        }
        let rows = table.into_iter().flat_map(|table| &table.members);
        Some(
            rows.map(|((user, joined_seq), Stored { role, left_seq, .. })| MemberRow {
                user: *user,
                joined_seq: *joined_seq,
                role: *role,
                left_seq: *left_seq,
            })
            .collect(),
        )
    }

    /// Rows above `after` without a hole, and through where that is whole (M22).
    pub(crate) fn history(&self, chat: ChatId, after: Seq, most: usize) -> (Vec<LoggedEntry>, Seq) {
        let Some(table) = self.live.chats.get(&chat) else { return (Vec::new(), 0) };
        let mut rows = Vec::new();
        let mut through = if table.rows.contains_key(&after) { after } else { 0 };
        for (seq, row) in table.rows.range(after + 1..) {
            if *seq != after + 1 + rows.len() as u64 || rows.len() == most {
                break;
            }
            rows.push(row.clone());
            through = *seq;
        }
        if through < after {
            through = table.rows.range(..after).next_back().map_or(0, |(seq, _)| *seq);
        }
        (rows, through)
    }

    /// The snapshot, the members as of it, and the fold of the later rows (M18).
    pub(crate) fn load_chat(&self, id: ChatId) -> Result<Option<Box<Chat>>, String> {
        let Some(table) = self.live.chats.get(&id) else { return Ok(None) };
        let mut state = match &table.snapshot {
            Some((_, bytes)) => {
                let snapshot = ChatSnapshot::decode(bytes.clone()).map_err(|error| error.to_string())?;
                let members = self.members(id, 0).unwrap_or_default();
                let members = members
                    .into_iter()
                    .filter(|row| row.is_member_after(snapshot.head))
                    .map(|row| (row.user, MemberState { role: row.role, joined_seq: row.joined_seq }));
                Some(Chat::restore(id, &snapshot, members).map_err(|error| error.to_string())?)
            }
            None => None,
        };
        loop {
            let (rows, _) = self.history(id, state.as_ref().map_or(0, Chat::head), 64);
            if rows.is_empty() {
                return Ok(state.map(Box::new));
            }
            for row in rows {
                match &mut state {
                    Some(state) => state.apply(&row.entry),
                    None => state = Some(Chat::create(&row.entry).ok_or("the first row creates no chat")?),
                }
            }
        }
    }

    pub(crate) fn summary(&self, chat: ChatId) -> Option<Summary> {
        self.live.summaries.get(&chat).cloned()
    }

    pub(crate) fn name(&self, chat: ChatId) -> Option<Name> {
        self.live.names.get(&chat).cloned()
    }

    pub(crate) fn policy(&self, chat: ChatId) -> Policy {
        self.live.policies.get(&chat).map(|fact| fact.is).unwrap_or_default()
    }

    pub(crate) fn pins(&self, chat: ChatId) -> &[Seq] {
        self.live.pins.get(&chat).map_or(&[], |fact| &fact.is)
    }

    /// Those that were not taken away, by message and user.
    pub(crate) fn reactions(&self, chat: ChatId) -> impl Iterator<Item = (Seq, UserId, &str)> {
        let of_chat = self.live.reactions.iter().filter(move |((of, ..), _)| *of == chat);
        of_chat.filter(|(_, it)| !it.text.is_empty()).map(|((_, seq, user), it)| (*seq, *user, &*it.text))
    }

    pub(crate) fn stay(&self, user: UserId, chat: ChatId) -> Option<Stay> {
        self.live.stays.get(&(user, chat)).copied()
    }

    pub(crate) fn watermark(&self, chat: ChatId, user: UserId) -> Watermark {
        self.live.watermarks.get(&(chat, user)).copied().unwrap_or_default()
    }

    /// The user's list joined with summaries and own watermarks.
    pub(crate) fn heads(&self, user: UserId) -> Vec<proto::v1::Head> {
        let lowest = (user, ChatId::new([0; 16]));
        let highest = (user, ChatId::new([255; 16]));
        let mut heads = Vec::new();
        for ((_, chat), stay) in self.live.stays.range(lowest..=highest) {
            let Some(summary) = self.live.summaries.get(chat) else { continue };
            let mark = self.watermark(*chat, user);
            heads.push(proto::v1::Head {
                chat: chat.to_wire(),
                head: stay.left_seq.unwrap_or(summary.head),
                ordinal: summary.ordinal,
                delivered: mark.delivered,
                seen: mark.seen,
                seen_ordinal: mark.seen_ordinal,
                first_seq: summary.first_seq,
            });
        }
        heads
    }
}

fn put<T: Clone>(table: &mut BTreeMap<ChatId, Fact<T>>, chat: ChatId, fact: &Fact<T>, forward: bool) {
    let stored = table.entry(chat).or_insert_with(|| fact.clone());
    if !forward || stored.seq < fact.seq {
        *stored = fact.clone();
    }
}

impl Tables {
    fn write(&mut self, write: &Write, forward: bool, differing: &mut Vec<(ChatId, Seq)>) {
        match write {
            Write::Append { position, chats } => {
                for chat in chats {
                    self.append(chat, forward, differing);
                }
                let rank = |position: &PartitionPosition| {
                    let PartitionPosition { epoch, commands, events } = position;
                    (*epoch, events.sequence, commands.sequence, commands.count)
                };
                if !forward || self.position.as_ref().is_none_or(|stored| rank(stored) < rank(position)) {
                    self.position = Some(position.clone());
                }
            }
            Write::Project(projected) => self.project(projected, forward),
            Write::Checkpoint(reader, at) => self.checkpoint(*reader, *at, forward),
        }
    }

    fn append(&mut self, rows: &ChatRows, forward: bool, differing: &mut Vec<(ChatId, Seq)>) {
        let table = self.chats.entry(rows.chat).or_default();
        for stay in &rows.stays {
            let ingest::machine::Stay { user, joined_seq, role, left_seq } = *stay;
            let new = Stored { role, role_seq: joined_seq, left_seq };
            let stored = table.members.entry((user, joined_seq)).or_insert(new);
            *stored = if forward { Stored { left_seq: stored.left_seq.max(left_seq), ..*stored } } else { new };
        }
        for new in &rows.roles {
            let NewRole { user, joined_seq, role, seq } = *new;
            let given = Stored { role, role_seq: seq, left_seq: None };
            let stored = table.members.entry((user, joined_seq)).or_insert(given);
            if !forward || stored.role_seq < seq {
                *stored = Stored { left_seq: stored.left_seq, ..given };
            }
        }
        for row in &rows.rows {
            let stored = table.rows.entry(row.entry.seq).or_insert_with(|| row.clone());
            if stored.bytes != row.bytes && !stored.entry.is_version_of(&row.entry) {
                differing.push((rows.chat, row.entry.seq));
            }
        }
        // Also of what was there before, and of all that they change: no chain to follow in a table of this size.
        for by in &rows.rows {
            rewrite(table.rows.values_mut(), &by.entry);
        }
        if let (Some(bytes), Some(last)) = (&rows.snapshot, rows.rows.last()) {
            let head = last.entry.seq;
            if !forward || table.snapshot.as_ref().is_none_or(|(stored, _)| *stored < head) {
                table.snapshot = Some((head, bytes.clone()));
            }
        }
    }

    fn project(&mut self, projected: &Projected, forward: bool) {
        for (user, chat, stay) in &projected.stays {
            let stored = self.stays.entry((*user, *chat)).or_insert(*stay);
            if !forward || (stored.joined_seq, stored.left_seq) < (stay.joined_seq, stay.left_seq) {
                *stored = *stay;
            }
        }
        for (chat, summary) in &projected.summaries {
            let stored = self.summaries.entry(*chat).or_insert_with(|| summary.clone());
            if !forward || stored.head < summary.head {
                *stored = summary.clone();
            }
        }
        for (chat, name) in &projected.names {
            let stored = self.names.entry(*chat).or_insert_with(|| name.clone());
            if !forward || stored.seq < name.seq {
                *stored = name.clone();
            }
        }
        for (chat, policy) in &projected.policies {
            put(&mut self.policies, *chat, policy, forward);
        }
        for (chat, pins) in &projected.pins {
            put(&mut self.pins, *chat, pins, forward);
        }
        for (place, reaction) in &projected.reactions {
            let stored = self.reactions.entry(*place).or_insert_with(|| reaction.clone());
            if !forward || stored.by < reaction.by {
                *stored = reaction.clone();
            }
        }
        for (chat, seq, _) in &projected.deleted {
            self.reactions.retain(|(of, at, _), _| (of, at) != (chat, seq));
        }
        for (chat, user, mark) in &projected.watermarks {
            let stored = self.watermarks.entry((*chat, *user)).or_default();
            *stored = if forward { stored.merge(*mark) } else { *mark };
        }
        self.checkpoint(Reader::Projections, (projected.events, projected.statuses), forward);
    }

    fn checkpoint(&mut self, reader: Reader, at: (Seq, Seq), forward: bool) {
        let stored = self.checkpoints.entry(reader).or_default();
        *stored = if forward { (stored.0.max(at.0), stored.1.max(at.1)) } else { at };
    }
}
