//! Tokens of another issuer at a whole `heliograph up`: over HTTP and at a socket, through a rotation and a revocation.

use std::net::SocketAddr;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;
use testkit::Running;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::api::Person;
use crate::api::accounts::is_revoked;
use crate::api::http::Http;
use crate::cast::SOON;
use crate::process::{Up, free_port};
use crate::protocol_page::{Speaker, in_base64};

const ISSUER: &str = "https://id.example/";
const UNAUTHENTICATED: u16 = 4501;
const REVOKED: u16 = 4505;
const INTERNAL_ERROR: u16 = 1011;

/// An issuer: its keys, and the server that gives their public halves.
struct Issuer {
    address: SocketAddr,
    published: Arc<Mutex<String>>,
}

struct Key {
    kid: &'static str,
    pair: Ed25519KeyPair,
}

impl Key {
    fn new(kid: &'static str) -> Self {
        Self { kid, pair: Ed25519KeyPair::generate().unwrap() }
    }

    fn token(&self, subject: &str) -> String {
        let part = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let now_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let header = part(json!({ "alg": "EdDSA", "typ": "JWT", "kid": self.kid }));
        let claims = json!({ "iss": ISSUER, "aud": "chat", "sub": subject, "iat": now_s, "exp": now_s + 600 });
        let signed = format!("{header}.{}", part(claims));
        let signature = URL_SAFE_NO_PAD.encode(self.pair.sign(signed.as_bytes()));
        format!("{signed}.{signature}")
    }
}

impl Issuer {
    async fn start(keys: &[&Key]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, published) = (listener.local_addr().unwrap(), Arc::new(Mutex::new(String::new())));
        let issuer = Self { address, published: Arc::clone(&published) };
        issuer.publish(keys);
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await.unwrap());
                }
                let body = published.lock().unwrap().clone();
                let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        issuer
    }

    fn publish(&self, keys: &[&Key]) {
        let public = |key: &&Key| {
            let x = URL_SAFE_NO_PAD.encode(key.pair.public_key());
            json!({ "kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": key.kid, "x": x })
        };
        let keys: Vec<_> = keys.iter().map(public).collect();
        *self.published.lock().unwrap() = json!({ "keys": keys }).to_string();
    }

    fn command(&self, up: &Up) -> Command {
        let file = up.folder().join("issuers.toml");
        let text = format!(
            "[[issuer]]\nissuer = \"{ISSUER}\"\njwks_url = \"http://{}/keys\"\naudience = \"chat\"\nalgorithms = [\"EdDSA\"]\n",
            self.address
        );
        std::fs::write(&file, text).unwrap();
        let mut command = up.command();
        command.arg("--external-issuers").arg(file);
        command
    }
}

async fn authenticate(speaker: &mut Speaker, token: &str) {
    speaker.say(json!({ "id": "1", "authenticate": { "token": token, "device": "phone" } }).to_string()).await;
}

/// The code that a socket is closed with that comes with the token.
async fn refused(url: &str, token: &str) -> u16 {
    let mut speaker = Speaker::connect(url).await;
    authenticate(&mut speaker, token).await;
    speaker.closed().await
}

#[tokio::test(flavor = "multi_thread")]
async fn x10_a_token_of_another_issuer_sends_over_http_and_opens_a_socket_through_a_rotation() {
    let (old, new) = (Key::new("old"), Key::new("new"));
    let issuer = Issuer::start(&[&old]).await;
    let mut up = Up::new();
    up.start_with(issuer.command(&up)).await;
    let url = format!("ws://{}/v1/socket", up.listen);
    let (alice, _) = up.register("alice").await;
    let id = issuers::user_id(ISSUER, "user-42").to_string();
    let other = |token: String| Person { id: id.clone(), http: Http { token: Some(token), ..up.http() } };
    let before = other(old.token("user-42"));
    let chat = before.group(&[&alice]).await;
    assert_eq!(before.say(&chat, "from elsewhere", "1").await.status, 201);
    assert_eq!(alice.read(&chat, "after=1").await.body["entries"][0]["sender"], id.as_str());
    assert_eq!(before.http.get("/v1/me").await.problem(), "not-found", "there is no account");
    let mut socket = Speaker::connect(&url).await;
    authenticate(&mut socket, &old.token("user-42")).await;
    let user = in_base64(id.parse::<uuid::Uuid>().unwrap().into_bytes());
    socket.hear(&json!({ "welcome": { "user": user } })).await;

    // A key that is not published signs for nobody; the next one is found when its first token comes, to a live socket.
    issuer.publish(&[&new, &old]);
    authenticate(&mut socket, &new.token("user-42")).await;
    socket.hear(&json!({ "renewed": {} })).await;
    let after = other(new.token("user-42"));
    assert_eq!(after.say(&chat, "by the new key", "2").await.status, 201);
    assert_eq!(before.say(&chat, "by the old key", "3").await.status, 201);
    let forged = Key::new("new").token("user-42");
    assert_eq!(refused(&url, &forged).await, UNAUTHENTICATED);
    assert_eq!(other(forged).http.get("/v1/chats").await.problem(), "unauthenticated");
    // Somebody else's token is none for this socket.
    let mut stranger = Speaker::connect(&url).await;
    authenticate(&mut stranger, &new.token("user-43")).await;
    stranger.hear(&json!({ "welcome": {} })).await;
    authenticate(&mut stranger, &new.token("user-42")).await;
    assert_eq!(stranger.closed().await, UNAUTHENTICATED);

    let mut revoke = Command::new(env!("CARGO_BIN_EXE_heliograph"));
    revoke.args(["revoke", "--issuer", ISSUER, "--subject", "user-42", "--data"]).arg(up.folder());
    let said = revoke.output().unwrap();
    assert!(said.status.success() && String::from_utf8_lossy(&said.stdout).contains(&id), "{said:?}");
    assert_eq!(socket.closed().await, REVOKED);
    assert_eq!(refused(&url, after.http.token.as_ref().unwrap()).await, REVOKED);
    is_revoked(&after.http).await;
    up.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn x10_an_issuer_out_of_reach_lets_nobody_in_and_disturbs_nobody_else() {
    let issuer = Issuer { address: ([127, 0, 0, 1], free_port()).into(), published: Arc::default() };
    let mut up = Up::new();
    up.start_with(issuer.command(&up)).await;
    let url = format!("ws://{}/v1/socket", up.listen);
    let token = Key::new("unknown").token("user-42");
    let other = Http { token: Some(token.clone()), ..up.http() };
    let answer = other.get("/v1/chats").await;
    assert_eq!((answer.status, answer.problem()), (503, "unavailable"), "it may be good");
    assert_eq!(refused(&url, &token).await, INTERNAL_ERROR);
    let own = up.somebody().http.token.unwrap();
    let mut socket = Speaker::connect(&url).await;
    authenticate(&mut socket, &own).await;
    socket.hear(&json!({ "welcome": {} })).await;
    authenticate(&mut socket, &token).await;
    socket.hear(&json!({ "error": {} })).await;
    authenticate(&mut socket, &own).await;
    socket.hear(&json!({ "renewed": {} })).await;
    up.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn x10_a_file_of_issuers_that_cannot_work_ends_the_start() {
    let issuer = Issuer::start(&[]).await;
    let up = Up::new();
    let command = issuer.command(&up);
    let file = up.folder().join("issuers.toml");
    let text = std::fs::read_to_string(&file).unwrap().replace(ISSUER, tokens::ISSUER);
    std::fs::write(&file, text).unwrap();
    let mut running = Running::start("heliograph up", command).unwrap();
    assert!(!running.wait_for_end(SOON).await.unwrap().success());
    running.wait_for_line(SOON, "the name of this deployment's own tokens").await.unwrap();
}
