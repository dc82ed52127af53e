//! The ends of a TLS socket: each says what happened, and nobody takes a cut for an end.

use std::io::{ErrorKind, Write as _};
use std::time::Duration;

use gateway::socket::{CloseCode, Closed, Config, PeerClose};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::peer::{Client, Secured};
use crate::socket::peer::{Behaviour, close, config, frame, within};

/// Whether TLS itself was ended before the connection was.
async fn ends_well(client: &mut Client) -> bool {
    match within(client.stream.read(&mut [0])).await {
        Ok(0) => true,
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => false,
        other => panic!("{other:?}"),
    }
}

async fn next_close(client: &mut Client) -> u16 {
    loop {
        let frame = client.frame().await.expect("a close frame before the end");
        if frame.opcode == 8 {
            return u16::from_be_bytes(frame.payload[..2].try_into().unwrap());
        }
    }
}

#[tokio::test]
async fn a_close_handshake_of_either_side_ends_tls_before_the_connection() {
    let mut secured = Secured::start(Behaviour::Trust);
    let (mut client, mut opened) = secured.open().await;
    client.send_record(&close(1000)).await;
    assert_eq!(opened.closed().await, Closed::ByPeer(PeerClose { code: Some(1000), reason: "".into() }));
    assert_eq!(next_close(&mut client).await, 1000);
    assert!(ends_well(&mut client).await);

    let (mut client, mut opened) = secured.open().await;
    opened.outbound.close(CloseCode::Revoked);
    assert_eq!(next_close(&mut client).await, CloseCode::Revoked.number());
    client.send_record(&close(CloseCode::Revoked.number())).await;
    assert!(ends_well(&mut client).await);
    assert_eq!(opened.closed().await, Closed::ByServer(CloseCode::Revoked));

    // After a fault of the framing too.
    let (mut client, mut opened) = secured.open().await;
    client.send_record(&[0xff; 64]).await;
    assert_eq!(next_close(&mut client).await, CloseCode::ProtocolError.number());
    assert!(ends_well(&mut client).await);
    assert_eq!(opened.closed().await, Closed::ByServer(CloseCode::ProtocolError));
}

#[tokio::test]
async fn a_peer_that_does_not_answer_the_close_frame_is_cut_off() {
    let mut secured = Secured::start_with(Config { close_timeout_ms: 100, ..config() }, Behaviour::Trust);
    let (mut client, opened) = secured.open().await;
    opened.outbound.close(CloseCode::Revoked);
    assert_eq!(next_close(&mut client).await, CloseCode::Revoked.number());
    assert!(!ends_well(&mut client).await, "the close handshake did not come to its end");
}

#[tokio::test]
async fn a_connection_that_ends_without_a_close_frame_is_lost_whatever_tls_says() {
    let mut secured = Secured::start(Behaviour::Trust);
    // TCP alone ends, as when somebody cuts it.
    let (client, mut opened) = secured.open().await;
    let (mut stream, _tls) = client.stream.into_inner();
    stream.shutdown().await.unwrap();
    assert_eq!(opened.closed().await, Closed::Lost);

    // TLS ends, and the connection stays.
    let (mut client, mut opened) = secured.open().await;
    let (_, tls) = client.stream.get_mut();
    tls.writer().write_all(&frame(0x82, b"last words")).unwrap();
    tls.send_close_notify();
    within(client.stream.flush()).await.unwrap();
    assert_eq!(opened.message().await.payload, "last words");
    assert_eq!(opened.closed().await, Closed::Lost);
    drop(client);

    // What comes is no TLS any more; what came before in the same read is heard all the same.
    let (client, mut opened) = secured.open().await;
    let (mut stream, mut tls) = client.stream.into_inner();
    tls.writer().write_all(&frame(0x82, b"last words")).unwrap();
    let mut wire = Vec::new();
    tls.write_tls(&mut wire).unwrap();
    wire.extend([0x17, 3, 3, 0, 64]);
    wire.extend([7; 64]);
    stream.write_all(&wire).await.unwrap();
    assert_eq!(opened.message().await.payload, "last words");
    assert_eq!(opened.closed().await, Closed::Lost);
    // It hears an alert before the end.
    let mut rest = Vec::new();
    within(stream.read_to_end(&mut rest)).await.unwrap();
    assert!(rest.len() > 5, "nobody said why: {rest:?}");
}

#[tokio::test]
async fn a_half_open_peer_is_found_by_the_heartbeat() {
    let settings = Config { heartbeat_interval_ms: 100, heartbeat_timeout_ms: 350, close_timeout_ms: 100, ..config() };
    let mut secured = Secured::start_with(settings, Behaviour::Trust);
    let (mut client, mut opened) = secured.open().await;
    // It reads, and answers no ping.
    assert_eq!(client.frame().await.unwrap().opcode, 9);
    assert_eq!(next_close(&mut client).await, CloseCode::HeartbeatTimeout.number());
    assert_eq!(opened.closed().await, Closed::ByServer(CloseCode::HeartbeatTimeout));
    // The control: one that answers stays for longer than that.
    let (mut client, opened) = secured.open().await;
    for _ in 0..8 {
        assert_eq!(client.frame().await.unwrap().opcode, 9);
        client.send_record(&frame(0x8a, b"")).await;
    }
    assert_eq!(opened.outbound.closed(), None);
}

#[tokio::test]
async fn a_gateway_that_leaves_closes_its_sockets_in_order() {
    let mut secured = Secured::start_with(Config { drain_ms: 200, ..config() }, Behaviour::Trust);
    let mut clients = Vec::new();
    for _ in 0..10 {
        clients.push(secured.open().await);
    }
    secured.gateway.shutdown.cancel();
    for (client, opened) in &mut clients {
        assert_eq!(next_close(client).await, CloseCode::Draining.number());
        client.send_record(&close(CloseCode::Draining.number())).await;
        assert!(ends_well(client).await);
        assert_eq!(opened.closed().await, Closed::ByServer(CloseCode::Draining));
    }
    within(secured.gateway.running).await.unwrap();
    let draining = secured.gateway.draining.lock().unwrap();
    assert_eq!(draining.len(), 10);
    assert!(draining.iter().all(|(_, closes_in)| *closes_in <= Duration::from_millis(200)));
}
