//! An owner that stood still while another took its partitions, and goes on as if nothing had been.

use std::sync::Arc;

use client::ChatId;
use proto::v1::ChatKind;
use testkit::wait::until;
use testkit::{Direction, Gate};

use crate::cast::{Device, SOON};
use crate::world::{Role, World, counted};

/// Publishes that the fence refused.
const REFUSED: &str = "event_log_publish_refused_total{reason=\"fenced\",stream=\"EVENTS\"}";
/// Owners that saw in the bucket that another has the partition.
const RECALLED: &str = "event_log_leases_recalled_total{role=\"ingest\"}";
const SAID: u64 = 20;

/// Alice and Bob in one chat whose owner reaches the broker through a gate.
async fn gated() -> (World, Gate, [Arc<Device>; 2], ChatId) {
    let mut world = World::start().await;
    world.stop_role(Role::Ingest).await;
    let gate = Gate::before(world.nats.port()).await.unwrap();
    world.start_gated_ingest(&gate).await;
    let (alice, bob) = (world.cast.device("alice", "phone", 0), world.cast.device("bob", "phone", 1));
    let chat = world.cast.chat(&alice, ChatKind::Group, &["bob"]).await;
    bob.knows(chat, 1).await;
    alice.knows(chat, 1).await;
    until(SOON, "the owner to rest", async || world.rests(chat).await).await;
    (world, gate, [alice, bob], chat)
}

/// Twenty messages, until the owner has said that their rows are there: a push may settle a send before that.
async fn talk(world: &World, devices: &[Arc<Device>; 2], chat: ChatId) {
    let mut last = 0;
    for number in 0..SAID {
        (last, _) = devices[number as usize % 2].say(chat, format!("message {number}")).await;
    }
    until(SOON, "the last row", async || world.kept(chat).await.0.len() as u64 == last).await;
    until(SOON, "the owner to rest", async || world.rests(chat).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn held_before_its_publish_it_publishes_nothing_and_changes_no_row() {
    let (mut world, gate, devices, chat) = gated().await;
    counted(REFUSED);
    gate.hold(Direction::ToServer);
    let held = devices[0].client.send(chat, "decided by both").unwrap();
    until(SOON, "the decided batch at the gate", async || gate.holds(Direction::ToServer, "decided by both")).await;
    world.start_role(Role::Ingest);
    assert_eq!(crate::cast::stored(held).await.1, 2, "the new owner decides what the old one did not publish");
    talk(&world, &devices, chat).await;
    let (before, refused) = (world.kept(chat).await, counted(REFUSED));
    gate.let_go(Direction::ToServer);
    until(SOON, "the fence to refuse it", async || counted(REFUSED) > refused).await;
    world.stop_role(Role::GatedIngest).await;
    assert_eq!(world.kept(chat).await, before);
    talk(&world, &devices, chat).await;
    assert_eq!(world.finish().await.counts.entries, 2 + 2 * SAID);
}

#[tokio::test(flavor = "multi_thread")]
async fn held_before_it_learns_of_its_publish_it_appends_late_and_changes_no_row() {
    let (mut world, gate, devices, chat) = gated().await;
    counted(REFUSED);
    gate.hold(Direction::ToServer);
    let held = devices[0].client.send(chat, "published by the first").unwrap();
    until(SOON, "the decided batch at the gate", async || gate.holds(Direction::ToServer, "published by the first"))
        .await;
    gate.hold(Direction::ToClients);
    gate.let_go(Direction::ToServer);
    until(SOON, "its acknowledgement at the gate", async || gate.holds(Direction::ToClients, "\"seq\":")).await;
    world.start_role(Role::Ingest);
    // Nobody answers it: the first owner cannot, the second found it published. Its push settles it.
    assert_eq!(crate::cast::stored(held).await.1, 2);
    talk(&world, &devices, chat).await;
    let (before, refused) = (world.kept(chat).await, counted(REFUSED));
    let recalled = counted(RECALLED);
    gate.let_go(Direction::ToClients);
    // It appends what it published. What it decides since is refused, unless it sees before that it is not the owner.
    until(SOON, "it to step down", async || counted(REFUSED) > refused || counted(RECALLED) > recalled).await;
    world.stop_role(Role::GatedIngest).await;
    assert_eq!(world.kept(chat).await, before);
    talk(&world, &devices, chat).await;
    assert_eq!(world.finish().await.counts.entries, 2 + 2 * SAID);
}
