//! The load: people who write, read, join and leave, whatever happens to the deployment.
//!
//! Each writer has a few sends under way and rests between them by its share of the run's rate, so that what there is to
//! judge stays bounded.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Result;
use client::{ChatId, Client, Settlement};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use proto::v1::{ChatKind, Role};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::cast::{Cast, SOON, Seat, holds};

/// Sends that a writer has under way: several rounds of a packer, well below what an outbox takes.
const UNDER_WAY: usize = 4;
/// How long a member stays in, or out of, the chat that is joined and left all the time.
const STAYS_MS: std::ops::Range<u64> = 20..150;
/// Every so many sends the writer has read all that it knows.
const READS_EVERY: u64 = 3;
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// What was done so far.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) stored: AtomicU64,
    pub(crate) rejected: AtomicU64,
    /// Sends that their killed client took with it.
    pub(crate) abandoned: AtomicU64,
    pub(crate) joins: AtomicU64,
}

/// The people, and what they do until told to stop.
pub(crate) struct Talk {
    pub(crate) cast: Arc<Cast>,
    pub(crate) tally: Arc<Tally>,
    /// Where the HTTP sends go.
    pub(crate) group: ChatId,
    stop: CancellationToken,
    tasks: JoinSet<Result<()>>,
}

impl Talk {
    /// Seats everybody, opens the chats, and begins.
    pub(crate) async fn begin(cast: Arc<Cast>, rate: f64, seed: u64) -> Result<Self> {
        let seat = |name, device| cast.seat(name, device, false);
        let alice = [seat("alice", "phone"), seat("alice", "laptop")];
        let bob = [seat("bob", "phone"), seat("bob", "tablet")];
        let (carol, dave, mallory) = (seat("carol", "phone"), seat("dave", "phone"), seat("mallory", "phone"));
        let frank = ["phone", "laptop", "tablet", "watch"].map(|device| cast.seat("frank", device, true));
        let group = cast.chat(&alice[0], ChatKind::Group, &["bob", "carol", "dave", "hal"]).await?;
        let calm = cast.chat(&bob[0], ChatKind::Group, &["alice", "frank"]).await?;
        let busy = cast.chat(&carol, ChatKind::Group, &["alice", "bob"]).await?;
        let channel = cast.chat(&dave, ChatKind::Channel, &["alice", "bob", "carol", "mallory"]).await?;
        let direct = cast.chat(&alice[0], ChatKind::Direct, &["bob"]).await?;
        let mut writers: Vec<(Arc<Seat>, ChatId)> = Vec::new();
        let mut writes = |seat: &Arc<Seat>, chats: &[ChatId]| {
            writers.extend(chats.iter().map(|chat| (Arc::clone(seat), *chat)));
        };
        writes(&alice[0], &[group, direct, busy]);
        writes(&alice[1], &[direct, calm]);
        writes(&bob[0], &[direct, busy]);
        writes(&bob[1], &[group]);
        writes(&carol, &[group, busy]);
        writes(&dave, &[group, channel]);
        writes(&mallory, &[busy]);
        frank.iter().for_each(|frank| writes(frank, &[calm]));
        let (tally, stop) = (Arc::new(Tally::default()), CancellationToken::new());
        let mut tasks = JoinSet::new();
        let share = rate / writers.len() as f64;
        for (place, (seat, chat)) in writers.into_iter().enumerate() {
            let random = StdRng::seed_from_u64(seed ^ (place as u64 + 1));
            let writer = Writer { seat, chat, place, share, tally: Arc::clone(&tally), stop: stop.clone(), random };
            tasks.spawn(writer.write());
        }
        let churn = Churn {
            owner: carol,
            chat: busy,
            member: mallory.user,
            tally: Arc::clone(&tally),
            stop: stop.clone(),
            random: StdRng::seed_from_u64(seed ^ 0xc4),
        };
        tasks.spawn(churn.run());
        Ok(Self { cast, tally, group, stop, tasks })
    }

    /// Lets everybody finish the sentence; false: somebody is still waiting for an answer after this time.
    pub(crate) async fn end(&mut self, within: Duration) -> Result<bool> {
        self.stop.cancel();
        let ended = async {
            while let Some(ended) = self.tasks.join_next().await {
                ended??;
            }
            Ok(())
        };
        match tokio::time::timeout(within, ended).await {
            Ok(ended) => ended.map(|()| true),
            Err(_late) => {
                self.tasks.abort_all();
                Ok(false)
            }
        }
    }
}

/// Who writes into one chat.
struct Writer {
    seat: Arc<Seat>,
    chat: ChatId,
    place: usize,
    share: f64,
    tally: Arc<Tally>,
    stop: CancellationToken,
    random: StdRng,
}

impl Writer {
    async fn write(mut self) -> Result<()> {
        let mut under_way = FuturesUnordered::new();
        let room = if self.seat.is_forgetful { 1 } else { UNDER_WAY };
        let mut count = 0;
        while !self.stop.is_cancelled() {
            while under_way.len() >= room {
                if let Some(settled) = under_way.next().await {
                    self.note(settled);
                }
            }
            // The forgetful write as fast as they are answered: one of them should be under way at any time.
            let rest = if self.seat.is_forgetful { 0.2 } else { self.random.random_range(0.2..1.8) } / self.share;
            let rest = Duration::from_secs_f64(rest);
            tokio::select! {
                () = self.stop.cancelled() => break,
                () = sleep(rest) => {}
            }
            if !self.seat.may_write() {
                continue;
            }
            let client = self.seat.client();
            // Refused at its bound, or it has just been killed: there will be another time.
            let Ok(sent) = client.send(self.chat, format!("{count} by writer {} of {}", self.place, self.seat.name))
            else {
                continue;
            };
            count += 1;
            under_way.push(sent.outcome);
            if count % READS_EVERY == 0 {
                read(&client, self.chat);
            }
        }
        while let Some(settled) = under_way.next().await {
            self.note(settled);
        }
        Ok(())
    }

    fn note(&self, settled: Result<Settlement, client::Error>) {
        let counter = match settled {
            Ok(Settlement::Stored { .. }) => &self.tally.stored,
            Ok(Settlement::Rejected { .. }) => &self.tally.rejected,
            Err(_ended) => &self.tally.abandoned,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

fn read(client: &Client, chat: ChatId) {
    client.seen(chat, client.known(chat));
}

/// Who adds somebody and puts them out again, all the time.
struct Churn {
    owner: Arc<Seat>,
    chat: ChatId,
    member: client::UserId,
    tally: Arc<Tally>,
    stop: CancellationToken,
    random: StdRng,
}

impl Churn {
    async fn run(mut self) -> Result<()> {
        let mut is_in = false;
        while !self.stop.is_cancelled() {
            let stays = Duration::from_millis(self.random.random_range(STAYS_MS));
            tokio::select! {
                () = self.stop.cancelled() => break,
                () = sleep(stays) => {}
            }
            let client = self.owner.client();
            let sent = if is_in {
                client.remove_member(self.chat, self.member)
            } else {
                client.add_member(self.chat, self.member, Role::Member)
            };
            let Ok(sent) = sent else {
                sleep(LOOK_AGAIN).await;
                continue;
            };
            match sent.outcome.await {
                Ok(Settlement::Stored { .. }) => {
                    is_in = !is_in;
                    self.tally.joins.fetch_add(u64::from(is_in), Ordering::Relaxed);
                }
                // A killed client's answer is in the chat: whoever asks for what is done already is told so.
                Ok(Settlement::Rejected { .. }) => is_in = !is_in,
                Err(_ended) => {}
            }
        }
        Ok(())
    }
}

/// Waits until everybody who sits somewhere has been signed in once.
pub(crate) async fn all_signed_in(cast: &Cast) -> bool {
    holds(SOON, || cast.seats().iter().all(|seat| seat.eyes().seen().connections > 0)).await
}
