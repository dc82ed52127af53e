//! The list of chats: what it shows, its pages while chats go on, its tags, and each user's own settings.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};
use testkit::wait;

use super::Person;
use super::http::Answer;
use crate::cast::SOON;
use crate::process::Up;

impl Person {
    /// The caller's line of this chat, once it looks so.
    async fn line(&self, chat: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        wait::until(SOON, "the chat's line", async || {
            let page = self.http.get("/v1/chats?limit=1000").await;
            assert_eq!(page.status, 200, "{page:?}");
            let lines = page.body["chats"].as_array().unwrap();
            lines.iter().find(|line| line["id"] == chat).filter(|line| is_so(line)).cloned()
        })
        .await
    }

    async fn set(&self, chat: &str, settings: Value) -> Answer {
        let path = format!("/v1/chats/{chat}/settings");
        self.http.ask("PATCH", &path, &[], Some(settings.to_string())).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_shows_the_last_message_of_the_stay_and_no_more() {
    let mut up = Up::new();
    up.start().await;
    let (alice, _) = up.register("alice").await;
    let (bob, _) = up.register("bob").await;
    let chat = alice.group(&[&bob]).await;
    assert!(bob.line(&chat, |line| line["head"] == 1).await.get("last").is_none(), "nothing was said yet");
    alice.say(&chat, "good morning", "1").await;
    let line = bob.line(&chat, |line| line["head"] == 2).await;
    let last = &line["last"];
    assert_eq!((&last["seq"], &last["sender"], &last["kind"]), (&json!(2), &json!(alice.id), &json!("message_sent")));
    assert_eq!(
        (&last["text"], &last["cut"], &last["time"]),
        (&json!("good morning"), &json!(false), &line["active_at"])
    );
    // Cut between two bytes of one character.
    let long = format!("x{}", "ä".repeat(200));
    alice.say(&chat, &long, "2").await;
    let line = bob.line(&chat, |line| line["head"] == 3).await;
    assert_eq!((&line["last"]["text"], &line["last"]["cut"]), (&json!(format!("x{}", "ä".repeat(127))), &json!(true)));
    let path = format!("/v1/chats/{chat}/messages");
    alice.http.post(&path, json!({ "body": "/w==" })).await;
    let line = bob.line(&chat, |line| line["head"] == 4).await;
    assert!(line["last"].get("text").is_none() && line["last"]["seq"] == 4, "no text: {line}");
    // Who is put out sees the list as it was then, whatever comes.
    let members = format!("/v1/chats/{chat}/members");
    alice.say(&chat, "the last for bob", "3").await;
    assert_eq!(alice.http.delete(&format!("{members}/{}", bob.id)).await.status, 201);
    let left = bob.line(&chat, |line| line["left"] == true).await;
    assert_eq!((&left["head"], &left["last"]["text"]), (&json!(6), &json!("the last for bob")));
    alice.say(&chat, "behind his back", "4").await;
    alice.line(&chat, |line| line["last"]["text"] == "behind his back").await;
    let later = bob.line(&chat, |_| true).await;
    assert_eq!((&later["head"], &later["active_at"]), (&json!(6), &left["active_at"]));
    assert!(later.get("last").is_none(), "{later}");
    // Nor does a newcomer see what was said before.
    alice.http.post(&members, json!({ "user": bob.id })).await;
    let back = bob.line(&chat, |line| line["head"] == 8).await;
    assert!(back.get("last").is_none() && back["left"] == false, "{back}");
    up.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_a_list_that_goes_on_lose_no_chat_and_double_none() {
    let mut up = Up::new();
    up.start().await;
    let (alice, _) = up.register("alice").await;
    let (bob, _) = up.register("bob").await;
    let mut chats = BTreeSet::new();
    for _ in 0..9 {
        chats.insert(alice.group(&[&bob]).await);
    }
    for chat in &chats {
        bob.line(chat, |_| true).await;
    }
    let speaking = tokio::spawn({
        let (alice, bob, chats) = (alice.clone(), bob.clone(), chats.clone());
        async move {
            for said in 0..60 {
                // The chat that was quiet longest, so that any order by what happened turns all the time.
                let chat = chats.iter().nth(said % chats.len()).unwrap();
                assert_eq!(alice.say(chat, "again", &said.to_string()).await.status, 201);
                if said % 7 == 0 {
                    alice.group(&[&bob]).await;
                }
            }
        }
    });
    let mut walk = 0;
    while !speaking.is_finished() {
        let (mut found, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = bob.http.get(&format!("/v1/chats?limit=2{cursor}")).await;
            assert_eq!(page.status, 200, "{page:?}");
            let lines = page.body["chats"].as_array().unwrap();
            found.extend(lines.iter().map(|line| line["id"].as_str().unwrap().to_owned()));
            let Some(next) = page.body["next"].as_str() else { break };
            cursor = format!("&cursor={next}");
        }
        let once: BTreeSet<_> = found.iter().cloned().collect();
        assert_eq!(once.len(), found.len(), "walk {walk}: twice in {found:?}");
        assert!(once.is_superset(&chats), "walk {walk}: lost from {found:?}");
        walk += 1;
    }
    speaking.await.unwrap();
    assert!(walk > 5, "the control: the list was walked meanwhile, {walk} times");
    up.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_known_already_is_not_sent_again() {
    let mut up = Up::new();
    up.start().await;
    let (alice, _) = up.register("alice").await;
    let chat = alice.group(&[]).await;
    alice.line(&chat, |line| line["head"] == 1).await;
    for path in ["/v1/chats".to_owned(), format!("/v1/chats/{chat}")] {
        let first = alice.http.get(&path).await;
        let tag = first.headers["etag"].clone();
        let again = async |tag: &str| alice.http.ask("GET", &path, &[("if-none-match", tag)], None).await;
        let known = again(&tag).await;
        assert_eq!((known.status, &known.headers["etag"]), (304, &tag), "{path}");
        assert_eq!(known.body, json!(""));
        assert_eq!(again(&format!("\"other\", W/{tag}")).await.status, 304, "{path}");
        let other = again("\"other\"").await;
        assert_eq!((other.status, &other.body), (200, &first.body), "{path}");
        alice.say(&chat, "news", &path).await;
        wait::until(SOON, "another tag", async || again(&tag).await.status == 200).await;
        let tag = alice.http.get(&path).await.headers["etag"].clone();
        assert_eq!(alice.set(&chat, json!({ "pinned": path.len() > 9 })).await.status, 200);
        assert_eq!(
            again(&tag).await.status,
            if path.len() > 9 { 200 } else { 304 },
            "{path}: the settings are part of it"
        );
    }
    up.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_of_a_chat_are_the_users_own() {
    let mut up = Up::new();
    up.start().await;
    let (alice, _) = up.register("alice").await;
    let (bob, _) = up.register("bob").await;
    let (eve, _) = up.register("eve").await;
    let chat = alice.group(&[&bob]).await;
    let until = "2030-01-02T03:04:05Z";
    let set = alice.set(&chat, json!({ "muted_until": until, "pinned": true })).await;
    let wanted = json!({ "muted_until": until, "pinned": true, "archived": false });
    assert_eq!((set.status, &set.body), (200, &wanted), "{set:?}");
    assert_eq!(alice.http.get(&format!("/v1/chats/{chat}")).await.body["settings"], wanted);
    assert_eq!(alice.line(&chat, |_| true).await["settings"], wanted);
    // What is left out stays; null is not left out.
    let set = alice.set(&chat, json!({ "archived": true })).await;
    assert_eq!(set.body, json!({ "muted_until": until, "pinned": true, "archived": true }));
    let set = alice.set(&chat, json!({ "muted_until": null, "archived": false })).await;
    assert_eq!(set.body, json!({ "pinned": true, "archived": false }));
    // Of two at once neither undoes what the other one changed.
    for round in 0..10 {
        let flag = round % 2 == 0;
        let (pinned, archived) =
            tokio::join!(alice.set(&chat, json!({ "pinned": flag })), alice.set(&chat, json!({ "archived": flag })));
        let now = alice.http.get(&format!("/v1/chats/{chat}")).await.body["settings"].clone();
        for (answer, field) in [(&pinned, "pinned"), (&archived, "archived")] {
            match answer.status {
                200 => assert_eq!(now[field], flag, "{round}: {field} in {now}"),
                _ => assert_eq!((answer.status, answer.problem()), (409, "changed"), "{answer:?}"),
            }
        }
    }
    // The other one has its own, and a stranger none.
    let none = json!({ "pinned": false, "archived": false });
    assert_eq!(bob.http.get(&format!("/v1/chats/{chat}")).await.body["settings"], none);
    assert_eq!(bob.line(&chat, |_| true).await["settings"], none);
    for stranger in [eve.set(&chat, json!({ "pinned": true })).await, eve.set("nonsense", json!({})).await] {
        assert_eq!((stranger.status, stranger.problem()), (404, "not-found"), "{stranger:?}");
    }
    for bad in [json!({ "muted_until": "soon" }), json!({ "muted_until": 7 }), json!({ "hidden": true })] {
        assert_eq!(alice.set(&chat, bad).await.problem(), "bad-request");
    }
    // Who was put out still puts the chat away.
    alice.http.delete(&format!("/v1/chats/{chat}/members/{}", bob.id)).await;
    assert_eq!(bob.set(&chat, json!({ "archived": true })).await.status, 200);
    assert_eq!(bob.line(&chat, |line| line["left"] == true).await["settings"]["archived"], true);
    up.kill();
    up.start().await;
    let bob = up.again(&bob);
    let line = tokio::time::timeout(Duration::from_secs(30), bob.line(&chat, |_| true)).await.unwrap();
    assert_eq!(line["settings"]["archived"], true, "{line}");
    up.stop().await;
}
