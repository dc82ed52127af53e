//! Reads a stream in order, each record once, from a checkpoint on.
//!
//! Rests on an unacknowledged pull consumer that is made anew whenever it does not go on. The consumer is trusted with
//! speed only: every record's sequence is checked against the one that is due, since the broker silently moves a start
//! below the first record up and one above the last record down, and drops what does not fit into a queue.
//!
//! Events that this process published itself come from its tap, as long as that goes on from the last record that the
//! broker gave; then the broker holds no consumer for the reader at all.

use std::pin::pin;
use std::time::Duration;

use async_nats::jetstream::Message;
use async_nats::jetstream::consumer::pull::{MessagesError, MessagesErrorKind};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt as _, StreamExt as _};
use metrics::counter;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::ReadError;
use crate::consumer::{Feed, Opened, bounds, missed, open};
use crate::record::{self, Bounds, Record};
use crate::streams::Stream;
use crate::tap::{Look, Run};
use crate::tenure::Tenure;

/// Bounds of what one call returns.
const BATCH_RECORDS_MAX: usize = 256;
const BATCH_BYTES_MAX: usize = 4 << 20;
/// How often a reader that gets nothing looks whether something waits.
const WATCHDOG_INTERVAL: Duration = Duration::from_secs(1);

/// Reads a stream in order; made by [`Tenure::reader`].
///
/// What takes longer than a call may live is kept here, so that a caller who gives up calls again and again does not
/// keep it from ending.
pub struct OrderedReader {
    tenure: Tenure,
    stream: Stream,
    /// The next record that is due.
    due: u64,
    feed: Option<Box<Feed>>,
    /// A new consumer in the making, while there is no feed.
    opening: Option<BoxFuture<'static, Result<Opened, ReadError>>>,
    /// The run of the tap that it reads, and how it hears of what is new there; then it has no feed.
    run: Option<Run>,
    changes: watch::Receiver<()>,
    /// The event that the broker gave last: the tap is joined at a record that is the same there.
    last: Option<(u64, Bytes)>,
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

/// What woke the reader.
#[expect(clippy::large_enum_variant, reason = "handed on at once, never kept")]
enum Came {
    Item(Option<Result<Message, MessagesError>>),
    Change,
}

enum Step {
    Go,
    Records(Vec<Record>),
    Restart(&'static str),
    End(ReadError),
}

impl OrderedReader {
    pub(crate) async fn open(tenure: Tenure, stream: Stream, from: u64) -> Result<Self, ReadError> {
        let Opened { feed, due } = open(tenure.clone(), stream, from.max(1)).await?;
        let look_at = Instant::now() + WATCHDOG_INTERVAL;
        let feed = Some(feed);
        let changes = tenure.tap().changes();
        Ok(Self {
            tenure,
            stream,
            due,
            feed,
            opening: None,
            run: None,
            changes,
            last: None,
            hole: None,
            look_at,
            looking: None,
            stalled: None,
        })
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
            self.changes.mark_unchanged();
            if let Some(run) = self.join() {
                match tenure.tap().look(run, self.due, BATCH_RECORDS_MAX, BATCH_BYTES_MAX) {
                    Look::Records(payloads) => return Ok(self.tapped(payloads)),
                    Look::End => {}
                    Look::Apart => self.leave_tap("apart"),
                }
            }
            if self.feed.is_none() && self.run.is_none() {
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
            }
            let (feed, changes) = (&mut self.feed, &mut self.changes);
            let coming = async {
                match feed {
                    Some(feed) => Came::Item(feed.records.next().await),
                    // An error would mean that the tap is gone, and with it the tenure.
                    None => changes.changed().await.map_or(Came::Item(None), |()| Came::Change),
                }
            };
            let step = match self.looking.as_mut() {
                None => tokio::select! {
                    biased;
                    came = coming => self.take(came),
                    () = &mut lost => Step::End(ReadError::Lost),
                    () = sleep_until(self.look_at) => {
                        self.looking = Some(bounds(tenure.clone(), self.stream).boxed());
                        Step::Go
                    }
                },
                // Looked at beside the records: a broker that is slow to answer must not hold them up.
                Some(looking) => tokio::select! {
                    biased;
                    came = coming => self.take(came),
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
    fn take(&mut self, first: Came) -> Step {
        let Came::Item(mut item) = first else { return Step::Go };
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
            let Some(waiting) = self.feed.as_mut().and_then(|feed| feed.records.next().now_or_never()) else { break };
            item = waiting;
        }
        let Some(last) = records.last() else { return Step::Go };
        self.last = Some((last.sequence, last.payload.clone())).filter(|_| self.stream == Stream::Events);
        self.went_on();
        Step::Records(records)
    }

    fn went_on(&mut self) {
        self.stalled = None;
        self.looking = None;
        self.look_at = Instant::now() + WATCHDOG_INTERVAL;
    }

    /// The run of the tap that goes on from what was read; from then on the broker is asked for nothing.
    fn join(&mut self) -> Option<Run> {
        if self.run.is_none()
            && let Some((sequence, payload)) = &self.last
        {
            self.run = self.tenure.tap().run_with(*sequence, payload);
            if self.run.is_some() {
                counter!("event_log_taps_joined_total").increment(1);
                self.last = None;
                self.hole = None;
                self.opening = None;
                if let Some(feed) = self.feed.take() {
                    feed.leave();
                }
            }
        }
        self.run
    }

    fn leave_tap(&mut self, reason: &'static str) {
        if self.run.take().is_some() {
            counter!("event_log_taps_left_total", "reason" => reason).increment(1);
        }
    }

    fn tapped(&mut self, payloads: Vec<Bytes>) -> Vec<Record> {
        let from = self.due;
        self.due += payloads.len() as u64;
        self.went_on();
        let record = |(sequence, payload)| Record { sequence, time_ns: 0, message_id: String::new(), payload };
        (from..).zip(payloads).map(record).collect()
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
        self.leave_tap(reason);
        self.last = None;
        self.feed = None;
        self.went_on();
    }
}
