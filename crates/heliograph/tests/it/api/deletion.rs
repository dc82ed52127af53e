//! Accounts that are deleted.

use std::time::{Duration, Instant};

use client::Settlement;
use futures_util::future::join_all;
use proto::v1;
use serde_json::json;
use testkit::wait::until;
use tokio::time::timeout;

use super::accounts::{closes_with, is_revoked, refresh, sign_in, socket, socket_on, with};
use super::http::Answer;
use super::{PASSWORD, Person};
use crate::cast::SOON;
use crate::process::Up;
use crate::protocol_page::Speaker;

/// Behind the request: tokens pass for two seconds, and what they did shows a moment later.
const SETTLED_AFTER: Duration = Duration::from_secs(3);

impl Person {
    async fn deletes_itself(&self, password: &str) -> Answer {
        self.http.ask("DELETE", "/v1/me", &[], Some(json!({ "password": password }).to_string())).await
    }

    /// Who is in the chat.
    pub(crate) async fn who_is_in(&self, chat: &str) -> Vec<String> {
        let chat = self.http.get(&format!("/v1/chats/{chat}")).await;
        assert_eq!(chat.status, 200, "{chat:?}");
        let members = chat.body["members"].as_array().unwrap().iter();
        members.map(|member| member["user"].as_str().unwrap().to_owned()).collect()
    }

    /// Waits until that one is in none of the chats.
    async fn sees_gone(&self, other: &Self, chats: &[String]) {
        let gone = async {
            for chat in chats {
                while self.who_is_in(chat).await.contains(&other.id) {
                    tokio::task::yield_now().await;
                }
            }
        };
        timeout(SOON, gone).await.expect("it leaves its chats");
    }
}

/// Waits until somebody else gets the handle.
async fn is_free(up: &Up, handle: &str) -> Answer {
    let taken = async {
        loop {
            let account = json!({ "handle": handle, "password": PASSWORD, "device": "laptop" });
            let answer = up.http().post("/v1/accounts", account).await;
            if answer.status == 201 {
                return answer;
            }
            assert_eq!(answer.problem(), "handle-taken");
        }
    };
    timeout(SOON, taken).await.expect("the handle is given up")
}

#[tokio::test(flavor = "multi_thread")]
async fn x6_a_deleted_account_is_gone_and_what_it_said_stays() {
    let mut up = Up::new();
    up.start().await;
    let (alice, registered) = up.register("alice").await;
    let (bob, _) = up.register("bob").await;
    let phone = sign_in(&up, "alice", PASSWORD).await;
    let (_client, mut events) = socket(&up, &phone).await;
    let group = bob.group(&[&alice]).await;
    let direct = json!({ "kind": "direct", "members": [{ "user": bob.id }] });
    let direct = alice.http.post("/v1/chats", direct).await.text("chat");
    assert_eq!(alice.say(&group, "remember me", "1").await.status, 201);
    assert_eq!(alice.say(&direct, "and me", "2").await.status, 201);
    let own = alice.group(&[&bob]).await;

    assert_eq!(alice.deletes_itself("not the password").await.problem(), "wrong-password");
    assert_eq!(alice.http.get("/v1/me").await.status, 200, "the control: nothing has happened");
    assert_eq!(alice.deletes_itself(PASSWORD).await.status, 204);
    closes_with(&mut events, 4505).await;
    for signed_in in [&registered, &phone] {
        assert_eq!(refresh(&up, &signed_in.text("refresh_token")).await.problem(), "refresh-refused");
        is_revoked(&with(&up, signed_in)).await;
    }
    let unknown = sign_in(&up, "nobody", PASSWORD).await;
    let gone = sign_in(&up, "alice", PASSWORD).await;
    assert_eq!((gone.status, gone.problem()), (unknown.status, unknown.problem()));
    assert_eq!(gone.body["title"], unknown.body["title"]);
    assert_eq!(bob.http.get(&format!("/v1/users/{}", alice.id)).await.problem(), "not-found");
    assert_eq!(bob.http.get("/v1/users?prefix=alice").await.body["users"], json!([]));

    bob.sees_gone(&alice, std::slice::from_ref(&group)).await;
    // Its handle is another's then, who is not taken for it, and the id is nobody's.
    let other = is_free(&up, "alice").await;
    assert_ne!(other.body["user"]["id"], json!(alice.id));
    // There are two in a direct chat for ever, and a last owner cannot go.
    for chat in [&direct, &own] {
        assert!(bob.who_is_in(chat).await.contains(&alice.id));
    }
    for (chat, text) in [(&group, "remember me"), (&direct, "and me")] {
        let page = bob.read(chat, "").await;
        let said = page.body["entries"].as_array().unwrap().iter().find(|entry| entry["text"] == text).cloned();
        assert_eq!(said.unwrap()["sender"], json!(alice.id));
    }
    let members = format!("/v1/chats/{group}/members");
    let added = bob.http.post(&members, json!({ "user": alice.id })).await;
    assert_eq!(added.problem(), "not-reachable", "nobody brings the deleted one in again");
    assert_eq!(bob.http.get(&format!("/v1/users/{}", alice.id)).await.problem(), "not-found");
    up.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_comes_into_chats_while_the_account_is_deleted_is_in_none_of_them() {
    let mut up = Up::new();
    up.start().await;
    let (alice, _) = up.register("alice").await;
    let (bob, _) = up.register("bob").await;
    let groups = join_all((0..60).map(|_| bob.group(&[]))).await;
    let codes = join_all(groups[..30].iter().map(async |chat| {
        let invite = bob.http.post(&format!("/v1/chats/{chat}/invites"), json!({})).await;
        invite.text("code")
    }));
    let codes = codes.await;
    let comes_in = async {
        let mut answers = Vec::new();
        for code in &codes {
            answers.push(alice.http.ask("POST", &format!("/v1/invites/{code}"), &[], None).await.status);
        }
        answers
    };
    let is_added = async {
        let mut answers = Vec::new();
        // Round after round, out and in again, until the deletion has come in between.
        for (at, chat) in groups[30..].iter().cycle().enumerate() {
            let members = format!("/v1/chats/{chat}/members");
            if at >= 30 {
                bob.http.delete(&format!("{members}/{}", alice.id)).await;
            }
            answers.push(bob.http.post(&members, json!({ "user": alice.id })).await.status);
            if at + 1 >= 30 && answers.last() != Some(&201) {
                break;
            }
        }
        answers
    };
    let asked = Instant::now();
    let (came, added, deleted) = tokio::join!(comes_in, timeout(SOON, is_added), alice.deletes_itself(PASSWORD));
    let added = added.expect("a refusal");
    assert_eq!(deleted.status, 204);
    let (made, refused) = came.iter().chain(&added).partition::<Vec<u16>, _>(|status| **status == 201);
    assert!(!made.is_empty() && !refused.is_empty(), "they did not cross: {came:?} {added:?}");
    // Erased: from here on nobody looks again, so this must not be before tokens and the read model are done with it.
    is_free(&up, "alice").await;
    assert!(asked.elapsed() >= SETTLED_AFTER, "{:?}", asked.elapsed());
    for chat in &groups {
        // As new as what is said now.
        let said = bob.say(chat, "who is here?", chat).await.body["seq"].clone();
        assert_eq!(bob.read(chat, &format!("at_least={said}")).await.status, 200);
        assert!(!bob.who_is_in(chat).await.contains(&alice.id), "{came:?} {added:?}");
    }
    let made = alice.http.post("/v1/chats", json!({ "kind": "group", "members": [] })).await;
    assert_eq!(made.problem(), "unauthenticated");
    up.stop().await;
}

/// How long what was given before a revocation may still pass.
const REVOKED_WITHIN: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread")]
async fn x6_whoever_is_being_deleted_sends_no_more_over_http_or_a_socket() {
    let mut up = Up::new();
    up.start().await;
    let (alice, _) = up.register("alice").await;
    let (bob, _) = up.register("bob").await;
    let phone = sign_in(&up, "alice", PASSWORD).await;
    let (client, mut events) = socket(&up, &phone).await;
    // One that it cannot leave: it is not the leaving that keeps it from sending.
    let direct = json!({ "kind": "direct", "members": [{ "user": bob.id }] });
    let direct = alice.http.post("/v1/chats", direct).await.text("chat");
    let over_http = async {
        let mut stored = 0;
        loop {
            let answer = alice.say(&direct, "over HTTP", &format!("k{stored}")).await;
            if answer.status != 201 {
                assert_eq!(answer.problem(), "unauthenticated");
                return (stored, Instant::now());
            }
            stored += 1;
        }
    };
    let over_socket = async {
        let mut stored = 0;
        loop {
            let Ok(sent) = client.send(direct.parse().unwrap(), "over a socket") else {
                closes_with(&mut events, 4505).await;
                return (stored, Instant::now());
            };
            tokio::select! {
                () = closes_with(&mut events, 4505) => return (stored, Instant::now()),
                outcome = sent.outcome => match outcome {
                    Ok(outcome) => {
                        assert!(matches!(outcome, Settlement::Stored { .. }), "{outcome:?}");
                        stored += 1;
                    }
                    // The client has ended; why, its events say.
                    Err(_ended) => {
                        closes_with(&mut events, 4505).await;
                        return (stored, Instant::now());
                    }
                }
            }
        }
    };
    // Once both have said something: they cross.
    let deletes = async {
        until(SOON, "both are sending", async || {
            let page = bob.read(&direct, "limit=256").await.body;
            let said = |text: &str| page["entries"].as_array().unwrap().iter().any(|entry| entry["text"] == text);
            said("over HTTP") && said("over a socket")
        })
        .await;
        let answer = alice.deletes_itself(PASSWORD).await;
        assert_eq!(answer.status, 204, "{answer:?}");
        Instant::now()
    };
    let ((by_http, http_ended), (by_socket, socket_ended), deleted) = tokio::join!(over_http, over_socket, deletes);
    for ended in [http_ended, socket_ended] {
        assert!(ended.saturating_duration_since(deleted) < REVOKED_WITHIN, "{ended:?} {deleted:?}");
    }
    // From then on whatever is tried, until the account is gone and after.
    let url = format!("ws://{}/v1/socket", up.listen);
    let tried = async || {
        let again = alice.say(&direct, "over HTTP", "again").await;
        assert_eq!(again.problem(), "unauthenticated");
        let mut speaker = Speaker::connect(&url).await;
        let token = phone.text("access_token");
        speaker.say(json!({ "id": "1", "authenticate": { "token": token, "device": "phone" } }).to_string()).await;
        assert_eq!(speaker.closed().await, 4505);
    };
    tried().await;
    is_free(&up, "alice").await;
    tried().await;
    let (mut after, mut said) = (0, Vec::new());
    loop {
        let page = bob.read(&direct, &format!("limit=256&after={after}")).await.body;
        let entries = page["entries"].as_array().unwrap();
        said.extend(entries.iter().filter_map(|entry| entry["text"].as_str().map(str::to_owned)));
        after = page["through"].as_u64().unwrap();
        if entries.is_empty() {
            break;
        }
    }
    let of = |text: &str| said.iter().filter(|said| *said == text).count();
    // What was under way as the socket closed may be stored without its answer.
    assert_eq!(of("over HTTP"), by_http, "what was refused is not stored");
    assert!((by_socket..=by_socket + 1).contains(&of("over a socket")), "{by_socket} of {}", of("over a socket"));
    up.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn x6_whoever_is_being_deleted_comes_into_no_chat_over_http_or_a_socket() {
    let mut up = Up::new();
    up.start().await;
    let (alice, _) = up.register("alice").await;
    let (bob, signed_in) = up.register("bob").await;
    let (of_bob, _events) = socket_on(&up, &signed_in, "laptop").await;
    let user = client::UserId(alice.id.parse::<uuid::Uuid>().unwrap().into_bytes());
    let member = || v1::Member { user: user.to_wire(), role: v1::Role::Member.into() };
    let adds = async |chat: &str| {
        let sent = of_bob.add_member(chat.parse().unwrap(), user, v1::Role::Member).unwrap();
        timeout(SOON, sent.outcome).await.expect("an outcome").unwrap()
    };
    let makes = async || {
        let sent = of_bob.create_chat(v1::ChatKind::Group, vec![member()]).unwrap();
        timeout(SOON, sent.outcome).await.expect("an outcome").unwrap()
    };
    let groups = join_all((0..3).map(|_| bob.group(&[]))).await;
    let invite = bob.http.post(&format!("/v1/chats/{}/invites", groups[2]), json!({})).await.text("code");
    let is_in = |settled: &Settlement| matches!(settled, Settlement::Stored { .. });
    assert!(is_in(&adds(&groups[0]).await) && is_in(&makes().await), "the control");

    assert_eq!(alice.deletes_itself(PASSWORD).await.status, 204);
    let tried = async || {
        for settled in [adds(&groups[1]).await, makes().await] {
            assert!(matches!(settled, Settlement::Rejected { code: v1::ErrorCode::Forbidden, .. }), "{settled:?}");
        }
        let added = bob.http.post(&format!("/v1/chats/{}/members", groups[1]), json!({ "user": alice.id })).await;
        assert_eq!(added.problem(), "not-reachable");
        let came = alice.http.ask("POST", &format!("/v1/invites/{invite}"), &[], None).await;
        assert_eq!(came.problem(), "unauthenticated");
    };
    tried().await;
    is_free(&up, "alice").await;
    tried().await;
    for chat in &groups {
        let said = bob.say(chat, "who is here?", chat).await.body["seq"].clone();
        assert_eq!(bob.read(chat, &format!("at_least={said}")).await.status, 200);
        assert!(!bob.who_is_in(chat).await.contains(&alice.id));
    }
    up.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn x6_the_invites_of_a_deleted_account_are_gone_and_those_of_others_are_not() {
    let mut up = Up::new();
    up.start().await;
    let (alice, _) = up.register("alice").await;
    let (bob, _) = up.register("bob").await;
    let group = bob.group(&[]).await;
    let added =
        bob.http.post(&format!("/v1/chats/{group}/members"), json!({ "user": alice.id, "role": "admin" })).await;
    assert_eq!(added.status, 201);
    let path = format!("/v1/chats/{group}/invites");
    let made = alice.http.post(&path, json!({})).await;
    let kept = bob.http.post(&path, json!({})).await;
    assert_eq!((made.status, kept.status), (201, 201));
    let listed = async || {
        let listed = bob.http.get(&path).await.body;
        listed["invites"].as_array().unwrap().iter().map(|invite| invite["id"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(listed().await.len(), 2);
    assert_eq!(alice.deletes_itself(PASSWORD).await.status, 204);
    let more = alice.http.post(&path, json!({})).await;
    assert_eq!(more.problem(), "unauthenticated");
    is_free(&up, "alice").await;
    assert_eq!(listed().await, [kept.body["id"].clone()]);
    let looked = bob.http.get(&format!("/v1/invites/{}", made.text("code"))).await;
    assert_eq!(looked.problem(), "not-found");
    up.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_that_was_killed_half_way_is_carried_out_after_a_restart() {
    let mut up = Up::new();
    up.start().await;
    let (alice, _) = up.register("alice").await;
    let (bob, _) = up.register("bob").await;
    // More than one page of what is looked at.
    let (mut groups, others) = (Vec::new(), [&alice]);
    for _ in 0..13 {
        groups.extend(join_all((0..10).map(|_| bob.group(&others))).await);
    }
    assert_eq!(alice.deletes_itself(PASSWORD).await.status, 204);
    let begun = async {
        while bob.who_is_in(&groups[0]).await.contains(&alice.id)
            && bob.who_is_in(&groups[129]).await.contains(&alice.id)
        {
            tokio::task::yield_now().await;
        }
    };
    timeout(SOON, begun).await.expect("it begins");
    up.kill();
    up.start().await;
    let bob = bob.at(&up);
    assert_eq!(sign_in(&up, "alice", PASSWORD).await.problem(), "wrong-password");
    bob.sees_gone(&alice, &groups).await;
    is_free(&up, "alice").await;
    // Each was left once, however often it was begun.
    for chat in &groups {
        let page = bob.read(chat, "").await;
        let left = page.body["entries"].as_array().unwrap().iter().filter(|entry| entry["kind"] == "member_left");
        assert_eq!(left.count(), 1, "{chat}");
    }
    up.stop().await;
}
