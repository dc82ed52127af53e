//! The embedded engine: fjall in this process, one writer, reads in place.
//!
//! ```text
//! callers ──queue──▶ writer: batch (compare, stage) ──▶ commit ──▶ answers, waiters     about once a second: sync
//!                    └ what nothing can replay: the same in a commit of its own ──▶ sync ──▶ answers
//! callers ──▶ read: a view as of one moment
//! ```
//! A commit is atomic and the journal recovers to a prefix, so after a kill a position stands for rows that are there;
//! what a power cut takes is behind `synced_position`, and the log replays it.

mod accounts;
mod batch;
mod codec;
mod keys;
mod presync;
mod queue;
mod read;
mod recent;
mod tables;
mod writer;

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use bytes::Bytes;
use domain::{ChatId, LoggedEntry, Partition, PartitionPosition, Seq, UserId, Watermark};
use tokio::time::{Instant, timeout_at};

use queue::{Queue, Write, Written};
use read::View;
use tables::Tables;

use crate::{
    Append, ChatFacts, ChatLine, Checkpoint, Config, Error, HISTORY_ROWS_MAX, Head, HistoryPage, LIST_ROWS_MAX,
    MemberRow, NameRow, Projection, Reactions, Reader, Receipt, SummaryRow, UserChatRow, waiters::Waiters,
};

/// Reads of more rows than this run on a blocking thread.
///
/// Measured: a point read 0.3 µs, the first row of a range 4–8 µs and each further one below 1 µs, all from memory; a trip
/// to a blocking thread 16–22 µs and a thread. So small reads are made in place (64 rows: 40–70 µs), and long ones must
/// not hold up the other tasks of an executor thread.
const ROWS_IN_PLACE_MAX: usize = 64;
/// How long the last handle waits for the writer's last sync.
const CLOSE_LIMIT: Duration = Duration::from_secs(10);

/// What the writer tells the callers beside its answers.
#[derive(Debug, Default)]
struct Shared {
    /// Positions that are on disk for sure.
    synced: Mutex<HashMap<Partition, PartitionPosition>>,
    commits: AtomicU64,
    waiters: Waiters,
}

/// The embedded engine; clones share it, and the last one closes it.
#[derive(Clone)]
pub struct Embedded {
    // Before `closer`: with the last queue the writer ends, and the closer waits for it.
    queue: Queue,
    tables: Arc<Tables>,
    shared: Arc<Shared>,
    _closer: Arc<Closer>,
}

impl fmt::Debug for Embedded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Embedded").field("commits", &self.commits()).finish_non_exhaustive()
    }
}

/// Waits for the writer's end, so that a folder is free and synced when its last handle is gone.
#[derive(Debug)]
struct Closer {
    ended: Mutex<mpsc::Receiver<()>>,
}

impl Drop for Closer {
    fn drop(&mut self) {
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        // Bounded: a halted engine must not keep a process from ending. Nothing is lost by it but the last sync.
        if ended.recv_timeout(CLOSE_LIMIT) == Err(mpsc::RecvTimeoutError::Timeout) {
            tracing::error!("the store's writer did not end in {CLOSE_LIMIT:?}");
        }
    }
}

impl Embedded {
    pub(crate) async fn open(config: Config) -> Result<Self, Error> {
        blocking(move || Self::open_in_place(&config)).await
    }

    fn open_in_place(config: &Config) -> Result<Self, Error> {
        let tables = Arc::new(Tables::open(config)?);
        let shared = Arc::new(Shared::default());
        let (queue, writes) = Queue::open(config);
        let (ended_sender, ended) = mpsc::sync_channel(0);
        // The engine syncs its journal when it recovers: what is there is on disk.
        *shared.synced.lock().unwrap_or_else(PoisonError::into_inner) = View::of(&tables).positions()?;
        let (writer_config, writer_tables, writer_shared) = (config.clone(), Arc::clone(&tables), Arc::clone(&shared));
        thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || {
                // Gone before the closer is told, so that the folder is free then.
                let (tables, shared) = (writer_tables, writer_shared);
                writer::run(&writer_config, &tables, &shared, &writes);
                drop((tables, shared));
                drop(ended_sender);
            })
            .map_err(tables::system("start the store's writer"))?;
        Ok(Self { queue, tables, shared, _closer: Arc::new(Closer { ended: Mutex::new(ended) }) })
    }

    async fn write(&self, write: Write) -> Result<(), Error> {
        self.queue.submit(write).await.map(|_done| ())
    }

    async fn read<T: Send + 'static>(
        &self,
        rows: usize,
        read: impl FnOnce(&View<'_>) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        if rows <= ROWS_IN_PLACE_MAX {
            return read(&self.view());
        }
        let tables = Arc::clone(&self.tables);
        blocking(move || read(&View::of(&tables))).await
    }

    fn view(&self) -> View<'_> {
        View::of(&self.tables)
    }

    pub(crate) async fn append(&self, append: Append) -> Result<(), Error> {
        self.write(Write::Append(append)).await
    }

    pub(crate) fn position(&self, partition: Partition) -> Result<Option<PartitionPosition>, Error> {
        self.view().position(partition)
    }

    pub(crate) fn synced_position(&self, partition: Partition) -> Option<PartitionPosition> {
        self.shared.synced.lock().unwrap_or_else(PoisonError::into_inner).get(&partition).cloned()
    }

    pub(crate) async fn sync(&self) -> Result<(), Error> {
        self.write(Write::Sync).await
    }

    pub(crate) fn snapshot(&self, chat: ChatId) -> Result<Option<Bytes>, Error> {
        self.view().snapshot(chat)
    }

    pub(crate) async fn members(
        &self,
        chat: ChatId,
        at_least: Seq,
        deadline: Instant,
    ) -> Result<Vec<MemberRow>, Error> {
        self.wait_for_row(chat, at_least, deadline).await?;
        self.view().members(chat)
    }

    /// Returns once the row is stored; [`Error::NotYet`] at the deadline.
    pub(crate) async fn wait_for_row(&self, chat: ChatId, seq: Seq, deadline: Instant) -> Result<(), Error> {
        // Most often it is there, and the waiters' lock is not touched.
        if seq == 0 || self.view().has_row(chat, seq)? {
            return Ok(());
        }
        let place = self.shared.waiters.enter(chat)?;
        loop {
            let appended = place.appended.notified();
            tokio::pin!(appended);
            // Registered before the look, so that no append falls between.
            appended.as_mut().enable();
            if self.view().has_row(chat, seq)? {
                return Ok(());
            }
            if timeout_at(deadline, appended).await.is_err() {
                return Err(Error::NotYet { chat, at_least: seq });
            }
        }
    }

    pub(crate) fn entry(&self, chat: ChatId, seq: Seq) -> Result<Option<LoggedEntry>, Error> {
        self.view().entry(chat, seq)
    }

    pub(crate) async fn history(
        &self,
        chat: ChatId,
        after: Seq,
        limit_entries: usize,
        limit_bytes: usize,
    ) -> Result<HistoryPage, Error> {
        let rows = limit_entries.min(HISTORY_ROWS_MAX);
        self.read(rows, move |view| view.history(chat, after, limit_entries, limit_bytes)).await
    }

    pub(crate) fn direct(&self, a: UserId, b: UserId) -> Result<Option<ChatId>, Error> {
        // What is visible was synced before it became so.
        self.view().direct(a, b)
    }

    pub(crate) async fn claim_direct(&self, a: UserId, b: UserId, proposed: ChatId) -> Result<ChatId, Error> {
        if let Some(chat) = self.direct(a, b)? {
            return Ok(chat);
        }
        let claimed = self.queue.submit(Write::Direct { a, b, proposed }).await?;
        let Written::Chat(chat) = claimed else { return Err(Error::Closed) };
        Ok(chat)
    }

    pub(crate) async fn claim_meta(&self, key: &str, value: Bytes) -> Result<Bytes, Error> {
        let key = Bytes::copy_from_slice(key.as_bytes());
        let Written::Value(value) = self.queue.submit(Write::Meta { key, value }).await? else {
            return Err(Error::Closed);
        };
        Ok(value)
    }

    pub(crate) async fn project(&self, projection: Projection) -> Result<(), Error> {
        self.write(Write::Project(projection)).await
    }

    pub(crate) async fn chats_of(
        &self,
        user: UserId,
        partition: Option<Partition>,
        after: Option<ChatId>,
        limit: usize,
    ) -> Result<Vec<UserChatRow>, Error> {
        self.read(limit.min(LIST_ROWS_MAX), move |view| view.chats_of(user, partition, after, limit)).await
    }

    pub(crate) async fn all_summaries(&self, after: Option<ChatId>, limit: usize) -> Result<Vec<SummaryRow>, Error> {
        let limit = limit.clamp(1, LIST_ROWS_MAX);
        self.read(limit, move |view| view.all_summaries(after, limit)).await
    }

    pub(crate) async fn logged_chats(&self, partition: Partition) -> Result<Vec<ChatId>, Error> {
        self.read(usize::MAX, move |view| view.logged_chats(partition)).await
    }

    pub(crate) async fn chat_lines(
        &self,
        user: UserId,
        after: Option<ChatId>,
        limit: usize,
    ) -> Result<Vec<ChatLine>, Error> {
        // Four tables a line.
        self.read(4 * limit.min(LIST_ROWS_MAX), move |view| view.chat_lines(user, after, limit)).await
    }

    pub(crate) async fn stays(
        &self,
        chat: ChatId,
        user: UserId,
        at_least: Seq,
        deadline: Instant,
    ) -> Result<Option<Vec<MemberRow>>, Error> {
        self.wait_for_row(chat, at_least, deadline).await?;
        self.view().stays(chat, user)
    }

    pub(crate) async fn receipts(
        &self,
        chat: ChatId,
        seq: Seq,
        after: Option<UserId>,
        limit: usize,
    ) -> Result<Vec<Receipt>, Error> {
        let limit = limit.clamp(1, LIST_ROWS_MAX);
        // Stays that are passed over are read too, and nothing bounds how many there were.
        self.read(LIST_ROWS_MAX, move |view| view.receipts(chat, seq, after, limit)).await
    }

    pub(crate) async fn summaries(&self, chats: &[ChatId]) -> Result<Vec<Option<SummaryRow>>, Error> {
        let chats = chats.to_vec();
        self.read(chats.len(), move |view| chats.iter().map(|chat| view.summary(*chat)).collect()).await
    }

    pub(crate) async fn chat_name(&self, chat: ChatId) -> Result<Option<NameRow>, Error> {
        self.read(1, move |view| view.name(chat)).await
    }

    pub(crate) async fn chat_facts(&self, chat: ChatId) -> Result<ChatFacts, Error> {
        self.read(2, move |view| view.chat_facts(chat)).await
    }

    pub(crate) async fn reactions(
        &self,
        chat: ChatId,
        after: Seq,
        through: Seq,
        limit: usize,
    ) -> Result<Reactions, Error> {
        self.read(limit, move |view| view.reactions(chat, after, through, limit)).await
    }

    pub(crate) async fn watermarks(&self, chat: ChatId, users: &[UserId]) -> Result<Vec<Watermark>, Error> {
        let users = users.to_vec();
        self.read(users.len(), move |view| users.iter().map(|user| view.watermark(chat, *user)).collect()).await
    }

    pub(crate) async fn heads(
        &self,
        user: UserId,
        partition: Partition,
        after: Option<ChatId>,
        limit: usize,
    ) -> Result<Vec<Head>, Error> {
        // Three tables a line.
        self.read(3 * limit.min(LIST_ROWS_MAX), move |view| view.heads(user, partition, after, limit)).await
    }

    pub(crate) fn checkpoint(&self, reader: Reader, partition: Partition) -> Result<Option<Checkpoint>, Error> {
        self.view().checkpoint(reader, partition)
    }

    pub(crate) async fn save_checkpoint(
        &self,
        reader: Reader,
        partition: Partition,
        checkpoint: Checkpoint,
    ) -> Result<(), Error> {
        self.write(Write::Checkpoint { reader, partition, checkpoint }).await
    }

    pub(crate) fn commits(&self) -> u64 {
        self.shared.commits.load(Ordering::Relaxed)
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Result<T, Error> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(ended) if ended.is_panic() => std::panic::resume_unwind(ended.into_panic()),
        // The runtime is shutting down.
        Err(_cancelled) => Err(Error::Closed),
    }
}
