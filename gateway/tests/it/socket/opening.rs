//! Opening a socket: what an upgrade needs, and what a connection that never asks for one costs.

use gateway::socket::{Bearer, Config};
use tokio::io::AsyncWriteExt;
use tokio::time::{Duration, Instant, timeout};

use super::peer::{Behaviour, Gateway, RawClient, config, frame, upgrade_request, within};

async fn answer(gateway: &Gateway, request: &str) -> String {
    let mut client = RawClient::connect(gateway.address).await;
    client.send(request.as_bytes()).await;
    let head = client.response_head().await;
    client.end().await;
    head
}

#[tokio::test]
async fn each_refusal_has_its_status_and_code() {
    let gateway =
        Gateway::start(Config { allowed_origins: vec!["https://app.example".into()], ..config() }, Behaviour::Trust);
    let cases = [
        ("GET / HTTP/1.1", "404", "unknown_path"),
        ("GET /v1/socket?token=secret HTTP/1.1", "404", "unknown_path"),
        ("POST /v1/socket HTTP/1.1", "405", "method_not_allowed"),
        ("GET /v1/socket HTTP/1.0", "505", "http_version"),
        ("Content-Length: 5", "400", "body_not_empty"),
        ("Connection: close", "426", "not_an_upgrade"),
        ("Upgrade: h2c", "426", "not_an_upgrade"),
        ("Sec-WebSocket-Version: 8", "426", "websocket_version"),
        ("Sec-WebSocket-Key: short", "400", "websocket_key"),
        ("Origin: https://evil.example", "403", "origin_not_allowed"),
        ("Origin: null", "403", "origin_not_allowed"),
        ("Sec-WebSocket-Protocol: chat", "400", "sub_protocol"),
        ("Sec-WebSocket-Protocol: heliograph.v2.json", "400", "sub_protocol"),
    ];
    for (change, status, code) in cases {
        let head = answer(&gateway, &upgrade_request(change)).await.to_lowercase();
        assert_eq!(head.split(' ').nth(1), Some(status), "{change}: {head}");
        assert!(head.contains(&format!("heliograph-error: {code}\r\n")), "{change}: {head}");
        assert_eq!(head.contains("sec-websocket-version: 13\r\n"), code == "websocket_version", "{head}");
        assert!(!head.contains("secret"), "{head}");
    }
}

#[tokio::test]
async fn an_allowed_origin_opens_a_socket_and_no_extension_is_negotiated() {
    let gateway =
        Gateway::start(Config { allowed_origins: vec!["https://app.example".into()], ..config() }, Behaviour::Trust);
    for change in ["Origin: https://app.example", "Sec-WebSocket-Extensions: permessage-deflate"] {
        let mut client = RawClient::connect(gateway.address).await;
        client.send(upgrade_request(change).as_bytes()).await;
        let head = client.response_head().await;
        assert!(head.starts_with("HTTP/1.1 101 "), "{change}: {head}");
        assert!(!head.to_lowercase().contains("extensions"), "{head}");
    }
}

#[tokio::test]
async fn a_bearer_token_is_carried_to_the_handler() {
    let mut gateway = Gateway::start(config(), Behaviour::Trust);
    let mut client = RawClient::connect(gateway.address).await;
    client.send(upgrade_request("Authorization: Bearer abc.def").as_bytes()).await;
    let opened = gateway.opened().await;
    assert_eq!(opened.bearer.as_ref().map(Bearer::expose), Some("abc.def"));
}

#[tokio::test]
async fn frames_that_come_with_the_request_are_not_lost() {
    let mut gateway = Gateway::start(config(), Behaviour::Trust);
    let mut client = RawClient::connect(gateway.address).await;
    let early = [upgrade_request("").as_bytes(), &frame(0x82, b"one"), &frame(0x82, b"two")[..5]].concat();
    client.send(&early).await;
    client.send(&frame(0x82, b"two")[5..]).await;
    let mut opened = gateway.opened().await;
    assert_eq!(opened.message().await.payload, "one");
    assert_eq!(opened.message().await.payload, "two");
}

#[tokio::test]
async fn a_request_sent_byte_by_byte_is_dropped_at_the_handshake_timeout() {
    let gateway = Gateway::start(Config { handshake_timeout_ms: 200, ..config() }, Behaviour::Trust);
    let started = Instant::now();
    let mut client = RawClient::connect(gateway.address).await;
    for byte in upgrade_request("").bytes().cycle() {
        if byte != b'\n' && client.stream.write_all(&[byte]).await.is_err() {
            break;
        }
        if timeout(Duration::from_millis(5), client.end()).await.is_ok() {
            break;
        }
        assert!(started.elapsed() < Duration::from_secs(5), "still connected");
    }
    assert!(started.elapsed() >= Duration::from_millis(200));
}

#[tokio::test]
async fn silent_connections_are_bounded_and_leave_room_again() {
    let mut gateway =
        Gateway::start(Config { max_handshakes: 2, handshake_timeout_ms: 500, ..config() }, Behaviour::Trust);
    let mut silent = [RawClient::connect(gateway.address).await, RawClient::connect(gateway.address).await];
    let mut refused = RawClient::connect(gateway.address).await;
    assert!(refused.response_head().await.starts_with("HTTP/1.1 503 "));
    for client in &mut silent {
        client.end().await;
    }
    gateway.open().await;
}

#[tokio::test]
async fn sockets_are_bounded_and_leave_room_again() {
    let mut gateway = Gateway::start(Config { max_connections: 1, ..config() }, Behaviour::Trust);
    let (first, mut opened) = gateway.open().await;
    let mut refused = RawClient::connect(gateway.address).await;
    assert!(refused.response_head().await.starts_with("HTTP/1.1 503 "));
    drop(first);
    opened.closed().await;
    within(async {
        loop {
            let mut client = RawClient::connect(gateway.address).await;
            client.send(upgrade_request("").as_bytes()).await;
            if client.response_head().await.starts_with("HTTP/1.1 101 ") {
                break;
            }
        }
    })
    .await;
}
