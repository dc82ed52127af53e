//! From a delivery owner to sockets: ready on its ack, pushes in order, and every loss seen.

use domain::{Seq, UserId};
use event_log::{Received, Subject};
use gateway::socket::SubProtocol;
use prost::Message as _;
use proto::relay::{ReceiptBatch, push};
use proto::v1::client_frame::Frame as Ask;
use proto::v1::server_frame::Frame;
use proto::v1::{Heads, Ready, Received as Got, Seen, Watermark};
use testkit::wait::until;

use super::client::Client;
use super::owner::Owner;
use super::setup::{Chat, Deployment, P0, SOON, user};

over_each_sub_protocol! {
    a_session_is_ready_on_its_owners_ack_and_its_heads_become_current,
    an_announcement_that_nobody_answers_is_made_again,
    pushes_reach_the_named_sessions_in_order_with_the_entrys_own_bytes,
    a_gap_in_the_batches_makes_the_session_ready_and_its_heads_current_anew,
    the_loss_of_the_last_batch_and_a_new_owner_are_seen,
    receipts_are_merged_by_maximum_and_handed_to_delivery,
}

async fn ready(client: &mut Client) -> Ready {
    client.until(|_, frame| if let Frame::Ready(ready) = frame { Some(ready) } else { None }).await
}

async fn current_heads(client: &mut Client) -> Heads {
    client.until(|_, frame| if let Frame::Heads(heads) = frame { heads.current.then_some(heads) } else { None }).await
}

/// The seq of the next pushed entry; a `ready` before it is a failure.
async fn pushed(client: &mut Client) -> Seq {
    client
        .until(|id, frame| match frame {
            Frame::Pushed(pushed) => {
                assert_eq!(id, 0);
                Some(pushed.entry.unwrap().seq)
            }
            Frame::Ready(ready) => panic!("{ready:?} before the push"),
            _ => None,
        })
        .await
}

/// One owner, and a client of user 1 that is ready as of event 0.
async fn settled(deployment: &Deployment) -> (Owner, Client) {
    let mut owner = Owner::start(&deployment.log, deployment.epoch, 5).await;
    let mut client = deployment.client(1).await;
    owner.mirrors(&[client.session]).await;
    owner.ack(owner.version, 0).await;
    ready(&mut client).await;
    current_heads(&mut client).await;
    (owner, client)
}

async fn a_session_is_ready_on_its_owners_ack_and_its_heads_become_current(over: SubProtocol) {
    let deployment = Deployment::start(over).await;
    let mut chat = Chat::new(1);
    deployment.append(&[chat.created(&[1, 2]), chat.message()]).await;
    deployment.project(chat.id, &[1, 2], 2, 2).await;
    let mut owner = Owner::start(&deployment.log, deployment.epoch, 5).await;
    let mut client = deployment.client(1).await;
    owner.mirrors(&[client.session]).await;
    assert_eq!(owner.sessions[&client.session], *user(1).as_bytes());
    // An ack of what came before the session says nothing of it.
    owner.ack(owner.version - 1, 1).await;
    owner.ack(owner.version, 3).await;
    assert_eq!(ready(&mut client).await, Ready { partition: 0, epoch: deployment.epoch.0, as_of: 3 });
    let heads = client.until(|_, frame| if let Frame::Heads(heads) = frame { Some(heads) } else { None }).await;
    assert!(!heads.current && heads.last, "{heads:?}");
    assert_eq!((heads.heads[0].head, &heads.heads[0].chat), (2, &chat.id.to_wire()));
    // The model passes `as_of`: told again, now current.
    deployment.append(&[chat.message()]).await;
    deployment.project(chat.id, &[1, 2], 3, 3).await;
    let heads = current_heads(&mut client).await;
    assert_eq!((heads.heads[0].head, heads.heads[0].ordinal), (3, 2));
    deployment.stop().await;
}

async fn an_announcement_that_nobody_answers_is_made_again(over: SubProtocol) {
    let deployment = Deployment::start(over).await;
    let mut client = deployment.client(1).await;
    let id = client.ask(super::client::message(super::setup::chat(1), 1, "hello")).await;
    // Without any owner everything else works.
    assert_eq!(client.reply(id).await, None);
    let (mut owner, session) = (Owner::start(&deployment.log, deployment.epoch, 5).await, client.session);
    owner.mirrors(&[session]).await;
    // Nothing new to say, but it is said, as a further version, until there is an ack.
    let version = owner.version;
    owner.until("a further announcement", |owner| owner.version > version).await;
    owner.ack(version, 4).await;
    assert_eq!(ready(&mut client).await.as_of, 4);
    deployment.stop().await;
}

async fn pushes_reach_the_named_sessions_in_order_with_the_entrys_own_bytes(over: SubProtocol) {
    let deployment = Deployment::start(over).await;
    let (mut owner, mut alice) = settled(&deployment).await;
    let mut bob = deployment.client(2).await;
    owner.mirrors(&[alice.session, bob.session]).await;
    let mut chat = Chat::new(1);
    let entries: Vec<_> = (0..50).map(|_| chat.message()).collect();
    let both = vec![alice.session, bob.session, 4_711];
    for pair in entries.chunks(2) {
        let whole = |at: usize| push::What::Entry(pair[at].bytes.clone());
        owner.push(vec![(whole(0), both.clone()), (whole(1), vec![alice.session])]).await;
    }
    let mark = Watermark { chat: chat.id.to_wire(), user: user(2).to_wire(), delivered: 9, seen: 8 };
    owner.push(vec![(push::What::Watermark(mark.clone()), both)]).await;
    for entry in &entries {
        let got = alice.until(|_, frame| if let Frame::Pushed(pushed) = frame { Some(pushed) } else { None }).await;
        assert_eq!(got.epoch, deployment.epoch.0);
        assert_eq!(got.entry.unwrap().encode_to_vec(), entry.bytes);
    }
    for entry in entries.iter().step_by(2) {
        assert_eq!(pushed(&mut bob).await, entry.entry.seq);
    }
    for client in [&mut alice, &mut bob] {
        let got = client.until(|_, frame| if let Frame::Watermark(mark) = frame { Some(mark) } else { None }).await;
        assert_eq!(got, mark);
    }
    deployment.stop().await;
}

#[tokio::test]
async fn one_push_reaches_sockets_of_both_sub_protocols() {
    let deployment = Deployment::start(SubProtocol::Proto).await;
    let (mut owner, mut binary) = settled(&deployment).await;
    let mut text = Client::connect(deployment.address, SubProtocol::Json).await;
    text.sign_in(&deployment.token(2)).await;
    owner.mirrors(&[binary.session, text.session]).await;
    let mut chat = Chat::new(1);
    for seq in 1..=3 {
        let what = push::What::Entry(chat.message().bytes);
        owner.push(vec![(what, vec![binary.session, text.session])]).await;
        assert_eq!((pushed(&mut binary).await, pushed(&mut text).await), (seq, seq));
    }
    deployment.stop().await;
}

async fn a_gap_in_the_batches_makes_the_session_ready_and_its_heads_current_anew(over: SubProtocol) {
    let deployment = Deployment::start(over).await;
    let (mut owner, mut client) = settled(&deployment).await;
    let (mut chat, session, before) = (Chat::new(1), client.session, owner.version);
    let mut entry = || push::What::Entry(chat.message().bytes);
    owner.push(vec![(entry(), vec![session])]).await;
    assert_eq!(pushed(&mut client).await, 1);
    entry();
    owner.lose_a_batch();
    owner.push(vec![(entry(), vec![session])]).await;
    assert_eq!(pushed(&mut client).await, 3, "what comes behind a gap is still pushed");
    owner.until("a new announcement", |owner| owner.version > before).await;
    // An ack from before the loss must not count; a push behind it shows that nothing was said.
    owner.ack(before, 0).await;
    owner.push(vec![(entry(), vec![session])]).await;
    assert_eq!(pushed(&mut client).await, 4);
    owner.ack(owner.version, 0).await;
    ready(&mut client).await;
    current_heads(&mut client).await;
    deployment.stop().await;
}

async fn the_loss_of_the_last_batch_and_a_new_owner_are_seen(over: SubProtocol) {
    let deployment = Deployment::start(over).await;
    let (mut owner, mut client) = settled(&deployment).await;
    let before = owner.version;
    owner.through().await;
    owner.lose_a_batch();
    owner.through().await;
    owner.until("a new announcement", |owner| owner.version > before).await;
    owner.ack(owner.version, 0).await;
    ready(&mut client).await;

    let mut next = Owner::start(&deployment.log, deployment.epoch, owner.id + 1).await;
    next.mirrors(&[client.session]).await;
    let before = next.version;
    next.through().await;
    next.until("a new announcement", |owner| owner.version > before).await;
    let (mut chat, session) = (Chat::new(1), client.session);
    // The old owner still speaks; nobody listens.
    owner.push(vec![(push::What::Entry(chat.message().bytes), vec![session])]).await;
    next.push(vec![(push::What::Entry(chat.message().bytes), vec![session])]).await;
    assert_eq!(pushed(&mut client).await, 2);
    next.ack(next.version, 0).await;
    ready(&mut client).await;
    deployment.stop().await;
}

async fn receipts_are_merged_by_maximum_and_handed_to_delivery(over: SubProtocol) {
    let deployment = Deployment::start(over).await;
    let mut receipts = deployment.log.subscribe(Subject::Receipts(P0)).await.unwrap();
    let mut client = deployment.client(1).await;
    let chat = super::setup::chat(1).to_wire();
    for through in [3, 9, 5] {
        client.ask(Ask::Received(Got { chat: chat.clone(), through })).await;
    }
    client.ask(Ask::Seen(Seen { chat: chat.clone(), through: 7 })).await;
    let (mut delivered, mut seen) = (0, 0);
    until(SOON, "the receipts", async || {
        while let Some(received) = receipts.try_next() {
            let Received::Message(message) = received else { continue };
            for receipt in ReceiptBatch::decode(message.payload).unwrap().receipts {
                assert_eq!(UserId::try_from(&receipt.user[..]).unwrap(), user(1));
                (delivered, seen) = (delivered.max(receipt.delivered), seen.max(receipt.seen));
            }
        }
        (delivered, seen) == (9, 7)
    })
    .await;
    deployment.stop().await;
}
