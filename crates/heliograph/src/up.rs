//! `heliograph up`: every role in one process.
//!
//! ```text
//! folder → store → broker → log → gateway bound → roles → ready ; on a signal or an error: gateway, roles, store, broker
//! ```

use std::convert::Infallible;
use std::fs;
use std::future::pending;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use api::Api;
use bytes::Bytes;
use event_log::{Durability, Log, LogConfig};
use gateway::Gateway;
use gateway::socket::{self, CertificateReload, TlsConfig};
use issuers::Issuers;
use limits::Network;
use store::Store;
use telemetry::{LogConfig as Logging, Metrics};
use tokens::TokenKeys;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::admin::{self, Admin, Health, RunningRole};
use crate::broker::{Broker, Sync};
use crate::folder::DataFolder;

/// Samples of histograms are folded this often, so that they do not pile up.
const FOLD_SAMPLES_EVERY: Duration = Duration::from_secs(5);
/// More can be asked for; on one machine they would only make records smaller.
const PARTITIONS_BY_DEFAULT_MAX: u16 = 8;
/// Bytes of one partition's commands on one machine: the broker reserves what is said here.
const COMMANDS_BYTES_MAX: u64 = 128 << 20;
/// Bytes of one partition's events on one machine.
const EVENTS_BYTES_MAX: u64 = 256 << 20;
/// Bytes of one partition's statuses on one machine.
const STATUSES_BYTES_MAX: u64 = 32 << 20;
/// Bytes of each stream that trimming leaves on one machine.
const WINDOW_BYTES: u64 = 16 << 20;

/// What `up` is told.
#[derive(Clone, Debug)]
pub struct Options {
    /// Folder that holds everything that is kept.
    pub data: PathBuf,
    /// Address that clients connect to.
    pub listen: String,
    /// The certificate that they are shown, if they connect over TLS.
    pub tls: Option<TlsConfig>,
    /// Address of the HTTP API.
    pub api: String,
    /// Exact origins whose pages may connect and read the API's answers.
    pub allowed_origins: Vec<String>,
    /// Networks of proxies that say who a client is.
    pub trusted_proxies: Vec<Network>,
    /// How many partitions the log has; none: what the folder says, else one for two cores.
    pub partitions: Option<u16>,
    /// Whether commands go to an owner in this process directly.
    pub hand_over: bool,
    /// Whether the broker syncs before it acknowledges.
    pub sync: Sync,
    /// Address that probes and scrapers ask over TCP, if there is to be one.
    pub admin: Option<String>,
    /// Where who did what is kept: `off`, or a file; none: in the folder.
    pub audit_log: Option<PathBuf>,
    /// File that names the issuers whose tokens are good beside this deployment's own.
    pub external_issuers: Option<PathBuf>,
    /// What is logged.
    pub log: String,
}

/// Runs until SIGINT or SIGTERM.
///
/// # Errors
/// What stands in the way of a start, or a role that ended. The broker is stopped then too.
pub async fn run(options: Options) -> Result<()> {
    telemetry::init_logs(&Logging { filter: options.log.clone(), ..Logging::default() })?;
    let metrics = Metrics::install()?;
    let stop = stop_signal()?;
    let mut gateway = gateway::Config::listening_on(&options.listen)?;
    gateway.socket.tls.clone_from(&options.tls);
    let mut api = api::Config::listening_on(&options.api)?;
    gateway.socket.allowed_origins.clone_from(&options.allowed_origins);
    gateway.socket.limits.trusted_proxies.clone_from(&options.trusted_proxies);
    api.allowed_origins.clone_from(&options.allowed_origins);
    api.limits.trusted_proxies.clone_from(&options.trusted_proxies);
    let issuers = external_issuers(options.external_issuers.as_deref())?;
    let folder = DataFolder::open(&options.data)?;
    let audit = audit_log(&options, &folder)?;
    let keys = TokenKeys::from_pem(&folder.token_key(|| Ok(TokenKeys::generate()?))?)?;
    let store = Store::open(store::Config::in_folder(folder.store())).await?;
    let partitions = partitions(&store, options.partitions).await?;

    let broker = Broker::start(&folder.broker(), options.sync).await?;
    let access = broker.access();
    let log = LogConfig { servers: vec![access.url], login: Some(access.login), ..log_config(&options, partitions) };
    // The broker goes last, whatever ends the rest.
    let (under_all, broker_gone) = (CancellationToken::new(), CancellationToken::new());
    let supervising = tokio::spawn({
        let (shutdown, gone) = (under_all.clone(), broker_gone.clone().drop_guard());
        async move {
            let _gone = gone;
            broker.supervise(shutdown).await
        }
    });
    let stop = async {
        tokio::select! {
            () = stop => {}
            () = broker_gone.cancelled() => {}
        }
    };
    let serving =
        serve(&options, (gateway, api), log, &folder, store.clone(), (keys, issuers), audit.clone(), metrics, stop);
    let served = Box::pin(serving).await;
    let synced = store.sync().await.context("the store");
    audit.close();
    under_all.cancel();
    let supervised = supervising.await.context("the broker's task").flatten();
    supervised.and(served).and(synced)
}

fn audit_log(options: &Options, folder: &DataFolder) -> Result<audit::Log> {
    match &options.audit_log {
        Some(off) if off.as_os_str() == "off" => Ok(audit::Log::off()),
        Some(file) => Ok(audit::Log::append_to(file)?),
        None => Ok(audit::Log::append_to(&folder.audit_log())?),
    }
}

/// The issuers in the file, which is read once.
fn external_issuers(file: Option<&Path>) -> Result<Issuers> {
    let Some(file) = file else { return Ok(Issuers::default()) };
    let read = || -> Result<Issuers> {
        let config = issuers::Config::parse(&fs::read_to_string(file)?)?;
        Ok(Issuers::new(&config, issuers::Setup::default())?)
    };
    read().with_context(|| format!("--external-issuers {}", file.display()))
}

fn log_config(options: &Options, partitions: u16) -> LogConfig {
    LogConfig {
        partitions,
        hand_over_commands: options.hand_over,
        durability: match options.sync {
            Sync::Always => Durability::Synced,
            Sync::Lazy => Durability::Lazy,
        },
        commands_bytes_max: COMMANDS_BYTES_MAX,
        events_bytes_max: EVENTS_BYTES_MAX,
        statuses_bytes_max: STATUSES_BYTES_MAX,
        window_bytes: WINDOW_BYTES,
        ..LogConfig::default()
    }
}

/// Runs the roles until told to stop, or until one of them ends.
#[expect(clippy::too_many_arguments, reason = "everything that the roles are made of")]
async fn serve(
    options: &Options,
    (gateway, api): (gateway::Config, api::Config),
    log: LogConfig,
    folder: &DataFolder,
    store: Store,
    (keys, issuers): (TokenKeys, Issuers),
    audit: audit::Log,
    metrics: Metrics,
    stop: impl Future<Output = ()>,
) -> Result<()> {
    let log = Log::connect(log).await?;
    let epochs = log.open_streams().await?;
    let health = Health::of(&["gateway", "api", "ingest", "delivery", "projections"]);
    let dependencies = admin::Dependencies {
        log: log.clone(),
        epochs,
        store: store.clone(),
        metrics: metrics.clone(),
        health: health.clone(),
        audit: audit.clone(),
    };
    let admin = Admin::bind(folder.listen_for_operators()?, options.admin.as_deref(), dependencies).await?;
    let dependencies = api::Dependencies {
        log: log.clone(),
        store: store.clone(),
        keys: keys.clone(),
        issuers: issuers.clone(),
        audit,
    };
    let api = Api::bind(api, dependencies)
        .with_context(|| format!("cannot listen on {}; choose another address with --api", options.api))?;
    let dependencies = gateway::Dependencies { log: log.clone(), store: store.clone(), keys, issuers: issuers.clone() };
    let gateway = Gateway::bind(gateway, dependencies).map_err(|error| {
        let is_address = matches!(error, gateway::Error::Socket(socket::Error::Bind { .. }));
        let error = anyhow::Error::new(error);
        if is_address {
            error.context(format!("cannot listen on {}; choose another address with --listen", options.listen))
        } else {
            error
        }
    })?;
    let scheme = if options.tls.is_some() { "wss://" } else { "" };
    let address = format!("{scheme}{}", gateway.local_addr());
    folder.announce_address(&address)?;
    let http = api.local_addr().to_string();
    folder.announce_api(&http)?;
    let reloading = reload_at_hang_up(gateway.certificate_reload())?;

    // Gateway and API go first, so that what they were given is still stored and answered.
    let (at_edge, in_roles) = (CancellationToken::new(), CancellationToken::new());
    let mut edge = JoinSet::new();
    let fresh = issuers.keep_fresh(at_edge.clone());
    edge.spawn(async move {
        fresh.await;
        Ok(())
    });
    edge.spawn(named(health.runs("gateway", gateway.accepts()), gateway.run(at_edge.clone())));
    edge.spawn(named(health.runs("api", api.accepts()), api.run(at_edge.clone())));
    let mut roles = JoinSet::new();
    // These take their partitions as they can, and for as long as they run: `partition status` says how far they are.
    let begun = CancellationToken::new();
    begun.cancel();
    let dependencies = ingest::Dependencies { log: log.clone(), store: store.clone() };
    let ingest = ingest::run(ingest::Config::default(), dependencies, in_roles.clone());
    roles.spawn(named(health.runs("ingest", begun.clone()), ingest));
    let dependencies = delivery::Dependencies { log: log.clone(), store: store.clone() };
    let delivery = delivery::run(delivery::Config::default(), dependencies, in_roles.clone());
    roles.spawn(named(health.runs("delivery", begun.clone()), delivery));
    let dependencies = projections::Dependencies { log, store };
    let projections = projections::run(projections::Config::default(), dependencies, in_roles.clone());
    roles.spawn(named(health.runs("projections", begun.clone()), projections));
    // It answers as long as anything of the rest does.
    let above_all = CancellationToken::new();
    let asked = tokio::spawn(admin.run(above_all.clone()));

    say_what_next(&address, &http, options);
    let mut folding = tokio::time::interval(FOLD_SAMPLES_EVERY);
    let mut reloading = Box::pin(reloading);
    tokio::pin!(stop);
    let ended = loop {
        tokio::select! {
            () = &mut stop => break Ok(()),
            _ = folding.tick() => metrics.fold_samples(),
            never = &mut reloading => match never {},
            Some(ended) = edge.join_next() => break ended.context("a task").flatten(),
            Some(ended) = roles.join_next() => break ended.context("a task").flatten(),
        }
    };
    health.stops();
    at_edge.cancel();
    let edge = join(&mut edge).await;
    in_roles.cancel();
    let roles = join(&mut roles).await;
    above_all.cancel();
    let asked = asked.await.context("the admin listener's task");
    ended.and(edge).and(roles).and(asked)
}

async fn named<E: std::error::Error + Send + std::marker::Sync + 'static>(
    running: RunningRole,
    run: impl Future<Output = Result<(), E>>,
) -> Result<()> {
    run.await.with_context(|| format!("{} ended", running.name()))
}

/// Waits for all, whatever becomes of one; the first error.
async fn join(tasks: &mut JoinSet<Result<()>>) -> Result<()> {
    let mut joined = Ok(());
    while let Some(ended) = tasks.join_next().await {
        let ended = ended.context("a task").flatten();
        joined = joined.and(ended);
    }
    joined
}

/// Both signals that ask a process to end.
fn stop_signal() -> Result<impl Future<Output = ()>> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

/// Has the certificate looked at whenever SIGHUP comes. Without one that signal ends the process, as it does by default.
fn reload_at_hang_up(reload: Option<CertificateReload>) -> Result<impl Future<Output = Infallible>> {
    let reload = reload.map(|reload| Ok::<_, std::io::Error>((signal(SignalKind::hangup())?, reload))).transpose()?;
    Ok(async move {
        if let Some((mut hang_up, reload)) = reload {
            while hang_up.recv().await.is_some() {
                reload.ask();
            }
        }
        pending().await
    })
}

/// One for two cores, up to a bound.
///
/// Each costs a record and its wake-ups whenever something is said in it, and one owner, with the broker and the store's
/// writer beside it, keeps two cores busy.
pub fn partitions_by_default() -> u16 {
    let cores = std::thread::available_parallelism().map_or(1, |cores| u16::try_from(cores.get()).unwrap_or(u16::MAX));
    (cores / 2).clamp(1, PARTITIONS_BY_DEFAULT_MAX)
}

/// How many partitions this folder has, or gets at its first start.
///
/// A chat's partition is part of its id: another count would look for chats where they are not.
async fn partitions(store: &Store, wanted: Option<u16>) -> Result<u16> {
    let proposed = wanted.unwrap_or_else(partitions_by_default);
    let fixed = store.claim_meta("partitions", Bytes::copy_from_slice(&proposed.to_be_bytes())).await?;
    let found = <[u8; 2]>::try_from(&fixed[..]).map_or(0, u16::from_be_bytes);
    if wanted.is_some_and(|wanted| wanted != found) {
        bail!("this data folder has {found} partitions; start with --partitions {found}");
    }
    Ok(found)
}

#[expect(clippy::print_stdout, reason = "a command-line program")]
fn say_what_next(address: &str, http: &str, options: &Options) {
    let program = std::env::args().next().unwrap_or_else(|| "heliograph".to_owned());
    let data = if options.data.as_os_str() == "heliograph-data" {
        String::new()
    } else {
        format!(" --data {}", options.data.display())
    };
    println!("Heliograph listens on {address}. In two more terminals:\n");
    println!("  {program} chat{data} --as alice --to bob");
    println!("  {program} chat{data} --as bob --to alice\n");
    println!("HTTP API: http://{http}/v1, described at /docs.");
    println!("Ctrl-C stops it; what was said stays in {}.", options.data.display());
}
