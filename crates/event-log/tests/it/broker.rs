//! A broker for one test, and logs connected to it.

use std::time::Duration;

use async_nats::jetstream::{self, Context};
use bytes::Bytes;
use domain::Partition;
use event_log::{Log, LogConfig, OrderedReader, Record, Role, Stream, Tenure};
use futures_util::TryStreamExt as _;
use testkit::logs::{self, Watch};
use testkit::wait::until;
use testkit::{NatsOptions, NatsServer};

/// Longer than anything that a test waits for.
pub(crate) const SOON: Duration = Duration::from_secs(30);
pub(crate) const P0: Partition = Partition(0);

pub(crate) struct Broker {
    pub(crate) server: NatsServer,
    _watch: Watch,
}

impl Broker {
    pub(crate) async fn start() -> Self {
        Self::with(NatsOptions::default()).await
    }

    pub(crate) async fn with(options: NatsOptions) -> Self {
        let watch = logs::watch();
        Self { server: NatsServer::start(options).await.unwrap(), _watch: watch }
    }

    pub(crate) fn config(&self) -> LogConfig {
        LogConfig { servers: vec![self.server.url().to_owned()], partitions: 2, ..LogConfig::default() }
    }

    /// Small bounds: 64 KiB of commands and of events, of which trimming leaves 8 KiB.
    pub(crate) fn tight(&self) -> LogConfig {
        LogConfig { commands_bytes_max: 64 << 10, events_bytes_max: 64 << 10, window_bytes: 8 << 10, ..self.config() }
    }

    /// A log over open streams.
    pub(crate) async fn log(&self) -> Log {
        open(self.config()).await
    }

    /// Stops the broker where it stands; its sockets stay open.
    pub(crate) async fn stand_still(&self) {
        self.server.pause().unwrap();
        let status = format!("/proc/{}/stat", self.server.pid().unwrap());
        let stopped = async || std::fs::read_to_string(&status).unwrap().contains(") T ");
        until(SOON, "the broker to stand still", stopped).await;
    }

    /// A way to the broker beside the log, to look at it and to break things.
    pub(crate) async fn beside(&self) -> Context {
        jetstream::new(async_nats::connect(self.server.url()).await.unwrap())
    }
}

pub(crate) async fn open(config: LogConfig) -> Log {
    let log = Log::connect(config).await.unwrap();
    log.open_streams().await.unwrap();
    log
}

/// An owner in another process: what it publishes and sends comes over the broker.
pub(crate) async fn foreign_owner(broker: &Broker) -> Tenure {
    owner(&broker.log().await).await
}

pub(crate) async fn owner(log: &Log) -> Tenure {
    log.acquire(Role::Ingest, P0).await.unwrap()
}

pub(crate) fn bytes(text: impl ToString) -> Bytes {
    Bytes::from(text.to_string())
}

/// Publishes events 1, 2, 3 … up to `last` from an empty stream on.
pub(crate) async fn publish_events(tenure: &Tenure, from: u64, last: u64) {
    for sequence in from..=last {
        assert_eq!(tenure.publish_events(bytes(sequence), sequence - 1).await, Ok(sequence));
    }
}

/// Reads until `count` records are there.
pub(crate) async fn read(reader: &mut OrderedReader, count: usize) -> Vec<Record> {
    let mut records = Vec::new();
    while records.len() < count {
        let more = tokio::time::timeout(SOON, reader.next()).await.expect("records in time").unwrap();
        assert!(!more.is_empty());
        records.extend(more);
    }
    records
}

pub(crate) fn sequences(records: &[Record]) -> Vec<u64> {
    records.iter().map(|record| record.sequence).collect()
}

/// The broker's consumers of the first partition's events.
pub(crate) async fn consumers(context: &Context) -> Vec<String> {
    let stream = context.get_stream("EVENTS-0").await.unwrap();
    stream.consumer_names().try_collect().await.unwrap()
}

/// Publishes commands until the stream is full; returns the last sequence.
pub(crate) async fn fill_commands(log: &Log) -> u64 {
    let mut last = 0;
    for number in 0..1_000 {
        match log.publish_commands(P0, Bytes::from(vec![7; 4096]), &format!("fill-{number}")).await {
            Ok(sequence) => last = sequence,
            Err(error) => {
                assert_eq!(error, event_log::PublishError::Full);
                return last;
            }
        }
    }
    panic!("the stream took all");
}

pub(crate) async fn holds(tenure: &Tenure, stream: Stream) -> Vec<Bytes> {
    let bounds = tenure.bounds(stream).await.unwrap();
    let mut payloads = Vec::new();
    for sequence in bounds.first..=bounds.last {
        payloads.push(tenure.read(stream, sequence).await.unwrap().expect("no hole").payload);
    }
    payloads
}
