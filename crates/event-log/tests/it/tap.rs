//! Events that the process published itself: read beside the broker, and only while that is as good.

use async_nats::jetstream::Context;
use event_log::{FencedError, Log, LogConfig, OrderedReader, ReadError, Role, Stream, Tenure};
use futures_util::FutureExt as _;
use testkit::wait::until;
use tokio::time::timeout;

use crate::broker::{Broker, P0, SOON, bytes, consumers, foreign_owner, open, owner, publish_events, read, sequences};
use crate::counters::Counters;

const JOINED: &str = "event_log_taps_joined_total";
const LEFT: &str = "event_log_taps_left_total";

/// A writer that has published its first record, and a reader of another role that has read it and joined the tap.
async fn joined(log: &Log, context: &Context) -> (Tenure, OrderedReader) {
    let writer = owner(log).await;
    let mut reader = log.acquire(Role::Delivery, P0).await.unwrap().reader(Stream::Events, 1).await.unwrap();
    publish_events(&writer, 1, 1).await;
    assert_eq!(sequences(&read(&mut reader, 1).await), [1]);
    no_consumer(&mut reader, context).await;
    (writer, reader)
}

/// Waits until the broker holds no consumer for a reader that has read all.
async fn no_consumer(reader: &mut OrderedReader, context: &Context) {
    let gone = async || {
        assert!(reader.next().now_or_never().is_none());
        consumers(context).await.is_empty()
    };
    until(SOON, "the consumer to be gone", gone).await;
}

#[tokio::test]
async fn events_of_the_own_process_need_no_consumer() {
    let counters = Counters::default();
    let _guard = counters.install();
    let broker = Broker::start().await;
    let context = broker.beside().await;
    let (writer, mut reader) = joined(&broker.log().await, &context).await;
    let (records, ()) = tokio::join!(read(&mut reader, 199), publish_events(&writer, 2, 200));
    assert_eq!(sequences(&records), (2..=200).collect::<Vec<_>>());
    assert!(records.iter().all(|record| record.payload == bytes(record.sequence)));
    assert!(consumers(&context).await.is_empty());
    assert_eq!((counters.get(JOINED, ""), counters.get(LEFT, "")), (1, 0));
}

#[tokio::test]
async fn a_reader_that_falls_behind_the_tap_reads_on_from_the_broker_and_joins_again() {
    let counters = Counters::default();
    let _guard = counters.install();
    let broker = Broker::start().await;
    let context = broker.beside().await;
    let log = open(LogConfig { tap_records_max: 4, ..broker.config() }).await;
    let (writer, mut reader) = joined(&log, &context).await;
    publish_events(&writer, 2, 100).await;
    assert_eq!(sequences(&read(&mut reader, 99).await), (2..=100).collect::<Vec<_>>());
    assert_eq!(counters.get(LEFT, "apart"), 1);
    no_consumer(&mut reader, &context).await;
    assert_eq!(counters.get(JOINED, ""), 2);
}

#[tokio::test]
async fn a_refused_owner_sends_its_readers_to_the_broker_at_once() {
    let counters = Counters::default();
    let _guard = counters.install();
    let broker = Broker::start().await;
    let (stale, mut reader) = joined(&broker.log().await, &broker.beside().await).await;
    publish_events(&foreign_owner(&broker).await, 2, 3).await;
    assert_eq!(stale.publish_events(bytes("stale"), 1).await, Err(FencedError::Refused { last: Some(3) }));
    assert_eq!(sequences(&read(&mut reader, 2).await), [2, 3]);
    assert_eq!((counters.get(LEFT, "apart"), counters.get(LEFT, "watchdog")), (1, 0));
}

#[tokio::test]
async fn a_stale_owner_that_publishes_nothing_holds_up_no_reader() {
    let counters = Counters::default();
    let _guard = counters.install();
    let broker = Broker::start().await;
    let (_stale, mut reader) = joined(&broker.log().await, &broker.beside().await).await;
    let foreign = foreign_owner(&broker).await;
    publish_events(&foreign, 2, 3).await;
    assert_eq!(sequences(&read(&mut reader, 2).await), [2, 3]);
    assert_eq!(counters.get(LEFT, "watchdog"), 1);
    // And it stays with the broker, where the next one is.
    publish_events(&foreign, 4, 4).await;
    assert_eq!(sequences(&read(&mut reader, 1).await), [4]);
    assert_eq!(counters.get(JOINED, ""), 1);
}

#[tokio::test]
async fn an_owner_that_is_gone_sends_its_readers_to_the_broker_at_once() {
    let counters = Counters::default();
    let _guard = counters.install();
    let broker = Broker::start().await;
    let (writer, mut reader) = joined(&broker.log().await, &broker.beside().await).await;
    drop(writer);
    publish_events(&foreign_owner(&broker).await, 2, 3).await;
    assert_eq!(sequences(&read(&mut reader, 2).await), [2, 3]);
    assert_eq!((counters.get(LEFT, "apart"), counters.get(LEFT, "watchdog")), (1, 0));
}

#[tokio::test]
async fn a_record_in_doubt_is_read_from_the_broker() {
    let counters = Counters::default();
    let _guard = counters.install();
    let broker = Broker::start().await;
    let context = broker.beside().await;
    let log = open(LogConfig { attempt_deadline_ms: 200, ..broker.config() }).await;
    let (writer, mut reader) = joined(&log, &context).await;
    broker.stand_still().await;
    let met = writer.publish_events(bytes(2), 1).await;
    assert!(matches!(met, Err(FencedError::InDoubt { .. })), "{met:?}");
    broker.server.resume().unwrap();
    // It landed, and nobody here was told.
    assert_eq!(sequences(&read(&mut reader, 1).await), [2]);
    assert_eq!((counters.get(LEFT, "apart"), counters.get(LEFT, "watchdog")), (1, 0));
    publish_events(&writer, 3, 10).await;
    assert_eq!(sequences(&read(&mut reader, 8).await), (3..=10).collect::<Vec<_>>());
    no_consumer(&mut reader, &context).await;
}

#[tokio::test]
async fn a_new_owner_in_the_same_process_is_followed_over_the_broker() {
    let counters = Counters::default();
    let _guard = counters.install();
    let broker = Broker::start().await;
    let context = broker.beside().await;
    let log = broker.log().await;
    let (_old, mut reader) = joined(&log, &context).await;
    let new = owner(&log).await;
    publish_events(&new, 2, 20).await;
    assert_eq!(sequences(&read(&mut reader, 19).await), (2..=20).collect::<Vec<_>>());
    assert_eq!(counters.get(LEFT, "apart"), 1);
    no_consumer(&mut reader, &context).await;
    assert_eq!(counters.get(JOINED, ""), 2);
}

#[tokio::test]
async fn a_reader_on_the_tap_ends_with_its_tenure() {
    let broker = Broker::start().await;
    let log = broker.log().await;
    let (writer, mut reader) = joined(&log, &broker.beside().await).await;
    publish_events(&writer, 2, 5).await;
    broker.server.kill().unwrap();
    let ended = async {
        loop {
            if let Err(error) = reader.next().await {
                return error;
            }
        }
    };
    assert_eq!(timeout(SOON, ended).await.unwrap(), ReadError::Lost);
}
