//! Fenced publishes: one writer, whatever is repeated, lost or stale.

use bytes::Bytes;
use event_log::{FencedError, LogConfig, RECORD_BYTES_MAX, Stream};
use testkit::wait::until;

use crate::broker::{Broker, SOON, bytes, holds, open, owner, publish_events};
use crate::counters::Counters;

#[tokio::test]
async fn a_repeat_of_a_landed_record_is_refused_and_the_tail_is_it() {
    let broker = Broker::start().await;
    let tenure = owner(&broker.log().await).await;
    publish_events(&tenure, 1, 2).await;
    assert_eq!(tenure.publish_events(bytes("writer 7 batch 3"), 2).await, Ok(3));
    // The acknowledgement was lost, say.
    let again = tenure.publish_events(bytes("writer 7 batch 3"), 2).await;
    assert_eq!(again, Err(FencedError::Refused { last: Some(3) }));
    let tail = tenure.read(Stream::Events, 3).await.unwrap().unwrap();
    assert_eq!(tail.payload, bytes("writer 7 batch 3"));
    assert_eq!(tenure.bounds(Stream::Events).await.unwrap().last, 3);
}

#[tokio::test]
async fn a_stale_writer_is_refused() {
    let counters = Counters::default();
    let _guard = counters.install();
    let broker = Broker::start().await;
    let log = broker.log().await;
    let old = owner(&log).await;
    publish_events(&old, 1, 3).await;
    let new = owner(&log).await;
    publish_events(&new, 4, 5).await;
    assert_eq!(old.publish_events(bytes("stale"), 3).await, Err(FencedError::Refused { last: Some(5) }));
    assert_eq!(counters.get("event_log_publish_refused_total", "fenced"), 1);
    publish_events(&new, 6, 6).await;
    assert_eq!(holds(&new, Stream::Events).await, (1..=6).map(bytes).collect::<Vec<_>>());
}

#[tokio::test]
async fn of_two_writers_with_the_same_expectation_one_wins() {
    let broker = Broker::start().await;
    let log = broker.log().await;
    let (one, two) = (owner(&log).await, owner(&log).await);
    for last in 0..50 {
        let (a, b) = tokio::join!(one.publish_events(bytes("one"), last), two.publish_events(bytes("two"), last));
        let stored = [&a, &b].into_iter().filter(|result| result.is_ok()).count();
        assert_eq!(stored, 1, "{a:?} {b:?}");
    }
    assert_eq!(one.bounds(Stream::Events).await.unwrap().last, 50);
}

#[tokio::test]
async fn without_an_answer_a_record_is_in_doubt_and_repeating_it_settles_that() {
    let broker = Broker::start().await;
    let log = open(LogConfig { attempt_deadline_ms: 200, ..broker.config() }).await;
    let tenure = owner(&log).await;
    publish_events(&tenure, 1, 1).await;
    broker.stand_still().await;
    let met = tenure.publish_events(bytes("writer 7 batch 2"), 1).await;
    assert!(matches!(met, Err(FencedError::InDoubt { .. })), "{met:?}");
    broker.server.resume().unwrap();
    // The first copy waited in the broker's socket, so it has landed before the second comes.
    let mut settled = tenure.publish_events(bytes("writer 7 batch 2"), 1).await;
    while matches!(settled, Err(FencedError::InDoubt { .. })) {
        settled = tenure.publish_events(bytes("writer 7 batch 2"), 1).await;
    }
    assert_eq!(settled, Err(FencedError::Refused { last: Some(2) }));
    assert_eq!(holds(&tenure, Stream::Events).await, [bytes(1), bytes("writer 7 batch 2")]);
}

#[tokio::test]
async fn a_record_above_the_bound_is_refused() {
    let broker = Broker::start().await;
    let tenure = owner(&broker.log().await).await;
    let over = tenure.publish_events(Bytes::from(vec![0; RECORD_BYTES_MAX + 1]), 0).await;
    assert_eq!(over, Err(FencedError::TooLarge { bytes: RECORD_BYTES_MAX + 1 }));
    assert_eq!(tenure.publish_events(Bytes::from(vec![0; RECORD_BYTES_MAX]), 0).await, Ok(1));
}

#[tokio::test]
async fn a_full_stream_refuses_events_and_goes_on_after_trimming() {
    let broker = Broker::start().await;
    let tenure = owner(&open(broker.tight()).await).await;
    let mut last = 0;
    let full = loop {
        match tenure.publish_events(Bytes::from(vec![7; 4096]), last).await {
            Ok(sequence) => last = sequence,
            Err(error) => break error,
        }
    };
    assert_eq!(full, FencedError::Full);
    assert!(last > 10);
    tenure.trim(Stream::Events, last).await.unwrap();
    assert_eq!(tenure.publish_events(Bytes::from(vec![7; 4096]), last).await, Ok(last + 1));
}

#[tokio::test]
async fn after_a_kill_the_record_in_flight_is_either_whole_in_the_log_or_not_at_all() {
    let broker = Broker::start().await;
    let log = broker.log().await;
    let mut last = 0;
    for round in 0..4 {
        let tenure = owner(&log).await;
        assert_eq!(tenure.bounds(Stream::Events).await.unwrap().last, last);
        let killed = async {
            // A few are stored first.
            let beside = owner(&log).await;
            until(SOON, "some records", async || beside.bounds(Stream::Events).await.unwrap().last >= last + 5).await;
            broker.server.kill().unwrap();
        };
        let writing = async {
            let mut acknowledged = last;
            loop {
                match tenure.publish_events(bytes(format!("{round}-{acknowledged}")), acknowledged).await {
                    Ok(sequence) => acknowledged = sequence,
                    Err(error) => return (acknowledged, error),
                }
            }
        };
        let ((acknowledged, error), ()) = tokio::join!(writing, killed);
        assert_eq!(error, FencedError::Lost);
        broker.server.restart().await.unwrap();
        until(SOON, "the connection", async || log.is_connected()).await;
        last = owner(&log).await.bounds(Stream::Events).await.unwrap().last;
        // One may have been stored whose answer was lost, and none that was acknowledged is gone.
        assert!(last == acknowledged || last == acknowledged + 1, "{acknowledged} {last}");
    }
}
