//! Readers that stand still: they cost a bounded queue, then their socket, and nobody else anything.

use bytes::Bytes;
use gateway::socket::{Class, CloseCode, Closed, Config};
use tokio::task::JoinSet;

use crate::socket::peer::{Behaviour, Gateway, Opened, RawClient, config, within};

const HEALTHY: usize = 198;
const STUCK: usize = 2;
const FRAMES: usize = 600;
const FRAME_BYTES: usize = 1_000;
/// What the bound is over by at most: a frame is admitted while less than the bound waits.
const OVER: usize = FRAME_BYTES + 4;

/// What the stuck ones cost.
struct Cost {
    /// Most bytes that waited for one of them.
    held: usize,
    ends: Vec<Option<Closed>>,
    /// Frames that the healthy ones got.
    got: usize,
}

/// Pushes frames to many readers of which 1 % never read.
async fn push_to_all(settings: Config) -> Cost {
    let mut gateway = Gateway::start(Config { send_buffer_bytes: 4_096, ..settings }, Behaviour::Trust);
    let mut clients = Vec::new();
    let mut stuck = Vec::new();
    for _ in 0..STUCK {
        let mut client = RawClient::connect_narrow(gateway.address).await;
        client.upgrade().await;
        stuck.push((client, gateway.opened().await));
    }
    let mut healthy: Vec<Opened> = Vec::new();
    for _ in 0..HEALTHY {
        let (client, opened) = gateway.open().await;
        clients.push(client);
        healthy.push(opened);
    }
    let mut readers = JoinSet::new();
    for mut client in clients {
        readers.spawn(async move {
            for n in 0..FRAMES as u32 {
                let frame = loop {
                    let frame = client.frame().await.expect("the socket stays open");
                    if frame.opcode != 9 {
                        break frame;
                    }
                };
                assert_eq!(frame.payload[..4], n.to_be_bytes(), "in order, without a gap");
            }
            FRAMES
        });
    }
    let mut held = 0;
    for n in 0..FRAMES as u32 {
        let frame = Bytes::from(n.to_be_bytes().repeat(FRAME_BYTES / 4));
        for (_, opened) in &stuck {
            let _ = opened.outbound.push(frame.clone(), Class::Ordinary);
            held = held.max(opened.outbound.queued_bytes());
        }
        for opened in &healthy {
            opened.outbound.push(frame.clone(), Class::Ordinary).unwrap();
        }
        // At the pace of those that read.
        for opened in &healthy {
            within(opened.outbound.drained()).await;
        }
    }
    let mut got = 0;
    while let Some(read) = within(readers.join_next()).await {
        got += read.unwrap();
    }
    Cost { held, ends: stuck.iter().map(|(_, opened)| opened.outbound.closed()).collect(), got }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x17_stuck_readers_hold_64_kib_then_are_closed_as_slow_and_others_get_all() {
    let defaults = Config::default();
    assert_eq!((defaults.queue_bytes, defaults.queue_frames), (65_536, 256));
    let cost = push_to_all(config()).await;
    assert!(cost.held < defaults.queue_bytes + OVER, "{} bytes", cost.held);
    assert!(cost.held > defaults.queue_bytes / 2, "the bound was reached: {} bytes", cost.held);
    assert_eq!(cost.ends, vec![Some(Closed::ByServer(CloseCode::Slow)); STUCK]);
    assert_eq!(cost.got, HEALTHY * FRAMES);

    let unbounded = Config { queue_bytes: 1 << 30, queue_frames: 1 << 20, ..config() };
    let control = push_to_all(unbounded).await;
    assert!(control.held > 4 * defaults.queue_bytes, "control: {} bytes are held", control.held);
    assert_eq!(control.ends, vec![None; STUCK], "control: and nobody is closed");
}
