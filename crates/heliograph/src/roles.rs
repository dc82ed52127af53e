//! Runs roles in this process until told to stop, or until one of them ends.
//!
//! ```text
//! admin, api and gateway bound → roles → ready ; at the end: gateway and api, the roles, admin
//! ```

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::fmt;
use std::future::pending;
use std::time::Duration;

use anyhow::{Context as _, Result};
use api::Api;
use clap::ValueEnum;
use domain::Epoch;
use event_log::{Log, LogConfig};
use gateway::Gateway;
use gateway::socket::{self, CertificateReload};
use store::Store;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::admin::{self, Admin, Health, RunningRole};
use crate::config::Config;
use crate::folder::DataFolder;
use crate::ground::Ground;
use crate::key_file::KeyFile;

/// Samples of histograms are folded this often, so that they do not pile up.
const FOLD_SAMPLES_EVERY: Duration = Duration::from_secs(5);

/// A role, as it is called on the command line, in probes and in errors.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, ValueEnum)]
pub enum Role {
    /// Sockets of clients.
    Gateway,
    /// Accounts, chats and history over HTTP.
    Api,
    /// From commands to events.
    Ingest,
    /// From events to sockets.
    Delivery,
    /// From events to read models.
    Projections,
}

impl Role {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Api => "api",
            Self::Ingest => "ingest",
            Self::Delivery => "delivery",
            Self::Projections => "projections",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What roles are made of.
#[derive(Debug)]
pub(crate) struct Parts<'a> {
    pub(crate) folder: &'a DataFolder,
    pub(crate) ground: Ground,
    /// How the log is reached.
    pub(crate) log: LogConfig,
    pub(crate) store: Store,
    pub(crate) keys: KeyFile,
}

/// Where clients reach the process, as far as they can.
#[derive(Clone, Debug, Default)]
pub(crate) struct Addresses {
    /// Of the gateway, with `wss://` before it if that is TLS.
    pub(crate) gateway: Option<String>,
    /// Of the HTTP API.
    pub(crate) api: Option<String>,
}

/// Runs the roles until told to stop, or until one of them ends; `begun` is called once they accept.
///
/// At the return the store is synced, whatever came before.
///
/// # Errors
/// A log that cannot be opened, an address that is taken, or the end of a role.
pub(crate) async fn serve(
    config: &Config,
    roles: &BTreeSet<Role>,
    parts: Parts<'_>,
    begun: impl FnOnce(&Addresses),
    stop: impl Future<Output = ()>,
) -> Result<()> {
    let Parts { folder, ground, log, store, keys } = parts;
    let run = async {
        let log = Log::connect(log).await?;
        let epochs = log.open_streams().await?;
        run(config, roles, (folder, &ground), (log, epochs), (store.clone(), keys), begun, stop).await
    };
    let served = Box::pin(run).await;
    let synced = store.sync().await.context("the store");
    ground.audit.close();
    served.and(synced)
}

async fn run(
    config: &Config,
    roles: &BTreeSet<Role>,
    (folder, ground): (&DataFolder, &Ground),
    (log, epochs): (Log, Vec<Epoch>),
    (store, keys): (Store, KeyFile),
    begun: impl FnOnce(&Addresses),
    stop: impl Future<Output = ()>,
) -> Result<()> {
    let Ground { issuers, audit, metrics } = ground;
    let (issuers, audit) = (issuers.clone(), audit.clone());
    let names: Vec<_> = roles.iter().map(|role| role.name()).collect();
    let health = Health::of(&names);
    let dependencies = admin::Dependencies {
        log: log.clone(),
        epochs,
        store: store.clone(),
        metrics: metrics.clone(),
        health: health.clone(),
        keys: keys.clone(),
        audit: audit.clone(),
    };
    let admin = Admin::bind(folder.listen_for_operators()?, config.admin.as_deref(), dependencies).await?;
    let mut addresses = Addresses::default();
    // All that binds does so before anything runs.
    let mut api = None;
    if roles.contains(&Role::Api) {
        let (log, store, issuers) = (log.clone(), store.clone(), issuers.clone());
        api = Some(bind_api(config, api::Dependencies { log, store, keys: keys.keys(), issuers, audit })?);
    }
    let mut gateway = None;
    if roles.contains(&Role::Gateway) {
        let (log, store, issuers) = (log.clone(), store.clone(), issuers.clone());
        gateway = Some(bind_gateway(config, gateway::Dependencies { log, store, keys: keys.keys(), issuers })?);
    }
    let reloading = reload_at_hang_up(gateway.as_ref().and_then(Gateway::certificate_reload))?;

    // Gateway and API go first, so that what they were given is still stored and answered.
    let (at_edge, in_roles) = (CancellationToken::new(), CancellationToken::new());
    let mut edge = JoinSet::new();
    let fresh = issuers.keep_fresh(at_edge.clone());
    edge.spawn(async move {
        fresh.await;
        Ok(())
    });
    if let Some(gateway) = gateway {
        let scheme = if config.gateway.socket.tls.is_some() { "wss://" } else { "" };
        let address = format!("{scheme}{}", gateway.local_addr());
        folder.announce_address(&address)?;
        addresses.gateway = Some(address);
        edge.spawn(named(health.runs(Role::Gateway.name(), gateway.accepts()), gateway.run(at_edge.clone())));
    }
    if let Some(api) = api {
        let address = api.local_addr().to_string();
        folder.announce_api(&address)?;
        addresses.api = Some(address);
        edge.spawn(named(health.runs(Role::Api.name(), api.accepts()), api.run(at_edge.clone())));
    }
    let mut owners = JoinSet::new();
    // These take their partitions as they can, and for as long as they run: `partition status` says how far they are.
    let takes_part = CancellationToken::new();
    takes_part.cancel();
    for role in roles {
        let running = || health.runs(role.name(), takes_part.clone());
        let (log, store, shutdown) = (log.clone(), store.clone(), in_roles.clone());
        match role {
            Role::Gateway | Role::Api => {}
            Role::Ingest => {
                let run = ingest::run(config.ingest.clone(), ingest::Dependencies { log, store }, shutdown);
                owners.spawn(named(running(), run));
            }
            Role::Delivery => {
                let run = delivery::run(config.delivery.clone(), delivery::Dependencies { log, store }, shutdown);
                owners.spawn(named(running(), run));
            }
            Role::Projections => {
                let dependencies = projections::Dependencies { log, store };
                owners.spawn(named(running(), projections::run(config.projections.clone(), dependencies, shutdown)));
            }
        }
    }
    // It answers as long as anything of the rest does.
    let above_all = CancellationToken::new();
    let asked = tokio::spawn(admin.run(above_all.clone()));

    begun(&addresses);
    let mut folding = tokio::time::interval(FOLD_SAMPLES_EVERY);
    let mut reloading = Box::pin(reloading);
    tokio::pin!(stop);
    let ended = loop {
        tokio::select! {
            () = &mut stop => break Ok(()),
            _ = folding.tick() => metrics.fold_samples(),
            never = &mut reloading => match never {},
            Some(ended) = edge.join_next() => break ended.context("a task").flatten(),
            Some(ended) = owners.join_next() => break ended.context("a task").flatten(),
        }
    };
    health.stops();
    at_edge.cancel();
    let edge = join(&mut edge).await;
    in_roles.cancel();
    let owners = join(&mut owners).await;
    above_all.cancel();
    let asked = asked.await.context("the admin listener's task");
    ended.and(edge).and(owners).and(asked)
}

fn bind_api(config: &Config, dependencies: api::Dependencies) -> Result<Api> {
    Api::bind(config.api.clone(), dependencies)
        .with_context(|| format!("cannot listen on {}; choose another address with --api", config.api.listen))
}

fn bind_gateway(config: &Config, dependencies: gateway::Dependencies) -> Result<Gateway> {
    Gateway::bind(config.gateway.clone(), dependencies).map_err(|error| {
        let is_address = matches!(error, gateway::Error::Socket(socket::Error::Bind { .. }));
        let error = anyhow::Error::new(error);
        let listen = config.gateway.socket.listen;
        if is_address {
            error.context(format!("cannot listen on {listen}; choose another address with --listen"))
        } else {
            error
        }
    })
}

async fn named<E: std::error::Error + Send + Sync + 'static>(
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
pub(crate) fn stop_signal() -> Result<impl Future<Output = ()>> {
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
