//! Tokens and texts stay out of the log, and out of what is sent back.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use gateway::socket::SubProtocol;
use prost::Message as _;
use proto::v1::client_frame::Frame as Ask;
use proto::v1::{Authenticate, ClientFrame};
use store::TicketRow;
use tokens::{Ticket, TokenKeys};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use super::last_words;
use crate::sessions::client::message;
use crate::sessions::setup::{Deployment, chat, user};
use crate::sessions::signing_in::expired;
use crate::socket::peer::{RawClient, frame};

/// All that this thread logs, at every level.
#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl Captured {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

impl Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Captured {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

/// The parts of these secrets that stand in the text.
fn leaked(text: &str, secrets: &[String]) -> Vec<String> {
    // A token's parts too: its signature alone is as good a find.
    let parts = secrets.iter().flat_map(|secret| std::iter::once(secret.as_str()).chain(secret.split('.')));
    parts.filter(|part| part.len() > 20 && text.contains(part)).map(str::to_owned).collect()
}

async fn sends(client: &mut RawClient, asks: Vec<Ask>) {
    for (at, ask) in asks.into_iter().enumerate() {
        let sent = ClientFrame { id: at as u64 + 1, frame: Some(ask) };
        client.send(&frame(0x82, &sent.encode_to_vec())).await;
    }
}

fn authenticate(token: &str) -> Ask {
    Ask::Authenticate(Authenticate {
        token: token.to_owned(),
        device: "a phone with a very private name".to_owned(),
        ..Authenticate::default()
    })
}

fn row_of(ticket: &Ticket) -> TicketRow {
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    TicketRow {
        hash: ticket.hash(),
        user: user(1),
        device: "laptop".into(),
        sign_in: "".into(),
        issued_s: now_s,
        token_expires_s: now_s + 60,
        expires_us: (now_s + 30) * 1_000_000,
    }
}

#[tokio::test]
async fn x3_no_token_stands_in_the_log_or_in_an_answer() {
    let deployment = Deployment::start(SubProtocol::Proto).await;
    // This thread's, where all tasks of this test run.
    let captured = Captured::default();
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new("trace"))
        .with_writer(captured.clone())
        .with_ansi(false)
        .finish();
    let _capturing = tracing::subscriber::set_default(subscriber);

    let token = deployment.token(1);
    let foreign = TokenKeys::from_pem(&TokenKeys::generate().unwrap()).unwrap();
    let foreign = foreign.mint(user(1), Duration::from_secs(60)).unwrap();
    let expired = expired(&deployment.pem);
    let text = "the text of a message that is nobody else's business".to_owned();
    let ticket = Ticket::draw();
    deployment.store.put_ticket(row_of(&ticket)).await.unwrap();
    let ticket = ticket.text();
    let secrets = [
        token.clone(),
        foreign.clone(),
        expired.clone(),
        ticket.clone(),
        text.clone(),
        "a phone with a very private name".into(),
    ];

    let mut heads = String::new();
    let misplaced = [
        format!("GET /v1/socket?token={token} HTTP/1.1"),
        format!("GET /v1/socket/{token} HTTP/1.1"),
        format!("GET /v1/socket?ticket={ticket} HTTP/1.1"),
        format!("Sec-WebSocket-Protocol: {token}"),
        format!("Sec-WebSocket-Protocol: heliograph.v1.proto, {token}"),
        format!("Sec-WebSocket-Extensions: {token}"),
        format!("Sec-WebSocket-Key: {token}"),
        format!("Sec-WebSocket-Version: {token}"),
        format!("Origin: {token}"),
        format!("Upgrade: {token}"),
        format!("Authorization: Bearer {token}"),
        format!("Cookie: session={token}"),
        format!("X-Forwarded-For: {token}"),
        format!("{token} /v1/socket HTTP/1.1"),
    ];
    for change in &misplaced {
        heads += &RawClient::connect(deployment.address).await.asks(change).await;
    }
    for bad in [&foreign, &expired, &format!("{token}x"), &token[1..].to_owned()] {
        let mut client = RawClient::open(deployment.address).await;
        sends(&mut client, vec![authenticate(bad)]).await;
        last_words(&mut client).await;
    }
    // The ticket is good once, then not any more.
    for _ in 0..2 {
        let mut client = RawClient::open(deployment.address).await;
        let bearing = Authenticate { ticket: ticket.clone(), device: "laptop".to_owned(), ..Authenticate::default() };
        sends(&mut client, vec![Ask::Authenticate(bearing), authenticate("")]).await;
        last_words(&mut client).await;
    }
    // One that goes well, says something, and then breaks the framing: each leaves its lines.
    let mut client = RawClient::open(deployment.address).await;
    sends(&mut client, vec![authenticate(&token), message(chat(1), 1, text.clone()), authenticate(&token)]).await;
    client.send(&frame(0xc2, text.as_bytes())).await;
    last_words(&mut client).await;
    // As is a close frame, whose reason is the client's.
    let mut client = RawClient::open(deployment.address).await;
    client.send(&frame(0x88, &[&4_000_u16.to_be_bytes()[..], &token.as_bytes()[..100]].concat())).await;
    last_words(&mut client).await;

    assert!(captured.text().contains("frame refused"), "what the gateway logs at debug is seen: {}", captured.text());
    assert_eq!(leaked(&captured.text(), &secrets), Vec::<String>::new());
    assert!(heads.contains("heliograph-error: unknown_path"), "{heads}");
    let lower: Vec<_> = secrets.iter().map(|secret| secret.to_lowercase()).collect();
    assert_eq!(leaked(&heads, &lower), Vec::<String>::new());

    // Control: one careless line is found, also if it has only a part of the token.
    tracing::trace!(sent = token.rsplit('.').next().unwrap(), "careless");
    assert_eq!(leaked(&captured.text(), &secrets).len(), 1);
    deployment.stop().await;
}
