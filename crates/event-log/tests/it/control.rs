//! What every gateway must learn: in order, also what was published while nobody could hear.

use event_log::ControlReader;
use tokio::time::timeout;

use crate::broker::{Broker, SOON, bytes};

/// The payloads that come until there are this many.
async fn next(reader: &mut ControlReader, count: usize) -> Vec<bytes::Bytes> {
    let mut payloads = Vec::new();
    while payloads.len() < count {
        let records = timeout(SOON, reader.next()).await.expect("records in time");
        payloads.extend(records.into_iter().map(|record| record.payload));
    }
    payloads
}

#[tokio::test]
async fn what_stood_there_before_and_what_follows_comes_in_order_and_once() {
    let broker = Broker::start().await;
    let log = broker.log().await;
    let publish = async |from: u64, to: u64| {
        for number in from..=to {
            assert_eq!(log.publish_control(bytes(number), &number.to_string()).await, Ok(number));
        }
    };
    // More than are read at once.
    publish(1, 1_500).await;
    let mut reader = log.follow_control().await.unwrap();
    let mut waiting = Vec::new();
    loop {
        let records = reader.waiting().await.unwrap();
        if records.is_empty() {
            break;
        }
        waiting.extend(records.into_iter().map(|record| record.payload));
    }
    assert_eq!(waiting, (1..=1_500_u64).map(bytes).collect::<Vec<_>>());
    publish(1_501, 1_510).await;
    assert_eq!(next(&mut reader, 10).await, (1_501..=1_510_u64).map(bytes).collect::<Vec<_>>());
    assert!(reader.waiting().await.unwrap().is_empty());
}

#[tokio::test]
async fn what_is_published_while_the_follower_is_away_comes_when_it_is_back() {
    let broker = Broker::start().await;
    let (following, publishing) = (broker.log().await, broker.log().await);
    let mut reader = following.follow_control().await.unwrap();
    publishing.publish_control(bytes("before"), "1").await.unwrap();
    assert_eq!(next(&mut reader, 1).await, [bytes("before")]);
    for number in 2..5_u64 {
        // Whoever is back first publishes at once, mostly before the follower can hear the hint.
        broker.server.restart().await.unwrap();
        publishing.publish_control(bytes(number), &number.to_string()).await.unwrap();
        assert_eq!(next(&mut reader, 1).await, [bytes(number)]);
    }
}

#[tokio::test]
async fn what_has_been_kept_long_enough_is_passed_over() {
    let broker = Broker::start().await;
    let log = broker.log().await;
    for number in 1..=3_u64 {
        log.publish_control(bytes(number), &number.to_string()).await.unwrap();
    }
    let mut reader = log.follow_control().await.unwrap();
    broker.beside().await.get_stream("CONTROL").await.unwrap().purge().sequence(3).await.unwrap();
    assert_eq!(next(&mut reader, 1).await, [bytes(3_u64)]);
}
