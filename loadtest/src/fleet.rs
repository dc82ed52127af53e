//! The load: signed-in sockets, direct chats between them, and the account of every message.
//!
//! A message is done when its sender was told `stored` and its recipient received it, in the chat's order, once. What
//! deviates from that fails the run. The schedule is fixed beforehand: a message's latency counts from when it was due.

mod account;
mod socket;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use bytes::{BufMut as _, Bytes, BytesMut};
use domain::{ChatId, Partition, UserId};
use hdrhistogram::Histogram;
use proto::v1::{self, client_frame, command};
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::Notify;
use tokio::time::sleep;

use crate::target::Target;
use crate::wire;
pub(crate) use account::Latencies;
use account::{Chat, Progress};

/// What every message carries.
pub(crate) const BODY_BYTES: usize = 128;
/// What clients of the protocol may have in one chat's outbox.
const OUTBOX_SPAN: u64 = 31;
const SETTLES_WITHIN: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// A signed-in socket of one user.
struct Socket {
    user: UserId,
    origin: u64,
    stream: OwnedWriteHalf,
    out: Mutex<Vec<u8>>,
    /// The kernel took only a part of `out`.
    blocked: Notify,
    /// Partitions whose events are pushed to it.
    ready: AtomicU64,
}

/// Sockets and chats.
pub(crate) struct Fleet {
    sockets: Vec<Socket>,
    chats: Vec<Chat>,
    by_id: HashMap<Bytes, usize>,
    birth: Instant,
    /// Chats send as much as their window takes, without a schedule.
    greedy: AtomicBool,
    window: AtomicU64,
    progress: Progress,
}

/// What a saturating run did.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Saturation {
    /// Messages that were stored and received.
    pub(crate) messages: u64,
    /// From the first send until the last message was done.
    pub(crate) seconds: f64,
}

impl Fleet {
    /// Signs `sockets` users in, opens `chats` direct chats among them, and waits until all is ready.
    pub(crate) async fn open(target: &Target, sockets: usize, chats: usize, partitions: u16) -> Result<Arc<Self>> {
        let mut signed_in = Vec::new();
        let mut readers = Vec::new();
        for number in 0..sockets {
            let user = UserId::new((0x10ad_0000_u128 + number as u128).to_be_bytes());
            let (stream, read) = wire::connect(target.gateway()).await?;
            let mut out = Vec::new();
            wire::put_authenticate(target.token(user)?, "load", None, &mut out);
            let (input, stream) = stream.into_split();
            readers.push((input, read));
            signed_in.push(Socket {
                user,
                origin: rand::random(),
                stream,
                out: Mutex::new(out),
                blocked: Notify::new(),
                ready: AtomicU64::new(0),
            });
        }
        let stride = (sockets / chats).max(1);
        let unix_ms = 1_790_000_000_000;
        let chats: Vec<Chat> = (0..chats)
            .map(|number| {
                let (sender, round) = (number * stride % sockets, number * stride / sockets);
                // Another recipient in each round: two people have one direct chat.
                let recipient = (sender + 1 + round) % sockets;
                let partition = Partition(u16::try_from(number % usize::from(partitions)).unwrap_or(0));
                Chat::new(ChatId::draw(partition, unix_ms, rand::random()).to_wire(), sender, recipient)
            })
            .collect();
        let by_id = chats.iter().enumerate().map(|(at, chat)| (chat.id.clone(), at)).collect();
        let fleet = Arc::new(Self {
            sockets: signed_in,
            chats,
            by_id,
            birth: Instant::now(),
            greedy: AtomicBool::new(false),
            window: AtomicU64::new(OUTBOX_SPAN),
            progress: Progress::new()?,
        });
        for (at, (input, read)) in readers.into_iter().enumerate() {
            let fleet = Arc::clone(&fleet);
            fleet.flush(at)?;
            tokio::spawn(async move {
                if let Err(error) = fleet.serve(at, input, read).await {
                    fleet.progress.fail(format!("socket {at}: {error:#}"));
                }
            });
        }
        let partitions = u64::from(partitions);
        let all_ready = || fleet.sockets.iter().all(|socket| socket.ready.load(Ordering::Relaxed) >= partitions);
        fleet.until("all sockets are ready", all_ready).await?;
        fleet.create_chats().await?;
        Ok(fleet)
    }

    /// How many sockets it has.
    pub(crate) fn sockets(&self) -> usize {
        self.sockets.len()
    }

    async fn create_chats(&self) -> Result<()> {
        for (at, chat) in self.chats.iter().enumerate() {
            let other = v1::Member { user: self.socket(chat.recipient)?.user.to_wire(), role: v1::Role::Member.into() };
            let create = v1::CreateChat { kind: v1::ChatKind::Direct.into(), members: vec![other] };
            let sender = self.socket(chat.sender)?;
            let wire = v1::Command {
                chat: chat.id.clone(),
                origin: sender.origin,
                action: Some(command::Action::CreateChat(create)),
                ..v1::Command::default()
            };
            let frame = v1::ClientFrame { id: request(at, 0), frame: Some(client_frame::Frame::Command(wire)) };
            wire::put_binary(&frame, &mut lock(&sender.out));
            self.flush(chat.sender)?;
            // A few at a time: each claims its direct chat with a sync of its own.
            self.until("the chat before is open", || self.progress.opened() + 16 > at as u64).await?;
        }
        self.until("all chats are open", || {
            self.chats.iter().all(|chat| {
                let account = lock(&chat.account);
                account.head >= 1 && account.recipient_seq >= 1
            })
        })
        .await
    }

    /// Every chat keeps `window` messages under way, for this long; then what is under way drains to zero.
    pub(crate) async fn saturate(&self, window: u64, time: Duration) -> Result<Saturation> {
        let before = self.progress.sent();
        self.window.store(window, Ordering::Relaxed);
        self.greedy.store(true, Ordering::Relaxed);
        let begun = Instant::now();
        let mut touched = Vec::new();
        for (at, chat) in self.chats.iter().enumerate() {
            self.pump(at, &mut lock(&chat.account), &mut touched)?;
            if touched.len() >= 64 {
                self.flush_all(&mut touched)?;
                tokio::task::yield_now().await;
            }
        }
        self.flush_all(&mut touched)?;
        sleep(time.saturating_sub(begun.elapsed())).await;
        self.greedy.store(false, Ordering::Relaxed);
        self.drain().await?;
        let seconds =
            Duration::from_nanos(self.progress.last_done_ns()).saturating_sub(begun - self.birth).as_secs_f64();
        Ok(Saturation { messages: self.progress.sent() - before, seconds })
    }

    /// `rate` messages a second on a fixed schedule, chats in turn; latencies of what was due after `warm_up`.
    pub(crate) async fn pace(self: &Arc<Self>, rate: f64, warm_up: Duration, time: Duration) -> Result<Latencies> {
        self.window.store(OUTBOX_SPAN, Ordering::Relaxed);
        let start = self.birth.elapsed() + Duration::from_millis(5);
        self.progress.measure_from(start + warm_up);
        let count = ((warm_up + time).as_secs_f64() * rate) as u64;
        let (fleet, runtime) = (Arc::clone(self), tokio::runtime::Handle::current());
        // A thread of its own: the runtime's timer is no finer than a millisecond.
        let pacer = thread::Builder::new().name("pacer".to_owned()).spawn(move || -> Result<Histogram<u64>> {
            // Sockets are written from here, so they may want to be registered.
            let _entered = runtime.enter();
            let mut lag = account::histogram()?;
            let mut touched = Vec::new();
            for number in 0..count {
                let due = start + Duration::from_secs_f64(number as f64 / rate);
                thread::sleep(due.saturating_sub(fleet.birth.elapsed()));
                lag.saturating_record(nanos(fleet.birth.elapsed().saturating_sub(due)));
                let at = usize::try_from(number)? % fleet.chats.len();
                let chat = fleet.chats.get(at).context("no such chat")?;
                let mut account = lock(&chat.account);
                account.backlog.push_back(nanos(due));
                fleet.pump(at, &mut account, &mut touched)?;
                drop(account);
                fleet.flush_all(&mut touched)?;
            }
            Ok(lag)
        })?;
        while !pacer.is_finished() {
            sleep(LOOK_AGAIN).await;
        }
        let lag = pacer.join().map_err(|_panic| anyhow::anyhow!("the pacer panicked"))??;
        self.drain().await?;
        self.progress.take_latencies(lag)
    }

    /// Waits until all that was sent is stored and received.
    async fn drain(&self) -> Result<()> {
        self.until("what was sent is stored and received", || self.progress.is_drained()).await?;
        for chat in &self.chats {
            lock(&chat.account).check_settled()?;
        }
        Ok(())
    }

    async fn until(&self, what: &str, holds: impl Fn() -> bool) -> Result<()> {
        let end = Instant::now() + SETTLES_WITHIN;
        while !holds() {
            self.progress.check()?;
            if Instant::now() > end {
                bail!("not in {SETTLES_WITHIN:?}: {what}; {}", self.progress);
            }
            sleep(LOOK_AGAIN).await;
        }
        self.progress.check()
    }

    fn socket(&self, at: usize) -> Result<&Socket> {
        self.sockets.get(at).context("no such socket")
    }

    fn now(&self) -> u64 {
        nanos(self.birth.elapsed())
    }
}

/// Names the command `n` of a chat in replies.
fn request(chat: usize, n: u64) -> u64 {
    ((chat as u64 + 1) << 32) | n
}

fn body(due_ns: u64) -> Bytes {
    let mut body = BytesMut::zeroed(BODY_BYTES);
    (&mut body[..8]).put_u64(due_ns);
    body.freeze()
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
