//! New keys that sign tokens.

use std::fs;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use testkit::wait::until;
use tokens::{KeyRing, LEEWAY_S, Rotation, TokenKeys, VALID_MAX, now_s};

use crate::api::PASSWORD;
use crate::api::accounts::{sign_in, socket, with};
use crate::api::http::{Answer, Http};
use crate::cast::SOON;
use crate::process::Up;

/// The key that signed the access token of this answer.
pub(super) fn kid(answer: &Answer) -> String {
    let token = answer.text("access_token");
    let header = URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap()).unwrap();
    let header: Value = serde_json::from_slice(&header).unwrap();
    header["kid"].as_str().unwrap().to_owned()
}

impl Up {
    /// The names of the keys that verifiers fetch.
    pub(super) async fn published(&self) -> Vec<String> {
        let answer = self.http().get("/.well-known/jwks.json").await;
        let keys = answer.body["keys"].as_array().unwrap();
        keys.iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
    }

    /// Each key's state by its name.
    pub(super) async fn states(&self) -> Vec<(String, String)> {
        let keys = self.items(&["token", "keys"]).await;
        let text = |key: &Value, field: &str| key[field].as_str().unwrap().to_owned();
        keys.iter().map(|key| (text(key, "kid"), text(key, "state"))).collect()
    }

    pub(super) async fn status_of(&self, token: String) -> u16 {
        Http { token: Some(token), ..self.http() }.get("/v1/chats").await.status
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_is_published_first_then_signs_and_signs_nobody_out() {
    let mut up = Up::new();
    up.start().await;
    let (_, before) = up.register("alice").await;
    let old = kid(&before);
    let rotated = up.item(&["token", "rotate"]).await;
    assert_eq!(rotated["changed"], true);
    let states = up.states().await;
    assert_eq!((&*states[0].0, &*states[0].1, &*states[1].1), (&*old, "signing", "next"), "{states:?}");
    assert_eq!(up.published().await, [old.clone(), states[1].0.clone()]);
    assert_eq!(kid(&sign_in(&up, "alice", PASSWORD).await), old);
    // Asked for again it changes nothing, and a process that dies meanwhile takes nothing along.
    assert!(up.text(&["token", "rotate"]).await.contains("waits already"));
    up.kill();
    up.start().await;
    assert_eq!(up.states().await, states);
    assert!(up.refused(&["token", "rotate", "--ahead-s", "2592001"]).await.contains("2592000"));
    up.stop().await;

    let mut up = Up::new();
    up.start().await;
    up.register("alice").await;
    let before = sign_in(&up, "alice", PASSWORD).await;
    let old = kid(&before);
    let rotated = up.item(&["token", "rotate", "--ahead-s", "2"]).await;
    assert_eq!(rotated["keys"].as_array().unwrap().len(), 2, "{rotated}");
    // No further request makes it sign: its time has come.
    let after = until(SOON, "the new key signs", async || {
        Some(sign_in(&up, "alice", PASSWORD).await).filter(|answer| kid(answer) != old)
    })
    .await;
    let new = kid(&after);
    let expected = [(new.clone(), "signing".to_owned()), (old.clone(), "retired".to_owned())];
    assert_eq!(up.states().await, expected);
    assert_eq!(up.published().await, [new, old]);
    for signed_in in [&before, &after] {
        assert_eq!(with(&up, signed_in).get("/v1/me").await.status, 200);
        let (_client, _events) = socket(&up, signed_in).await;
    }
    let foreign = TokenKeys::from_pem(&TokenKeys::generate().unwrap()).unwrap();
    let token = foreign.mint(domain::UserId::new([1; 16]), Duration::from_secs(60)).unwrap();
    assert_eq!(up.status_of(token).await, 401);

    let by_hand = up.text(&["token", "issue", "--user", "carol"]).await;
    assert_eq!(up.status_of(by_hand.trim().to_owned()).await, 200);
    let issued = up.item(&["token", "issue", "--user", "carol", "--device", "phone", "--hours", "1"]).await;
    assert_eq!((&issued["device"], &issued["valid_s"]), (&json!("phone"), &json!(3_600)), "{issued}");
    assert_eq!(up.status_of(issued["token"].as_str().unwrap().to_owned()).await, 200);
    up.stop().await;
    let audit = fs::read_to_string(up.folder().join("audit.log")).unwrap();
    let lines = audit.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let said: Vec<_> = lines.filter(|line| line["detail"] == "token.rotate").collect();
    assert_eq!(said.len(), 1, "{audit}");
    assert_eq!((&said[0]["action"], &said[0]["outcome"]), (&json!("admin"), &json!("ok")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_that_was_broken_off_happened_or_not_and_is_whole_once_it_is_asked_again() {
    for (point, keys) in [("keys.made", 1), ("keys.written", 2)] {
        let mut up = Up::new();
        up.start().await;
        let (_, before) = up.register("alice").await;
        up.kill();
        up.start_to_crash(point, 1).await;
        assert!(up.refused(&["token", "rotate", "--ahead-s", "3600"]).await.contains("ask again"), "{point}");
        up.crashed().await;
        up.start().await;
        assert_eq!(up.published().await.len(), keys, "{point}");
        assert_eq!(with(&up, &before).get("/v1/me").await.status, 200, "{point}");
        let rotated = up.item(&["token", "rotate", "--ahead-s", "3600"]).await;
        assert_eq!(rotated["changed"], keys == 1, "{point}");
        assert_eq!(up.published().await.len(), 2, "{point}");
        assert_eq!(kid(&sign_in(&up, "alice", PASSWORD).await), kid(&before), "{point}");
        up.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_whose_last_token_has_ended_is_gone() {
    let now = now_s();
    let old = KeyRing::generate(now - 40 * 24 * 3_600).unwrap();
    let rotated = |at| match old.rotated(at, Duration::ZERO).unwrap() {
        Rotation::To(ring) => ring,
        other @ (Rotation::Pending | Rotation::Full) => panic!("{other:?}"),
    };
    let ended = now - VALID_MAX.as_secs() - LEEWAY_S;
    for (at, keys, status) in [(ended, 1, 401), (ended + 600, 2, 200)] {
        let mut up = Up::new();
        let pem = rotated(at).to_pem().unwrap();
        fs::write(up.folder().join("token-key.pem"), pem).unwrap();
        up.start().await;
        assert_eq!(up.published().await.len(), keys);
        let token = TokenKeys::from(old.clone()).mint(domain::UserId::new([1; 16]), Duration::from_secs(60)).unwrap();
        assert_eq!(up.status_of(token).await, status);
        // What is gone is kept nowhere.
        let left = fs::read_to_string(up.folder().join("token-key.pem")).unwrap();
        assert_eq!(left.matches("BEGIN PRIVATE KEY").count(), keys);
        up.stop().await;
    }
}
