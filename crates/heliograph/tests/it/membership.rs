//! Who is in a chat is decided where the entry is: in the log's order.

use client::Settlement;
use proto::v1::{ChatKind, ErrorCode, Role as Membership};
use testkit::wait::until;
use tokio::time::timeout;

use crate::cast::{SOON, stored, user};
use crate::world::{Role, World};

#[tokio::test(flavor = "multi_thread")]
async fn a_send_in_flight_behind_the_senders_removal_is_refused_and_one_before_it_stands() {
    let mut world = World::start().await;
    let alice = world.cast.device("alice", "phone", 0);
    let bob = world.cast.device("bob", "phone", 1);
    let carol = world.cast.device("carol", "phone", 1);
    let chat = world.cast.chat(&alice, ChatKind::Group, &["bob", "carol"]).await;
    for device in [&alice, &bob, &carol] {
        device.knows(chat, 1).await;
        device.caught_up().await;
    }
    world.stop_role(Role::Ingest).await;
    let before = bob.client.send(chat, "before").unwrap();
    until(SOON, "accepted", async || bob.eyes.seen().accepted.contains(&before.id)).await;
    let removal = alice.client.remove_member(chat, user("bob")).unwrap();
    until(SOON, "accepted", async || alice.eyes.seen().accepted.contains(&removal.id)).await;
    let behind = bob.client.send(chat, "behind").unwrap();
    until(SOON, "accepted", async || bob.eyes.seen().accepted.contains(&behind.id)).await;
    world.start_role(Role::Ingest);
    assert_eq!(stored(before).await.1, 2);
    assert_eq!(stored(removal).await.1, 3);
    let refused = timeout(SOON, behind.outcome).await.unwrap().unwrap();
    assert!(matches!(refused, Settlement::Rejected { code: ErrorCode::NotAMember, .. }), "{refused:?}");
    // He sees his own removal, and nothing after it until he is back.
    bob.knows(chat, 3).await;
    let (hidden, _) = alice.say(chat, "without bob").await;
    carol.knows(chat, hidden).await;
    let (_, back, _) = stored(alice.client.add_member(chat, user("bob"), Membership::Member).unwrap()).await;
    bob.knows(chat, back).await;
    let (last, _) = bob.say(chat, "back again").await;
    assert_eq!(last, 6);
    carol.knows(chat, last).await;
    let report = world.finish().await;
    assert_eq!(report.counts.entries, 6, "{report}");
}
