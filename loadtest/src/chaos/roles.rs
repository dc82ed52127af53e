//! `loadtest roles`: the roles of the product in one process, with a second worker of ingest behind a gate.
//!
//! What `heliograph up` is made of, composed anew for two ends: a worker that can be cut off from the broker and let back
//! (SIGUSR1, SIGUSR2), and a rule that can be left out, for which the product has no switch. With every rule on it is
//! judged as the product is.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use domain::Rules;
use event_log::{Durability, Log, LogConfig};
use gateway::Gateway;
use heliograph::broker::{Access, Broker, Sync};
use heliograph::folder::DataFolder;
use heliograph::key_file::KeyFile;
use issuers::Issuers;
use store::Store;
use testkit::{Direction, Gate};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Small, so that trimming is part of a short run.
const WINDOW_BYTES: u64 = 1 << 20;

/// What it is told.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Folder that holds everything that is kept.
    #[arg(long)]
    data: PathBuf,
    /// Address that clients connect to.
    #[arg(long)]
    listen: String,
    /// How many partitions the log has.
    #[arg(long)]
    partitions: u16,
    /// A rule that does not hold.
    #[arg(long)]
    without: Option<String>,
}

/// Runs until SIGTERM.
pub fn serve(options: &Options) -> Result<()> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(run(options))
}

#[expect(clippy::print_stdout, reason = "its parent reads where it listens")]
async fn run(options: &Options) -> Result<()> {
    let rules = match &options.without {
        Some(rule) => Rules::without(rule).with_context(|| format!("there is no rule {rule}"))?,
        None => Rules::ALL,
    };
    let filter = "warn".to_owned();
    telemetry::init_logs(&telemetry::LogConfig { filter, ..telemetry::LogConfig::default() })?;
    let mut terminate = signal(SignalKind::terminate())?;
    let (mut hold, mut let_go) = (signal(SignalKind::user_defined1())?, signal(SignalKind::user_defined2())?);
    let folder = DataFolder::open(&options.data)?;
    let keys = KeyFile::open(folder.token_keys())?.keys();
    let store = Store::open(store::Config::in_folder(folder.store())).await?;
    let broker = Broker::start(&folder.broker(), Sync::Always).await?;
    let access = broker.access();
    let (under_all, stop) = (CancellationToken::new(), CancellationToken::new());
    let supervising = tokio::spawn(broker.supervise(under_all.clone()));
    let gate = Gate::before(port_of(&access)?).await?;

    let log = Log::connect(config(&access, access.url.clone(), options.partitions, "first")).await?;
    log.open_streams().await?;
    let mut gateway = gateway::Config::listening_on(&options.listen)?;
    gateway.rules = rules;
    gateway.socket.drain_ms = 100;
    let dependencies =
        gateway::Dependencies { log: log.clone(), store: store.clone(), keys, issuers: Issuers::default() };
    let gateway = Gateway::bind(gateway, dependencies)?;
    let address = gateway.local_addr().to_string();
    folder.announce_address(&address)?;

    let mut roles: JoinSet<Result<()>> = JoinSet::new();
    let at_edge = stop.clone();
    roles.spawn(async move { Ok(gateway.run(at_edge).await?) });
    let (ingest, delivery) = (
        ingest::Config { rules, ..ingest::Config::default() },
        delivery::Config { rules, ..delivery::Config::default() },
    );
    let behind_gate = config(&access, format!("nats://127.0.0.1:{}", gate.port()), options.partitions, "second");
    for log in [log.clone(), Log::connect(behind_gate).await?] {
        let dependencies = ingest::Dependencies { log, store: store.clone() };
        let (config, stop) = (ingest.clone(), stop.clone());
        roles.spawn(async move { Ok(ingest::run(config, dependencies, stop).await?) });
    }
    let (dependencies, stops) = (delivery::Dependencies { log: log.clone(), store: store.clone() }, stop.clone());
    roles.spawn(async move { Ok(delivery::run(delivery, dependencies, stops).await?) });
    let (dependencies, stops) = (projections::Dependencies { log, store: store.clone() }, stop.clone());
    roles.spawn(async move { Ok(projections::run(projections::Config::default(), dependencies, stops).await?) });
    println!("the process listens on {address}");

    let ended = loop {
        tokio::select! {
            _ = terminate.recv() => break Ok(()),
            _ = hold.recv() => both(&gate, Gate::hold),
            _ = let_go.recv() => both(&gate, Gate::let_go),
            Some(ended) = roles.join_next() => break ended.context("a role").flatten(),
        }
    };
    stop.cancel();
    both(&gate, Gate::let_go);
    let mut joined = ended;
    while let Some(ended) = roles.join_next().await {
        let ended = ended.context("a role").flatten();
        joined = joined.and(ended);
    }
    store.sync().await?;
    under_all.cancel();
    supervising.await.context("the broker's task").flatten().and(joined)
}

fn both(gate: &Gate, what: fn(&Gate, Direction)) {
    what(gate, Direction::ToServer);
    what(gate, Direction::ToClients);
}

fn config(access: &Access, url: String, partitions: u16, worker: &str) -> LogConfig {
    LogConfig {
        servers: vec![url],
        login: Some(access.login.clone()),
        worker: Some(worker.to_owned()),
        partitions,
        durability: Durability::Synced,
        commands_bytes_max: 64 << 20,
        events_bytes_max: 64 << 20,
        statuses_bytes_max: 16 << 20,
        window_bytes: WINDOW_BYTES,
        // What is held still is the first attempt when it is let go.
        attempt_deadline_ms: 30_000,
        ..LogConfig::default()
    }
}

fn port_of(access: &Access) -> Result<u16> {
    let Some(port) = access.url.rsplit(':').next().and_then(|port| port.parse().ok()) else {
        bail!("no port in {}", access.url);
    };
    Ok(port)
}
