//! The broker's way of giving a stream's records: an unacknowledged pull consumer that starts at what is due.
//!
//! Made and forgotten by the reader, which alone judges what comes.

use std::time::Duration;

use async_nats::jetstream::consumer::pull;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy};
use metrics::counter;
use tokio::time::{Instant, sleep, timeout};

use crate::ReadError;
use crate::record::Bounds;
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
/// How long a reader tries to go on before it ends.
const REOPEN_WITHIN: Duration = Duration::from_secs(30);
const REOPEN_PAUSE: Duration = Duration::from_millis(20);
const REOPEN_PAUSE_MAX: Duration = Duration::from_secs(1);
/// One try to make a consumer.
const OPEN_WITHIN: Duration = Duration::from_secs(5);

/// A consumer that starts at what is due.
pub(crate) struct Opened {
    pub(crate) feed: Box<Feed>,
    pub(crate) due: u64,
}

/// What a consumer gives.
pub(crate) struct Feed {
    pub(crate) records: pull::Stream,
    name: String,
    tenure: Tenure,
    stream: Stream,
}

impl Feed {
    /// Lets the broker forget the consumer at once; should that fail, it does so by itself a while later.
    pub(crate) fn leave(self) {
        let Self { records, name, tenure, stream } = self;
        drop(records);
        tokio::spawn(async move {
            let left = tenure.context().delete_consumer_from_stream(name, tenure.stream_name(stream)).await;
            if let Err(error) = left {
                tracing::debug!(%stream, %error, "a consumer is left to the broker");
            }
        });
    }
}

pub(crate) async fn bounds(tenure: Tenure, stream: Stream) -> Option<Bounds> {
    timeout(OPEN_WITHIN, tenure.bounds(stream)).await.ok()?.ok()
}

/// Makes a consumer that starts at `due`, trying for a while.
pub(crate) async fn open(tenure: Tenure, stream: Stream, due: u64) -> Result<Opened, ReadError> {
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
    let records = asking.messages().await.map_err(|error| Failed::Now(error.to_string()))?;
    missed(stream, passed);
    let name = consumer.cached_info().name.clone();
    Ok(Opened { feed: Box::new(Feed { records, name, tenure: tenure.clone(), stream }), due })
}

enum Failed {
    /// Trying again would not help.
    For(ReadError),
    /// It may work soon.
    Now(String),
}

/// Counts records of the lossy stream that were passed over.
pub(crate) fn missed(stream: Stream, records: u64) {
    if records > 0 {
        counter!("event_log_records_missed_total", "stream" => stream.name()).increment(records);
    }
}
