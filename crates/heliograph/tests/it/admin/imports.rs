//! Import of old history.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use client::ChatId;
use proto::v1;
use serde_json::{Value, json};
use testkit::wait::until;

use crate::api::Person;
use crate::api::http::Http;
use crate::cast::{Cast, SOON, stored, user};
use crate::process::Up;

/// 2011-03-13T07:06:40Z, when the first message was said.
const THEN_S: i64 = 1_300_000_000;

impl Up {
    /// Who has a token and no account.
    fn person(&self, cast: &Cast, name: &str) -> Person {
        Person { id: user(name).to_string(), http: Http { token: Some(cast.token(name)), ..self.http() } }
    }

    /// A file in the folder's scratch.
    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder().with_extension(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

/// The time of a message, as the API writes it.
fn time(n: usize) -> String {
    let second = THEN_S + n as i64;
    let (hour, minute, second) = (second / 3_600 % 24, second / 60 % 60, second % 60);
    let day = 13 + (THEN_S + n as i64 - (THEN_S - THEN_S % 86_400)) / 86_400;
    format!("2011-03-{day}T{hour:02}:{minute:02}:{second:02}Z")
}

fn text(n: usize, padding: usize) -> String {
    format!("message {n} {}", "x".repeat(padding))
}

/// A group of alice and bob, in which carol wrote too; message n has seq n + 2.
fn group(messages: usize, padding: usize) -> String {
    let (alice, bob, carol) = (user("alice"), user("bob"), user("carol"));
    let members = json!([{ "user": bob.to_string() }, { "user": alice.to_string(), "role": "owner" }]);
    let mut file = json!({ "kind": "group", "members": members, "former": [carol.to_string()] }).to_string();
    for n in 0..messages {
        let sender = [alice, bob, carol][n % 3].to_string();
        let line = json!({ "sender": sender, "time": time(n), "text": text(n, padding) });
        write!(file, "\n{line}").unwrap();
    }
    file
}

impl Person {
    /// Its chats as the list shows them.
    async fn chats(&self) -> Vec<Value> {
        let answer = self.http.get("/v1/chats").await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.body["chats"].as_array().unwrap().clone()
    }

    /// The whole chat.
    async fn whole(&self, chat: &str) -> Vec<Value> {
        let mut entries: Vec<Value> = Vec::new();
        loop {
            let page = self.read(chat, &format!("after={}&limit=256", entries.len())).await;
            assert_eq!(page.status, 200, "{page:?}");
            let more = page.body["entries"].as_array().unwrap();
            if more.is_empty() {
                return entries;
            }
            entries.extend(more.iter().cloned());
        }
    }

    /// Each message once, where and when it was said, between the beginning and the end.
    async fn reads_all(&self, chat: &str, messages: usize, padding: usize) {
        let entries = self.whole(chat).await;
        assert_eq!(entries.len(), messages + 2);
        let senders = ["alice", "bob", "carol"].map(|name| user(name).to_string());
        for (place, entry) in entries.iter().enumerate() {
            assert_eq!(entry["seq"], place + 1, "{entry}");
            let kind = match place {
                0 => "import_begun",
                last if last == messages + 1 => "import_ended",
                _ => "message_sent",
            };
            assert_eq!(entry["kind"], kind, "{entry}");
            if let Some(n) = place.checked_sub(1).filter(|_| kind == "message_sent") {
                assert_eq!((&entry["time"], &entry["ordinal"]), (&json!(time(n)), &json!(n + 1)), "{entry}");
                assert_eq!((&entry["text"], &entry["sender"]), (&json!(text(n, padding)), &json!(senders[n % 3])));
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_imported_chat_is_whole_and_read_to_its_members_and_goes_on_behind_its_history() {
    const MESSAGES: usize = 3_000;
    let mut up = Up::new();
    up.start().await;
    let cast = up.cast();
    let [alice, carol] = ["alice", "carol"].map(|name| up.person(&cast, name));
    let (phone, laptop) = (cast.device("bob", "phone", 0), cast.device("alice", "laptop", 0));
    phone.caught_up().await;
    laptop.caught_up().await;
    let file = up.file("jsonl", &group(MESSAGES, 0));
    let import = ["chats", "import", file.to_str().unwrap()];
    let done = up.item(&import).await;
    assert_eq!((&done["messages"], &done["imported_before"]), (&json!(MESSAGES), &json!(0)), "{done}");
    let chat = done["chat"].as_str().unwrap();
    let id: ChatId = chat.parse().unwrap();
    cast.watch(id);

    // Who is on line learns of it by the push of its end, and reads what is before.
    let head = MESSAGES as u64 + 2;
    phone.knows(id, head).await;
    alice.reads_all(chat, MESSAGES, 0).await;
    let line = until(SOON, "the list", async || alice.chats().await.pop()).await;
    assert_eq!((&line["id"], &line["head"], &line["unread"]), (&json!(chat), &json!(head), &json!(0)), "{line}");
    assert_eq!((&line["seen"], &line["last"]["time"]), (&json!(head), &json!(time(MESSAGES - 1))), "{line}");
    for refused in [carol.read(chat, "after=0").await, carol.say(chat, "let me in", "1").await] {
        assert!([403, 404].contains(&refused.status), "{refused:?}");
    }
    assert_eq!(carol.chats().await, Vec::<Value>::new());

    // Its time is when it was said; when it came in is no part of its flight.
    let flight = alice.http.get(&format!("/v1/chats/{chat}/messages/2/flight")).await;
    let times = flight.body["stages"].as_array().unwrap().iter().filter_map(|stage| stage.get("at"));
    assert_eq!(times.collect::<Vec<_>>(), [&json!(time(0))], "{flight:?}");

    // It goes on as any chat does.
    let said = alice.say(chat, "where were we?", "1").await;
    assert_eq!((said.status, &said.body["seq"]), (201, &json!(head + 1)), "{said:?}");
    let page = alice.read(chat, &format!("after={head}")).await;
    let last = &page.body["entries"][0];
    assert_eq!((&last["ordinal"], &last["text"]), (&json!(MESSAGES + 1), &json!("where were we?")));
    phone.knows(id, head + 1).await;
    phone.say(id, "here").await;
    until(SOON, "one unread message", async || alice.chats().await.pop().filter(|line| line["unread"] == 1)).await;

    // Again it is nothing new.
    assert!(up.text(&import).await.contains("was imported already"));
    let shown = up.item(&["chats", "show", chat]).await;
    assert_eq!((&shown["stored"], &shown["importing"]), (&json!(head + 2), &json!(false)), "{shown}");
    let audited = until(SOON, "the audit log", async || {
        let log = std::fs::read_to_string(up.folder().join("audit.log")).unwrap();
        let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let of_import = |line: &Value| line["chat"] == chat && line["action"] == "admin" && line["outcome"] == "ok";
        let said: Vec<_> = lines.iter().filter(|line| of_import(line)).map(|line| line["detail"].clone()).collect();
        (said.len() >= 3).then_some(said)
    })
    .await;
    assert_eq!(audited, ["chat.import", "chat.import_end", "chat.import"]);
    cast.verdict().await;
    up.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_that_a_kill_broke_off_is_seen_by_nobody_and_goes_on_where_it_stopped() {
    const MESSAGES: usize = 10_000;
    const PADDING: usize = 1_000;
    let mut up = Up::new();
    up.start().await;
    up.kill();
    let cast = up.cast();
    let file = up.file("jsonl", &group(MESSAGES, PADDING));
    let import = ["chats", "import", file.to_str().unwrap()];
    let mut chat = None;
    for point in ["ingest.decided", "ingest.published", "ingest.appended", "gateway.handed_over"] {
        up.start_to_crash(point, 4).await;
        assert!(up.refused(&import).await.contains("the same command goes on with it"), "{point}");
        up.crashed().await;
        up.start().await;
        let alice = up.person(&cast, "alice");
        let known = until(SOON, "the operators' list", async || up.items(&["chats", "list"]).await.pop()).await;
        let known = known["chat"].as_str().unwrap().to_owned();
        let shown = up.item(&["chats", "show", &known]).await;
        assert_eq!((&shown["importing"], &shown["members"]), (&json!(true), &json!([])), "{point}: {shown}");
        assert_eq!(alice.chats().await, Vec::<Value>::new(), "{point}");
        assert_eq!(alice.read(&known, "after=0").await.status, 404, "{point}");
        assert_eq!(alice.say(&known, "hello?", point).await.status, 404, "{point}");
        assert_eq!(*chat.get_or_insert_with(|| known.clone()), known, "{point}: the same chat each time");
        up.kill();
    }
    up.start().await;
    let chat = chat.unwrap();
    // The importer itself, somewhere in the middle.
    let far = async || up.item(&["chats", "show", &chat]).await["stored"].as_u64().unwrap();
    let before = far().await;
    let mut importer = Command::new(env!("CARGO_BIN_EXE_heliograph"));
    importer.args(import).arg("--data").arg(up.folder()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut importer = importer.spawn().unwrap();
    until(SOON, "the importer to come further", async || far().await > before).await;
    importer.kill().unwrap();
    importer.wait().unwrap();

    let done = up.item(&import).await;
    assert_eq!((&done["chat"], &done["messages"]), (&json!(chat), &json!(MESSAGES)), "{done}");
    assert!(done["imported_before"].as_u64() >= Some(before - 1), "{done}");
    let alice = up.person(&cast, "alice");
    alice.reads_all(&chat, MESSAGES, PADDING).await;
    let line = until(SOON, "the list", async || alice.chats().await.pop()).await;
    assert_eq!((&line["id"], &line["unread"]), (&json!(chat), &json!(0)), "{line}");
    up.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_imported_is_refused_with_its_line_before_anything_is_sent() {
    let mut up = Up::new();
    up.start().await;
    let good = group(3, 0);
    let (gone, _) = up.register("gone").await;
    assert!(up.text(&["user", "erase", "gone", "--yes"]).await.contains("erased"));
    let cases = [
        (String::new(), "line 1: the file is empty"),
        (good.lines().next().unwrap().to_owned(), "line 2: there is no message"),
        (good.replace("group", "club"), "line 1: unknown variant `club`"),
        (good.replace("owner", "admin"), "line 1: no member is its owner"),
        (good.replace("former", "name"), "line 1: unknown field `name`"),
        (good.replace(&format!(r#"["{}"]"#, user("carol")), "[]"), "line 4: "),
        (good.replace(&time(1), &time(9)), "line 4: `time` is earlier than in the line before"),
        (good.replace(&time(2), "2999-01-01T00:00:00Z"), "line 4: `time` lies in the future"),
        (good.replace(&text(0, 0), &"x".repeat(16 * 1024 + 1)), "line 2: a body of 16385 bytes"),
        (good.clone() + "\n\n", "line 5: empty"),
        (good.clone() + "\n{", "line 5: EOF"),
    ];
    for (text, reason) in cases {
        let file = up.file("refused", &text);
        let said = up.refused(&["chats", "import", file.to_str().unwrap()]).await;
        assert!(said.contains(reason) && said.contains("nothing was sent"), "{reason}: {said}");
    }
    // What only `up` knows.
    let file = up.file("erased", &good.replace(&user("bob").to_string(), &gone.id));
    assert!(up.refused(&["chats", "import", file.to_str().unwrap()]).await.contains("is erased: name it as `former`"));
    assert!(up.refused(&["chats", "import", "/none"]).await.contains("No such file"));
    assert_eq!(up.items(&["chats", "list"]).await, Vec::<Value>::new());
    let file = up.file("jsonl", &good);
    assert_eq!(up.item(&["chats", "import", file.to_str().unwrap()]).await["messages"], 3, "the control");
    up.stop().await;
    let file = file.to_str().unwrap().to_owned();
    assert!(up.refused(&["chats", "import", &file]).await.contains("does not run"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_imported_direct_chat_is_the_one_that_the_two_have_once_it_is_whole() {
    let mut up = Up::new();
    up.start_to_crash("ingest.appended", 2).await;
    let cast = up.cast();
    let [one, two] = ["alice", "bob"].map(|name| user(name).to_string());
    let members = json!([{ "user": one }, { "user": two }]);
    let head = json!({ "kind": "direct", "members": members, "time": "2010-01-01T00:00:00Z" });
    let file = format!("{head}\n{}", json!({ "sender": two, "time": time(0), "body": "AP8=" }));
    let file = up.file("direct", &file);
    let import = ["chats", "import", file.to_str().unwrap()];
    up.refused(&import).await;
    up.crashed().await;
    up.start().await;
    // Claimed for the two, and not there yet.
    let open = async |key: &str| {
        let body = json!({ "kind": "direct", "members": [{ "user": two }] }).to_string();
        up.person(&cast, "alice").http.ask("POST", "/v1/chats", &[("idempotency-key", key)], Some(body)).await
    };
    let refused = open("one").await;
    assert_eq!((refused.status, refused.problem()), (503, "unavailable"), "{refused:?}");
    let done = up.item(&import).await;
    let chat = done["chat"].as_str().unwrap();
    let opened = open("one").await;
    assert_eq!((opened.status, opened.text("chat"), &opened.body["seq"]), (201, chat.to_owned(), &json!(1)));
    let alice = cast.device("alice", "phone", 0);
    alice.signed_in().await;
    let opened = alice.client.create_chat(v1::ChatKind::Direct, vec![crate::cast::member("bob")]).unwrap();
    let (opened, seq, time_us) = stored(opened).await;
    assert_eq!((opened.to_string(), seq, time_us), (chat.to_owned(), 1, 1_262_304_000_000_000));
    assert_eq!(up.person(&cast, "bob").read(chat, "after=1&limit=1").await.body["entries"][0]["body"], "AP8=");

    // Two who have one get no second one.
    alice.client.create_chat(v1::ChatKind::Direct, vec![crate::cast::member("carol")]).unwrap().outcome.await.unwrap();
    let carol = user("carol").to_string();
    let text = std::fs::read_to_string(&file).unwrap().replace(&two, &carol);
    let file = up.file("second", &text);
    assert!(up.refused(&["chats", "import", file.to_str().unwrap()]).await.contains("have a direct chat already"));
    up.stop().await;
}
