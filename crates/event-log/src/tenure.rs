//! One acquisition of a partition by a role, on a connection that never comes back (M6).
//!
//! Everything that an owner does to its partition's streams goes through here: fenced publishes, leader reads, readers
//! and trimming. When the connection goes, the tenure is over; its owner steps down and acquires anew.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use async_nats::Client;
use async_nats::connection::State;
use async_nats::jetstream::{self, Context};
use bytes::Bytes;
use domain::{Epoch, Partition, TenureId};
use metrics::counter;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use crate::connection::Dedicated;
use crate::inlet::{Entrance, Inlet};
use crate::leases::{Holder, entry};
use crate::local::Locals;
use crate::log::{dropped, refused};
use crate::names::Names;
use crate::publish::{Attempt, Mark, attempt};
use crate::reader::OrderedReader;
use crate::record::{self, Bounds, Record};
use crate::streams::{self, Stream};
use crate::subject::Subject;
use crate::tap::Tap;
use crate::{Error, FencedError, LogConfig, MESSAGE_BYTES_MAX, PublishError, RECORD_BYTES_MAX, ReadError, SendError};

/// Between two attempts while nobody is there to store the record.
const ELECTION_PAUSE: std::time::Duration = std::time::Duration::from_millis(20);
/// Before an attempt in doubt is made again.
const IN_DOUBT_PAUSE: std::time::Duration = std::time::Duration::from_millis(100);

/// Who may own a partition; each role owns it on its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// Decides commands and writes events.
    Ingest,
    /// Pushes events to sessions and writes statuses.
    Delivery,
    /// Folds events and statuses into read models.
    Projections,
    /// Notifies devices.
    Push,
}

impl Role {
    /// As in the tenure's key and in labels.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ingest => "ingest",
            Self::Delivery => "delivery",
            Self::Projections => "projections",
            Self::Push => "push",
        }
    }
}

/// One acquisition of a partition by a role; cheap to clone, all clones end together.
#[derive(Clone)]
pub struct Tenure {
    inner: Arc<Inner>,
}

/// What a tenure shares with the rest of its process.
#[derive(Clone, Debug)]
pub(crate) struct Within {
    pub(crate) locals: Arc<Locals>,
    pub(crate) tap: Arc<Tap>,
    pub(crate) entrance: Arc<Entrance>,
    pub(crate) serving: Arc<Serving>,
}

/// The latest tenure of each partition that this process does the work of a role with.
#[derive(Debug, Default)]
pub(crate) struct Serving(Mutex<BTreeMap<(Role, Partition), Weak<Inner>>>);

impl Serving {
    fn tenures(&self) -> MutexGuard<'_, BTreeMap<(Role, Partition), Weak<Inner>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether one of the partition's tenures was told to serve, lives, and is not lost.
    pub(crate) fn has(&self, role: Role, partition: Partition) -> bool {
        let latest = self.tenures().get(&(role, partition)).and_then(Weak::upgrade);
        latest.is_some_and(|inner| !Tenure { inner }.is_lost())
    }
}

pub(crate) struct Inner {
    id: TenureId,
    role: Role,
    partition: Partition,
    epoch: Epoch,
    client: Client,
    context: Context,
    lost: watch::Receiver<bool>,
    names: Names,
    within: Within,
    config: LogConfig,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.within.tap.leave(self.id);
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inner").field("id", &self.id).finish_non_exhaustive()
    }
}

impl fmt::Debug for Tenure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tenure")
            .field("id", &self.inner.id)
            .field("role", &self.inner.role)
            .field("partition", &self.inner.partition)
            .finish_non_exhaustive()
    }
}

impl Tenure {
    pub(crate) async fn acquire(
        config: &LogConfig,
        names: &Names,
        within: Within,
        connection: Dedicated,
        (role, partition): (Role, Partition),
        holder: &Holder,
        expected: Option<u64>,
    ) -> Result<Self, Error> {
        let Dedicated { client, lost } = connection;
        let context = jetstream::new(client.clone());
        let epoch = streams::epoch(&context, names, partition).await?;
        // The revision of a put grows with each one to the bucket, so a later tenure has a higher id (M15).
        let subject = names.tenure(&entry::holder_key(role, partition));
        let mark = expected.map_or(Mark::None, Mark::Revision);
        let met = attempt(&client, subject, entry::value(holder), mark, config.attempt_deadline()).await;
        if let Attempt::WrongLast(_) = met {
            return Err(Error::Taken);
        }
        let Attempt::Stored(revision) = met else {
            return Err(Error::broker(format!("take {} of partition {partition}", role.name()), format!("{met:?}")));
        };
        let id = TenureId(revision);
        let (names, config) = (names.clone(), config.clone());
        let inner = Inner { id, role, partition, epoch, client, context, lost, names, within, config };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Says that its owner has taken over and works, until the tenure is dropped or lost.
    pub fn serves(&self) {
        let latest = Arc::downgrade(&self.inner);
        self.inner.within.serving.tenures().insert((self.inner.role, self.inner.partition), latest);
    }

    /// Unique and growing: a later acquisition has a higher one.
    pub fn id(&self) -> TenureId {
        self.inner.id
    }

    /// The role that acquired it.
    pub fn role(&self) -> Role {
        self.inner.role
    }

    /// The partition that it is about.
    pub fn partition(&self) -> Partition {
        self.inner.partition
    }

    /// The epoch of the partition's streams, read at the acquisition.
    pub fn epoch(&self) -> Epoch {
        self.inner.epoch
    }

    /// Returns once the tenure's connection is gone; it never comes back.
    pub async fn lost(&self) {
        // An error means that the connection's task has ended, which is the same.
        let _ = self.inner.lost.clone().wait_for(|lost| *lost).await;
    }

    /// Whether the connection is gone.
    pub fn is_lost(&self) -> bool {
        *self.inner.lost.borrow() || self.inner.client.connection_state() != State::Connected
    }

    /// Publishes a record of events if the stream's last sequence is `expected_last`, and returns its sequence.
    ///
    /// M3: after [`FencedError::InDoubt`] publish the same bytes with the same expectation again. If the first one had
    /// landed, the second is refused, and the tail holds our writer id and batch number. The record carries no message
    /// id: what was stored is known by the fingerprint in its bytes.
    pub async fn publish_events(&self, payload: Bytes, expected_last: u64) -> Result<u64, FencedError> {
        if payload.len() > RECORD_BYTES_MAX {
            refused("too_large", Stream::Events.name());
            return Err(FencedError::TooLarge { bytes: payload.len() });
        }
        let end = Instant::now() + self.inner.config.attempt_deadline();
        // Unless it is said below how it ended, readers of the tap go to the broker.
        let publishing = self.inner.within.tap.publishing(self.inner.id);
        loop {
            let last = match self.publish(Stream::Events, payload.clone(), Mark::ExpectedLast(expected_last), end).await
            {
                Some(Attempt::Stored(sequence)) => {
                    publishing.stored(sequence, payload);
                    return Ok(sequence);
                }
                Some(Attempt::WrongLast(last)) => {
                    refused("fenced", Stream::Events.name());
                    return Err(FencedError::Refused { last });
                }
                Some(Attempt::Full) => {
                    publishing.not_stored();
                    refused("full", Stream::Events.name());
                    return Err(FencedError::Full);
                }
                // Surely not stored, so this attempt may be made again here.
                Some(Attempt::Unavailable(_)) if Instant::now() + ELECTION_PAUSE < end => {
                    counter!("event_log_publish_retries_total", "stream" => Stream::Events.name()).increment(1);
                    sleep(ELECTION_PAUSE).await;
                    continue;
                }
                Some(Attempt::Unavailable(last) | Attempt::Unknown(last)) => last,
                None => return Err(FencedError::Lost),
            };
            if self.is_lost() {
                return Err(FencedError::Lost);
            }
            refused("in_doubt", Stream::Events.name());
            // An answer that says nothing may come at once; repeated as fast, it would storm the broker.
            sleep(IN_DOUBT_PAUSE).await;
            return Err(FencedError::InDoubt { last });
        }
    }

    /// Publishes a record of statuses once, and returns its sequence.
    ///
    /// Losing or repeating one is harmless: readers merge by maximum, clients re-assert.
    pub async fn publish_statuses(&self, payload: Bytes) -> Result<u64, PublishError> {
        if payload.len() > RECORD_BYTES_MAX {
            refused("too_large", Stream::Statuses.name());
            return Err(PublishError::TooLarge { bytes: payload.len() });
        }
        let end = Instant::now() + self.inner.config.attempt_deadline();
        let last = match self.publish(Stream::Statuses, payload, Mark::None, end).await {
            Some(Attempt::Stored(sequence)) => return Ok(sequence),
            Some(Attempt::Full) => {
                refused("full", Stream::Statuses.name());
                return Err(PublishError::Full);
            }
            Some(Attempt::Unavailable(last) | Attempt::Unknown(last)) => last,
            Some(Attempt::WrongLast(_)) => "refused for a sequence that was not expected".to_owned(),
            None => return Err(PublishError::Lost),
        };
        refused("timeout", Stream::Statuses.name());
        Err(PublishError::Timeout { last })
    }

    /// One attempt; `None` when the tenure is lost.
    async fn publish(&self, stream: Stream, payload: Bytes, mark: Mark<'_>, end: Instant) -> Option<Attempt> {
        if self.is_lost() {
            return None;
        }
        let subject = self.inner.names.subject(&stream.subject(self.inner.partition));
        let left = end.saturating_duration_since(Instant::now());
        tokio::select! {
            biased;
            met = attempt(&self.inner.client, subject, payload, mark, left) => Some(met),
            () = self.lost() => None,
        }
    }

    /// Sends a core message over the tenure's own connection, in order with its other sends.
    ///
    /// Unlike those of the shared connection, what waits is never sent after a reconnect. What goes to one gateway alone
    /// is handed over where that gateway is in this process, but not once the tenure is lost.
    pub async fn send(&self, subject: &Subject, payload: Bytes) -> Result<(), SendError> {
        if payload.len() > MESSAGE_BYTES_MAX {
            dropped("too_large");
            return Err(SendError::TooLarge { bytes: payload.len() });
        }
        if self.hand_over(subject, &payload) {
            return Ok(());
        }
        let subject = self.inner.names.subject(subject);
        let sent = tokio::select! {
            biased;
            () = self.lost() => false,
            sent = self.inner.client.publish(subject, payload) => sent.is_ok(),
        };
        if !sent {
            dropped("disconnected");
            return Err(SendError::Disconnected);
        }
        Ok(())
    }

    /// Hands a message over if its only reader is in this process; false: it has to be [sent](Self::send).
    ///
    /// A lost tenure hands nothing over (M6).
    pub fn hand_over(&self, subject: &Subject, payload: &Bytes) -> bool {
        payload.len() <= MESSAGE_BYTES_MAX && !self.is_lost() && self.inner.within.locals.hand_over(subject, payload)
    }

    /// Reads one record from the stream's leader; `None` if it holds none with that sequence.
    pub async fn read(&self, stream: Stream, sequence: u64) -> Result<Option<Record>, Error> {
        let name = self.stream_name(stream);
        let what = || format!("read record {sequence} of {name}");
        let handle = self.inner.context.get_stream_no_info(&name).await.map_err(|error| self.failed(what(), &error))?;
        record::read(&handle, sequence).await.map_err(|error| self.failed(what(), &error))
    }

    /// What the stream holds now, from its leader.
    pub async fn bounds(&self, stream: Stream) -> Result<Bounds, Error> {
        let name = self.stream_name(stream);
        match streams::info(&self.inner.context, &name).await {
            Ok(info) => Ok(Bounds::of(&info)),
            Err(_) if self.is_lost() => Err(Error::Lost),
            Err(error) => Err(error),
        }
    }

    /// Drops records below `below`, but keeps a window of bytes and always the last record (M9).
    ///
    /// `below` must be covered by what is stored and synced, as read after this tenure's takeover. Returns the first
    /// sequence that is left. Records differ in size, so the window is met on average only.
    pub async fn trim(&self, stream: Stream, below: u64) -> Result<u64, Error> {
        let bounds = self.bounds(stream).await?;
        let below = trim_point(&bounds, below, self.inner.config.window_bytes);
        if below <= bounds.first {
            return Ok(bounds.first);
        }
        let name = self.stream_name(stream);
        let what = || format!("trim {name}");
        let handle = self.inner.context.get_stream_no_info(&name).await.map_err(|error| self.failed(what(), &error))?;
        handle.purge().sequence(below).await.map_err(|error| self.failed(what(), &error))?;
        counter!("event_log_trimmed_records_total", "stream" => stream.name()).increment(below - bounds.first);
        Ok(below)
    }

    /// Reads the stream in order from record `from` on.
    pub async fn reader(&self, stream: Stream, from: u64) -> Result<OrderedReader, ReadError> {
        OrderedReader::open(self.clone(), stream, from).await
    }

    /// What gateways of this process hand to this tenure, from now on; for ingest.
    ///
    /// An earlier tenure of this process gets nothing more.
    pub fn inlet(&self) -> Inlet {
        Entrance::open(&self.inner.within.entrance, self.inner.id)
    }

    pub(crate) fn tap(&self) -> &Arc<Tap> {
        &self.inner.within.tap
    }

    pub(crate) fn context(&self) -> &Context {
        &self.inner.context
    }

    pub(crate) fn stream_name(&self, stream: Stream) -> String {
        self.inner.names.stream(stream, self.inner.partition)
    }

    fn failed(&self, what: String, error: &impl ToString) -> Error {
        if self.is_lost() { Error::Lost } else { Error::broker(what, error.to_string()) }
    }
}

/// Where to cut so that about `window_bytes` and at least the last record stay.
fn trim_point(bounds: &Bounds, below: u64, window_bytes: u64) -> u64 {
    if bounds.records == 0 {
        return bounds.first;
    }
    let average = bounds.bytes.div_ceil(bounds.records).max(1);
    let spare = bounds.bytes.saturating_sub(window_bytes) / average;
    below.min(bounds.first.saturating_add(spare)).min(bounds.last)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { first: 101, last: 200, records: 100, bytes: 10_000 };

    #[test]
    fn trimming_stays_below_what_is_covered() {
        assert_eq!(trim_point(&BOUNDS, 150, 0), 150);
        assert_eq!(trim_point(&BOUNDS, 50, 0), 50);
    }

    #[test]
    fn trimming_keeps_the_last_record() {
        assert_eq!(trim_point(&BOUNDS, 1_000, 0), 200);
    }

    #[test]
    fn trimming_keeps_the_window() {
        assert_eq!(trim_point(&BOUNDS, 1_000, 4_000), 161);
        assert_eq!(trim_point(&BOUNDS, 1_000, 10_000), 101);
        assert_eq!(trim_point(&BOUNDS, 1_000, u64::MAX), 101);
    }

    #[test]
    fn an_empty_stream_is_left_alone() {
        let bounds = Bounds { first: 201, last: 200, records: 0, bytes: 0 };
        assert_eq!(trim_point(&bounds, 1_000, 0), 201);
    }
}
