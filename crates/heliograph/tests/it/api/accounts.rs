//! Accounts and sign-ins.

use std::sync::atomic::{AtomicBool, Ordering};

use client::{Client, Event, Options};
use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::PASSWORD;
use super::http::{Answer, Http};
use crate::cast::SOON;
use crate::process::Up;

pub(crate) async fn sign_in(up: &Up, handle: &str, password: &str) -> Answer {
    let asked = json!({ "handle": handle, "password": password, "device": "phone" });
    up.http().post("/v1/sign-ins", asked).await
}

pub(crate) async fn refresh(up: &Up, token: &str) -> Answer {
    up.http().post("/v1/sign-ins/refresh", json!({ "refresh_token": token })).await
}

pub(crate) fn with(up: &Up, answer: &Answer) -> Http {
    Http { token: Some(answer.text("access_token")), ..up.http() }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_many_at_once_gets_a_handle_and_the_others_leave_no_account() {
    let mut up = Up::new();
    up.start().await;
    let asked = |n: usize| {
        let handle = if n.is_multiple_of(2) { "alice" } else { "ALICE" };
        let account = json!({ "handle": handle, "password": PASSWORD, "device": "laptop" });
        let http = up.http();
        async move { http.post("/v1/accounts", account).await }
    };
    let answers = join_all((0..8).map(asked)).await;
    let made = answers.iter().filter(|answer| answer.status == 201).count();
    let taken = answers.iter().filter(|answer| answer.status == 409 && answer.problem() == "handle-taken").count();
    assert_eq!((made, taken), (1, 7), "{answers:?}");
    let alice = answers.iter().find(|answer| answer.status == 201).unwrap();
    let found = with(&up, alice).get("/v1/users?prefix=al").await;
    assert_eq!(found.body["users"].as_array().unwrap().len(), 1, "{found:?}");
    assert_eq!(found.body["users"][0]["id"], alice.body["user"]["id"]);
    up.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_outlives_a_kill_and_signs_in_with_its_password_only() {
    let mut up = Up::new();
    up.start().await;
    let (alice, _) = up.register("alice").await;
    up.kill();
    up.start().await;
    let right = sign_in(&up, "Alice", PASSWORD).await;
    assert_eq!((right.status, &right.body["user"]["id"]), (201, &json!(alice.id)), "{right:?}");
    for (handle, password) in
        [("alice", "correct horse battery stapl"), ("nobody", PASSWORD), ("no such handle!", PASSWORD)]
    {
        let wrong = sign_in(&up, handle, password).await;
        assert_eq!((wrong.status, wrong.problem()), (401, "wrong-password"), "{handle}");
        assert!(wrong.headers.contains_key("www-authenticate"));
    }
    let me = with(&up, &right).get("/v1/me").await;
    assert_eq!((me.status, &me.body["handle"]), (200, &json!("alice")));
    assert!(!me.body.to_string().contains("argon2"), "{me:?}");
    up.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn x12_a_refresh_token_is_good_once_and_its_theft_ends_the_sign_in() {
    let mut up = Up::new();
    up.start().await;
    up.register("alice").await;
    let first = sign_in(&up, "alice", PASSWORD).await;
    let other = sign_in(&up, "alice", PASSWORD).await;
    // Two at once, as from two tabs: both get a pair, for the loser's client may never have had an answer.
    let token = first.text("refresh_token");
    let pairs = join_all([refresh(&up, &token), refresh(&up, &token)]).await;
    assert!(pairs.iter().all(|pair| pair.status == 200), "{pairs:?}");
    assert_ne!(pairs[0].text("refresh_token"), pairs[1].text("refresh_token"));
    // A forged one of the same family cannot be told from a stolen one.
    let (family, _) = token.split_at(22);
    let forged = format!("{family}{}", &other.text("refresh_token")[22..]);
    assert_eq!(refresh(&up, &forged).await.problem(), "refresh-refused");
    for token in [token, pairs[0].text("refresh_token"), pairs[1].text("refresh_token")] {
        assert_eq!(refresh(&up, &token).await.problem(), "refresh-refused", "the whole family has ended");
    }
    is_revoked(&with(&up, &pairs[0])).await;
    assert_eq!(refresh(&up, &other.text("refresh_token")).await.status, 200, "another sign-in goes on");
    for nonsense in ["", "x", &"A".repeat(64)] {
        assert_eq!(refresh(&up, nonsense).await.problem(), "refresh-refused");
    }
    up.stop().await;
}

/// Waits until the token is good for nothing any more.
pub(crate) async fn is_revoked(http: &Http) {
    let until_refused = async {
        loop {
            let answer = http.get("/v1/me").await;
            if answer.status == 401 {
                return answer.problem().to_owned();
            }
            tokio::task::yield_now().await;
        }
    };
    assert_eq!(timeout(SOON, until_refused).await.expect("it is revoked"), "unauthenticated");
}

/// A socket of this sign-in on the phone, open.
pub(crate) async fn socket(up: &Up, signed_in: &Answer) -> (Client, client::Events) {
    socket_on(up, signed_in, "phone").await
}

/// A socket of this sign-in, open.
pub(super) async fn socket_on(up: &Up, signed_in: &Answer, device: &str) -> (Client, client::Events) {
    let url = format!("ws://{}/v1/socket", up.listen);
    let (client, mut events) = Client::connect(Options::new(url, signed_in.text("access_token"), device));
    let connected = async { while !matches!(events.next().await.unwrap(), Event::Connected { .. }) {} };
    timeout(SOON, connected).await.expect("a socket");
    (client, events)
}

pub(crate) async fn closes_with(events: &mut client::Events, expected: u16) {
    let closed = async {
        loop {
            if let Event::Fatal { code } = events.next().await.unwrap() {
                return code;
            }
        }
    };
    assert_eq!(timeout(SOON, closed).await.expect("it is closed"), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn x6_signing_out_and_a_new_password_close_the_sockets_of_those_sign_ins() {
    let mut up = Up::new();
    up.start().await;
    up.register("alice").await;
    let (one, two) = (sign_in(&up, "alice", PASSWORD).await, sign_in(&up, "alice", PASSWORD).await);
    // The same device twice would replace itself; the second sign-in has no socket yet.
    let (_client, mut events) = socket(&up, &one).await;
    assert_eq!(with(&up, &one).delete("/v1/sign-ins/current").await.status, 204);
    closes_with(&mut events, 4505).await;
    assert_eq!(refresh(&up, &one.text("refresh_token")).await.problem(), "refresh-refused");

    let (_client, mut events) = socket(&up, &two).await;
    let change = |current: &str| json!({ "current": current, "new": "another good password" }).to_string();
    let change = async |current: &str| with(&up, &two).ask("PUT", "/v1/me/password", &[], Some(change(current))).await;
    assert_eq!(change("not the password").await.problem(), "wrong-password");
    assert_eq!(change(PASSWORD).await.status, 204);
    closes_with(&mut events, 4505).await;
    assert_eq!(refresh(&up, &two.text("refresh_token")).await.problem(), "refresh-refused");
    assert_eq!(sign_in(&up, "alice", PASSWORD).await.problem(), "wrong-password");

    // Revocations name seconds: what is issued in the same one is covered too.
    let three = loop {
        let signed_in = sign_in(&up, "alice", "another good password").await;
        assert_eq!(signed_in.status, 201, "{signed_in:?}");
        if with(&up, &signed_in).get("/v1/me").await.status == 200 {
            break signed_in;
        }
    };
    assert_eq!(with(&up, &three).delete("/v1/sign-ins").await.status, 204);
    up.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn x6_no_sign_in_with_the_password_before_outlives_its_change() {
    let mut up = Up::new();
    up.start().await;
    let (alice, _) = up.register("alice").await;
    // Some always wait for their turn to be checked while the password is changed.
    let is_changed = AtomicBool::new(false);
    let hammer = async || {
        let mut answers = Vec::new();
        while !is_changed.load(Ordering::Relaxed) {
            answers.push(sign_in(&up, "alice", PASSWORD).await);
        }
        answers
    };
    let change = async {
        let change = json!({ "current": PASSWORD, "new": "another good password" }).to_string();
        let changed = alice.http.ask("PUT", "/v1/me/password", &[], Some(change)).await;
        is_changed.store(true, Ordering::Relaxed);
        changed
    };
    let (old, changed) = tokio::join!(join_all((0..12).map(|_| hammer())), change);
    let old: Vec<_> = old.into_iter().flatten().collect();
    assert_eq!(changed.status, 204, "{changed:?}");
    for signed_in in old.iter().filter(|answer| answer.status == 201) {
        assert_eq!(refresh(&up, &signed_in.text("refresh_token")).await.problem(), "refresh-refused");
        assert_eq!(with(&up, signed_in).get("/v1/me").await.status, 401);
    }
    assert!(old.iter().any(|answer| answer.status == 401), "all were checked before the change: this tests nothing");
    up.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_profile_is_changed_and_found() {
    let mut up = Up::new();
    up.start().await;
    let (alice, _) = up.register("alice").await;
    let (bob, _) = up.register("bob").await;
    let changed =
        alice.http.ask("PATCH", "/v1/me", &[], Some(json!({ "display_name": " Alice A. " }).to_string())).await;
    assert_eq!((changed.status, &changed.body["display_name"]), (200, &json!("Alice A.")));
    assert!(changed.body.get("avatar").is_none(), "{changed:?}");
    let picture = async |address: &str| {
        alice.http.ask("PATCH", "/v1/me", &[], Some(json!({ "avatar": address }).to_string())).await
    };
    for address in ["http://img.example/a", "https://alice@img.example/a", "https://img.example/\n", "a.png"] {
        assert_eq!(picture(address).await.problem(), "bad-request", "{address}");
    }
    let pictured = picture("https://img.example/a.png").await;
    let shown = (&pictured.body["avatar"], &pictured.body["display_name"]);
    assert_eq!(shown, (&json!("https://img.example/a.png"), &json!("Alice A.")));
    assert_eq!(bob.http.get(&format!("/v1/users/{}", alice.id)).await.body, pictured.body);
    assert_eq!(picture("").await.body, changed.body, "taken away again");
    let seen = bob.http.get(&format!("/v1/users/{}", alice.id)).await;
    assert_eq!(seen.body, changed.body);
    let found = bob.http.get("/v1/users?prefix=AL").await;
    assert_eq!(found.body["users"], Value::Array(vec![changed.body]));
    assert_eq!(bob.http.get("/v1/users?prefix=zz").await.body["users"], json!([]));
    up.stop().await;
}
