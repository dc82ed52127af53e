//! One broker, stores, a writer of events and statuses, and projections as a task that can be killed.

use std::time::Duration;

use bytes::Bytes;
use domain::{ChatId, ChatKind, Entry, Event, LoggedEntry, Member, Origin, Partition, Role, Seq, UserId, Watermark};
use event_log::{Log, LogConfig, Tenure};
use projections::{Config, Dependencies};
use prost::Message as _;
use proto::log::{EventBatch, StatusAdvanced, StatusBatch};
use store::{Checkpoint, Reader, Store};
use testkit::logs::{self, Watch};
use testkit::wait::until;
use testkit::{NatsOptions, NatsServer, Scratch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Longer than anything that a test waits for.
pub(crate) const SOON: Duration = Duration::from_secs(30);
pub(crate) const P0: Partition = Partition(0);
pub(crate) const P1: Partition = Partition(1);

pub(crate) fn user(n: u8) -> UserId {
    UserId::new([n; 16])
}

pub(crate) struct Deployment {
    pub(crate) server: NatsServer,
    pub(crate) log: Log,
    folder: Scratch,
    pub(crate) watch: Watch,
}

impl Deployment {
    pub(crate) async fn start() -> Self {
        let watch = logs::watch();
        let server = NatsServer::start(NatsOptions::default()).await.unwrap();
        let config = LogConfig {
            servers: vec![server.url().to_owned()],
            partitions: 2,
            // No window, so that a test may trim what it likes.
            window_bytes: 0,
            ..LogConfig::default()
        };
        let log = Log::connect(config).await.unwrap();
        log.open_streams().await.unwrap();
        Self { server, log, folder: Scratch::new("projections").unwrap(), watch }
    }

    pub(crate) async fn store(&self, name: &str) -> Store {
        Store::open(store::Config::in_folder(self.folder.join(name))).await.unwrap()
    }

    pub(crate) fn project(&self, store: &Store) -> Projections {
        let shutdown = CancellationToken::new();
        let dependencies = Dependencies { log: self.log.clone(), store: store.clone() };
        let task = tokio::spawn(projections::run(Config::default(), dependencies, shutdown.clone()));
        Projections { task, shutdown }
    }

    pub(crate) async fn writer(&self, partition: Partition) -> Writer {
        let tenure = self.log.acquire(event_log::Role::Ingest, partition).await.unwrap();
        Writer { tenure, last: 0 }
    }
}

/// The role under test.
pub(crate) struct Projections {
    task: JoinHandle<Result<(), projections::Error>>,
    shutdown: CancellationToken,
}

impl Projections {
    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.unwrap().unwrap();
    }

    /// Ends it where it stands.
    pub(crate) async fn kill(self) {
        self.task.abort();
        assert!(self.task.await.unwrap_err().is_cancelled());
    }
}

/// A chat's log in the making.
pub(crate) struct Chat {
    pub(crate) id: ChatId,
    pub(crate) seq: Seq,
    ordinal: u64,
}

impl Chat {
    pub(crate) fn new(partition: Partition, n: u64) -> Self {
        Self { id: ChatId::draw(partition, 1_000, n << 2), seq: 0, ordinal: 0 }
    }

    pub(crate) fn entry(&mut self, sender: u8, event: Event) -> LoggedEntry {
        self.seq += 1;
        self.ordinal += u64::from(event.is_message());
        LoggedEntry::encode(Entry {
            chat: self.id,
            seq: self.seq,
            ordinal: self.ordinal,
            sender: user(sender),
            origin: Origin(1),
            n: self.seq,
            time: 1_000_000 + self.seq,
            event,
        })
    }

    pub(crate) fn created(&mut self, members: impl IntoIterator<Item = u8>) -> LoggedEntry {
        let members = members.into_iter().map(|n| Member { user: user(n), role: Role::Member }).collect();
        self.entry(1, Event::ChatCreated { kind: ChatKind::Group, members })
    }

    pub(crate) fn message(&mut self, sender: u8, body: &str) -> LoggedEntry {
        self.entry(sender, Event::MessageSent(domain::Message::plain(Bytes::copy_from_slice(body.as_bytes()))))
    }
}

/// Publishes events as ingest does and statuses as delivery does.
pub(crate) struct Writer {
    pub(crate) tenure: Tenure,
    pub(crate) last: Seq,
}

impl Writer {
    pub(crate) async fn write(&mut self, entries: &[LoggedEntry]) {
        let batch = EventBatch {
            schema: 1,
            epoch: self.tenure.epoch().0,
            writer: 1,
            batch: self.last + 1,
            commands_through: None,
            entries: entries.iter().map(|logged| logged.bytes.clone()).collect(),
            appended_through: 0,
        };
        self.last = self.tenure.publish_events(batch.encode_to_vec().into(), self.last).await.unwrap();
    }

    pub(crate) async fn status(&self, chat: ChatId, n: u8, mark: Watermark) -> Seq {
        let status = StatusAdvanced {
            chat: chat.to_wire(),
            user: user(n).to_wire(),
            delivered: mark.delivered,
            seen: mark.seen,
            seen_ordinal: mark.seen_ordinal,
        };
        let batch = StatusBatch { schema: 1, epoch: self.tenure.epoch().0, statuses: vec![status] };
        self.tenure.publish_statuses(batch.encode_to_vec().into()).await.unwrap()
    }
}

pub(crate) async fn until_folded(store: &Store, partition: Partition, events: Seq, statuses: Seq) -> Checkpoint {
    until(SOON, "the models to be folded", async || {
        let kept = store.checkpoint(Reader::Projections, partition).await.unwrap();
        kept.filter(|checkpoint| checkpoint.events >= events && checkpoint.statuses >= statuses)
    })
    .await
}

/// All rows that these users and chats have in the models.
pub(crate) async fn rows(store: &Store, partition: Partition, users: u8, chats: &[ChatId]) -> String {
    let mut text = String::new();
    let users: Vec<UserId> = (1..=users).map(user).collect();
    for user in &users {
        text += &format!("{:?}\n", store.chats_of(*user, Some(partition), None, 100).await.unwrap());
        text += &format!("{:?}\n", store.heads(*user, partition, None, 100).await.unwrap());
    }
    text += &format!("{:?}\n", store.summaries(chats).await.unwrap());
    for chat in chats {
        text += &format!("{:?}\n", store.watermarks(*chat, &users).await.unwrap());
    }
    text
}
