//! Reads a stream in order, each record once, from a checkpoint on.
//!
//! Rests on an unacknowledged pull consumer that is made anew whenever it does not go on. The consumer is trusted with
//! speed only: every record's sequence is checked against the one that is due, since the broker silently moves a start
//! below the first record up and one above the last record down, and drops what does not fit into a queue.

use std::pin::pin;
use std::time::Duration;

use async_nats::jetstream::Message;
use async_nats::jetstream::consumer::pull::{self, MessagesErrorKind};
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy};
use futures_util::future::BoxFuture;
use futures_util::{FutureExt as _, StreamExt as _};
use metrics::counter;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::ReadError;
use crate::record::{self, Bounds, Record};
use crate::streams::Stream;
use crate::tenure::Tenure;

/// Records asked for at a time; another request goes out when half of them have come.
///
/// With what is asked for meanwhile, at most 1.5 times as many wait in memory: 48 MiB of the largest records.
const PULL_RECORDS: usize = 128;
/// How long a request stays with the broker.
const PULL_EXPIRES: Duration = Duration::from_secs(30);
const HEARTBEAT: Duration = Duration::from_secs(2);
/// The broker drops a consumer that nobody asks for that long.
const CONSUMER_UNUSED: Duration = Duration::from_secs(60);
/// Bounds of what one call returns.
const BATCH_RECORDS_MAX: usize = 256;
const BATCH_BYTES_MAX: usize = 4 << 20;
/// How often a reader that gets nothing looks whether something waits.
const WATCHDOG_INTERVAL: Duration = Duration::from_secs(1);
/// How long a reader tries to go on before it ends.
const REOPEN_WITHIN: Duration = Duration::from_secs(30);
const REOPEN_PAUSE: Duration = Duration::from_millis(20);
const REOPEN_PAUSE_MAX: Duration = Duration::from_secs(1);
/// One try to make a consumer.
const OPEN_WITHIN: Duration = Duration::from_secs(5);

/// Reads a stream in order; made by [`Tenure::reader`].
///
/// What takes longer than a call may live is kept here, so that a caller who gives up calls again and again does not
/// keep it from ending.
pub struct OrderedReader {
    tenure: Tenure,
    stream: Stream,
    /// The next record that is due.
    due: u64,
    feed: Option<Box<pull::Stream>>,
    /// A new consumer in the making, while there is no feed.
    opening: Option<BoxFuture<'static, Result<Opened, ReadError>>>,
    /// Where the last consumer left a hole, to see whether a new one leaves it too.
    hole: Option<u64>,
    /// When the watchdog looks next, and its question to the broker while it looks.
    look_at: Instant,
    looking: Option<BoxFuture<'static, Option<Bounds>>>,
    /// What was due when the watchdog last saw a backlog.
    stalled: Option<u64>,
}

impl std::fmt::Debug for OrderedReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OrderedReader")
            .field("stream", &self.stream)
            .field("partition", &self.tenure.partition())
            .field("due", &self.due)
            .finish_non_exhaustive()
    }
}

enum Checked {
    Due(Record),
    Old,
    Hole(u64),
    Unreadable,
}

enum Step {
    Go,
    Records(Vec<Record>),
    Restart(&'static str),
    End(ReadError),
}

/// A consumer that starts at what is due.
struct Opened {
    feed: Box<pull::Stream>,
    due: u64,
}

impl OrderedReader {
    pub(crate) async fn open(tenure: Tenure, stream: Stream, from: u64) -> Result<Self, ReadError> {
        let Opened { feed, due } = open(tenure.clone(), stream, from.max(1)).await?;
        let look_at = Instant::now() + WATCHDOG_INTERVAL;
        let feed = Some(feed);
        Ok(Self { tenure, stream, due, feed, opening: None, hole: None, look_at, looking: None, stalled: None })
    }

    /// The next record that is due.
    pub fn due(&self) -> u64 {
        self.due
    }

    /// Waits for records and returns all that wait, at least one, in order and without a hole.
    ///
    /// At most 256 records and about 4 MiB at a time. Loses nothing when it is dropped before it is ready. After an
    /// error the reader is of no more use. On the lossy stream holes are passed over and counted.
    pub async fn next(&mut self) -> Result<Vec<Record>, ReadError> {
        let tenure = self.tenure.clone();
        let mut lost = pin!(tenure.lost());
        loop {
            // M6: what the lost connection brought is not handed on either; its owner has to step down.
            if tenure.is_lost() {
                return Err(ReadError::Lost);
            }
            let Some(feed) = self.feed.as_mut() else {
                let (tenure, stream, due) = (self.tenure.clone(), self.stream, self.due);
                let opening = self.opening.get_or_insert_with(|| open(tenure, stream, due).boxed());
                let opened = tokio::select! {
                    biased;
                    () = &mut lost => Err(ReadError::Lost),
                    opened = opening => opened,
                };
                self.opening = None;
                let Opened { feed, due } = opened?;
                self.feed = Some(feed);
                self.due = due;
                continue;
            };
            let step = match self.looking.as_mut() {
                None => tokio::select! {
                    biased;
                    item = feed.next() => self.take(item),
                    () = &mut lost => Step::End(ReadError::Lost),
                    () = sleep_until(self.look_at) => {
                        self.looking = Some(bounds(tenure.clone(), self.stream).boxed());
                        Step::Go
                    }
                },
                // Looked at beside the records: a broker that is slow to answer must not hold them up.
                Some(looking) => tokio::select! {
                    biased;
                    item = feed.next() => self.take(item),
                    () = &mut lost => Step::End(ReadError::Lost),
                    bounds = looking => {
                        self.looking = None;
                        self.look_at = Instant::now() + WATCHDOG_INTERVAL;
                        self.judge(bounds)
                    }
                },
            };
            match step {
                Step::Go => {}
                Step::Records(records) => return Ok(records),
                Step::Restart(reason) => self.restart(reason),
                Step::End(error) => return Err(error),
            }
        }
    }

    /// What came, and all that waits behind it.
    fn take(&mut self, first: Option<Result<Message, pull::MessagesError>>) -> Step {
        let mut item = first;
        let mut records = Vec::new();
        let mut bytes = 0;
        loop {
            let ended = match item {
                Some(Ok(message)) => match self.check(&message) {
                    Checked::Due(record) => {
                        bytes += record.payload.len();
                        records.push(record);
                        None
                    }
                    Checked::Old => None,
                    Checked::Hole(found) => {
                        // A second consumer that leaves the same hole says that the record is gone.
                        if records.is_empty() && self.hole == Some(self.due) {
                            return Step::End(ReadError::Gap { stream: self.stream, expected: self.due, found });
                        }
                        self.hole = Some(self.due);
                        Some("hole")
                    }
                    Checked::Unreadable => Some("unreadable"),
                },
                Some(Err(error)) => match error.kind() {
                    // Said once each time that the broker is quiet for too long; the stream goes on. Whether
                    // something waits is for the watchdog to find out.
                    MessagesErrorKind::MissingHeartbeat => {
                        counter!("event_log_heartbeats_missed_total", "stream" => self.stream.name()).increment(1);
                        None
                    }
                    MessagesErrorKind::ConsumerDeleted => Some("deleted"),
                    MessagesErrorKind::Pull
                    | MessagesErrorKind::PushBasedConsumer
                    | MessagesErrorKind::NoResponders
                    | MessagesErrorKind::RequestLimitExceeded
                    | MessagesErrorKind::Other => Some("error"),
                },
                None => Some("ended"),
            };
            if let Some(reason) = ended {
                self.restart(reason);
                break;
            }
            if records.len() >= BATCH_RECORDS_MAX || bytes >= BATCH_BYTES_MAX {
                break;
            }
            let Some(waiting) = self.feed.as_mut().and_then(|feed| feed.next().now_or_never()) else { break };
            item = waiting;
        }
        if records.is_empty() {
            return Step::Go;
        }
        self.stalled = None;
        self.looking = None;
        self.look_at = Instant::now() + WATCHDOG_INTERVAL;
        Step::Records(records)
    }

    fn check(&mut self, message: &Message) -> Checked {
        let Ok(info) = message.info() else { return Checked::Unreadable };
        let sequence = info.stream_sequence;
        if sequence < self.due {
            counter!("event_log_records_repeated_total", "stream" => self.stream.name()).increment(1);
            return Checked::Old;
        }
        if sequence > self.due {
            if !self.stream.is_lossy() {
                return Checked::Hole(sequence);
            }
            missed(self.stream, sequence - self.due);
        }
        self.due = sequence + 1;
        Checked::Due(Record {
            sequence,
            time_ns: record::time_ns(info.published.unix_timestamp_nanos()),
            message_id: record::message_id(message.headers.as_ref()),
            payload: message.payload.clone(),
        })
    }

    /// The watchdog: a backlog at two looks in a row, and no record between them, means that the consumer is stuck.
    fn judge(&mut self, looked: Option<Bounds>) -> Step {
        // No answer: the next look will tell, and a lost tenure is noticed on its own.
        let Some(bounds) = looked else { return Step::Go };
        let waits = bounds.last >= self.due;
        // The stream begins anew below us: nothing would ever come.
        let ahead = bounds.last.saturating_add(1) < self.due;
        if ahead || (waits && self.stalled == Some(self.due)) {
            return Step::Restart("watchdog");
        }
        self.stalled = waits.then_some(self.due);
        Step::Go
    }

    fn restart(&mut self, reason: &'static str) {
        counter!("event_log_reader_restarts_total", "reason" => reason, "stream" => self.stream.name()).increment(1);
        tracing::debug!(stream = %self.stream, partition = %self.tenure.partition(), due = self.due, reason, "reader restarts");
        self.feed = None;
        self.looking = None;
        self.look_at = Instant::now() + WATCHDOG_INTERVAL;
        self.stalled = None;
    }
}

async fn bounds(tenure: Tenure, stream: Stream) -> Option<Bounds> {
    timeout(OPEN_WITHIN, tenure.bounds(stream)).await.ok()?.ok()
}

/// Makes a consumer that starts at `due`, trying for a while.
async fn open(tenure: Tenure, stream: Stream, due: u64) -> Result<Opened, ReadError> {
    let end = Instant::now() + REOPEN_WITHIN;
    let mut pause = REOPEN_PAUSE;
    loop {
        if tenure.is_lost() {
            return Err(ReadError::Lost);
        }
        let failed = match timeout(OPEN_WITHIN, try_open(&tenure, stream, due)).await {
            Ok(Ok(opened)) => return Ok(opened),
            Ok(Err(Failed::For(error))) => return Err(error),
            Ok(Err(Failed::Now(text))) => text,
            Err(_) => "no answer in time".to_owned(),
        };
        if Instant::now() + pause >= end {
            return Err(ReadError::Broker(failed));
        }
        sleep(pause).await;
        pause = (pause * 2).min(REOPEN_PAUSE_MAX);
    }
}

async fn try_open(tenure: &Tenure, stream: Stream, mut due: u64) -> Result<Opened, Failed> {
    let bounds = tenure.bounds(stream).await.map_err(|error| Failed::Now(error.to_string()))?;
    let mut passed = 0;
    if stream.is_lossy() {
        let from = due.clamp(bounds.first, bounds.last.max(bounds.first - 1) + 1);
        passed = from.saturating_sub(due);
        due = from;
    } else if due < bounds.first {
        return Err(Failed::For(ReadError::Gap { stream, expected: due, found: bounds.first }));
    } else if due > bounds.last + 1 {
        return Err(Failed::For(ReadError::LostTail { stream, expected: due, last: bounds.last }));
    }
    let config = pull::Config {
        deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: due },
        ack_policy: AckPolicy::None,
        inactive_threshold: CONSUMER_UNUSED,
        memory_storage: true,
        num_replicas: 1,
        ..pull::Config::default()
    };
    let made = tenure.context().create_consumer_on_stream(config, tenure.stream_name(stream)).await;
    let consumer = made.map_err(|error| Failed::Now(error.to_string()))?;
    let asking = consumer.stream().max_messages_per_batch(PULL_RECORDS).expires(PULL_EXPIRES).heartbeat(HEARTBEAT);
    let feed = asking.messages().await.map_err(|error| Failed::Now(error.to_string()))?;
    missed(stream, passed);
    Ok(Opened { feed: Box::new(feed), due })
}

enum Failed {
    /// Trying again would not help.
    For(ReadError),
    /// It may work soon.
    Now(String),
}

fn missed(stream: Stream, records: u64) {
    if records > 0 {
        counter!("event_log_records_missed_total", "stream" => stream.name()).increment(records);
    }
}
