//! What people do on a good day.

use proto::v1::ChatKind;
use tokio::time::timeout;

use crate::cast::{SOON, stored, user};
use crate::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_accepted_stored_delivered_and_seen() {
    let world = World::start().await;
    let alice = world.cast.device("alice", "phone", 0);
    let bob = world.cast.device("bob", "phone", 1);
    bob.caught_up().await;
    let chat = world.cast.chat(&alice, ChatKind::Direct, &["bob"]).await;
    let mut sent = alice.client.send(chat, "hello").unwrap();
    // By the frame that says so, or by an outcome that overtook it.
    timeout(SOON, &mut sent.accepted).await.expect("accepted in time").unwrap();
    let (_, seq, _) = stored(sent).await;
    assert_eq!(seq, 2, "the creation is seq 1");
    bob.knows(chat, seq).await;
    alice.told(chat, user("bob"), seq, 0).await;
    bob.client.seen(chat, seq);
    alice.told(chat, user("bob"), seq, seq).await;
    // The own echo comes from the table (M20).
    bob.told(chat, user("bob"), seq, seq).await;
    let (answer, _) = bob.say(chat, "hello back").await;
    alice.knows(chat, answer).await;
    let report = world.finish().await;
    assert_eq!((report.counts.entries, report.counts.stored >= 2), (3, true), "{report}");
    assert!(report.counts.pushed >= 4, "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_of_fifty_gets_every_message_in_one_order() {
    const MESSAGES: u64 = 40;
    let world = World::start().await;
    let names: Vec<_> = (0..50).map(|number| format!("member {number}")).collect();
    let devices: Vec<_> =
        names.iter().enumerate().map(|(place, name)| world.cast.device(name, "phone", place % 2)).collect();
    for device in &devices {
        device.caught_up().await;
    }
    let others: Vec<_> = names[1..].iter().map(String::as_str).collect();
    let chat = world.cast.chat(&devices[0], ChatKind::Group, &others).await;
    let mut sent = Vec::new();
    for number in 0..MESSAGES {
        let device = &devices[number as usize % devices.len()];
        device.knows(chat, 1).await;
        sent.push(device.client.send(chat, format!("message {number}")).unwrap());
    }
    for sent in sent {
        stored(sent).await;
    }
    for device in &devices {
        device.knows(chat, MESSAGES + 1).await;
    }
    let report = world.finish().await;
    assert_eq!(report.counts.entries, MESSAGES + 1, "{report}");
    assert_eq!(report.counts.final_histories, 50);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_devices_of_one_user_see_the_same_and_send_side_by_side() {
    let world = World::start().await;
    let phone = world.cast.device("alice", "phone", 0);
    let laptop = world.cast.device("alice", "laptop", 1);
    let bob = world.cast.device("bob", "phone", 0);
    for device in [&phone, &laptop, &bob] {
        device.caught_up().await;
    }
    let chat = world.cast.chat(&phone, ChatKind::Direct, &["bob"]).await;
    laptop.knows(chat, 1).await;
    let sent: Vec<_> = (0..50)
        .map(|number| [&phone, &laptop][number % 2].client.send(chat, format!("message {number}")).unwrap())
        .collect();
    for sent in sent {
        stored(sent).await;
    }
    for device in [&phone, &laptop, &bob] {
        device.knows(chat, 51).await;
    }
    // What one device read, the other is told.
    bob.say(chat, "so many").await;
    laptop.knows(chat, 52).await;
    laptop.client.seen(chat, 52);
    phone.told(chat, user("alice"), 52, 52).await;
    bob.told(chat, user("alice"), 52, 52).await;
    let report = world.finish().await;
    assert_eq!(report.counts.entries, 52, "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_offline_for_a_thousand_messages_catches_up() {
    let world = World::start().await;
    let alice = world.cast.device("alice", "phone", 0);
    let bob = world.cast.device("bob", "phone", 1);
    let chat = world.cast.chat(&alice, ChatKind::Direct, &["bob"]).await;
    bob.knows(chat, 1).await;
    let kept = bob.end().await;
    for _ in 0..10 {
        let sent: Vec<_> =
            (0..100).map(|number| alice.client.send(chat, format!("message {number}")).unwrap()).collect();
        for sent in sent {
            stored(sent).await;
        }
    }
    let pushed = bob.eyes.seen().pushed;
    let bob = world.cast.again(&bob, kept, 0);
    bob.caught_up().await;
    assert_eq!(bob.client.known(chat), 1_001, "caught up means that all is there");
    assert_eq!(bob.eyes.seen().pushed, pushed, "what was missed comes from history");
    let report = world.finish().await;
    assert_eq!(report.counts.entries, 1_001, "{report}");
}
