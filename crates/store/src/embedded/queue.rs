//! The bounded way of a write to the writer and of its answer back.
//!
//! Bound by bytes and by count (N9): a write that finds no room waits for it, in order of arrival, and so slows its
//! caller down. Nothing is dropped.

use std::{
    sync::{Arc, mpsc},
    time::Duration,
};

use bytes::Bytes;
use domain::{ChatId, Partition, UserId};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    time::timeout,
};

use super::accounts::AccountWrite;
use crate::{Append, Checkpoint, Config, Error, InviteUse, Projection, Reader, RefreshFamily, SendClaim, TicketRow};

/// Bytes that a row takes beside what is counted of it: its struct, key and bookkeeping.
pub(super) const ROW_OVERHEAD: usize = 128;

/// One write.
#[derive(Debug)]
pub(super) enum Write {
    Append(Append),
    Project(Projection),
    Checkpoint { reader: Reader, partition: Partition, checkpoint: Checkpoint },
    Direct { a: UserId, b: UserId, proposed: ChatId },
    Meta { key: Bytes, value: Bytes },
    Account(AccountWrite),
    Sync,
}

/// What a write answers.
#[derive(Clone, Debug)]
pub(super) enum Written {
    Done,
    Chat(ChatId),
    Value(Bytes),
    Flag(bool),
    Count(usize),
    User(UserId),
    Family(Option<Box<RefreshFamily>>),
    Claim(Box<SendClaim>),
    Ticket(Option<Box<TicketRow>>),
    InviteUse(Option<Box<InviteUse>>),
    /// A part of it: the writer does the rest in its next commits, and the caller goes on waiting.
    Part,
}

impl Write {
    /// Whether nothing could replay it, so that it is on disk before it is answered.
    pub(super) fn is_lasting(&self) -> bool {
        match self {
            Self::Direct { .. } | Self::Meta { .. } | Self::Account(_) => true,
            Self::Append(_) | Self::Project(_) | Self::Checkpoint { .. } | Self::Sync => false,
        }
    }

    fn weight(&self) -> usize {
        match self {
            Self::Append(append) => append
                .chats
                .iter()
                .map(|chat| {
                    let rows: usize = chat.rows.iter().map(|row| row.bytes.len() + ROW_OVERHEAD).sum();
                    rows + chat.members.len() * ROW_OVERHEAD + chat.snapshot.as_ref().map_or(0, Bytes::len)
                })
                .sum(),
            Self::Project(projection) => {
                let previews: usize =
                    projection.summaries.iter().filter_map(|row| Some(row.preview.as_ref()?.body.len())).sum();
                let rows = projection.user_chats.len() + projection.summaries.len() + projection.watermarks.len();
                previews + rows * ROW_OVERHEAD
            }
            Self::Meta { key, value } => key.len() + value.len(),
            Self::Account(write) => write.weight(),
            Self::Checkpoint { .. } | Self::Direct { .. } | Self::Sync => 0,
        }
    }
}

/// A write in the queue.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) write: Write,
    pub(super) weight: usize,
    pub(super) answer: oneshot::Sender<Result<Written, Error>>,
    // Given back when the write is answered, not when it is taken: what the writer works on counts too.
    _room: [OwnedSemaphorePermit; 2],
}

/// The callers' end.
#[derive(Clone, Debug)]
pub(super) struct Queue {
    sender: mpsc::Sender<Waiting>,
    count: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    bytes_max: u32,
    stall_limit: Duration,
}

impl Queue {
    pub(super) fn open(config: &Config) -> (Self, mpsc::Receiver<Waiting>) {
        let (sender, receiver) = mpsc::channel();
        let bytes_max = u32::try_from(config.queue_bytes).unwrap_or(u32::MAX).max(1);
        let queue = Self {
            sender,
            count: Arc::new(Semaphore::new(config.queue_writes.clamp(1, Semaphore::MAX_PERMITS))),
            bytes: Arc::new(Semaphore::new(bytes_max as usize)),
            bytes_max,
            stall_limit: config.stall_limit(),
        };
        (queue, receiver)
    }

    /// Waits for room, hands the write over and waits for its answer, at most the stall limit in all.
    pub(super) async fn submit(&self, write: Write) -> Result<Written, Error> {
        match timeout(self.stall_limit, self.hand_over(write)).await {
            Ok(answer) => answer,
            Err(_elapsed) => {
                metrics::counter!("store_writes_stalled_total").increment(1);
                Err(Error::Stalled { waited: self.stall_limit })
            }
        }
    }

    async fn hand_over(&self, write: Write) -> Result<Written, Error> {
        let weight = write.weight() + ROW_OVERHEAD;
        // One that is larger than the whole room gets all of it and goes alone.
        let share = u32::try_from(weight).unwrap_or(u32::MAX).min(self.bytes_max);
        let place = Arc::clone(&self.count).acquire_owned().await.map_err(|_closed| Error::Closed)?;
        let room = Arc::clone(&self.bytes).acquire_many_owned(share).await.map_err(|_closed| Error::Closed)?;
        let (answer, answered) = oneshot::channel();
        self.sender.send(Waiting { write, weight, answer, _room: [place, room] }).map_err(|_closed| Error::Closed)?;
        answered.await.map_err(|_closed| Error::Closed)?
    }
}
