//! Killed at random instants, over and over, while people write.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use client::ChatId;
use nix::sys::signal::{Signal, kill};
use proto::v1::ChatKind;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use testkit::wait::until;
use tokio::task::JoinSet;

use crate::cast::{Cast, Device, SOON, user};
use crate::process::Up;

/// Rounds of the quick tier.
const ROUNDS: u32 = 60;
/// Replays the instants of an earlier run, as far as a machine's timing allows.
const SEED: &str = "HELIOGRAPH_SEED";
const NAMES: [&str; 4] = ["alice", "bob", "carol", "dave"];

/// Four people who write into two chats without a pause, whatever happens to the server.
#[derive(Debug)]
pub(crate) struct Talk {
    pub(crate) cast: Cast,
    stored: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    writers: JoinSet<()>,
}

impl Talk {
    /// Starts with this many messages under way a writer.
    pub(crate) async fn begin(cast: Cast, at_once: usize) -> Self {
        let devices: Vec<_> = NAMES.iter().map(|name| cast.device(name, "phone", 0)).collect();
        let (stored, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let mut writers = JoinSet::new();
        for creator in &devices[..2] {
            let others: Vec<_> = NAMES.into_iter().filter(|name| user(name) != creator.user).collect();
            let chat = cast.chat(creator, ChatKind::Group, &others).await;
            for device in &devices {
                device.knows(chat, 1).await;
                for writer in 0..at_once {
                    let (device, stored, stop) = (Arc::clone(device), Arc::clone(&stored), Arc::clone(&stop));
                    writers.spawn(write(device, chat, writer, stored, stop));
                }
            }
        }
        Self { cast, stored, stop, writers }
    }

    /// How many messages were stored.
    pub(crate) fn stored(&self) -> u64 {
        self.stored.load(Ordering::Relaxed)
    }

    /// Waits until this many more are stored.
    pub(crate) async fn goes_on(&self, count: u64, when: &str) {
        let before = self.stored();
        until(SOON, &format!("{count} more messages after {when}"), async || self.stored() >= before + count).await;
    }

    /// Lets everybody finish the sentence: how many messages were stored.
    pub(crate) async fn end(&mut self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.writers.join_next().await {
            ended.unwrap();
        }
        self.stored()
    }
}

async fn write(device: Arc<Device>, chat: ChatId, writer: usize, stored: Arc<AtomicU64>, stop: Arc<AtomicBool>) {
    let mut count = 0;
    while !stop.load(Ordering::Relaxed) {
        device.say(chat, format!("message {count} of writer {writer}")).await;
        count += 1;
        stored.fetch_add(1, Ordering::Relaxed);
        device.client.seen(chat, device.client.known(chat));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn kills_at_random_instants_cost_nothing() {
    let seed = std::env::var(SEED).map_or_else(|_| rand::random(), |text| text.parse().expect("a number"));
    eprintln!("{SEED}={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut up = Up::new();
    up.start().await;
    let mut talk = Talk::begin(up.cast(), 2).await;
    for round in 0..ROUNDS {
        // Some progress, then some time, so that the instant is not tied to an outcome.
        let (progress, spin) = (random.random_range(0..40), Duration::from_micros(random.random_range(0..20_000)));
        let with_broker = random.random_ratio(1, 5);
        talk.goes_on(progress, &format!("round {round} of seed {seed}")).await;
        let instant = tokio::time::Instant::now() + spin;
        until(SOON, "the instant", async || tokio::time::Instant::now() >= instant).await;
        up.kill();
        if with_broker {
            up.kill_broker();
        }
        // Both ways of a command in turn, and what one left behind met by the other.
        up.hands_over = round % 2 == 0;
        up.start().await;
    }
    talk.goes_on(50, "the last kill").await;
    let said = talk.end().await;
    let report = talk.cast.verdict().await;
    assert_eq!(report.counts.entries, said + 2, "seed {seed}: {report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_killed_while_it_starts_is_started_again() {
    let mut up = Up::new();
    up.start().await;
    let mut talk = Talk::begin(up.cast(), 1).await;
    let mut killed = up.broker().expect("a broker");
    up.kill_broker();
    for _ in 0..4 {
        // Its pid is known before it answers.
        let next = until(SOON, "the next broker", async || up.broker().filter(|next| *next != killed)).await;
        kill(next, Signal::SIGKILL).unwrap();
        killed = next;
    }
    talk.goes_on(20, "the broker was killed while it started").await;
    let said = talk.end().await;
    let report = talk.cast.verdict().await;
    assert_eq!(report.counts.entries, said + 2, "{report}");
}
