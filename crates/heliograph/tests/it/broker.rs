//! The broker dies, comes back, and runs full, while people write.

use std::sync::Arc;

use client::ChatId;
use proto::v1::ChatKind;
use testkit::wait::until;

use crate::cast::{Device, SOON, stored, user};
use crate::world::{Role, Setup, World, counted};

/// Commands that any gateway of this process refused as busy.
const BUSY: &str = "commands_busy_total";

/// Sends one after another until told to stop: how many were stored.
fn keep_writing(
    device: &Arc<Device>,
    chat: ChatId,
    mut stop: tokio::sync::oneshot::Receiver<()>,
) -> tokio::task::JoinHandle<u64> {
    let device = Arc::clone(device);
    tokio::spawn(async move {
        let mut count = 0;
        while stop.try_recv().is_err() {
            device.say(chat, format!("message {count}")).await;
            count += 1;
        }
        count
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_killed_and_started_again_under_load_costs_nothing() {
    const KILLS: usize = 3;
    let world = World::start().await;
    let names = ["alice", "bob", "carol", "dave"];
    let devices: Vec<_> =
        names.iter().enumerate().map(|(place, name)| world.cast.device(name, "phone", place % 2)).collect();
    for device in &devices {
        device.caught_up().await;
    }
    let mut writers = Vec::new();
    for creator in &devices[..2] {
        let others: Vec<_> = names.into_iter().filter(|name| user(name) != creator.user).collect();
        let chat = world.cast.chat(creator, ChatKind::Group, &others).await;
        for device in &devices {
            device.knows(chat, 1).await;
            let (stop, stopped) = tokio::sync::oneshot::channel();
            writers.push((stop, keep_writing(device, chat, stopped)));
        }
    }
    for _ in 0..KILLS {
        // In the middle of the stream, so that something is in flight everywhere.
        let before = devices[0].eyes.seen().pushed;
        until(SOON, "pushes to flow", async || devices[0].eyes.seen().pushed >= before + 50).await;
        world.nats.kill().unwrap();
        world.nats.restart().await.unwrap();
    }
    let before = devices[0].eyes.seen().pushed;
    until(SOON, "pushes to flow after the last kill", async || devices[0].eyes.seen().pushed >= before + 50).await;
    let mut said = 0;
    for (stop, writer) in writers {
        let _ = stop.send(());
        said += writer.await.unwrap();
    }
    let report = world.finish().await;
    assert_eq!(report.counts.entries, said + 2, "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_stream_is_answered_with_busy_and_goes_on_once_there_is_room() {
    const CHATS: u64 = 6;
    const MESSAGES: usize = 40;
    let mut setup = Setup::default();
    // A few of the largest records; the last one of a stream is never trimmed.
    (setup.log.commands_bytes_max, setup.log.window_bytes) = (1 << 20, 0);
    setup.ingest.trim_ms = 50;
    counted(BUSY);
    let mut world = World::with(setup).await;
    let alice = world.cast.device("alice", "phone", 0);
    let bob = world.cast.device("bob", "phone", 1);
    let mut chats = Vec::new();
    for _ in 0..CHATS {
        let chat = world.cast.chat(&alice, ChatKind::Group, &["bob"]).await;
        bob.knows(chat, 1).await;
        chats.push(chat);
    }
    world.stop_role(Role::Ingest).await;
    let body = vec![b'x'; 10_000];
    let sent: Vec<_> = chats
        .iter()
        .flat_map(|chat| std::iter::repeat_n(*chat, MESSAGES))
        .map(|chat| alice.client.send(chat, body.clone()).unwrap())
        .collect();
    until(SOON, "busy", async || counted(BUSY) > 0).await;
    // Nothing is lost of what was taken, and nothing more is taken.
    assert!(alice.eyes.seen().accepted.len() < sent.len(), "all was accepted by a full stream");
    world.start_role(Role::Ingest);
    for sent in sent {
        stored(sent).await;
    }
    for chat in chats {
        bob.knows(chat, MESSAGES as u64 + 1).await;
    }
    let report = world.finish().await;
    assert_eq!(report.counts.entries, CHATS * (MESSAGES as u64 + 1), "{report}");
}
