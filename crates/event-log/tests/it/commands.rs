//! Publishing commands: retried with the same id, stored once, told when full.

use bytes::Bytes;
use event_log::{Log, LogConfig, PublishError, RECORD_BYTES_MAX, Stream};
use testkit::NatsOptions;
use testkit::wait::until;

use crate::broker::{Broker, P0, SOON, bytes, fill_commands, holds, open, owner};
use crate::counters::Counters;

#[tokio::test]
async fn a_repeated_message_id_is_stored_once() {
    let broker = Broker::start().await;
    let log = broker.log().await;
    assert_eq!(log.publish_commands(P0, bytes("a"), "g-1").await, Ok(1));
    assert_eq!(log.publish_commands(P0, bytes("b"), "g-2").await, Ok(2));
    assert_eq!(log.publish_commands(P0, bytes("a"), "g-1").await, Ok(1));
    assert_eq!(holds(&owner(&log).await, Stream::Commands).await, [bytes("a"), bytes("b")]);
}

#[tokio::test]
async fn a_publish_rides_over_a_restart_of_the_broker_and_is_stored_once() {
    let counters = Counters::default();
    let _guard = counters.install();
    let broker = Broker::with(NatsOptions::default().sync_always()).await;
    let log = broker.log().await;
    let publishing = {
        let log = log.clone();
        async move {
            for number in 1..=200_u64 {
                let sequence = log.publish_commands(P0, bytes(number), &format!("g-{number}")).await.unwrap();
                assert_eq!(sequence, number);
                tokio::task::yield_now().await;
            }
        }
    };
    let breaking = async {
        for _ in 0..3 {
            let before = counters.get("event_log_publish_retries_total", "");
            broker.server.kill().unwrap();
            until(SOON, "a retry", async || counters.get("event_log_publish_retries_total", "") > before).await;
            broker.server.restart().await.unwrap();
            until(SOON, "the connection", async || log.is_connected()).await;
        }
    };
    tokio::join!(publishing, breaking);
    let stored = holds(&owner(&log).await, Stream::Commands).await;
    assert_eq!(stored, (1..=200_u64).map(bytes).collect::<Vec<_>>());
}

#[tokio::test]
async fn an_attempt_whose_answer_was_lost_is_stored_once() {
    let broker = Broker::start().await;
    let log = open(LogConfig { attempt_deadline_ms: 100, ..broker.config() }).await;
    let counters = Counters::default();
    let _guard = counters.install();
    broker.stand_still().await;
    let publishing = log.publish_commands(P0, bytes("a"), "g-1");
    let waking = async {
        // By now several copies wait in the standing broker's socket.
        until(SOON, "retries", async || counters.get("event_log_publish_retries_total", "") >= 3).await;
        broker.server.resume().unwrap();
    };
    let (published, ()) = tokio::join!(publishing, waking);
    assert_eq!(published, Ok(1));
    assert_eq!(log.publish_commands(P0, bytes("b"), "g-2").await, Ok(2));
    assert_eq!(holds(&owner(&log).await, Stream::Commands).await, [bytes("a"), bytes("b")]);
}

#[tokio::test]
async fn a_publish_that_nobody_stores_times_out() {
    let broker = Broker::start().await;
    // The streams are not there, which looks like an election: 503, no responders.
    let log = Log::connect(LogConfig { publish_deadline_ms: 200, ..broker.config() }).await.unwrap();
    let error = log.publish_commands(P0, bytes("a"), "g-1").await.unwrap_err();
    assert!(matches!(&error, PublishError::Timeout { last } if last.contains("nobody listens")), "{error}");
}

#[tokio::test]
async fn a_publish_during_an_election_goes_through_once_it_is_over() {
    let counters = Counters::default();
    let _guard = counters.install();
    let broker = Broker::start().await;
    let log = Log::connect(broker.config()).await.unwrap();
    let publishing = log.publish_commands(P0, bytes("a"), "g-1");
    let electing = async {
        until(SOON, "retries", async || counters.get("event_log_publish_retries_total", "COMMANDS") >= 2).await;
        log.open_streams().await.unwrap();
    };
    let (published, ()) = tokio::join!(publishing, electing);
    assert_eq!(published, Ok(1));
}

#[tokio::test]
async fn a_record_above_the_bound_is_refused_and_one_at_the_bound_is_stored() {
    let broker = Broker::start().await;
    let log = broker.log().await;
    let over = log.publish_commands(P0, Bytes::from(vec![0; RECORD_BYTES_MAX + 1]), "g-1").await;
    assert_eq!(over, Err(PublishError::TooLarge { bytes: RECORD_BYTES_MAX + 1 }));
    assert_eq!(log.publish_commands(P0, Bytes::from(vec![0; RECORD_BYTES_MAX]), "g-2").await, Ok(1));
}

#[tokio::test]
async fn a_full_stream_says_so_and_goes_on_after_trimming() {
    let counters = Counters::default();
    let _guard = counters.install();
    let broker = Broker::start().await;
    let log = open(broker.tight()).await;
    let tenure = owner(&log).await;
    let last = fill_commands(&log).await;
    assert_eq!(counters.get("event_log_publish_refused_total", "full"), 1);
    // Refused again, with the same id too, and without any change.
    assert_eq!(log.publish_commands(P0, Bytes::from(vec![7; 4096]), "late").await, Err(PublishError::Full));
    assert_eq!(tenure.bounds(Stream::Commands).await.unwrap().last, last);

    let first = tenure.trim(Stream::Commands, last).await.unwrap();
    let bounds = tenure.bounds(Stream::Commands).await.unwrap();
    assert_eq!(bounds.first, first);
    assert!(bounds.bytes >= 8 << 10, "the window stays: {bounds:?}");
    assert!(bounds.bytes < 32 << 10, "most is trimmed: {bounds:?}");
    assert_eq!(log.publish_commands(P0, Bytes::from(vec![7; 4096]), "late").await, Ok(last + 1));
}

#[tokio::test]
async fn trimming_never_drops_the_last_record() {
    let broker = Broker::start().await;
    let log = open(LogConfig { window_bytes: 0, ..broker.config() }).await;
    let tenure = owner(&log).await;
    for number in 1..=5 {
        log.publish_commands(P0, bytes(number), &number.to_string()).await.unwrap();
    }
    assert_eq!(tenure.trim(Stream::Commands, 3).await.unwrap(), 3);
    assert_eq!(tenure.trim(Stream::Commands, 2).await.unwrap(), 3);
    assert_eq!(tenure.trim(Stream::Commands, 100).await.unwrap(), 5);
    assert_eq!(holds(&tenure, Stream::Commands).await, [bytes(5)]);
}
