//! What operators and their tools ask a running process.
//!
//! ```text
//! --admin (TCP)              ─▶ probes: /livez, /readyz, /metrics, /version      reads, never changes anything
//! admin.sock (data folder)   ─▶ the same, and /admin/v1/…: users, devices, chats, partitions, models, keys ─▶ acted ▶ store, log, key file
//!                               imports ─▶ steps ▶ packer ▶ log
//! ```
//! The socket is for whoever owns the data folder, which the file system sees to. The TCP listener is off unless an
//! address is given, so that it never stands open where clients come in.

mod acted;
mod chats;
mod devices;
mod export;
mod health;
mod imports;
mod keys;
mod models;
mod orders;
mod partitions;
mod probes;
mod refusal;
mod serve;
mod steps;
mod users;

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};
use domain::{Epoch, Partition};
use event_log::Log;
use store::Store;
use telemetry::Metrics;
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;

pub use health::{Health, RunningRole};
pub(crate) use orders::ROLES as OWNING_ROLES;
use refusal::Refusal;
pub(crate) use refusal::Said;
use serve::{Peer, serve};
use steps::{Carrying, Steps};

use crate::key_file::KeyFile;

/// Bytes of a request's body.
const BODY_BYTES_MAX: usize = 4 * 1024;

/// What is asked about.
#[derive(Clone, Debug)]
pub struct Dependencies {
    /// The log.
    pub log: Log,
    /// The epoch of each of its partitions.
    pub epochs: Vec<Epoch>,
    /// The store.
    pub store: Store,
    /// What was counted.
    pub metrics: Metrics,
    /// What the roles tell of themselves.
    pub health: Health,
    /// The keys that sign tokens.
    pub keys: KeyFile,
    /// Keeps what operators did.
    pub audit: audit::Log,
}

#[derive(Debug)]
struct Shared {
    log: Log,
    store: Store,
    metrics: Metrics,
    health: Health,
    keys: KeyFile,
    audit: audit::Log,
    partitions: u16,
    steps: Steps,
}

impl Shared {
    /// The partition of this number, if there is one.
    fn partition(&self, number: u16) -> Result<Partition, Refusal> {
        if number < self.partitions {
            return Ok(Partition(number));
        }
        Err(Refusal::NotFound(format!("no partition {number}; there are {}", self.partitions)))
    }
}

/// Bound admin listeners.
#[derive(Debug)]
pub struct Admin {
    socket: UnixListener,
    probes: Option<TcpListener>,
    shared: Arc<Shared>,
    carrying: Carrying,
}

impl Admin {
    /// Takes the socket of the data folder, and binds the address of the probes, if there is one.
    ///
    /// # Errors
    /// If the address is taken or none.
    pub async fn bind(socket: UnixListener, probes: Option<&str>, dependencies: Dependencies) -> Result<Self> {
        let probes = match probes {
            Some(address) => Some(
                TcpListener::bind(address)
                    .await
                    .with_context(|| format!("cannot listen on {address}; choose another address with --admin"))?,
            ),
            None => None,
        };
        let Dependencies { log, epochs, store, metrics, health, keys, audit } = dependencies;
        let (steps, carrying) = steps::open(&log, &epochs).await?;
        let partitions = u16::try_from(epochs.len()).unwrap_or(u16::MAX);
        let shared = Arc::new(Shared { log, store, metrics, health, keys, audit, partitions, steps });
        Ok(Self { socket, probes, shared, carrying })
    }

    /// The bound address of the probes.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.probes.as_ref().and_then(|listener| listener.local_addr().ok())
    }

    /// Answers until shut down.
    pub async fn run(self, shutdown: CancellationToken) {
        let Self { socket, probes, shared, carrying } = self;
        let probing = async {
            if let Some(listener) = probes {
                serve(listener, closed(probes::routes(), &shared), |_| Peer(None), shutdown.clone()).await;
            }
        };
        let of_peer = |stream: &UnixStream| Peer(stream.peer_cred().ok().map(|peer| peer.uid()));
        let commands = probes::routes().nest("/admin/v1", routes());
        let serving = serve(socket, closed(commands, &shared), of_peer, shutdown.clone());
        let answering = async {
            tokio::join!(probing, serving);
        };
        // What requests need goes after them.
        tokio::select! {
            () = answering => {}
            never = carrying.run() => match never {},
        }
    }
}

fn routes() -> Router<Arc<Shared>> {
    Router::new()
        .route("/users", get(users::list))
        .route("/users/{who}", get(users::show))
        .route("/users/{who}/ban", post(users::ban))
        .route("/users/{who}/unban", post(users::unban))
        .route("/users/{who}/erase", post(users::erase))
        .route("/users/{who}/export", get(export::export))
        .route("/users/{who}/devices", get(devices::list))
        .route("/users/{who}/devices/revoke", post(devices::revoke))
        .route("/chats", get(chats::list))
        .route("/chats/{chat}", get(chats::show))
        .route("/partitions", get(partitions::status))
        .route("/token-keys", get(keys::list))
        .route("/token-keys/rotate", post(keys::rotate))
        .route("/token-keys/revoke", post(keys::revoke))
        .merge(models::routes())
        .merge(orders::routes())
        .merge(imports::routes())
}

fn closed(routes: Router<Arc<Shared>>, shared: &Arc<Shared>) -> Router {
    routes
        .fallback(async || Refusal::NotFound("nothing is asked that way; is `up` of another version?".to_owned()))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(Arc::clone(shared))
}
