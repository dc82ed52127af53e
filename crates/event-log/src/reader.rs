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
use futures_util::future::{Fuse, FusedFuture as _};
use futures_util::{FutureExt as _, StreamExt as _};
use metrics::counter;
use tokio::time::error::Elapsed;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep, timeout};

use crate::record::{self, Bounds, Record};
use crate::streams::Stream;
use crate::tenure::Tenure;
use crate::{Error, ReadError};

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
pub struct OrderedReader {
    tenure: Tenure,
    stream: Stream,
    /// The next record that is due.
    due: u64,
    feed: Option<Box<pull::Stream>>,
    /// Where the last consumer left a hole, to see whether a new one leaves it too.
    hole: Option<u64>,
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

impl OrderedReader {
    pub(crate) async fn open(tenure: Tenure, stream: Stream, from: u64) -> Result<Self, ReadError> {
        let mut reader = Self { tenure, stream, due: from.max(1), feed: None, hole: None, stalled: None };
        reader.reopen().await?;
        Ok(reader)
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
        let mut watchdog = interval_at(Instant::now() + WATCHDOG_INTERVAL, WATCHDOG_INTERVAL);
        watchdog.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // Looked at beside the records: a broker that is slow to answer must not hold them up.
        let mut looking = pin!(Fuse::terminated());
        loop {
            // M6: what the lost connection brought is not handed on either; its owner has to step down.
            if tenure.is_lost() {
                return Err(ReadError::Lost);
            }
            let Some(feed) = self.feed.as_mut() else {
                self.reopen().await?;
                continue;
            };
            let step = tokio::select! {
                biased;
                item = feed.next() => self.take(item),
                () = tenure.lost() => Step::End(ReadError::Lost),
                bounds = &mut looking => self.judge(bounds),
                _ = watchdog.tick(), if looking.is_terminated() => {
                    looking.set(timeout(OPEN_WITHIN, tenure.bounds(self.stream)).fuse());
                    Step::Go
                }
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
    fn judge(&mut self, looked: Result<Result<Bounds, Error>, Elapsed>) -> Step {
        // No answer: the next look will tell, and a lost tenure is noticed on its own.
        let Ok(Ok(bounds)) = looked else { return Step::Go };
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
        self.stalled = None;
    }

    /// Makes a consumer that starts at what is due, trying for a while.
    async fn reopen(&mut self) -> Result<(), ReadError> {
        let end = Instant::now() + REOPEN_WITHIN;
        let mut pause = REOPEN_PAUSE;
        loop {
            if self.tenure.is_lost() {
                return Err(ReadError::Lost);
            }
            let tried = timeout(OPEN_WITHIN, self.try_open()).await;
            let failed = match tried {
                Ok(Ok(feed)) => {
                    self.feed = Some(feed);
                    return Ok(());
                }
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

    async fn try_open(&mut self) -> Result<Box<pull::Stream>, Failed> {
        let bounds = self.tenure.bounds(self.stream).await.map_err(|error| Failed::Now(error.to_string()))?;
        if self.stream.is_lossy() {
            let due = self.due.clamp(bounds.first, bounds.last.max(bounds.first - 1) + 1);
            missed(self.stream, due.saturating_sub(self.due));
            self.due = due;
        } else if self.due < bounds.first {
            let gap = ReadError::Gap { stream: self.stream, expected: self.due, found: bounds.first };
            return Err(Failed::For(gap));
        } else if self.due > bounds.last + 1 {
            let lost = ReadError::LostTail { stream: self.stream, expected: self.due, last: bounds.last };
            return Err(Failed::For(lost));
        }
        let config = pull::Config {
            deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: self.due },
            ack_policy: AckPolicy::None,
            inactive_threshold: CONSUMER_UNUSED,
            memory_storage: true,
            num_replicas: 1,
            ..pull::Config::default()
        };
        let name = self.tenure.stream_name(self.stream);
        let consumer = self
            .tenure
            .context()
            .create_consumer_on_stream(config, name)
            .await
            .map_err(|error| Failed::Now(error.to_string()))?;
        let feed = consumer
            .stream()
            .max_messages_per_batch(PULL_RECORDS)
            .expires(PULL_EXPIRES)
            .heartbeat(HEARTBEAT)
            .messages()
            .await
            .map_err(|error| Failed::Now(error.to_string()))?;
        Ok(Box::new(feed))
    }
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
