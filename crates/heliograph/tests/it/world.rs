//! Every role in this process: two gateways over one log and one store, and a broker that may be killed.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use domain::{ChatId, PartitionPosition};
use event_log::{Durability, Log, LogConfig, Stream};
use gateway::Gateway;
use issuers::Issuers;
use prost::Message as _;
use proto::log::EventBatch;
use store::{Store, StoreConfig};
use telemetry::Metrics;
use testkit::logs::{self, Watch};
use testkit::{Gate, NatsOptions, NatsServer, Scratch};
use tokens::TokenKeys;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::cast::Cast;
use crate::process::free_port;

/// Enough for more than one, few enough to start fast.
pub(crate) const PARTITIONS: u16 = 2;
const GATEWAYS: usize = 2;
const END_WITHIN: Duration = Duration::from_secs(30);

/// What a test may start and stop on its own.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Role {
    Ingest,
    /// One more owner of the same partitions: each takes them from the other.
    RivalIngest,
    /// An owner whose way to the broker leads through a gate.
    GatedIngest,
    Delivery,
    Projections,
}

/// How a test wants its world.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) log: LogConfig,
    pub(crate) gateway: gateway::Config,
    pub(crate) ingest: ingest::Config,
    /// Whether gateways are started again: on ports that nobody's outgoing connection can have taken meanwhile.
    pub(crate) restarts_gateways: bool,
    /// Another store than one on this machine's disk.
    pub(crate) store: Option<Box<StoreConfig>>,
}

impl Default for Setup {
    fn default() -> Self {
        let mut gateway = gateway::Config::listening_on("127.0.0.1:0").unwrap();
        gateway.socket.drain_ms = 50;
        let log = LogConfig {
            partitions: PARTITIONS,
            durability: Durability::Lazy,
            commands_bytes_max: 64 << 20,
            events_bytes_max: 64 << 20,
            statuses_bytes_max: 16 << 20,
            window_bytes: 8 << 20,
            ..LogConfig::default()
        };
        Self { log, gateway, ingest: ingest::Config::default(), restarts_gateways: false, store: None }
    }
}

/// A whole deployment, and the devices that use it.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) cast: Cast,
    pub(crate) nats: NatsServer,
    log: Log,
    store: Store,
    setup: Setup,
    keys: TokenKeys,
    roles: BTreeMap<Role, Running>,
    /// Each with its address; none while it is down.
    gateways: Vec<(SocketAddr, Option<Running>)>,
    _scratch: Scratch,
    // Declared last: it judges the log once all others have ended.
    _watch: Watch,
}

#[derive(Debug)]
struct Running {
    stop: CancellationToken,
    ended: JoinHandle<()>,
}

impl World {
    pub(crate) async fn start() -> Self {
        Self::with(Setup::default()).await
    }

    pub(crate) async fn with(setup: Setup) -> Self {
        let watch = logs::watch();
        let scratch = Scratch::new("world").unwrap();
        let nats = NatsServer::start(NatsOptions::default()).await.unwrap();
        let embedded = || Box::new(store::Config::in_folder(scratch.join("store")).into());
        let store = Store::open(*setup.store.clone().unwrap_or_else(embedded)).await.unwrap();
        let config = LogConfig { servers: vec![nats.url().to_owned()], ..setup.log.clone() };
        let log = Log::connect(config).await.unwrap();
        log.open_streams().await.unwrap();
        let keys = TokenKeys::from_pem(&TokenKeys::generate().unwrap()).unwrap();
        let (mut gateways, mut urls) = (Vec::new(), Vec::new());
        for _ in 0..GATEWAYS {
            let mut config = setup.gateway.clone();
            if setup.restarts_gateways {
                config.socket.listen.set_port(free_port());
            }
            let dependencies = gateway::Dependencies {
                log: log.clone(),
                store: store.clone(),
                keys: keys.clone(),
                issuers: Issuers::default(),
            };
            let (address, running) = start_gateway(config, dependencies);
            urls.push(format!("ws://{address}/v1/socket"));
            gateways.push((address, Some(running)));
        }
        let cast = Cast::new(urls, keys.clone());
        let roles = BTreeMap::new();
        let mut world = Self { cast, nats, log, store, setup, keys, roles, gateways, _scratch: scratch, _watch: watch };
        for role in [Role::Ingest, Role::Delivery, Role::Projections] {
            world.start_role(role);
        }
        world
    }

    /// Tells a gateway to leave and waits until it has.
    pub(crate) async fn drain_gateway(&mut self, index: usize) {
        self.gateways[index].1.take().expect("the gateway runs").stop().await;
    }

    /// Starts a drained gateway again, where it was.
    pub(crate) fn restart_gateway(&mut self, index: usize) {
        assert!(self.setup.restarts_gateways && self.gateways[index].1.is_none(), "not to be started");
        let mut config = self.setup.gateway.clone();
        config.socket.listen = self.gateways[index].0;
        let (log, store, keys) = (self.log.clone(), self.store.clone(), self.keys.clone());
        let (_address, running) =
            start_gateway(config, gateway::Dependencies { log, store, keys, issuers: Issuers::default() });
        self.gateways[index].1 = Some(running);
    }

    /// Starts ingest on a log of its own, through this gate.
    pub(crate) async fn start_gated_ingest(&mut self, gate: &Gate) {
        let servers = vec![format!("nats://127.0.0.1:{}", gate.port())];
        // Held for longer than an attempt usually waits, it still is the first attempt.
        let config = LogConfig { servers, attempt_deadline_ms: 30_000, ..self.setup.log.clone() };
        let log = Log::connect(config).await.unwrap();
        self.start_role_on(Role::GatedIngest, log);
    }

    pub(crate) fn start_role(&mut self, role: Role) {
        self.start_role_on(role, self.log.clone());
    }

    fn start_role_on(&mut self, role: Role, log: Log) {
        let store = self.store.clone();
        let ingest = self.setup.ingest.clone();
        let running = Running::start(|stop| async move {
            match role {
                Role::Ingest | Role::RivalIngest | Role::GatedIngest => {
                    ingest::run(ingest, ingest::Dependencies { log, store }, stop).await.unwrap()
                }
                Role::Delivery => {
                    let dependencies = delivery::Dependencies { log, store };
                    delivery::run(delivery::Config::default(), dependencies, stop).await.unwrap();
                }
                Role::Projections => {
                    let dependencies = projections::Dependencies { log, store };
                    projections::run(projections::Config::default(), dependencies, stop).await.unwrap();
                }
            }
        });
        assert!(self.roles.insert(role, running).is_none(), "{role:?} runs already");
    }

    pub(crate) async fn stop_role(&mut self, role: Role) {
        self.roles.remove(&role).expect("the role runs").stop().await;
    }

    /// What the store and the log say of a chat: its rows' bytes, its partition's position, the last event record.
    pub(crate) async fn kept(&self, chat: client::ChatId) -> (Vec<Bytes>, PartitionPosition, u64) {
        let chat = ChatId::new(chat.0);
        let page = self.store.history(chat, 0, usize::MAX, usize::MAX).await.unwrap();
        let position = self.store.position(chat.partition()).await.unwrap().expect("a position");
        let tenure = self.log.acquire(event_log::Role::Push, chat.partition()).await.unwrap();
        let last = tenure.bounds(Stream::Events).await.unwrap().last;
        (page.rows.into_iter().map(|row| row.bytes).collect(), position, last)
    }

    /// Whether a chat's owner has said that all its entries are appended: the last that it says by itself.
    pub(crate) async fn rests(&self, chat: client::ChatId) -> bool {
        let partition = ChatId::new(chat.0).partition();
        let tenure = self.log.acquire(event_log::Role::Push, partition).await.unwrap();
        let last = tenure.bounds(Stream::Events).await.unwrap().last;
        let record = tenure.read(Stream::Events, last).await.unwrap().expect("the last record stays");
        let batch = EventBatch::decode(record.payload).unwrap();
        let appended = self.store.position(partition).await.unwrap().map_or(0, |position| position.events.sequence);
        batch.entries.is_empty() && batch.appended_through + 1 == last && appended == last
    }

    /// Judges what the devices saw, then ends everything in order.
    pub(crate) async fn finish(mut self) -> checker::Report {
        let report = self.cast.verdict().await;
        let gateways = self.gateways.drain(..).filter_map(|(_, running)| running);
        for running in gateways.chain(std::mem::take(&mut self.roles).into_values()) {
            running.stop().await;
        }
        report
    }
}

fn start_gateway(config: gateway::Config, dependencies: gateway::Dependencies) -> (SocketAddr, Running) {
    let gateway = Gateway::bind(config, dependencies).unwrap();
    (gateway.local_addr(), Running::start(|stop| async move { gateway.run(stop).await.unwrap() }))
}

/// A counter of this test process, which counts for all its worlds.
pub(crate) fn counted(name: &str) -> u64 {
    let text = Metrics::install().unwrap().render();
    let value = text.lines().find_map(|line| line.strip_prefix(name));
    value.map_or(0, |value| value.trim().parse().unwrap())
}

impl Running {
    fn start<F: Future<Output = ()> + Send + 'static>(run: impl FnOnce(CancellationToken) -> F) -> Self {
        let stop = CancellationToken::new();
        Self { ended: tokio::spawn(run(stop.clone())), stop }
    }

    async fn stop(self) {
        self.stop.cancel();
        timeout(END_WITHIN, self.ended).await.expect("an orderly end in time").expect("a role that does not panic");
    }
}
