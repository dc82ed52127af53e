//! Everybody comes at once to a gateway that lets in a few at a time: all get in, each by itself.

use std::sync::atomic::Ordering;

use gateway::limits::Rate;
use testkit::wait::until;

use crate::cast::SOON;
use crate::world::{Setup, World};

const CLIENTS: usize = 50;

/// How often clients knocked in vain until all of them were in.
async fn refused(admissions: Rate) -> u32 {
    let mut setup = Setup::default();
    setup.gateway.socket.admissions = admissions;
    let world = World::with(setup).await;
    let names: Vec<_> = (0..CLIENTS).map(|number| format!("member {number}")).collect();
    let devices: Vec<_> = names.iter().map(|name| world.cast.roaming(name, "phone", 0)).collect();
    for (device, _) in &devices {
        device.signed_in().await;
    }
    until(SOON, "all to stay", async || devices.iter().all(|(device, _)| device.eyes.seen().caught_up)).await;
    assert!(devices.iter().all(|(device, _)| device.eyes.seen().connections == 1), "somebody was let in twice");
    // Before the gateways are gone, for whom they would look.
    let tries: u32 = devices.iter().map(|(_, tries)| tries.load(Ordering::Relaxed)).sum();
    world.finish().await;
    tries - CLIENTS as u32
}

#[tokio::test(flavor = "multi_thread")]
async fn all_get_in_at_last_where_a_few_are_let_in_at_a_time() {
    // Two gateways: at most a dozen at once, and twenty in a second.
    let refused_with_bound = refused(Rate { per_s: 10, burst: 6 }).await;
    assert!(refused_with_bound > 10, "{refused_with_bound}: hardly anybody had to wait");
    assert_eq!(refused(Rate::MAX).await, 0, "control: without the bound");
}
