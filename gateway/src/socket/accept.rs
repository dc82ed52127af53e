//! The accept loop: from a TCP connection to a socket in the handler's hands, and back at shutdown.
//!
//! It bounds how many connections there are, how many of them are still being upgraded and for how long. Once
//! upgraded, a connection leaves HTTP behind: its task, buffers and timer are gone.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fastwebsockets::upgrade::UpgradeFut;
use http_body_util::Either;
use http_body_util::Empty;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rand::seq::SliceRandom;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::Error;
use super::close::CloseCode;
use super::config::Config;
use super::connection::{Connection, Peer};
use super::edge::Edge;
use super::outbound::Outbound;
use super::porch::{Porch, here};
use super::room::Place;
use super::tls::{CertificateReload, Tls};
use super::transport::Transport;
use super::upgrade::{Asked, Refusal, check, switch};
use crate::limits::Seat;

/// Connections that the kernel may hold for us while we are busy.
const BACKLOG: u32 = 4_096;
/// Most bytes of a request head; hyper takes no smaller buffer than 8 KiB.
const MAX_HEAD_BYTES: usize = 8 * 1024;
const MAX_HEADERS: usize = 64;
/// Pause after an accept error that will not go away by itself, such as no free descriptor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Steps in which sockets are closed while draining.
const DRAIN_STEP: Duration = Duration::from_millis(20);
/// Time that handlers get to end after their sockets are closed, beyond the close timeout.
const LAST_TASKS: Duration = Duration::from_secs(1);

type UpgradeBody = Either<Empty<Bytes>, String>;

/// The layer above: takes each socket that was opened.
pub trait Handler: Send + Sync + 'static {
    /// Serves one socket; called in a task of its own, which ends with the socket.
    fn serve(&self, connection: Connection) -> impl Future<Output = ()> + Send + 'static;

    /// Told once at shutdown for each open socket: it will be closed as `draining` after this time.
    fn draining(&self, socket: &Outbound, closes_in: Duration) {
        let _ = (socket, closes_in);
    }
}

impl<F, S> Handler for F
where
    F: Fn(Connection) -> S + Send + Sync + 'static,
    S: Future<Output = ()> + Send + 'static,
{
    fn serve(&self, connection: Connection) -> impl Future<Output = ()> + Send + 'static {
        self(connection)
    }
}

/// A bound listener that is not accepting yet.
#[derive(Debug)]
pub struct Acceptor {
    config: Config,
    listener: TcpListener,
    address: SocketAddr,
    tls: Option<Arc<Tls>>,
}

impl Acceptor {
    /// Checks the settings, reads the certificate if there is to be one, and binds the address.
    ///
    /// # Errors
    /// A setting or the certificate cannot work, or the address cannot be had.
    pub fn bind(config: Config) -> Result<Self, Error> {
        config.validate()?;
        let tls = config.tls.as_ref().map(Tls::open).transpose()?.map(Arc::new);
        let bind = || {
            let socket = if config.listen.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
            socket.set_reuseaddr(true)?;
            if config.send_buffer_bytes > 0 {
                // Inherited by every accepted connection.
                socket.set_send_buffer_size(config.send_buffer_bytes)?;
            }
            socket.bind(config.listen)?;
            let listener = socket.listen(BACKLOG)?;
            let address = listener.local_addr()?;
            Ok((listener, address))
        };
        let (listener, address) = bind().map_err(|source| Error::Bind { address: config.listen, source })?;
        Ok(Self { config, listener, address, tls })
    }

    /// The address that clients connect to, its port known.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Has the files of the certificate looked at, if there is one.
    #[must_use]
    pub fn certificate_reload(&self) -> Option<CertificateReload> {
        self.tls.as_ref().map(|tls| tls.reload())
    }

    /// Accepts until shutdown, then drains: closes the sockets over the drain time and waits for their tasks.
    pub async fn run<H: Handler>(self, handler: H, shutdown: CancellationToken) {
        let Self { config, listener, tls, .. } = self;
        let edge = Arc::new(Edge::new(config, tls));
        let stop = CancellationToken::new();
        let mut workers = tokio::task::JoinSet::new();
        for worker in 0..edge.flusher.workers() {
            let (edge, stop) = (Arc::clone(&edge), stop.clone());
            workers.spawn(async move { edge.flusher.run(worker, stop).await });
        }
        {
            let (edge, stop) = (Arc::clone(&edge), stop.clone());
            workers.spawn(async move { edge.flusher.run_late(stop).await });
        }
        {
            let (edge, stop) = (Arc::clone(&edge), stop.clone());
            workers.spawn(async move { edge.turn_wheel(stop).await });
        }
        workers.spawn(Arc::clone(&edge.addresses).sweep(stop.clone()));
        if let Some(tls) = &edge.tls {
            workers.spawn(Arc::clone(tls).watch(stop.clone()));
        }
        let handler = Arc::new(handler);
        // Its end ends the handshakes under way as well: their clients have lost nothing yet.
        let ends = shutdown.child_token();
        if let Err(error) = take_all(&edge, listener, &handler, &ends).await {
            tracing::error!(%error, "no connection can be taken any more");
            shutdown.cancelled().await;
        }
        drain(&edge, &*handler).await;
        edge.tasks.close();
        if timeout(edge.config.close_timeout() + LAST_TASKS, edge.tasks.wait()).await.is_err() {
            tracing::warn!(tasks = edge.tasks.len(), "sockets left behind at shutdown");
        }
        stop.cancel();
        let _ended = workers.join_all().await;
        edge.forget_all();
    }
}

/// Takes connections on the porch, and inside while that starves, until `ends`.
async fn take_all<H: Handler>(
    edge: &Arc<Edge>,
    listener: TcpListener,
    handler: &Arc<H>,
    ends: &CancellationToken,
) -> io::Result<()> {
    let connections = Arc::new(Semaphore::new(edge.config.max_connections.min(Semaphore::MAX_PERMITS)));
    // As many threads as inside: after all were cut at once, they come back as fast.
    let porch = Porch::new(Handle::current().metrics().num_workers())?;
    let listener = listener.into_std()?;
    let accepting = {
        let (edge, handler, connections) = (Arc::clone(edge), Arc::clone(handler), Arc::clone(&connections));
        let (listener, on, ends) = (listener.try_clone()?, porch.handle(), ends.clone());
        porch.handle().spawn(async move {
            let accepting = async {
                accept(&edge, here(&listener)?, &handler, &connections, &on, &ends).await;
                Ok(())
            };
            ends.run_until_cancelled(accepting).await.unwrap_or(Ok(()))
        })
    };
    let inside = Handle::current();
    let take_in = |listener| accept(edge, listener, handler, &connections, &inside, ends);
    porch.take_in(&listener, ends, take_in).await;
    accepting.await.unwrap_or_else(|error| Err(io::Error::other(error)))
}

/// Accepts for ever, and opens on this runtime what it accepts.
async fn accept<H: Handler>(
    edge: &Arc<Edge>,
    listener: TcpListener,
    handler: &Arc<H>,
    connections: &Arc<Semaphore>,
    on: &Handle,
    ends: &CancellationToken,
) {
    loop {
        let (stream, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) if is_of_one_connection(&error) => continue,
            Err(error) => {
                metrics::counter!("gateway_accept_errors_total").increment(1);
                tracing::warn!(%error, "accept failed");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let ends = ends.child_token();
        let (connecting, place) = match let_in(edge, connections, address, &ends) {
            Ok(let_in) => let_in,
            Err(refusal) => {
                count_refusal(refusal);
                // Best effort: a peer that does not take it sees the connection close. A handshake only to say it over TLS
                // would cost what the refusal is to save.
                if edge.tls.is_none() {
                    let _ = stream.try_write(refusal.bytes().as_bytes());
                }
                continue;
            }
        };
        let (edge, handler) = (Arc::clone(edge), Arc::clone(handler));
        let tasks = edge.tasks.clone();
        let opening = async move {
            let opened = ends.run_until_cancelled(open(&edge, stream, connecting)).await;
            drop(place);
            let Some(Some(Opened { transport, read, peer })) = opened else { return };
            let inside = Arc::clone(&edge);
            inside.spawn(async move {
                match Connection::start(&edge, transport, read, peer) {
                    // A task of its own: this one is larger.
                    Ok(connection) => edge.spawn(handler.serve(connection)),
                    Err(error) => tracing::warn!(%error, "a socket cannot be taken inside"),
                }
            });
        };
        tasks.spawn_on(opening, on);
    }
}

/// A connection that may ask for a socket.
struct Connecting {
    address: SocketAddr,
    permit: OwnedSemaphorePermit,
    /// None while only the request can tell who the client is.
    seat: Option<Seat>,
}

/// Finds room for a connection; the place is its place among the handshakes.
fn let_in(
    edge: &Edge,
    connections: &Arc<Semaphore>,
    address: SocketAddr,
    ends: &CancellationToken,
) -> Result<(Connecting, Place<CancellationToken>), Refusal> {
    let seat = edge.addresses.at_accept(address.ip())?;
    let permit = Arc::clone(connections).try_acquire_owned().map_err(|_full| Refusal::Full)?;
    // After what is refused for less: a flood from one address, and one that finds no room, take nothing from the others.
    edge.admissions.take().map_err(|retry_after_s| Refusal::TooManyAtOnce { retry_after_s })?;
    let (place, leaves) = edge.handshakes.enter(edge.now_ms(), ends.clone()).ok_or(Refusal::Full)?;
    if let Some(leaves) = leaves {
        metrics::counter!("gateway_handshakes_refused_total", "code" => "displaced").increment(1);
        leaves.cancel();
    }
    Ok((Connecting { address, permit, seat }, place))
}

/// Whether only this one connection failed.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}

/// A connection that is a socket, not yet inside.
struct Opened {
    transport: Transport,
    /// What came behind the request.
    read: Bytes,
    peer: Peer,
}

/// Serves one handshake, TLS and HTTP upgrade, within the handshake timeout (X16).
async fn open(edge: &Arc<Edge>, stream: TcpStream, connecting: Connecting) -> Option<Opened> {
    let Connecting { address, permit, seat } = connecting;
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "no nodelay");
    }
    let limit = Duration::from_millis(edge.config.handshake_timeout_ms);
    let opening = async {
        let transport = match &edge.tls {
            Some(tls) => tls.handshake(stream).await?,
            None => Transport::Plain(stream),
        };
        upgrade(edge, transport, address, seat).await
    };
    let Ok(upgraded) = timeout(limit, opening).await else {
        metrics::counter!("gateway_handshakes_refused_total", "code" => "timeout").increment(1);
        return None;
    };
    let (transport, read, Asked { sub_protocol, bearer }, seat) = upgraded?;
    Some(Opened { transport, read, peer: Peer { address, sub_protocol, bearer, permit, seat } })
}

/// Runs HTTP on the connection until it is refused or upgraded; gives back the bare transport.
async fn upgrade(
    edge: &Arc<Edge>,
    transport: Transport,
    address: SocketAddr,
    seat: Option<Seat>,
) -> Option<(Transport, Bytes, Asked, Option<Seat>)> {
    let switched: Mutex<Option<(UpgradeFut, Asked)>> = Mutex::new(None);
    // Taken at accept, or by the request.
    let seat = Mutex::new(seat);
    let service = service_fn(|mut request: Request<Incoming>| {
        let answer = take_seat(edge, address, &request, &seat)
            .and_then(|()| check(&request, &edge.config.allowed_origins))
            .and_then(|asked| switch(&mut request, &asked).map(|(response, upgrade)| (response, upgrade, asked)));
        let response: Response<UpgradeBody> = match answer {
            Ok((response, upgrade, asked)) => {
                *switched.lock().unwrap_or_else(PoisonError::into_inner) = Some((upgrade, asked));
                response.map(Either::Left)
            }
            Err(refusal) => {
                count_refusal(refusal);
                refusal.response().map(Either::Right)
            }
        };
        std::future::ready(Ok::<_, Infallible>(response))
    });
    let mut http = http1::Builder::new();
    http.keep_alive(false)
        .half_close(false)
        .max_buf_size(MAX_HEAD_BYTES)
        .max_headers(MAX_HEADERS)
        .header_read_timeout(None);
    let served = http.serve_connection(TokioIo::new(transport), service).with_upgrades().await;
    if let Err(error) = served {
        tracing::debug!(%error, "upgrade failed");
        metrics::counter!("gateway_handshakes_refused_total", "code" => "transport").increment(1);
        return None;
    }
    let (upgrade, asked) = switched.into_inner().unwrap_or_else(PoisonError::into_inner)?;
    // The crate's socket is born with an 8 KiB buffer and has read nothing yet: only its stream is kept.
    let upgraded = upgrade.await.ok()?.into_inner().into_inner();
    let parts = upgraded.downcast::<TokioIo<Transport>>().ok()?;
    // Copied, because what came behind the request would keep hyper's whole buffer alive.
    let seat = seat.into_inner().unwrap_or_else(PoisonError::into_inner);
    Some((parts.io.into_inner(), Bytes::copy_from_slice(&parts.read_buf), asked, seat))
}

/// Counts the client with its address, unless that was done at accept.
fn take_seat(
    edge: &Edge,
    address: SocketAddr,
    request: &Request<Incoming>,
    seat: &Mutex<Option<Seat>>,
) -> Result<(), Refusal> {
    let mut seat = seat.lock().unwrap_or_else(PoisonError::into_inner);
    if seat.is_none() {
        *seat = edge.addresses.at_request(address.ip(), request.headers())?;
    }
    Ok(())
}

fn count_refusal(refusal: Refusal) {
    metrics::counter!("gateway_handshakes_refused_total", "code" => refusal.code()).increment(1);
}

/// Closes what is open, spread evenly over the drain time in random order.
async fn drain<H: Handler>(edge: &Edge, handler: &H) {
    let drain = Duration::from_millis(edge.config.drain_ms);
    let started = Instant::now();
    let mut leaving = edge.open_sockets();
    leaving.shuffle(&mut rand::rng());
    let count = leaving.len().max(1) as u32;
    let closes_in = |index: usize| drain * (index as u32 + 1) / count;
    for (index, socket) in leaving.iter().enumerate() {
        handler.draining(&Outbound::new(Arc::clone(socket)), closes_in(index));
    }
    let mut closed = 0;
    while closed < leaving.len() {
        let until = started.elapsed() + DRAIN_STEP;
        while closed < leaving.len() && closes_in(closed) <= until {
            leaving[closed].close(CloseCode::Draining);
            closed += 1;
        }
        if closed < leaving.len() {
            sleep_until(started + until).await;
        }
    }
    edge.close_all(CloseCode::Draining);
}
