//! The API as a whole: bound first, then run, over an accept loop of its own.
//!
//! Each connection has a deadline for the head of a request, each request one for the whole of it; at shutdown what is
//! under way is finished.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::Request;
use axum::response::{IntoResponse as _, Response};
use domain::GatewayId;
use event_log::{Log, Subject};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use metrics::counter;
use packer::pack;
use store::{SEND_CLAIM_KEPT_US, Store};
use tokens::{Control, Revocations, TokenKeys};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

use crate::desk::{Asked, Desk, answers};
use crate::invites;
use crate::messages::sends::FOLLOWED_MAX;
use crate::passwords::Passwords;
use crate::problem::{Kind, Problem};
use crate::router::router;
use crate::state::{Shared, now_us};
use crate::{Config, Error};

/// Connections that wait to be accepted.
const BACKLOG: u32 = 1_024;
/// After the kernel refused a connection for want of descriptors: it goes on refusing for a while.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);

/// Between two looks for keys that are too old to be repeated.
const SWEEP_EVERY: Duration = Duration::from_mins(1);
/// Keys that are forgotten at a time.
const SWEPT_AT_ONCE: usize = 1_000;

/// What the API works with.
#[derive(Clone, Debug)]
pub struct Dependencies {
    /// The log.
    pub log: Log,
    /// The store.
    pub store: Store,
    /// Signs and checks tokens.
    pub keys: TokenKeys,
}

/// An API whose address is bound.
#[derive(Debug)]
pub struct Api {
    config: Config,
    dependencies: Dependencies,
    listener: TcpListener,
    address: SocketAddr,
    accepts: CancellationToken,
}

impl Api {
    /// Binds the address; nothing is accepted yet.
    ///
    /// # Errors
    /// For settings that cannot work and for an address that is taken.
    pub fn bind(config: Config, dependencies: Dependencies) -> Result<Self, Error> {
        if let Some(reason) = config.fault() {
            return Err(Error::Config(reason));
        }
        let bind = |source| Error::Bind { address: config.listen, source };
        let listen = || {
            let socket = if config.listen.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
            socket.set_reuseaddr(true)?;
            socket.bind(config.listen)?;
            socket.listen(BACKLOG)
        };
        let listener = listen().map_err(bind)?;
        let address = listener.local_addr().map_err(bind)?;
        Ok(Self { config, dependencies, listener, address, accepts: CancellationToken::new() })
    }

    /// Cancelled once requests are answered: what comes before waits.
    pub fn accepts(&self) -> CancellationToken {
        self.accepts.clone()
    }

    /// The bound address.
    pub const fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves until shut down, then finishes what is under way.
    ///
    /// # Errors
    /// When the log cannot be reached at the start, or something that all requests rely on ends.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), Error> {
        let Self { config, dependencies: Dependencies { log, store, keys }, listener, accepts, .. } = self;
        let id = GatewayId(rand::random());
        let epochs = log.open_streams().await?;
        let asked = Arc::new(Asked::default());
        // Subscribed before anything is asked: an answer that comes at once finds its reader.
        let answered = log.subscribe(Subject::Answers(id)).await?;
        let revocations = Arc::new(Revocations::default());
        let control = Control::open(log.follow_control().await?, Arc::clone(&revocations)).await?;
        // Ends after the requests: what they gave still goes into the log and is answered.
        let under_requests = CancellationToken::new();
        let (pack, packing) = pack(id, &epochs, log.clone(), Arc::clone(&asked), under_requests.clone());
        let wait = Duration::from_millis(config.outcome_timeout_ms);
        let desk = Desk::new(id, pack, Arc::clone(&asked), wait, store.clone());
        let shared = Arc::new(Shared {
            passwords: Passwords::new(&config)?,
            partitions: u16::try_from(epochs.len()).unwrap_or(u16::MAX),
            config,
            log,
            store,
            keys,
            revocations,
            desk,
            followed: Arc::new(Semaphore::new(FOLLOWED_MAX)),
            leaving: shutdown.clone(),
        });
        let mut tasks: JoinSet<Result<(), Error>> = JoinSet::new();
        tasks.spawn(async move {
            packing.await;
            Ok(())
        });
        tasks.spawn(answers(answered, asked, under_requests.clone()));
        tasks.spawn(sweep(shared.store.clone(), under_requests.clone()));
        let following = control.follow(|| (), under_requests.clone());
        tasks.spawn(async move {
            following.await;
            Ok(())
        });
        let accepting = accept(Arc::clone(&shared), listener, shutdown);
        accepts.cancel();
        let ended = tokio::select! {
            () = accepting => Ok(()),
            Some(ended) = tasks.join_next() => ended.unwrap_or(Err(Error::Stopped("a task of the API"))),
        };
        // The way into the log goes with the last of these, so that what still waits there is the last.
        drop(shared);
        under_requests.cancel();
        while tasks.join_next().await.is_some() {}
        ended
    }
}

/// Forgets keys that no client repeats any more and invites that ended a while ago, until stopped.
async fn sweep(store: Store, stop: CancellationToken) -> Result<(), Error> {
    let mut ticks = interval(SWEEP_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        if let Err(error) = invites::sweep(&store).await {
            tracing::warn!(error = &error as &dyn std::error::Error, "old invites are not taken out");
        }
        let before_us = now_us().saturating_sub(SEND_CLAIM_KEPT_US);
        while !stop.is_cancelled() {
            match store.forget_send_claims(before_us, SWEPT_AT_ONCE).await {
                Ok(swept) if swept >= SWEPT_AT_ONCE => {}
                Ok(_) => break,
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "old keys are not forgotten");
                    break;
                }
            }
        }
    }
    Ok(())
}

/// Accepts until shut down, then waits for what is under way.
async fn accept(shared: Arc<Shared>, listener: TcpListener, shutdown: CancellationToken) {
    let room = Arc::new(Semaphore::new(shared.config.connections_max));
    let router = router(Arc::clone(&shared));
    let connections = TaskTracker::new();
    loop {
        let accepted = async {
            let permit = Arc::clone(&room).acquire_owned().await.ok()?;
            match listener.accept().await {
                Ok((stream, _)) => Some((permit, stream)),
                Err(error) => {
                    tracing::debug!(%error, "a connection cannot be accepted");
                    sleep(ACCEPT_AGAIN).await;
                    None
                }
            }
        };
        let Some(accepted) = shutdown.run_until_cancelled(accepted).await else { break };
        let Some((permit, stream)) = accepted else { continue };
        let (shared, router, leaves) = (Arc::clone(&shared), router.clone(), shutdown.clone());
        connections.spawn(async move {
            let _permit = permit;
            serve(&shared, router, stream, leaves).await;
        });
    }
    drop(listener);
    connections.close();
    let drain = Duration::from_millis(shared.config.drain_ms);
    if timeout(drain, connections.wait()).await.is_err() {
        tracing::info!(connections = connections.len(), "requests did not end in time");
    }
}

/// Serves one connection.
async fn serve(shared: &Shared, router: axum::Router, stream: TcpStream, leaves: CancellationToken) {
    // A small answer must not wait for the acknowledgement of the one before.
    let _ = stream.set_nodelay(true);
    let within = Duration::from_millis(shared.config.request_timeout_ms);
    let service = hyper::service::service_fn(move |request: hyper::Request<Incoming>| {
        let router = router.clone();
        async move { Ok::<_, Infallible>(answer(router, request.map(axum::body::Body::new), within).await) }
    });
    let head = Duration::from_millis(shared.config.head_timeout_ms);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(head)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let drain = Duration::from_millis(shared.config.drain_ms);
    let lasts = sleep(Duration::from_millis(shared.config.connection_lasts_ms));
    let ended = tokio::select! {
        ended = connection.as_mut() => Ok(ended),
        () = async { tokio::select! { () = leaves.cancelled() => {} () = lasts => {} } } => {
            connection.as_mut().graceful_shutdown();
            timeout(drain, connection).await
        }
    };
    match ended {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a connection failed"),
        // Whoever does not read its answers.
        Err(_late) => counter!("api_connections_dropped_total").increment(1),
    }
}

/// In a task of its own, which goes on to its end whoever hangs up or waits no longer: nothing is left half done.
async fn answer(router: axum::Router, request: Request, within: Duration) -> Response {
    counter!("api_requests_total").increment(1);
    let answering = tokio::spawn(async move {
        match router.oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    });
    match timeout(within, answering).await {
        Ok(Ok(response)) => response,
        Ok(Err(_panicked)) => Problem::from(Kind::Internal).into_response(),
        Err(_late) => Problem::from(Kind::Unavailable).into_response(),
    }
}
