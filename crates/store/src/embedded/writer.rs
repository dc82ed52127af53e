//! The one writer: takes all writes that wait, of all partitions and callers, into one commit, and answers each.
//!
//! While a commit runs the next writes gather, so under load one commit carries many messages (P19b) and no timer is
//! needed. Rows that the log can replay are synced about once a second. What nothing can replay (claims, accounts) lasts
//! once it is answered: it goes into commits of its own, behind the others that wait, and each of these is on disk before
//! its callers know. On its own thread, since commits and syncs block.

use std::{
    collections::VecDeque,
    path::PathBuf,
    sync::{
        PoisonError,
        atomic::Ordering,
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::{Duration, Instant},
};

use domain::{Partition, PartitionPosition};
use fjall::{PersistMode, Slice};

use super::{
    Shared,
    batch::{Batch, Size},
    presync::Presync,
    queue::{Waiting, Write, Written},
    recent::{Recent, is_remembered},
    tables::{self, Table, Tables},
};
use crate::{Config, Error};

/// Most bytes that one commit takes up: some milliseconds of work, so that nobody waits long for the others.
const COMMIT_BYTES_MAX: usize = 4 << 20;
/// Most writes of a commit that is synced: beyond some hundreds they share a sync as well as they can.
const LASTING_WRITES_MAX: usize = 256;
/// Bytes that are perhaps not on disk, from which on they are written ahead of a commit that must be.
///
/// Less takes about as long as the sync alone; more would hold up the appends behind it.
const AHEAD_BYTES_MIN: u64 = 256 << 10;
/// Between two looks at a presync that a caller waits for, when no write comes.
const AHEAD_PAUSE: Duration = Duration::from_millis(1);
/// Between two looks at a presync that runs, when no write comes.
const PRESYNC_PAUSE: Duration = Duration::from_millis(5);
/// Bytes that a row takes in a memtable beside key and value.
const MEMTABLE_ROW_OVERHEAD: u64 = 64;

const TABLES: [Table; Table::COUNT] = [
    Table::Log,
    Table::Snapshots,
    Table::Members,
    Table::Partitions,
    Table::Direct,
    Table::UserChats,
    Table::Summaries,
    Table::Watermarks,
    Table::Checkpoints,
    Table::Meta,
    Table::Users,
    Table::Handles,
    Table::Families,
    Table::UserFamilies,
    Table::FamilyTimes,
    Table::SendClaims,
    Table::SendClaimTimes,
    Table::Devices,
    Table::Blocks,
    Table::ChatSettings,
    Table::Tickets,
    Table::TicketTimes,
    Table::Invites,
    Table::ChatInvites,
    Table::InviteTimes,
    Table::InviteUses,
    Table::LeavingUsers,
    Table::MakerInvites,
    Table::ChatNames,
    Table::ChatFacts,
    Table::Reactions,
];

/// The writer's own state.
pub(super) struct Writer<'a> {
    tables: &'a Tables,
    shared: &'a Shared,
    sync_interval: Duration,
    memtable_bytes: u64,
    /// Bytes of each table since its memtable was sealed.
    unsealed: [u64; Table::COUNT],
    /// What was committed lately.
    recent: Recent,
    /// Positions that are committed and perhaps not on disk.
    unsynced: Vec<(Partition, PartitionPosition)>,
    /// Writes that nothing can replay, in order of arrival.
    lasting: VecDeque<Waiting>,
    /// Bytes of what is perhaps not on disk.
    unsynced_bytes: u64,
    /// What runs ahead of the next sync.
    presync: Option<Presync>,
    /// The engine's own folder.
    engine: PathBuf,
    /// When the oldest commit that is perhaps not on disk was made.
    dirty_since: Option<Instant>,
}

/// Runs until the last caller is gone, then syncs.
pub(super) fn run(config: &Config, tables: &Tables, shared: &Shared, writes: &Receiver<Waiting>) {
    let mut writer = Writer {
        tables,
        shared,
        sync_interval: config.sync_interval(),
        memtable_bytes: config.memtable_bytes.max(64 << 10),
        unsealed: [0; Table::COUNT],
        recent: Recent::default(),
        unsynced: Vec::new(),
        lasting: VecDeque::new(),
        unsynced_bytes: 0,
        presync: None,
        engine: tables::engine_folder(config),
        dirty_since: None,
    };
    writer.run(writes);
}

impl Writer<'_> {
    fn run(&mut self, writes: &Receiver<Waiting>) {
        loop {
            let first = match self.patience() {
                None => writes.recv().map_err(|_closed| RecvTimeoutError::Disconnected),
                Some(patience) => writes.recv_timeout(patience),
            };
            match first {
                Ok(first) => self.take(first, writes),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.commit_lasting_when_due();
            self.sync_when_due();
        }
        while !self.lasting.is_empty() {
            self.commit_lasting();
        }
        if self.dirty_since.is_some() {
            self.sync_or_say();
        }
    }

    /// How long to wait for a write before the next look at what is to be synced.
    fn patience(&self) -> Option<Duration> {
        if !self.lasting.is_empty() {
            return Some(if self.presync.is_some() { AHEAD_PAUSE } else { Duration::ZERO });
        }
        let since = self.dirty_since?;
        Some(match self.presync {
            Some(_) => PRESYNC_PAUSE,
            None => self.sync_interval.saturating_sub(since.elapsed()),
        })
    }

    /// Once what is ahead of them in the journal is on its way to the disk, so that appends go on meanwhile.
    fn commit_lasting_when_due(&mut self) {
        if self.lasting.is_empty() || self.presync.as_ref().is_some_and(|presync| !presync.is_finished()) {
            return;
        }
        if self.presync.take().is_none() && self.unsynced_bytes >= AHEAD_BYTES_MIN {
            self.presync = Presync::start(&self.engine);
        }
        if self.presync.is_none() {
            self.commit_lasting();
        }
    }

    /// First ahead of the sync on another thread, then the sync that counts.
    fn sync_when_due(&mut self) {
        let Some(since) = self.dirty_since else {
            self.presync = None;
            return;
        };
        match &self.presync {
            None if since.elapsed() < self.sync_interval => {}
            None => match Presync::start(&self.engine) {
                Some(presync) => self.presync = Some(presync),
                None => self.sync_or_say(),
            },
            Some(presync) if presync.is_finished() => {
                self.presync = None;
                self.sync_or_say();
            }
            Some(_) => {}
        }
    }

    /// Takes `first` and all that waits behind it: one commit, and what lasts is set aside.
    fn take(&mut self, first: Waiting, writes: &Receiver<Waiting>) {
        let mut taken = Vec::new();
        let mut weight = 0;
        let mut next = Some(first);
        while let Some(waiting) = next {
            weight += waiting.weight;
            if waiting.write.is_lasting() {
                self.lasting.push_back(waiting);
            } else {
                taken.push(waiting);
            }
            next = if weight < COMMIT_BYTES_MAX { writes.try_recv().ok() } else { None };
        }
        if !taken.is_empty() {
            self.commit(taken);
        }
    }

    /// One commit out of the first of those that last.
    fn commit_lasting(&mut self) {
        let mut taken = Vec::new();
        let mut weight = 0;
        while taken.len() < LASTING_WRITES_MAX
            && weight < COMMIT_BYTES_MAX
            && let Some(waiting) = self.lasting.pop_front()
        {
            weight += waiting.weight;
            taken.push(waiting);
        }
        self.commit(taken);
    }

    /// One commit of these writes, in their order, and their answers.
    fn commit(&mut self, writes: Vec<Waiting>) {
        let mut recent = std::mem::take(&mut self.recent);
        let mut batch = Batch::new(self.tables, &recent);
        let mut wants_sync = false;
        let mut taken = Vec::with_capacity(writes.len());
        for waiting in writes {
            wants_sync |= matches!(waiting.write, Write::Sync);
            let added = batch.add(&waiting.write);
            taken.push((waiting, added));
        }
        let appended = std::mem::take(&mut batch.appended);
        let mut rows = Vec::new();
        let committed = self.commit_batch(batch, wants_sync, &mut rows);
        // After a commit that failed nobody knows what stands there, and nothing more is taken.
        if committed.is_ok() {
            recent.appended(&appended);
            recent.wrote(rows);
            self.recent = recent;
        }
        // After the rows are there: who is woken looks at once.
        self.shared.waiters.wake(appended.into_keys());
        metrics::histogram!("store_commit_writes").record(taken.len() as f64);
        for (waiting, added) in taken {
            match committed.clone().and(added) {
                // The rest behind those that came meanwhile.
                Ok(Written::Part) => self.lasting.push_back(waiting),
                // A caller that is gone does not want to know.
                answer => drop(waiting.answer.send(answer)),
            }
        }
        self.seal_full_memtables();
    }

    fn commit_batch(
        &mut self,
        mut batch: Batch<'_>,
        wants_sync: bool,
        rows: &mut Vec<((Table, Slice), Slice)>,
    ) -> Result<(), Error> {
        let positions = std::mem::take(&mut batch.positions);
        let synced = batch.sync;
        let began = Instant::now();
        let learned = |table, key: &Slice, value: &Slice| {
            if is_remembered(table) {
                rows.push(((table, key.clone()), value.clone()));
            }
        };
        let size = match batch.commit(learned) {
            Ok(size) => size,
            Err(error) => {
                metrics::counter!("store_commits_failed_total").increment(1);
                tracing::error!(%error, cause = ?error, "a commit failed; the store takes no further writes");
                return Err(error);
            }
        };
        self.unsynced_bytes += size.bytes.iter().sum::<u64>();
        if size.rows > 0 {
            self.count(&size, began);
            self.dirty_since.get_or_insert(began);
        }
        self.unsynced.extend(positions);
        if wants_sync {
            // Also for a commit that synced itself, or had no rows: earlier ones may not be on disk.
            return self.sync();
        }
        if synced && size.rows > 0 {
            // One journal: what was committed earlier went to the disk with it.
            self.synced();
        }
        Ok(())
    }

    fn count(&mut self, size: &Size, began: Instant) {
        let bytes: u64 = size.bytes.iter().sum();
        self.shared.commits.fetch_add(1, Ordering::Relaxed);
        metrics::counter!("store_commits_total").increment(1);
        metrics::counter!("store_rows_total").increment(size.rows);
        metrics::counter!("store_bytes_total").increment(bytes);
        metrics::histogram!("store_commit_seconds").record(began.elapsed().as_secs_f64());
        let rows_overhead = size.rows * MEMTABLE_ROW_OVERHEAD;
        for (unsealed, bytes) in self.unsealed.iter_mut().zip(size.bytes) {
            // The overhead is counted to every table that got something: a bound, not a measure.
            *unsealed += if bytes > 0 { bytes + rows_overhead } else { 0 };
        }
    }

    fn seal_full_memtables(&mut self) {
        for (table, unsealed) in TABLES.into_iter().zip(&mut self.unsealed) {
            if *unsealed >= self.memtable_bytes {
                *unsealed = 0;
                if let Err(error) = self.tables.rotate(table) {
                    tracing::error!(%error, cause = ?error, table = table.name(), "cannot seal a memtable");
                }
            }
        }
    }

    fn sync(&mut self) -> Result<(), Error> {
        let began = Instant::now();
        self.tables.database.persist(PersistMode::SyncData).map_err(Error::engine)?;
        metrics::counter!("store_syncs_total").increment(1);
        metrics::histogram!("store_sync_seconds").record(began.elapsed().as_secs_f64());
        self.synced();
        Ok(())
    }

    fn sync_or_say(&mut self) {
        if let Err(error) = self.sync() {
            // Not asked again at once: a failed sync spoils the engine, and the next write says so to its caller.
            self.dirty_since = None;
            tracing::error!(%error, cause = ?error, "cannot bring the store to the disk");
        }
    }

    /// All that was committed is on disk now.
    fn synced(&mut self) {
        self.dirty_since = None;
        self.unsynced_bytes = 0;
        let mut synced = self.shared.synced.lock().unwrap_or_else(PoisonError::into_inner);
        synced.extend(self.unsynced.drain(..));
    }
}
