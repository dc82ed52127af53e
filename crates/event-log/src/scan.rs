//! Looks through a stream of a partition from a time on, for what the log knows and nobody keeps elsewhere.
//!
//! Bounded in records, in bytes and in time, and read as it stood when the look began. Over the shared connection, by a
//! consumer in the broker's memory that goes with the [`Scan`]. No reader rests on it: nothing is tried again here.

use std::sync::Arc;
use std::time::Duration;

use async_nats::datetime;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use domain::Partition;
use futures_util::StreamExt as _;
use metrics::counter;
use tokio::runtime::Handle;
use tokio::time::{Instant, timeout_at};

use crate::connection::Lags;
use crate::record::{self, Record};
use crate::streams::{self, Stream};
use crate::{Error, Log, RECORD_BYTES_MAX};

/// Records asked for at a time: with those asked for meanwhile at most 6 MiB of the largest wait in memory.
const PULL_RECORDS: usize = 16;
const PULL_EXPIRES: Duration = Duration::from_secs(30);
/// The broker drops a consumer that nobody asks for that long, should it not hear that it is done with.
const CONSUMER_UNUSED: Duration = Duration::from_secs(10);

/// How much a look may take; at the first of these it ends.
#[derive(Debug, Clone, Copy)]
pub struct ScanBounds {
    /// Most records.
    pub records: usize,
    /// Most bytes of their payloads, the last record's perhaps beyond it.
    pub bytes: usize,
    /// Until when.
    pub until: Instant,
}

/// A look through a stream; made by [`Log::scan`]. Dropped, it leaves nothing on the broker.
#[derive(Debug)]
pub struct Scan {
    /// None once it has ended.
    feed: Option<Feed>,
    bounds: ScanBounds,
    /// The record that comes next, and the last one as of the beginning.
    due: u64,
    last: u64,
    is_whole: bool,
    began_ns: i64,
    through_ns: i64,
}

/// What the broker gives, and whom to tell when it is not needed any more.
struct Feed {
    records: pull::Stream,
    consumer: String,
    stream: String,
    log: Log,
    _counted: Counted,
}

impl std::fmt::Debug for Feed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Feed").field("consumer", &self.consumer).field("stream", &self.stream).finish_non_exhaustive()
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        let (log, consumer, stream) = (self.log.clone(), std::mem::take(&mut self.consumer), self.stream.clone());
        // Outside of a runtime nobody can be told: the broker forgets it by itself.
        let Ok(runtime) = Handle::try_current() else { return };
        runtime.spawn(async move {
            if let Err(error) = log.context().delete_consumer_from_stream(consumer, &stream).await {
                tracing::debug!(stream, %error, "a consumer is left to the broker");
            }
        });
    }
}

/// The number of a subscription of the broker client that nobody is told losses on.
#[derive(Debug)]
pub(crate) struct Counted {
    pub(crate) number: u64,
    pub(crate) lags: Arc<Lags>,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.lags.remove(self.number);
    }
}

impl Log {
    /// Looks through a stream, from the first record that the broker stored at this time or later, ns since 1970 UTC.
    ///
    /// # Errors
    /// The broker refused, or did not answer by the end of the bounds.
    pub async fn scan(
        &self,
        stream: Stream,
        partition: Partition,
        from_ns: i64,
        bounds: ScanBounds,
    ) -> Result<Scan, Error> {
        // In a task: given up half-way, the count of subscriptions would be wrong and a consumer be left.
        let opening = tokio::spawn(open(self.clone(), stream, partition, from_ns, bounds));
        let what = || format!("look through {stream}-{partition}");
        match timeout_at(bounds.until, opening).await {
            Ok(Ok(opened)) => opened,
            Ok(Err(error)) => Err(Error::broker(what(), error)),
            Err(_late) => Err(Error::broker(what(), "no answer in time")),
        }
    }
}

async fn open(log: Log, stream: Stream, partition: Partition, from_ns: i64, bounds: ScanBounds) -> Result<Scan, Error> {
    let name = log.names().stream(stream, partition);
    let what = || format!("look through {name}");
    let start_time = datetime::from_nanos(i128::from(from_ns)).map_err(|error| Error::broker(what(), error))?;
    let config = pull::Config {
        deliver_policy: DeliverPolicy::ByStartTime { start_time },
        ack_policy: AckPolicy::None,
        inactive_threshold: CONSUMER_UNUSED,
        memory_storage: true,
        num_replicas: 1,
        ..pull::Config::default()
    };
    let made = log.context().create_consumer_on_stream(config, &name).await;
    let consumer = made.map_err(|error| Error::broker(what(), error))?;
    let info = consumer.cached_info();
    let (before, waiting) = (info.delivered.stream_sequence, info.num_pending);
    let (id, began_ns) = (info.name.clone(), record::time_ns(info.created.unix_timestamp_nanos()));
    let asking = consumer.stream().max_messages_per_batch(PULL_RECORDS).expires(PULL_EXPIRES);
    let (records, counted) = log.counted(asking.messages()).await.map_err(|error| Error::broker(what(), error))?;
    let feed = Feed { records, consumer: id, stream: name, log: log.clone(), _counted: counted };
    let is_whole = is_whole(&log, stream, &feed.stream, before, from_ns, began_ns).await?;
    Ok(Scan {
        feed: Some(feed),
        bounds,
        due: before + 1,
        last: before + waiting,
        is_whole,
        began_ns,
        through_ns: from_ns.min(began_ns),
    })
}

/// Whether all that was ever stored from this time on was there when the consumer was made, behind record `before`.
///
/// Records go from the lowest up, so it was if the one before it is there still. That one may have gone for its age, and
/// those from this time on be too young for that. Then only want of room takes one of them; all behind it are there
/// still, so that there is no room now either.
async fn is_whole(
    log: &Log,
    stream: Stream,
    name: &str,
    before: u64,
    from_ns: i64,
    now_ns: i64,
) -> Result<bool, Error> {
    if before == 0 || record::read_named(log.context(), name, before).await?.is_some() {
        return Ok(true);
    }
    if !stream.is_lossy() {
        return Ok(false);
    }
    let info = streams::info(log.context(), name).await?;
    let age_max_ns = i64::try_from(info.config.max_age.as_nanos()).unwrap_or(i64::MAX);
    let is_young = age_max_ns == 0 || from_ns > now_ns.saturating_sub(age_max_ns);
    let bytes_max = u64::try_from(info.config.max_bytes).unwrap_or(u64::MAX);
    Ok(is_young && info.state.bytes + 2 * RECORD_BYTES_MAX as u64 <= bytes_max)
}

impl Scan {
    /// The next record, in order; none: the end of the stream as of the beginning, or a bound.
    ///
    /// # Errors
    /// The broker failed, or the record went while it was being read; there is no going on.
    pub async fn next(&mut self) -> Result<Option<Record>, Error> {
        let Some(feed) = &mut self.feed else { return Ok(None) };
        if self.due > self.last {
            self.feed = None;
            self.through_ns = self.began_ns;
            return Ok(None);
        }
        if self.bounds.records == 0 || self.bounds.bytes == 0 {
            return Ok(self.stop("size"));
        }
        let failed = match timeout_at(self.bounds.until, feed.records.next()).await {
            Err(_late) => return Ok(self.stop("time")),
            Ok(Some(Ok(message))) => match message.info() {
                Ok(info) if info.stream_sequence == self.due => {
                    let time_ns = record::time_ns(info.published.unix_timestamp_nanos());
                    let record = Record {
                        sequence: self.due,
                        time_ns,
                        message_id: record::message_id(message.headers.as_ref()),
                        payload: message.payload.clone(),
                    };
                    self.due += 1;
                    self.through_ns = time_ns;
                    self.bounds.records -= 1;
                    self.bounds.bytes = self.bounds.bytes.saturating_sub(record.payload.len());
                    return Ok(Some(record));
                }
                Ok(info) => format!("record {} came in the place of {}", info.stream_sequence, self.due),
                Err(error) => error.to_string(),
            },
            Ok(Some(Err(error))) => error.to_string(),
            Ok(None) => "the broker's records ended".to_owned(),
        };
        let what = format!("look through {}", feed.stream);
        self.feed = None;
        Err(Error::broker(what, failed))
    }

    fn stop(&mut self, bound: &'static str) -> Option<Record> {
        counter!("event_log_scans_cut_total", "bound" => bound).increment(1);
        self.feed = None;
        None
    }

    /// Whether nothing that was stored since the time that was asked for had gone from the stream before the beginning.
    pub const fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// Up to when all is given that the stream had, by the broker's clock: at the end the time of the beginning.
    pub const fn through_ns(&self) -> i64 {
        self.through_ns
    }
}
