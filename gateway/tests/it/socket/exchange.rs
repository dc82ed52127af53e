//! Messages both ways: with a foreign client, in any pieces, in order.

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use gateway::socket::{Class, Closed, Config, Kind, PushError};
use hyper::http::{HeaderName, HeaderValue};
use tokio::net::TcpStream;
use tokio_websockets::{ClientBuilder, MaybeTlsStream, Message, WebSocketStream};

use super::peer::{Behaviour, Gateway, RawClient, config, frame, within};

async fn foreign(gateway: &Gateway) -> WebSocketStream<MaybeTlsStream<TcpStream>> {
    let uri = format!("ws://{}{}", gateway.address, gateway::socket::PATH);
    let (socket, response) = ClientBuilder::new()
        .uri(&uri)
        .unwrap()
        .add_header(HeaderName::from_static("sec-websocket-protocol"), HeaderValue::from_static("heliograph.v1.proto"))
        .unwrap()
        .connect()
        .await
        .unwrap();
    assert_eq!(response.headers()["sec-websocket-protocol"], "heliograph.v1.proto");
    socket
}

#[tokio::test]
async fn a_foreign_client_gets_back_what_it_sent() {
    let gateway = Gateway::start(config(), Behaviour::Echo);
    let mut socket = foreign(&gateway).await;
    for len in [0, 1, 125, 126, 127, 4_096, 65_535, 65_536] {
        let payload: Vec<u8> = (0..len).map(|at| at as u8).collect();
        socket.send(Message::binary(payload.clone())).await.unwrap();
        let back = within(socket.next()).await.unwrap().unwrap();
        assert!(back.is_binary());
        assert_eq!(&back.as_payload()[..], payload, "{len}");
    }
    socket.send(Message::ping("are you there")).await.unwrap();
    let pong = within(socket.next()).await.unwrap().unwrap();
    assert!(pong.is_pong());
    assert_eq!(&pong.as_payload()[..], b"are you there");
    socket.close().await.unwrap();
    assert!(within(socket.next()).await.is_none_or(|last| last.is_ok_and(|last| last.is_close())));
}

#[tokio::test]
async fn a_message_in_single_bytes_and_fragments_arrives_whole() {
    let mut gateway = Gateway::start(config(), Behaviour::Trust);
    let (mut client, mut opened) = gateway.open().await;
    client.stream.set_nodelay(true).unwrap();
    let bytes = [frame(0x02, b"one "), frame(0x89, b"?"), frame(0x00, b""), frame(0x80, b"two")].concat();
    for byte in &bytes {
        client.send(&[*byte]).await;
    }
    let message = opened.message().await;
    assert_eq!((message.kind, &message.payload[..]), (Kind::Binary, &b"one two"[..]));
    let pong = client.frame().await.unwrap();
    assert_eq!((pong.opcode, &pong.payload[..]), (10, &b"?"[..]));
}

#[tokio::test]
async fn many_messages_in_one_packet_arrive_in_order() {
    let mut gateway = Gateway::start(config(), Behaviour::Trust);
    let (mut client, mut opened) = gateway.open().await;
    let bytes: Vec<u8> = (0..5_000_u32).flat_map(|n| frame(0x82, &n.to_be_bytes())).collect();
    client.send(&bytes).await;
    for n in 0..5_000_u32 {
        assert_eq!(opened.message().await.payload, n.to_be_bytes()[..]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burst_of_shared_frames_arrives_in_order_at_each_recipient() {
    let mut gateway = Gateway::start(config(), Behaviour::Trust);
    let mut sockets = Vec::new();
    for _ in 0..20 {
        let client = foreign(&gateway).await;
        sockets.push((client, gateway.opened().await));
    }
    for n in 0..200_u8 {
        let frame = Bytes::from(vec![n; usize::from(n) + 1]);
        for (_, opened) in &sockets {
            opened.outbound.push(frame.clone(), Class::Ordinary).unwrap();
        }
    }
    for (client, _) in &mut sockets {
        for n in 0..200_u8 {
            let message = within(client.next()).await.unwrap().unwrap();
            assert_eq!(&message.as_payload()[..], vec![n; usize::from(n) + 1]);
        }
    }
}

#[tokio::test]
async fn a_burst_over_the_queues_bound_does_not_make_a_reading_client_slow() {
    let mut gateway = Gateway::start(config(), Behaviour::Trust);
    let (mut client, opened) = gateway.open().await;
    for n in 0..1_000_u32 {
        // Nothing else runs meanwhile: this test has one thread and gives it to nobody.
        opened.outbound.push(n.to_be_bytes().repeat(50).into(), Class::Ordinary).unwrap();
    }
    for n in 0..1_000_u32 {
        assert_eq!(client.frame().await.unwrap().payload, n.to_be_bytes().repeat(50));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_survive_partial_writes_to_a_narrow_socket() {
    // The first ping comes after a random part of the interval, and would be a frame among these.
    let quiet = Config { heartbeat_interval_ms: 600_000, heartbeat_timeout_ms: 700_000, ..config() };
    let mut gateway = Gateway::start(Config { send_buffer_bytes: 1, ..quiet }, Behaviour::Trust);
    let mut client = RawClient::connect_narrow(gateway.address).await;
    client.upgrade().await;
    let opened = gateway.opened().await;
    let pushing = async {
        for n in 0..400_u32 {
            // Frames of very different lengths, so that writes end at every kind of place.
            let payload = n.to_be_bytes().repeat(1 + (n as usize * 37) % 3_000);
            while opened.outbound.push(payload.clone().into(), Class::History) == Err(PushError::NotEmpty) {
                opened.outbound.drained().await;
            }
            opened.outbound.push(Bytes::copy_from_slice(&n.to_be_bytes()), Class::Ordinary).unwrap();
        }
    };
    let reading = async {
        for n in 0..400_u32 {
            let payload = n.to_be_bytes().repeat(1 + (n as usize * 37) % 3_000);
            assert_eq!(client.frame().await.unwrap().payload, payload);
            assert_eq!(client.frame().await.unwrap().payload, n.to_be_bytes()[..]);
        }
    };
    within(async { tokio::join!(pushing, reading) }).await;
}

#[tokio::test]
async fn a_history_reply_waits_until_the_queue_is_drained() {
    let mut gateway = Gateway::start(config(), Behaviour::Trust);
    let (mut client, opened) = gateway.open().await;
    opened.outbound.push(Bytes::from_static(b"push"), Class::Ordinary).unwrap();
    let refused = opened.outbound.push(Bytes::from_static(b"history"), Class::History);
    assert_eq!(refused, Err(PushError::NotEmpty));
    within(opened.outbound.drained()).await;
    assert_eq!((opened.outbound.queued_bytes(), opened.outbound.queued_frames()), (0, 0));
    opened.outbound.push(Bytes::from_static(b"history"), Class::History).unwrap();
    assert_eq!(client.frame().await.unwrap().payload, "push");
    assert_eq!(client.frame().await.unwrap().payload, "history");
}

#[tokio::test]
async fn pushes_to_a_socket_that_is_gone_are_refused() {
    let mut gateway = Gateway::start(config(), Behaviour::Trust);
    let (client, mut opened) = gateway.open().await;
    drop(client);
    assert_eq!(opened.closed().await, Closed::Lost);
    assert_eq!(opened.outbound.push(Bytes::new(), Class::Ordinary), Err(PushError::Closed));
    within(opened.outbound.drained()).await;
    assert_eq!(opened.outbound.closed(), Some(Closed::Lost));
}

#[tokio::test]
async fn a_frame_in_no_hurry_goes_with_the_next_one_and_else_on_its_own() {
    let mut gateway = Gateway::start(config(), Behaviour::Trust);
    let (mut client, opened) = gateway.open().await;
    let push = |text: &'static [u8], class| opened.outbound.push(Bytes::from_static(text), class).unwrap();
    push(b"accepted", Class::Unhurried);
    // Nobody writes it before the task that pushes lets go.
    assert_eq!(opened.outbound.queued_frames(), 1);
    push(b"stored", Class::Ordinary);
    push(b"seen", Class::Unhurried);
    for expected in [&b"accepted"[..], b"stored", b"seen"] {
        assert_eq!(&client.frame().await.unwrap().payload[..], expected);
    }
    push(b"alone", Class::Unhurried);
    assert_eq!(&client.frame().await.unwrap().payload[..], b"alone");
    // What needs an empty queue is not kept waiting by it.
    push(b"again", Class::Unhurried);
    assert_eq!(opened.outbound.push(Bytes::from_static(b"history"), Class::History), Err(PushError::NotEmpty));
    within(opened.outbound.drained()).await;
    push(b"history", Class::History);
    for expected in [&b"again"[..], b"history"] {
        assert_eq!(&client.frame().await.unwrap().payload[..], expected);
    }
}
