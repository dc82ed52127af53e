//! The one task of a client: connects, signs in, carries frames both ways, and comes back after a loss.
//!
//! Frames that wait go out in one vectored write; frames that came are handled in one turn. It never decides what a
//! frame means: the endpoint does.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::{Sink, SinkExt, Stream, StreamExt};
use prost::Message as _;
use proto::v1::{self, client_frame, server_frame};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_websockets::{ClientBuilder, Config, Connector, Limits, MaybeTlsStream, Message, WebSocketStream};

use crate::Error;
use crate::client::Desk;
use crate::machine::Event;
use crate::renewal::{self, Renewal};

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// The sub-protocol of binary frames.
const SUB_PROTOCOL: &str = "heliograph.v1.proto";
/// Frames handled in one turn, so that sending gets its turn.
const FRAMES_A_TURN: usize = 64;
/// The close code of a token that has expired.
const TOKEN_EXPIRED: u16 = 4502;
/// The close code of a gateway that leaves.
const DRAINING: u16 = 4002;
/// Largest server frame: a history page.
const FRAME_BYTES: usize = 8 << 20;
/// Bytes that may wait before a write is tried within a turn.
const WRITE_BYTES: usize = 64 * 1024;
/// How long the closing handshake may take when the client leaves.
const LEAVE_WITHIN: Duration = Duration::from_secs(2);

/// Why a socket ended and what follows.
struct Loss {
    code: Option<u16>,
    // The server said when to come back.
    return_at: Option<Instant>,
    // Signed in and caught up once: the next wait starts from the shortest.
    was_well: bool,
}

/// Says that nothing follows, also where the task is dropped.
struct End(Arc<Desk>);

impl Drop for End {
    fn drop(&mut self) {
        self.0.ended.cancel();
        self.0.lock().end();
        self.0.told.notify_one();
    }
}

pub(crate) async fn run(desk: Arc<Desk>) {
    let end = End(desk);
    let ended = end.0.ended.clone();
    tokio::select! {
        () = ended.cancelled() => {}
        () = carry(&end.0) => {}
    }
}

/// Socket after socket, until the server says not to come back.
async fn carry(desk: &Desk) {
    let mut attempts = 0_u32;
    // Which of the addresses.
    let mut turn = 0_usize;
    // Addresses tried since a socket was signed in.
    let mut failures = 0;
    // Whom to trust, and what earlier servers said to resume by.
    let mut connector = None;
    loop {
        // Each socket tells something: who takes nothing gets no new one.
        room(desk).await;
        let urls = &desk.options.urls;
        let url = urls.get(turn % urls.len().max(1)).map_or("", String::as_str);
        let token = desk.options.token.next();
        let used = token.as_ref().ok().cloned();
        let signing = timeout(desk.options.sign_in_within, Box::pin(sign_in(desk, url, token, &mut connector)));
        let signed_in = signing.await.unwrap_or_else(|_late| Err(Refusal::Failed(Error::SignInTimeout)));
        let (loss, error) = match signed_in {
            Ok((socket, hello, welcome)) => (Box::pin(live(desk, socket, &hello, &welcome)).await, None),
            Err(Refusal::Closed(code)) => {
                (Loss { code: Some(code), return_at: None, was_well: false }, Some(Error::Closed(code)))
            }
            Err(Refusal::Failed(error)) => (Loss { code: None, return_at: None, was_well: false }, Some(error)),
        };
        // The source may give another token than the one that has expired.
        let is_stale = |code| code == TOKEN_EXPIRED && desk.options.token.next().ok() != used;
        if let Some(code) = loss.code.filter(|code| !may_return(*code) && !is_stale(*code)) {
            desk.lock().tell(Event::Fatal { code });
            return;
        }
        if error.is_some() || !loss.was_well || loss.is_of_leaving() {
            turn = turn.wrapping_add(1);
        }
        failures = if error.is_some() { failures + 1 } else { 0 };
        if error.is_some() {
            connector = None;
        }
        if let Some(error) = error {
            tracing::debug!(%error, "no socket");
            // Once an outage, and only after every address was tried.
            if failures == desk.options.urls.len().max(1) {
                desk.lock().tell(Event::Unreachable { error: error.to_string() });
                desk.told.notify_one();
            }
        }
        attempts = if loss.was_well { 0 } else { attempts.saturating_add(1) };
        let most = desk.options.back_off.saturating_mul(1 << attempts.min(16)).min(desk.options.longest_back_off);
        // Full jitter: many clients that lost one gateway come back evenly.
        let jittered = Instant::now() + most.mul_f64(rand::random());
        sleep_until(loss.return_at.unwrap_or(jittered)).await;
    }
}

/// Whether a client comes back after this close code.
pub(crate) const fn may_return(code: u16) -> bool {
    matches!(code, 1000 | 1001 | 1005..=1006 | 1009 | 1011..=1014 | 4000..=4499)
}

enum Refusal {
    Closed(u16),
    Failed(Error),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// Waits while as many events wait as may, and the caller takes none.
async fn room(desk: &Desk) {
    while desk.lock().events.len() >= desk.options.events.max(1) {
        desk.room.notified().await;
    }
}

async fn sign_in(
    desk: &Desk,
    url: &str,
    token: Result<String, Error>,
    connector: &mut Option<Connector>,
) -> Result<(Socket, v1::Hello, v1::Welcome), Refusal> {
    let token = token?;
    let address = |error: &dyn std::fmt::Display| Refusal::Failed(Error::Address(error.to_string()));
    let connector = match connector {
        Some(connector) => connector,
        None if url.starts_with("wss:") => connector.insert(desk.options.trust.connector().await?),
        None => &mut Connector::Plain,
    };
    let builder = ClientBuilder::new()
        .uri(url)
        .map_err(|error| address(&error))?
        .limits(Limits::default().max_payload_len(Some(FRAME_BYTES)))
        .config(Config::default().flush_threshold(WRITE_BYTES).frame_size(FRAME_BYTES))
        .add_header(
            "sec-websocket-protocol".parse().map_err(|error| address(&error))?,
            SUB_PROTOCOL.parse().map_err(|error| address(&error))?,
        )
        .map_err(Error::Socket)?
        .connector(connector);
    let (mut socket, _response) = builder.connect().await.map_err(Error::Socket)?;
    let stream = match socket.get_ref() {
        MaybeTlsStream::Plain(stream) => stream,
        MaybeTlsStream::Rustls(stream) => stream.get_ref().0,
    };
    // A small frame must not wait for the acknowledgement of the one before.
    let _ = stream.set_nodelay(true);
    let server_frame::Frame::Hello(hello) = expect(&mut socket).await? else {
        return Err(Refusal::Failed(Error::Disconnected));
    };
    let resume = desk.lock().endpoint.resume();
    let frame = authenticate(desk, 1, token, resume);
    socket.send(Message::binary(frame.encode_to_vec())).await.map_err(Error::Socket)?;
    loop {
        let frame = expect(&mut socket).await?;
        if let server_frame::Frame::Welcome(welcome) = frame {
            return Ok((socket, hello, welcome));
        } else if let server_frame::Frame::Error(error) = frame {
            // The close frame that follows says whether to come back.
            tracing::debug!(code = error.code, "sign-in refused");
        } else {
            return Err(Refusal::Failed(Error::Disconnected));
        }
    }
}

fn authenticate(desk: &Desk, id: u64, token: String, resume: Option<v1::Resume>) -> v1::ClientFrame {
    let authenticate = v1::Authenticate { token, device: desk.options.device.clone(), resume, ..Default::default() };
    v1::ClientFrame { id, frame: Some(client_frame::Frame::Authenticate(authenticate)) }
}

/// The next frame before the socket is signed in.
async fn expect(socket: &mut Socket) -> Result<server_frame::Frame, Refusal> {
    loop {
        let message = socket.next().await.ok_or(Error::Disconnected)?.map_err(Error::Socket)?;
        if let Some((code, _reason)) = message.as_close() {
            return Err(Refusal::Closed(code.into()));
        }
        if message.is_binary() {
            let frame = v1::ServerFrame::decode(bytes::Bytes::from(message.into_payload())).map_err(Error::Frame)?;
            return frame.frame.ok_or(Refusal::Failed(Error::Disconnected));
        }
    }
}

/// Carries frames until the socket ends.
async fn live(desk: &Desk, mut socket: Socket, hello: &v1::Hello, welcome: &v1::Welcome) -> Loss {
    // The server pings in each heartbeat; half as long again without a byte means that it is gone.
    let silence = Duration::from_millis(u64::from(hello.heartbeat_ms.max(1_000)) * 3 / 2);
    let mut loss = Loss { code: None, return_at: None, was_well: welcome.resumed.is_some() };
    let mut last_heard = Instant::now();
    {
        let now = desk.now();
        let mut shared = desk.lock();
        let body_bytes = hello.limits.map_or(0, |limits| limits.body_bytes);
        if body_bytes > 0 {
            shared.body_bytes = usize::try_from(body_bytes).unwrap_or(usize::MAX);
        }
        shared.frames.clear();
        shared.signed_in = true;
        shared.cut = false;
        let mut actions = Vec::new();
        shared.endpoint.opened(now, welcome, &mut actions);
        desk.act(&mut shared, actions);
    }
    let mut renewal = Renewal::new(hello, welcome);
    let mut turn = Vec::with_capacity(4);
    loop {
        room(desk).await;
        if renewal.at().is_some_and(|at| at <= Instant::now()) {
            match desk.options.token.next() {
                Ok(token) => {
                    renewal.asked();
                    desk.lock().frames.push_back(authenticate(desk, renewal::REQUEST, token, None));
                }
                Err(error) => {
                    renewal.failed();
                    tracing::debug!(%error, "no token to renew with");
                }
            }
        }
        let (now_us, due) = {
            let mut shared = desk.lock();
            if shared.cut {
                break;
            }
            let now = desk.now();
            if shared.endpoint.deadline().is_some_and(|at| at <= now) {
                let mut actions = Vec::new();
                shared.endpoint.tick(now, &mut actions);
                desk.act(&mut shared, actions);
            }
            (now, shared.endpoint.deadline())
        };
        let mut until = last_heard + silence;
        if let Some(due) = due {
            until = until.min(Instant::now() + Duration::from_micros(due.saturating_sub(now_us)));
        }
        for at in [loss.return_at, renewal.at()].into_iter().flatten() {
            until = until.min(at);
        }
        let went = tokio::select! {
            biased;
            went = poll_fn(|cx| carry_frames(desk, &mut socket, &mut turn, cx)) => went,
            () = desk.wake.notified() => Ok(()),
            () = sleep_until(until) => Ok(()),
        };
        if !turn.is_empty() {
            last_heard = Instant::now();
        }
        for message in turn.drain(..) {
            if let Some((code, _reason)) = message.as_close() {
                loss.code = Some(code.into());
            } else if message.is_binary()
                && let Ok(frame) = v1::ServerFrame::decode(bytes::Bytes::from(message.into_payload()))
            {
                loss.note(&frame);
                if let Some(server_frame::Frame::Renewed(v1::Renewed { expires_us })) = frame.frame {
                    renewal.renewed(expires_us);
                }
                let now = desk.now();
                let mut shared = desk.lock();
                let mut actions = Vec::new();
                shared.endpoint.frame(now, frame, &mut actions);
                desk.act(&mut shared, actions);
            }
        }
        if went.is_err() || loss.code.is_some() || last_heard.elapsed() >= silence {
            break;
        }
        if loss.return_at.is_some_and(|at| at <= Instant::now()) {
            break;
        }
    }
    // A polite end where there is still somebody: the answer is not waited for.
    let _ = timeout(LEAVE_WITHIN, socket.flush()).await;
    let now = desk.now();
    let mut shared = desk.lock();
    shared.signed_in = false;
    shared.readers.clear();
    shared.frames.clear();
    let mut actions = Vec::new();
    shared.endpoint.closed(now, loss.code, &mut actions);
    desk.act(&mut shared, actions);
    loss
}

impl Loss {
    /// Whether the gateway is going down: it lets nobody in any more, so the next address is to be tried first.
    const fn is_of_leaving(&self) -> bool {
        self.return_at.is_some() || matches!(self.code, Some(DRAINING))
    }

    fn note(&mut self, frame: &v1::ServerFrame) {
        if let Some(server_frame::Frame::Closing(closing)) = &frame.frame {
            self.return_at = Some(Instant::now() + Duration::from_millis(closing.reconnect_after_ms.into()));
        } else if matches!(frame.frame, Some(server_frame::Frame::Ready(_))) {
            self.was_well = true;
        }
    }
}

/// Writes what waits, then reads what came; ready once something came or the socket failed.
fn carry_frames(
    desk: &Desk,
    socket: &mut Socket,
    turn: &mut Vec<Message>,
    cx: &mut Context<'_>,
) -> Poll<Result<(), Error>> {
    let mut socket = Pin::new(socket);
    loop {
        match socket.as_mut().poll_ready(cx) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(error)) => return Poll::Ready(Err(Error::Socket(error))),
            Poll::Pending => break,
        }
        let Some(frame) = desk.lock().frames.pop_front() else { break };
        socket.as_mut().start_send(Message::binary(frame.encode_to_vec()))?;
    }
    if let Poll::Ready(Err(error)) = socket.as_mut().poll_flush(cx) {
        return Poll::Ready(Err(Error::Socket(error)));
    }
    while turn.len() < FRAMES_A_TURN {
        match socket.as_mut().poll_next(cx) {
            Poll::Ready(Some(Ok(message))) => turn.push(message),
            Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(Error::Socket(error))),
            Poll::Ready(None) => return Poll::Ready(Err(Error::Disconnected)),
            Poll::Pending => break,
        }
    }
    if turn.is_empty() { Poll::Pending } else { Poll::Ready(Ok(())) }
}

#[cfg(test)]
mod tests {
    use super::may_return;

    #[test]
    fn a_client_comes_back_after_codes_below_4500_and_not_above() {
        for code in [1000, 1001, 1006, 1009, 1011, 4000, 4002, 4401, 4499] {
            assert!(may_return(code), "{code}");
        }
        for code in [1002, 1003, 1007, 1008, 4500, 4501, 4999] {
            assert!(!may_return(code), "{code}");
        }
    }
}
