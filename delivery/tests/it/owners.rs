//! Owners that go and come: nothing is lost, and every gateway sees that the owner is another one.

use bytes::Bytes;
use domain::Partition;
use store::Reader;
use testkit::wait::until;

use crate::gateway::Gateway;
use crate::setup::{Chat, Deployment, P0, SOON};

#[tokio::test]
async fn after_a_kill_the_next_owner_resumes_from_the_checkpoint_and_pushes_again_from_there() {
    let deployment = Deployment::start().await;
    let mut writer = deployment.writer().await;
    let mut gateway = Gateway::start(&deployment.log, 1).await;
    let delivery = deployment.deliver();
    gateway.online([1, 2]).await;
    let mut chat = Chat::new(1);
    writer.write(chat.created([1, 2])).await;
    writer.write(chat.message(1)).await;
    until(SOON, "a checkpoint", async || {
        let kept = deployment.store.checkpoint(Reader::Delivery, P0).await.unwrap();
        kept.is_some_and(|checkpoint| checkpoint.events == 2)
    })
    .await;
    gateway.until("both entries", |g| g.seqs(2, chat.id) == [1, 2]).await;
    delivery.kill().await;
    // Nobody is there to push these.
    writer.write(chat.message(1)).await;
    writer.write(chat.message(2)).await;
    let before = gateway.batches.len();
    let old_owner = gateway.batches[0].owner;
    let delivery = deployment.deliver();
    // It asks all gateways at its start; this one answers as soon as it sees that it is not acknowledged.
    let ack = gateway.online([1, 2]).await;
    assert!(ack.owner > old_owner, "M15: a fresh and higher id");
    writer.write(chat.message(1)).await;
    gateway.until("the latest entry", |g| g.seqs(2, chat.id).last() == Some(&5)).await;
    let fresh = &gateway.batches[before..];
    assert!(fresh.iter().all(|batch| batch.owner == ack.owner));
    let numbers: Vec<u64> = fresh.iter().map(|batch| batch.number).collect();
    let dense: Vec<u64> = (1..=numbers.len() as u64).collect();
    assert_eq!(numbers, dense, "numbers restart at 1");
    // What is above the ack's position was pushed; what is not, the heads tell.
    let pushed: Vec<u64> = gateway.seqs(2, chat.id).into_iter().skip(2).collect();
    let wanted: Vec<u64> = (ack.as_of + 1..=5).collect();
    assert!(pushed.ends_with(&wanted) && !pushed.contains(&1), "{pushed:?} after {}", ack.as_of);
    delivery.stop().await;
}

#[tokio::test]
async fn a_clean_stop_keeps_the_checkpoint_at_once() {
    let deployment = Deployment::start().await;
    let mut writer = deployment.writer().await;
    let mut gateway = Gateway::start(&deployment.log, 1).await;
    let delivery = deployment.deliver();
    gateway.online([1]).await;
    let mut chat = Chat::new(1);
    writer.write(chat.created([1])).await;
    writer.write(chat.message(1)).await;
    gateway.until("both entries", |g| g.seqs(1, chat.id) == [1, 2]).await;
    delivery.stop().await;
    let kept = deployment.store.checkpoint(Reader::Delivery, P0).await.unwrap().unwrap();
    assert_eq!(kept.events, 2);
}

#[tokio::test]
async fn a_broker_that_dies_and_comes_back_is_a_new_tenure_and_pushes_go_on() {
    let deployment = Deployment::start().await;
    let mut gateway = Gateway::start(&deployment.log, 1).await;
    let delivery = deployment.deliver();
    let owner = gateway.online([1, 2]).await.owner;
    deployment.server.kill().unwrap();
    deployment.server.restart().await.unwrap();
    until(SOON, "the shared connection", async || deployment.log.is_connected()).await;
    gateway.until("a word of a later owner", |g| g.throughs.last().is_some_and(|t| t.owner > owner)).await;
    let ack = gateway.online([1, 2]).await;
    assert!(ack.owner > owner);
    let mut writer = deployment.writer().await;
    let mut chat = Chat::new(1);
    writer.write(chat.created([1, 2])).await;
    gateway.until("the creation", |g| g.seqs(2, chat.id) == [1]).await;
    delivery.stop().await;
}

#[tokio::test]
async fn a_record_that_cannot_be_read_halts_its_partition_loudly_and_no_other() {
    let deployment = Deployment::start().await;
    deployment.watch.allow("delivery halted");
    let mut gateway = Gateway::start(&deployment.log, 1).await;
    let delivery = deployment.deliver();
    gateway.online([1, 2]).await;
    let other = deployment.log.acquire(event_log::Role::Ingest, Partition(1)).await.unwrap();
    other.publish_events(Bytes::from_static(&[0xff; 9]), 0).await.unwrap();
    until(SOON, "a loud halt", async || {
        deployment.watch.lines().iter().any(|line| line.contains("delivery halted") && line.contains("partition=1"))
    })
    .await;
    let mut writer = deployment.writer().await;
    let mut chat = Chat::new(1);
    writer.write(chat.created([1, 2])).await;
    gateway.until("the creation", |g| g.seqs(2, chat.id) == [1]).await;
    delivery.stop().await;
}
