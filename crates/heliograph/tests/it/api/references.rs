//! What a message refers to: sent over HTTP, heard over a socket, read back.

use client::{Client, Event, Options};
use proto::v1;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::Person;
use super::http::Answer;
use crate::cast::SOON;
use crate::process::Up;

impl Person {
    async fn message(&self, chat: &str, message: Value, key: &str) -> Answer {
        let path = format!("/v1/chats/{chat}/messages");
        self.http.ask("POST", &path, &[("idempotency-key", key)], Some(message.to_string())).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_and_its_mentions_are_the_same_over_http_and_over_a_socket() {
    let mut up = Up::new();
    up.start().await;
    let (alice, _) = up.register("alice").await;
    let (bob, registered) = up.register("bob").await;
    let chat = alice.group(&[&bob]).await;
    let url = format!("ws://{}/v1/socket", up.listen);
    let (client, mut events) = Client::connect(Options::new(url, registered.text("access_token"), "laptop"));
    alice.say(&chat, "shall we?", "1").await;
    let reply = json!({ "text": "yes", "reply_to": 2, "mentions": [bob.id, alice.id], "mention_all": true });
    let sent = alice.message(&chat, reply, "2").await;
    assert_eq!((sent.status, &sent.body["seq"]), (201, &json!(3)), "{sent:?}");
    let heard = async {
        loop {
            if let Event::Entry { entry, .. } = events.next().await.unwrap()
                && entry.entry.seq == 3
                && let Some(v1::entry::Event::MessageSent(message)) = entry.entry.event
            {
                return (entry.chat, message);
            }
        }
    };
    let (id, heard) = timeout(SOON, heard).await.expect("the reply");
    assert_eq!((heard.reply_to, heard.mentions.len(), heard.mention_all), (2, 2, true));
    let back = v1::SendMessage { body: "fine".into(), reply_to: 3, ..v1::SendMessage::default() };
    let answer = client.send_message(id, back).unwrap();
    timeout(SOON, answer.outcome).await.expect("in time").unwrap();
    let page = alice.read(&chat, "at_least=4").await;
    let [plain, reply, back] = &page.body["entries"].as_array().unwrap()[1..] else { panic!("{page:?}") };
    assert_eq!(
        (&reply["reply_to"], &reply["mentions"], &reply["mention_all"]),
        (&json!(2), &json!([bob.id, alice.id]), &json!(true))
    );
    assert_eq!((&back["reply_to"], &back["text"]), (&json!(3), &json!("fine")));
    for absent in ["reply_to", "mentions", "mention_all"] {
        assert!(plain.get(absent).is_none(), "{absent}: {plain}");
    }
    up.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_message_cannot_refer_to_is_refused() {
    let mut up = Up::new();
    up.start().await;
    let (alice, _) = up.register("alice").await;
    let (eve, _) = up.register("eve").await;
    let chat = alice.group(&[]).await;
    alice.say(&chat, "one", "1").await;
    let ahead = alice.message(&chat, json!({ "text": "x", "reply_to": 3 }), "2").await;
    assert_eq!((ahead.status, ahead.problem(), &ahead.body["code"]), (409, "rejected", &json!(29)));
    let of = |count: usize| vec![json!(eve.id); count];
    for malformed in [
        json!({ "text": "x", "reply_to": 0 }),
        json!({ "text": "x", "reply_to": -1 }),
        json!({ "text": "x", "reply_to": null }),
        json!({ "text": "x", "reply_to": 1.5 }),
        json!({ "text": "x", "mentions": of(2) }),
        json!({ "text": "x", "mentions": of(51) }),
        json!({ "text": "x", "mentions": ["eve"] }),
        json!({ "text": "x", "mentions": null }),
        json!({ "text": "x", "mention_all": 1 }),
        json!({ "reply_to": 1 }),
        json!({ "text": "x", "answers": 1 }),
    ] {
        let refused = alice.message(&chat, malformed.clone(), "3").await;
        assert_eq!((refused.status, refused.problem()), (400, "bad-request"), "{malformed}");
    }
    // Nobody has to be in the chat to be named, nor learns of it.
    let named = json!({ "text": "x", "reply_to": 1.0, "mentions": of(1) });
    assert_eq!(alice.message(&chat, named, "4").await.body["seq"], 3);
    assert_eq!(eve.read(&chat, "").await.status, 404);
    // The words alone are another request than the same ones as an answer.
    let other = alice.message(&chat, json!({ "text": "x", "mentions": of(1) }), "4").await;
    assert_eq!((other.status, other.problem()), (409, "key-reused"));
    up.stop().await;
}
