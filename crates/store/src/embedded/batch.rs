//! What one commit will hold: the writes of many callers, each compared with what is stored or staged (M8).
//!
//! fjall's batch cannot be read, so it is built here first: a write sees what the ones before it in the same commit
//! staged. A write that fails leaves nothing behind; the others of its commit go on.

use std::collections::{BTreeMap, HashMap, hash_map::Entry};

use bytes::Bytes;
use domain::{ChatId, Partition, PartitionPosition, Seq, Target};
use fjall::{PersistMode, Slice};

use super::{
    codec, keys,
    queue::{Write, Written},
    recent::Recent,
    tables::{Table, Tables},
};
use crate::rewrite::{self, Rewrites};
use crate::{Append, ChatAppend, Checkpoint, Error, Projection, Reader, codes::put_fact, join, merge};

/// Most rows that erasures may take out in one commit: some milliseconds, so that appends do not wait long behind it.
const REMOVALS_MAX: usize = 1_024;

/// A row's table and key.
type Place = (Table, Slice);
/// What a commit does to a row: its new value, or none to take it out.
type Change = Option<Slice>;

/// The rows of one commit.
#[derive(Debug)]
pub(super) struct Batch<'a> {
    tables: &'a Tables,
    staged: HashMap<Place, Change>,
    // How to take back what the present write staged.
    undo: Vec<(Place, Option<Change>)>,
    // What is committed, where it is known.
    recent: &'a Recent,
    /// Chats with new rows in this commit, and the highest of them.
    pub(super) appended: HashMap<ChatId, Seq>,
    /// Positions that this commit moves to.
    pub(super) positions: HashMap<Partition, PartitionPosition>,
    /// Whether the disk must have it before anybody is answered.
    pub(super) sync: bool,
    /// How many rows erasures may still take out.
    pub(super) removals_left: usize,
}

/// What a commit wrote.
#[derive(Debug, Default)]
pub(super) struct Size {
    pub(super) rows: u64,
    /// Bytes by table.
    pub(super) bytes: [u64; Table::COUNT],
}

impl<'a> Batch<'a> {
    /// An empty batch over what is committed.
    pub(super) fn new(tables: &'a Tables, recent: &'a Recent) -> Self {
        Self {
            tables,
            recent,
            staged: HashMap::new(),
            undo: Vec::new(),
            appended: HashMap::new(),
            positions: HashMap::new(),
            sync: false,
            removals_left: REMOVALS_MAX,
        }
    }

    /// Adds one write, whole or not at all.
    pub(super) fn add(&mut self, write: &Write) -> Result<Written, Error> {
        self.undo.clear();
        let added = match write {
            Write::Append(append) => self.append(append).map(|()| Written::Done),
            Write::Project(projection) => self.project(projection).map(|()| Written::Done),
            Write::Checkpoint { reader, partition, checkpoint } => {
                self.checkpoint(*reader, *partition, *checkpoint).map(|()| Written::Done)
            }
            Write::Direct { a, b, proposed } => {
                let key = keys::direct(*a, *b);
                self.claim(Table::Direct, &key, proposed.as_bytes())
                    .and_then(|stored| Ok(Written::Chat(codec::direct(&stored)?)))
            }
            Write::Meta { key, value } => {
                self.claim(Table::Meta, key, value).map(|stored| Written::Value(Bytes::copy_from_slice(&stored)))
            }
            Write::Account(write) => self.account(write),
            Write::Sync => {
                self.sync = true;
                Ok(Written::Done)
            }
        };
        if added.is_err() {
            for (place, before) in self.undo.drain(..).rev() {
                match before {
                    Some(before) => self.staged.insert(place, before),
                    None => self.staged.remove(&place),
                };
            }
        }
        added
    }

    /// Writes all of it at once; without rows there is nothing to write, and no commit. `learned` is told each new row.
    pub(super) fn commit(self, mut learned: impl FnMut(Table, &Slice, &Slice)) -> Result<Size, Error> {
        let mut size = Size::default();
        if self.staged.is_empty() {
            return Ok(size);
        }
        let mut batch = fjall::OwnedWriteBatch::with_capacity(self.tables.database.clone(), self.staged.len());
        for ((table, key), value) in self.staged {
            size.rows += 1;
            size.bytes[table as usize] += (key.len() + value.as_ref().map_or(0, |value| value.len())) as u64;
            match value {
                Some(value) => {
                    learned(table, &key, &value);
                    batch.insert(self.tables.keyspace(table), key, value);
                }
                None => batch.remove(self.tables.keyspace(table), key),
            }
        }
        let durability = if self.sync { PersistMode::SyncData } else { PersistMode::Buffer };
        batch.durability(Some(durability)).commit().map_err(Error::engine)?;
        Ok(size)
    }

    fn append(&mut self, append: &Append) -> Result<(), Error> {
        // The order of the design; here one atomic batch, so no reader can tell.
        for chat in &append.chats {
            if chat.chat.partition() != append.partition {
                return Err(Error::Misplaced { chat: chat.chat });
            }
            self.members(chat)?;
            self.log_rows(chat)?;
            self.snapshot(chat)?;
        }
        let key = keys::partition(append.partition);
        let stored = self.newest(Table::Partitions, &key)?.map(|value| codec::position(&value)).transpose()?;
        if merge::position(stored.as_ref(), &append.position) {
            self.stage(Table::Partitions, &key, codec::put_position(&append.position));
            self.positions.insert(append.partition, append.position.clone());
        }
        // Last, when nothing can fail any more.
        for (table, key) in self.undo.iter().map(|(place, _)| place) {
            if *table == Table::Log
                && let Some((chat, seq)) = keys::log_parts(key)
            {
                let head = self.appended.entry(chat).or_default();
                *head = seq.max(*head);
            }
        }
        Ok(())
    }

    fn members(&mut self, append: &ChatAppend) -> Result<(), Error> {
        for row in &append.members {
            if row.chat != append.chat {
                return Err(Error::Misplaced { chat: row.chat });
            }
            let key = keys::member(row.chat, row.user, row.joined_seq);
            let stored = self
                .newest(Table::Members, &key)?
                .map(|value| codec::member(row.chat, row.user, row.joined_seq, &value))
                .transpose()?;
            let role_seq = stored.map_or(row.joined_seq, |(_, role_seq)| role_seq);
            if let Some(merged) = merge::member(stored.map(|(row, _)| row), *row) {
                self.stage(Table::Members, &key, codec::put_member(&merged, role_seq));
            }
        }
        for row in &append.roles {
            let key = keys::member(append.chat, row.user, row.joined_seq);
            let stored = self
                .newest(Table::Members, &key)?
                .map(|value| codec::member(append.chat, row.user, row.joined_seq, &value))
                .transpose()?;
            if let Some((merged, role_seq)) = merge::role(stored, append.chat, *row) {
                self.stage(Table::Members, &key, codec::put_member(&merged, role_seq));
            }
        }
        Ok(())
    }

    fn log_rows(&mut self, append: &ChatAppend) -> Result<(), Error> {
        for row in &append.rows {
            if row.entry.chat != append.chat {
                return Err(Error::Misplaced { chat: row.entry.chat });
            }
            let key = keys::log(append.chat, row.entry.seq);
            match self.newest_row(append.chat, row.entry.seq, &key)? {
                // A stale owner or a takeover repeats what the log says (N6): no change.
                Some(stored) if rewrite::is_of(&stored, row) => {}
                Some(_) => {
                    metrics::counter!("store_conflicts_total").increment(1);
                    return Err(Error::Conflict { chat: append.chat, seq: row.entry.seq });
                }
                None => {
                    self.stage(Table::Log, &key, &row.bytes[..]);
                    self.rewrite(&row.entry)?;
                }
            }
        }
        Ok(())
    }

    /// Brings what the entry edits or deletes to its new version: in the same commit, so it is never the one without the
    /// other.
    fn rewrite(&mut self, by: &domain::Entry) -> Result<(), Error> {
        let mut rewrites = Rewrites::of(by);
        while let Some(seq) = rewrites.wants() {
            let row = self.newest(Table::Log, &keys::log(by.chat, seq))?;
            let row = row.map(|bytes| join::logged(by.chat, seq, Bytes::copy_from_slice(&bytes))).transpose()?;
            rewrites.found(row.as_ref().map(|row| &row.entry));
        }
        for row in rewrites.rows() {
            self.stage(Table::Log, &keys::log(by.chat, row.entry.seq), &row.bytes[..]);
        }
        Ok(())
    }

    fn snapshot(&mut self, append: &ChatAppend) -> Result<(), Error> {
        let Some(state) = &append.snapshot else { return Ok(()) };
        let (head, first_seq) = join::snapshot_head(state)?;
        let key = append.chat.as_bytes();
        let stored = self.newest(Table::Snapshots, key)?;
        let stored_head = stored.map(|value| codec::snapshot(&value).map(|(columns, _)| columns.head)).transpose()?;
        if stored_head.is_none_or(|stored| stored < head) {
            let columns = codec::SnapshotColumns { head, first_seq };
            self.stage(Table::Snapshots, key, codec::put_snapshot(columns, state));
        }
        Ok(())
    }

    fn project(&mut self, projection: &Projection) -> Result<(), Error> {
        for row in &projection.user_chats {
            let key = keys::user_chat(row.user, row.chat);
            let stored = self
                .newest(Table::UserChats, &key)?
                .map(|value| codec::user_chat(row.user, row.chat, &value))
                .transpose()?;
            if let Some(merged) = merge::user_chat(stored, *row) {
                self.stage(Table::UserChats, &key, codec::put_user_chat(&merged));
            }
        }
        for row in &projection.summaries {
            let key = row.chat.as_bytes();
            let stored =
                self.newest(Table::Summaries, key)?.map(|value| codec::summary(row.chat, &value)).transpose()?;
            if merge::summary(stored.as_ref(), row) {
                self.stage(Table::Summaries, key, codec::put_summary(row));
            }
        }
        for row in &projection.names {
            let key = row.chat.as_bytes();
            let stored = self.newest(Table::ChatNames, key)?.map(|value| codec::name(row.chat, &value)).transpose()?;
            if stored.is_none_or(|stored| stored.seq < row.seq) {
                self.stage(Table::ChatNames, key, codec::put_name(row));
            }
        }
        self.chat_facts(projection)?;
        self.reactions(projection)?;
        for (chat, user, watermark) in &projection.watermarks {
            let key = keys::watermark(*chat, *user);
            let stored = self.newest(Table::Watermarks, &key)?.map(|value| codec::watermark(&value)).transpose()?;
            if let Some(merged) = merge::watermark(stored, *watermark) {
                self.stage(Table::Watermarks, &key, codec::put_watermark(&merged));
            }
        }
        self.checkpoint(projection.reader, projection.partition, projection.checkpoint)
    }

    fn chat_facts(&mut self, projection: &Projection) -> Result<(), Error> {
        for row in &projection.facts {
            let (code, bytes) = put_fact(&row.fact);
            let key = keys::fact(row.chat, code);
            let stored = self.newest(Table::ChatFacts, &key)?;
            let stored_seq = stored.map(|value| codec::fact(&value).map(|(seq, _)| seq)).transpose()?;
            if stored_seq.is_none_or(|seq| seq < row.seq) {
                self.stage(Table::ChatFacts, &key, codec::put_fact(row.seq, &bytes));
            }
        }
        Ok(())
    }

    fn reactions(&mut self, projection: &Projection) -> Result<(), Error> {
        for row in &projection.reactions {
            let key = keys::reaction(row.chat, row.seq, row.user);
            let stored = self.newest(Table::Reactions, &key)?;
            let stored = stored.map(|value| codec::reaction(row.chat, (row.seq, row.user), &value)).transpose()?;
            // A rebuild may come behind the deletion with what it read before.
            if stored.is_none_or(|stored| stored.by < row.by) && !self.is_deleted(row.chat, row.seq)? {
                self.stage(Table::Reactions, &key, codec::put_reaction(row));
            }
        }
        for (chat, seq, _) in &projection.deleted {
            // None comes back: a write is whole, and goes on from the checkpoint beside it.
            let prefix = keys::log(*chat, *seq);
            let rows = self.rows(Table::Reactions, &prefix, |key| key.starts_with(&prefix), usize::MAX)?;
            for key in rows.keys() {
                self.remove(Table::Reactions, key);
            }
        }
        Ok(())
    }

    fn is_deleted(&self, chat: ChatId, seq: Seq) -> Result<bool, Error> {
        let Some(row) = self.newest(Table::Log, &keys::log(chat, seq))? else { return Ok(false) };
        let row = join::logged(chat, seq, Bytes::copy_from_slice(&row))?;
        Ok(Target::of(&row.entry) == Target::Deleted)
    }

    fn checkpoint(&mut self, reader: Reader, partition: Partition, checkpoint: Checkpoint) -> Result<(), Error> {
        let key = keys::checkpoint(reader, partition);
        let stored = self.newest(Table::Checkpoints, &key)?.map(|value| codec::checkpoint(&value)).transpose()?;
        if let Some(merged) = merge::checkpoint(stored, checkpoint) {
            self.stage(Table::Checkpoints, &key, codec::put_checkpoint(&merged));
        }
        Ok(())
    }

    /// What is stored under the key, or `proposed`, which is then stored and synced.
    fn claim(&mut self, table: Table, key: &[u8], proposed: &[u8]) -> Result<Slice, Error> {
        if let Some(stored) = self.newest(table, key)? {
            return Ok(stored);
        }
        self.stage(table, key, proposed);
        // Nothing could replay a claim: on disk before it is answered.
        self.sync = true;
        Ok(Slice::from(proposed))
    }

    /// As [`Self::newest`]; a row above the chat's known head is not looked for on the disk.
    ///
    /// Rows of a chat come in seq order (one write in flight a chat), so none lies above the head. This spares a search
    /// a row, about a third of the writer's work.
    fn newest_row(&self, chat: ChatId, seq: Seq, key: &[u8]) -> Result<Option<Slice>, Error> {
        if self.recent.head(chat).is_some_and(|head| head < seq) {
            return Ok(self.staged.get(&(Table::Log, Slice::from(key))).cloned().flatten());
        }
        self.newest(Table::Log, key)
    }

    /// The row as the present write sees it: staged, else committed.
    pub(super) fn newest(&self, table: Table, key: &[u8]) -> Result<Option<Slice>, Error> {
        let place = (table, Slice::from(key));
        if let Some(staged) = self.staged.get(&place) {
            return Ok(staged.clone());
        }
        match self.recent.value(&place) {
            Some(value) => Ok(Some(value.clone())),
            None => self.tables.newest(table, key),
        }
    }

    /// Rows as the present write sees them, by key: at most `limit` from the key `from` on, while they are `within`.
    pub(super) fn rows(
        &self,
        table: Table,
        from: &[u8],
        within: impl Fn(&[u8]) -> bool,
        limit: usize,
    ) -> Result<BTreeMap<Slice, Slice>, Error> {
        let is_asked = |key: &Slice| key[..] >= *from && within(key);
        let staged = self.staged.iter().filter(|((of, key), _)| *of == table && is_asked(key));
        let staged: Vec<_> = staged.map(|((_, key), change)| (key, change)).collect();
        let gone = staged.iter().filter(|(_, change)| change.is_none()).count();
        // Enough that `limit` are left when the staged ones are gone.
        let committed =
            self.tables.rows_from(table, from).take_while(|row| row.as_ref().map_or(true, |(key, _)| within(key)));
        let mut rows: BTreeMap<_, _> = committed.take(limit.saturating_add(gone)).collect::<Result<_, _>>()?;
        for (key, change) in staged {
            match change {
                Some(value) => rows.insert(key.clone(), value.clone()),
                None => rows.remove(key),
            };
        }
        while rows.len() > limit {
            rows.pop_last();
        }
        Ok(rows)
    }

    pub(super) fn stage(&mut self, table: Table, key: &[u8], value: impl AsRef<[u8]>) {
        self.change(table, key, Some(Slice::from(value.as_ref())));
    }

    /// Takes a row out, if it is there.
    pub(super) fn remove(&mut self, table: Table, key: &[u8]) {
        self.change(table, key, None);
    }

    fn change(&mut self, table: Table, key: &[u8], value: Change) {
        let place = (table, Slice::from(key));
        let before = match self.staged.entry(place.clone()) {
            Entry::Occupied(mut entry) => Some(entry.insert(value)),
            Entry::Vacant(entry) => {
                entry.insert(value);
                None
            }
        };
        self.undo.push((place, before));
    }
}
