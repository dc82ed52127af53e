//! The people of a run, each at a seat: a client that may be killed and come back, and what all of them saw.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use checker::Recorder;
use client::{ChatId, Client, Options, Settlement, Token, Trust, UserId};
use domain::UserId as DomainUser;
use heliograph::identity::user_id;
use proto::v1;
use tokio::time::{Instant, sleep, timeout};
use witness::{Eyes, user_of};

/// Longest wait for what a healthy deployment does at once.
pub(crate) const SOON: Duration = Duration::from_secs(60);
/// How long a killed client may take to be gone.
const ENDS_WITHIN: Duration = Duration::from_secs(10);
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Signs a user in.
pub(crate) type Signs = Arc<dyn Fn(DomainUser) -> Result<String> + Send + Sync>;

/// Where clients connect, and how they sign in.
#[derive(Clone)]
pub(crate) struct Entry {
    pub(crate) urls: Vec<String>,
    pub(crate) signs: Signs,
    pub(crate) trust: Trust,
    /// Distinguishes the people of this run from those of others on the same deployment.
    pub(crate) run: String,
}

/// A place that one device of one user has, whichever client sits there.
pub(crate) struct Seat {
    pub(crate) name: String,
    pub(crate) user: UserId,
    device: String,
    place: usize,
    sitting: Mutex<Sitting>,
    /// It is killed without its outbox: it has one send under way at most, so that each accepted one must be stored.
    pub(crate) is_forgetful: bool,
    /// Nobody may send: the client is being replaced, or knows too little yet.
    pub(crate) is_away: AtomicBool,
}

#[derive(Clone)]
struct Sitting {
    client: Client,
    eyes: Arc<Eyes>,
}

/// Everybody.
pub(crate) struct Cast {
    entry: Entry,
    pub(crate) recorder: Recorder,
    seats: Mutex<Vec<Arc<Seat>>>,
    /// Every observer that there ever was.
    watched: Mutex<Vec<Arc<Eyes>>>,
    names: Mutex<BTreeSet<String>>,
    chats: Mutex<BTreeSet<ChatId>>,
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits until something holds; false: it did not within this time.
pub(crate) async fn holds(within: Duration, mut check: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + within;
    loop {
        if check() {
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
        sleep(LOOK_AGAIN).await;
    }
}

impl Entry {
    /// The user of a name in this run.
    pub(crate) fn user(&self, name: &str) -> UserId {
        UserId(user_id(&format!("{}{name}", self.run)).into_bytes())
    }

    /// A token for the name.
    pub(crate) fn token(&self, name: &str) -> Result<String> {
        (self.signs)(DomainUser::new(self.user(name).0))
    }

    /// Options of a device that comes back at once after a loss, and whose outbox asks again soon.
    fn options(&self, name: &str, device: &str, place: usize) -> Options {
        let (entry, owned) = (self.clone(), name.to_owned());
        let token = Token::made_by(move || Ok(entry.token(&owned)?));
        let mut urls = self.urls.clone();
        let turn = place % urls.len().max(1);
        urls.rotate_left(turn);
        Options {
            urls,
            trust: self.trust.clone(),
            back_off: Duration::from_millis(20),
            longest_back_off: Duration::from_millis(400),
            ..Options::new("", token, device)
        }
    }
}

impl Cast {
    pub(crate) fn new(entry: Entry) -> Self {
        Self {
            entry,
            recorder: Recorder::new(),
            seats: Mutex::default(),
            watched: Mutex::default(),
            names: Mutex::default(),
            chats: Mutex::default(),
        }
    }

    pub(crate) fn entry(&self) -> &Entry {
        &self.entry
    }

    /// A device that connects now.
    pub(crate) fn seat(&self, name: &str, device: &str, is_forgetful: bool) -> Arc<Seat> {
        let place = lock(&self.seats).len();
        let user = self.entry.user(name);
        let eyes = Arc::new(Eyes::new(self.recorder.client(user_of(user), device)));
        let sitting = Mutex::new(self.sit(name, device, place, eyes, |options| options));
        let (name, device) = (name.to_owned(), device.to_owned());
        lock(&self.names).insert(name.clone());
        let is_away = AtomicBool::new(false);
        let seat = Arc::new(Seat { name, user, device, place, sitting, is_forgetful, is_away });
        lock(&self.seats).push(Arc::clone(&seat));
        seat
    }

    /// Its histories are read too, though no device of it is in the run.
    pub(crate) fn knows(&self, name: &str) {
        lock(&self.names).insert(name.to_owned());
    }

    fn sit(
        &self,
        name: &str,
        device: &str,
        place: usize,
        eyes: Arc<Eyes>,
        change: impl FnOnce(Options) -> Options,
    ) -> Sitting {
        let options = change(self.entry.options(name, device, place));
        let (client, mut events) = Client::connect(Options { observer: Some(eyes.clone()), ..options });
        lock(&self.watched).push(Arc::clone(&eyes));
        let told = Arc::clone(&eyes);
        tokio::spawn(async move {
            while events.next().await.is_some() {}
            told.ended();
        });
        Sitting { client, eyes }
    }

    /// Kills the client at a seat, and starts one after the pause: from what it kept, or knowing nothing.
    pub(crate) async fn restart(&self, seat: &Seat, keeps: bool, pause: Duration) -> Result<()> {
        seat.is_away.store(true, Ordering::Relaxed);
        let before = lock(&seat.sitting).clone();
        before.client.close();
        if !holds(ENDS_WITHIN, || before.eyes.seen().ended).await {
            bail!("the client of {} does not end", seat.name);
        }
        sleep(pause).await;
        let (name, device, place) = (&seat.name, &seat.device, seat.place);
        let now = if keeps {
            let (progress, kept) = before.client.state();
            before.eyes.resumed(&progress);
            self.sit(name, device, place, Arc::clone(&before.eyes), |options| Options {
                progress,
                kept: Some(kept),
                ..options
            })
        } else {
            let eyes = Arc::new(Eyes::new(self.recorder.client(user_of(seat.user), device)));
            self.sit(name, device, place, eyes, |options| options)
        };
        *lock(&seat.sitting) = now;
        // Who forgot its outbox must not write before it knows the chat: its first send names what it knows.
        if keeps {
            seat.is_away.store(false, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Lets those write again who know enough by now.
    pub(crate) fn wake(&self) {
        for seat in self.seats() {
            if seat.is_away.load(Ordering::Relaxed) && seat.eyes().seen().caught_up {
                seat.is_away.store(false, Ordering::Relaxed);
            }
        }
    }

    pub(crate) fn seats(&self) -> Vec<Arc<Seat>> {
        lock(&self.seats).clone()
    }

    pub(crate) fn names(&self) -> Vec<String> {
        lock(&self.names).iter().cloned().collect()
    }

    pub(crate) fn chats(&self) -> Vec<ChatId> {
        lock(&self.chats).iter().copied().collect()
    }

    /// Creates a chat and waits until it is stored.
    pub(crate) async fn chat(&self, creator: &Seat, kind: v1::ChatKind, others: &[&str]) -> Result<ChatId> {
        let eyes = creator.eyes();
        if !holds(SOON, || eyes.seen().connections > 0).await {
            bail!("{} is not signed in after {SOON:?}", creator.name);
        }
        let member = |name: &&str| v1::Member { user: self.entry.user(name).to_wire(), role: v1::Role::Member.into() };
        let sent = creator.client().create_chat(kind, others.iter().map(member).collect())?;
        let settled = timeout(SOON, sent.outcome).await.context("a chat is not made in time")??;
        let Settlement::Stored { chat, .. } = settled else { bail!("a chat is not made: {settled:?}") };
        lock(&self.chats).insert(chat);
        Ok(chat)
    }

    /// The highest seq of the chat that anybody was told a command of its own is stored at.
    pub(crate) fn highest_stored(&self, chat: ChatId) -> u64 {
        lock(&self.watched).iter().map(|eyes| eyes.highest_stored(chat)).max().unwrap_or_default()
    }

    /// The highest watermark that the user itself was told, of each chat.
    pub(crate) fn echoed(&self, user: UserId) -> BTreeMap<ChatId, (u64, u64)> {
        let mut highest: BTreeMap<ChatId, (u64, u64)> = BTreeMap::new();
        for seat in self.seats().iter().filter(|seat| seat.user == user) {
            for ((chat, of), mark) in &seat.eyes().seen().marks {
                if *of == user {
                    let known = highest.entry(*chat).or_default();
                    *known = (known.0.max(mark.0), known.1.max(mark.1));
                }
            }
        }
        highest
    }

    /// A client that nobody watches and that moves no watermark.
    pub(crate) fn reader(&self, name: &str) -> Client {
        let options = self.entry.options(name, "reader", 0);
        Client::connect(Options { receipts: false, ..options }).0
    }
}

impl Seat {
    /// Whoever sits there now.
    pub(crate) fn client(&self) -> Client {
        lock(&self.sitting).client.clone()
    }

    /// What that one sees.
    pub(crate) fn eyes(&self) -> Arc<Eyes> {
        Arc::clone(&lock(&self.sitting).eyes)
    }

    /// Whether it may send.
    pub(crate) fn may_write(&self) -> bool {
        !self.is_away.load(Ordering::Relaxed)
    }
}
