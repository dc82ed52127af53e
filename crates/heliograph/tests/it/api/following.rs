//! Who has a message, how far it has come, and what became of a request that was not answered in time.

use std::collections::BTreeMap;

use client::{Client, Options};
use futures_util::future::join_all;
use nix::sys::signal::{Signal, kill};
use serde_json::{Value, json};
use testkit::children::pause;
use testkit::wait;
use tokens::TokenKeys;
use tokio::task::JoinHandle;

use super::Person;
use super::http::{Answer, Http};
use crate::admin::probes::probed;
use crate::cast::SOON;
use crate::process::Up;

impl Up {
    /// Somebody without an account, by a token of this deployment's own key.
    pub(crate) fn somebody(&self) -> Person {
        let id = domain::UserId::new(rand::random());
        let keys = TokenKeys::from_pem(&heliograph::folder::token_key(self.folder()).unwrap()).unwrap();
        let token = keys.mint(id, SOON * 10).unwrap();
        Person { id: id.to_string(), http: Http { token: Some(token), ..self.http() } }
    }

    /// The same person at the process that runs now.
    pub(crate) fn again(&self, person: &Person) -> Person {
        Person { http: Http { address: self.http().address, ..person.http.clone() }, ..person.clone() }
    }
}

impl Person {
    async fn receipts(&self, chat: &str, seq: u64, query: &str) -> Answer {
        self.http.get(&format!("/v1/chats/{chat}/messages/{seq}/receipts?{query}")).await
    }

    async fn flight(&self, chat: &str, seq: u64) -> Answer {
        self.http.get(&format!("/v1/chats/{chat}/messages/{seq}/flight")).await
    }

    /// The stages that a message has passed: when, in µs since 1970, and for how many.
    async fn stages(&self, chat: &str, seq: u64) -> BTreeMap<String, Stage> {
        let answer = self.flight(chat, seq).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let stage = |stage: &Value| Stage {
            at: stage.get("at").map(|at| api::from_rfc3339(at.as_str().unwrap()).unwrap()),
            members: stage["members"].as_u64(),
        };
        let stages = answer.body["stages"].as_array().unwrap();
        stages.iter().map(|one| (one["stage"].as_str().unwrap().to_owned(), stage(one))).collect()
    }

    /// Waits until a stage of a message has a time.
    async fn passed(&self, chat: &str, seq: u64, stage: &str) -> u64 {
        wait::until(SOON, stage, async || self.stages(chat, seq).await.get(stage)?.at).await
    }
}

/// A stage that a message has passed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Stage {
    at: Option<u64>,
    members: Option<u64>,
}

/// The stages without their times.
fn without_times(flight: &Answer) -> Value {
    let mut body = flight.body.clone();
    for stage in body["stages"].as_array_mut().unwrap() {
        stage.as_object_mut().unwrap().remove("at");
    }
    body
}

/// A device that takes what is pushed to it until it is closed.
struct Device {
    client: Client,
    reading: JoinHandle<()>,
}

impl Device {
    fn of(up: &Up, registered: &Answer) -> Self {
        let url = format!("ws://{}/v1/socket", up.listen);
        let (client, mut events) = Client::connect(Options::new(url, registered.text("access_token"), "laptop"));
        Self { client, reading: tokio::spawn(async move { while events.next().await.is_some() {} }) }
    }

    /// Waits until it knows the chat through here.
    async fn knows(&self, chat: &str, through: u64) -> client::ChatId {
        let chat = chat.parse().unwrap();
        wait::until(SOON, "the device", async || self.client.known(chat) >= through).await;
        chat
    }

    async fn close(self) {
        self.client.close();
        self.reading.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn receipts_and_flight_say_what_the_watermarks_say() {
    let mut up = Up::new();
    up.start().await;
    let (alice, _) = up.register("alice").await;
    let (bob, registered) = up.register("bob").await;
    let (carol, _) = up.register("carol").await;
    let (eve, _) = up.register("eve").await;
    let chat = alice.group(&[&bob, &carol]).await;
    let sent = alice.say(&chat, "who reads this", "1").await;
    assert_eq!(sent.body["seq"], 2);
    let of = |answer: &Answer, who: &Person| -> (bool, bool) {
        assert_eq!(answer.status, 200, "{answer:?}");
        let all = answer.body["receipts"].as_array().unwrap();
        let one = all.iter().find(|one| one["user"] == who.id).unwrap_or_else(|| panic!("no {} in {all:?}", who.id));
        (one["delivered"].as_bool().unwrap(), one["seen"].as_bool().unwrap())
    };
    let at_first = alice.receipts(&chat, 2, "").await;
    assert_eq!((of(&at_first, &bob), of(&at_first, &carol)), ((false, false), (false, false)));
    assert_eq!(at_first.body["receipts"].as_array().unwrap().len(), 2, "its sender is none of them");
    let flight = alice.flight(&chat, 2).await;
    let stage = |name: &str| json!({ "stage": name });
    let first = [stage("accepted"), stage("published"), stage("stored")];
    assert_eq!(without_times(&flight), json!({ "members": 2, "stages": first }));
    assert_eq!(flight.body["stages"][0]["at"], sent.body["time"]);

    let device = Device::of(&up, &registered);
    let id = device.knows(&chat, 2).await;
    device.client.received(id, 2);
    wait::until(SOON, "delivered", async || of(&alice.receipts(&chat, 2, "").await, &bob) == (true, false)).await;
    let delivered = json!({ "stage": "delivered", "members": 1 });
    let stages = without_times(&alice.flight(&chat, 2).await)["stages"].clone();
    assert_eq!((&stages[2], &stages[3], &stages[4]), (&first[2], &delivered, &Value::Null));
    device.client.seen(id, 2);
    wait::until(SOON, "seen", async || of(&alice.receipts(&chat, 2, "").await, &bob) == (true, true)).await;
    let stages = without_times(&alice.flight(&chat, 2).await)["stages"].clone();
    assert_eq!(stages[4], json!({ "stage": "seen", "members": 1 }));
    // The next one has not come so far, and any member sees that.
    bob.say(&chat, "and this", "2").await;
    assert_eq!(of(&carol.receipts(&chat, 3, "").await, &alice), (false, false));
    assert_eq!(of(&carol.receipts(&chat, 2, "").await, &bob), (true, true));
    // Who came later is none of them, nor is who has gone.
    let members = format!("/v1/chats/{chat}/members");
    alice.http.post(&members, json!({ "user": eve.id })).await;
    alice.http.delete(&format!("{members}/{}", carol.id)).await;
    let left = alice.receipts(&chat, 2, "").await.body;
    assert_eq!(left["receipts"].as_array().unwrap().len(), 1, "{left}");
    // Only the sender follows the flight; only who is in the chat and may read it learns who has it.
    let (stranger, nowhere) = (up.somebody(), "01a21c4d-9672-7000-bbd3-ddbd7e23deee");
    for answer in [
        bob.flight(&chat, 2).await,
        stranger.flight(&chat, 2).await,
        stranger.receipts(&chat, 2, "").await,
        eve.receipts(&chat, 2, "").await,
        carol.receipts(&chat, 2, "").await,
        alice.receipts(&chat, 1, "").await,
        alice.receipts(&chat, 0, "").await,
        alice.receipts(&chat, 99, "").await,
        alice.receipts(nowhere, 2, "").await,
        alice.flight(&chat, 1).await,
        alice.http.get(&format!("/v1/chats/{chat}/messages/first/flight")).await,
    ] {
        assert_eq!((answer.status, answer.problem()), (404, "not-found"), "{answer:?}");
    }
    for query in ["limit=0", "limit=1001", "cursor=x", "of=me"] {
        assert_eq!(alice.receipts(&chat, 2, query).await.problem(), "bad-request", "{query}");
    }
    device.close().await;
    up.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flight_says_when_each_stage_was_passed_first() {
    let mut up = Up::new();
    up.start().await;
    let (alice, _) = up.register("alice").await;
    let ((bob, of_bob), (carol, of_carol)) = (up.register("bob").await, up.register("carol").await);
    let chat = alice.group(&[&bob, &carol]).await;
    let begun = api::now_us();
    alice.say(&chat, "who reads this", "1").await;
    // Nothing follows, so the owner says by itself what it has stored.
    let stored = alice.passed(&chat, 2, "stored").await;
    let stages = alice.stages(&chat, 2).await;
    let (accepted, published) = (stages["accepted"].at.unwrap(), stages["published"].at.unwrap());
    assert!(begun <= accepted && accepted <= published && published < stored, "{begun} {stages:?}");
    assert_eq!(stages.len(), 3);

    let device = Device::of(&up, &of_bob);
    let id = device.knows(&chat, 2).await;
    device.client.received(id, 2);
    let delivered = alice.passed(&chat, 2, "delivered").await;
    assert!(published <= delivered && delivered <= api::now_us());
    // Another one gets it and reads it: of those who got it she is not the first, of those who read it she is.
    let hers = Device::of(&up, &of_carol);
    hers.knows(&chat, 2).await;
    hers.client.seen(id, 2);
    let seen = alice.passed(&chat, 2, "seen").await;
    assert!(delivered < seen && seen <= api::now_us());
    device.client.seen(id, 2);
    let both = async || Some(alice.stages(&chat, 2).await).filter(|stages| stages["seen"].members == Some(2));
    let all = wait::until(SOON, "both to have read it", both).await;
    let stage = |at, members| Stage { at: Some(at), members };
    let expected = [
        ("accepted", stage(accepted, None)),
        ("published", stage(published, None)),
        ("stored", stage(stored, None)),
        ("delivered", stage(delivered, Some(2))),
        ("seen", stage(seen, Some(2))),
    ];
    assert_eq!(all, expected.map(|(name, stage)| (name.to_owned(), stage)).into());
    device.close().await;
    hers.close().await;

    // Who writes has read all before it, as of that message's record.
    alice.say(&chat, "and this", "2").await;
    bob.say(&chat, "yes", "3").await;
    let seen = alice.passed(&chat, 3, "seen").await;
    let stages = alice.stages(&chat, 3).await;
    let answered = bob.stages(&chat, 4).await["published"];
    assert_eq!((stages["delivered"].at, Some(seen)), (answered.at, answered.at));
    up.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flight_whose_records_are_gone_has_no_times_and_is_answered() {
    let mut up = Up::new();
    up.start().await;
    let ((alice, _), (bob, of_bob)) = (up.register("alice").await, up.register("bob").await);
    let chat = alice.group(&[&bob]).await;
    let said = alice.say(&chat, "who reads this", "1").await;
    let device = Device::of(&up, &of_bob);
    let id = device.knows(&chat, 2).await;
    device.client.seen(id, 2);
    alice.passed(&chat, 2, "seen").await;
    device.close().await;
    up.stop().await;
    // The streams of a new epoch have none of it.
    up.renew().await;
    up.start().await;
    let alice = alice.at(&up);
    alice.say(&chat, "and this", "2").await;
    alice.passed(&chat, 3, "stored").await;
    let stage = |name: &str| json!({ "stage": name });
    let by_one = |name: &str| json!({ "stage": name, "members": 1 });
    let accepted = json!({ "stage": "accepted", "at": said.body["time"] });
    let stages = [accepted, stage("published"), stage("stored"), by_one("delivered"), by_one("seen")];
    assert_eq!(alice.flight(&chat, 2).await.body, json!({ "members": 1, "stages": stages }));
    up.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn receipts_of_a_thousand_members_come_in_pages() {
    let mut up = Up::new();
    up.start().await;
    let (alice, others) = (up.somebody(), (0..999).map(|_| up.somebody()).collect::<Vec<_>>());
    let chat = alice.group(&others.iter().collect::<Vec<_>>()).await;
    alice.say(&chat, "to all", "1").await;
    let (mut found, mut cursor, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let page = alice.receipts(&chat, 2, &format!("limit=300{cursor}")).await;
        assert_eq!(page.status, 200, "{page:?}");
        let receipts = page.body["receipts"].as_array().unwrap();
        found.extend(receipts.iter().map(|one| one["user"].as_str().unwrap().to_owned()));
        pages += 1;
        let Some(next) = page.body["next"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    let mut ids: Vec<_> = others.into_iter().map(|other| other.id).collect();
    ids.sort_unstable();
    assert_eq!((found, pages), (ids, 4));
    assert_eq!(alice.flight(&chat, 2).await.body["members"], 999);
    up.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_past_its_deadline_has_a_status_that_tells_its_end() {
    let mut up = Up::new();
    up.start().await;
    let (alice, bob, carol) = (up.somebody(), up.somebody(), up.somebody());
    let chat = alice.group(&[&bob]).await;
    let status = async |person: &Person, path: &str| person.http.get(path).await;
    let members = format!("/v1/chats/{chat}/members");
    let add = json!({ "user": carol.id }).to_string();
    let refused =
        async |key: &str| bob.http.ask("POST", &members, &[("idempotency-key", key)], Some(add.clone())).await;
    // In time: what is answered is told again.
    let said = alice.say(&chat, "in time", "k1").await;
    let told = status(&alice, "/v1/sends/k1").await;
    assert_eq!(told.body, json!({ "status": "stored", "chat": chat, "seq": 2, "time": said.body["time"] }));
    let answer = refused("k1").await;
    assert_eq!((answer.status, answer.problem()), (409, "rejected"));
    let rejected = json!({ "status": "rejected", "problem": "/problems/rejected", "code": answer.body["code"] });
    assert_eq!(status(&bob, "/v1/sends/k1").await.body, rejected);
    let long = alice.say(&chat, &"x".repeat((16 << 10) + 1), "k4").await;
    assert_eq!((long.status, long.problem()), (413, "too-large"));
    let told = status(&alice, "/v1/sends/k4").await.body;
    assert_eq!((&told["status"], &told["problem"]), (&json!("rejected"), &json!("/problems/too-large")));
    // While the broker stands still nothing is decided.
    let broker = up.broker().unwrap();
    pause(broker).unwrap();
    let (sent, added) = tokio::join!(alice.say(&chat, "late", "a-key/with?"), refused("k2"));
    for (person, answer, path) in [(&alice, &sent, "/v1/sends/a-key%2Fwith%3F"), (&bob, &added, "/v1/sends/k2")] {
        assert_eq!((answer.status, &*answer.headers["location"]), (202, path), "{answer:?}");
        assert_eq!(status(person, path).await.body, json!({ "status": "pending" }));
    }
    // A flight is told without what only the broker knows, to all who ask at once.
    for flight in join_all((0..9).map(|_| alice.flight(&chat, 2))).await {
        let times = flight.body["stages"].as_array().unwrap().iter().filter_map(|stage| stage.get("at"));
        assert_eq!((flight.status, times.collect::<Vec<_>>()), (200, vec![&said.body["time"]]), "{flight:?}");
    }
    kill(broker, Signal::SIGCONT).unwrap();
    let ended = async |person: &Person, path: &str| -> Value {
        wait::until(SOON, "the end", async || {
            Some(status(person, path).await.body).filter(|body| body["status"] != "pending")
        })
        .await
    };
    let told = ended(&alice, &sent.headers["location"]).await;
    assert_eq!((&told["status"], &told["chat"], &told["seq"]), (&json!("stored"), &json!(chat), &json!(3)));
    assert_eq!(ended(&bob, &added.headers["location"]).await, rejected);
    assert_eq!(alice.say(&chat, "late", "a-key/with?").await.body["seq"], 3, "the same key asks again");
    // A rejection is of its time: what is stored later stands above it.
    alice.http.delete(&format!("{members}/{}", bob.id)).await;
    alice.http.post(&members, json!({ "user": bob.id, "role": "admin" })).await;
    assert_eq!(refused("k2").await.status, 201);
    assert_eq!(status(&bob, "/v1/sends/k2").await.body["status"], "stored");
    // A key is its user's.
    for (person, key) in [(&carol, "k1"), (&bob, "a%20key%2Fwith%20%3F"), (&alice, "none")] {
        let answer = status(person, &format!("/v1/sends/{key}")).await;
        assert_eq!((answer.status, answer.problem()), (404, "not-found"), "{answer:?}");
    }
    // Chats too, also a direct one that was there already.
    let direct = json!({ "kind": "direct", "members": [{ "user": bob.id }] });
    let made = alice.http.post("/v1/chats", direct.clone()).await.text("chat");
    let again = alice.http.ask("POST", "/v1/chats", &[("idempotency-key", "k3")], Some(direct.to_string())).await;
    assert_eq!((again.status, again.text("chat")), (201, made.clone()));
    let told = status(&alice, "/v1/sends/k3").await.body;
    assert_eq!((&told["status"], &told["chat"], &told["seq"]), (&json!("stored"), &json!(made), &json!(1)));
    up.stop().await;
}

/// How many rows searches for requests' ends have read.
async fn rows_searched(probes: &Http) -> u64 {
    let metrics = probes.get("/metrics").await;
    let counted = metrics.body.as_str().unwrap().lines().find_map(|line| line.strip_prefix("api_search_rows_total "));
    counted.map_or(0, |count| count.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poll_reads_what_came_into_the_chat_since_the_last_one() {
    const SAID: u64 = 30;
    let (mut up, probes) = probed().await;
    let (alice, bob) = (up.somebody(), up.somebody());
    let chat = alice.group(&[&bob]).await;
    let add = json!({ "user": up.somebody().id }).to_string();
    let members = format!("/v1/chats/{chat}/members");
    let refused = bob.http.ask("POST", &members, &[("idempotency-key", "refused")], Some(add)).await;
    assert_eq!(refused.problem(), "rejected");
    for n in 0..SAID {
        assert_eq!(alice.say(&chat, "more", &format!("k{n}")).await.status, 201);
    }
    let polled = async |person: &Person, key: &str| -> (Value, u64) {
        let before = rows_searched(&probes).await;
        let told = person.http.get(&format!("/v1/sends/{key}")).await.body;
        (told["status"].clone(), rows_searched(&probes).await - before)
    };
    let (told, read) = polled(&bob, "refused").await;
    assert!(told == "rejected" && read >= SAID, "the control, {told}: {read} rows");
    for _ in 0..3 {
        assert_eq!(polled(&bob, "refused").await, (json!("rejected"), 0));
    }
    alice.say(&chat, "one more", "more").await;
    assert_eq!(polled(&bob, "refused").await, (json!("rejected"), 1));
    // What was found is read no more.
    let (told, read) = polled(&alice, "k0").await;
    assert!(told == "stored" && read > 0, "{told}: {read} rows");
    assert_eq!(polled(&alice, "k0").await, (json!("stored"), 0));
    // A key of the same name is another user's.
    assert_eq!(bob.http.get("/v1/sends/k0").await.problem(), "not-found");
    up.stop().await;
}
