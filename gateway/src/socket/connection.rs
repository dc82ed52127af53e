//! One socket as its reader, its pushers, the flusher and the wheel share it.
//!
//! It owns the order of ending: who ended the socket first, which close frame goes out, and when the writing
//! half is given up. It never reads: only the socket's one `Reader` does.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use fastwebsockets::OpCode;
use futures_util::task::AtomicWaker;
use tokio::io::AsyncWrite;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::OwnedSemaphorePermit;

use super::close::{CloseCode, PeerClose};
use super::edge::Edge;
use super::heartbeat::{Facts, Verdict, check};
use super::outbound::Outbound;
use super::queue::{Admitted, Bound, Class, Queue};
use super::reader::Reader;
use super::room::Place;
use super::tls::Over;
use super::transport::{Halves, Sink, Transport};
use super::upgrade::{Bearer, SubProtocol};
use crate::limits::{Allowance, Seat};

/// The socket is open. Close codes, all at least 1000, are the other values of `ending`.
const OPEN: u16 = 0;
const LOST: u16 = 1;
const CLOSED_BY_PEER: u16 = 2;
/// Frames that may wait without hurry: a burst of them is worth a write of its own.
const UNHURRIED_MAX: usize = 16;

/// Why no more messages come from a socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Closed {
    /// The peer sent a close frame.
    ByPeer(PeerClose),
    /// The server closed with this code.
    ByServer(CloseCode),
    /// The transport ended without a close frame.
    Lost,
}

/// A socket whose upgrade is done, as it is handed to the layer above.
#[derive(Debug)]
pub struct Connection {
    /// Number of the socket in this process, never used twice.
    pub id: u64,
    /// Address of the TCP peer.
    pub peer: SocketAddr,
    /// The encoding that both sides agreed on.
    pub sub_protocol: SubProtocol,
    /// The token of an `Authorization: Bearer` header, if the client sent one.
    pub bearer: Option<Bearer>,
    /// What it may still send; none for a client that no limit holds for.
    pub(crate) allowance: Option<Arc<Allowance>>,
    /// The one reader; dropping it closes the socket.
    pub reader: Reader,
    /// Writes to the socket; clones are cheap and may outlive it.
    pub outbound: Outbound,
}

pub(super) struct Shared {
    pub(super) id: u64,
    pub(super) sub_protocol: SubProtocol,
    /// What the reader gets is sealed.
    pub(super) is_tls: bool,
    pub(super) edge: Arc<Edge>,
    opened_ms: u64,
    last_read_ms: AtomicU64,
    authenticated: AtomicBool,
    expires_ms: AtomicU64,
    /// Who ended it first: `OPEN`, `LOST`, `CLOSED_BY_PEER` or the server's code.
    ending: AtomicU16,
    reader: AtomicWaker,
    state: Mutex<State>,
}

struct State {
    queue: Queue,
    sink: Option<Sink>,
    writer: Writer,
    /// The socket stands on the list of those that are written later, whoever writes it first.
    late: bool,
    drained: Vec<Waker>,
}

/// Who writes next.
enum Writer {
    Nobody,
    /// Nothing that waits is in a hurry: it goes with what comes next, or when the late list is written.
    Later,
    /// The socket stands on a flusher's list.
    Listed,
    /// The kernel took no more: a task waits until it does.
    Blocked(Option<Waker>),
}

impl Connection {
    /// Takes over an upgraded stream for the runtime that asks; `read` is what came behind the upgrade request.
    pub(super) fn start(edge: &Arc<Edge>, transport: Transport, read: Bytes, peer: Peer) -> io::Result<Self> {
        let Halves { input, sink, read: opened, is_over } = transport.into_split()?;
        let read = if opened.is_empty() { read } else { [read, opened].concat().into() };
        let now_ms = edge.now_ms();
        let shared = Arc::new(Shared {
            id: edge.next_id(),
            sub_protocol: peer.sub_protocol,
            is_tls: sink.is_tls(),
            edge: Arc::clone(edge),
            opened_ms: now_ms,
            last_read_ms: AtomicU64::new(now_ms),
            authenticated: AtomicBool::new(false),
            expires_ms: AtomicU64::new(u64::MAX),
            ending: AtomicU16::new(OPEN),
            reader: AtomicWaker::new(),
            state: Mutex::new(State {
                queue: Queue::default(),
                sink: Some(sink),
                writer: Writer::Nobody,
                late: false,
                drained: Vec::new(),
            }),
        });
        edge.watch(&shared);
        // TLS may have something to say already.
        shared.with_queue(|_queue| ());
        let waits = match edge.unauthenticated.enter(now_ms, Arc::clone(&shared)) {
            Some((place, leaves)) => {
                if let Some(leaves) = leaves {
                    leaves.close(CloseCode::Overloaded);
                }
                Some(place)
            }
            None => {
                shared.close(CloseCode::Overloaded);
                None
            }
        };
        let allowance = peer.seat.as_ref().map(|seat| Arc::new(Allowance::new(seat)));
        let held = Box::new(Held { waits, seat: peer.seat, _permit: peer.permit });
        Ok(Self {
            id: shared.id,
            peer: peer.address,
            sub_protocol: peer.sub_protocol,
            bearer: peer.bearer,
            reader: Reader::new(Arc::clone(&shared), (input, read, is_over), held, allowance.clone()),
            allowance,
            outbound: Outbound::new(shared),
        })
    }
}

/// What the upgrade found out about the other side.
pub(super) struct Peer {
    pub(super) address: SocketAddr,
    pub(super) sub_protocol: SubProtocol,
    pub(super) bearer: Option<Bearer>,
    /// Counts the socket among all, until its descriptor is closed.
    pub(super) permit: OwnedSemaphorePermit,
    /// Counts it with its address; none for a client that no limit holds for.
    pub(super) seat: Option<Seat>,
}

/// Where the socket is counted until its descriptor is closed.
pub(super) struct Held {
    waits: Option<Place<Arc<Shared>>>,
    seat: Option<Seat>,
    _permit: OwnedSemaphorePermit,
}

impl Held {
    /// The socket is no newcomer any more.
    pub(super) fn authenticated(&mut self) {
        self.waits = None;
        if let Some(seat) = &mut self.seat {
            seat.authenticated();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn bound(&self, held: usize) -> Bound {
        Bound { bytes: self.edge.config.queue_bytes, frames: self.edge.config.queue_frames, held }
    }

    /// Changes the queue and sees to it that somebody writes what is in it.
    ///
    /// The writing itself is left to the flusher, so that what is pushed in one go leaves in one write.
    pub(super) fn with_queue<T>(self: &Arc<Self>, change: impl FnOnce(&mut Queue) -> T) -> T {
        self.change(true, |state| change(&mut state.queue))
    }

    fn change<T>(self: &Arc<Self>, hurried: bool, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.lock();
        let result = change(&mut state);
        if state.sink.is_none() {
            state.queue.clear();
            return result;
        }
        let hurried = hurried || state.queue.frames() >= UNHURRIED_MAX;
        match state.writer {
            Writer::Nobody | Writer::Later if hurried && state.waits() => {
                state.writer = Writer::Listed;
                drop(state);
                self.edge.flusher.list(Arc::clone(self));
            }
            Writer::Nobody if state.waits() => {
                state.writer = Writer::Later;
                if !std::mem::replace(&mut state.late, true) {
                    drop(state);
                    self.edge.flusher.list_late(Arc::clone(self));
                }
            }
            Writer::Nobody | Writer::Later | Writer::Listed | Writer::Blocked(_) => {}
        }
        result
    }

    /// Admits a frame to the queue; `None` if the socket is not open.
    ///
    /// A full queue is first written to the kernel: a client is slow only if the kernel takes no more, not because
    /// one burst outran the flusher.
    pub(super) fn admit(self: &Arc<Self>, opcode: OpCode, frame: &Bytes, class: Class) -> Option<Admitted> {
        let admit = |state: &mut State| {
            let bound = self.bound(state.held());
            // Asked under the queue's lock: nothing may be queued behind a close frame.
            self.is_open().then(|| state.queue.admit(opcode, frame.clone(), class, bound))
        };
        let hurried = class != Class::Unhurried;
        let admitted = self.change(hurried, admit);
        if admitted != Some(Admitted::Full) || !self.flush_listed() {
            return admitted;
        }
        self.change(hurried, admit)
    }

    pub(super) fn waiting(&self) -> (usize, usize) {
        let state = self.lock();
        (state.waiting_bytes(), state.queue.frames())
    }

    pub(super) fn is_open(&self) -> bool {
        self.ending.load(Ordering::Acquire) == OPEN
    }

    /// How the socket ended, unless by the peer, whose words its reader has.
    pub(super) fn ended(&self) -> Option<Closed> {
        match self.ending.load(Ordering::Acquire) {
            OPEN => None,
            LOST => Some(Closed::Lost),
            CLOSED_BY_PEER => Some(Closed::ByPeer(PeerClose::default())),
            code => Some(CloseCode::from_number(code).map_or(Closed::Lost, Closed::ByServer)),
        }
    }

    fn end(&self, how: u16) -> bool {
        self.ending.compare_exchange(OPEN, how, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Sends the close frame and stops the reader; only the first close counts.
    pub(super) fn close(self: &Arc<Self>, code: CloseCode) {
        if !self.end(code.number()) {
            return;
        }
        metrics::counter!("gateway_sockets_closed_total", "code" => code.name()).increment(1);
        let mut payload = BytesMut::with_capacity(2 + code.name().len());
        payload.put_u16(code.number());
        payload.put_slice(code.name().as_bytes());
        // What waits for a slow or silent reader would only hold memory and keep the close frame back.
        let at_once = matches!(code, CloseCode::Slow | CloseCode::HeartbeatTimeout);
        self.with_queue(|queue| queue.close(payload.freeze(), at_once));
        self.reader.wake();
    }

    /// Answers the peer's close frame with its own code, behind what was said before.
    pub(super) fn closed_by_peer(self: &Arc<Self>, close: &PeerClose) {
        if !self.end(CLOSED_BY_PEER) {
            return;
        }
        metrics::counter!("gateway_sockets_closed_total", "code" => "peer").increment(1);
        let payload = close.code.map_or_else(Bytes::new, |code| Bytes::copy_from_slice(&code.to_be_bytes()));
        // What waits answers what the peer said before it closed; the close timeout bounds how long it is kept.
        self.with_queue(|queue| queue.close(payload, false));
    }

    /// The transport is gone.
    pub(super) fn lost(&self) {
        if self.end(LOST) {
            metrics::counter!("gateway_sockets_closed_total", "code" => "lost").increment(1);
        }
        self.give_up_writing();
    }

    /// Drops what waits and ends the writing half, which sends FIN.
    pub(super) fn give_up_writing(&self) {
        let mut state = self.lock();
        state.sink = None;
        state.settle();
        drop(state);
        self.reader.wake();
    }

    /// Opens what the reader got of a TLS socket; what was in it goes to the end of `plain`.
    ///
    /// # Errors
    /// Nothing more comes. What was said before is in `plain` all the same.
    pub(super) fn open(self: &Arc<Self>, wire: &[u8], plain: &mut Vec<u8>) -> Result<(), Over> {
        let mut state = self.lock();
        let Some(Sink::Tls(session)) = &mut state.sink else {
            // Given up: nothing of what comes is looked at any more.
            return Ok(());
        };
        let opened = session.open(wire, plain);
        if opened.is_err() {
            // The peer should hear why, and the socket ends with this. An error is what the reader meets as well.
            let _ = state.try_write();
        } else if session.held() > 0 {
            drop(state);
            self.with_queue(|_queue| ());
        }
        opened
    }

    /// Says at the end of what is written that nothing follows, where that is TLS' to say.
    pub(super) fn end_tls(self: &Arc<Self>) {
        self.change(true, |state| {
            if let Some(Sink::Tls(session)) = &mut state.sink {
                session.close();
            }
        });
    }

    pub(super) fn register_reader(&self, waker: &Waker) {
        self.reader.register(waker);
    }

    pub(super) fn note_read(&self) {
        self.last_read_ms.store(self.edge.now_ms(), Ordering::Relaxed);
    }

    pub(super) fn authenticated(&self) {
        self.authenticated.store(true, Ordering::Relaxed);
    }

    pub(super) fn expire_in(self: &Arc<Self>, time: Duration) {
        let now_ms = self.edge.now_ms();
        let expires_ms = now_ms.saturating_add(u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
        self.expires_ms.store(expires_ms, Ordering::Relaxed);
        if expires_ms < now_ms + self.edge.config.heartbeat_interval_ms {
            // The wheel may look at the socket only after that.
            self.edge.look_at(self, expires_ms);
        }
    }

    /// Closes it if its token no longer holds.
    pub(super) fn look(self: &Arc<Self>, now_ms: u64) {
        if now_ms >= self.expires_ms.load(Ordering::Relaxed) {
            self.close(CloseCode::TokenExpired);
        }
    }

    /// Pings, closes or leaves alone; `None` once the wheel may forget the socket.
    pub(super) fn beat(self: &Arc<Self>, now_ms: u64, next_ping_ms: u64) -> Option<(u64, u64)> {
        if !self.is_open() {
            return None;
        }
        let config = &self.edge.config;
        let authenticate_by_ms =
            (!self.authenticated.load(Ordering::Relaxed)).then_some(self.opened_ms + config.authenticate_timeout_ms);
        let last_read_ms = self.last_read_ms.load(Ordering::Relaxed);
        let expires_ms = self.expires_ms.load(Ordering::Relaxed);
        match check(config, Facts { now_ms, last_read_ms, next_ping_ms, authenticate_by_ms, expires_ms }) {
            Verdict::Close(code) => {
                self.close(code);
                None
            }
            Verdict::Keep { ping, next_ping_ms, due_ms } => {
                if ping {
                    self.with_queue(Queue::ping);
                }
                Some((next_ping_ms, due_ms))
            }
        }
    }

    /// Writes all that the kernel takes now; `false` if it takes no more and a task has to wait for it.
    pub(super) fn flush(&self) -> bool {
        let mut state = self.lock();
        let done = state.try_write();
        self.after_write(state, done)
    }

    /// Writes what nobody has written since; `false` as with [`Self::flush`].
    pub(super) fn flush_late(&self) -> bool {
        let mut state = self.lock();
        state.late = false;
        if !matches!(state.writer, Writer::Later) {
            return true;
        }
        let done = state.try_write();
        self.after_write(state, done)
    }

    /// Writes ahead of the flusher, which still has the socket on a list; whether that made room.
    fn flush_listed(&self) -> bool {
        let mut state = self.lock();
        if !matches!(state.writer, Writer::Listed | Writer::Later) {
            return false;
        }
        let before = state.waiting_bytes();
        // An error is left to the flusher, which meets it again.
        let _ = state.try_write();
        state.waiting_bytes() < before
    }

    /// Goes on when the kernel takes more; ready once nothing waits.
    pub(super) fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.lock();
        let done = state.write(|sink, slices| std::pin::Pin::new(sink).poll_write_vectored(cx, slices));
        if matches!(done, Poll::Pending) {
            state.writer = Writer::Blocked(Some(cx.waker().clone()));
        }
        if self.after_write(state, done) { Poll::Ready(()) } else { Poll::Pending }
    }

    fn after_write(&self, mut state: MutexGuard<'_, State>, done: Poll<io::Result<()>>) -> bool {
        match done {
            Poll::Pending => {
                if !matches!(state.writer, Writer::Blocked(_)) {
                    state.writer = Writer::Blocked(None);
                }
                false
            }
            Poll::Ready(Ok(())) => {
                state.settle();
                true
            }
            Poll::Ready(Err(error)) => {
                drop(state);
                tracing::debug!(socket.id = self.id, %error, "write failed");
                self.lost();
                true
            }
        }
    }

    /// Ready once nothing waits to be written.
    pub(super) fn poll_drained(&self, cx: &Context<'_>) -> Poll<()> {
        let mut state = self.lock();
        if !state.waits() {
            return Poll::Ready(());
        }
        if !state.drained.iter().any(|waker| waker.will_wake(cx.waker())) {
            state.drained.push(cx.waker().clone());
        }
        Poll::Pending
    }
}

impl State {
    /// Bytes that TLS has and the kernel has not.
    fn held(&self) -> usize {
        self.sink.as_ref().map_or(0, Sink::held)
    }

    fn waiting_bytes(&self) -> usize {
        self.queue.bytes() + self.held()
    }

    fn waits(&self) -> bool {
        !self.queue.is_empty() || self.held() > 0
    }

    fn try_write(&mut self) -> Poll<io::Result<()>> {
        self.write(|sink, slices| match sink.try_write_vectored(slices) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
            result => Poll::Ready(result),
        })
    }

    /// Writes until nothing waits, the kernel takes no more or the socket is broken.
    fn write(
        &mut self,
        write: impl FnMut(&mut OwnedWriteHalf, &[io::IoSlice<'_>]) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<()>> {
        self.sink.as_mut().map_or(Poll::Ready(Ok(())), |sink| sink.write(&mut self.queue, write))
    }

    /// Nothing waits any more: nobody writes, and who waited for that goes on.
    fn settle(&mut self) {
        self.queue.clear();
        if let Writer::Blocked(Some(waker)) = std::mem::replace(&mut self.writer, Writer::Nobody) {
            waker.wake();
        }
        std::mem::take(&mut self.drained).into_iter().for_each(Waker::wake);
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (bytes, frames) = self.waiting();
        f.debug_struct("Socket")
            .field("id", &self.id)
            .field("ended", &self.ended())
            .field("waiting_bytes", &bytes)
            .field("waiting_frames", &frames)
            .finish_non_exhaustive()
    }
}
