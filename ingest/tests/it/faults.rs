//! Whatever dies in between, each command is stored once and answered.

use store::{Checkpoint, Reader};
use testkit::NatsOptions;

use crate::setup::{Deployment, P0, SOON, chat, create, send, stored};

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_killed_again_and_again_stores_each_command_once() {
    let mut deployment = Deployment::start().await;
    let id = chat(1);
    let mut ingest = deployment.ingest();
    let requests = deployment.ask(&[create(id)]).await;
    deployment.answered(&requests).await;
    for n in 1..=20 {
        deployment.ask(&[send(id, n, "kept")]).await;
        if n % 4 == 0 {
            ingest.kill().await;
            ingest = deployment.ingest();
        }
    }
    // An answer may have died with its owner: asked again it is the same.
    let again: Vec<_> = (1..=20).map(|n| send(id, n, "kept")).collect();
    let requests = deployment.ask(&again).await;
    assert_eq!(stored(&deployment.answered(&requests).await), (2..=21).collect::<Vec<_>>());
    let seqs: Vec<_> = deployment.history(id).await.iter().map(|row| row.entry.seq).collect();
    assert_eq!(seqs, (1..=21).collect::<Vec<_>>());
    ingest.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_owners_at_once_leave_one_log() {
    let mut deployment = Deployment::start().await;
    let id = chat(2);
    let first = deployment.ingest();
    let requests = deployment.ask(&[create(id)]).await;
    deployment.answered(&requests).await;
    let second = deployment.ingest();
    let commands: Vec<_> = (1..=32).map(|n| send(id, n, "once")).collect();
    let mut requests = Vec::new();
    for command in &commands {
        requests.extend(deployment.ask(std::slice::from_ref(command)).await);
    }
    assert_eq!(stored(&deployment.answered(&requests).await), (2..=33).collect::<Vec<_>>());
    assert_eq!(deployment.history(id).await.len(), 33);
    first.stop().await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_killed_and_restarted_costs_nothing() {
    let mut deployment =
        Deployment::start_with(event_log::LogConfig::default(), NatsOptions::default().sync_always()).await;
    let id = chat(3);
    let ingest = deployment.ingest();
    let requests = deployment.ask(&[create(id), send(id, 1, "before")]).await;
    deployment.answered(&requests).await;
    deployment.watch.allow("the broker");
    deployment.server.kill().unwrap();
    deployment.server.restart().await.unwrap();
    deployment.ask(&[send(id, 2, "after")]).await;
    testkit::wait::until(SOON, "the command is stored", async || deployment.history(id).await.len() == 3).await;
    ingest.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_lost_its_tail_halts_its_partition_and_says_so() {
    for (number, stream) in [(4, "COMMANDS"), (5, "EVENTS")] {
        let mut deployment = Deployment::start().await;
        let id = chat(number);
        let ingest = deployment.ingest();
        let requests = deployment.ask(&[create(id)]).await;
        deployment.answered(&requests).await;
        ingest.stop().await;
        deployment.server.stop().await.unwrap();
        let saved = deployment.server.save_store().unwrap();
        deployment.server.restart().await.unwrap();
        let ingest = deployment.ingest();
        let requests = deployment.ask(&[send(id, 1, "to be lost")]).await;
        deployment.answered(&requests).await;
        ingest.stop().await;
        deployment.server.stop().await.unwrap();
        deployment.server.put_back_stream(&saved, &format!("{stream}-0")).unwrap();
        deployment.server.restart().await.unwrap();
        let position = deployment.store.position(P0).await.unwrap();
        let said = format!("{stream} lost its tail");
        deployment.watch.allow(&said);
        let ingest = deployment.ingest();
        testkit::wait::until(SOON, "the partition to halt", async || {
            deployment.watch.lines().iter().any(|line| line.contains("ingest halted") && line.contains(&said))
        })
        .await;
        assert_eq!(deployment.store.position(P0).await.unwrap(), position);
        assert_eq!(deployment.history(id).await.len(), 2, "what was stored is read still");
        ingest.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_ahead_of_the_events_halts_the_partition() {
    let mut deployment = Deployment::start().await;
    let id = chat(6);
    let ingest = deployment.ingest();
    let requests = deployment.ask(&[create(id)]).await;
    deployment.answered(&requests).await;
    ingest.stop().await;
    // As after the loss of a record that was projected, and of the position that named it.
    let events = deployment.store.position(P0).await.unwrap().unwrap().events.sequence + 1;
    let ahead = Checkpoint { epoch: deployment.epoch, events, statuses: 0 };
    deployment.store.save_checkpoint(Reader::Projections, P0, ahead).await.unwrap();
    let said = "EVENTS lost its tail";
    deployment.watch.allow(said);
    let ingest = deployment.ingest();
    testkit::wait::until(SOON, "the partition to halt", async || {
        deployment.watch.lines().iter().any(|line| line.contains("ingest halted") && line.contains(said))
    })
    .await;
    ingest.stop().await;
}
