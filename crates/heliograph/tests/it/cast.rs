//! The devices of one run, and the verdict at its end.
//!
//! Final histories are read over sockets of their own that no recorder watches: they must not fill a device's holes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use checker::{Recorder, Report, SeenEntry};
use client::machine::{Entry, Kept, Progress};
use client::{ChatId, Client, Events, Options, Sent, Settlement, Token, UserId};
use heliograph::identity::user_id;
use proto::v1;
use testkit::wait::until;
use tokens::TokenKeys;
use tokio::time::timeout;
use witness::{Eyes, chat_of, seen_entry, user_of};

/// Longest wait for anything on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(60);
/// How long a run may take to be quiet.
const QUIET_WITHIN: Duration = Duration::from_secs(60);
/// Devices that were handed everything by the end of a run are so soon after the last outcome.
const DELIVERED_WITHIN: Duration = Duration::from_secs(30);

/// One device of one user, and what it saw.
#[derive(Debug)]
pub(crate) struct Device {
    pub(crate) user: UserId,
    pub(crate) client: Client,
    pub(crate) eyes: Arc<Eyes>,
    name: String,
    device: String,
}

/// All devices of one run.
#[derive(Debug)]
pub(crate) struct Cast {
    urls: Vec<String>,
    keys: TokenKeys,
    recorder: Recorder,
    devices: Mutex<Vec<Arc<Device>>>,
    names: Mutex<BTreeSet<String>>,
    chats: Mutex<BTreeSet<ChatId>>,
}

/// The user of a name.
pub(crate) fn user(name: &str) -> UserId {
    UserId(user_id(name).into_bytes())
}

/// A plain member.
pub(crate) fn member(name: &str) -> v1::Member {
    v1::Member { user: user(name).to_wire(), role: v1::Role::Member.into() }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Cast {
    pub(crate) fn new(urls: Vec<String>, keys: TokenKeys) -> Self {
        let (devices, names, chats) = (Mutex::default(), Mutex::default(), Mutex::default());
        Self { urls, keys, recorder: Recorder::new(), devices, names, chats }
    }

    /// Options of a device that comes back at once after a loss.
    pub(crate) fn options(&self, name: &str, device: &str, gateway: usize) -> Options {
        Options {
            back_off: Duration::from_millis(20),
            longest_back_off: Duration::from_millis(200),
            ..Options::new(self.url(gateway), self.token(name), device)
        }
    }

    /// Where a gateway opens sockets.
    pub(crate) fn url(&self, gateway: usize) -> &str {
        &self.urls[gateway]
    }

    /// Signs this name in for an hour.
    pub(crate) fn token(&self, name: &str) -> String {
        self.keys.mint(domain::UserId::new(user(name).0), Duration::from_secs(3_600)).unwrap()
    }

    /// A device that connects to this gateway.
    pub(crate) fn device(&self, name: &str, device: &str, gateway: usize) -> Arc<Device> {
        taken(self.device_with(name, device, self.options(name, device, gateway)))
    }

    /// A device that may go to any gateway, this one first, and how often it has tried one.
    pub(crate) fn roaming(&self, name: &str, device: &str, gateway: usize) -> (Arc<Device>, Arc<AtomicU32>) {
        let (token, tries) = (self.token(name), Arc::<AtomicU32>::default());
        let counted = Arc::clone(&tries);
        // It is asked for once at each try.
        let token = Token::made_by(move || {
            counted.fetch_add(1, Ordering::Relaxed);
            Ok(token.clone())
        });
        let mut urls = self.urls.clone();
        urls.rotate_left(gateway);
        let options = Options { urls, token, ..self.options(name, device, gateway) };
        (taken(self.device_with(name, device, options)), tries)
    }

    /// A device whose socket is read only as fast as the caller takes its events.
    pub(crate) fn device_with(&self, name: &str, device: &str, options: Options) -> (Arc<Device>, Events) {
        let eyes = Arc::new(Eyes::new(self.recorder.client(user_of(user(name)), device)));
        self.with_eyes(name, eyes, options)
    }

    /// A device whose program was started again: it goes on from what it kept, through this gateway.
    pub(crate) fn again(&self, before: &Device, (progress, kept): (Progress, Kept), gateway: usize) -> Arc<Device> {
        before.eyes.resumed(&progress);
        let options = Options { progress, kept: Some(kept), ..self.options(&before.name, &before.device, gateway) };
        taken(self.with_eyes(&before.name, Arc::clone(&before.eyes), options))
    }

    fn with_eyes(&self, name: &str, eyes: Arc<Eyes>, options: Options) -> (Arc<Device>, Events) {
        let device = options.device.clone();
        let (client, events) = Client::connect(Options { observer: Some(eyes.clone()), ..options });
        let device = Arc::new(Device { user: user(name), client, eyes, name: name.to_owned(), device });
        lock(&self.names).insert(name.to_owned());
        let mut devices = lock(&self.devices);
        devices.retain(|other| !Arc::ptr_eq(&other.eyes, &device.eyes));
        devices.push(Arc::clone(&device));
        (device, events)
    }

    /// Creates a chat and waits until it is stored.
    pub(crate) async fn chat(&self, creator: &Device, kind: v1::ChatKind, others: &[&str]) -> ChatId {
        creator.signed_in().await;
        let sent = creator.client.create_chat(kind, others.iter().map(|name| member(name)).collect()).unwrap();
        let (chat, ..) = stored(sent).await;
        self.watch(chat);
        chat
    }

    /// The verdict will be about this chat too.
    pub(crate) fn watch(&self, chat: ChatId) {
        lock(&self.chats).insert(chat);
    }

    /// Waits until the run is quiet, reads every chat as each who was ever in it, and judges.
    pub(crate) async fn verdict(&self) -> Report {
        let devices = lock(&self.devices).clone();
        for device in &devices {
            let what = format!("all sends of {device} to settle", device = device.name);
            until(QUIET_WITHIN, &what, async || device.client.unsettled() == 0).await;
        }
        let mut shown: BTreeMap<(ChatId, UserId), u64> = BTreeMap::new();
        let mut readers = BTreeMap::new();
        let (chats, names) = (lock(&self.chats).clone(), lock(&self.names).clone());
        for chat in chats {
            let stored = devices.iter().map(|device| device.eyes.highest_stored(chat)).max().unwrap_or_default();
            let mut histories = Vec::new();
            for name in &names {
                let reader: &Client = readers.entry(name.clone()).or_insert_with(|| self.reader(name));
                let Some((through, entries)) = history(reader, chat, stored).await else { continue };
                let last = entries.last().map_or(0, |entry| entry.seq);
                shown.insert((chat, user(name)), last);
                histories.push((user(name), through, entries));
            }
            assert!(!histories.is_empty(), "nobody can read chat {chat}");
            for (reader, through, entries) in histories {
                self.recorder.final_history(chat_of(chat), user_of(reader), through, entries);
            }
        }
        // Not waited for with a panic: the checker says more about what is missing.
        let delivered = until(DELIVERED_WITHIN * 2, "everything to be delivered", async || {
            devices.iter().all(|device| {
                let of_user = shown.iter().filter(|((_, user), _)| *user == device.user);
                device.eyes.seen().caught_up
                    && of_user.into_iter().all(|((chat, _), last)| device.client.known(*chat) >= *last)
            })
        });
        let all_delivered = timeout(DELIVERED_WITHIN, delivered).await.is_ok();
        // An echo says what this owner was told, not what the table says: see docs/gaps.md.
        let options = checker::Options { echoes_kept: false, ..checker::Options::default() };
        let report = checker::check_with(&self.recorder.history(), options);
        assert!(report.is_clean(), "{report}");
        assert_eq!(report.counts.members_unread, 0, "somebody's history was not read");
        let behind: Vec<_> = devices.iter().filter(|device| !device.eyes.seen().caught_up).collect();
        assert!(all_delivered, "not all was delivered; not caught up: {behind:?}\n{report}");
        report
    }

    /// A client that nobody watches and that moves no watermark.
    fn reader(&self, name: &str) -> Client {
        Client::connect(Options { receipts: false, ..self.options(name, "reader", 0) }).0
    }
}

impl Device {
    pub(crate) async fn signed_in(&self) {
        until(SOON, "a welcome", async || self.eyes.seen().connections > 0).await;
    }

    pub(crate) async fn caught_up(&self) {
        until(SOON, "every partition to be caught up", async || self.eyes.seen().caught_up).await;
    }

    pub(crate) async fn knows(&self, chat: ChatId, seq: u64) {
        let what = format!("{} to know chat {chat} through {seq}", self.name);
        until(SOON, &what, async || self.client.known(chat) >= seq).await;
    }

    /// Ends the device's program: what it kept, for the next start.
    pub(crate) async fn end(&self) -> (Progress, Kept) {
        self.client.close();
        until(SOON, "the program to end", async || self.eyes.seen().ended).await;
        self.client.state()
    }

    /// Sends a message and waits until it is stored: its seq and time.
    pub(crate) async fn say(&self, chat: ChatId, body: impl Into<Bytes>) -> (u64, u64) {
        let (_, seq, time) = stored(self.client.send(chat, body).unwrap()).await;
        (seq, time)
    }

    /// Waits until this device was told that the user got, and read, the chat so far.
    pub(crate) async fn told(&self, chat: ChatId, user: UserId, delivered: u64, seen: u64) {
        let what = format!("{} to be told that {user} got {delivered} and saw {seen}", self.name);
        until(SOON, &what, async || {
            let all = self.eyes.seen();
            all.marks.get(&(chat, user)).is_some_and(|mark| mark.0 >= delivered && mark.1 >= seen)
        })
        .await;
    }
}

/// Takes the events of a device that nobody wants to hold up.
fn taken((device, mut events): (Arc<Device>, Events)) -> Arc<Device> {
    let eyes = Arc::clone(&device.eyes);
    tokio::spawn(async move {
        while events.next().await.is_some() {}
        eyes.ended();
    });
    device
}

/// Waits until a command is stored.
pub(crate) async fn stored(sent: Sent) -> (ChatId, u64, u64) {
    match timeout(SOON, sent.outcome).await.expect("an outcome in time").unwrap() {
        Settlement::Stored { chat, seq, time_us } => (chat, seq, time_us),
        Settlement::Rejected { code, head } => panic!("rejected with {code:?} at head {head}"),
    }
}

/// Reads a whole chat; none for who never was in it.
async fn history(reader: &Client, chat: ChatId, at_least: u64) -> Option<(u64, Vec<SeenEntry>)> {
    let (mut through, mut entries) = (0, Vec::new());
    loop {
        let page = until(SOON, "a page of history", async || {
            match reader.history(chat, through, 0, at_least).await {
                Ok(page) => Some(Some(page)),
                Err(client::Error::Refused(error)) if error.code() == v1::ErrorCode::NotAMember => Some(None),
                // Not signed in yet, or the rows are on their way.
                Err(_) => None,
            }
        })
        .await?;
        entries.extend(page.entries.into_iter().filter_map(Entry::new).filter_map(|entry| seen_entry(&entry)));
        if page.through <= through {
            return Some((through, entries));
        }
        through = page.through;
    }
}
