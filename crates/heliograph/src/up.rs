//! `heliograph up`: every role in one process.
//!
//! ```text
//! folder → store → broker → log → gateway bound → roles → ready ; on a signal or an error: gateway, roles, store, broker
//! ```

use std::convert::Infallible;
use std::future::pending;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use api::Api;
use bytes::Bytes;
use event_log::{Durability, Log, LogConfig};
use gateway::Gateway;
use gateway::socket::{self, CertificateReload};
use issuers::Issuers;
use store::Store;
use telemetry::{LogConfig as Logging, Metrics};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::admin::{self, Admin, Health, RunningRole};
use crate::broker::{Broker, Sync};
use crate::config::Config;
use crate::folder::DataFolder;
use crate::key_file::KeyFile;

/// Samples of histograms are folded this often, so that they do not pile up.
const FOLD_SAMPLES_EVERY: Duration = Duration::from_secs(5);
/// More can be asked for; on one machine they would only make records smaller.
const PARTITIONS_BY_DEFAULT_MAX: u16 = 8;

/// Runs until SIGINT or SIGTERM.
///
/// # Errors
/// What stands in the way of a start, or a role that ended. The broker is stopped then too.
pub async fn run(config: Config) -> Result<()> {
    telemetry::init_logs(&Logging { filter: config.log.clone(), ..Logging::default() })?;
    config.check()?;
    for warning in config.warnings() {
        tracing::warn!("{warning}");
    }
    let metrics = Metrics::install()?;
    let stop = stop_signal()?;
    let issuers = config.issuers()?;
    let folder = DataFolder::open(&config.data)?;
    let audit = audit_log(&config, &folder)?;
    let keys = KeyFile::open(folder.token_keys())?;
    let store = Store::open(store::Config { folder: folder.store(), ..config.store.clone() }).await?;
    let partitions = partitions(&store, config.partitions).await?;

    let broker = Broker::start(&folder.broker(), sync(&config)).await?;
    let access = broker.access();
    let (servers, login) = (vec![access.url], Some(access.login));
    let log = LogConfig { servers, login, partitions, ..config.event_log.clone() };
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
    let serving = serve(&config, log, &folder, store.clone(), (keys, issuers), audit.clone(), metrics, stop);
    let served = Box::pin(serving).await;
    let synced = store.sync().await.context("the store");
    audit.close();
    under_all.cancel();
    let supervised = supervising.await.context("the broker's task").flatten();
    supervised.and(served).and(synced)
}

fn audit_log(config: &Config, folder: &DataFolder) -> Result<audit::Log> {
    match &config.audit_log {
        Some(off) if off.as_os_str() == "off" => Ok(audit::Log::off()),
        Some(file) => Ok(audit::Log::append_to(file)?),
        None => Ok(audit::Log::append_to(&folder.audit_log())?),
    }
}

/// How the broker writes, so that the log rests on what it says.
const fn sync(config: &Config) -> Sync {
    match config.event_log.durability {
        Durability::Lazy => Sync::Lazy,
        Durability::Synced | Durability::Replicated => Sync::Always,
    }
}

/// Runs the roles until told to stop, or until one of them ends.
#[expect(clippy::too_many_arguments, reason = "everything that the roles are made of")]
async fn serve(
    config: &Config,
    log: LogConfig,
    folder: &DataFolder,
    store: Store,
    (key_file, issuers): (KeyFile, Issuers),
    audit: audit::Log,
    metrics: Metrics,
    stop: impl Future<Output = ()>,
) -> Result<()> {
    let log = Log::connect(log).await?;
    log.open_streams().await?;
    let health = Health::of(&["gateway", "api", "ingest", "delivery", "projections"]);
    let dependencies = admin::Dependencies {
        log: log.clone(),
        store: store.clone(),
        metrics: metrics.clone(),
        health: health.clone(),
        keys: key_file.clone(),
        audit: audit.clone(),
    };
    let admin = Admin::bind(folder.listen_for_operators()?, config.admin.as_deref(), dependencies).await?;
    let dependencies = api::Dependencies {
        log: log.clone(),
        store: store.clone(),
        keys: key_file.keys(),
        issuers: issuers.clone(),
        audit,
    };
    let api = Api::bind(config.api.clone(), dependencies)
        .with_context(|| format!("cannot listen on {}; choose another address with --api", config.api.listen))?;
    let keys = key_file.keys();
    let dependencies = gateway::Dependencies { log: log.clone(), store: store.clone(), keys, issuers: issuers.clone() };
    let gateway = Gateway::bind(config.gateway.clone(), dependencies).map_err(|error| {
        let is_address = matches!(error, gateway::Error::Socket(socket::Error::Bind { .. }));
        let error = anyhow::Error::new(error);
        if is_address {
            error.context(format!(
                "cannot listen on {}; choose another address with --listen",
                config.gateway.socket.listen
            ))
        } else {
            error
        }
    })?;
    let scheme = if config.gateway.socket.tls.is_some() { "wss://" } else { "" };
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
    let ingest = ingest::run(config.ingest.clone(), dependencies, in_roles.clone());
    roles.spawn(named(health.runs("ingest", begun.clone()), ingest));
    let dependencies = delivery::Dependencies { log: log.clone(), store: store.clone() };
    let delivery = delivery::run(config.delivery.clone(), dependencies, in_roles.clone());
    roles.spawn(named(health.runs("delivery", begun.clone()), delivery));
    let dependencies = projections::Dependencies { log, store };
    let projections = projections::run(config.projections.clone(), dependencies, in_roles.clone());
    roles.spawn(named(health.runs("projections", begun.clone()), projections));
    // It answers as long as anything of the rest does.
    let above_all = CancellationToken::new();
    let asked = tokio::spawn(admin.run(above_all.clone()));

    say_what_next(&address, &http, &config.data);
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
fn say_what_next(address: &str, http: &str, data: &Path) {
    let program = std::env::args().next().unwrap_or_else(|| "heliograph".to_owned());
    let named =
        if data.as_os_str() == "heliograph-data" { String::new() } else { format!(" --data {}", data.display()) };
    println!("Heliograph listens on {address}. In two more terminals:\n");
    println!("  {program} chat{named} --as alice --to bob");
    println!("  {program} chat{named} --as bob --to alice\n");
    println!("HTTP API: http://{http}/v1, described at /docs.");
    println!("Ctrl-C stops it; what was said stays in {}.", data.display());
}
