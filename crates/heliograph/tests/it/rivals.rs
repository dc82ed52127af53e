//! Two owners of the same partitions at once: the fence decides, and nobody outside can tell.

use proto::v1::ChatKind;
use testkit::wait::until;

use crate::cast::{SOON, stored};
use crate::world::{Role, World, counted};

const STEP_DOWNS: &str = "ingest_step_downs_total";

#[tokio::test(flavor = "multi_thread")]
async fn two_owners_that_take_the_partitions_from_each_other_store_everything_once() {
    let mut world = World::start().await;
    let alice = world.cast.device("alice", "phone", 0);
    let bob = world.cast.device("bob", "phone", 1);
    let mut chats = Vec::new();
    for _ in 0..4 {
        chats.push(world.cast.chat(&alice, ChatKind::Group, &["bob"]).await);
    }
    for chat in &chats {
        bob.knows(*chat, 1).await;
    }
    let before = counted(STEP_DOWNS);
    world.start_role(Role::RivalIngest);
    let mut rounds = 0;
    // Until each has been thrown out a few times, and for a while of load at least.
    while counted(STEP_DOWNS) < before + 6 || rounds < 50 {
        let sent: Vec<_> = chats
            .iter()
            .flat_map(|chat| [(&alice, *chat), (&bob, *chat)])
            .map(|(device, chat)| device.client.send(chat, format!("round {rounds}")).unwrap())
            .collect();
        for sent in sent {
            stored(sent).await;
        }
        rounds += 1;
        assert!(rounds < 5_000, "nobody was ever thrown out");
    }
    for chat in &chats {
        until(SOON, "both to know all", async || {
            [&alice, &bob].iter().all(|device| device.client.known(*chat) > 2 * rounds)
        })
        .await;
    }
    let report = world.finish().await;
    assert_eq!(report.counts.entries, 4 * (2 * rounds + 1), "{report}");
}
