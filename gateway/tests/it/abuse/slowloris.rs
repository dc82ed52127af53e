//! Handshakes that never end: each has a whole time limit, all have a bound, and who means it gets through.

use std::net::SocketAddr;
use std::time::Duration;

use gateway::limits::Rate;
use gateway::socket::Config;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::{address, limited};
use crate::socket::peer::{Behaviour, Gateway, RawClient, upgrade_request, within};

/// The number that the list of tests names.
pub(crate) const BESIEGERS: usize = 5_000;
/// They come from as many addresses as it takes for no address to be over its bound.
const PER_ADDRESS: usize = 100;
/// The default of ten seconds, and a byte in as much time, at two fifths of their length.
pub(crate) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(4);
/// Within this they are all gone: fifteen seconds at the defaults.
const GONE_AFTER: Duration = Duration::from_secs(6);
const LEGITIMATE: usize = 200;

/// Both ends of each connection are ours.
pub(crate) fn raise_open_files() {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, most, most).unwrap();
    assert!(most >= 12_000, "this test needs 12,000 open files, {most} are allowed");
}

/// Half of what a client has to say first.
fn half_a_request() -> Vec<u8> {
    let request = upgrade_request("");
    request.as_bytes()[..request.len() / 2].to_vec()
}

/// So much on each of so many connections.
pub(crate) async fn besiege(gateway: &Gateway, half: &[u8], count: usize) -> Vec<TcpStream> {
    let mut streams = Vec::with_capacity(count);
    for number in 0..count {
        let mut client = RawClient::connect_from(address(number / PER_ADDRESS), gateway.address).await;
        client.stream.write_all(half).await.unwrap();
        streams.push(client.stream);
    }
    streams
}

/// Drops those that the gateway has closed.
pub(crate) fn drop_closed(streams: &mut Vec<TcpStream>) {
    let mut byte = [0];
    streams.retain(
        |stream| matches!(stream.try_read(&mut byte), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock),
    );
}

/// Drops those that the gateway has closed, once it has closed one: that is done behind all else that the machine does.
pub(crate) async fn first_closed(streams: &mut Vec<TcpStream>) {
    let all = streams.len();
    let mut looks = interval(Duration::from_millis(10));
    while streams.len() == all {
        looks.tick().await;
        drop_closed(streams);
    }
}

/// Opens sockets one after the other: the 99th percentile of the time that it takes.
async fn open_all(gateway: &Gateway, open: impl AsyncFn(SocketAddr), count: usize) -> Duration {
    let mut took = Vec::with_capacity(count);
    for _ in 0..count {
        let started = Instant::now();
        open(gateway.address).await;
        took.push(started.elapsed());
    }
    took.sort_unstable();
    took[count * 99 / 100]
}

/// Sends a byte now and then on each that is left; how many are left at the end.
async fn hold_on(mut streams: Vec<TcpStream>, end: Instant) -> usize {
    let mut bytes = interval(HANDSHAKE_TIMEOUT / 4);
    bytes.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while Instant::now() < end && !streams.is_empty() {
        bytes.tick().await;
        drop_closed(&mut streams);
        for stream in &streams {
            let _ = stream.try_write(b"x");
        }
    }
    streams.len()
}

/// Settings for a siege.
pub(crate) fn besieged(handshake_timeout: Duration) -> Config {
    let handshake_timeout_ms = u64::try_from(handshake_timeout.as_millis()).unwrap();
    Config { handshake_timeout_ms, ..limited(|limits| limits.address_connects = Rate { per_s: 1_000, burst: 2_000 }) }
}

/// How many of so many besiegers are left after the time, and the p99 of legitimate connects without and with them.
pub(crate) async fn siege(
    gateway: &Gateway,
    half: &[u8],
    open: impl AsyncFn(SocketAddr) + Copy,
    besiegers: usize,
) -> (usize, Duration, Duration) {
    let alone = open_all(gateway, open, LEGITIMATE).await;
    let mut streams = besiege(gateway, half, besiegers).await;
    let last = Instant::now();
    drop_closed(&mut streams);
    assert_eq!(streams.len(), besiegers, "all at a time");
    // Behind them in the queue of the kernel: once it is served, all of them are in.
    open_all(gateway, open, 1).await;
    let with = open_all(gateway, open, LEGITIMATE).await;
    let left = hold_on(streams, last + GONE_AFTER).await;
    (left, alone, with)
}

/// Opens one socket.
async fn open(address: SocketAddr) {
    let head = RawClient::connect(address).await.asks("").await;
    assert!(head.starts_with("http/1.1 101 "), "refused: {head}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x16_five_thousand_half_sent_handshakes_are_dropped_in_time_and_connects_go_on() {
    raise_open_files();
    assert!(Config::default().handshake_timeout_ms <= 15_000 - 5_000, "all are closed within 15 s by the defaults");
    assert!(Config::default().max_handshakes > BESIEGERS);
    let gateway = Gateway::start(besieged(HANDSHAKE_TIMEOUT), Behaviour::Trust);
    let (left, alone, with) = siege(&gateway, &half_a_request(), open, BESIEGERS).await;
    eprintln!("p99 of a connect: {alone:?} alone, {with:?} under siege");
    assert_eq!(left, 0);
    // Generous, for a machine that does other things as well; the bench holds it to less.
    assert!(with <= alone * 3 + Duration::from_millis(50), "{with:?} instead of {alone:?}");

    let gateway = Gateway::start(besieged(Duration::from_secs(3_600)), Behaviour::Trust);
    let (left, ..) = siege(&gateway, &half_a_request(), open, BESIEGERS / 10).await;
    assert_eq!(left, BESIEGERS / 10, "control: without a limit on their time they all stay");
}

/// Whether anyone gets a socket while handshakes of this age fill all the room.
async fn gets_through(gateway: &Gateway) -> bool {
    let mut client = RawClient::connect_from(address(999), gateway.address).await;
    client.asks("").await.starts_with("http/1.1 101 ")
}

#[tokio::test]
async fn x16_when_handshakes_fill_the_room_the_oldest_gives_way() {
    let settings = limited(|limits| limits.address_connects = Rate::MAX);
    let settings = Config { max_handshakes: 50, handshake_timeout_ms: 60_000, ..settings };
    let gateway = Gateway::start(settings, Behaviour::Trust);
    let mut streams = besiege(&gateway, &half_a_request(), 50).await;
    assert!(!gets_through(&gateway).await, "control: a bound alone shuts everyone out");
    // One after the other, as they grow old enough: they did not all come at once.
    for _ in 0..20 {
        within(async { while !gets_through(&gateway).await {} }).await;
    }
    within(first_closed(&mut streams)).await;
    assert!((29..50).contains(&streams.len()), "{} are left: one for each that came", streams.len());
}
