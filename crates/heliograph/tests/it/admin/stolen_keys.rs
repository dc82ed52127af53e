//! Keys that are taken out at once.

use std::fs;
use std::time::Duration;

use serde_json::{Value, json};
use testkit::wait::until;
use tokens::TokenKeys;

use super::rotation::kid;
use crate::api::accounts::{closes_with, refresh, sign_in, socket, with};
use crate::api::http::{Answer, Http};
use crate::api::tickets::{comes_with, is_taken, refused};
use crate::api::{PASSWORD, Person};
use crate::cast::SOON;
use crate::process::Up;

/// The close code of a token that was revoked.
const REVOKED: u16 = 4505;

/// Whoever has a copy of the keys.
struct Thief(TokenKeys);

impl Thief {
    fn of(up: &Up) -> Self {
        Self(TokenKeys::from_pem(&heliograph::folder::token_key(up.folder()).unwrap()).unwrap())
    }

    /// A token for whomever it likes.
    fn forge(&self) -> String {
        self.0.mint(domain::UserId::new([7; 16]), Duration::from_secs(600)).unwrap()
    }

    /// The same as a sign-in's answer.
    fn signed_in(&self) -> Answer {
        Answer { status: 201, headers: Default::default(), body: json!({ "access_token": self.forge() }) }
    }

    fn person(&self, up: &Up) -> Person {
        let id = domain::UserId::new([7; 16]).to_string();
        Person { id, http: Http { token: Some(self.forge()), ..up.http() } }
    }
}

impl Up {
    async fn takes_out(&self, kid: &str) -> Value {
        self.item(&["token", "revoke-key", kid]).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn x6_a_stolen_key_is_out_at_once_with_its_tokens_sockets_and_tickets() {
    let mut up = Up::new();
    up.start().await;
    let (_, laptop) = up.register("alice").await;
    let alice = sign_in(&up, "alice", PASSWORD).await;
    let (stolen, thief) = (kid(&alice), Thief::of(&up));
    let (_of_alice, mut hears_alice) = socket(&up, &alice).await;
    let (_forged, mut hears_forged) = socket(&up, &thief.signed_in()).await;
    let (ticket, taken) = (thief.person(&up).ticket().await, thief.person(&up).ticket().await);
    let mut by_ticket = comes_with(&up, &taken).await;
    assert_eq!(up.status_of(thief.forge()).await, 200, "the control");

    let out = up.takes_out(&stolen).await;
    assert_eq!((&out["kid"], &out["was"]), (&json!(stolen), &json!("signing")), "{out}");
    let signing = out["keys"][0]["kid"].as_str().unwrap().to_owned();
    assert_eq!((out["keys"].as_array().unwrap().len(), &out["keys"][0]["state"]), (1, &json!("signing")), "{out}");
    // At once: nothing is waited for.
    assert_eq!(up.status_of(thief.forge()).await, 401);
    assert_eq!(up.published().await, std::slice::from_ref(&signing));
    closes_with(&mut hears_forged, REVOKED).await;
    closes_with(&mut hears_alice, REVOKED).await;
    assert_eq!(by_ticket.closed().await, REVOKED);
    assert_eq!(refused(&up, &ticket).await, REVOKED);
    // Who has signed in is not signed out: a refresh gives tokens of the key that signs now.
    let refreshed = refresh(&up, &alice.text("refresh_token")).await;
    assert_eq!((refreshed.status, kid(&refreshed)), (200, signing.clone()), "{refreshed:?}");
    assert_eq!(with(&up, &refreshed).get("/v1/me").await.status, 200);
    let (client, _events) = socket(&up, &refreshed).await;
    // Tickets of afterwards are good, the second after at the latest.
    let laptop = refresh(&up, &laptop.text("refresh_token")).await;
    let alice = Person { id: String::new(), http: with(&up, &laptop) };
    until(SOON, "a ticket is taken", async || is_taken(&up, &alice.ticket().await).await).await;

    // Asked again it says so, and harms nobody.
    let again = up.takes_out(&stolen).await;
    assert_eq!((&again["was"], &again["keys"]), (&Value::Null, &out["keys"]));
    assert!(up.text(&["token", "revoke-key", &stolen]).await.contains("is not here"));
    for nonsense in ["x", &stolen[1..], "-x"] {
        assert!(up.refused(&["token", "revoke-key", nonsense]).await.contains("token keys"), "{nonsense}");
    }
    assert_eq!(with(&up, &refreshed).get("/v1/me").await.status, 200);
    // What another key signed goes on.
    let chat = alice.group(&[]).await.parse().unwrap();
    until(SOON, "its socket is pushed to", async || client.known(chat) >= 1).await;
    up.stop().await;
    up.start().await;
    assert_eq!((up.status_of(thief.forge()).await, up.published().await), (401, vec![signing]));
    up.stop().await;
    let audit = fs::read_to_string(up.folder().join("audit.log")).unwrap();
    let lines = audit.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let said: Vec<_> = lines.filter(|line| line["detail"] == "token.revoke_key").collect();
    assert_eq!(said.len(), 3, "{audit}");
    assert!(said.iter().all(|line| line["outcome"] == "ok" && line["key"] == json!(stolen)), "{audit}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_key_that_waits_signs_at_once_when_the_one_before_it_is_stolen() {
    let mut up = Up::new();
    up.start().await;
    let (_, alice) = up.register("alice").await;
    up.item(&["token", "rotate"]).await;
    let waiting = up.states().await.remove(1).0;
    let out = up.takes_out(&kid(&alice)).await;
    assert_eq!(out["keys"].as_array().unwrap().len(), 1, "{out}");
    assert_eq!(up.states().await, [(waiting.clone(), "signing".to_owned())]);
    assert_eq!(kid(&sign_in(&up, "alice", PASSWORD).await), waiting);
    // And one that waits is taken out before it ever signs.
    up.item(&["token", "rotate"]).await;
    let next = up.states().await.remove(1).0;
    assert_eq!(up.takes_out(&next).await["was"], "next");
    assert_eq!(up.states().await, [(waiting.clone(), "signing".to_owned())]);
    assert_eq!(up.items(&["token", "keys"]).await[0]["until"], Value::Null, "it signs on until another one comes");
    up.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_was_taken_out_stays_out_whatever_was_killed() {
    let mut up = Up::new();
    up.start().await;
    let (_, alice) = up.register("alice").await;
    let (stolen, thief) = (kid(&alice), Thief::of(&up));
    up.kill();
    up.start_to_crash("keys.removed", 1).await;
    assert!(up.refused(&["token", "revoke-key", &stolen]).await.contains("ask again"));
    up.crashed().await;
    up.start().await;
    assert_eq!(up.status_of(thief.forge()).await, 401);
    assert!(!up.published().await.contains(&stolen));
    let again = up.takes_out(&stolen).await;
    assert_eq!((&again["was"], again["keys"].as_array().unwrap().len()), (&Value::Null, 1), "{again}");
    assert_eq!(refresh(&up, &alice.text("refresh_token")).await.status, 200);
    up.stop().await;
}
