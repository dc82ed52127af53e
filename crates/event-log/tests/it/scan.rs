//! Bounded looks through a stream, from a time on.

use std::time::Duration;

use bytes::Bytes;
use domain::GatewayId;
use event_log::{Log, LogConfig, Received, Record, Scan, ScanBounds, Stream, Subject, Tenure};
use testkit::wait::until;
use tokio::time::{Instant, timeout};

use crate::broker::{Broker, P0, SOON, bytes, consumers, open, owner, publish_events, sequences};

/// What no test of these looks runs into unless it means to.
fn wide() -> ScanBounds {
    ScanBounds { records: 1_000, bytes: 1 << 20, until: Instant::now() + SOON }
}

async fn events(log: &Log, from_ns: i64, bounds: ScanBounds) -> Scan {
    log.scan(Stream::Events, P0, from_ns, bounds).await.unwrap()
}

async fn statuses(log: &Log, from_ns: i64) -> Scan {
    log.scan(Stream::Statuses, P0, from_ns, wide()).await.unwrap()
}

async fn all(scan: &mut Scan) -> Vec<Record> {
    let mut records = Vec::new();
    while let Some(record) = timeout(SOON, scan.next()).await.expect("an answer in time").unwrap() {
        records.push(record);
    }
    records
}

async fn stored_at(log: &Log, stream: Stream, sequence: u64) -> i64 {
    log.stored_at_ns(stream, P0, sequence).await.unwrap().unwrap()
}

async fn publish_statuses(tenure: &Tenure, from: u64, last: u64) {
    for sequence in from..=last {
        assert_eq!(tenure.publish_statuses(bytes(sequence)).await, Ok(sequence));
    }
}

/// Drops the lowest statuses, as their age does.
async fn age_statuses(broker: &Broker, below: u64) {
    let stream = broker.beside().await.get_stream("STATUS-0").await.unwrap();
    stream.purge().sequence(below).await.unwrap();
}

#[tokio::test]
async fn records_come_in_order_from_a_time_on_to_the_end_as_of_the_beginning() {
    let broker = Broker::start().await;
    let log = broker.log().await;
    let tenure = owner(&log).await;
    publish_events(&tenure, 1, 40).await;
    let from = stored_at(&log, Stream::Events, 8).await;
    let mut scan = events(&log, from, wide()).await;
    publish_events(&tenure, 41, 42).await;
    let records = all(&mut scan).await;
    assert_eq!(sequences(&records), (8..=40).collect::<Vec<_>>());
    assert!(records.iter().all(|record| record.payload == bytes(record.sequence)));
    assert_eq!((records[0].time_ns, records[32].time_ns), (from, stored_at(&log, Stream::Events, 40).await));
    assert!(scan.is_whole());
    let through = scan.through_ns();
    assert!(through > records[32].time_ns && through < stored_at(&log, Stream::Events, 41).await, "as it began");
    assert_eq!(scan.next().await.unwrap(), None, "it stays at its end");
    let later = sequences(&all(&mut events(&log, stored_at(&log, Stream::Events, 42).await, wide()).await).await);
    assert_eq!(later, [42]);
}

#[tokio::test]
async fn a_stream_without_records_from_that_time_on_has_none() {
    let broker = Broker::start().await;
    let log = broker.log().await;
    for stream in [Stream::Events, Stream::Statuses] {
        let mut scan = log.scan(stream, P0, 5, wide()).await.unwrap();
        assert_eq!((all(&mut scan).await, scan.is_whole()), (Vec::new(), true));
        assert!(scan.through_ns() > 5);
    }
    publish_statuses(&owner(&log).await, 1, 3).await;
    let behind = stored_at(&log, Stream::Statuses, 3).await + 1;
    let mut scan = statuses(&log, behind).await;
    assert_eq!((all(&mut scan).await, scan.is_whole()), (Vec::new(), true));
}

#[tokio::test]
async fn a_look_ends_at_each_of_its_bounds() {
    let broker = Broker::start().await;
    let log = broker.log().await;
    let tenure = owner(&log).await;
    publish_events(&tenure, 1, 60).await;
    let fifth = stored_at(&log, Stream::Events, 5).await;
    let mut few = events(&log, 0, ScanBounds { records: 5, ..wide() }).await;
    assert_eq!((sequences(&all(&mut few).await), few.through_ns()), ((1..=5).collect(), fifth));
    // A byte each: the sixth would be one too many.
    let mut small = events(&log, 0, ScanBounds { bytes: 5, ..wide() }).await;
    assert_eq!((sequences(&all(&mut small).await), small.through_ns()), ((1..=5).collect(), fifth));
    let mut short = events(&log, 0, ScanBounds { until: Instant::now() + Duration::from_millis(300), ..wide() }).await;
    assert_eq!(short.next().await.unwrap().map(|record| record.sequence), Some(1));
    broker.stand_still().await;
    let given = all(&mut short).await.len();
    assert!((0..59).contains(&given), "what came before the broker stood still");
    let late = ScanBounds { until: Instant::now() + Duration::from_millis(300), ..wide() };
    let refused = timeout(SOON, log.scan(Stream::Events, P0, 0, late)).await.expect("an answer in time");
    assert!(refused.unwrap_err().to_string().contains("no answer in time"));
}

#[tokio::test]
async fn what_the_window_lost_is_missed() {
    let broker = Broker::start().await;
    let log = open(broker.tight()).await;
    let tenure = owner(&log).await;
    for last in 0..9 {
        tenure.publish_events(Bytes::from(vec![7; 4 << 10]), last).await.unwrap();
    }
    let (second, ninth) = (stored_at(&log, Stream::Events, 2).await, stored_at(&log, Stream::Events, 9).await);
    let first = tenure.trim(Stream::Events, 9).await.unwrap();
    assert!(first > 3);
    let mut scan = events(&log, second, wide()).await;
    assert_eq!((sequences(&all(&mut scan).await), scan.is_whole()), ((first..=9).collect(), false));
    let mut scan = events(&log, ninth, wide()).await;
    assert_eq!((sequences(&all(&mut scan).await), scan.is_whole()), (vec![9], true));
}

#[tokio::test]
async fn statuses_that_went_for_their_age_are_not_missed_by_who_asks_for_younger_ones() {
    let broker = Broker::start().await;
    let log = broker.log().await;
    publish_statuses(&owner(&log).await, 1, 4).await;
    let third = stored_at(&log, Stream::Statuses, 3).await;
    age_statuses(&broker, 3).await;
    let mut scan = statuses(&log, third).await;
    assert_eq!((sequences(&all(&mut scan).await), scan.is_whole()), (vec![3, 4], true));
    let hour_ns = 3_600 * 1_000_000_000;
    let mut scan = statuses(&log, third - hour_ns).await;
    assert_eq!(
        (sequences(&all(&mut scan).await), scan.is_whole()),
        (vec![3, 4], false),
        "perhaps there were older ones"
    );
    age_statuses(&broker, 5).await;
    let mut scan = statuses(&log, third - hour_ns).await;
    assert_eq!((all(&mut scan).await, scan.is_whole()), (Vec::new(), false));
}

#[tokio::test]
async fn statuses_that_went_for_want_of_room_are_missed() {
    let broker = Broker::start().await;
    let log = open(LogConfig { statuses_bytes_max: 1 << 20, ..broker.config() }).await;
    let tenure = owner(&log).await;
    let largest = || Bytes::from(vec![7; 250 << 10]);
    tenure.publish_statuses(largest()).await.unwrap();
    let first = stored_at(&log, Stream::Statuses, 1).await;
    for _ in 2..=6 {
        tenure.publish_statuses(largest()).await.unwrap();
    }
    let bounds = ScanBounds { bytes: 2 << 20, ..wide() };
    let mut scan = log.scan(Stream::Statuses, P0, first, bounds).await.unwrap();
    assert_eq!((sequences(&all(&mut scan).await), scan.is_whole()), (vec![3, 4, 5, 6], false));
}

#[tokio::test]
async fn a_look_leaves_no_consumer_however_it_ends() {
    let broker = Broker::start().await;
    let (log, beside) = (broker.log().await, broker.beside().await);
    publish_events(&owner(&log).await, 1, 60).await;
    let gone = async || consumers(&beside).await.is_empty();
    // The broker would drop them by itself after ten.
    let soon = Duration::from_secs(8);
    let mut scan = events(&log, 0, wide()).await;
    assert_eq!((all(&mut scan).await.len(), scan.is_whole()), (60, true));
    until(soon, "the consumer to go at the end", gone).await;
    let mut scan = events(&log, 0, wide()).await;
    scan.next().await.unwrap().unwrap();
    assert_eq!(consumers(&beside).await.len(), 1);
    drop(scan);
    until(soon, "the consumer to go with who gave up", gone).await;
    // Given up before it has begun.
    let asked = tokio::spawn({
        let log = log.clone();
        async move { log.scan(Stream::Events, P0, 0, wide()).await }
    });
    until(SOON, "a consumer", async || !consumers(&beside).await.is_empty()).await;
    asked.abort();
    drop(asked);
    until(soon, "the consumer to go with who asked", gone).await;
}

#[tokio::test]
async fn losses_are_told_to_the_subscriptions_that_have_them_beside_looks() {
    let broker = Broker::start().await;
    let log = open(LogConfig { subscription_messages_max: 32, ..broker.config() }).await;
    publish_events(&owner(&log).await, 1, 60).await;
    let [quick, slow] = [7, 8].map(|gateway| Subject::Answers(GatewayId(gateway)));
    let mut before = log.subscribe(quick).await.unwrap();
    let (mut one, mut two) = (events(&log, 0, wide()).await, events(&log, 0, wide()).await);
    assert_eq!((all(&mut one).await.len(), two.next().await.unwrap().is_some()), (60, true));
    let mut behind = log.subscribe(slow).await.unwrap();
    let sender = broker.log().await;
    for number in 0..60 {
        sender.send(&slow, bytes(number)).await.unwrap();
    }
    sender.send(&quick, bytes("last")).await.unwrap();
    let came = timeout(SOON, before.next()).await.unwrap().unwrap();
    assert!(matches!(came, Received::Message(_)), "{came:?}");
    assert_eq!(timeout(SOON, behind.next()).await.unwrap(), Some(Received::Lagged));
    assert_eq!(before.try_next(), None);
}
