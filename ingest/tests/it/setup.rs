//! One broker, one store, a gateway that asks, and ingest as a task that can be killed.

use std::time::Duration;

use bytes::Bytes;
use domain::{
    Action, ChatId, ChatKind, Command, Epoch, GatewayId, LoggedEntry, Member, Origin, Partition, Role, UserId,
};
use event_log::{Log, LogConfig, Received, Subject, Subscription};
use ingest::{Config, Dependencies};
use prost::Message as _;
use proto::log::{CommandBatch, Route};
use proto::relay::{Answer, AnswerBatch};
use proto::v1::outcome::Result as Answered;
use store::Store;
use testkit::logs::{self, Watch};
use testkit::{NatsOptions, NatsServer, Scratch};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// Longer than anything that a test waits for.
pub(crate) const SOON: Duration = Duration::from_secs(30);
pub(crate) const P0: Partition = Partition(0);
const GATEWAY: GatewayId = GatewayId(7);

pub(crate) fn user(n: u8) -> UserId {
    UserId::new([n; 16])
}

pub(crate) fn chat(n: u64) -> ChatId {
    ChatId::draw(P0, 1_000, n << 2)
}

pub(crate) fn create(id: ChatId) -> Command {
    let members = vec![Member { user: user(2), role: Role::Member }];
    let action = Action::CreateChat { kind: ChatKind::Group, members };
    Command { chat: id, sender: user(1), origin: Origin(0), n: 0, after: 0, basis: 0, action }
}

pub(crate) fn send(id: ChatId, n: u64, body: &str) -> Command {
    let action = Action::SendMessage(domain::Message::plain(body.to_owned()));
    Command { chat: id, sender: user(1), origin: Origin(9), n, after: n - 1, basis: 1, action }
}

pub(crate) struct Deployment {
    pub(crate) server: NatsServer,
    pub(crate) log: Log,
    /// Of the first partition.
    pub(crate) epoch: Epoch,
    pub(crate) store: Store,
    pub(crate) watch: Watch,
    answers: Subscription,
    asked: u64,
    _folder: Scratch,
}

impl Deployment {
    pub(crate) async fn start() -> Self {
        Self::start_with(LogConfig::default(), NatsOptions::default()).await
    }

    pub(crate) async fn start_with(config: LogConfig, options: NatsOptions) -> Self {
        let watch = logs::watch();
        let server = NatsServer::start(options).await.unwrap();
        let config = LogConfig { servers: vec![server.url().to_owned()], partitions: 2, ..config };
        let log = Log::connect(config).await.unwrap();
        let epoch = log.open_streams().await.unwrap()[0];
        let folder = Scratch::new("ingest").unwrap();
        let store = Store::open(store::Config::in_folder(folder.join("store"))).await.unwrap();
        let answers = log.subscribe(Subject::Answers(GATEWAY)).await.unwrap();
        Self { server, log, epoch, store, watch, answers, asked: 0, _folder: folder }
    }

    pub(crate) fn ingest(&self) -> Ingest {
        let shutdown = CancellationToken::new();
        let dependencies = Dependencies { log: self.log.clone(), store: self.store.clone() };
        let task = tokio::spawn(ingest::run(Config::default(), dependencies, shutdown.clone()));
        Ingest { task, shutdown }
    }

    /// Puts commands into the log, as one record; the numbers of the requests.
    pub(crate) async fn ask(&mut self, commands: &[Command]) -> Vec<u64> {
        let (payload, requests) = self.record(commands);
        self.log.publish_commands(P0, payload, &format!("record-{}", requests[0])).await.unwrap();
        requests
    }

    /// Commands as one record, and the numbers of their requests.
    pub(crate) fn record(&mut self, commands: &[Command]) -> (Bytes, Vec<u64>) {
        let first = self.asked + 1;
        self.asked += commands.len() as u64;
        let wire = commands.iter().zip(first..).map(|(command, request)| proto::log::Command {
            route: Some(Route { gateway: GATEWAY.0, session: 1, request }),
            sender: command.sender.to_wire(),
            command: Some(command.to_wire()),
            import: None,
        });
        let batch = CommandBatch { schema: 1, commands: wire.collect(), epoch: self.epoch.0 };
        (batch.encode_to_vec().into(), (first..=self.asked).collect())
    }

    /// The next answer that comes.
    pub(crate) async fn answers(&mut self) -> Vec<Answer> {
        loop {
            match timeout(SOON, self.answers.next()).await.unwrap().unwrap() {
                Received::Message(message) => return AnswerBatch::decode(message.payload).unwrap().answers,
                Received::Lagged => {}
            }
        }
    }

    /// Waits for the answers to these requests, in their order.
    pub(crate) async fn answered(&mut self, requests: &[u64]) -> Vec<Answered> {
        let mut found = std::collections::BTreeMap::new();
        while requests.iter().any(|request| !found.contains_key(request)) {
            for answer in self.answers().await {
                found.insert(answer.request, answer.outcome.unwrap().result.unwrap());
            }
        }
        requests.iter().map(|request| found[request].clone()).collect()
    }

    pub(crate) async fn history(&self, id: ChatId) -> Vec<LoggedEntry> {
        self.store.history(id, 0, 1_000, 1 << 20).await.unwrap().rows
    }
}

/// The role under test.
pub(crate) struct Ingest {
    task: JoinHandle<Result<(), ingest::Error>>,
    shutdown: CancellationToken,
}

impl Ingest {
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

pub(crate) fn stored(answers: &[Answered]) -> Vec<u64> {
    let seq = |answer: &Answered| match answer {
        Answered::Stored(stored) => stored.seq,
        Answered::Rejected(rejected) => panic!("rejected: {rejected:?}"),
    };
    answers.iter().map(seq).collect()
}
