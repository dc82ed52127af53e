//! Tenures: unique, growing, and over for good at the first disconnect (M6).

use domain::{GatewayId, Partition};
use event_log::{Error, FencedError, PublishError, Received, Role, SendError, Stream, Subject};
use testkit::NatsOptions;
use testkit::wait::until;
use tokio::time::timeout;

use crate::broker::{Broker, P0, SOON, bytes, holds, owner, publish_events};

const PUSHES: Subject = Subject::Pushes(GatewayId(7));

#[tokio::test]
async fn each_acquisition_has_a_higher_id() {
    let broker = Broker::start().await;
    let log = broker.log().await;
    let mut last = owner(&log).await.id();
    for (role, partition) in [
        (Role::Ingest, 0),
        (Role::Ingest, 0),
        (Role::Delivery, 0),
        (Role::Ingest, 1),
        (Role::Projections, 1),
        (Role::Push, 0),
    ] {
        let tenure = log.acquire(role, Partition(partition)).await.unwrap();
        assert!(tenure.id() > last);
        assert_eq!((tenure.role(), tenure.partition()), (role, Partition(partition)));
        last = tenure.id();
    }
    broker.server.restart().await.unwrap();
    until(SOON, "the connection", async || log.is_connected()).await;
    assert!(owner(&log).await.id() > last);
}

#[tokio::test]
async fn a_partition_that_does_not_exist_cannot_be_acquired() {
    let broker = Broker::start().await;
    let log = broker.log().await;
    assert!(matches!(log.acquire(Role::Ingest, Partition(2)).await, Err(Error::Broker { .. })));
}

#[tokio::test]
async fn a_killed_broker_ends_the_tenure_for_good_and_the_commands_connection_comes_back() {
    let broker = Broker::start().await;
    let log = broker.log().await;
    let tenure = owner(&log).await;
    publish_events(&tenure, 1, 3).await;
    assert!(!tenure.is_lost());
    broker.server.kill().unwrap();
    timeout(SOON, tenure.lost()).await.unwrap();
    broker.server.restart().await.unwrap();
    until(SOON, "the shared connection", async || log.is_connected()).await;
    log.publish_commands(P0, bytes("a"), "g-1").await.unwrap();

    // The broker is there again, and the old tenure stays lost.
    assert!(tenure.is_lost());
    assert_eq!(tenure.publish_events(bytes("stale"), 3).await, Err(FencedError::Lost));
    assert_eq!(tenure.publish_statuses(bytes("stale")).await, Err(PublishError::Lost));
    assert_eq!(tenure.send(&PUSHES, bytes("stale")).await, Err(SendError::Disconnected));
    assert!(matches!(tenure.trim(Stream::Events, 2).await, Err(Error::Lost)));
    assert!(matches!(tenure.read(Stream::Events, 1).await, Err(Error::Lost)));
    let next = owner(&log).await;
    assert_eq!(next.bounds(Stream::Events).await.unwrap().last, 3);
    publish_events(&next, 4, 4).await;
}

#[tokio::test]
async fn what_waits_in_a_lost_tenures_channel_is_never_sent() {
    let broker = Broker::start().await;
    let log = broker.log().await;
    // In another process: within this one they would be handed over.
    let mut pushes = broker.log().await.subscribe(PUSHES).await.unwrap();
    let tenure = owner(&log).await;
    publish_events(&tenure, 1, 1).await;
    broker.stand_still().await;
    // Far more than the sockets hold: most of it waits in the client's channel.
    let large = bytes("x".repeat(200_000));
    let mut sending = tokio::task::JoinSet::new();
    for _ in 0..200 {
        let (tenure, large) = (tenure.clone(), large.clone());
        sending.spawn(async move { tenure.send(&PUSHES, large).await });
    }
    let stale = {
        let tenure = tenure.clone();
        tokio::spawn(async move { tenure.publish_events(bytes("stale"), 1).await })
    };
    while let Some(sent) = sending.join_next().await {
        sent.unwrap().unwrap();
    }
    broker.server.kill().unwrap();
    broker.server.restart().await.unwrap();
    assert_eq!(stale.await.unwrap(), Err(FencedError::Lost));
    // The reader is told of the reconnect; what is sent from then on is the first that it gets.
    assert_eq!(timeout(SOON, pushes.next()).await.unwrap(), Some(Received::Lagged));
    let next = owner(&log).await;
    next.send(&PUSHES, bytes("new")).await.unwrap();
    let received = timeout(SOON, pushes.next()).await.unwrap();
    assert!(matches!(received, Some(Received::Message(message)) if message.payload == bytes("new")));
    assert_eq!(holds(&next, Stream::Events).await, [bytes(1)]);
}

#[tokio::test]
async fn a_lost_tenure_hands_nothing_over_within_the_process() {
    let broker = Broker::start().await;
    let log = broker.log().await;
    let mut pushes = log.subscribe(PUSHES).await.unwrap();
    let tenure = owner(&log).await;
    broker.server.restart().await.unwrap();
    timeout(SOON, tenure.lost()).await.unwrap();
    assert_eq!(timeout(SOON, pushes.next()).await.unwrap(), Some(Received::Lagged));
    assert_eq!(tenure.send(&PUSHES, bytes("stale")).await, Err(SendError::Disconnected));
    assert_eq!(pushes.try_next(), None);
}

#[tokio::test]
async fn a_standing_broker_ends_the_tenure_after_its_pings_go_unanswered() {
    let broker = Broker::start().await;
    let log = broker.log().await;
    let tenure = owner(&log).await;
    broker.stand_still().await;
    timeout(SOON, tenure.lost()).await.unwrap();
    broker.server.resume().unwrap();
    until(SOON, "the shared connection", async || log.is_connected()).await;
    assert_eq!(tenure.publish_events(bytes("stale"), 0).await, Err(FencedError::Lost));
    assert_eq!(owner(&log).await.bounds(Stream::Events).await.unwrap().last, 0);
}

#[tokio::test]
async fn what_a_synced_broker_acknowledged_survives_its_kill() {
    let broker = Broker::with(NatsOptions::default().sync_always()).await;
    let log = broker.log().await;
    for round in 0..5_u64 {
        let tenure = owner(&log).await;
        publish_events(&tenure, round * 20 + 1, round * 20 + 20).await;
        let sequence = log.publish_commands(P0, bytes(round), &format!("g-{round}")).await.unwrap();
        assert_eq!(sequence, round + 1);
        broker.server.kill().unwrap();
        broker.server.restart().await.unwrap();
        until(SOON, "the connection", async || log.is_connected()).await;
    }
    let tenure = owner(&log).await;
    assert_eq!(holds(&tenure, Stream::Events).await, (1..=100_u64).map(bytes).collect::<Vec<_>>());
    assert_eq!(holds(&tenure, Stream::Commands).await, (0..5_u64).map(bytes).collect::<Vec<_>>());
}
