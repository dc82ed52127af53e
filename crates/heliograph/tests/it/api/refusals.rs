//! What the API refuses, each with its problem.

use std::time::Duration;

use serde_json::{Value, json};
use tokens::TokenKeys;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::PASSWORD;
use super::http::Http;
use crate::process::Up;

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_not_what_the_description_says_is_refused() {
    let mut up = Up::new();
    up.start().await;
    let (alice, _) = up.register("alice").await;
    let chat = alice.group(&[]).await;
    let account = |handle: &str, password: &str, device: &str| json!({ "handle": handle, "password": password, "device": device });
    let messages = format!("/v1/chats/{chat}/messages");
    let bad = [
        ("/v1/accounts", account("al", PASSWORD, "x")),
        ("/v1/accounts", account("bob", "short", "x")),
        ("/v1/accounts", account("bob", PASSWORD, "")),
        ("/v1/accounts", json!({ "handle": "bob", "password": PASSWORD, "device": "x", "admin": true })),
        ("/v1/accounts", json!({ "handle": "bob" })),
        ("/v1/accounts", json!([])),
        ("/v1/sign-ins", json!({ "handle": "alice", "password": 7, "device": "x" })),
        ("/v1/chats", json!({ "kind": "circle", "members": [] })),
        ("/v1/chats", json!({ "kind": "direct", "members": [] })),
        ("/v1/chats", json!({ "kind": "direct", "members": [{ "user": alice.id }] })),
        ("/v1/chats", json!({ "kind": "group", "members": [{ "user": "bob" }] })),
        (&*messages, json!({})),
        (&*messages, json!({ "text": "x", "body": "eA==" })),
        (&*messages, json!({ "body": "no base64!" })),
    ];
    for (path, body) in bad {
        let answer = alice.http.post(path, body.clone()).await;
        assert_eq!((answer.status, answer.problem()), (400, "bad-request"), "{path} {body}: {answer:?}");
    }
    for query in ["limit=0", "limit=257", "limit=x", "after=-1", "who=me"] {
        let answer = alice.read(&chat, query).await;
        assert_eq!((answer.status, answer.problem()), (400, "bad-request"), "{query}");
    }
    for path in ["/v1/chats?limit=1001", "/v1/chats?cursor=x", "/v1/users?prefix=", "/v1/users"] {
        assert_eq!(alice.http.get(path).await.problem(), "bad-request", "{path}");
    }
    let long = alice.http.post(&messages, json!({ "text": "x".repeat((16 << 10) + 1) })).await;
    assert_eq!((long.status, long.problem()), (413, "too-large"));
    let longer = alice.http.post(&messages, json!({ "text": "x".repeat(70 << 10) })).await;
    assert_eq!((longer.status, longer.problem()), (413, "too-large"));
    let keyed = alice.say(&chat, "x", &"k".repeat(256)).await;
    assert_eq!((keyed.status, keyed.problem()), (400, "bad-request"));
    let text = alice.http.ask("POST", &messages, &[("content-type", "text/plain")], Some("{}".to_owned())).await;
    assert_eq!((text.status, text.problem()), (415, "unsupported-media-type"));
    assert_eq!(alice.http.get("/v1/nothing").await.problem(), "not-found");
    assert_eq!(alice.http.get("/v1/sign-ins/refresh").await.problem(), "method-not-allowed");
    up.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_brings_no_good_token_gets_nowhere() {
    let mut up = Up::new();
    up.start().await;
    let (alice, registered) = up.register("alice").await;
    let description = up.http().get("/v1/openapi.json").await.body;
    let good = registered.text("access_token");
    let foreign = TokenKeys::from_pem(&TokenKeys::generate().unwrap()).unwrap();
    let user = alice.id.parse().unwrap();
    let foreign = foreign.mint(user, Duration::from_secs(60)).unwrap();
    let schemes = [
        None,
        Some(format!("Bearer {foreign}")),
        Some(format!("Basic {good}")),
        Some(good.clone()),
        Some("Bearer ".to_owned()),
        Some(format!("Bearer {}", registered.text("refresh_token"))),
    ];
    let mut asked = 0;
    for (path, operations) in description["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            if operation.get("security").is_none() {
                continue;
            }
            let path = path.replace("{chat}", "01a21c4d-9672-7000-bbd3-ddbd7e23deee").replace("{user}", &alice.id);
            let path = path
                .replace("{device}", "laptop")
                .replace("{seq}", "1")
                .replace("{key}", "k")
                .replace("{code}", "c")
                .replace("{invite}", "i");
            for scheme in &schemes {
                let headers: Vec<_> = scheme.iter().map(|scheme| ("authorization", &**scheme)).collect();
                let body = matches!(&**method, "post" | "put" | "patch").then(|| "{}".to_owned());
                let answer = up.http().ask(&method.to_uppercase(), &path, &headers, body).await;
                assert_eq!((answer.status, answer.problem()), (401, "unauthenticated"), "{method} {path}");
                assert_eq!(answer.headers["www-authenticate"], "Bearer");
                asked += 1;
            }
        }
    }
    assert!(asked >= 11 * schemes.len(), "{asked}");
    assert_eq!(Http { token: Some(good), ..up.http() }.get("/v1/me").await.status, 200, "the control");
    up.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn x25_no_refusal_tells_what_is_behind_it() {
    let mut up = Up::new();
    up.start().await;
    let (alice, _) = up.register("alice").await;
    let secret = "hunter22 of nobody";
    let answers = [
        up.http().post("/v1/sign-ins", json!({ "handle": "alice", "password": secret, "device": "x" })).await,
        alice.http.get("/v1/users/../../etc/passwd").await,
        alice.http.ask("POST", "/v1/chats", &[], Some("{".to_owned())).await,
        alice.http.get("/v1/chats/%00").await,
    ];
    for answer in answers {
        assert!((400..500).contains(&answer.status), "{answer:?}");
        let text = answer.body.to_string();
        for word in [secret, "panicked", "src/", ".rs", "argon2", "/root", "fjall"] {
            assert!(!text.contains(word), "{text}");
        }
        assert!(matches!(answer.body, Value::Object(_)), "{answer:?}");
    }
    up.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_whose_head_does_not_end_is_cut_off() {
    let mut up = Up::new();
    up.start().await;
    let mut stream = TcpStream::connect(up.http().address).await.unwrap();
    stream.write_all(b"GET /v1/me HTTP/1.1\r\nhost: x\r\n").await.unwrap();
    let mut answer = Vec::new();
    let ended = tokio::time::timeout(Duration::from_secs(15), stream.read_to_end(&mut answer)).await;
    assert!(ended.is_ok(), "it is still held");
    up.stop().await;
}
