//! The same command more than once: one entry, one answer.

use client::machine::{Kept, KeptLane, KeptSend};
use client::{Identity, SendId};
use proto::v1::{ChatKind, ErrorCode, command};
use testkit::wait::until;

use crate::cast::{SOON, stored};
use crate::world::{Role, World};

#[tokio::test(flavor = "multi_thread")]
async fn a_resend_through_the_other_gateway_gets_the_first_ones_seq() {
    let mut world = World::start().await;
    let alice = world.cast.device("alice", "phone", 0);
    let bob = world.cast.device("bob", "phone", 1);
    let chat = world.cast.chat(&alice, ChatKind::Direct, &["bob"]).await;
    bob.knows(chat, 1).await;
    alice.knows(chat, 1).await;
    // Nobody decides, so that the socket surely ends between `accepted` and the outcome.
    world.stop_role(Role::Ingest).await;
    let ids: Vec<_> = (0..5).map(|n| alice.client.send(chat, format!("message {n}")).unwrap().id).collect();
    until(SOON, "accepted", async || ids.iter().all(|id| alice.eyes.seen().accepted.contains(id))).await;
    let kept = alice.end().await;
    assert_eq!(
        kept.1.lanes.iter().map(|lane| lane.sends.len()).sum::<usize>(),
        5,
        "the outbox holds what has no outcome"
    );
    let alice = world.cast.again(&alice, kept.clone(), 1);
    until(SOON, "a second socket", async || alice.eyes.seen().connections == 2).await;
    world.start_role(Role::Ingest);
    bob.knows(chat, 6).await;
    until(SOON, "all to settle", async || alice.client.unsettled() == 0).await;
    // Long settled, and asked for once more by a program that forgot that: the answer is the same.
    alice.end().await;
    let alice = world.cast.again(&alice, kept, 0);
    until(SOON, "a third socket", async || alice.eyes.seen().connections == 3).await;
    for (place, id) in ids.iter().enumerate() {
        let answers = until(SOON, "the answer to the third copy", async || {
            let answers = alice.eyes.seen().answers.get(id).cloned().unwrap_or_default();
            answers.last().cloned()
        });
        let answer = answers.await;
        let Some(proto::v1::outcome::Result::Stored(stored)) = answer.result else { panic!("{answer:?}") };
        assert_eq!(stored.seq, place as u64 + 2);
    }
    let report = world.finish().await;
    assert_eq!(report.counts.entries, 6, "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_identity_with_another_body_is_a_conflict() {
    let world = World::start().await;
    let alice = world.cast.device("alice", "phone", 0);
    let bob = world.cast.device("bob", "phone", 1);
    let chat = world.cast.chat(&alice, ChatKind::Direct, &["bob"]).await;
    bob.knows(chat, 1).await;
    let sent = alice.client.send(chat, "the first body").unwrap();
    let (id, identity) = (sent.id, sent.identity);
    stored(sent).await;
    let (resume, kept) = alice.end().await;
    let forged = forge(kept, id, identity);
    let alice = world.cast.again(&alice, (resume, forged), 1);
    let code = until(SOON, "an answer to the forged copy", async || {
        let answers = alice.eyes.seen().answers.get(&id).cloned().unwrap_or_default();
        answers.iter().find_map(|answer| match &answer.result {
            Some(proto::v1::outcome::Result::Rejected(rejected)) => Some(rejected.code()),
            Some(proto::v1::outcome::Result::Stored(_)) | None => None,
        })
    });
    assert_eq!(code.await, ErrorCode::Conflict);
    // What follows is not held up.
    let (seq, _) = alice.say(chat, "an honest one").await;
    assert_eq!(seq, 3);
    bob.knows(chat, 3).await;
    let report = world.finish().await;
    assert_eq!(report.counts.entries, 3, "{report}");
}

/// An outbox that holds a settled command's identity with another body.
fn forge(mut kept: Kept, id: SendId, Identity { chat, origin, n }: Identity) -> Kept {
    let action = command::Action::SendMessage(proto::v1::SendMessage {
        body: "another body".into(),
        ..proto::v1::SendMessage::default()
    });
    kept.lanes.push(KeptLane { chat, sends: vec![KeptSend { id, origin, n, basis: 1, action }] });
    kept
}
