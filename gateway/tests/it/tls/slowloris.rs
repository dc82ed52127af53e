//! Half-sent hellos: they take the place of half-sent requests, and no more of it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use gateway::limits::Rate;
use gateway::socket::Config;
use rustls::ClientConnection;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;

use super::peer::{Client, NAME, Secured, handshake};
use crate::abuse::slowloris::{BESIEGERS, HANDSHAKE_TIMEOUT, besiege, besieged, first_closed, raise_open_files, siege};
use crate::abuse::{address, limited};
use crate::socket::peer::{Behaviour, RawClient, within};

/// Half of a good client's hello.
fn half_a_hello(secured: &Secured) -> Vec<u8> {
    let name = ServerName::try_from(NAME).unwrap();
    let mut client = ClientConnection::new(Arc::clone(&secured.client), name).unwrap();
    let mut hello = Vec::new();
    client.write_tls(&mut hello).unwrap();
    hello.truncate(hello.len() / 2);
    hello
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x16_five_thousand_half_sent_hellos_are_dropped_in_time_and_connects_go_on() {
    raise_open_files();
    let secured = Secured::start_with(besieged(HANDSHAKE_TIMEOUT), Behaviour::Trust);
    let open = async |gateway: SocketAddr| {
        let stream = TcpStream::connect(gateway).await.unwrap();
        let mut client = Client::from_stream(handshake(Arc::clone(&secured.client), stream).await.unwrap());
        let head = client.asks("").await;
        assert!(head.starts_with("http/1.1 101 "), "refused: {head}");
    };
    let (left, alone, with) = siege(&secured.gateway, &half_a_hello(&secured), &open, BESIEGERS).await;
    eprintln!("p99 of a connect: {alone:?} alone, {with:?} under siege");
    assert_eq!(left, 0);
    assert!(with <= alone * 3 + Duration::from_millis(50), "{with:?} instead of {alone:?}");

    let secured = Secured::start_with(besieged(Duration::from_secs(3_600)), Behaviour::Trust);
    let open = async |gateway: SocketAddr| {
        let stream = TcpStream::connect(gateway).await.unwrap();
        handshake(Arc::clone(&secured.client), stream).await.unwrap();
    };
    let (left, ..) = siege(&secured.gateway, &half_a_hello(&secured), &open, BESIEGERS / 10).await;
    assert_eq!(left, BESIEGERS / 10, "control: without a limit on their time they all stay");
}

/// Whether anyone gets a socket while hellos of this age fill all the room.
async fn gets_through(secured: &Secured) -> bool {
    let stream = RawClient::connect_from(address(999), secured.gateway.address).await.stream;
    let Ok(stream) = handshake(Arc::clone(&secured.client), stream).await else { return false };
    Client::from_stream(stream).asks("").await.starts_with("http/1.1 101 ")
}

#[tokio::test]
async fn x16_when_hellos_fill_the_room_the_oldest_gives_way() {
    let settings = limited(|limits| limits.address_connects = Rate::MAX);
    let settings = Config { max_handshakes: 50, handshake_timeout_ms: 60_000, ..settings };
    let secured = Secured::start_with(settings, Behaviour::Trust);
    let mut streams = besiege(&secured.gateway, &half_a_hello(&secured), 50).await;
    assert!(!gets_through(&secured).await, "control: a bound alone shuts everyone out");
    within(async { while !gets_through(&secured).await {} }).await;
    for _ in 0..20 {
        assert!(gets_through(&secured).await);
    }
    within(first_closed(&mut streams)).await;
    assert!((29..50).contains(&streams.len()), "{} are left: one for each that came", streams.len());
}

#[tokio::test]
async fn an_address_over_its_bound_gets_no_handshake() {
    let secured = Secured::start_with(limited(|limits| limits.address_sockets_max = 2), Behaviour::Trust);
    let connect = async |from| {
        let stream = RawClient::connect_from(address(from), secured.gateway.address).await.stream;
        handshake(Arc::clone(&secured.client), stream).await
    };
    let _held = (connect(1).await.unwrap(), connect(1).await.unwrap());
    assert!(connect(1).await.is_err());
    assert!(connect(2).await.is_ok(), "another address is not touched by it");
}
