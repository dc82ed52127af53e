//! Clients that break the rules: each gets its close code, and nobody else notices.

use bytes::Bytes;
use gateway::socket::{Class, CloseCode, Closed, Config, PushError};

use super::peer::{Behaviour, Gateway, MASK, RawClient, close, config, frame, within};

#[tokio::test]
async fn each_broken_frame_is_answered_with_its_close_code() {
    let head = |bytes: &[u8]| [bytes, &MASK].concat();
    let cases: Vec<(&str, Vec<u8>, u16)> = vec![
        ("unmasked", vec![0x82, 1, b'x'], 1002),
        ("reserved bit", frame(0xc2, b"x"), 1002),
        ("reserved opcode", frame(0x83, b"x"), 1002),
        ("ping of 126 bytes", frame(0x89, &[0; 126]), 1002),
        ("fragmented ping", frame(0x09, b"x"), 1002),
        ("length not minimal", head(&[0x82, 0xfe, 0, 1]), 1002),
        ("continuation of nothing", frame(0x80, b"x"), 1002),
        ("message inside a fragmented one", [frame(0x02, b"a"), frame(0x82, b"b")].concat(), 1002),
        ("close with a reserved code", close(1005), 1002),
        ("close of one byte", frame(0x88, b"x"), 1002),
        ("text that is not UTF-8", frame(0x81, &[0xff]), 1007),
        ("text on the binary sub-protocol", frame(0x81, b"hello"), 1003),
        ("header over the limit", head(&[0x82, 0xff, 0, 0, 0, 0, 0, 1, 0, 1]), 1009),
        ("63-bit length", head(&[0x82, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]), 1009),
        ("fragments over the limit", [frame(0x02, &[0; 60_000]), frame(0x00, &[0; 6_000])].concat(), 1009),
        ("fragment flood", [frame(0x02, b""), frame(0x00, b"").repeat(128)].concat(), 1008),
    ];
    let mut gateway = Gateway::start(config(), Behaviour::Trust);
    let (mut healthy, mut healthy_opened) = gateway.open().await;
    for (name, bytes, code) in cases {
        let (mut client, mut opened) = gateway.open().await;
        client.send(&[frame(0x82, b"before"), bytes, frame(0x82, b"after")].concat()).await;
        assert_eq!(client.close_code().await, code, "{name}");
        assert_eq!(opened.message().await.payload, "before", "{name}");
        let expected = CloseCode::from_number(code).unwrap();
        assert_eq!(opened.closed().await, Closed::ByServer(expected), "{name}");
    }
    healthy.send(&frame(0x82, b"still here")).await;
    assert_eq!(healthy_opened.message().await.payload, "still here");
}

#[tokio::test]
async fn an_oversized_message_is_refused_by_its_header_and_the_client_gets_to_know() {
    let mut gateway = Gateway::start(config(), Behaviour::Trust);
    let (client, mut opened) = gateway.open().await;
    let (reading, mut writing) = client.stream.into_split();
    // Megabytes that nobody wants: unless they are read, a reset takes the close frame from most clients.
    let sending = tokio::spawn(async move {
        use tokio::io::AsyncWriteExt;
        writing.write_all(&frame(0x82, &vec![0; 4 << 20])).await.expect("no reset while sending");
        writing
    });
    assert_eq!(opened.closed().await, Closed::ByServer(CloseCode::TooBig));
    let writing = within(sending).await.unwrap();
    let mut client = RawClient::from_stream(reading.reunite(writing).unwrap());
    assert_eq!(client.close_code().await, 1009);
}

#[tokio::test]
async fn before_authentication_a_message_may_be_four_kib() {
    let mut gateway = Gateway::start(config(), Behaviour::Authenticate);
    let (mut client, mut opened) = gateway.open().await;
    client.send(&frame(0x82, &[1; 4_097])).await;
    assert_eq!(client.close_code().await, 1009);
    assert_eq!(opened.closed().await, Closed::ByServer(CloseCode::TooBig));
    let (mut client, mut opened) = gateway.open().await;
    client.send(&frame(0x82, &[1; 4_096])).await;
    assert_eq!(opened.message().await.payload.len(), 4_096);
    client.send(&frame(0x82, &[1; 65_536])).await;
    assert_eq!(opened.message().await.payload.len(), 65_536);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_stalls_is_closed_as_slow_with_bounded_memory() {
    let settings = Config { send_buffer_bytes: 4_096, close_timeout_ms: 200, ..config() };
    let mut gateway = Gateway::start(settings, Behaviour::Trust);
    let mut stalled = RawClient::connect_narrow(gateway.address).await;
    stalled.upgrade().await;
    let mut stalled_opened = gateway.opened().await;
    let (mut healthy, healthy_opened) = gateway.open().await;
    let frame = Bytes::from(vec![7; 1_000]);
    let mut most = 0;
    let mut pushed = 0;
    let refused = within(async {
        loop {
            healthy_opened.outbound.push(frame.clone(), Class::Ordinary).unwrap();
            assert_eq!(healthy.frame().await.unwrap().payload, frame);
            if let Err(refused) = stalled_opened.outbound.push(frame.clone(), Class::Ordinary) {
                break refused;
            }
            pushed += 1;
            most = most.max(stalled_opened.outbound.queued_bytes());
        }
    })
    .await;
    assert_eq!(refused, PushError::Slow);
    assert!(pushed > 64, "only {pushed} were taken");
    assert!((65_536 - 1_004..65_536 + 1_004).contains(&most), "{most} bytes waited");
    assert_eq!(stalled_opened.closed().await, Closed::ByServer(CloseCode::Slow));
    assert!(stalled_opened.outbound.queued_bytes() < 1_100, "what waited is let go");
    assert_eq!(stalled_opened.outbound.push(frame, Class::Ordinary), Err(PushError::Closed));
    // Given up after the close timeout, though the client never read.
    within(stalled_opened.outbound.drained()).await;
    assert_eq!(stalled_opened.outbound.queued_bytes(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reader_that_wakes_up_sees_whole_frames_and_then_slow() {
    let mut gateway = Gateway::start(Config { send_buffer_bytes: 4_096, ..config() }, Behaviour::Trust);
    let mut client = RawClient::connect_narrow(gateway.address).await;
    client.upgrade().await;
    let opened = gateway.opened().await;
    let mut ephemeral_dropped = 0;
    for n in 0_u32.. {
        if opened.outbound.push(Bytes::from_static(b"typing"), Class::Ephemeral) == Err(PushError::Dropped) {
            ephemeral_dropped += 1;
        }
        let payload = n.to_be_bytes().repeat(500);
        if opened.outbound.push(payload.into(), Class::Ordinary) == Err(PushError::Slow) {
            break;
        }
        if n == 0 {
            // With the kernel before others fill the queue, however busy the machine is.
            within(opened.outbound.drained()).await;
        }
    }
    assert!(ephemeral_dropped > 0);
    let mut expected = 0_u32;
    let code = loop {
        let frame = client.frame().await.expect("close frame before the end");
        match frame.opcode {
            8 => break u16::from_be_bytes(frame.payload[..2].try_into().unwrap()),
            2 if frame.payload == "typing" => {}
            opcode => {
                assert_eq!((opcode, &frame.payload[..]), (2, &expected.to_be_bytes().repeat(500)[..]));
                expected += 1;
            }
        }
    };
    assert_eq!(code, CloseCode::Slow.number());
    assert!(expected > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ping_flood_that_is_not_read_holds_a_few_pongs() {
    /// One of which a part is written, and sixteen.
    const MOST: usize = 17;
    let mut gateway = Gateway::start(Config { send_buffer_bytes: 1, ..config() }, Behaviour::Trust);
    let mut client = RawClient::connect_narrow(gateway.address).await;
    client.upgrade().await;
    let mut opened = gateway.opened().await;
    let pings = frame(0x89, &[b'p'; 125]).repeat(100);
    for _ in 0..200 {
        client.send(&pings).await;
        assert!(opened.outbound.queued_frames() <= MOST);
    }
    client.send(&frame(0x89, b"the last")).await;
    client.send(&frame(0x82, b"done")).await;
    assert_eq!(opened.message().await.payload, "done");
    assert!(opened.outbound.queued_frames() <= MOST);
    while client.frame().await.unwrap().payload != "the last" {}
}
