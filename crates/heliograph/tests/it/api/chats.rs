//! Chats and messages over HTTP, beside a socket.

use client::{Client, Event, Options};
use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::cast::SOON;
use crate::process::Up;

fn seqs(page: &Value) -> Vec<u64> {
    page["entries"].as_array().unwrap().iter().map(|entry| entry["seq"].as_u64().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_sent_by_http_comes_over_a_socket_and_the_other_way_round() {
    let mut up = Up::new();
    up.start().await;
    let (alice, _) = up.register("alice").await;
    let (bob, registered) = up.register("bob").await;
    let chat = alice.group(&[&bob]).await;
    let url = format!("ws://{}/v1/socket", up.listen);
    let (client, mut events) = Client::connect(Options::new(url, registered.text("access_token"), "laptop"));
    let sent = alice.say(&chat, "good morning", "k1").await;
    assert_eq!((sent.status, &sent.body["seq"]), (201, &json!(2)), "{sent:?}");
    let heard = async {
        loop {
            if let Event::Entry { entry, .. } = events.next().await.unwrap()
                && let Some(body) = entry.body()
            {
                return (entry.chat, entry.entry.seq, body.clone());
            }
        }
    };
    let (id, seq, body) = timeout(SOON, heard).await.expect("the message");
    assert_eq!((seq, &body[..]), (2, &b"good morning"[..]));
    let answer = client.send(id, "and to you").unwrap();
    timeout(SOON, answer.outcome).await.expect("in time").unwrap();
    let page = alice.read(&chat, "at_least=3").await;
    assert_eq!(seqs(&page.body), [1, 2, 3]);
    assert_eq!(
        (&page.body["entries"][2]["text"], &page.body["entries"][2]["sender"]),
        (&json!("and to you"), &json!(bob.id))
    );
    up.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_key_is_one_message_however_often_whenever_and_over_a_kill() {
    let mut up = Up::new();
    up.start().await;
    let (alice, _) = up.register("alice").await;
    let chat = alice.group(&[]).await;
    let first = join_all((0..6).map(|_| alice.say(&chat, "once", "k"))).await;
    assert!(first.iter().all(|answer| answer.status == 201 && answer.body == first[0].body), "{first:?}");
    // More outboxes than the chat remembers of one sender.
    for n in 0..40 {
        assert_eq!(alice.say(&chat, "more", &format!("more-{n}")).await.status, 201);
    }
    assert_eq!(alice.say(&chat, "once", "k").await.body, first[0].body);
    let other = alice.say(&chat, "twice", "k").await;
    assert_eq!((other.status, other.problem()), (409, "key-reused"));
    up.kill();
    up.start().await;
    let (alice, chat) =
        (super::Person { http: super::Http { address: up.http().address, ..alice.http }, ..alice }, chat);
    assert_eq!(alice.say(&chat, "once", "k").await.body, first[0].body);
    let page = alice.read(&chat, "at_least=42&limit=256").await;
    let said = page.body["entries"].as_array().unwrap().iter().filter(|entry| entry["text"] == "once").count();
    assert_eq!((said, seqs(&page.body).len()), (1, 42));
    up.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_people_who_write_first_at_once_have_one_direct_chat() {
    let mut up = Up::new();
    up.start().await;
    let (alice, _) = up.register("alice").await;
    let (bob, _) = up.register("bob").await;
    let make = async |from: &super::Person, to: &super::Person| {
        from.http.post("/v1/chats", json!({ "kind": "direct", "members": [{ "user": to.id }] })).await
    };
    let both = join_all([make(&alice, &bob), make(&bob, &alice), make(&alice, &bob)]).await;
    let chats: Vec<_> = both.iter().map(|answer| answer.text("chat")).collect();
    assert!(chats.iter().all(|chat| *chat == chats[0]) && both.iter().all(|answer| answer.status == 201), "{both:?}");
    let chat = bob.http.get(&format!("/v1/chats/{}", chats[0])).await;
    assert_eq!((&chat.body["kind"], chat.body["members"].as_array().unwrap().len()), (&json!("direct"), 2));
    up.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_reads_what_its_stays_show_and_nobody_else_anything() {
    let mut up = Up::new();
    up.start().await;
    let (alice, _) = up.register("alice").await;
    let (bob, _) = up.register("bob").await;
    let (eve, _) = up.register("eve").await;
    let chat = alice.group(&[]).await;
    alice.say(&chat, "before bob", "1").await;
    let members = format!("/v1/chats/{chat}/members");
    assert_eq!(alice.http.post(&members, json!({ "user": bob.id })).await.body["seq"], 3);
    let twice = alice.http.post(&members, json!({ "user": bob.id })).await;
    assert_eq!((twice.status, twice.problem(), &twice.body["code"]), (409, "rejected", &json!(23)));
    alice.say(&chat, "with bob", "2").await;
    assert_eq!(seqs(&bob.read(&chat, "at_least=4").await.body), [3, 4]);
    assert_eq!(alice.http.delete(&format!("{members}/{}", bob.id)).await.body["seq"], 5);
    alice.say(&chat, "after bob", "3").await;
    assert_eq!(alice.read(&chat, "at_least=6").await.body["through"], 6);
    let page = bob.read(&chat, "").await;
    assert_eq!((seqs(&page.body), &page.body["through"]), (vec![3, 4, 5], &json!(5)));
    // Who is not in it does not learn that there is one.
    for answer in [
        eve.read(&chat, "").await,
        eve.http.get(&format!("/v1/chats/{chat}")).await,
        bob.http.get(&format!("/v1/chats/{chat}")).await,
        eve.say(&chat, "let me in", "4").await,
        eve.http.post(&members, json!({ "user": eve.id })).await,
        eve.read("01a21c4d-9672-7000-bbd3-ddbd7e23deee", "").await,
        eve.read("nonsense", "").await,
    ] {
        assert_eq!((answer.status, answer.problem()), (404, "not-found"), "{answer:?}");
        assert!(answer.body.get("code").is_none() && answer.body.get("detail").is_none(), "{answer:?}");
    }
    // Nor how far it is, by what it waits for; who was put out does not learn how it goes on.
    for at_least in [1, 6, 60] {
        let started = tokio::time::Instant::now();
        assert_eq!(eve.read(&chat, &format!("at_least={at_least}")).await.problem(), "not-yet");
        assert!(started.elapsed() > std::time::Duration::from_secs(1), "{at_least}: {:?}", started.elapsed());
        assert_eq!(seqs(&bob.read(&chat, &format!("at_least={at_least}")).await.body), [3, 4, 5]);
    }
    alice.http.post(&members, json!({ "user": bob.id })).await;
    let left = alice.http.delete(&format!("{members}/{}", alice.id)).await;
    assert_eq!((left.status, left.problem()), (409, "rejected"), "the last owner stays");
    up.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn history_and_the_list_are_paged_both_ways() {
    let mut up = Up::new();
    up.start().await;
    let (alice, _) = up.register("alice").await;
    let (bob, _) = up.register("bob").await;
    let mut chats = Vec::new();
    for _ in 0..5 {
        chats.push(alice.group(&[&bob]).await);
    }
    for n in 0..6 {
        alice.say(&chats[0], "text", &n.to_string()).await;
    }
    assert_eq!(seqs(&alice.read(&chats[0], "at_least=7&limit=3").await.body), [1, 2, 3]);
    let page = alice.read(&chats[0], "after=3&limit=3").await;
    assert_eq!((seqs(&page.body), &page.body["through"]), (vec![4, 5, 6], &json!(6)));
    assert_eq!(seqs(&alice.read(&chats[0], "before=8&limit=3").await.body), [5, 6, 7]);
    assert_eq!(seqs(&alice.read(&chats[0], "after=4&before=8&limit=9").await.body), [5, 6, 7]);
    assert_eq!(seqs(&alice.read(&chats[0], "after=2&before=8&limit=3").await.body), [5, 6, 7]);
    let page = alice.read(&chats[0], "before=3&limit=5").await;
    assert_eq!((seqs(&page.body), &page.body["through"]), (vec![1, 2], &json!(2)));
    assert_eq!(seqs(&alice.read(&chats[0], "before=1000&limit=3").await.body), [5, 6, 7]);
    assert_eq!(seqs(&alice.read(&chats[0], "before=1").await.body), [0; 0]);
    // More bytes than one page: the oldest are left for the next one, never the latest.
    for n in 0..20 {
        assert_eq!(alice.say(&chats[1], &"x".repeat(16 << 10), &format!("long-{n}")).await.status, 201);
    }
    let (mut before, mut read) = (22, Vec::new());
    while before > 1 {
        let page = seqs(&alice.read(&chats[1], &format!("before={before}&limit=20")).await.body);
        assert_eq!((page.last(), page.len() as u64), (Some(&(before - 1)), before - page[0]), "{page:?}");
        before = page[0];
        read.extend(page);
    }
    read.sort_unstable();
    assert_eq!(read, (1..=21).collect::<Vec<_>>());

    let listed = async {
        loop {
            let (mut found, mut cursor) = (Vec::new(), String::new());
            loop {
                let page = bob.http.get(&format!("/v1/chats?limit=2{cursor}")).await;
                assert_eq!(page.status, 200, "{page:?}");
                found.extend(page.body["chats"].as_array().unwrap().clone());
                let Some(next) = page.body["next"].as_str() else { break };
                cursor = format!("&cursor={next}");
            }
            // The read models follow.
            let has = |head| found.iter().any(|chat| chat["head"] == head);
            if found.len() == 5 && has(7) && has(21) {
                return found;
            }
        }
    };
    let found = timeout(SOON, listed).await.expect("all chats");
    let unread = |id: &str| found.iter().find(|chat| chat["id"] == id).unwrap()["unread"].clone();
    assert_eq!((unread(&chats[0]), unread(&chats[1]), unread(&chats[2])), (json!(6), json!(20), json!(0)));
    up.stop().await;
}
