//! `heliograph revoke` beside a running `heliograph up`.

use std::process::Command;

use client::{Client, Event, Events};
use tokio::time::timeout;

use crate::cast::{SOON, member};
use crate::process::Up;

async fn until(events: &mut Events, wanted: impl Fn(&Event) -> bool) -> Event {
    let next = async {
        loop {
            let event = events.next().await.expect("more events");
            if wanted(&event) {
                return event;
            }
        }
    };
    timeout(SOON, next).await.expect("the event in time")
}

#[tokio::test]
async fn revoked_tokens_close_their_sockets_and_only_those() {
    let mut up = Up::new();
    up.start().await;
    let cast = up.cast();
    let (_alice, mut of_alice) = Client::connect(cast.options("alice", "phone", 0));
    let (bob, mut of_bob) = Client::connect(cast.options("bob", "phone", 0));
    for events in [&mut of_alice, &mut of_bob] {
        until(events, |event| matches!(event, Event::Connected { .. })).await;
    }
    let mut revoke = Command::new(env!("CARGO_BIN_EXE_heliograph"));
    revoke.args(["revoke", "--user", "Alice", "--data"]).arg(up.folder());
    let said = revoke.output().unwrap();
    assert!(said.status.success(), "{said:?}");
    let event = until(&mut of_alice, |event| matches!(event, Event::Fatal { .. })).await;
    assert!(matches!(event, Event::Fatal { code: 4505 }), "{event:?}");
    // Bob's socket took a message behind that: it was never closed.
    let chat = bob.create_chat(proto::v1::ChatKind::Group, vec![member("carol")]).unwrap();
    timeout(SOON, chat.outcome).await.expect("in time").unwrap();
    up.stop().await;
    let said = revoke.output().unwrap();
    assert!(!said.status.success() && String::from_utf8_lossy(&said.stderr).contains("does not run"), "{said:?}");
}
