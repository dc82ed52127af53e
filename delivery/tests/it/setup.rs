//! One broker, one store, a writer of events, and delivery as a task that can be killed.

use std::time::Duration;

use delivery::{Config, Dependencies};
use domain::{
    ChatId, ChatKind, CommandPosition, Entry, Event, EventPosition, LoggedEntry, Member, Origin, Partition,
    PartitionPosition, Role, Seq, UserId, WriterId,
};
use event_log::{Log, LogConfig, Tenure};
use prost::Message as _;
use proto::log::EventBatch;
use store::{Append, ChatAppend, MemberRow, Store};
use testkit::logs::{self, Watch};
use testkit::{NatsOptions, NatsServer, Scratch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Longer than anything that a test waits for.
pub(crate) const SOON: Duration = Duration::from_secs(30);
pub(crate) const P0: Partition = Partition(0);

pub(crate) fn user(n: u8) -> UserId {
    UserId::new([n; 16])
}

pub(crate) struct Deployment {
    pub(crate) server: NatsServer,
    pub(crate) log: Log,
    pub(crate) store: Store,
    _folder: Scratch,
    pub(crate) watch: Watch,
}

impl Deployment {
    pub(crate) async fn start() -> Self {
        let watch = logs::watch();
        let server = NatsServer::start(NatsOptions::default()).await.unwrap();
        let config = LogConfig { servers: vec![server.url().to_owned()], partitions: 2, ..LogConfig::default() };
        let log = Log::connect(config).await.unwrap();
        log.open_streams().await.unwrap();
        let folder = Scratch::new("delivery").unwrap();
        let store = Store::open(store::Config::in_folder(folder.join("store"))).await.unwrap();
        Self { server, log, store, _folder: folder, watch }
    }

    /// The log of another process: what it is sent comes over the broker.
    pub(crate) async fn log_elsewhere(&self) -> Log {
        Log::connect(self.log.config().clone()).await.unwrap()
    }

    pub(crate) fn deliver(&self) -> Delivery {
        self.deliver_with(Config::default())
    }

    pub(crate) fn deliver_with(&self, config: Config) -> Delivery {
        let shutdown = CancellationToken::new();
        let dependencies = Dependencies { log: self.log.clone(), store: self.store.clone() };
        let task = tokio::spawn(delivery::run(config, dependencies, shutdown.clone()));
        Delivery { task, shutdown }
    }

    pub(crate) async fn writer(&self) -> Writer {
        let tenure = self.log.acquire(event_log::Role::Ingest, P0).await.unwrap();
        Writer { tenure, store: self.store.clone(), last: 0 }
    }
}

/// The role under test.
pub(crate) struct Delivery {
    task: JoinHandle<Result<(), delivery::Error>>,
    shutdown: CancellationToken,
}

impl Delivery {
    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.unwrap().unwrap();
    }

    /// Ends it where it stands, without a last checkpoint.
    pub(crate) async fn kill(self) {
        self.task.abort();
        assert!(self.task.await.unwrap_err().is_cancelled());
    }
}

/// A chat's log in the making.
pub(crate) struct Chat {
    pub(crate) id: ChatId,
    seq: Seq,
    ordinal: u64,
}

impl Chat {
    pub(crate) fn new(n: u64) -> Self {
        Self { id: ChatId::draw(P0, 1_000, n << 2), seq: 0, ordinal: 0 }
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

    pub(crate) fn message(&mut self, sender: u8) -> LoggedEntry {
        self.entry(sender, Event::MessageSent(domain::Message::plain(&b"hello"[..])))
    }
}

/// Publishes and appends as ingest does.
pub(crate) struct Writer {
    tenure: Tenure,
    store: Store,
    last: Seq,
}

impl Writer {
    pub(crate) async fn write(&mut self, entry: LoggedEntry) {
        self.publish(std::slice::from_ref(&entry)).await;
        self.append(&[entry]).await;
    }

    pub(crate) async fn publish(&mut self, entries: &[LoggedEntry]) {
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

    pub(crate) async fn append(&self, entries: &[LoggedEntry]) {
        let mut chats: Vec<ChatAppend> = Vec::new();
        for logged in entries {
            let entry = &logged.entry;
            let row = |user, role| MemberRow { chat: entry.chat, user, joined_seq: entry.seq, role, left_seq: None };
            let members = match &entry.event {
                Event::ChatCreated { members, .. } => members.iter().map(|m| row(m.user, m.role)).collect(),
                Event::MemberAdded { member } => vec![row(member.user, member.role)],
                Event::MessageSent { .. } => Vec::new(),
                Event::MemberRemoved { .. }
                | Event::MemberLeft
                | Event::RoleSet { .. }
                | Event::ChatRenamed { .. }
                | Event::OwnershipTransferred { .. }
                | Event::MessageEdited(_)
                | Event::MessageDeleted { .. }
                | Event::MessageReacted { .. }
                | Event::ChatPolicySet { .. }
                | Event::MessagePinned { .. }
                | Event::ImportBegun { .. }
                | Event::ImportEnded { .. } => unimplemented!("no test here needs it"),
            };
            match chats.last_mut().filter(|chat| chat.chat == entry.chat) {
                Some(chat) => {
                    chat.members.extend(members);
                    chat.rows.push(logged.clone());
                }
                None => {
                    chats.push(ChatAppend {
                        chat: entry.chat,
                        members,
                        roles: Vec::new(),
                        rows: vec![logged.clone()],
                        snapshot: None,
                    });
                }
            }
        }
        let position = PartitionPosition {
            epoch: self.tenure.epoch(),
            commands: CommandPosition::default(),
            events: EventPosition { sequence: self.last, writer: WriterId(1), batch: self.last },
        };
        self.store.append(Append { partition: P0, position, chats }).await.unwrap();
    }
}
