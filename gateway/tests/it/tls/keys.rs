//! Keys change while a socket lives, and tickets let a client come back at less cost.

use std::sync::Arc;

use bytes::Bytes;
use gateway::socket::{Class, Config};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, HandshakeKind, ProtocolVersion};

use super::peer::{Secured, roots};
use crate::socket::peer::{Behaviour, config, frame};

const BINARY: u8 = 0x82;

#[tokio::test]
async fn a_client_may_renew_its_keys_in_the_midst_of_everything() {
    let settings = Config { send_buffer_bytes: 4_096, queue_bytes: 16 << 20, ..config() };
    let mut secured = Secured::start_with(settings, Behaviour::Trust);
    let (mut client, mut opened) = secured.open_narrow().await;
    for round in 0..10_u8 {
        // The gateway is stalled in the midst of a record when it is asked for new keys.
        let large = Bytes::from(vec![round; 300_000]);
        opened.outbound.push(large.clone(), Class::Ordinary).unwrap();
        let (_, keys) = client.stream.get_mut();
        keys.refresh_traffic_keys().unwrap();
        client.send_record(&frame(BINARY, &[round; 100])).await;
        assert_eq!(opened.message().await.payload[..], [round; 100]);
        opened.outbound.push(Bytes::from(vec![round; 10]), Class::Ordinary).unwrap();
        assert!(client.frame().await.unwrap().payload == large, "round {round}");
        assert_eq!(client.frame().await.unwrap().payload[..], [round; 10]);
    }
}

/// How the handshakes of two connects one after the other were done.
async fn comes_back(secured: &mut Secured, config: ClientConfig) -> [Option<HandshakeKind>; 2] {
    secured.client = Arc::new(config);
    let mut kinds = [None, None];
    for kind in &mut kinds {
        let (mut client, _opened) = secured.open().await;
        client.send_record(&frame(BINARY, b"hello")).await;
        // The tickets came before this.
        assert_eq!(client.frame().await.unwrap().payload, "hello");
        *kind = client.stream.get_ref().1.handshake_kind();
    }
    kinds
}

#[tokio::test]
async fn both_versions_are_spoken_and_a_ticket_saves_the_second_handshake() {
    let mut secured = Secured::start(Behaviour::Echo);
    for (version, is) in [(&TLS13, ProtocolVersion::TLSv1_3), (&TLS12, ProtocolVersion::TLSv1_2)] {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[version]).unwrap();
        let config = config.with_root_certificates(roots(&secured.authority)).with_no_client_auth();
        let [first, second] = comes_back(&mut secured, config).await;
        assert!(matches!(first, Some(HandshakeKind::Full | HandshakeKind::FullWithHelloRetryRequest)), "{first:?}");
        assert_eq!(second, Some(HandshakeKind::Resumed), "{is:?}");
        let client = secured.connect().await;
        assert_eq!(client.stream.get_ref().1.protocol_version(), Some(is));
    }
}
