//! A reader that does not read is let go, and comes back to everything.

use client::Options;
use proto::v1::ChatKind;
use testkit::wait::until;

use crate::cast::SOON;
use crate::world::{Setup, World, counted};

/// What the sockets' own buffers may swallow.
const BUFFERS_BYTES: usize = 4 << 20;
const BODY_BYTES: usize = 12_000;
/// The close code that says so.
const SLOW: u16 = 4000;
const SLOW_CLOSES: &str = "gateway_sockets_closed_total{code=\"slow\"}";

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_stalls_is_closed_as_slow_resumes_and_misses_nothing() {
    let mut setup = Setup::default();
    // A small buffer, so that a stall shows before the sockets' own buffers have swallowed megabytes.
    setup.gateway.socket.send_buffer_bytes = 8 << 10;
    let world = World::with(setup).await;
    let alice = world.cast.device("alice", "phone", 0);
    let carol = world.cast.device("carol", "phone", 1);
    let options = Options { events: 1, ..world.cast.options("bob", "phone", 1) };
    let (bob, mut events) = world.cast.device_with("bob", "phone", options);
    // Bob takes events until his chat is there, and then none.
    alice.signed_in().await;
    let chat = world.cast.chat(&alice, ChatKind::Group, &["bob", "carol"]).await;
    carol.knows(chat, 1).await;
    while bob.client.known(chat) < 1 || !bob.eyes.seen().caught_up {
        events.next().await.expect("an event");
    }
    let (mut head, mut bytes) = (1, 0);
    let closed = counted(SLOW_CLOSES);
    // The counter is of this whole process, so more is sent than all buffers on the way to Bob can hold.
    while counted(SLOW_CLOSES) == closed || bytes < BUFFERS_BYTES {
        assert!(bytes < 8 * BUFFERS_BYTES, "a reader that takes nothing is still connected");
        (head, _) = alice.say(chat, vec![b'x'; BODY_BYTES]).await;
        bytes += BODY_BYTES;
        carol.knows(chat, head).await;
    }
    // The others were not held up.
    assert_eq!(carol.eyes.seen().losses, []);
    assert!(bob.client.known(chat) < head, "bob knows what he never read");
    tokio::spawn(async move { while events.next().await.is_some() {} });
    until(SOON, "bob to come back", async || bob.eyes.seen().connections >= 2).await;
    bob.knows(chat, head).await;
    bob.caught_up().await;
    let losses = bob.eyes.seen().losses.clone();
    assert!(losses.iter().all(|code| matches!(code, Some(SLOW) | None)), "{losses:?}");
    let report = world.finish().await;
    assert_eq!(report.counts.entries, head, "{report}");
}
