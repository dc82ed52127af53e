//! The reading side of a socket: takes bytes through the frame guard and gives out whole messages.
//!
//! One task reads a socket. While nothing is in flight it holds no buffer: bytes are read into one buffer per
//! worker thread, and the guard keeps only what belongs to an unfinished frame. It answers pings, and ends the
//! close handshake after the owner has let go.

use std::cell::RefCell;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::tcp::OwnedReadHalf;

use super::close::CloseCode;
use super::connection::{Closed, Held, Shared};
use super::frame_guard::{Event, Fault, FrameGuard, Kind, Message};
use super::upgrade::SubProtocol;
use crate::limits::Allowance;

/// Bytes of one read; also the most that may wait unparsed for one socket, but for the rest of a TLS record.
const READ_BYTES: usize = 16 * 1024;

/// What a read goes through.
struct Buffers {
    wire: Box<[u8]>,
    /// What TLS opened of it.
    plain: Vec<u8>,
}

thread_local! {
    static BUFFERS: RefCell<Buffers> =
        RefCell::new(Buffers { wire: vec![0; READ_BYTES].into_boxed_slice(), plain: Vec::new() });
}

/// Reads one socket. Dropping it closes the socket, unless it is closed already.
pub struct Reader {
    shared: Arc<Shared>,
    /// Taken when the reader is dropped.
    input: Option<Input>,
}

/// What is needed to read on.
struct Input {
    half: OwnedReadHalf,
    guard: FrameGuard,
    /// Bytes that were read behind the last message, not yet parsed.
    rest: Bytes,
    /// TLS says that nothing follows.
    is_over: bool,
    /// Boxed: rarely touched, and the reader moves about.
    held: Box<Held>,
    allowance: Option<Arc<Allowance>>,
}

/// What one look at the input gave.
enum Read {
    Event(Event),
    Fault(Fault),
    /// More control frames and fragments than may come.
    Flood,
    /// The transport ended.
    End,
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Reader").field(&self.shared).finish()
    }
}

impl Reader {
    pub(super) fn new(
        shared: Arc<Shared>,
        (half, rest, is_over): (OwnedReadHalf, Bytes, bool),
        held: Box<Held>,
        allowance: Option<Arc<Allowance>>,
    ) -> Self {
        let guard = FrameGuard::new(shared.edge.config.limits(false));
        Self { shared, input: Some(Input { half, guard, rest, is_over, held, allowance }) }
    }

    /// Lifts the limits of an unauthenticated socket and its deadline.
    pub fn authenticated(&mut self) {
        self.shared.authenticated();
        if let Some(input) = &mut self.input {
            input.guard.set_limits(self.shared.edge.config.limits(true));
            input.held.authenticated();
        }
    }

    /// Waits for the next whole message; pings are answered on the way.
    ///
    /// It may be dropped and called again without losing a byte: no state lives in the future.
    ///
    /// # Errors
    /// The socket is closed, by whom and why. A fault of the peer has been answered with its close code.
    pub async fn next_message(&mut self) -> Result<Message, Closed> {
        loop {
            match poll_fn(|cx| self.poll_read(cx)).await? {
                Event::Message(message) => return self.check_kind(message),
                Event::Ping(payload) => self.shared.with_queue(|queue| {
                    if self.shared.is_open() {
                        queue.pong(payload);
                    }
                }),
                Event::Pong => {}
                Event::Close(close) => {
                    self.shared.closed_by_peer(&close);
                    return Err(Closed::ByPeer(close));
                }
            }
        }
    }

    fn check_kind(&self, message: Message) -> Result<Message, Closed> {
        let expected = match self.shared.sub_protocol {
            SubProtocol::Proto => Kind::Binary,
            SubProtocol::Json => Kind::Text,
        };
        if message.kind == expected { Ok(message) } else { Err(self.close(CloseCode::UnsupportedData)) }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<Event, Closed>> {
        // Registered before the look at `ended`, so that a close in between is not missed.
        self.shared.register_reader(cx.waker());
        let ended = self.shared.ended();
        let Some(input) = self.input.as_mut().filter(|_| ended.is_none()) else {
            return Poll::Ready(Err(ended.unwrap_or(Closed::Lost)));
        };
        let mut read = ready!(input.poll_next(cx, &self.shared));
        if matches!(read, Read::Event(_)) && input.is_flooded() {
            read = Read::Flood;
        }
        let closed = match read {
            Read::Event(event) => return Poll::Ready(Ok(event)),
            Read::Fault(fault) => {
                metrics::counter!("gateway_frames_refused_total", "fault" => fault.name()).increment(1);
                tracing::debug!(socket.id = self.shared.id, %fault, "frame refused");
                self.close(fault.close_code())
            }
            Read::Flood => {
                metrics::counter!("gateway_frames_refused_total", "fault" => "flood").increment(1);
                self.close(CloseCode::PolicyViolation)
            }
            Read::End => {
                self.shared.lost();
                self.shared.ended().unwrap_or(Closed::Lost)
            }
        };
        Poll::Ready(Err(closed))
    }

    /// Closes, and says how the socket really ended: somebody may have been first.
    fn close(&self, code: CloseCode) -> Closed {
        self.shared.close(code);
        self.shared.ended().unwrap_or(Closed::ByServer(code))
    }
}

impl Input {
    /// Takes what waits, then what the kernel has.
    fn poll_next(&mut self, cx: &mut Context<'_>, shared: &Arc<Shared>) -> Poll<Read> {
        while !self.rest.is_empty() {
            let mut bytes = &self.rest[..];
            let taken = self.guard.next(&mut bytes);
            let used = self.rest.len() - bytes.len();
            self.rest.advance(used);
            if self.rest.is_empty() {
                self.rest = Bytes::new();
            }
            if let Some(read) = read_of(taken) {
                return Poll::Ready(read);
            }
        }
        loop {
            if self.is_over {
                return Poll::Ready(Read::End);
            }
            let read = BUFFERS.with_borrow_mut(|Buffers { wire, plain }| {
                let mut buffer = ReadBuf::new(wire);
                match ready!(Pin::new(&mut self.half).poll_read(cx, &mut buffer)) {
                    Ok(()) if !buffer.filled().is_empty() => {}
                    Ok(()) | Err(_) => return Poll::Ready(Some(Read::End)),
                }
                shared.note_read();
                let mut bytes = buffer.filled();
                if shared.is_tls {
                    plain.clear();
                    self.is_over = shared.open(bytes, plain).is_err();
                    bytes = plain;
                }
                let taken = self.guard.next(&mut bytes);
                self.rest = Bytes::copy_from_slice(bytes);
                Poll::Ready(read_of(taken))
            });
            if let Some(read) = ready!(read) {
                return Poll::Ready(read);
            }
        }
    }

    /// Whether there were too many frames that are no whole message.
    fn is_flooded(&mut self) -> bool {
        let extra = self.guard.take_extra_frames();
        extra > 0 && self.allowance.as_ref().is_some_and(|allowance| !allowance.take_extra_frames(extra))
    }

    /// Reads on to the peer's close frame or the end of the transport, giving nothing out.
    async fn discard_to_close(&mut self, shared: &Arc<Shared>) {
        loop {
            match poll_fn(|cx| self.poll_next(cx, shared)).await {
                Read::Event(Event::Close(_)) | Read::End => return,
                Read::Event(_) | Read::Fault(_) | Read::Flood => {}
            }
        }
    }
}

fn read_of(taken: Result<Option<Event>, Fault>) -> Option<Read> {
    match taken {
        Ok(event) => event.map(Read::Event),
        Err(fault) => Some(Read::Fault(fault)),
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let code = if std::thread::panicking() { CloseCode::InternalError } else { CloseCode::Normal };
        self.shared.close(code);
        if let Some(input) = self.input.take() {
            let shared = Arc::clone(&self.shared);
            self.shared.edge.spawn(end(shared, input));
        }
    }
}

/// Ends the close handshake (RFC 6455 §7.1.1): our close frame out, the peer's in, then the connection is dropped.
///
/// After a fault no close frame of the peer can be told from garbage. Then all is read up to its end: the kernel
/// would answer unread bytes with a reset, which takes our close frame from the peer. One deadline holds for all. Over TLS its own end comes last (RFC 8446
/// §6.1): a peer that sees the connection end without it was cut off.
async fn end(shared: Arc<Shared>, mut input: Input) {
    let closing = async {
        let close_sent = poll_fn(|cx| shared.poll_drained(cx));
        let end_of_tls = async {
            shared.end_tls();
            poll_fn(|cx| shared.poll_drained(cx)).await;
        };
        match shared.ended() {
            Some(Closed::ByServer(_)) if !input.guard.is_done() => {
                tokio::join!(close_sent, input.discard_to_close(&shared));
                end_of_tls.await;
            }
            Some(Closed::ByServer(_)) => {
                close_sent.await;
                end_of_tls.await;
                shared.give_up_writing();
                input.discard_to_close(&shared).await;
            }
            Some(Closed::ByPeer(_)) => {
                close_sent.await;
                end_of_tls.await;
            }
            Some(Closed::Lost) | None => {}
        }
    };
    let _timed_out = tokio::time::timeout(shared.edge.config.close_timeout(), closing).await;
    shared.give_up_writing();
}
