//! One broker, one store, one running gateway, and chats written as ingest and projections write them.

use std::net::SocketAddr;
use std::time::Duration;

use domain::{
    ChatId, ChatKind, CommandPosition, Entry, Epoch, Event, EventPosition, LoggedEntry, Member, Origin, Partition,
    PartitionPosition, Role, Seq, UserId, WriterId,
};
use event_log::{Log, LogConfig, Record, Stream, Tenure};
use gateway::socket::SubProtocol;
use gateway::{Config, Dependencies, Gateway};
use issuers::Issuers;
use store::{Append, ChatAppend, Checkpoint, MemberRow, Projection, Reader, Store, SummaryRow, UserChatRow};
use testkit::logs::{self, Watch};
use testkit::{NatsOptions, NatsServer, Scratch};
use tokens::TokenKeys;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::client::Client;

/// Longer than anything that a test waits for.
pub(crate) const SOON: Duration = Duration::from_secs(30);
pub(crate) const P0: Partition = Partition(0);

pub(crate) fn user(n: u8) -> UserId {
    UserId::new([n; 16])
}

pub(crate) fn chat(n: u64) -> ChatId {
    ChatId::draw(P0, 1_000, n << 2)
}

pub(crate) struct Deployment {
    over: SubProtocol,
    pub(crate) server: NatsServer,
    pub(crate) log: Log,
    pub(crate) store: Store,
    pub(crate) pem: String,
    pub(crate) keys: TokenKeys,
    pub(crate) epoch: Epoch,
    pub(crate) address: SocketAddr,
    pub(crate) shutdown: CancellationToken,
    pub(crate) running: JoinHandle<Result<(), gateway::Error>>,
    pub(crate) watch: Watch,
    _folder: Scratch,
}

impl Deployment {
    /// One whose clients speak this sub-protocol.
    pub(crate) async fn start(over: SubProtocol) -> Self {
        Self::start_with(over, |_, _| {}).await
    }

    pub(crate) async fn start_with(over: SubProtocol, change: impl FnOnce(&mut Config, &mut LogConfig)) -> Self {
        let watch = logs::watch();
        let server = NatsServer::start(NatsOptions::default()).await.unwrap();
        let mut log_config =
            LogConfig { servers: vec![server.url().to_owned()], partitions: 2, ..LogConfig::default() };
        let mut config = Config::listening_on("127.0.0.1:0").unwrap();
        config.socket.drain_ms = 0;
        // Clients here do not answer the close frame of a gateway that leaves.
        config.socket.close_timeout_ms = 100;
        change(&mut config, &mut log_config);
        let log = Log::connect(log_config).await.unwrap();
        let epoch = log.open_streams().await.unwrap()[0];
        let folder = Scratch::new("gateway").unwrap();
        let store = Store::open(store::Config::in_folder(folder.join("store"))).await.unwrap();
        let pem = TokenKeys::generate().unwrap();
        let keys = TokenKeys::from_pem(&pem).unwrap();
        let dependencies =
            Dependencies { log: log.clone(), store: store.clone(), keys: keys.clone(), issuers: Issuers::default() };
        let gateway = Gateway::bind(config, dependencies).unwrap();
        let (address, shutdown) = (gateway.local_addr(), CancellationToken::new());
        let running = tokio::spawn(gateway.run(shutdown.clone()));
        Self { over, server, log, store, pem, keys, epoch, address, shutdown, running, watch, _folder: folder }
    }

    pub(crate) fn token(&self, n: u8) -> String {
        self.keys.mint(user(n), Duration::from_secs(600)).unwrap()
    }

    /// A client that is connected and greeted, not signed in.
    pub(crate) async fn connect(&self) -> Client {
        Client::connect(self.address, self.over).await
    }

    /// A signed-in client.
    pub(crate) async fn client(&self, n: u8) -> Client {
        let mut client = self.connect().await;
        client.sign_in(&self.token(n)).await;
        client
    }

    pub(crate) async fn ingest(&self) -> Ingest {
        Ingest { tenure: self.log.acquire(event_log::Role::Ingest, P0).await.unwrap() }
    }

    /// Appends these entries with the member rows that come with them.
    pub(crate) async fn append(&self, entries: &[LoggedEntry]) {
        let id = entries[0].entry.chat;
        let members = self.store.members(id, 0, tokio::time::Instant::now()).await.unwrap();
        let mut changed = Vec::new();
        for LoggedEntry { entry, .. } in entries {
            let joined = |member: &Member| MemberRow {
                chat: id,
                user: member.user,
                joined_seq: entry.seq,
                role: member.role,
                left_seq: None,
            };
            match &entry.event {
                Event::ChatCreated { members, .. } => changed.extend(members.iter().map(joined)),
                Event::MemberAdded { member } => changed.push(joined(member)),
                Event::MemberRemoved { user } => {
                    let row = *changed.iter().chain(&members).rfind(|row| row.user == *user).unwrap();
                    changed.push(MemberRow { left_seq: Some(entry.seq), ..row });
                }
                Event::ImportEnded { members } => {
                    changed.extend(members.iter().map(|member| MemberRow { joined_seq: 1, ..joined(member) }));
                }
                Event::MessageSent { .. }
                | Event::MemberLeft
                | Event::RoleSet { .. }
                | Event::ChatRenamed { .. }
                | Event::OwnershipTransferred { .. }
                | Event::MessageEdited(_)
                | Event::MessageDeleted { .. }
                | Event::MessageReacted { .. }
                | Event::ChatPolicySet { .. }
                | Event::MessagePinned { .. }
                | Event::ImportBegun { .. } => {}
            }
        }
        let chats =
            vec![ChatAppend { chat: id, members: changed, roles: Vec::new(), rows: entries.to_vec(), snapshot: None }];
        let sequence = entries.last().unwrap().entry.seq;
        let position = PartitionPosition {
            epoch: self.epoch,
            commands: CommandPosition::default(),
            events: EventPosition { sequence, writer: WriterId(1), batch: sequence },
        };
        self.store.append(Append { partition: P0, position, chats }).await.unwrap();
    }

    /// The read models of one chat of these users, folded up to event `events`.
    pub(crate) async fn project(&self, chat: ChatId, users: &[u8], head: Seq, events: Seq) {
        let row = |n: &u8| UserChatRow { user: user(*n), chat, joined_seq: 1, left_seq: None };
        let summary = SummaryRow {
            chat,
            head,
            ordinal: head - 1,
            first_seq: 1,
            preview: None,
            activity: head,
            kind: ChatKind::Group,
        };
        let checkpoint = Checkpoint { epoch: self.epoch, events, statuses: 0 };
        let projection = Projection {
            user_chats: users.iter().map(row).collect(),
            summaries: vec![summary],
            ..Projection::bare(Reader::Projections, P0, checkpoint)
        };
        self.store.project(projection).await.unwrap();
    }

    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        timeout(SOON, self.running).await.expect("in time").unwrap().unwrap();
        self.watch.finish();
    }
}

/// Reads what the gateway put into the log, as ingest does.
pub(crate) struct Ingest {
    tenure: Tenure,
}

impl Ingest {
    /// The records from `from` on, at least this many of them.
    pub(crate) async fn records(&self, from: u64, count: usize) -> Vec<Record> {
        let mut reader = self.tenure.reader(Stream::Commands, from).await.unwrap();
        let mut records = Vec::new();
        while records.len() < count {
            records.extend(timeout(SOON, reader.next()).await.expect("records in time").unwrap());
        }
        records
    }

    pub(crate) async fn last(&self) -> u64 {
        self.tenure.bounds(Stream::Commands).await.unwrap().last
    }

    pub(crate) async fn trim(&self) {
        self.tenure.trim(Stream::Commands, self.last().await).await.unwrap();
    }
}

/// The entries of one chat, in the making.
pub(crate) struct Chat {
    pub(crate) id: ChatId,
    seq: Seq,
    ordinal: u64,
}

impl Chat {
    pub(crate) fn new(n: u64) -> Self {
        Self { id: chat(n), seq: 0, ordinal: 0 }
    }

    pub(crate) fn entry(&mut self, event: Event) -> LoggedEntry {
        self.seq += 1;
        self.ordinal += u64::from(event.is_message());
        LoggedEntry::encode(Entry {
            chat: self.id,
            seq: self.seq,
            ordinal: self.ordinal,
            sender: user(1),
            origin: Origin(1),
            n: self.seq,
            time: 1_000_000 + self.seq,
            event,
        })
    }

    pub(crate) fn created(&mut self, members: &[u8]) -> LoggedEntry {
        let members = members.iter().map(|n| Member { user: user(*n), role: Role::Member }).collect();
        self.entry(Event::ChatCreated { kind: ChatKind::Group, members })
    }

    pub(crate) fn message(&mut self) -> LoggedEntry {
        self.entry(Event::MessageSent(domain::Message::plain(&b"hello"[..])))
    }
}
