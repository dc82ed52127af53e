//! Core messages: fast, not stored, and every loss told.

use bytes::Bytes;
use domain::GatewayId;
use event_log::{Log, LogConfig, MESSAGE_BYTES_MAX, Message, Received, SendError, Subject, Subscription};
use testkit::wait::until;
use tokio::time::timeout;

use crate::broker::{Broker, P0, SOON, bytes, open, owner};
use crate::counters::Counters;

const GATEWAY: Subject = Subject::Pushes(GatewayId(7));

async fn next(subscription: &mut Subscription) -> Received {
    timeout(SOON, subscription.next()).await.expect("something in time").expect("open")
}

fn message(subject: Subject, text: impl ToString) -> Received {
    Received::Message(Message { subject, payload: bytes(text) })
}

/// Returns once the broker knows all subscriptions of this log: it reads a connection in order.
async fn subscribed(log: &Log) {
    let mut asked = log.subscribe(Subject::AnnounceRequests).await.unwrap();
    log.send(&Subject::AnnounceRequests, bytes("ask")).await.unwrap();
    assert_eq!(next(&mut asked).await, message(Subject::AnnounceRequests, "ask"));
}

#[tokio::test]
async fn messages_arrive_in_order_with_their_subject() {
    let broker = Broker::start().await;
    let (one, two) = (broker.log().await, broker.log().await);
    let mut pushes = two.subscribe(GATEWAY).await.unwrap();
    let mut receipts = two.subscribe(Subject::Receipts(P0)).await.unwrap();
    subscribed(&two).await;
    for number in 0..100 {
        one.send(&GATEWAY, bytes(number)).await.unwrap();
    }
    one.send(&Subject::Receipts(P0), bytes("r")).await.unwrap();
    for number in 0..100 {
        assert_eq!(next(&mut pushes).await, message(GATEWAY, number));
    }
    assert_eq!(next(&mut receipts).await, message(Subject::Receipts(P0), "r"));
    assert_eq!(pushes.try_next(), None);
}

#[tokio::test]
async fn a_slow_reader_is_told_what_it_lost_and_others_are_not() {
    let counters = Counters::default();
    let _guard = counters.install();
    let broker = Broker::start().await;
    let log = open(LogConfig { subscription_messages_max: 10, ..broker.config() }).await;
    let mut quick = log.subscribe(Subject::Answers(GatewayId(7))).await.unwrap();
    let mut slow = log.subscribe(GATEWAY).await.unwrap();
    let sender = broker.log().await;
    subscribed(&log).await;
    for number in 0..30 {
        sender.send(&GATEWAY, bytes(number)).await.unwrap();
    }
    // Behind the others, so that all of them have been met.
    sender.send(&Subject::Answers(GatewayId(7)), bytes("a")).await.unwrap();
    assert_eq!(next(&mut quick).await, message(Subject::Answers(GatewayId(7)), "a"));
    let dropped = async || counters.get("event_log_messages_dropped_total", "slow_consumer") == 20;
    until(SOON, "the drops to be counted", dropped).await;

    assert_eq!(next(&mut slow).await, Received::Lagged);
    for number in 0..10 {
        assert_eq!(next(&mut slow).await, message(GATEWAY, number));
    }
    assert_eq!(slow.try_next(), None);
    assert_eq!(quick.try_next(), None);
    assert_eq!(counters.get("event_log_lagged_total", "psh"), 1);
    // And it goes on.
    sender.send(&GATEWAY, bytes("on")).await.unwrap();
    assert_eq!(next(&mut slow).await, message(GATEWAY, "on"));
}

#[tokio::test]
async fn a_reconnect_is_told_to_every_reader() {
    let broker = Broker::start().await;
    let log = broker.log().await;
    let mut pushes = log.subscribe(GATEWAY).await.unwrap();
    let mut answers = log.subscribe(Subject::Answers(GatewayId(7))).await.unwrap();
    log.send(&GATEWAY, bytes("before")).await.unwrap();
    assert_eq!(next(&mut pushes).await, message(GATEWAY, "before"));
    let (lagged, ()) = tokio::join!(next(&mut pushes), async {
        broker.server.restart().await.unwrap();
    });
    assert_eq!(lagged, Received::Lagged);
    assert_eq!(next(&mut answers).await, Received::Lagged);
    // What is sent after the reader was told does arrive.
    log.send(&GATEWAY, bytes("after")).await.unwrap();
    assert_eq!(next(&mut pushes).await, message(GATEWAY, "after"));
}

#[tokio::test]
async fn nothing_is_kept_for_later_while_there_is_no_connection() {
    let counters = Counters::default();
    let _guard = counters.install();
    let broker = Broker::start().await;
    let log = broker.log().await;
    broker.server.kill().unwrap();
    until(SOON, "the disconnect", async || !log.is_connected()).await;
    assert_eq!(log.send(&GATEWAY, bytes("late")).await, Err(SendError::Disconnected));
    assert_eq!(counters.get("event_log_sends_dropped_total", "disconnected"), 1);
}

#[tokio::test]
async fn a_message_above_the_bound_is_refused() {
    let broker = Broker::start().await;
    let log = broker.log().await;
    let mut pushes = log.subscribe(GATEWAY).await.unwrap();
    let over = log.send(&GATEWAY, Bytes::from(vec![0; MESSAGE_BYTES_MAX + 1])).await;
    assert_eq!(over, Err(SendError::TooLarge { bytes: MESSAGE_BYTES_MAX + 1 }));
    let largest = Bytes::from(vec![0; MESSAGE_BYTES_MAX]);
    log.send(&GATEWAY, largest.clone()).await.unwrap();
    assert_eq!(next(&mut pushes).await, Received::Message(Message { subject: GATEWAY, payload: largest }));
}

#[tokio::test]
async fn prefixes_keep_core_messages_apart() {
    let broker = Broker::start().await;
    let one = open(LogConfig { prefix: "one".to_owned(), ..broker.config() }).await;
    let two = open(LogConfig { prefix: "two".to_owned(), ..broker.config() }).await;
    let mut pushes = one.subscribe(GATEWAY).await.unwrap();
    let mut others = two.subscribe(GATEWAY).await.unwrap();
    one.send(&GATEWAY, bytes("one")).await.unwrap();
    assert_eq!(next(&mut pushes).await, message(GATEWAY, "one"));
    two.send(&GATEWAY, bytes("two")).await.unwrap();
    assert_eq!(next(&mut others).await, message(GATEWAY, "two"));
    assert_eq!(pushes.try_next(), None);
}

#[tokio::test]
async fn what_is_sent_within_the_process_does_not_pass_the_broker() {
    let broker = Broker::start().await;
    let log = broker.log().await;
    let mut pushes = log.subscribe(GATEWAY).await.unwrap();
    let mut answers = log.subscribe(Subject::Answers(GatewayId(7))).await.unwrap();
    let tenure = owner(&log).await;
    broker.stand_still().await;
    for number in 0..100 {
        tenure.send(&GATEWAY, bytes(number)).await.unwrap();
    }
    log.send(&Subject::Answers(GatewayId(7)), bytes("a")).await.unwrap();
    for number in 0..100 {
        assert_eq!(next(&mut pushes).await, message(GATEWAY, number));
    }
    assert_eq!(pushes.try_next(), None);
    assert_eq!(answers.try_next(), Some(message(Subject::Answers(GatewayId(7)), "a")));
}

#[tokio::test]
async fn messages_from_within_and_from_elsewhere_each_keep_their_order() {
    let broker = Broker::start().await;
    let (log, elsewhere) = (broker.log().await, broker.log().await);
    let mut pushes = log.subscribe(GATEWAY).await.unwrap();
    subscribed(&log).await;
    for number in 0..100 {
        log.send(&GATEWAY, bytes(number)).await.unwrap();
        elsewhere.send(&GATEWAY, bytes(1_000 + number)).await.unwrap();
    }
    let (mut near, mut far) = (0, 1_000);
    while near < 100 || far < 1_100 {
        let Received::Message(Message { payload, .. }) = next(&mut pushes).await else { panic!("nothing was lost") };
        let next = if payload.len() == 4 { &mut far } else { &mut near };
        assert_eq!(payload, bytes(*next));
        *next += 1;
    }
}

#[tokio::test]
async fn a_slow_reader_is_told_what_it_lost_of_its_own_process() {
    let counters = Counters::default();
    let _guard = counters.install();
    let broker = Broker::start().await;
    let log = open(LogConfig { subscription_messages_max: 10, ..broker.config() }).await;
    let mut quick = log.subscribe(Subject::Answers(GatewayId(7))).await.unwrap();
    let mut slow = log.subscribe(GATEWAY).await.unwrap();
    for number in 0..30 {
        log.send(&GATEWAY, bytes(number)).await.unwrap();
    }
    assert_eq!(counters.get("event_log_messages_dropped_total", "slow_consumer"), 20);
    assert_eq!(next(&mut slow).await, Received::Lagged);
    for number in 0..10 {
        assert_eq!(next(&mut slow).await, message(GATEWAY, number));
    }
    assert_eq!((slow.try_next(), quick.try_next()), (None, None));
    assert_eq!(counters.get("event_log_lagged_total", "psh"), 1);
    log.send(&GATEWAY, bytes("on")).await.unwrap();
    assert_eq!(next(&mut slow).await, message(GATEWAY, "on"));
}

#[tokio::test]
async fn what_waits_within_the_process_is_bounded_in_bytes() {
    let broker = Broker::start().await;
    let log = open(LogConfig { subscription_bytes_max: MESSAGE_BYTES_MAX, ..broker.config() }).await;
    let mut slow = log.subscribe(GATEWAY).await.unwrap();
    let half = Bytes::from(vec![7; MESSAGE_BYTES_MAX / 2]);
    for _ in 0..3 {
        log.send(&GATEWAY, half.clone()).await.unwrap();
    }
    assert_eq!(next(&mut slow).await, Received::Lagged);
    for _ in 0..2 {
        assert_eq!(next(&mut slow).await, Received::Message(Message { subject: GATEWAY, payload: half.clone() }));
    }
    assert_eq!(slow.try_next(), None);
    // What was read makes room.
    log.send(&GATEWAY, half.clone()).await.unwrap();
    assert_eq!(next(&mut slow).await, Received::Message(Message { subject: GATEWAY, payload: half }));
}
