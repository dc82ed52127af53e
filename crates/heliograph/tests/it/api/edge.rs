//! What holds for every request: limits, the audit log, the page of the API, clients that do not read.

use std::time::Duration;

use futures_util::future::join_all;
use nix::sys::signal::{Signal, kill};
use serde_json::{Value, json};
use testkit::children::pause;
use testkit::wait::until;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::PASSWORD;
use super::http::{Answer, Http};
use crate::cast::SOON;
use crate::process::{Up, free_port};

const STOP_WITHIN: Duration = Duration::from_secs(30);
/// Longer than a client may take nothing of its answer, and much shorter than a connection may last.
const STUCK_FOR: Duration = Duration::from_secs(30);

/// Clients that come through a proxy on this machine: no limit is lifted for them.
async fn behind_proxy() -> Up {
    let mut up = Up::new();
    let mut command = up.command();
    command.args(["--trusted-proxy", "127.0.0.1/32"]);
    up.start_with(command).await;
    up
}

async fn ask_from(http: &Http, client: &str, method: &str, path: &str, body: Value) -> Answer {
    http.ask(method, path, &[("x-forwarded-for", client)], Some(body.to_string())).await
}

async fn sign_in_from(up: &Up, client: &str, handle: &str, password: &str) -> Answer {
    let asked = json!({ "handle": handle, "password": password, "device": "phone" });
    ask_from(&up.http(), client, "POST", "/v1/sign-ins", asked).await
}

#[tokio::test(flavor = "multi_thread")]
async fn x13_who_guesses_a_password_is_slowed_down_and_its_owner_is_not() {
    let mut up = behind_proxy().await;
    up.register("alice").await;
    up.register("bob").await;
    let guesses = (0..30).map(|_| sign_in_from(&up, "203.0.113.7", "alice", "a wrong guess"));
    for guess in join_all(guesses).await {
        assert_eq!((guess.status, guess.problem()), (401, "wrong-password"));
    }
    // However right: whoever guessed so often does not learn it.
    for handle in ["alice", "ALICE"] {
        let refused = sign_in_from(&up, "203.0.113.7", handle, PASSWORD).await;
        assert_eq!((refused.status, refused.problem()), (429, "rate-limited"), "{refused:?}");
        let wait: u64 = refused.headers["retry-after"].parse().unwrap();
        assert!((60..=120).contains(&wait), "a thirtieth of an hour: {wait}");
        let policies = &refused.headers["ratelimit-policy"];
        assert!(policies.contains("\"address\";q=") && policies.contains("\"sign-ins\";q="), "{policies}");
        assert!(!policies.contains("handle"), "how often others guessed is not told: {policies}");
    }
    assert_eq!(sign_in_from(&up, "203.0.113.8", "alice", PASSWORD).await.status, 201, "from elsewhere");
    assert_eq!(sign_in_from(&up, "203.0.113.7", "bob", PASSWORD).await.status, 201, "somebody else there");
    // A handle that nobody has counts like any other: who asks cannot tell them apart.
    let guesses = (0..31).map(|_| sign_in_from(&up, "203.0.113.9", "nobody", PASSWORD));
    let refused = join_all(guesses).await.iter().filter(|guess| guess.status == 429).count();
    assert_eq!(refused, 1);
    up.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn x13_a_bot_that_sends_fifty_messages_a_second_meets_no_limit() {
    let mut up = behind_proxy().await;
    let (bot, _) = up.register("bot").await;
    let chat = bot.group(&[]).await;
    let path = format!("/v1/chats/{chat}/messages");
    // Six seconds of it, as fast as it goes.
    for second in 0..6 {
        let sends = (0..50).map(|n| {
            let body = json!({ "text": format!("message {second} {n}") });
            let (http, path) = (bot.http.clone(), path.clone());
            async move { ask_from(&http, "203.0.113.7", "POST", &path, body).await }
        });
        for sent in join_all(sends).await {
            assert_eq!(sent.status, 201, "{sent:?}");
            let limit = &sent.headers["ratelimit"];
            assert!(limit.starts_with("\"address\";r=") && limit.contains(", \"user\";r="), "{limit}");
            assert!(sent.headers["ratelimit-policy"].ends_with("\"user\";q=2000;w=10"), "{sent:?}");
        }
    }
    up.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn x13_each_password_that_is_looked_at_counts_for_its_address() {
    let mut up = behind_proxy().await;
    let (alice, _) = up.register("alice").await;
    let change = json!({ "current": "not the password", "new": "another good password" });
    let delete = json!({ "password": "not the password" });
    for (method, path, body) in [("PUT", "/v1/me/password", change), ("DELETE", "/v1/me", delete)] {
        let answer = ask_from(&alice.http, "203.0.113.7", method, path, body).await;
        assert_eq!(answer.problem(), "wrong-password");
        let policies = &answer.headers["ratelimit-policy"];
        assert!(policies.contains("\"sign-ins\";q="), "{path}: {policies}");
    }
    up.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn x24_who_did_what_is_kept_apart_and_no_log_has_a_secret() {
    let mut up = Up::new();
    let mut command = up.command();
    command.args(["--trusted-proxy", "127.0.0.1/32", "--log", "info,api=debug,tokens=debug,store=debug"]);
    up.start_with(command).await;
    let (alice, registered) = up.register("alice").await;
    let (bob, bobs) = up.register("bob").await;
    let taken = json!({ "handle": "alice", "password": PASSWORD, "device": "x" });
    assert_eq!(up.http().post("/v1/accounts", taken).await.status, 409);
    let forged = "alice\n{\"at\":\"2026-01-01T00:00:00Z\",\"action\":\"admin\",\"outcome\":\"ok\",\"user\":\"forged\"}";
    let wrong_password = "a wrong password of alice";
    // Typed into the wrong fields: where a handle is asked for, and a device.
    let (misplaced, other) = ("hunter2.is.mine", "a password for a device");
    assert_eq!(sign_in_from(&up, "203.0.113.7", misplaced, "alice").await.status, 401);
    let taken = json!({ "handle": "alice", "password": PASSWORD, "device": misplaced });
    assert_eq!(up.http().post("/v1/accounts", taken).await.status, 409);
    let swapped = json!({ "handle": "Alice", "password": "phone", "device": other });
    assert_eq!(ask_from(&up.http(), "203.0.113.7", "POST", "/v1/sign-ins", swapped).await.status, 401);
    assert_eq!(sign_in_from(&up, "203.0.113.7", forged, wrong_password).await.status, 401);
    let signed_in = sign_in_from(&up, "203.0.113.7", "alice", PASSWORD).await;
    let with = |answer: &Answer| Http { token: Some(answer.text("access_token")), ..up.http() };
    let refresh = async |token: &str| up.http().post("/v1/sign-ins/refresh", json!({ "refresh_token": token })).await;
    let family = signed_in.text("refresh_token")[..22].to_owned();
    let stolen = format!("{family}{}", &registered.text("refresh_token")[22..]);
    assert_eq!(refresh(&stolen).await.problem(), "refresh-refused");
    let chat = alice.group(&[]).await;
    let members = format!("/v1/chats/{chat}/members");
    let named =
        alice.http.ask("POST", &members, &[("x-request-id", "add-bob")], Some(json!({ "user": bob.id }).to_string()));
    assert_eq!(named.await.status, 201);
    assert_eq!(alice.http.delete(&format!("{members}/{}", bob.id)).await.status, 201);
    let secret = "what alice says to nobody else";
    assert_eq!(alice.say(&chat, secret, "k").await.status, 201);
    assert_eq!(with(&bobs).delete("/v1/sign-ins/current").await.status, 204);
    let invites = format!("/v1/chats/{chat}/invites");
    let invite = alice.http.post(&invites, json!({})).await;
    assert_eq!(alice.http.delete(&format!("{invites}/{}", invite.text("id"))).await.status, 204);
    let change = json!({ "current": PASSWORD, "new": "another good password" }).to_string();
    assert_eq!(alice.http.ask("PUT", "/v1/me/password", &[], Some(change)).await.status, 204);
    let again = loop {
        // Revocations name seconds: what is issued in the same one is covered too.
        let again = sign_in_from(&up, "203.0.113.7", "alice", "another good password").await;
        if with(&again).get("/v1/me").await.status == 200 {
            break again;
        }
    };
    assert_eq!(with(&again).delete("/v1/sign-ins").await.status, 204);
    let mut running = up.running.take().unwrap();
    assert!(running.stop(STOP_WITHIN).await.unwrap().success(), "{}", running.tail());

    let audit = std::fs::read_to_string(up.folder().join("audit.log")).unwrap();
    let lines: Vec<Value> = audit.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let found = |action: &str, outcome: &str| {
        let found = lines.iter().find(|line| line["action"] == action && line["outcome"] == outcome);
        found.unwrap_or_else(|| panic!("no {action} {outcome} in {audit}"))
    };
    for (action, outcome, user) in [
        ("register", "ok", json!(alice.id)),
        ("register", "refused", Value::Null),
        ("sign_in", "ok", json!(alice.id)),
        ("sign_in", "refused", Value::Null),
        ("refresh_reuse", "refused", json!(alice.id)),
        ("chat_create", "ok", json!(alice.id)),
        ("member_add", "ok", json!(alice.id)),
        ("invite_create", "ok", json!(alice.id)),
        ("invite_revoke", "ok", json!(alice.id)),
        ("member_remove", "ok", json!(alice.id)),
        ("sign_out", "ok", json!(bob.id)),
        ("password_change", "ok", json!(alice.id)),
        ("sign_out_everywhere", "ok", json!(alice.id)),
    ] {
        let line = found(action, outcome);
        assert_eq!(line["user"], user, "{line}");
        assert!(line["at"].is_string() && line["request_id"].is_string() && line["address"].is_string(), "{line}");
    }
    let added = found("member_add", "ok");
    let who = ["chat", "subject", "request_id", "address"].map(|field| added[field].as_str().unwrap());
    assert_eq!(who, [&*chat, &*bob.id, "add-bob", "127.0.0.1"]);
    let refused = found("sign_in", "refused");
    assert_eq!((&refused["address"], &refused["detail"]), (&json!("203.0.113.7"), &json!("wrong-password")));
    assert!(refused.get("handle").is_none() && refused.get("device").is_none(), "{refused}");
    let of_alice = lines.iter().filter(|line| line["action"] == "sign_in" && line["handle"] == "alice");
    let outcomes: Vec<_> = of_alice.map(|line| line["outcome"].as_str().unwrap()).collect();
    assert_eq!(outcomes[..2], ["refused", "ok"], "whose account it was stands there");
    assert_eq!(
        (&found("register", "ok")["handle"], &found("sign_in", "ok")["device"]),
        (&json!("alice"), &json!("phone"))
    );
    assert!(lines.iter().all(|line| line["action"] != "admin"), "a forged line: {audit}");

    let ordinary = running.lines().join("\n");
    let answers = [&registered, &bobs, &signed_in, &again];
    let tokens = answers.iter().flat_map(|answer| [answer.text("access_token"), answer.text("refresh_token")]);
    let words =
        [PASSWORD, wrong_password, "another good password", secret, &stolen, misplaced, other].map(str::to_owned);
    for secret in words.into_iter().chain(tokens) {
        assert!(!audit.contains(&secret) && !ordinary.contains(&secret), "a log has {secret}");
        // Nor a part that would do.
        let half = &secret[secret.len() / 2..];
        assert!(!audit.contains(half) && !ordinary.contains(half), "a log has {half}");
    }
    assert!(ordinary.contains("a spent refresh token was used"), "the control: this is the log");
    assert!(ordinary.contains("request.id="), "its lines name their requests");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_audit_log_is_where_it_was_asked_for_or_nowhere() {
    let mut up = Up::new();
    let elsewhere = up.folder().join("elsewhere.log");
    let mut command = up.command();
    command.arg("--audit-log").arg(&elsewhere);
    up.start_with(command).await;
    up.register("alice").await;
    // Nothing is lost with the process that was handed to the system: the writer is a thread, so it takes a moment.
    until(SOON, "a line", async || std::fs::read_to_string(&elsewhere).unwrap().contains("\"register\"")).await;
    up.kill();
    assert!(std::fs::read_to_string(&elsewhere).unwrap().ends_with("}\n"));
    let mut command = up.command();
    command.args(["--audit-log", "off"]);
    up.start_with(command).await;
    up.register("bob").await;
    up.stop().await;
    assert_eq!(std::fs::read_to_string(&elsewhere).unwrap().lines().count(), 1);
    assert!(!up.folder().join("audit.log").exists() && !up.folder().join("off").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_of_the_api_has_each_operation_and_needs_nothing_from_elsewhere() {
    let mut up = Up::new();
    up.start().await;
    let page = up.http().get("/docs").await;
    assert_eq!((page.status, &*page.headers["content-type"]), (200, "text/html; charset=utf-8"));
    let html = page.body.as_str().unwrap();
    let description = up.http().get("/v1/openapi.json").await.body;
    let mut operations = 0;
    for (path, item) in description["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            assert!(
                html.contains(&format!("<span class=method>{method}</span> {path}</code></h2>")),
                "{method} {path}"
            );
            assert!(html.contains(operation["summary"].as_str().unwrap()), "{method} {path}");
            operations += 1;
        }
    }
    assert!(operations > 15, "{operations}");
    for name in description["components"]["schemas"].as_object().unwrap().keys() {
        assert!(html.contains(&format!("<h3>{name}</h3>")), "{name}");
    }
    for elsewhere in ["http://", "https://", "src=", "<script", "@import", "url("] {
        assert!(!html.contains(elsewhere), "{elsewhere}");
    }
    assert!(page.headers["content-security-policy"].starts_with("default-src 'none'"));
    up.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn x25_a_broker_that_does_not_answer_is_a_problem_that_says_nothing_of_it() {
    let mut up = Up::new();
    up.start().await;
    let (alice, _) = up.register("alice").await;
    let broker = up.broker().expect("a broker");
    pause(broker).unwrap();
    let refused = alice.http.delete("/v1/sign-ins").await;
    kill(broker, Signal::SIGCONT).unwrap();
    assert_eq!((refused.status, refused.problem()), (503, "unavailable"), "{refused:?}");
    assert_eq!(refused.headers["retry-after"], "1");
    assert_eq!(refused.text("request_id"), refused.headers["x-request-id"]);
    let text = refused.body.to_string().to_lowercase();
    for word in ["nats", "broker", "control", "timed out", "127.0.0.1", ".rs"] {
        assert!(!text.contains(word), "{text}");
    }
    // The same request again is carried out.
    until(SOON, "the end of all sign-ins", async || alice.http.delete("/v1/sign-ins").await.status != 503).await;
    assert_eq!(alice.http.get("/v1/me").await.status, 401);
    // Every role has warned meanwhile, as it should: that is not judged here.
    let mut running = up.running.take().unwrap();
    assert!(running.stop(STOP_WITHIN).await.unwrap().success(), "{}", running.tail());
}

#[tokio::test(flavor = "multi_thread")]
async fn x17_a_client_that_does_not_read_its_answers_is_dropped() {
    let mut up = Up::new();
    let admin = format!("127.0.0.1:{}", free_port());
    let mut command = up.command();
    command.args(["--admin", &admin]);
    up.start_with(command).await;
    let mut stuck = TcpStream::connect(up.http().address).await.unwrap();
    // More answers than all buffers on the way hold; what it sends itself is taken or not.
    let requests = "GET /v1/openapi.json HTTP/1.1\r\nhost: x\r\n\r\n".repeat(2_000);
    let sending = tokio::spawn(async move {
        let _ = stuck.write_all(requests.as_bytes()).await;
        stuck
    });
    let metrics = Http { address: admin, token: None };
    until(STUCK_FOR, "the connection's end", async || {
        let metrics = metrics.get("/metrics").await.body;
        metrics.as_str().unwrap().lines().any(|line| line == "api_connections_dropped_total 1")
    })
    .await;
    assert_eq!(up.http().get("/docs").await.status, 200, "others are answered");
    sending.abort();
    up.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn x14_a_head_is_read_up_to_its_bound_and_no_further() {
    let mut up = Up::new();
    up.start().await;
    for (bytes, status) in [(8 * 1024, "HTTP/1.1 200"), (64 * 1024, "HTTP/1.1 431")] {
        let mut stream = TcpStream::connect(up.http().address).await.unwrap();
        let head =
            format!("GET /docs HTTP/1.1\r\nhost: x\r\nconnection: close\r\nx-long: {}\r\n\r\n", "x".repeat(bytes));
        // What comes behind the bound may find the connection closed.
        let _ = stream.write_all(head.as_bytes()).await;
        let mut answer = vec![0; status.len()];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(String::from_utf8(answer).unwrap(), status, "{bytes}");
    }
    up.stop().await;
}
