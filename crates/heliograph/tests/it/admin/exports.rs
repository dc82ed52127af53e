//! All that is kept of a user.

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::process::Up;

/// More than a page of entries looks at.
const MESSAGES: usize = 300;

#[tokio::test(flavor = "multi_thread")]
async fn an_export_has_all_own_messages_of_all_chats_and_nobody_elses() {
    let mut up = Up::new();
    up.start().await;
    let (alice, signed_in) = up.register("alice").await;
    let (bob, _) = up.register("bob").await;
    let (long, short) = (alice.group(&[&bob]).await, bob.group(&[&alice]).await);
    for batch in (0..MESSAGES).collect::<Vec<_>>().chunks(30) {
        let sent = batch.iter().map(async |n| alice.say(&long, &format!("alice {n}"), &format!("k{n}")).await.status);
        assert!(join_all(sent).await.iter().all(|status| *status == 201));
    }
    assert_eq!(bob.say(&long, "of bob", "1").await.status, 201);
    assert_eq!(bob.say(&short, "of bob", "2").await.status, 201);
    assert_eq!(alice.say(&short, "the last word", "last").await.status, 201);
    // The list of chats comes from the read models.
    testkit::wait::until(crate::cast::SOON, "both chats", async || {
        up.items(&["chats", "list", "--user", "alice"]).await.len() == 2
    })
    .await;

    let invite = alice.http.post(&format!("/v1/chats/{long}/invites"), json!({ "max_uses": 7 })).await;
    assert_eq!(bob.http.post(&format!("/v1/chats/{short}/invites"), json!({})).await.status, 201);

    let text = up.text(&["user", "export", "alice"]).await;
    let records: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |kind: &str| records.iter().filter(|record| record["kind"] == kind).collect::<Vec<_>>();
    assert_eq!((&of("profile")[0]["id"], &of("profile")[0]["handle"]), (&json!(alice.id), &json!("alice")));
    assert_eq!(of("sign_in").len(), 1);
    let invites = of("invite");
    assert_eq!(invites.len(), 1, "{invites:?}");
    let [id, created_at, expires_at] = ["id", "created_at", "expires_at"].map(|field| invite.body[field].clone());
    let expected = json!({
        "kind": "invite", "invite": id, "chat": long, "created_at": created_at, "expires_at": expires_at,
        "max_uses": 7, "uses": 0,
    });
    assert_eq!(*invites[0], expected);
    let mut chats: Vec<_> = of("chat").into_iter().map(|chat| chat["chat"].as_str().unwrap()).collect();
    chats.sort_unstable();
    let mut expected = [&*long, &*short];
    expected.sort_unstable();
    assert_eq!(chats, expected);
    let mut said: Vec<_> = of("message").into_iter().map(|message| message["text"].as_str().unwrap()).collect();
    said.sort_unstable();
    let mut expected: Vec<_> =
        (0..MESSAGES).map(|n| format!("alice {n}")).chain(["the last word".to_owned()]).collect();
    expected.sort_unstable();
    assert_eq!(said, expected);
    assert_eq!(records.last().unwrap(), &json!({ "kind": "end", "records": records.len() - 1 }));
    for secret in ["argon2", "of bob", &signed_in.text("refresh_token")[..20], &invite.text("code")] {
        assert!(!text.contains(secret), "{secret}");
    }
    assert!(up.refused(&["user", "export", "nobody"]).await.contains("there is no user"));
    up.stop().await;
}
