//! Appends: a lane a partition, one write in flight in each, and what arrives meanwhile joins the next.
//!
//! Chats belong to one partition for ever, so this is one write in flight per chat too, and positions are reached in the
//! order in which they were asked for. Of a write the steps are members, log rows, the rows that those change, snapshot for
//! each chat, chats side by side, and the position when all of them are there: a crash between any two leaves nothing that
//! stands for what is not, and whoever goes on from the position does the rest.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, hash_map::Entry as Place},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use domain::{ChatId, Entry, LoggedEntry, Micros, Partition, PartitionPosition, Seq, UserId};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    time::{Instant, timeout},
};

use super::{
    Cql, Shared,
    cluster::Values,
    config::CqlConfig,
    numbers::{big, bucket, stamp},
    statements::Statement,
};
use crate::{Append, ChatAppend, Error, MemberRow, RoleRow, codes::role_code, join, merge, rewrite};

/// Rows of one batch: more do not go faster, and make long pauses for others.
const BATCH_ROWS: usize = 256;
/// Bytes of one batch: below what ScyllaDB takes by default (1 MiB) and Cassandra (half a segment of the journal).
const BATCH_BYTES: usize = 256 << 10;
/// What a row takes beside its entry, about.
const ROW_OVERHEAD: usize = 96;

type Answer = oneshot::Sender<Result<(), Error>>;

/// An append and who waits for it.
struct Waiting {
    append: Append,
    answer: Answer,
    /// Given back with the answer.
    _room: (OwnedSemaphorePermit, OwnedSemaphorePermit),
}

/// Appends that wait, by partition. A lane is there while one is written.
pub(super) struct Lanes {
    lanes: Mutex<HashMap<Partition, Vec<Waiting>>>,
    bytes: Arc<Semaphore>,
    bytes_max: usize,
    writes: Arc<Semaphore>,
}

impl Lanes {
    pub(super) fn new(config: &CqlConfig) -> Self {
        let bytes_max = config.queue_bytes.clamp(1, u32::MAX as usize);
        Self {
            lanes: Mutex::default(),
            bytes: Arc::new(Semaphore::new(bytes_max)),
            bytes_max,
            writes: Arc::new(Semaphore::new(config.queue_writes.max(1))),
        }
    }

    async fn room(&self, append: &Append) -> Result<(OwnedSemaphorePermit, OwnedSemaphorePermit), Error> {
        // One that is larger than all the room gets all of it.
        let bytes = u32::try_from(weight(append).min(self.bytes_max)).unwrap_or(u32::MAX);
        let closed = |_closed| Error::Closed;
        let write = Arc::clone(&self.writes).acquire_owned().await.map_err(closed)?;
        Ok((Arc::clone(&self.bytes).acquire_many_owned(bytes).await.map_err(closed)?, write))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Partition, Vec<Waiting>>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn weight(append: &Append) -> usize {
    let of_chat = |chat: &ChatAppend| {
        let rows = chat.rows.iter().map(|row| ROW_OVERHEAD + row.bytes.len()).sum::<usize>();
        ROW_OVERHEAD * (1 + chat.members.len() + chat.roles.len()) + rows + chat.snapshot.as_ref().map_or(0, Bytes::len)
    };
    append.chats.iter().map(of_chat).sum()
}

impl Cql {
    pub(crate) async fn append(&self, append: Append) -> Result<(), Error> {
        check_places(&append)?;
        let shared = &self.shared;
        let limit = shared.config.stall_limit();
        let stalled = |_elapsed| Error::Stalled { waited: limit };
        let room = timeout(limit, shared.lanes.room(&append)).await.map_err(stalled)??;
        let (answer, answered) = oneshot::channel();
        let partition = append.partition;
        let waiting = Waiting { append, answer, _room: room };
        {
            let mut lanes = shared.lanes.lock();
            match lanes.get_mut(&partition) {
                Some(lane) => lane.push(waiting),
                None => {
                    lanes.insert(partition, vec![waiting]);
                    // Goes on whether or not its callers wait.
                    tokio::spawn(Lane { shared: Arc::clone(shared), partition }.run());
                }
            }
        }
        timeout(limit, answered).await.map_err(stalled)?.map_err(|_gone| Error::Closed)?
    }
}

/// No row may be of another chat or partition than the append says.
fn check_places(append: &Append) -> Result<(), Error> {
    for part in &append.chats {
        let strangers = part.members.iter().map(|row| row.chat).chain(part.rows.iter().map(|row| row.entry.chat));
        if let Some(chat) = strangers.into_iter().find(|chat| *chat != part.chat) {
            return Err(Error::Misplaced { chat });
        }
        if part.chat.partition() != append.partition {
            return Err(Error::Misplaced { chat: part.chat });
        }
    }
    Ok(())
}

/// Writes what waits in one lane until nothing does.
struct Lane {
    shared: Arc<Shared>,
    partition: Partition,
}

impl Lane {
    async fn run(self) {
        while let Some(group) = self.next() {
            self.shared.write_group(self.partition, group).await;
        }
    }

    fn next(&self) -> Option<Vec<Waiting>> {
        let mut lanes = self.shared.lanes.lock();
        let waiting = std::mem::take(lanes.get_mut(&self.partition)?);
        if waiting.is_empty() {
            lanes.remove(&self.partition);
            return None;
        }
        Some(waiting)
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        // Nothing is left to remove, unless the runtime ends or a write panicked: then nobody may wait in a dead lane.
        self.shared.lanes.lock().remove(&self.partition);
    }
}

/// What a write holds of one chat.
#[derive(Default)]
struct Staged {
    members: BTreeMap<(UserId, Seq), MemberRow>,
    roles: BTreeMap<(UserId, Seq), RoleRow>,
    rows: BTreeMap<Seq, LoggedEntry>,
    /// Head, lowest kept seq, state.
    snapshot: Option<(Seq, Seq, Bytes)>,
}

/// Entries that are in the cluster, by chat and seq.
type Stored = HashMap<ChatId, BTreeMap<Seq, Vec<u8>>>;

impl Shared {
    async fn write_group(&self, partition: Partition, group: Vec<Waiting>) {
        let stored = match self.stored_of(&group).await {
            Ok(stored) => stored,
            Err(error) => {
                for waiting in group {
                    let _ = waiting.answer.send(Err(error.clone()));
                }
                return;
            }
        };
        let mut staged: HashMap<ChatId, Staged> = HashMap::new();
        let mut position: Option<PartitionPosition> = None;
        let mut taken = Vec::with_capacity(group.len());
        for waiting in group {
            // Whole or not at all: what another one of the group says too may be what it is refused for.
            match stage(&mut staged, &stored, &waiting.append) {
                Ok(()) => {
                    if merge::position(position.as_ref(), &waiting.append.position) {
                        position = Some(waiting.append.position.clone());
                    }
                    taken.push(waiting);
                }
                Err(error) => {
                    let _ = waiting.answer.send(Err(error));
                }
            }
        }
        let written = match position {
            Some(position) => self.write_staged(partition, staged, &stored, position).await,
            None => Ok(()),
        };
        for waiting in taken {
            let _ = waiting.answer.send(written.clone());
        }
    }

    /// What is stored of the seqs that these appends write, as far as it cannot be ruled out.
    async fn stored_of(&self, group: &[Waiting]) -> Result<Stored, Error> {
        let mut ranges: HashMap<ChatId, (Seq, Seq)> = HashMap::new();
        for part in group.iter().flat_map(|waiting| &waiting.append.chats) {
            for row in &part.rows {
                let seq = row.entry.seq;
                let (first, last) = ranges.entry(part.chat).or_insert((seq, seq));
                *first = seq.min(*first);
                *last = seq.max(*last);
            }
        }
        let reads = ranges
            .into_iter()
            .map(|(chat, (first, last))| async move { Ok((chat, self.stored(chat, first..=last).await?)) });
        stream::iter(reads).buffer_unordered(self.config.concurrency.max(1)).try_collect().await
    }

    async fn write_staged(
        &self,
        partition: Partition,
        staged: HashMap<ChatId, Staged>,
        stored: &Stored,
        position: PartitionPosition,
    ) -> Result<(), Error> {
        let none = BTreeMap::new();
        let writes = staged.into_iter().map(|(chat, staged)| {
            let stored = stored.get(&chat).unwrap_or(&none);
            self.write_chat(chat, staged, stored)
        });
        let mut writes = stream::iter(writes).buffer_unordered(self.config.concurrency.max(1));
        let mut written = Ok(());
        // To the end also after a failure: a write that is given up on its way may still land, later than its repetition.
        while let Some(one) = writes.next().await {
            written = written.and(one);
        }
        written?;
        self.positions.reached(partition, position, Instant::now());
        if self.config.position_lag_ms == 0 {
            self.write_due_positions().await?;
        }
        Ok(())
    }

    async fn write_chat(&self, chat: ChatId, staged: Staged, stored: &BTreeMap<Seq, Vec<u8>>) -> Result<(), Error> {
        let mut stays = Vec::new();
        for row in staged.members.values() {
            stays.push(self.put_stay(row));
            // Never a null: a stay that goes on says nothing of its end.
            stays.extend(row.left_seq.map(|left_seq| self.end_stay(row, left_seq)));
        }
        stays.extend(staged.roles.values().map(|row| self.put_role(chat, row)));
        self.write_parts(stays).await?;
        // In seq order, so that what a crash leaves has no hole.
        let mut batch: Vec<(Statement, Values)> = Vec::new();
        let (mut bytes, mut at) = (0, None);
        let mut buckets = HashSet::new();
        for (seq, row) in staged.rows.iter().filter(|(seq, _)| !stored.contains_key(seq)) {
            let weight = ROW_OVERHEAD + row.bytes.len();
            let is_full = batch.len() == BATCH_ROWS || bytes + weight > BATCH_BYTES || at != Some(bucket(*seq));
            if is_full && !batch.is_empty() {
                self.cluster.write_together(std::mem::take(&mut batch)).await?;
                bytes = 0;
            }
            buckets.insert(bucket(*seq));
            (bytes, at) = (bytes + weight, Some(bucket(*seq)));
            batch.push(self.put_entry(row, row.entry.time));
        }
        if !batch.is_empty() {
            self.cluster.write_together(batch).await?;
        }
        metrics::counter!("store_cql_appended_buckets_total").increment(buckets.len() as u64);
        self.rewrite(chat, &staged.rows, stored).await?;
        if let Some((head, first_seq, state)) = staged.snapshot {
            let values = (*chat.as_bytes(), big(head), big(first_seq), state.to_vec(), self.stamp(head));
            self.cluster.write_together(vec![(Statement::PutSnapshot, Box::new(values))]).await?;
        }
        if let Some((head, _)) = staged.rows.last_key_value() {
            // One that was there may have others above it: of a change that is written again, nothing is learnt.
            if !stored.contains_key(head) {
                self.heads.learn(chat, *head);
            }
            self.waiters.wake([chat]);
        }
        Ok(())
    }

    /// Brings what is edited or deleted by these rows to its new version, also where they were there before.
    ///
    /// A crash between a row and what it changes leaves the latter as it was until the append comes again, which it does:
    /// the position has not moved.
    async fn rewrite(
        &self,
        chat: ChatId,
        rows: &BTreeMap<Seq, LoggedEntry>,
        stored: &BTreeMap<Seq, Vec<u8>>,
    ) -> Result<(), Error> {
        let changing: Vec<&Entry> = rows.values().map(|row| &row.entry).filter(|it| it.changes().is_some()).collect();
        if changing.is_empty() {
            return Ok(());
        }
        let is_at_hand = |seq: &Seq| rows.contains_key(seq) || stored.contains_key(seq);
        let targets: BTreeSet<_> = changing.iter().filter_map(|it| it.changes()).filter(|it| !is_at_hand(it)).collect();
        let reads = targets.into_iter().map(|seq| async move { Ok::<_, Error>((seq, self.entry(chat, seq).await?)) });
        let read = stream::iter(reads).buffer_unordered(self.config.concurrency.max(1));
        let mut known: HashMap<Seq, Option<LoggedEntry>> = read.try_collect().await?;
        let mut versions: BTreeMap<Seq, (LoggedEntry, Micros)> = BTreeMap::new();
        for by in changing {
            let mut rewrites = rewrite::Rewrites::of(by);
            while let Some(seq) = rewrites.wants() {
                if let Some((row, _)) = versions.get(&seq) {
                    rewrites.found(Some(&row.entry));
                    continue;
                }
                let row = match known.entry(seq) {
                    Place::Occupied(known) => known.into_mut(),
                    Place::Vacant(place) => place.insert(match (stored.get(&seq), rows.get(&seq)) {
                        (Some(bytes), _) => Some(join::logged(chat, seq, Bytes::copy_from_slice(bytes))?),
                        (None, Some(row)) => Some(row.clone()),
                        (None, None) => self.entry(chat, seq).await?,
                    }),
                };
                rewrites.found(row.as_ref().map(|row| &row.entry));
            }
            versions.extend(rewrites.rows().map(|row| (row.entry.seq, (row, by.time))));
        }
        // Under the time of the change, which is above that of the row: a late write of what it was loses. Messages last.
        let (messages, edits): (Vec<_>, Vec<_>) =
            versions.into_values().partition(|(row, _)| row.entry.event.is_message());
        for (row, time) in edits.into_iter().chain(messages) {
            let (statement, values) = self.put_entry(&row, time);
            self.cluster.write_together(vec![(statement, values)]).await?;
        }
        Ok(())
    }

    fn put_stay(&self, row: &MemberRow) -> (Statement, Values) {
        let (role, stamp) = (i16::from(role_code(row.role)), self.stamp(row.joined_seq));
        let values = (*row.chat.as_bytes(), *row.user.as_bytes(), big(row.joined_seq), role, stamp);
        (Statement::PutStay, Box::new(values))
    }

    /// The cell that the stay has had from its joining on, under the later seq.
    fn put_role(&self, chat: ChatId, row: &RoleRow) -> (Statement, Values) {
        let (role, stamp) = (i16::from(role_code(row.role)), self.stamp(row.seq));
        let values = (*chat.as_bytes(), *row.user.as_bytes(), big(row.joined_seq), role, stamp);
        (Statement::PutStay, Box::new(values))
    }

    fn end_stay(&self, row: &MemberRow, left_seq: Seq) -> (Statement, Values) {
        let key = (*row.chat.as_bytes(), *row.user.as_bytes());
        let values = (self.stamp(left_seq), big(left_seq), key.0, key.1, big(row.joined_seq));
        (Statement::EndStay, Box::new(values))
    }

    /// `time` is that of the entry, or of the one that made this version of it.
    fn put_entry(&self, row: &LoggedEntry, time: Micros) -> (Statement, Values) {
        let entry = &row.entry;
        // The same bytes under the same timestamp, whoever writes them: the log has them so.
        let stamp = if self.config.clock_timestamps { self.now() } else { stamp(time) };
        let values = (
            *entry.chat.as_bytes(),
            big(bucket(entry.seq)),
            big(entry.seq),
            entry.event.kind() as i16,
            big(entry.ordinal),
            *entry.sender.as_bytes(),
            big(entry.origin.0),
            big(entry.n),
            big(entry.time),
            row.bytes.to_vec(),
            stamp,
        );
        (Statement::PutEntry, Box::new(values))
    }
}

/// Adds an append to what is written, unless it says of a seq what another entry says.
fn stage(staged: &mut HashMap<ChatId, Staged>, stored: &Stored, append: &Append) -> Result<(), Error> {
    let mut snapshots = Vec::with_capacity(append.chats.len());
    for part in &append.chats {
        let (stored, staged) = (stored.get(&part.chat), staged.get(&part.chat));
        let mut own: BTreeMap<Seq, &Bytes> = BTreeMap::new();
        for row in &part.rows {
            let seq = row.entry.seq;
            let there = [
                stored.and_then(|stored| stored.get(&seq)).map(|bytes| &bytes[..]),
                staged.and_then(|staged| staged.rows.get(&seq)).map(|row| &row.bytes[..]),
                own.insert(seq, &row.bytes).map(|bytes| &bytes[..]),
            ];
            if there.into_iter().flatten().any(|there| !rewrite::is_of(there, row)) {
                metrics::counter!("store_conflicts_total").increment(1);
                return Err(Error::Conflict { chat: part.chat, seq });
            }
        }
        snapshots.push(part.snapshot.as_ref().map(|state| join::snapshot_head(state)).transpose()?);
    }
    // Nothing can fail any more.
    for (part, snapshot) in append.chats.iter().zip(snapshots) {
        let staged = staged.entry(part.chat).or_default();
        for row in &part.members {
            let key = (row.user, row.joined_seq);
            if let Some(merged) = merge::member(staged.members.get(&key).copied(), *row) {
                staged.members.insert(key, merged);
            }
        }
        for row in &part.roles {
            let latest = staged.roles.entry((row.user, row.joined_seq)).or_insert(*row);
            if latest.seq < row.seq {
                *latest = *row;
            }
        }
        staged.rows.extend(part.rows.iter().map(|row| (row.entry.seq, row.clone())));
        if let (Some((head, first_seq)), Some(state)) = (snapshot, &part.snapshot)
            && staged.snapshot.as_ref().is_none_or(|(there, ..)| *there < head)
        {
            staged.snapshot = Some((head, first_seq, state.clone()));
        }
    }
    Ok(())
}
