//! A new epoch of partitions whose streams no longer fit the store: after a lost tail, a lost stream, an old backup.
//!
//! The store's rows are the truth, and what the old events have beyond them. In the new epoch's EVENTS stand first the
//! rows that the read models lack, then the entries that the store lacks: those are a tail, which the next owner appends
//! as any other. In its COMMANDS stand the commands that nobody decided. Whoever reads begins at the first record.
//!
//! ```text
//! old EVENTS   ─▶ entries that the store lacks ─┐
//! store's rows ─▶ those that the models lack ───┴▶ new EVENTS, and the position between the two
//! old COMMANDS ─▶ above the position ─▶ RENEWAL-p ─▶ new COMMANDS
//! ```
//! Whoever ran as a gateway or an API before has the old epoch, and is told so at each command: it is started anew.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use domain::{
    ChatId, CommandPosition, Epoch, EventPosition, LoggedEntry, Partition, PartitionPosition, Seq, WriterId,
    crash_point, limits,
};
use event_log::{Log, Order, Renewal, Stream};
use prost::Message as _;
use proto::log::{CommandBatch, EventBatch};
use serde::Serialize;
use store::{Append, ChatAppend, HISTORY_BYTES_MAX, HISTORY_ROWS_MAX, Store};

use crate::admin::OWNING_ROLES;

/// Of a record's entries; with what stands around them it is below what the log takes.
const ENTRY_BYTES: usize = event_log::RECORD_BYTES_MAX / 2;

/// What became of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Renewed {
    /// Which.
    pub(crate) partition: u16,
    /// Its new epoch.
    pub(crate) epoch: u64,
    /// Entries that the read models lacked.
    pub(crate) emitted: u64,
    /// Records of entries that the store lacks still, for the next owner to append.
    pub(crate) unappended: u64,
    /// Records of commands that nobody had decided.
    pub(crate) carried: u64,
}

/// Whom to believe where old events contradict the store, and whether somebody else may be at work.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Terms {
    /// Old events that contradict the store, or do not follow it, are left out.
    pub(crate) store_wins: bool,
    /// Nobody else can reach broker and store.
    pub(crate) alone: bool,
}

/// Opens a new epoch; one that was broken off is gone on with.
///
/// # Errors
/// Somebody may work on the partition; the old events contradict the store, or do not follow it; or what the broker and
/// the store say. The partition is then not worked on until it is renewed.
pub(crate) async fn renew(log: &Log, store: &Store, partition: Partition, terms: Terms) -> Result<Renewed> {
    if !terms.alone {
        nobody_works_on(log, partition).await?;
    }
    let stored = store.position(partition).await?;
    let mut renewal = log.renew(partition, stored.as_ref().map(|stored| stored.epoch)).await?;
    if !renewal.is_sealed() {
        let unappended = beyond_the_store(&renewal, store, (partition, stored.as_ref()), terms.store_wins).await?;
        let events = carry_events(&renewal, unappended).await?;
        carry_undecided(&renewal, stored.as_ref()).await?;
        renewal.seal(events).await?;
        crash_point("renew.sealed");
    }
    let mut renewed =
        Renewed { partition: partition.0, epoch: renewal.epoch().0, emitted: 0, unappended: 0, carried: 0 };
    let is_placed = stored.is_some_and(|stored| stored.epoch == renewal.epoch());
    if !is_placed {
        renewal.reopen(Some(Stream::Events)).await?;
        crash_point("renew.reopened");
        let mut emitter = Emitter::new(renewal.epoch());
        for chat in store.logged_chats(partition).await? {
            emit_what_models_lack(&renewal, store, chat, &mut emitter).await?;
        }
        emitter.flush(&renewal).await?;
        renewed.emitted = emitter.entries;
        let last = renewal.emit_carried(emitter.last.sequence).await?;
        renewed.unappended = last - emitter.last.sequence;
        let position =
            PartitionPosition { epoch: renewal.epoch(), events: emitter.last, commands: CommandPosition::default() };
        store.append(Append { partition, position, chats: Vec::new() }).await?;
        store.sync().await?;
        ensure!(
            store.position(partition).await?.is_some_and(|stored| stored.epoch == renewal.epoch()),
            "the store did not take the position of the new epoch"
        );
        crash_point("renew.placed");
    }
    renewed.carried = renewal.release().await?;
    Ok(renewed)
}

/// In a deployment of many processes an operator has seen to it that nobody does.
async fn nobody_works_on(log: &Log, partition: Partition) -> Result<()> {
    for role in OWNING_ROLES {
        let ordered = log.ordered(role, partition).await?;
        let owner = log.owner(role, partition).await?;
        ensure!(
            ordered == Some(Order::Pause) && owner.is_none(),
            "first `heliograph partition pause {partition} --role {}`: {}",
            role.name(),
            owner.map_or_else(|| "somebody may take it".to_owned(), |owner| format!("{} has it", owner.worker)),
        );
    }
    Ok(())
}

/// What the old events have beyond the store, by chat, in order.
async fn beyond_the_store(
    renewal: &Renewal,
    store: &Store,
    (partition, stored): (Partition, Option<&PartitionPosition>),
    store_wins: bool,
) -> Result<Vec<LoggedEntry>> {
    let Some(bounds) = renewal.bounds(Stream::Events).await? else { return Ok(Vec::new()) };
    let mut from = bounds.first;
    if let Some(stored) = stored
        && renewal.old_epoch(Stream::Events).await? == Some(stored.epoch)
        && let Some(record) = renewal.read(Stream::Events, stored.events.sequence).await?
    {
        let batch = EventBatch::decode(record.payload).context("an old record of events")?;
        // As Raft matches the previous entry: all below is what the store has.
        if (WriterId(batch.writer), batch.batch) == (stored.events.writer, stored.events.batch) {
            from = stored.events.sequence + 1;
        }
    }
    let mut by_chat: BTreeMap<ChatId, Vec<LoggedEntry>> = BTreeMap::new();
    for sequence in from..=bounds.last {
        let Some(record) = renewal.read(Stream::Events, sequence).await? else { continue };
        let batch = EventBatch::decode(record.payload).with_context(|| format!("old record {sequence} of events"))?;
        ensure!(batch.schema <= limits::SCHEMA, "old record {sequence} of events is of a newer version");
        for bytes in batch.entries {
            let entry = LoggedEntry::decode(bytes).with_context(|| format!("old record {sequence} of events"))?;
            by_chat.entry(entry.entry.chat).or_default().push(entry);
        }
    }
    let mut beyond = Vec::new();
    let mut there = Vec::new();
    for (chat, entries) in by_chat {
        beyond.extend(beyond_of(store, chat, entries, store_wins, &mut there).await?);
    }
    if let (Some(stored), false) = (stored, there.is_empty()) {
        // Their rows stand there, and perhaps not yet what they make of others: no tail brings them again.
        store.append(Append { partition, position: stored.clone(), chats: there }).await?;
    }
    Ok(beyond)
}

/// Those of a chat's entries that the store lacks: all follow what it has. Edits and deletions that it has go to `there`.
async fn beyond_of(
    store: &Store,
    chat: ChatId,
    entries: Vec<LoggedEntry>,
    store_wins: bool,
    there: &mut Vec<ChatAppend>,
) -> Result<Vec<LoggedEntry>> {
    let (mut beyond, mut changes): (Vec<LoggedEntry>, _) = (Vec::new(), Vec::new());
    let mut rows = Rows::from(store, chat, entries.first().map_or(0, |first| first.entry.seq.saturating_sub(1)));
    for entry in entries {
        let seq = entry.entry.seq;
        let head = match rows.at(seq).await? {
            Some(row) if row.entry.is_version_of(&entry.entry) => {
                changes.extend(entry.entry.changes().map(|_| entry));
                continue;
            }
            Some(_) if store_wins => continue,
            Some(_) => bail!(
                "the events say otherwise than the store at seq {seq} of chat {chat}; --store-wins leaves them out"
            ),
            None => beyond.last().map_or(rows.through, |last| last.entry.seq),
        };
        if seq == head + 1 {
            beyond.push(entry);
        } else if seq > head + 1 && !store_wins {
            bail!(
                "the store ends at seq {head} of chat {chat} and the events go on at {seq}: what is between is lost; \
                   --store-wins leaves the events out"
            );
        }
    }
    if !changes.is_empty() {
        let (members, roles) = (Vec::new(), Vec::new());
        there.push(ChatAppend { chat, members, roles, rows: changes, snapshot: None });
    }
    Ok(beyond)
}

/// A chat's rows, read page by page as they are asked for, in order.
struct Rows<'a> {
    store: &'a Store,
    chat: ChatId,
    page: std::vec::IntoIter<LoggedEntry>,
    through: Seq,
    ended: bool,
}

impl<'a> Rows<'a> {
    fn from(store: &'a Store, chat: ChatId, after: Seq) -> Self {
        Self { store, chat, page: Vec::new().into_iter(), through: after, ended: false }
    }

    async fn next(&mut self) -> Result<Option<LoggedEntry>> {
        loop {
            if let Some(row) = self.page.next() {
                return Ok(Some(row));
            }
            if self.ended {
                return Ok(None);
            }
            let page = self.store.history(self.chat, self.through, HISTORY_ROWS_MAX, HISTORY_BYTES_MAX).await?;
            self.ended = page.rows.is_empty();
            self.through = page.through;
            self.page = page.rows.into_iter();
        }
    }

    /// The row of a seq that is above the one asked before.
    async fn at(&mut self, seq: Seq) -> Result<Option<LoggedEntry>> {
        while let Some(row) = self.next().await? {
            if row.entry.seq >= seq {
                return Ok(Some(row).filter(|row| row.entry.seq == seq));
            }
        }
        Ok(None)
    }
}

async fn carry_events(renewal: &Renewal, entries: Vec<LoggedEntry>) -> Result<u64> {
    let mut packed = Packed::new(renewal.epoch());
    for entry in entries {
        if let Some(payload) = packed.push(entry.bytes) {
            renewal.carry(payload).await?;
        }
    }
    if let Some(payload) = packed.take() {
        renewal.carry(payload).await?;
    }
    Ok(packed.batch)
}

/// Commands above the stored position, or all that there are, where they are not those that it is of.
async fn carry_undecided(renewal: &Renewal, stored: Option<&PartitionPosition>) -> Result<()> {
    let Some(bounds) = renewal.bounds(Stream::Commands).await? else { return Ok(()) };
    let (mut from, mut folded) = (bounds.first, 0);
    if let Some(stored) = stored
        && renewal.old_epoch(Stream::Commands).await? == Some(stored.epoch)
    {
        let CommandPosition { sequence, count, time_ns, message_id } = &stored.commands;
        let found = renewal.read(Stream::Commands, *sequence).await?;
        let is_same = |found: &event_log::Record| found.time_ns == *time_ns && found.message_id == *message_id;
        match found {
            Some(found) if is_same(&found) => (from, folded) = (*sequence, *count as usize),
            // Another record under the number: what follows the loss was never decided, and of the rest the fold knows.
            Some(_) => {}
            // Trimmed, or lost with all that came behind it.
            None => from = bounds.first.max(sequence + 1),
        }
    }
    for sequence in from..=bounds.last {
        let Some(record) = renewal.read(Stream::Commands, sequence).await? else { continue };
        let Ok(mut batch) = CommandBatch::decode(record.payload) else {
            tracing::error!(sequence, "an old record of commands cannot be read and is left out");
            continue;
        };
        // Of the first record alone.
        let decided = std::mem::take(&mut folded).min(batch.commands.len());
        batch.commands.drain(..decided);
        if batch.commands.is_empty() {
            continue;
        }
        batch.epoch = renewal.epoch().0;
        renewal.carry(batch.encode_to_vec().into()).await?;
    }
    Ok(())
}

/// Emits the rows above the head that the read models have of a chat.
async fn emit_what_models_lack(renewal: &Renewal, store: &Store, chat: ChatId, emitter: &mut Emitter) -> Result<()> {
    let summaries = store.summaries(&[chat]).await?;
    let head = summaries.first().and_then(Option::as_ref).map_or(0, |summary| summary.head);
    let mut rows = Rows::from(store, chat, head);
    while let Some(row) = rows.next().await? {
        emitter.push(renewal, row.bytes).await?;
    }
    Ok(())
}

/// Entries on their way into records of one writer.
struct Packed {
    epoch: Epoch,
    writer: WriterId,
    batch: u64,
    waiting: Vec<Bytes>,
    bytes: usize,
}

impl Packed {
    fn new(epoch: Epoch) -> Self {
        Self { epoch, writer: WriterId(rand::random()), batch: 0, waiting: Vec::new(), bytes: 0 }
    }

    /// A record, if there is no room for the entry in the one that is being filled.
    fn push(&mut self, entry: Bytes) -> Option<Bytes> {
        let full = if self.bytes + entry.len() > ENTRY_BYTES { self.take() } else { None };
        self.bytes += entry.len();
        self.waiting.push(entry);
        full
    }

    /// The record that is being filled, if there is anything in it; its number is then `batch`.
    fn take(&mut self) -> Option<Bytes> {
        if self.waiting.is_empty() {
            return None;
        }
        self.batch += 1;
        self.bytes = 0;
        let record = EventBatch {
            schema: limits::SCHEMA,
            epoch: self.epoch.0,
            writer: self.writer.0,
            batch: self.batch,
            commands_through: Some(proto::log::CommandPosition::default()),
            entries: std::mem::take(&mut self.waiting),
            appended_through: 0,
        };
        Some(record.encode_to_vec().into())
    }
}

/// Packs entries into the new EVENTS.
struct Emitter {
    packed: Packed,
    last: EventPosition,
    entries: u64,
}

impl Emitter {
    fn new(epoch: Epoch) -> Self {
        let packed = Packed::new(epoch);
        let last = EventPosition { sequence: 0, writer: packed.writer, batch: 0 };
        Self { packed, last, entries: 0 }
    }

    async fn push(&mut self, renewal: &Renewal, entry: Bytes) -> Result<()> {
        self.entries += 1;
        let full = self.packed.push(entry);
        self.publish(renewal, full).await
    }

    async fn flush(&mut self, renewal: &Renewal) -> Result<()> {
        let rest = self.packed.take();
        self.publish(renewal, rest).await
    }

    async fn publish(&mut self, renewal: &Renewal, record: Option<Bytes>) -> Result<()> {
        if let Some(payload) = record {
            let sequence = renewal.emit(payload, self.last.sequence).await?;
            self.last = EventPosition { sequence, batch: self.packed.batch, ..self.last };
        }
        Ok(())
    }
}
