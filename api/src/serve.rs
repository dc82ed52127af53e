//! The API as a whole: bound first, then run, over an accept loop of its own.
//!
//! Each connection has a deadline for the head of a request and for any progress of an answer, each request one for the
//! whole of it; at shutdown what is under way is finished.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use domain::{GatewayId, Rules};
use event_log::{Log, Subject};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use issuers::Issuers;
use metrics::counter;
use packer::pack;
use store::{SEND_CLAIM_KEPT_US, Store};
use tokens::{Control, Revocations, TokenKeys};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_io_timeout::TimeoutStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::accounts::deletion;
use crate::desk::{Asked, Desk, answers};
use crate::edge::{Allowances, Edge};
use crate::invites;
use crate::messages::flight::LOOKS_AT_ONCE;
use crate::messages::searched::Searched;
use crate::messages::sends::FOLLOWED_MAX;
use crate::passwords::Passwords;
use crate::router::router;
use crate::state::{Shared, now_us};
use crate::{Config, Error};

/// Connections that wait to be accepted.
const BACKLOG: u32 = 1_024;
/// After the kernel refused a connection for want of descriptors: it goes on refusing for a while.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);
/// What a peer hears that has as many connections as it may.
const TOO_MANY_CONNECTIONS: &[u8] =
    b"HTTP/1.1 429 Too Many Requests\r\nretry-after: 2\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
/// Most bytes of a request's head. A token has some 500, a key at most 255.
const HEAD_BYTES_MAX: usize = 16 * 1024;
const HEADERS_MAX: usize = 64;

/// Between two looks for what means nothing any more.
const SWEEP_EVERY: Duration = Duration::from_mins(1);
/// Rows that are swept at a time.
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
    /// Whose tokens are good beside this deployment's own.
    pub issuers: Issuers,
    /// Keeps who did what.
    pub audit: audit::Log,
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
        config.check()?;
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
        let Self { config, dependencies, listener, accepts, .. } = self;
        let Dependencies { log, store, keys, issuers, audit } = dependencies;
        let id = GatewayId(rand::random());
        let epochs = log.open_streams().await?;
        let asked = Arc::new(Asked::default());
        // Subscribed before anything is asked: an answer that comes at once finds its reader.
        let answered = log.subscribe(Subject::Answers(id)).await?;
        let revocations = Arc::new(Revocations::default());
        let control = Control::open(log.follow_control().await?, Arc::clone(&revocations)).await?;
        // Ends after the requests: what they gave still goes into the log and is answered.
        let under_requests = CancellationToken::new();
        let (pack, packing) = pack(id, &epochs, log.clone(), Arc::clone(&asked), Rules::ALL, under_requests.clone());
        let wait = Duration::from_millis(config.outcome_timeout_ms);
        let desk = Desk::new(id, pack, Arc::clone(&asked), wait, store.clone());
        let shared = Arc::new(Shared {
            allowances: Arc::new(Allowances::new(&config.limits)),
            audit,
            passwords: Passwords::new(&config)?,
            partitions: u16::try_from(epochs.len()).unwrap_or(u16::MAX),
            config,
            log,
            store,
            keys,
            issuers,
            revocations,
            desk,
            followed: Arc::new(Semaphore::new(FOLLOWED_MAX)),
            flights: Semaphore::new(LOOKS_AT_ONCE),
            searched: Searched::default(),
            leaving: shutdown.clone(),
            leaving_users: Notify::new(),
        });
        let mut tasks: JoinSet<Result<(), Error>> = JoinSet::new();
        tasks.spawn(async move {
            packing.await;
            Ok(())
        });
        tasks.spawn(answers(answered, asked, under_requests.clone()));
        tasks.spawn(sweep(shared.store.clone(), under_requests.clone()));
        let forgetting = Arc::clone(&shared.allowances).sweep(under_requests.clone());
        tasks.spawn(async move {
            forgetting.await;
            Ok(())
        });
        tasks.spawn(deletion::carry_out(Arc::clone(&shared), under_requests.clone()));
        let following = control.follow(|| (), under_requests.clone());
        tasks.spawn(async move {
            following.await;
            Ok(())
        });
        let edge = Arc::new(Edge::new(router(Arc::clone(&shared)), &shared.config, Arc::clone(&shared.allowances))?);
        let accepting = accept(Arc::clone(&shared), edge, listener, shutdown);
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

/// What means nothing any more after a time.
#[derive(Clone, Copy, Debug)]
enum Old {
    /// Idempotency keys that no client repeats.
    Keys,
    /// Sign-ins that nobody goes on with.
    SignIns,
    /// Invites that ended a while ago.
    Invites,
    /// Tickets that nobody took.
    Tickets,
}

/// Forgets what means nothing any more, until stopped.
async fn sweep(store: Store, stop: CancellationToken) -> Result<(), Error> {
    let mut ticks = interval(SWEEP_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        for old in [Old::Keys, Old::SignIns, Old::Invites, Old::Tickets] {
            if let Err(error) = forget(&store, old, &stop).await {
                tracing::warn!(error = &error as &dyn std::error::Error, ?old, "not swept");
            }
        }
    }
    Ok(())
}

/// So many at a time until there are no more, or stopped.
async fn forget(store: &Store, old: Old, stop: &CancellationToken) -> Result<(), store::Error> {
    let now_us = now_us();
    while !stop.is_cancelled() {
        let swept = match old {
            Old::Keys => store.forget_send_claims(now_us.saturating_sub(SEND_CLAIM_KEPT_US), SWEPT_AT_ONCE).await?,
            Old::SignIns => store.forget_refresh_families(now_us, SWEPT_AT_ONCE).await?,
            Old::Tickets => store.forget_tickets(now_us, SWEPT_AT_ONCE).await?,
            Old::Invites => return invites::sweep(store).await,
        };
        if swept < SWEPT_AT_ONCE {
            break;
        }
    }
    Ok(())
}

/// Accepts until shut down, then waits for what is under way.
async fn accept(shared: Arc<Shared>, edge: Arc<Edge>, listener: TcpListener, shutdown: CancellationToken) {
    let room = Arc::new(Semaphore::new(shared.config.connections_max));
    let connections = TaskTracker::new();
    loop {
        let accepted = async {
            let permit = Arc::clone(&room).acquire_owned().await.ok()?;
            match listener.accept().await {
                Ok((stream, peer)) => Some((permit, (stream, peer.ip()))),
                Err(error) => {
                    tracing::debug!(%error, "a connection cannot be accepted");
                    sleep(ACCEPT_AGAIN).await;
                    None
                }
            }
        };
        let Some(accepted) = shutdown.run_until_cancelled(accepted).await else { break };
        let Some((permit, stream)) = accepted else { continue };
        let Some(place) = shared.allowances.connection(stream.1) else {
            // Best effort: a peer that does not take it sees the connection close.
            let _ = stream.0.try_write(TOO_MANY_CONNECTIONS);
            continue;
        };
        let (shared, edge, leaves) = (Arc::clone(&shared), Arc::clone(&edge), shutdown.clone());
        connections.spawn(async move {
            let _permit = (permit, place);
            serve(&shared, edge, stream, leaves).await;
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
async fn serve(shared: &Shared, edge: Arc<Edge>, (stream, peer): (TcpStream, IpAddr), leaves: CancellationToken) {
    // A small answer must not wait for the acknowledgement of the one before.
    let _ = stream.set_nodelay(true);
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(Duration::from_millis(shared.config.write_timeout_ms)));
    let stream = Box::pin(stream);
    let service = hyper::service::service_fn(move |request: hyper::Request<Incoming>| {
        let edge = Arc::clone(&edge);
        async move { Ok::<_, Infallible>(edge.answer(peer, request.map(axum::body::Body::new)).await) }
    });
    let head = Duration::from_millis(shared.config.head_timeout_ms);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(head)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX)
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
        Ok(Err(error)) => {
            if is_stuck(&error) {
                counter!("api_connections_dropped_total").increment(1);
            }
            tracing::debug!(%error, "a connection failed");
        }
        // Whoever does not read its answers.
        Err(_late) => counter!("api_connections_dropped_total").increment(1),
    }
}

/// Whether the client took nothing of an answer for as long as it may.
fn is_stuck(error: &hyper::Error) -> bool {
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<io::Error>());
    cause.is_some_and(|cause| cause.kind() == io::ErrorKind::TimedOut)
}

#[cfg(test)]
mod tests {
    use domain::UserId;
    use store::RefreshFamily;

    use super::*;

    #[tokio::test]
    async fn expired_sign_ins_are_swept_and_those_that_go_on_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(store::Config::in_folder(folder.path())).await.unwrap();
        let now_us = now_us();
        let ends = [1, now_us - 1_000_000, now_us + 60_000_000];
        for (n, expires_us) in (0..).zip(ends) {
            let (family, _) = crate::refresh::begin(&Config::default(), UserId::new([1; 16]), "phone", now_us);
            let family = RefreshFamily { family: [n; 16], expires_us, ..family };
            assert!(store.put_refresh_family(family, 0).await.unwrap());
        }
        let stop = CancellationToken::new();
        forget(&store, Old::SignIns, &stop).await.unwrap();
        let left = store.refresh_families_of(UserId::new([1; 16])).await.unwrap();
        assert_eq!(left.iter().map(|family| family.family).collect::<Vec<_>>(), [[2; 16]]);
    }
}
