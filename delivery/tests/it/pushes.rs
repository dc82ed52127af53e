//! Who gets what, and how a gateway sees that something is missing.

use delivery::Config;
use domain::{Event, Member, Role};
use store::{Checkpoint, Reader};

use crate::gateway::Gateway;
use crate::setup::{Chat, Deployment, P0, user};

#[tokio::test]
async fn two_users_on_two_gateways_get_each_entry_once() {
    let deployment = Deployment::start().await;
    let delivery = deployment.deliver();
    let mut writer = deployment.writer().await;
    let (mut one, mut two) = (Gateway::start(&deployment.log, 1).await, Gateway::start(&deployment.log, 2).await);
    one.online([1, 9]).await;
    two.online([2]).await;
    let mut chat = Chat::new(1);
    writer.write(chat.created([1, 2])).await;
    for sender in [1, 2, 1] {
        writer.write(chat.message(sender)).await;
    }
    one.until("all entries at the first gateway", |g| g.seqs(1, chat.id) == [1, 2, 3, 4]).await;
    two.until("all entries at the second gateway", |g| g.seqs(2, chat.id) == [1, 2, 3, 4]).await;
    assert!(one.seqs(9, chat.id).is_empty(), "a stranger gets nothing");
    let dense: Vec<u64> = (1..=one.batches.len() as u64).collect();
    assert_eq!(one.numbers(), dense);
    let last = *dense.last().unwrap();
    one.until("how far it is expanded", |g| {
        g.throughs.last().is_some_and(|through| through.events == 4 && through.last_batch == last)
    })
    .await;
    delivery.stop().await;
}

#[tokio::test]
async fn a_group_of_fifty_gets_one_push_a_gateway() {
    let deployment = Deployment::start().await;
    let delivery = deployment.deliver();
    let mut writer = deployment.writer().await;
    let (mut one, mut two) = (Gateway::start(&deployment.log, 1).await, Gateway::start(&deployment.log, 2).await);
    one.online(1..=25).await;
    two.online(26..=50).await;
    let mut chat = Chat::new(1);
    writer.write(chat.created(1..=50)).await;
    writer.write(chat.message(7)).await;
    for (gateway, members) in [(&mut one, 1..=25), (&mut two, 26..=50)] {
        let all = members.clone();
        gateway.until("both entries for all", |g| all.clone().all(|n| g.seqs(n, chat.id) == [1, 2])).await;
        let entry_pushes =
            gateway.batches.iter().flat_map(|batch| &batch.pushes).filter(|push| push.sessions.len() > 1);
        assert_eq!(entry_pushes.count(), 2, "the bytes go to a gateway once an entry");
    }
    delivery.stop().await;
}

#[tokio::test]
async fn who_is_offline_gets_nothing_and_who_comes_back_is_acknowledged_as_of_what_was_missed() {
    let deployment = Deployment::start().await;
    let delivery = deployment.deliver();
    let mut writer = deployment.writer().await;
    let mut gateway = Gateway::start(&deployment.log, 1).await;
    gateway.online([1, 2]).await;
    let mut chat = Chat::new(1);
    writer.write(chat.created([1, 2])).await;
    gateway.until("the creation", |g| g.seqs(2, chat.id) == [1]).await;
    gateway.online([1]).await;
    writer.write(chat.message(1)).await;
    gateway.until("the message at user 1", |g| g.seqs(1, chat.id) == [1, 2]).await;
    let ack = gateway.online([1, 2]).await;
    assert_eq!(ack.as_of, 2, "the heads at 2 tell what user 2 missed");
    writer.write(chat.message(1)).await;
    gateway.until("the next message at user 2", |g| g.seqs(2, chat.id) == [1, 3]).await;
    delivery.stop().await;
}

#[tokio::test]
async fn an_event_of_a_cold_chat_waits_for_the_row_before_it() {
    let deployment = Deployment::start().await;
    let mut writer = deployment.writer().await;
    let mut chat = Chat::new(1);
    writer.write(chat.created([1])).await;
    let joined = chat.entry(1, Event::MemberAdded { member: Member { user: user(2), role: Role::Member } });
    writer.publish(std::slice::from_ref(&joined)).await;
    let message = chat.message(1);
    // Delivery starts behind both, as after a takeover: the row that adds user 2 is not appended yet.
    let epoch = deployment.log.open_streams().await.unwrap()[0];
    let checkpoint = Checkpoint { epoch, events: 2, statuses: 0 };
    deployment.store.save_checkpoint(Reader::Delivery, P0, checkpoint).await.unwrap();
    let delivery = deployment.deliver_with(Config { row_wait_ms: 50, ..Config::default() });
    let mut gateway = Gateway::start(&deployment.log, 1).await;
    gateway.online([1, 2]).await;
    writer.publish(std::slice::from_ref(&message)).await;
    let first = gateway.throughs.len();
    gateway.until("two seconds of waiting", |g| g.throughs.len() >= first + 2).await;
    assert!(gateway.throughs.iter().all(|through| through.events == 2));
    writer.append(&[joined, message]).await;
    gateway.until("the message at the new member", |g| g.seqs(2, chat.id) == [3]).await;
    delivery.stop().await;
}

#[tokio::test]
async fn what_does_not_fit_the_queue_is_dropped_and_its_number_is_missing() {
    let deployment = Deployment::start().await;
    // Room for a small push, none for a large one.
    let delivery = deployment.deliver_with(Config { outgoing_bytes_max: 1_000, ..Config::default() });
    let mut writer = deployment.writer().await;
    let mut gateway = Gateway::start(&deployment.log_elsewhere().await, 1).await;
    gateway.online([1]).await;
    let mut chat = Chat::new(1);
    writer.write(chat.created([1])).await;
    gateway.until("the creation", |g| g.seqs(1, chat.id) == [1]).await;
    writer.write(chat.entry(1, Event::MessageSent(domain::Message::plain(vec![0; 5_000])))).await;
    gateway
        .until("a batch number that did not come", |g| {
            g.throughs.last().is_some_and(|through| through.events == 2 && through.last_batch == 2)
        })
        .await;
    assert_eq!(gateway.numbers(), [1]);
    writer.write(chat.message(1)).await;
    gateway.until("the next message", |g| g.seqs(1, chat.id) == [1, 3]).await;
    assert_eq!(gateway.numbers(), [1, 3]);
    delivery.stop().await;
}
