//! Before it is signed in, a socket has little time, little room and one frame.

use std::time::Duration;

use gateway::socket::frame_guard::{FrameGuard, Limits};
use gateway::socket::{CloseCode, Config, SubProtocol};
use proto::v1::ErrorCode;
use tokio::time::timeout;

use super::{address, last_words, limited};
use crate::sessions::client::message;
use crate::sessions::setup::{Deployment, chat};
use crate::socket::peer::{Behaviour, Gateway, RawClient, frame, within};

/// The close code of a client that never signs in; none if it is still welcome after a second.
async fn waits(authenticate_timeout_ms: u64) -> Option<u16> {
    let deployment = Deployment::start_with(SubProtocol::Proto, |config, _| {
        config.socket.authenticate_timeout_ms = authenticate_timeout_ms
    })
    .await;
    let mut client = deployment.connect().await;
    let closed = timeout(Duration::from_secs(1), client.closed()).await.ok().map(|(_errors, code)| code);
    deployment.stop().await;
    closed
}

#[tokio::test]
async fn x4_a_socket_that_does_not_sign_in_is_closed_in_time() {
    let defaults = Config::default();
    assert!(defaults.authenticate_timeout_ms <= 10_000);
    assert_eq!(waits(200).await, Some(4401));
    assert_eq!(waits(60_000).await, None, "control: with a minute it stays");
}

/// How a first message of this length is answered.
async fn first_message(bytes: usize, max_unauthenticated_message_bytes: u32) -> u16 {
    let deployment = Deployment::start_with(SubProtocol::Proto, |config, _| {
        config.socket.max_unauthenticated_message_bytes = max_unauthenticated_message_bytes;
    })
    .await;
    let mut client = RawClient::open(deployment.address).await;
    client.send(&frame(0x82, &vec![0xff; bytes])).await;
    let (_errors, code) = last_words(&mut client).await;
    deployment.stop().await;
    code
}

#[tokio::test]
async fn x4_a_first_message_over_four_kib_is_refused_unread() {
    let limit = Config::default().max_unauthenticated_message_bytes;
    assert_eq!(limit, 4_096);
    assert_eq!(first_message(4_097, limit).await, CloseCode::TooBig.number());
    assert_eq!(first_message(4_096, limit).await, CloseCode::BadFrame.number(), "read, and found to be nothing");
    assert_eq!(first_message(4_097, 65_536).await, CloseCode::BadFrame.number(), "control: read with a larger limit");
}

/// Most bytes held for a client that sends its message in the pieces that cost most.
fn most_held(limit: u32) -> usize {
    let mut guard = FrameGuard::new(Limits { message_bytes: limit, fragments: 128 });
    let mut most = 0;
    let mut feed = |bytes: &[u8]| {
        let mut input = bytes;
        let fed = guard.next(&mut input);
        most = most.max(guard.held_bytes());
        fed.is_ok()
    };
    // A message in progress, and a fragment of it in flight: both at their longest.
    let half = limit as usize / 2;
    assert!(feed(&frame(0x02, &vec![7; half])));
    let last = frame(0x80, &vec![7; half]);
    for byte in &last[..last.len() - 1] {
        assert!(feed(&[*byte]));
    }
    most
}

#[test]
fn x4_nobody_makes_us_hold_more_than_16_kib_before_signing_in() {
    assert!(most_held(4_096) <= 16 << 10, "{}", most_held(4_096));
    assert!(most_held(65_536) > 16 << 10, "control: with the limit of signed-in clients");
}

#[tokio::test]
async fn x4_one_frame_and_no_more_is_looked_at_before_signing_in() {
    let deployment = Deployment::start(SubProtocol::Proto).await;
    let mut eager = deployment.connect().await;
    eager.ask(message(chat(1), 1, "first")).await;
    eager.ask(message(chat(1), 2, "second")).await;
    let refused = (vec![ErrorCode::NotAuthenticatedYet], CloseCode::Unauthenticated.number());
    assert_eq!(eager.closed().await, refused, "one error for two frames");
    assert_eq!(deployment.ingest().await.last().await, 0);
    // Control: signed in, both are taken.
    let mut client = deployment.client(1).await;
    for n in 1..=2 {
        let id = client.ask(message(chat(1), n, "hello")).await;
        assert_eq!(client.reply(id).await, None);
    }
    deployment.stop().await;
}

/// How many of so many silent clients, each of another address, have a socket in the end.
async fn silent_sockets(count: usize, max_unauthenticated: usize) -> usize {
    let settings = Config { max_unauthenticated, ..limited(|_| {}) };
    let gateway = Gateway::start(settings, Behaviour::Authenticate);
    let (mut open, mut kept) = (0, Vec::new());
    for number in 0..count {
        let mut client = RawClient::connect_from(address(number), gateway.address).await;
        assert!(client.asks("").await.starts_with("http/1.1 101 "));
        // A pong shows that it is open; else there is a close frame.
        client.send(&frame(0x89, b"?")).await;
        let answer = client.frame().await.unwrap();
        match answer.opcode {
            10 => open += 1,
            8 => assert_eq!(answer.payload[..2], CloseCode::Overloaded.number().to_be_bytes()),
            other => panic!("{other}"),
        }
        kept.push(client);
    }
    open
}

#[tokio::test]
async fn x4_sockets_that_are_not_signed_in_are_bounded_in_all() {
    assert_eq!(silent_sockets(12, 8).await, 8);
    assert_eq!(silent_sockets(12, 8_192).await, 12, "control: with room for all");
}

#[tokio::test]
async fn x4_silent_sockets_give_way_to_those_that_come_to_sign_in() {
    let deployment =
        Deployment::start_with(SubProtocol::Proto, |config, _| config.socket.max_unauthenticated = 4).await;
    let mut silent = Vec::new();
    for _ in 0..4 {
        silent.push(RawClient::open(deployment.address).await);
    }
    // Refused only while those before have had no time yet.
    let newcomer = within(async {
        loop {
            let mut client = RawClient::open(deployment.address).await;
            let hello = client.frame().await.unwrap();
            if hello.opcode == 2 {
                break client;
            }
            assert_eq!(hello.payload[..2], CloseCode::Overloaded.number().to_be_bytes());
        }
    })
    .await;
    assert_eq!(last_words(&mut silent[0]).await.1, CloseCode::Overloaded.number(), "the oldest gave way");
    drop(newcomer);
    deployment.stop().await;
}
