//! Gateways are restarted one after the other while people talk: nothing is lost, and nobody looks for a socket twice.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use client::{ChatId, Sent};
use proto::v1::ChatKind;
use testkit::wait::until;
use tokio::time::interval;

use crate::cast::{Device, SOON, stored};
use crate::world::{Setup, World};

const DEVICES: usize = 50;
const SENDERS: usize = 5;
/// Each sender's pace: together a hundred messages in a second, five thousand pushes.
const SENDS_EVERY: Duration = Duration::from_millis(50);
const DRAIN_MS: u64 = 500;
/// Messages between two restarts, so that each finds the load in full flow.
const BETWEEN: u64 = 50;

/// Sends at its pace until told to stop, whatever becomes of its socket.
async fn talk(device: Arc<Device>, chat: ChatId, stop: Arc<AtomicBool>) -> Vec<Sent> {
    let (mut sent, mut ticks) = (Vec::new(), interval(SENDS_EVERY));
    while !stop.load(Ordering::Relaxed) {
        ticks.tick().await;
        sent.push(device.client.send(chat, format!("message {}", sent.len())).unwrap());
    }
    sent
}

/// Waits until everybody has had so many sockets and is caught up on the latest.
async fn settled(devices: &[(Arc<Device>, Arc<AtomicU32>)], connections: impl Fn(usize) -> u32) {
    for (place, (device, tries)) in devices.iter().enumerate() {
        until(SOON, "everybody back and caught up", async || {
            let seen = device.eyes.seen();
            seen.connections >= connections(place) && seen.caught_up
        })
        .await;
        let seen = device.eyes.seen();
        assert_eq!(seen.connections, connections(place), "sockets of {place}: {seen:?}");
        assert_eq!(tries.load(Ordering::Relaxed), seen.connections, "{place} tried a gateway that was gone");
        assert!(seen.losses.iter().all(|code| code.is_none_or(|code| code == 4002)), "{:?}", seen.losses);
    }
}

/// Waits until that many more messages have come through.
async fn more(device: &Device, chat: ChatId) {
    device.knows(chat, device.client.known(chat) + BETWEEN).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_restart_loses_nothing_and_moves_each_device_once_a_gateway() {
    let mut setup = Setup { restarts_gateways: true, ..Setup::default() };
    setup.gateway.socket.drain_ms = DRAIN_MS;
    let mut world = World::with(setup).await;
    let names: Vec<_> = (0..DEVICES).map(|number| format!("member {number}")).collect();
    let devices: Vec<_> =
        names.iter().enumerate().map(|(place, name)| world.cast.roaming(name, "phone", place % 2)).collect();
    settled(&devices, |_| 1).await;
    let others: Vec<_> = names[1..].iter().map(String::as_str).collect();
    let first = Arc::clone(&devices[0].0);
    let chat = world.cast.chat(&first, ChatKind::Group, &others).await;
    for (device, _) in &devices {
        device.knows(chat, 1).await;
    }
    let stop = Arc::new(AtomicBool::new(false));
    let senders: Vec<_> = devices[..SENDERS]
        .iter()
        .map(|(device, _)| tokio::spawn(talk(Arc::clone(device), chat, Arc::clone(&stop))))
        .collect();
    more(&first, chat).await;

    world.drain_gateway(0).await;
    // Those on gateway 0 went to the other one while it was still down; those on the other one noticed nothing.
    settled(&devices, |place| if place % 2 == 0 { 2 } else { 1 }).await;
    world.restart_gateway(0);
    more(&first, chat).await;

    world.drain_gateway(1).await;
    // By now all were on gateway 1.
    settled(&devices, |place| if place % 2 == 0 { 3 } else { 2 }).await;
    world.restart_gateway(1);
    more(&first, chat).await;

    stop.store(true, Ordering::Relaxed);
    let mut sent = 0;
    for sender in senders {
        for message in sender.await.unwrap() {
            stored(message).await;
            sent += 1;
        }
    }
    // Nobody went back to where it was first.
    settled(&devices, |place| if place % 2 == 0 { 3 } else { 2 }).await;
    let report = world.finish().await;
    assert_eq!(report.counts.entries, sent + 1, "{report}");
    assert_eq!(report.counts.final_histories, DEVICES as u64, "{report}");
}
