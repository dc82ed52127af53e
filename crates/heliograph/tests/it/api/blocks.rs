//! The block list, and what a blocked one cannot do.

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::Person;
use super::http::Answer;
use crate::process::Up;
use crate::protocol_page::Speaker;

impl Person {
    async fn blocks(&self, other: &Self) {
        let path = format!("/v1/blocks/{}", other.id);
        assert_eq!(self.http.ask("PUT", &path, &[], None).await.status, 204);
    }

    async fn direct(&self, other: &Self, key: &str) -> Answer {
        let chat = json!({ "kind": "direct", "members": [{ "user": other.id }] });
        self.http.ask("POST", "/v1/chats", &[("idempotency-key", key)], Some(chat.to_string())).await
    }

    async fn adds(&self, chat: &str, other: &Self, key: &str) -> Answer {
        let member = json!({ "user": other.id }).to_string();
        self.http.ask("POST", &format!("/v1/chats/{chat}/members"), &[("idempotency-key", key)], Some(member)).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_list_is_ones_own_and_comes_in_pages() {
    let mut up = Up::new();
    up.start().await;
    let (alice, _) = up.register("alice").await;
    let (bob, _) = up.register("bob").await;
    let (eve, _) = up.register("eve").await;
    alice.blocks(&bob).await;
    alice.blocks(&eve).await;
    alice.blocks(&eve).await;
    let mut all: Vec<_> = [&bob, &eve].map(|user| Value::from(user.id.clone())).into();
    all.sort_by_key(ToString::to_string);
    assert_eq!(alice.http.get("/v1/blocks").await.body, json!({ "users": all }));
    let first = alice.http.get("/v1/blocks?limit=1").await.body;
    assert_eq!(first, json!({ "users": [all[0]], "next": all[0] }));
    let second = alice.http.get(&format!("/v1/blocks?limit=1&cursor={}", first["next"].as_str().unwrap())).await.body;
    assert_eq!(second["users"], json!([all[1]]));
    assert_eq!(bob.http.get("/v1/blocks").await.body, json!({ "users": [] }), "nobody sees who blocks one");
    for query in ["limit=0", "limit=1001", "cursor=x", "of=me"] {
        assert_eq!(alice.http.get(&format!("/v1/blocks?{query}")).await.problem(), "bad-request", "{query}");
    }
    let itself = alice.http.ask("PUT", &format!("/v1/blocks/{}", alice.id), &[], None).await;
    assert_eq!(itself.problem(), "bad-request");
    assert_eq!(alice.http.ask("PUT", "/v1/blocks/bob", &[], None).await.problem(), "not-found");
    up.kill();
    up.start().await;
    let alice = alice.at(&up);
    assert_eq!(alice.http.get("/v1/blocks").await.body, json!({ "users": all }));
    for _ in 0..2 {
        assert_eq!(alice.http.delete(&format!("/v1/blocks/{}", bob.id)).await.status, 204);
    }
    assert_eq!(alice.http.get("/v1/blocks").await.body, json!({ "users": [eve.id] }));
    // As many as there may be, and no more.
    let users = (0..999_u128).map(|n| uuid::Uuid::from_u128(n << 64 | 7));
    for some in users.collect::<Vec<_>>().chunks(100) {
        let put = some.iter().map(|user| (format!("/v1/blocks/{user}"), alice.http.clone()));
        let put = put.map(|(path, http)| async move { http.ask("PUT", &path, &[], None).await.status });
        assert!(join_all(put).await.into_iter().all(|status| status == 204));
    }
    let more = alice.http.ask("PUT", &format!("/v1/blocks/{}", bob.id), &[], None).await;
    assert_eq!((more.status, more.problem()), (409, "too-many"));
    alice.blocks(&eve).await;
    up.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_blocked_starts_no_direct_chat_and_brings_nobody_in() {
    let mut up = Up::new();
    up.start().await;
    let (alice, _) = up.register("alice").await;
    let (bob, registered) = up.register("bob").await;
    let (eve, _) = up.register("eve").await;
    let group = bob.group(&[&eve]).await;
    let known = eve.direct(&alice, "first").await;
    let brought = bob.adds(&group, &alice, "added").await;
    assert_eq!((known.status, brought.status), (201, 201), "before the block: {known:?} {brought:?}");
    assert_eq!(bob.http.delete(&format!("/v1/chats/{group}/members/{}", eve.id)).await.status, 201);
    alice.blocks(&bob).await;
    alice.blocks(&eve).await;

    let other = bob.group(&[]).await;
    let members = json!({ "kind": "group", "members": [{ "user": eve.id }, { "user": alice.id }] });
    let refused = [
        bob.direct(&alice, "one").await,
        // What was refused left no key that would let it in.
        bob.direct(&alice, "one").await,
        bob.adds(&other, &alice, "two").await,
        bob.adds(&other, &alice, "two").await,
        bob.http.post("/v1/chats", members).await,
    ];
    for answer in &refused {
        assert_eq!((answer.status, answer.problem()), (409, "not-reachable"), "{answer:?}");
        assert_eq!(answer.body["detail"], json!(alice.id));
        assert!(!answer.body.to_string().contains("block"), "why, it does not learn: {answer:?}");
    }
    // A chat that is not the one's who asks says nothing of who blocks whom.
    let foreign = eve.group(&[]).await;
    for whom in [&alice, &eve] {
        assert_eq!(bob.adds(&foreign, whom, "outside").await.problem(), "not-found");
    }
    // Nor over a socket.
    let mut socket = Speaker::connect(&format!("ws://{}/v1/socket", up.listen)).await;
    let token = registered.text("access_token");
    let base64 = |id: &str| crate::protocol_page::in_base64(id.parse::<uuid::Uuid>().unwrap().into_bytes());
    let asked =
        json!({ "kind": "CHAT_KIND_DIRECT", "members": [{ "user": base64(&alice.id), "role": "ROLE_MEMBER" }] });
    let command = json!({ "chat": base64(&other), "origin": "7", "createChat": asked });
    socket.say(json!({ "id": "1", "authenticate": { "token": token, "device": "laptop" } }).to_string()).await;
    socket.hear(&json!({ "id": "1", "welcome": {} })).await;
    socket.say(json!({ "id": "2", "command": command }).to_string()).await;
    let forbidden = |id: &str| json!({ "id": id, "error": { "code": "ERROR_CODE_FORBIDDEN" } });
    socket.hear(&forbidden("2")).await;
    let member = |user: &Person| json!({ "user": base64(&user.id), "role": "ROLE_MEMBER" });
    let new_group = json!({ "kind": "CHAT_KIND_GROUP", "members": [member(&eve), member(&alice)] });
    let chat = base64(&domain::ChatId::draw(domain::Partition(0), 1_790_000_000_000, rand::random()).to_string());
    let command = json!({ "chat": chat, "origin": "8", "createChat": new_group });
    socket.say(json!({ "id": "3", "command": command }).to_string()).await;
    socket.hear(&forbidden("3")).await;
    let add = |id: &str, n: u64, basis: u64, whom: &Person| {
        let add = json!({ "member": member(whom) });
        let command = json!({ "chat": base64(&other), "origin": "9", "n": n.to_string(), "basis": basis.to_string(), "addMember": add });
        json!({ "id": id, "command": command }).to_string()
    };
    socket.say(add("4", 1, 1, &alice)).await;
    socket.hear(&forbidden("4")).await;
    let command = json!({ "chat": base64(&foreign), "origin": "9", "n": "1", "basis": "1", "addMember": { "member": member(&alice) } });
    socket.say(json!({ "id": "9", "command": command }).to_string()).await;
    socket.hear(&json!({ "id": "9", "outcome": { "rejected": { "code": "ERROR_CODE_NOT_A_MEMBER" } } })).await;
    // Who blocks only later is in, and a copy of the command that did it has its answer.
    let (carol, _) = up.register("carol").await;
    let stored = |id: &str| json!({ "id": id, "outcome": { "stored": { "seq": "2" } } });
    for (id, puts_out) in [("5", false), ("6", true), ("7", false)] {
        socket.say(add(id, 1, 1, &carol)).await;
        socket.hear(&stored(id)).await;
        carol.blocks(&bob).await;
        if puts_out {
            assert_eq!(bob.http.delete(&format!("/v1/chats/{other}/members/{}", carol.id)).await.status, 201);
        }
    }
    socket.say(add("8", 2, 3, &carol)).await;
    socket.hear(&forbidden("8")).await;

    // What was done before has the same answer, and what there is stays.
    assert_eq!(bob.adds(&group, &alice, "added").await.body, brought.body);
    assert_eq!(eve.direct(&alice, "first").await.body, known.body);
    assert_eq!(eve.direct(&alice, "anew").await.text("chat"), known.text("chat"));
    assert_eq!(bob.direct(&eve, "three").await.status, 201, "somebody else is reached");
    // It holds one way, and until it is lifted.
    let begun = alice.direct(&bob, "four").await;
    assert_eq!(begun.status, 201, "{begun:?}");
    assert_eq!(alice.http.delete(&format!("/v1/blocks/{}", bob.id)).await.status, 204);
    assert_eq!(bob.adds(&other, &alice, "two").await.status, 201);
    up.stop().await;
}
