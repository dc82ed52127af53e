//! Banning, erasing, revoking.

use std::time::Duration;

use serde_json::json;
use testkit::wait::until;
use tokio::time::{Instant, timeout};

use crate::api::PASSWORD;
use crate::api::accounts::{closes_with, refresh, sign_in, socket, with};
use crate::cast::SOON;
use crate::process::Up;

/// X6: from the command's end until a socket is closed.
const CLOSED_WITHIN: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread")]
async fn x06_a_ban_closes_all_sockets_at_once_and_no_sign_in_is_taken_until_it_is_lifted() {
    let mut up = Up::new();
    up.start().await;
    let (alice, _) = up.register("alice").await;
    up.register("bob").await;
    let (phone, other) = (sign_in(&up, "alice", PASSWORD).await, sign_in(&up, "bob", PASSWORD).await);
    let (_client, mut events) = socket(&up, &phone).await;
    let (bystander, _events_of_bob) = socket(&up, &other).await;

    let banned = up.item(&["user", "ban", "Alice"]).await;
    let began = Instant::now();
    assert_eq!(
        (&banned["id"], &banned["state"], &banned["changed"]),
        (&json!(alice.id), &json!("banned"), &json!(true))
    );
    timeout(CLOSED_WITHIN, closes_with(&mut events, 4505)).await.expect("closed within two seconds");
    until(SOON, "the token is refused", async || with(&up, &phone).get("/v1/me").await.status == 401).await;
    assert!(began.elapsed() < CLOSED_WITHIN, "{:?}", began.elapsed());
    assert_eq!(refresh(&up, &phone.text("refresh_token")).await.problem(), "refresh-refused");
    let refused = sign_in(&up, "alice", PASSWORD).await;
    assert_eq!((refused.status, refused.problem()), (403, "banned"), "{refused:?}");
    // Who does not know the password learns nothing.
    assert_eq!(sign_in(&up, "alice", "not the password").await.problem(), "wrong-password");

    // The control: nobody else lost anything.
    let chat = bystander.create_chat(proto::v1::ChatKind::Group, Vec::new()).unwrap();
    timeout(SOON, chat.outcome).await.expect("in time").unwrap();
    assert_eq!(refresh(&up, &other.text("refresh_token")).await.status, 200);

    assert!(up.text(&["user", "ban", "alice"]).await.contains("was banned already"));
    assert!(up.text(&["user", "unban", &alice.id]).await.contains("may sign in again"));
    assert!(up.text(&["user", "unban", "alice"]).await.contains("was not banned"));
    assert_eq!(sign_in(&up, "alice", PASSWORD).await.status, 201);
    up.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn x06_a_ban_that_was_broken_off_is_whole_once_it_is_asked_again() {
    for point in ["admin.row_written", "accounts.revoked"] {
        let mut up = Up::new();
        up.start().await;
        let (_, alice) = up.register("alice").await;
        up.kill();
        up.start_to_crash(point, 1).await;
        assert!(up.refused(&["user", "ban", "alice"]).await.contains("ask again"), "{point}");
        up.crashed().await;
        up.start().await;
        assert_eq!(sign_in(&up, "alice", PASSWORD).await.problem(), "banned", "{point}");
        assert!(up.text(&["user", "ban", "alice"]).await.contains("its sign-ins are ended"));
        until(SOON, "the token is refused", async || with(&up, &alice).get("/v1/me").await.status == 401).await;
        assert_eq!(refresh(&up, &alice.text("refresh_token")).await.problem(), "refresh-refused", "{point}");
        up.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_is_erased_only_when_it_is_meant_and_then_for_ever() {
    let mut up = Up::new();
    up.start().await;
    let (alice, _) = up.register("alice").await;
    let (bob, _) = up.register("bob").await;
    let signed_in = sign_in(&up, "alice", PASSWORD).await;
    let chat = bob.group(&[&alice]).await;
    assert_eq!(alice.say(&chat, "I was here", "1").await.status, 201);
    let (_client, mut events) = socket(&up, &signed_in).await;
    assert!(up.refused(&["user", "erase", "alice"]).await.contains("--yes"));
    assert_eq!(alice.http.get("/v1/me").await.status, 200);

    let erased = up.item(&["user", "erase", "alice", "--yes"]).await;
    assert_eq!((&erased["state"], &erased["changed"]), (&json!("leaving"), &json!(true)));
    closes_with(&mut events, 4505).await;
    assert_eq!(sign_in(&up, "alice", PASSWORD).await.problem(), "wrong-password");
    assert_eq!(refresh(&up, &signed_in.text("refresh_token")).await.problem(), "refresh-refused");
    assert_eq!(bob.http.get(&format!("/v1/users/{}", alice.id)).await.status, 404);
    let left = up.erased(&alice.id).await;
    for field in ["handle", "display_name"] {
        assert_eq!(left[field], "", "{left}");
    }
    assert_eq!((&left["sign_ins"], &left["devices"]), (&json!([]), &json!([])));
    // What it said is the chat's, where it is no more.
    assert!(!bob.who_is_in(&chat).await.contains(&alice.id));
    let page = bob.read(&chat, "after=1").await;
    assert_eq!(page.body["entries"][0]["text"], "I was here", "{page:?}");

    let (other, _) = up.register("alice").await;
    assert_ne!(other.id, alice.id);
    assert!(up.text(&["user", "erase", &alice.id, "--yes"]).await.contains("was erased already"));
    assert!(up.refused(&["user", "ban", &alice.id]).await.contains("erased"));
    assert!(up.refused(&["user", "unban", &alice.id]).await.contains("for ever"));
    assert_eq!(sign_in(&up, "alice", PASSWORD).await.body["user"]["id"], json!(other.id));
    up.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erasure_that_was_broken_off_goes_on_by_itself() {
    for point in ["admin.row_written", "accounts.revoked"] {
        let mut up = Up::new();
        up.start().await;
        let (alice, signed_in) = up.register("alice").await;
        up.kill();
        up.start_to_crash(point, 1).await;
        assert!(up.refused(&["user", "erase", "alice", "--yes"]).await.contains("ask again"), "{point}");
        up.crashed().await;
        up.start().await;
        let left = up.erased(&alice.id).await;
        assert_eq!((&left["handle"], &left["sign_ins"]), (&json!(""), &json!([])), "{point}: {left}");
        assert_eq!(refresh(&up, &signed_in.text("refresh_token")).await.problem(), "refresh-refused", "{point}");
        until(SOON, "the token is refused", async || with(&up, &signed_in).get("/v1/me").await.status == 401).await;
        // The handle is whoever's comes next.
        let (other, _) = up.register("alice").await;
        assert_ne!(other.id, alice.id, "{point}");
        up.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn x06_a_revoked_device_is_signed_out_and_the_others_are_not() {
    let mut up = Up::new();
    up.start().await;
    let (_, laptop) = up.register("alice").await;
    let phone = sign_in(&up, "alice", PASSWORD).await;
    let (_client, mut events) = socket(&up, &phone).await;
    let devices = up.items(&["device", "list", "alice"]).await;
    let named: Vec<_> = devices.iter().map(|device| (&device["device"], &device["sign_ins"])).collect();
    assert_eq!(named, [(&json!("laptop"), &json!(1)), (&json!("phone"), &json!(1))]);

    let revoked = up.item(&["device", "revoke", "alice", "phone"]).await;
    assert_eq!((&revoked["known"], &revoked["sign_ins_ended"]), (&json!(true), &json!(1)));
    timeout(CLOSED_WITHIN, closes_with(&mut events, 4505)).await.expect("closed within two seconds");
    assert_eq!(refresh(&up, &phone.text("refresh_token")).await.problem(), "refresh-refused");
    assert_eq!(with(&up, &laptop).get("/v1/me").await.status, 200);
    assert_eq!(refresh(&up, &laptop.text("refresh_token")).await.status, 200);
    assert_eq!(up.items(&["device", "list", "alice"]).await.len(), 1);
    assert!(up.text(&["device", "revoke", "alice", "fridge"]).await.contains("nothing was known of it"));
    assert!(up.refused(&["device", "revoke", "alice", &"x".repeat(129)]).await.contains("128 bytes"));
    up.stop().await;
}
