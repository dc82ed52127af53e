//! Peers that are gone, or seem to be: a socket from which nothing comes is not kept.

use std::time::Duration;

use gateway::socket::{CloseCode, Closed, Config};
use tokio::time::{Instant, timeout};

use crate::socket::peer::{Behaviour, Gateway, config, frame, within};

fn with_timeout(heartbeat_timeout_ms: u64) -> Config {
    Config { heartbeat_interval_ms: 100, heartbeat_timeout_ms, close_timeout_ms: 100, ..config() }
}

#[test]
fn x18_the_defaults_find_a_silent_peer_within_35_s() {
    let Config { heartbeat_interval_ms, heartbeat_timeout_ms, .. } = Config::default();
    assert!(heartbeat_interval_ms <= 25_000);
    assert!(heartbeat_timeout_ms <= 35_000);
    assert!(heartbeat_timeout_ms - heartbeat_interval_ms >= 8_000, "a pong gets some seconds");
}

/// What becomes of a peer that reads all and answers nothing, within a second.
async fn reads_and_never_answers(settings: Config) -> Option<u16> {
    let mut gateway = Gateway::start(settings, Behaviour::Trust);
    let (mut client, _opened) = gateway.open().await;
    let mut pings = 0;
    let end = Instant::now() + Duration::from_secs(1);
    loop {
        let Ok(frame) = tokio::time::timeout_at(end, client.frame()).await else {
            assert!(pings > 0);
            return None;
        };
        let frame = frame.expect("a close frame before the end");
        match frame.opcode {
            9 => pings += 1,
            8 => {
                assert!(pings > 0, "closed without having been asked");
                return Some(u16::from_be_bytes(frame.payload[..2].try_into().unwrap()));
            }
            other => panic!("{other}"),
        }
    }
}

#[tokio::test]
async fn x18_a_peer_that_reads_and_never_answers_a_ping_is_closed() {
    assert_eq!(reads_and_never_answers(with_timeout(350)).await, Some(CloseCode::HeartbeatTimeout.number()));
    assert_eq!(reads_and_never_answers(with_timeout(60_000)).await, None, "control: it stays");
}

/// Whether the gateway has let go of a peer that neither reads nor writes nor ends, within a second.
async fn forgets_half_open(settings: Config) -> bool {
    let settings = Config { max_connections: 1, ..settings };
    let mut gateway = Gateway::start(settings, Behaviour::Trust);
    let (_vanished, mut opened) = gateway.open().await;
    let gone = timeout(Duration::from_secs(1), opened.closed()).await;
    if let Ok(closed) = gone {
        assert_eq!(closed, Closed::ByServer(CloseCode::HeartbeatTimeout));
        // Its place is free again: not only the session is gone.
        within(async {
            loop {
                let mut client = crate::socket::peer::RawClient::connect(gateway.address).await;
                if client.asks("").await.starts_with("http/1.1 101 ") {
                    break;
                }
            }
        })
        .await;
        return true;
    }
    false
}

#[tokio::test]
async fn x18_a_half_open_peer_is_gone_and_so_is_its_place() {
    assert!(forgets_half_open(with_timeout(350)).await);
    assert!(!forgets_half_open(with_timeout(60_000)).await, "control: it is kept");
}

#[tokio::test]
async fn x18_a_peer_that_answers_stays() {
    let mut gateway = Gateway::start(with_timeout(800), Behaviour::Trust);
    let (mut client, opened) = gateway.open().await;
    // Longer than a silent one lives.
    for _ in 0..12 {
        assert_eq!(client.frame().await.unwrap().opcode, 9);
        client.send(&frame(0x8a, b"")).await;
    }
    assert_eq!(opened.outbound.closed(), None);
}
