//! Commands that come to the owner directly, beside the command stream.

use event_log::{LogConfig, Role, Stream};
use testkit::NatsOptions;
use testkit::wait::until;

use crate::setup::{Deployment, P0, SOON, chat, create, send, stored};

async fn command_records(deployment: &Deployment) -> u64 {
    let observer = deployment.log.acquire(Role::Push, P0).await.unwrap();
    observer.bounds(Stream::Commands).await.unwrap().last
}

#[tokio::test]
async fn a_command_of_a_hot_chat_is_handed_over_and_leaves_no_record_of_commands() {
    let mut deployment = Deployment::start().await;
    let ingest = deployment.ingest();
    let requests = deployment.ask(&[create(chat(1))]).await;
    assert_eq!(stored(&deployment.answered(&requests).await), [1]);
    for n in 1..=3 {
        let (record, requests) = deployment.record(&[send(chat(1), n, "hello")]);
        assert!(deployment.log.hand_over_commands(P0, record, 1).await);
        assert_eq!(stored(&deployment.answered(&requests).await), [n + 1]);
    }
    assert_eq!(command_records(&deployment).await, 1);
    ingest.stop().await;
    // The next owner goes on from what the events say.
    let ingest = deployment.ingest();
    let requests = deployment.ask(&[send(chat(1), 3, "hello"), send(chat(1), 4, "and on")]).await;
    assert_eq!(stored(&deployment.answered(&requests).await), [4, 5]);
    assert_eq!(deployment.history(chat(1)).await.len(), 5);
    ingest.stop().await;
    deployment.watch.finish();
}

#[tokio::test]
async fn what_would_have_to_wait_is_left_to_the_stream() {
    let mut deployment = Deployment::start().await;
    let (record, _) = deployment.record(&[create(chat(1))]);
    assert!(!deployment.log.hand_over_commands(P0, record, 0).await, "there is no owner");
    let ingest = deployment.ingest();
    let requests = deployment.ask(&[create(chat(1))]).await;
    assert_eq!(stored(&deployment.answered(&requests).await), [1]);

    let (record, _) = deployment.record(&[send(chat(1), 1, "hello"), create(chat(2))]);
    assert!(!deployment.log.hand_over_commands(P0, record, 1).await, "chat 2 is to be looked up first");
    let (record, _) = deployment.record(&[send(chat(1), 1, "hello")]);
    assert!(!deployment.log.hand_over_commands(P0, record.clone(), 2).await, "record 2 is not read yet");
    // Nothing of either was decided.
    assert_eq!(deployment.history(chat(1)).await.len(), 1);
    assert!(deployment.log.hand_over_commands(P0, record, 1).await);
    until(SOON, "the message is stored", async || deployment.history(chat(1)).await.len() == 2).await;
    ingest.stop().await;
    deployment.watch.finish();
}

#[tokio::test]
async fn a_record_that_goes_both_ways_is_stored_once() {
    let mut deployment = Deployment::start().await;
    let ingest = deployment.ingest();
    let requests = deployment.ask(&[create(chat(1))]).await;
    deployment.answered(&requests).await;
    let (record, requests) = deployment.record(&[send(chat(1), 1, "hello")]);
    assert!(deployment.log.hand_over_commands(P0, record.clone(), 1).await);
    let first = deployment.answered(&requests).await;
    deployment.log.publish_commands(P0, record, "the gateway did not hear that it was taken").await.unwrap();
    assert_eq!(deployment.answered(&requests).await, first);
    assert_eq!(deployment.history(chat(1)).await.len(), 2);
    ingest.stop().await;
    deployment.watch.finish();
}

#[tokio::test]
async fn where_it_is_switched_off_nothing_is_handed_over() {
    let config = LogConfig { hand_over_commands: false, ..LogConfig::default() };
    let mut deployment = Deployment::start_with(config, NatsOptions::default()).await;
    let ingest = deployment.ingest();
    let requests = deployment.ask(&[create(chat(1))]).await;
    deployment.answered(&requests).await;
    let (record, _) = deployment.record(&[send(chat(1), 1, "hello")]);
    assert!(!deployment.log.hand_over_commands(P0, record, 1).await);
    ingest.stop().await;
    deployment.watch.finish();
}
