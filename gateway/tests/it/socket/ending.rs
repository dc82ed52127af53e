//! The end of a socket: heartbeat, deadlines, the close handshake and shutdown.

use std::time::Duration;

use bytes::Bytes;
use gateway::socket::{Acceptor, Class, CloseCode, Closed, Config, Error, PeerClose, PushError};
use tokio::time::{Instant, timeout};

use super::peer::{Behaviour, DEADLINE, Gateway, RawClient, close, config, frame, within};

fn fast_heartbeat() -> Config {
    Config { heartbeat_interval_ms: 50, heartbeat_timeout_ms: 200, ..config() }
}

#[tokio::test]
async fn a_client_that_answers_no_ping_is_closed() {
    let mut gateway = Gateway::start(fast_heartbeat(), Behaviour::Trust);
    let started = Instant::now();
    let (mut client, mut opened) = gateway.open().await;
    let ping = client.frame().await.unwrap();
    assert_eq!((ping.opcode, ping.payload.len()), (9, 0));
    assert_eq!(client.close_code().await, CloseCode::HeartbeatTimeout.number());
    assert!(started.elapsed() >= Duration::from_millis(200));
    assert_eq!(opened.closed().await, Closed::ByServer(CloseCode::HeartbeatTimeout));
}

#[tokio::test]
async fn a_client_that_answers_pings_stays() {
    let mut gateway = Gateway::start(fast_heartbeat(), Behaviour::Trust);
    let (mut client, opened) = gateway.open().await;
    let started = Instant::now();
    while started.elapsed() < Duration::from_millis(800) {
        assert_eq!(client.frame().await.unwrap().opcode, 9);
        client.send(&frame(0x8a, b"")).await;
    }
    assert_eq!(opened.outbound.closed(), None);
}

#[tokio::test]
async fn a_socket_that_is_not_authenticated_in_time_is_closed() {
    let settings = Config { authenticate_timeout_ms: 150, heartbeat_timeout_ms: 60_000, ..config() };
    let mut gateway = Gateway::start(Config { heartbeat_interval_ms: 1_000, ..settings }, Behaviour::Authenticate);
    let (mut silent, _opened) = gateway.open().await;
    let (mut welcome, mut welcome_opened) = gateway.open().await;
    welcome.send(&frame(0x82, b"authenticate")).await;
    welcome_opened.message().await;
    assert_eq!(silent.close_code().await, 4401);
    welcome.send(&frame(0x82, b"still here")).await;
    assert_eq!(welcome_opened.message().await.payload, "still here");
}

#[tokio::test]
async fn a_peers_close_is_answered_with_its_code() {
    let mut gateway = Gateway::start(config(), Behaviour::Trust);
    let (mut client, mut opened) = gateway.open().await;
    client.send(&[frame(0x88, b"\x0f\xa7done"), frame(0x82, b"late")].concat()).await;
    let closed = Closed::ByPeer(PeerClose { code: Some(4_007), reason: "done".into() });
    assert_eq!(opened.closed().await, closed);
    assert_eq!(client.close_code().await, 4_007);

    let (mut client, mut opened) = gateway.open().await;
    client.send(&frame(0x88, b"")).await;
    assert_eq!(opened.closed().await, Closed::ByPeer(PeerClose::default()));
    let answer = client.frame().await.unwrap();
    assert_eq!((answer.opcode, answer.payload.len()), (8, 0));
    assert_eq!(client.frame().await, None);
}

#[tokio::test]
async fn a_close_comes_after_what_was_pushed_and_only_the_first_counts() {
    let mut gateway = Gateway::start(config(), Behaviour::Trust);
    let (mut client, mut opened) = gateway.open().await;
    opened.outbound.push(Bytes::from_static(b"last words"), Class::Ordinary).unwrap();
    opened.outbound.close(CloseCode::Replaced);
    opened.outbound.close(CloseCode::Slow);
    let refused = opened.outbound.push(Bytes::from_static(b"too late"), Class::Ordinary);
    assert_eq!(refused, Err(PushError::Closed));
    assert_eq!(client.frame().await.unwrap().payload, "last words");
    let frame = client.frame().await.unwrap();
    assert_eq!((frame.opcode, &frame.payload[2..]), (8, &b"replaced"[..]));
    client.send(&close(4_504)).await;
    client.end().await;
    assert_eq!(opened.closed().await, Closed::ByServer(CloseCode::Replaced));
}

#[tokio::test]
async fn a_client_that_never_answers_a_close_is_dropped_after_the_close_timeout() {
    let mut gateway = Gateway::start(Config { close_timeout_ms: 150, ..config() }, Behaviour::Trust);
    let (mut client, opened) = gateway.open().await;
    let started = Instant::now();
    opened.outbound.close(CloseCode::Resync);
    assert_eq!(client.frame().await.unwrap().opcode, 8);
    client.end().await;
    assert!(started.elapsed() >= Duration::from_millis(150));
}

#[tokio::test]
async fn a_handler_that_ends_closes_its_socket() {
    for (behaviour, code) in [(Behaviour::Leave, 1000), (Behaviour::Panic, 1011)] {
        let gateway = Gateway::start(config(), behaviour);
        let mut client = RawClient::open(gateway.address).await;
        assert_eq!(client.close_code().await, code);
    }
}

#[tokio::test]
async fn shutdown_closes_all_and_ends() {
    let mut gateway = Gateway::start(config(), Behaviour::Trust);
    let mut clients = Vec::new();
    for _ in 0..20 {
        clients.push(gateway.open().await);
    }
    let mut half_open = RawClient::connect(gateway.address).await;
    half_open.send(b"GET /v1/socket HTTP/1.1\r\n").await;
    gateway.shutdown.cancel();
    half_open.end().await;
    for (client, opened) in &mut clients {
        assert_eq!(client.close_code().await, CloseCode::Draining.number());
        assert_eq!(opened.closed().await, Closed::ByServer(CloseCode::Draining));
    }
    within(gateway.running).await.unwrap();
    assert!(tokio::net::TcpStream::connect(gateway.address).await.is_err());
}

#[tokio::test]
async fn shutdown_ends_in_time_though_clients_are_stuck() {
    let mut gateway = Gateway::start(Config { close_timeout_ms: 200, ..config() }, Behaviour::Trust);
    let mut clients = Vec::new();
    for _ in 0..5 {
        clients.push(gateway.open().await);
    }
    gateway.shutdown.cancel();
    within(gateway.running).await.unwrap();
}

#[tokio::test]
async fn draining_is_announced_and_spread_over_the_drain_time() {
    let mut gateway = Gateway::start(Config { drain_ms: 600, ..config() }, Behaviour::Trust);
    let mut clients = Vec::new();
    for _ in 0..30 {
        clients.push(gateway.open().await);
    }
    let started = Instant::now();
    gateway.shutdown.cancel();
    let mut closed_after = Vec::new();
    let mut closings = tokio::task::JoinSet::new();
    for (mut client, opened) in clients {
        closings.spawn(async move {
            assert_eq!(client.close_code().await, CloseCode::Draining.number());
            (opened.outbound.id(), started.elapsed())
        });
    }
    while let Some(closed) = timeout(DEADLINE, closings.join_next()).await.unwrap() {
        closed_after.push(closed.unwrap());
    }
    within(gateway.running).await.unwrap();
    let announced = gateway.draining.lock().unwrap().clone();
    assert_eq!(announced.len(), 30);
    for (id, after) in &closed_after {
        let (_, closes_in) = announced.iter().find(|(announced, _)| announced == id).unwrap();
        assert!(*after + Duration::from_millis(40) >= *closes_in, "{id}: {after:?} before {closes_in:?}");
    }
    let early = closed_after.iter().filter(|(_, after)| *after < Duration::from_millis(300)).count();
    assert!((5..=25).contains(&early), "{early} of 30 closed in the first half");
}

#[tokio::test]
async fn a_taken_address_is_an_error_that_names_it() {
    let first = Acceptor::bind(config()).unwrap();
    let again = Acceptor::bind(Config { listen: first.local_addr(), ..config() });
    let error = again.unwrap_err();
    assert!(matches!(error, Error::Bind { address, .. } if address == first.local_addr()));
    assert!(error.to_string().contains(&first.local_addr().port().to_string()));
}
