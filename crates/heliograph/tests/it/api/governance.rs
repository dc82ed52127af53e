//! How a chat is run, over HTTP: its name, its members' roles, its owner.

use serde_json::{Value, json};
use testkit::wait;

use super::Person;
use super::http::Answer;
use crate::cast::SOON;
use crate::process::Up;

impl Person {
    async fn patch(&self, path: &str, body: Value) -> Answer {
        self.http.ask("PATCH", path, &[], Some(body.to_string())).await
    }

    /// The chat as the caller sees it, once its name is so.
    async fn chat_called(&self, chat: &str, name: &Value) -> Value {
        wait::until(SOON, "the chat's name", async || {
            let found = self.http.get(&format!("/v1/chats/{chat}")).await;
            (found.body["name"] == *name).then_some(found.body)
        })
        .await
    }

    /// What the caller's list calls the chat, once its head is this one.
    async fn listed_at(&self, chat: &str, head: u64) -> Value {
        wait::until(SOON, "the chat's line", async || {
            let page = self.http.get("/v1/chats").await;
            let lines = page.body["chats"].as_array().cloned().unwrap_or_default();
            lines.into_iter().find(|line| line["id"] == chat && line["head"] == head).map(|line| line["name"].clone())
        })
        .await
    }
}

fn role_of(chat: &Value, person: &Person) -> Value {
    let members = chat["members"].as_array().unwrap();
    members.iter().find(|member| member["user"] == person.id).map(|member| member["role"].clone()).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chat_is_called_what_its_owner_says_in_lists_and_invites_too() {
    let mut up = Up::new();
    up.start().await;
    let (alice, _) = up.register("alice").await;
    let (bob, _) = up.register("bob").await;
    let (eve, _) = up.register("eve").await;
    let chat = alice.group(&[&bob]).await;
    let path = format!("/v1/chats/{chat}");
    assert!(alice.http.get(&path).await.body.get("name").is_none(), "nobody has named it yet");
    let renamed = alice.patch(&path, json!({ "name": "on tuesdays" })).await;
    assert_eq!((renamed.status, &renamed.body["seq"]), (201, &json!(2)), "{renamed:?}");
    bob.chat_called(&chat, &json!("on tuesdays")).await;
    assert_eq!(bob.listed_at(&chat, 2).await, "on tuesdays");
    let invite = alice.http.post(&format!("{path}/invites"), json!({})).await;
    let invited = eve.http.get(&format!("/v1/invites/{}", invite.text("code"))).await;
    assert_eq!((invited.status, &invited.body["name"]), (200, &json!("on tuesdays")), "{invited:?}");
    let refused = bob.patch(&path, json!({ "name": "on mondays" })).await;
    assert_eq!((refused.status, refused.problem(), &refused.body["code"]), (409, "rejected", &json!(18)));
    assert_eq!(eve.patch(&path, json!({ "name": "mine" })).await.status, 404);
    for malformed in [
        json!({}),
        json!({ "name": null }),
        json!({ "name": " x" }),
        json!({ "name": "a\nb" }),
        json!({ "name": "x".repeat(257) }),
        json!({ "name": "x", "kind": "group" }),
    ] {
        let refused = alice.patch(&path, malformed.clone()).await;
        assert_eq!((refused.status, refused.problem()), (400, "bad-request"), "{malformed}");
    }
    let direct = alice.http.post("/v1/chats", json!({ "kind": "direct", "members": [{ "user": bob.id }] })).await;
    let refused = alice.patch(&format!("/v1/chats/{}", direct.text("chat")), json!({ "name": "us" })).await;
    assert_eq!((refused.status, &refused.body["code"]), (409, &json!(26)));
    // Who has gone keeps the name of then, until there is another one.
    assert_eq!(alice.http.delete(&format!("{path}/members/{}", bob.id)).await.body["seq"], 3);
    assert_eq!(bob.listed_at(&chat, 3).await, "on tuesdays");
    assert_eq!(alice.patch(&path, json!({ "name": "without bob" })).await.body["seq"], 4);
    alice.chat_called(&chat, &json!("without bob")).await;
    assert_eq!(bob.listed_at(&chat, 3).await, Value::Null);
    assert_eq!(alice.patch(&path, json!({ "name": "" })).await.body["seq"], 5);
    assert!(alice.chat_called(&chat, &Value::Null).await.get("name").is_none());
    let page = alice.read(&chat, "at_least=5").await;
    let names: Vec<_> = page.body["entries"].as_array().unwrap().iter().map(|entry| entry["name"].clone()).collect();
    assert_eq!(names, [Value::Null, json!("on tuesdays"), Value::Null, json!("without bob"), json!("")]);
    up.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_and_the_owner_change_at_once_and_are_there_after_a_kill() {
    let mut up = Up::new();
    up.start().await;
    let (alice, _) = up.register("alice").await;
    let (bob, _) = up.register("bob").await;
    let (eve, _) = up.register("eve").await;
    let chat = alice.group(&[&bob, &eve]).await;
    let (path, members) = (format!("/v1/chats/{chat}"), format!("/v1/chats/{chat}/members"));
    let set = async |by: &Person, whose: &Person, role: &str| {
        by.patch(&format!("{members}/{}", whose.id), json!({ "role": role })).await
    };
    assert_eq!(set(&alice, &bob, "admin").await.body["seq"], 2);
    assert_eq!(set(&bob, &eve, "reader").await.body["seq"], 3);
    let invite = bob.http.post(&format!("{path}/invites"), json!({})).await;
    let refused = eve.say(&chat, "let me speak", "1").await;
    assert_eq!((refused.status, &refused.body["code"]), (409, &json!(18)));
    for (refused, code) in [
        (set(&bob, &alice, "member").await, 18),
        (set(&bob, &eve, "admin").await, 18),
        (set(&eve, &bob, "reader").await, 18),
        (set(&bob, &eve, "reader").await, 30),
        (set(&alice, &alice, "member").await, 27),
    ] {
        assert_eq!((refused.status, refused.problem(), &refused.body["code"]), (409, "rejected", &json!(code)));
    }
    // Who loses the right to let others in lets in nobody by the links that there are.
    let (frank, _) = up.register("frank").await;
    let link = format!("/v1/invites/{}", invite.text("code"));
    assert_eq!(frank.http.get(&link).await.status, 200, "{invite:?}");
    assert_eq!(set(&alice, &bob, "member").await.body["seq"], 4);
    let ended = frank.http.ask("POST", &link, &[], None).await;
    assert_eq!((ended.status, ended.problem()), (410, "invite-ended"));
    let nobody = alice.patch(&format!("{members}/nobody"), json!({ "role": "admin" })).await;
    let nothing = alice.patch(&format!("{members}/{}", bob.id), json!({ "role": "king" })).await;
    assert_eq!((nobody.status, nothing.status), (404, 400));
    let owner = format!("{path}/owner");
    let refused = bob.http.post(&owner, json!({ "user": bob.id })).await;
    assert_eq!((refused.status, &refused.body["code"]), (409, &json!(18)));
    assert_eq!(alice.http.post(&owner, json!({ "user": "x" })).await.status, 400);
    assert_eq!(alice.http.post(&owner, json!({ "user": bob.id })).await.body["seq"], 5);
    up.kill();
    up.start().await;
    let [alice, bob, eve] = [alice.at(&up), bob.at(&up), eve.at(&up)];
    let found = alice.http.get(&path).await.body;
    let roles = [&alice, &bob, &eve].map(|person| role_of(&found, person));
    assert_eq!(roles, [json!("admin"), json!("owner"), json!("reader")]);
    let refused = alice.http.post(&owner, json!({ "user": eve.id })).await;
    assert_eq!((refused.status, &refused.body["code"]), (409, &json!(18)), "it is no owner any more");
    let kinds: Vec<_> = alice.read(&chat, "at_least=5").await.body["entries"].as_array().unwrap()[1..]
        .iter()
        .map(|entry| (entry["kind"].clone(), entry["user"].clone(), entry["role"].clone()))
        .collect();
    let expected = [
        (json!("role_set"), json!(bob.id), json!("admin")),
        (json!("role_set"), json!(eve.id), json!("reader")),
        (json!("role_set"), json!(bob.id), json!("member")),
        (json!("ownership_transferred"), json!(bob.id), Value::Null),
    ];
    assert_eq!(kinds, expected);
    up.stop().await;
}
