//! The ordered reader: contiguous or an error, and it always goes on.

use std::time::Duration;

use async_nats::jetstream::Context;
use event_log::{LogConfig, ReadError, Stream};
use futures_util::FutureExt as _;
use testkit::wait::until;
use tokio::time::timeout;

use crate::broker::{Broker, P0, SOON, bytes, consumers, foreign_owner, open, owner, publish_events, read, sequences};
use crate::counters::Counters;

const RESTARTS: &str = "event_log_reader_restarts_total";

#[tokio::test]
async fn records_come_in_order_and_are_those_of_the_leader() {
    let broker = Broker::start().await;
    let log = broker.log().await;
    let tenure = owner(&log).await;
    for number in 1..=300 {
        log.publish_commands(P0, bytes(number), &format!("g-{number}")).await.unwrap();
    }
    let mut reader = tenure.reader(Stream::Commands, 1).await.unwrap();
    let records = read(&mut reader, 300).await;
    assert_eq!(sequences(&records), (1..=300).collect::<Vec<_>>());
    for record in [&records[0], &records[150], &records[299]] {
        // Time and id are a command record's fingerprint, so both ways must say the same.
        let direct = tenure.read(Stream::Commands, record.sequence).await.unwrap().unwrap();
        assert_eq!(&direct, record);
        assert_eq!(record.message_id, format!("g-{}", record.sequence));
        assert!(record.time_ns > 1_700_000_000_000_000_000);
    }
    assert_eq!(tenure.read(Stream::Commands, 301).await.unwrap(), None);
    // And it waits for what is still to come.
    let (more, published) = tokio::join!(read(&mut reader, 1), log.publish_commands(P0, bytes("x"), "x"));
    assert_eq!((sequences(&more), published), (vec![301], Ok(301)));
}

#[tokio::test]
async fn all_that_waits_comes_at_once() {
    let broker = Broker::start().await;
    let tenure = owner(&broker.log().await).await;
    let mut reader = tenure.reader(Stream::Events, 1).await.unwrap();
    publish_events(&tenure, 1, 100).await;
    let mut calls = 0;
    let mut seen = 0;
    while seen < 100 {
        seen += timeout(SOON, reader.next()).await.unwrap().unwrap().len();
        calls += 1;
    }
    assert!(calls <= 20, "{calls} calls for 100 records that waited");
}

#[tokio::test]
async fn reading_starts_at_the_checkpoint() {
    let broker = Broker::start().await;
    let tenure = owner(&broker.log().await).await;
    publish_events(&tenure, 1, 10).await;
    let mut reader = tenure.reader(Stream::Events, 7).await.unwrap();
    assert_eq!(sequences(&read(&mut reader, 4).await), [7, 8, 9, 10]);
}

#[tokio::test]
async fn a_start_below_the_first_record_is_a_gap() {
    let broker = Broker::start().await;
    let tenure = owner(&open(LogConfig { window_bytes: 0, ..broker.config() }).await).await;
    publish_events(&tenure, 1, 10).await;
    tenure.trim(Stream::Events, 5).await.unwrap();
    let gap = |expected| ReadError::Gap { stream: Stream::Events, expected, found: 5 };
    assert_eq!(tenure.reader(Stream::Events, 1).await.unwrap_err(), gap(1));
    assert_eq!(tenure.reader(Stream::Events, 4).await.unwrap_err(), gap(4));
    assert_eq!(sequences(&read(&mut tenure.reader(Stream::Events, 5).await.unwrap(), 6).await), [5, 6, 7, 8, 9, 10]);
}

#[tokio::test]
async fn a_start_that_the_broker_silently_moves_up_is_a_gap() {
    let counters = Counters::default();
    let _guard = counters.install();
    let broker = Broker::start().await;
    let tenure = owner(&open(LogConfig { window_bytes: 0, ..broker.config() }).await).await;
    publish_events(&tenure, 1, 10).await;
    // The bounds were fine at the start; the records go before they are asked for.
    let mut reader = tenure.reader(Stream::Events, 1).await.unwrap();
    tenure.trim(Stream::Events, 5).await.unwrap();
    let met = timeout(SOON, reader.next()).await.unwrap();
    assert_eq!(met, Err(ReadError::Gap { stream: Stream::Events, expected: 1, found: 5 }));
    // Seen by the sequence of the first record that came.
    assert_eq!(counters.get(RESTARTS, "hole"), 1);
}

#[tokio::test]
async fn a_checkpoint_above_the_stream_is_a_lost_tail() {
    let broker = Broker::start().await;
    let log = broker.log().await;
    let tenure = owner(&log).await;
    publish_events(&tenure, 1, 2).await;
    broker.server.stop().await.unwrap();
    let saved = broker.server.save_store().unwrap();
    broker.server.restart().await.unwrap();
    until(SOON, "the connection", async || log.is_connected()).await;
    publish_events(&owner(&log).await, 3, 5).await;
    // The power cut of a lazily synced broker.
    broker.server.kill().unwrap();
    broker.server.put_back_store(&saved).unwrap();
    broker.server.restart().await.unwrap();
    until(SOON, "the connection", async || log.is_connected()).await;
    let tenure = owner(&log).await;
    let met = tenure.reader(Stream::Events, 6).await.unwrap_err();
    assert_eq!(met, ReadError::LostTail { stream: Stream::Events, expected: 6, last: 2 });
    // One above the end is simply the next that is due.
    let mut reader = tenure.reader(Stream::Events, 3).await.unwrap();
    publish_events(&tenure, 3, 3).await;
    assert_eq!(sequences(&read(&mut reader, 1).await), [3]);
}

#[tokio::test]
async fn holes_in_statuses_are_passed_over_and_counted() {
    let counters = Counters::default();
    let _guard = counters.install();
    let broker = Broker::start().await;
    let tenure = owner(&open(LogConfig { window_bytes: 0, ..broker.config() }).await).await;
    for number in 1..=10_u64 {
        assert_eq!(tenure.publish_statuses(bytes(number)).await, Ok(number));
    }
    tenure.trim(Stream::Statuses, 4).await.unwrap();
    let mut reader = tenure.reader(Stream::Statuses, 1).await.unwrap();
    assert_eq!(sequences(&read(&mut reader, 7).await), [4, 5, 6, 7, 8, 9, 10]);
    assert_eq!(counters.get("event_log_records_missed_total", "STATUS"), 3);
    // A checkpoint above the end is no reason to stop either.
    let mut reader = tenure.reader(Stream::Statuses, 100).await.unwrap();
    assert_eq!(reader.due(), 11);
    tenure.publish_statuses(bytes(11)).await.unwrap();
    assert_eq!(sequences(&read(&mut reader, 1).await), [11]);
}

#[tokio::test]
async fn a_deleted_consumer_is_replaced() {
    let counters = Counters::default();
    let _guard = counters.install();
    let broker = Broker::start().await;
    let tenure = owner(&broker.log().await).await;
    let writer = foreign_owner(&broker).await;
    let context = broker.beside().await;
    publish_events(&writer, 1, 3).await;
    let mut reader = tenure.reader(Stream::Events, 1).await.unwrap();
    assert_eq!(sequences(&read(&mut reader, 3).await), [1, 2, 3]);
    // While nobody reads …
    for name in consumers(&context).await {
        context.get_stream("EVENTS-0").await.unwrap().delete_consumer(&name).await.unwrap();
    }
    publish_events(&writer, 4, 6).await;
    assert_eq!(sequences(&read(&mut reader, 3).await), [4, 5, 6]);
    // … and while the reader waits.
    let waiting = read(&mut reader, 3);
    let deleting = async {
        for name in consumers(&context).await {
            context.get_stream("EVENTS-0").await.unwrap().delete_consumer(&name).await.unwrap();
        }
        publish_events(&writer, 7, 9).await;
    };
    let (records, ()) = tokio::join!(waiting, deleting);
    assert_eq!(sequences(&records), [7, 8, 9]);
    assert!(counters.get(RESTARTS, "") >= 2);
}

/// The broker keeps the consumers and gives them nothing.
async fn pause_consumers(context: &Context) {
    let stream = context.get_stream("EVENTS-0").await.unwrap();
    let in_an_hour = stream.cached_info().created + Duration::from_secs(3600);
    for name in consumers(context).await {
        stream.pause_consumer(&name, in_an_hour).await.unwrap();
    }
}

#[tokio::test]
async fn a_consumer_that_stands_still_is_replaced_by_the_watchdog() {
    let counters = Counters::default();
    let _guard = counters.install();
    let broker = Broker::start().await;
    let tenure = owner(&broker.log().await).await;
    let writer = foreign_owner(&broker).await;
    let context = broker.beside().await;
    let mut reader = tenure.reader(Stream::Events, 1).await.unwrap();
    publish_events(&writer, 1, 1).await;
    assert_eq!(sequences(&read(&mut reader, 1).await), [1]);
    pause_consumers(&context).await;
    publish_events(&writer, 2, 4).await;
    assert_eq!(sequences(&read(&mut reader, 3).await), [2, 3, 4]);
    assert_eq!(counters.get(RESTARTS, "watchdog"), 1);
}

#[tokio::test]
async fn a_reader_whose_calls_are_given_up_early_is_watched_all_the_same() {
    let broker = Broker::start().await;
    let tenure = owner(&broker.log().await).await;
    let writer = foreign_owner(&broker).await;
    let context = broker.beside().await;
    let mut reader = tenure.reader(Stream::Events, 1).await.unwrap();
    publish_events(&writer, 1, 1).await;
    assert_eq!(sequences(&read(&mut reader, 1).await), [1]);
    pause_consumers(&context).await;
    publish_events(&writer, 2, 4).await;
    let reading = async {
        let mut seen = Vec::new();
        while seen.len() < 3 {
            // Each call is polled once; neither a look nor making a consumer is done that fast.
            if let Some(records) = reader.next().now_or_never() {
                seen.extend(sequences(&records.unwrap()));
            }
            tokio::task::yield_now().await;
        }
        seen
    };
    assert_eq!(timeout(SOON, reading).await.unwrap(), [2, 3, 4]);
}

#[tokio::test]
async fn an_idle_reader_is_left_alone() {
    let counters = Counters::default();
    let _guard = counters.install();
    let broker = Broker::start().await;
    let tenure = owner(&broker.log().await).await;
    let mut reader = tenure.reader(Stream::Events, 1).await.unwrap();
    // Four looks of the watchdog, two heartbeats.
    assert!(timeout(Duration::from_millis(4_500), reader.next()).await.is_err());
    assert_eq!(counters.get(RESTARTS, ""), 0);
    assert_eq!(counters.get("event_log_heartbeats_missed_total", ""), 0);
}

#[tokio::test]
async fn a_missed_heartbeat_does_not_end_reading() {
    let counters = Counters::default();
    let _guard = counters.install();
    let broker = Broker::start().await;
    let tenure = owner(&broker.log().await).await;
    let writer = foreign_owner(&broker).await;
    let mut reader = tenure.reader(Stream::Events, 1).await.unwrap();
    publish_events(&writer, 1, 1).await;
    assert_eq!(sequences(&read(&mut reader, 1).await), [1]);
    broker.stand_still().await;
    let reading = read(&mut reader, 2);
    let waking = async {
        let missed = async || counters.get("event_log_heartbeats_missed_total", "EVENTS") >= 1;
        until(SOON, "a missed heartbeat", missed).await;
        broker.server.resume().unwrap();
        let beside = owner(&broker.log().await).await;
        publish_events(&beside, 2, 3).await;
    };
    let (records, ()) = tokio::join!(reading, waking);
    assert_eq!(sequences(&records), [2, 3]);
    assert!(!tenure.is_lost());
}

#[tokio::test]
async fn a_reader_ends_with_its_tenure() {
    let broker = Broker::start().await;
    let log = broker.log().await;
    let tenure = owner(&log).await;
    publish_events(&tenure, 1, 5).await;
    let mut reader = tenure.reader(Stream::Events, 1).await.unwrap();
    let mut behind = tenure.reader(Stream::Events, 1).await.unwrap();
    assert_eq!(sequences(&read(&mut behind, 5).await), [1, 2, 3, 4, 5]);
    // These wait for it in its queue when the connection goes.
    publish_events(&tenure, 6, 8).await;
    assert_eq!(sequences(&read(&mut reader, 8).await), [1, 2, 3, 4, 5, 6, 7, 8]);
    let (met, ()) = tokio::join!(timeout(SOON, reader.next()), async { broker.server.kill().unwrap() });
    assert_eq!(met.unwrap(), Err(ReadError::Lost));
    broker.server.restart().await.unwrap();
    until(SOON, "the connection", async || log.is_connected()).await;
    assert_eq!(timeout(SOON, reader.next()).await.unwrap(), Err(ReadError::Lost));
    assert_eq!(timeout(SOON, behind.next()).await.unwrap(), Err(ReadError::Lost));
}

#[tokio::test]
async fn giving_up_a_read_loses_nothing() {
    let broker = Broker::start().await;
    let tenure = owner(&broker.log().await).await;
    let mut reader = tenure.reader(Stream::Events, 1).await.unwrap();
    let reading = async {
        let mut seen = Vec::new();
        while seen.len() < 500 {
            // Given up again and again, at any point.
            if let Ok(records) = timeout(Duration::from_micros(300), reader.next()).await {
                seen.extend(sequences(&records.unwrap()));
            }
        }
        seen
    };
    let (seen, ()) = tokio::join!(reading, publish_events(&tenure, 1, 500));
    assert_eq!(seen, (1..=500).collect::<Vec<_>>());
}
