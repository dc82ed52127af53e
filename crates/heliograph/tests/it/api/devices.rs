//! Devices: listed, named, put out.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::PASSWORD;
use super::accounts::{closes_with, is_revoked, refresh, socket, socket_on, with};
use super::http::{Answer, Http};
use crate::process::Up;

async fn sign_in_on(up: &Up, device: &str) -> Answer {
    let asked = json!({ "handle": "alice", "password": PASSWORD, "device": device });
    let signed_in = up.http().post("/v1/sign-ins", asked).await;
    assert_eq!(signed_in.status, 201, "{signed_in:?}");
    signed_in
}

/// The devices by their ids.
async fn devices(http: &Http) -> BTreeMap<String, Value> {
    let answer = http.get("/v1/devices").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let devices = answer.body["devices"].as_array().unwrap().iter();
    devices.map(|device| (device["id"].as_str().unwrap().to_owned(), device.clone())).collect()
}

async fn rename(http: &Http, device: &str, name: &str) -> Answer {
    http.ask("PATCH", &format!("/v1/devices/{device}"), &[], Some(json!({ "name": name }).to_string())).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_is_listed_from_its_first_sign_in_on_and_keeps_the_name_it_is_given() {
    let mut up = Up::new();
    up.start().await;
    let (alice, _) = up.register("alice").await;
    let (bob, _) = up.register("bob").await;
    let phone = sign_in_on(&up, "phone/of a").await;
    let listed = devices(&alice.http).await;
    assert_eq!(listed.keys().collect::<Vec<_>>(), ["laptop", "phone/of a"]);
    assert_eq!((&listed["laptop"]["current"], &listed["phone/of a"]["current"]), (&json!(true), &json!(false)));
    assert_eq!((&listed["laptop"]["name"], &listed["phone/of a"]["name"]), (&json!("laptop"), &json!("phone/of a")));

    let named = rename(&alice.http, "phone%2Fof%20a", " Alice's 📱 ").await;
    assert_eq!((named.status, &named.body["name"]), (200, &json!("Alice's 📱")), "{named:?}");
    for bad in ["", " ", "a\u{7}", &"a".repeat(65)] {
        assert_eq!(rename(&alice.http, "laptop", bad).await.problem(), "bad-request");
    }
    for nobodys in ["tablet", "%00", &"a".repeat(129)] {
        assert_eq!(rename(&alice.http, nobodys, "mine").await.problem(), "not-found", "{nobodys}");
        assert_eq!(alice.http.delete(&format!("/v1/devices/{nobodys}")).await.problem(), "not-found", "{nobodys}");
    }
    assert_eq!(rename(&bob.http, "phone%2Fof%20a", "mine").await.problem(), "not-found", "another's");

    // Over a kill; a refresh is seen, and neither it nor another sign-in takes the name away.
    up.kill();
    up.start().await;
    let pair = refresh(&up, &phone.text("refresh_token")).await;
    sign_in_on(&up, "phone/of a").await;
    let now = devices(&with(&up, &pair)).await;
    let (before, after) = (&named.body, &now["phone/of a"]);
    assert_eq!((&after["name"], &after["current"]), (&json!("Alice's 📱"), &json!(true)));
    assert_eq!(after["created_at"], before["created_at"]);
    // RFC 3339 with as many digits or fewer: told apart by their first ones.
    assert_ne!(after["seen_at"], before["seen_at"]);
    up.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn x6_a_device_that_is_put_out_loses_its_sockets_and_its_sign_ins() {
    let mut up = Up::new();
    up.start().await;
    let (alice, registered) = up.register("alice").await;
    let (phone, again) = (sign_in_on(&up, "phone").await, sign_in_on(&up, "phone").await);
    let (_client, mut events) = socket(&up, &phone).await;
    assert_eq!(alice.http.delete("/v1/devices/phone").await.status, 204);
    closes_with(&mut events, 4505).await;
    for signed_in in [&phone, &again] {
        assert_eq!(refresh(&up, &signed_in.text("refresh_token")).await.problem(), "refresh-refused");
        is_revoked(&with(&up, signed_in)).await;
    }
    assert_eq!(devices(&alice.http).await.into_keys().collect::<Vec<_>>(), ["laptop"]);
    assert_eq!(alice.http.delete("/v1/devices/phone").await.problem(), "not-found");
    // The control: the other device goes on, over a socket too.
    let (_client, _events) = socket_on(&up, &registered, "laptop").await;
    assert_eq!(refresh(&up, &registered.text("refresh_token")).await.status, 200);
    // Its own one is no exception.
    assert_eq!(alice.http.delete("/v1/devices/laptop").await.status, 204);
    is_revoked(&alice.http).await;
    up.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_too_many_devices_the_one_that_was_longest_not_seen_goes_with_its_sign_in() {
    let mut up = Up::new();
    up.start().await;
    let (_, registered) = up.register("alice").await;
    let first = sign_in_on(&up, "device 0").await;
    // The one that was registered on is seen again, so it is not the oldest.
    let laptop = refresh(&up, &registered.text("refresh_token")).await;
    for n in 1..127 {
        sign_in_on(&up, &format!("device {n}")).await;
    }
    assert_eq!(devices(&with(&up, &laptop)).await.len(), 128);
    sign_in_on(&up, "one more").await;
    let listed = devices(&with(&up, &laptop)).await;
    assert_eq!(listed.len(), 128);
    assert!(!listed.contains_key("device 0") && listed.contains_key("laptop") && listed.contains_key("one more"));
    assert_eq!(refresh(&up, &first.text("refresh_token")).await.problem(), "refresh-refused");
    up.stop().await;
}
