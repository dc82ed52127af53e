//! Messages that are edited and taken back: over HTTP and over sockets, and after a kill.

use client::{Client, Event, Options};
use proto::v1::{self, entry};
use serde_json::{Value, json};
use testkit::wait;
use tokio::time::timeout;

use super::Person;
use super::http::Answer;
use crate::cast::SOON;
use crate::process::Up;

fn path(chat: &str, seq: u64) -> String {
    format!("/v1/chats/{chat}/messages/{seq}")
}

impl Person {
    async fn edit(&self, chat: &str, seq: u64, body: Value, key: &str) -> Answer {
        let keyed = [("idempotency-key", key)];
        self.http.ask("PATCH", &path(chat, seq), &keyed, Some(body.to_string())).await
    }

    async fn take_back(&self, chat: &str, seq: u64) -> Answer {
        self.http.delete(&path(chat, seq)).await
    }

    /// What the caller's list shows of the chat, once its head is this one.
    async fn last_at(&self, chat: &str, head: u64) -> Value {
        wait::until(SOON, "the chat's line", async || {
            let page = self.http.get("/v1/chats").await;
            let lines = page.body["chats"].as_array().cloned().unwrap_or_default();
            lines.into_iter().find(|line| line["id"] == chat && line["head"] == head).map(|line| line["last"].clone())
        })
        .await
    }
}

fn shown(page: &Answer) -> Vec<Value> {
    let entries = page.body["entries"].as_array().cloned().unwrap_or_default();
    let fields = ["kind", "message", "text", "edited_seq", "deleted_seq", "erased"];
    let shown =
        |entry: &Value| Value::from_iter(fields.iter().filter_map(|field| Some((*field, entry.get(field)?.clone()))));
    entries[1..].iter().map(shown).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_edited_and_deleted_is_so_everywhere_and_after_a_kill() {
    let mut up = Up::new();
    up.start().await;
    let (alice, _) = up.register("alice").await;
    let (bob, registered) = up.register("bob").await;
    let chat = alice.group(&[&bob]).await;
    let url = format!("ws://{}/v1/socket", up.listen);
    let (client, mut events) = Client::connect(Options::new(url, registered.text("access_token"), "laptop"));
    alice.say(&chat, "see you at nine", "1").await;
    let edited = alice.edit(&chat, 2, json!({ "text": "see you at ten" }), "2").await;
    assert_eq!((edited.status, &edited.body["seq"]), (201, &json!(3)), "{edited:?}");
    let again = alice.edit(&chat, 2, json!({ "text": "see you at ten" }), "2").await;
    assert_eq!((again.status, &again.body["seq"]), (201, &json!(3)), "once");
    let last = bob.last_at(&chat, 3).await;
    assert_eq!((&last["seq"], &last["text"], &last["deleted"]), (&json!(2), &json!("see you at ten"), &json!(false)));
    // Heard as it happened, and read as it is now.
    let heard = async {
        loop {
            if let Event::Entry { entry, .. } = events.next().await.unwrap()
                && let Some(entry::Event::MessageEdited(edit)) = entry.entry.event
            {
                return (entry.chat, edit);
            }
        }
    };
    let (id, heard) = timeout(SOON, heard).await.expect("the edit");
    assert_eq!((heard.seq, &heard.body[..]), (2, &b"see you at ten"[..]));
    // By the socket too, and refused there for the same reasons.
    let own = client.send(id, "at eleven?").unwrap();
    timeout(SOON, own.outcome).await.expect("in time").unwrap();
    for sent in [client.edit(id, 4, "at noon?").unwrap(), client.delete(id, 4).unwrap()] {
        let settled = timeout(SOON, sent.outcome).await.expect("in time").unwrap();
        assert!(matches!(settled, client::Settlement::Stored { .. }), "{settled:?}");
    }
    let refused = client.edit(id, 2, "mine").unwrap();
    let settled = timeout(SOON, refused.outcome).await.expect("in time").unwrap();
    let code = v1::ErrorCode::Forbidden;
    assert!(matches!(settled, client::Settlement::Rejected { code: because, .. } if because == code), "{settled:?}");
    let last = alice.last_at(&chat, 6).await;
    assert_eq!((&last["seq"], last.get("text"), &last["deleted"]), (&json!(4), None, &json!(true)));
    assert_eq!(alice.take_back(&chat, 2).await.body["seq"], 7);
    up.kill();
    up.start().await;
    let [alice, bob] = [alice.at(&up), bob.at(&up)];
    let expected = json!([
        { "kind": "message_sent", "deleted_seq": 7 },
        { "kind": "message_edited", "message": 2, "erased": true },
        { "kind": "message_sent", "deleted_seq": 6 },
        { "kind": "message_edited", "message": 4, "erased": true },
        { "kind": "message_deleted", "message": 4 },
        { "kind": "message_deleted", "message": 2 },
    ]);
    for person in [&alice, &bob] {
        let page = person.read(&chat, "at_least=7").await;
        assert_eq!(Value::from(shown(&page)), expected);
        assert!(!page.body.to_string().contains("nine") && !page.body.to_string().contains("ten"), "{page:?}");
    }
    // They stay counted, and a repeat of the send is answered as the first time.
    let page = bob.http.get("/v1/chats").await;
    assert_eq!(page.body["chats"][0]["unread"], 0, "{page:?}");
    let again = alice.say(&chat, "see you at nine", "1").await;
    assert_eq!((again.status, &again.body["seq"]), (201, &json!(2)), "{again:?}");
    up.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_edit_or_delete_is_told_why() {
    let mut up = Up::new();
    up.start().await;
    let (alice, _) = up.register("alice").await;
    let (bob, _) = up.register("bob").await;
    let (eve, _) = up.register("eve").await;
    let chat = alice.group(&[&bob]).await;
    alice.say(&chat, "one", "1").await;
    bob.say(&chat, "two", "1").await;
    let text = || json!({ "text": "x" });
    for (refused, status, code) in [
        (bob.edit(&chat, 2, text(), "2").await, 409, 18),
        (bob.take_back(&chat, 2).await, 409, 18),
        (alice.edit(&chat, 3, text(), "2").await, 409, 18),
        (alice.edit(&chat, 1, text(), "3").await, 409, 29),
        (alice.take_back(&chat, 9).await, 409, 29),
    ] {
        assert_eq!((refused.status, refused.problem(), &refused.body["code"]), (status, "rejected", &json!(code)));
    }
    assert_eq!((eve.edit(&chat, 2, text(), "1").await.status, eve.take_back(&chat, 2).await.status), (404, 404));
    assert_eq!((alice.edit(&chat, 0, text(), "4").await.status, alice.take_back(&chat, 0).await.status), (404, 404));
    for malformed in
        [json!({}), json!({ "text": "x", "body": "eA==" }), json!({ "text": null }), json!({ "reply_to": 1 })]
    {
        let refused = alice.edit(&chat, 2, malformed.clone(), "5").await;
        assert_eq!((refused.status, refused.problem()), (400, "bad-request"), "{malformed}");
    }
    let large = alice.edit(&chat, 2, json!({ "text": "x".repeat(16 * 1024 + 1) }), "6").await;
    assert_eq!(large.status, 413, "{large:?}");
    // The owner takes back what another has said, and it is accounted for.
    assert_eq!(alice.take_back(&chat, 3).await.status, 201);
    let refused = alice.take_back(&chat, 3).await;
    assert_eq!((refused.status, &refused.body["code"]), (409, &json!(30)));
    up.stop().await;
}
