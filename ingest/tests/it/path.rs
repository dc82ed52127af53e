//! Commands become entries: stored, answered, once.

use domain::{Code, Event};
use proto::v1::ErrorCode;
use proto::v1::outcome::Result as Answered;

use crate::setup::{Deployment, chat, create, send, stored, user};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_answered_as_stored_stands_in_the_history() {
    let mut deployment = Deployment::start().await;
    let ingest = deployment.ingest();
    let id = chat(1);
    let requests = deployment.ask(&[create(id), send(id, 1, "one"), send(id, 2, "two")]).await;
    let answers = deployment.answered(&requests).await;
    assert_eq!(stored(&answers), [1, 2, 3]);
    let rows = deployment.history(id).await;
    assert_eq!(rows.len(), 3);
    assert!(matches!(&rows[2].entry.event, Event::MessageSent(message) if &message.body[..] == b"two"));
    assert_eq!(rows[2].entry.ordinal, 2);
    ingest.stop().await;
    deployment.watch.finish();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeat_gets_the_first_answer_and_another_body_a_conflict() {
    let mut deployment = Deployment::start().await;
    let ingest = deployment.ingest();
    let id = chat(2);
    let requests = deployment.ask(&[create(id), send(id, 1, "one"), create(id), send(id, 1, "one")]).await;
    assert_eq!(stored(&deployment.answered(&requests).await), [1, 2, 1, 2]);
    let requests = deployment.ask(&[send(id, 1, "other")]).await;
    let answers = deployment.answered(&requests).await;
    assert!(matches!(&answers[0], Answered::Rejected(rejected) if rejected.code() == Code::Conflict));
    assert_eq!(deployment.history(id).await.len(), 2);
    ingest.stop().await;
    deployment.watch.finish();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_copy_after_a_thousand_others_is_superseded() {
    let mut deployment = Deployment::start().await;
    let ingest = deployment.ingest();
    let id = chat(3);
    let mut commands = vec![create(id)];
    commands.extend((1..=1_000).map(|n| send(id, n, "many")));
    let mut requests = Vec::new();
    for part in commands.chunks(200) {
        requests.extend(deployment.ask(part).await);
    }
    assert_eq!(stored(&deployment.answered(&requests).await), (1..=1_001).collect::<Vec<_>>());
    let requests = deployment.ask(&[send(id, 1, "many"), send(id, 1_000, "many")]).await;
    let answers = deployment.answered(&requests).await;
    assert!(matches!(&answers[0], Answered::Rejected(rejected) if rejected.code() == Code::Superseded));
    assert_eq!(stored(&answers[1..]), [1_001]);
    ingest.stop().await;
    deployment.watch.finish();
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_and_unknown_chats_are_refused() {
    let mut deployment = Deployment::start().await;
    let ingest = deployment.ingest();
    let id = chat(4);
    let stranger = domain::Command { sender: user(9), ..send(id, 1, "let me in") };
    let requests = deployment.ask(&[send(id, 1, "too early"), create(id), stranger]).await;
    let answers = deployment.answered(&requests).await;
    assert!(matches!(&answers[0], Answered::Rejected(rejected) if rejected.code() == Code::UnknownChat));
    assert!(
        matches!(&answers[2], Answered::Rejected(rejected) if rejected.code() == Code::NotAMember && rejected.head == 0)
    );
    assert_eq!(deployment.history(id).await.len(), 1);
    ingest.stop().await;
    deployment.watch.finish();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_was_packed_for_another_epoch_is_decided_by_nobody() {
    let mut deployment = Deployment::start().await;
    let id = chat(9);
    let ingest = deployment.ingest();
    let epoch = std::mem::replace(&mut deployment.epoch, domain::Epoch(1));
    let requests = deployment.ask(&[create(id)]).await;
    let answers = deployment.answered(&requests).await;
    let [Answered::Rejected(rejected)] = &answers[..] else { panic!("{answers:?}") };
    assert_eq!(rejected.code(), ErrorCode::Unavailable);
    deployment.epoch = epoch;
    let requests = deployment.ask(&[create(id)]).await;
    assert_eq!(stored(&deployment.answered(&requests).await), [1]);
    ingest.stop().await;
}
