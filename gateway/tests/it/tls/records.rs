//! Messages and records: neither knows where the other ends.

use bytes::Bytes;
use gateway::socket::{Class, Config};

use super::peer::Secured;
use crate::socket::peer::{Behaviour, config, frame, upgrade_request, within};

const BINARY: u8 = 0x82;

#[tokio::test]
async fn a_message_that_is_split_over_records_at_every_byte_arrives_whole() {
    let mut secured = Secured::start(Behaviour::Echo);
    let (mut client, _opened) = secured.open().await;
    let sent = frame(BINARY, b"over two records");
    for at in 0..=sent.len() {
        let (first, second) = sent.split_at(at);
        for part in [first, second] {
            client.send_record(part).await;
        }
        assert_eq!(client.frame().await.unwrap().payload[..], b"over two records"[..], "split at {at}");
    }
    for byte in &sent {
        client.send_record(std::slice::from_ref(byte)).await;
    }
    assert_eq!(client.frame().await.unwrap().payload[..], b"over two records"[..]);
}

#[tokio::test]
async fn what_stands_in_one_record_with_the_request_is_not_lost() {
    let mut secured = Secured::start(Behaviour::Echo);
    let sent = [frame(BINARY, b"one"), frame(BINARY, b"two")].concat();
    for at in [3, sent.len() / 2, sent.len() / 2 + 3, sent.len()] {
        let mut client = secured.connect().await;
        client.send_record(&[upgrade_request("").as_bytes(), &sent[..at]].concat()).await;
        assert!(client.response_head().await.starts_with("HTTP/1.1 101 "));
        let _opened = secured.gateway.opened().await;
        client.send_record(&sent[at..]).await;
        for message in ["one", "two"] {
            assert_eq!(client.frame().await.unwrap().payload, message, "split at {at}");
        }
    }
    // More than the buffer of the request takes: the rest is opened already when the request is answered.
    let mut client = secured.connect().await;
    let messages: Vec<_> = (0..28_u8).map(|n| [n; 500]).collect();
    let frames: Vec<_> = messages.iter().map(|message| frame(BINARY, message)).collect();
    client.send_record(&[upgrade_request("").into_bytes(), frames.concat()].concat()).await;
    assert!(client.response_head().await.starts_with("HTTP/1.1 101 "));
    for message in messages {
        assert_eq!(client.frame().await.unwrap().payload[..], message);
    }
}

#[tokio::test]
async fn the_largest_message_goes_over_many_records_both_ways() {
    let mut secured = Secured::start(Behaviour::Echo);
    let (mut client, _opened) = secured.open().await;
    let body: Vec<u8> = (0..65_536_u32).map(|n| (n % 251) as u8).collect();
    for _ in 0..3 {
        client.send_record(&frame(BINARY, &body)).await;
        assert!(client.frame().await.unwrap().payload == body);
    }
}

#[tokio::test]
async fn a_stream_that_stalls_in_the_midst_of_records_goes_on_where_it_was() {
    // Small buffers in the kernel: it takes parts of records, and refuses again and again.
    let settings = Config { send_buffer_bytes: 4_096, queue_bytes: 16 << 20, ..config() };
    let mut secured = Secured::start_with(settings, Behaviour::Trust);
    let (mut client, opened) = secured.open_narrow().await;
    let large: Bytes = (0..3 << 20_u32).map(|n| (n % 249) as u8).collect::<Vec<_>>().into();
    let small = |n: u32| Bytes::from(n.to_be_bytes().repeat(25));
    for n in 0..100 {
        opened.outbound.push(small(n), Class::Ordinary).unwrap();
    }
    opened.outbound.push(large.clone(), Class::Ordinary).unwrap();
    for n in 0..100 {
        opened.outbound.push(small(n), Class::Ordinary).unwrap();
    }
    // Whoever writes has had a turn.
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    assert!(opened.outbound.queued_bytes() > large.len() - (1 << 20), "nobody has read it");
    assert!(opened.outbound.queued_frames() > 100, "the large one and all behind it are sealed ahead of the kernel");
    for n in 0..100 {
        assert_eq!(client.frame().await.unwrap().payload, small(n));
    }
    assert!(client.frame().await.unwrap().payload == large);
    for n in 0..100 {
        assert_eq!(client.frame().await.unwrap().payload, small(n));
    }
    within(opened.outbound.drained()).await;
    assert_eq!((opened.outbound.queued_bytes(), opened.outbound.queued_frames()), (0, 0));
}
