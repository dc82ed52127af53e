//! Reactions, pins and policies: over HTTP and over sockets, and after a kill.

use client::{Client, Event, Options, Settlement};
use proto::v1::entry;
use serde_json::{Value, json};
use testkit::wait;
use tokio::time::timeout;

use super::Person;
use super::http::Answer;
use crate::cast::SOON;
use crate::process::Up;

impl Person {
    async fn react(&self, chat: &str, seq: u64, reaction: &str) -> Answer {
        let path = format!("/v1/chats/{chat}/messages/{seq}/reaction");
        self.http.ask("PUT", &path, &[], Some(json!({ "reaction": reaction }).to_string())).await
    }

    async fn unreact(&self, chat: &str, seq: u64) -> Answer {
        self.http.delete(&format!("/v1/chats/{chat}/messages/{seq}/reaction")).await
    }

    async fn pin(&self, chat: &str, seq: u64) -> Answer {
        self.http.ask("PUT", &format!("/v1/chats/{chat}/pins/{seq}"), &[], None).await
    }

    async fn unpin(&self, chat: &str, seq: u64) -> Answer {
        self.http.delete(&format!("/v1/chats/{chat}/pins/{seq}")).await
    }

    async fn set_policy(&self, chat: &str, policy: Value) -> Answer {
        self.http.ask("PATCH", &format!("/v1/chats/{chat}/policy"), &[], Some(policy.to_string())).await
    }

    /// What is thought of the messages, once the read model has come so far.
    async fn opinions(&self, chat: &str, expected: &Value) {
        let path = format!("/v1/chats/{chat}/reactions");
        let said = async || {
            let answer = self.http.get(&path).await;
            (&answer.body["messages"] == expected).then_some(())
        };
        if timeout(SOON, wait::until(SOON, "the reactions", said)).await.is_err() {
            panic!("{:?} is not {expected}", self.http.get(&path).await);
        }
    }

    /// The texts that are pinned, once they are these.
    async fn pinned(&self, chat: &str, expected: &[&str]) {
        let path = format!("/v1/chats/{chat}/pins");
        wait::until(SOON, "the pins", async || {
            let answer = self.http.get(&path).await;
            let pins = answer.body["pins"].as_array().cloned().unwrap_or_default();
            let texts: Vec<_> = pins.iter().filter_map(|pin| pin["text"].as_str()).collect();
            (texts == expected).then_some(())
        })
        .await;
    }
}

fn code(answer: &Answer) -> (u16, &Value) {
    (answer.status, &answer.body["code"])
}

#[tokio::test(flavor = "multi_thread")]
async fn what_people_think_is_counted_named_and_pushed() {
    let mut up = Up::new();
    up.start().await;
    let (alice, _) = up.register("alice").await;
    let (bob, registered) = up.register("bob").await;
    let (carol, _) = up.register("carol").await;
    let chat = alice.group(&[&bob, &carol]).await;
    let url = format!("ws://{}/v1/socket", up.listen);
    let (client, mut events) = Client::connect(Options::new(url, registered.text("access_token"), "laptop"));
    alice.say(&chat, "one", "1").await;
    alice.say(&chat, "two", "2").await;
    assert_eq!(alice.react(&chat, 2, "👍").await.status, 201);
    assert_eq!(carol.react(&chat, 2, "🎉").await.status, 201);
    assert_eq!(carol.react(&chat, 2, "👍").await.status, 201, "in the place of the one before");
    assert_eq!(carol.react(&chat, 3, "🎉").await.status, 201);
    let heard = async {
        loop {
            if let Event::Entry { entry, .. } = events.next().await.unwrap()
                && let Some(entry::Event::MessageReacted(reacted)) = entry.entry.event
            {
                return (entry.chat, reacted);
            }
        }
    };
    let (id, heard) = timeout(SOON, heard).await.expect("the reaction");
    assert_eq!((heard.seq, &*heard.reaction), (2, "👍"));
    for sent in
        [client.react(id, 2, "👎").unwrap(), client.react(id, 3, "👎").unwrap(), client.react(id, 3, "").unwrap()]
    {
        let settled = timeout(SOON, sent.outcome).await.expect("in time").unwrap();
        assert!(matches!(settled, Settlement::Stored { .. }), "{settled:?}");
    }
    let count = |reaction: &str, count: u64, own: bool| json!({ "reaction": reaction, "count": count, "own": own });
    let of = |message: u64, reactions: Vec<Value>| json!({ "message": message, "reactions": reactions });
    let expected =
        json!([of(2, vec![count("👍", 2, true), count("👎", 1, false)]), of(3, vec![count("🎉", 1, false)])]);
    alice.opinions(&chat, &expected).await;
    let expected =
        json!([of(2, vec![count("👍", 2, false), count("👎", 1, true)]), of(3, vec![count("🎉", 1, false)])]);
    bob.opinions(&chat, &expected).await;
    // Who thinks so, in pages.
    let path = format!("/v1/chats/{chat}/messages/2/reactions");
    let mut who = Vec::new();
    let mut next = Some(format!("{path}?limit=2"));
    while let Some(page) = next {
        let answer = bob.http.get(&page).await;
        who.extend(answer.body["reactions"].as_array().unwrap().clone());
        next = answer.body["next"].as_str().map(|cursor| format!("{path}?limit=2&cursor={cursor}"));
    }
    let mut expected: Vec<_> = [(&alice, "👍"), (&bob, "👎"), (&carol, "👍")]
        .map(|(person, reaction)| json!({ "user": person.id, "reaction": reaction }))
        .into();
    expected.sort_by_key(|one| one["user"].as_str().map(str::to_owned));
    assert_eq!(who, expected);
    // What goes with its message, and what survives a kill.
    assert_eq!(alice.http.delete(&format!("/v1/chats/{chat}/messages/3")).await.status, 201);
    assert_eq!(carol.unreact(&chat, 2).await.status, 201);
    up.kill();
    up.start().await;
    let [alice, carol] = [alice.at(&up), carol.at(&up)];
    let expected = json!([of(2, vec![count("👍", 1, true), count("👎", 1, false)])]);
    alice.opinions(&chat, &expected).await;
    let expected = json!([of(2, vec![count("👍", 1, false), count("👎", 1, false)])]);
    carol.opinions(&chat, &expected).await;
    assert_eq!(carol.http.get(&format!("/v1/chats/{chat}/messages/3/reactions")).await.body["reactions"], json!([]));
    let page = carol.http.get("/v1/chats").await;
    assert_eq!(page.body["chats"][0]["unread"], 2, "reactions do not count: {page:?}");
    up.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_pinned_is_shown_until_it_is_unpinned_or_deleted() {
    let mut up = Up::new();
    up.start().await;
    let (alice, _) = up.register("alice").await;
    let (bob, _) = up.register("bob").await;
    let chat = alice.group(&[&bob]).await;
    for (text, key) in [("one", "1"), ("two", "2"), ("three", "3")] {
        alice.say(&chat, text, key).await;
    }
    assert_eq!(alice.pin(&chat, 3).await.status, 201);
    assert_eq!(alice.pin(&chat, 2).await.status, 201);
    bob.pinned(&chat, &["two", "one"]).await;
    assert_eq!(bob.http.get(&format!("/v1/chats/{chat}")).await.body["pins"], json!([3, 2]));
    for (refused, expected) in [
        (bob.pin(&chat, 4).await, 18),
        (bob.unpin(&chat, 2).await, 18),
        (alice.pin(&chat, 2).await, 30),
        (alice.unpin(&chat, 4).await, 30),
        (alice.pin(&chat, 1).await, 29),
        (alice.pin(&chat, 99).await, 29),
    ] {
        assert_eq!(code(&refused), (409, &json!(expected)), "{refused:?}");
    }
    assert_eq!(alice.pin(&chat, 0).await.status, 404);
    assert_eq!(alice.http.delete(&format!("/v1/chats/{chat}/messages/3")).await.status, 201);
    bob.pinned(&chat, &["one"]).await;
    up.kill();
    up.start().await;
    let [alice, bob] = [alice.at(&up), bob.at(&up)];
    assert_eq!(alice.pin(&chat, 4).await.status, 201);
    bob.pinned(&chat, &["one", "three"]).await;
    assert_eq!(bob.http.get(&format!("/v1/chats/{chat}")).await.body["pins"], json!([2, 4]), "the fold forgot it too");
    assert_eq!(alice.unpin(&chat, 2).await.status, 201);
    bob.pinned(&chat, &["three"]).await;
    // Who has gone is told nothing.
    assert_eq!(alice.http.delete(&format!("/v1/chats/{chat}/members/{}", bob.id)).await.status, 201);
    for path in ["pins", "reactions", "messages/2/reactions"] {
        assert_eq!(bob.http.get(&format!("/v1/chats/{chat}/{path}")).await.status, 404, "{path}");
    }
    up.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_holds_for_those_it_is_meant_for() {
    let mut up = Up::new();
    up.start().await;
    let (alice, _) = up.register("alice").await;
    let (bob, _) = up.register("bob").await;
    let (carol, _) = up.register("carol").await;
    let chat = alice.group(&[&bob]).await;
    let chat_now = async |person: &Person| person.http.get(&format!("/v1/chats/{chat}")).await.body["policy"].clone();
    assert_eq!(chat_now(&bob).await, json!({ "members_add": false, "slow_mode_s": 0 }));
    let add = || json!({ "user": carol.id }).to_string();
    let members = format!("/v1/chats/{chat}/members");
    let invites = format!("/v1/chats/{chat}/invites");
    for (path, body) in [(&members, add()), (&invites, "{}".to_owned())] {
        let refused = bob.http.ask("POST", path, &[], Some(body)).await;
        assert_eq!(code(&refused), (409, &json!(18)), "{path}");
    }
    assert_eq!(code(&bob.set_policy(&chat, json!({ "members_add": true })).await), (409, &json!(18)));
    assert_eq!(alice.set_policy(&chat, json!({ "members_add": true })).await.status, 201);
    assert_eq!(alice.set_policy(&chat, json!({ "slow_mode_s": 3600.0 })).await.status, 201, "a whole number in JSON");
    assert_eq!(code(&alice.set_policy(&chat, json!({ "slow_mode_s": 3600 })).await), (409, &json!(30)));
    let expected = json!({ "members_add": true, "slow_mode_s": 3600 });
    wait::until(SOON, "the policy", async || (chat_now(&bob).await == expected).then_some(())).await;
    assert_eq!(bob.http.ask("POST", &members, &[], Some(add())).await.status, 201);
    assert_eq!(bob.http.post(&invites, json!({})).await.status, 201, "and makes invites");
    // What bob just did is his one entry of the hour; alice may go on.
    alice.say(&chat, "one", "1").await;
    let refused = bob.say(&chat, "two", "1").await;
    assert_eq!((code(&refused), refused.problem()), ((409, &json!(32)), "rejected"));
    assert_eq!(code(&bob.react(&chat, 5, "+").await), (409, &json!(32)));
    up.kill();
    up.start().await;
    let [alice, bob] = [alice.at(&up), bob.at(&up)];
    assert_eq!(code(&bob.say(&chat, "two", "2").await), (409, &json!(32)), "nor after a kill");
    assert_eq!(alice.set_policy(&chat, json!({ "slow_mode_s": 0 })).await.status, 201);
    assert_eq!(bob.say(&chat, "two", "3").await.status, 201);
    for malformed in [
        json!({}),
        json!({ "members_add": null }),
        json!({ "members_add": 1 }),
        json!({ "slow_mode_s": 21_601 }),
        json!({ "slow_mode_s": -1 }),
        json!({ "slow_mode_s": 1.5 }),
        json!({ "retention_days": 1 }),
    ] {
        let refused = alice.set_policy(&chat, malformed.clone()).await;
        assert_eq!((refused.status, refused.problem()), (400, "bad-request"), "{malformed}");
    }
    for malformed in
        [json!({}), json!({ "reaction": "" }), json!({ "reaction": "a b" }), json!({ "reaction": "x".repeat(65) })]
    {
        let path = format!("/v1/chats/{chat}/messages/5/reaction");
        let refused = alice.http.ask("PUT", &path, &[], Some(malformed.to_string())).await;
        assert_eq!((refused.status, refused.problem()), (400, "bad-request"), "{malformed}");
    }
    let none = alice.http.get(&format!("/v1/chats/{chat}/reactions?after=5&through=4")).await;
    assert_eq!((none.status, none.body), (200, json!({ "messages": [], "through": 5 })), "nothing lies between");
    up.stop().await;
}
