//! Runs one case over a connection of its own and judges what comes back; it never panics and never hangs.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::table::{CLOSE, Case, PING, Step};
use crate::socket::peer::upgrade_request;

/// For a whole case, however large; no case waits for it to pass or to fail in a known way.
const DEADLINE: Duration = Duration::from_secs(20);

/// Longest payload of a control frame.
const CONTROL_BYTES: usize = 125;

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Passed,
    /// The server refused as it had to, but without a close frame: the RFC only asks that it should send one.
    Dropped,
    Failed(String),
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Passed => "passed",
            Self::Dropped => "dropped",
            Self::Failed(_) => "FAILED",
        })
    }
}

/// A case that has run.
#[derive(Debug)]
pub(super) struct Judged {
    pub(super) id: String,
    /// Whether the server had to refuse something.
    pub(super) refuses: bool,
    pub(super) verdict: Verdict,
}

pub(super) async fn judge(address: SocketAddr, case: &Case) -> Judged {
    let steps = case.steps();
    let refuses = matches!(steps.last(), Some(Step::Refused(_)));
    let verdict = match timeout(DEADLINE, perform(address, case, steps)).await {
        Ok(Ok(verdict)) => verdict,
        Ok(Err(reason)) => Verdict::Failed(reason),
        Err(_elapsed) => Verdict::Failed("nothing came in time".to_owned()),
    };
    Judged { id: case.id.clone(), refuses, verdict }
}

async fn perform(address: SocketAddr, case: &Case, steps: Vec<Step>) -> Result<Verdict, String> {
    let mut client = Client::open(address, case).await?;
    for (at, step) in steps.into_iter().enumerate() {
        match step {
            Step::Send(bytes, size) => client.send(&bytes, size).await,
            Step::Frame(first, payload) => {
                let came = client.frame().await?.ok_or_else(|| format!("step {at}: the end instead of a frame"))?;
                if came != (first, payload) {
                    return Err(format!("step {at}: an unexpected frame {}", name(&came)));
                }
            }
            Step::Answer(code) => {
                let came = client.frame().await?.ok_or_else(|| format!("step {at}: our close was not answered"))?;
                client.ends_with(&came, code).await.map_err(|reason| format!("step {at}: {reason}"))?;
            }
            Step::Refused(code) => match client.frame().await? {
                None => return Ok(Verdict::Dropped),
                Some(came) => {
                    client.ends_with(&came, Some(code)).await.map_err(|reason| format!("step {at}: {reason}"))?;
                }
            },
        }
    }
    Ok(Verdict::Passed)
}

struct Client {
    stream: TcpStream,
    read: BytesMut,
}

impl Client {
    async fn open(address: SocketAddr, case: &Case) -> Result<Self, String> {
        let stream = TcpStream::connect(address).await.map_err(|error| format!("no connection: {error}"))?;
        // A piece is a piece: nothing is held back to be sent with the next one.
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        let mut client = Self { stream, read: BytesMut::new() };
        let request = upgrade_request(&format!("Sec-WebSocket-Protocol: {}", case.sub_protocol.name()));
        client.send(request.as_bytes(), usize::MAX).await;
        loop {
            if let Some(end) = client.read.windows(4).position(|window| window == b"\r\n\r\n") {
                let head = client.read.split_to(end + 4);
                let opened = head.starts_with(b"HTTP/1.1 101 ");
                return if opened { Ok(client) } else { Err(String::from_utf8_lossy(&head).into_owned()) };
            }
            if !client.more().await {
                return Err("the end instead of an answer to the upgrade".to_owned());
            }
        }
    }

    /// A server that has refused us may be gone: what it said is judged, not that it listens no more.
    async fn send(&mut self, bytes: &[u8], size: usize) {
        for piece in bytes.chunks(size.max(1)) {
            if self.stream.write_all(piece).await.is_err() {
                return;
            }
            if size < bytes.len() {
                // The server gets a chance to read the piece by itself.
                tokio::task::yield_now().await;
            }
        }
    }

    async fn more(&mut self) -> bool {
        self.read.reserve(64 * 1024);
        self.stream.read_buf(&mut self.read).await.is_ok_and(|read| read > 0)
    }

    /// The next frame but the server's own pings; none at the end.
    async fn frame(&mut self) -> Result<Option<(u8, Bytes)>, String> {
        loop {
            match self.take_frame()? {
                // The heartbeat, which carries nothing.
                Some((PING, payload)) if payload.is_empty() => {}
                Some(frame) => return Ok(Some(frame)),
                None if self.more().await => {}
                None if self.read.is_empty() => return Ok(None),
                None => return Err("the end inside a frame".to_owned()),
            }
        }
    }

    fn take_frame(&mut self) -> Result<Option<(u8, Bytes)>, String> {
        let [first, second, ..] = self.read[..] else { return Ok(None) };
        if second & 0x80 != 0 {
            return Err("a masked frame".to_owned());
        }
        let (head, length) = match second {
            126 => {
                (4, self.read.get(2..4).map(|bytes| bytes.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte))))
            }
            127 => {
                (10, self.read.get(2..10).map(|bytes| bytes.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte))))
            }
            length => (2, Some(usize::from(length))),
        };
        let Some(length) = length else { return Ok(None) };
        if self.read.len() - head.min(self.read.len()) < length {
            return Ok(None);
        }
        self.read.advance(head);
        Ok(Some((first, self.read.split_to(length).freeze())))
    }

    /// Whether this is a close frame with that code, and the last that comes.
    async fn ends_with(&mut self, came: &(u8, Bytes), code: Option<u16>) -> Result<(), String> {
        let (first, payload) = came;
        let says_it = match payload[..] {
            [] => code.is_none(),
            [_] => false,
            [high, low, ..] => code == Some(u16::from_be_bytes([high, low])),
        };
        if *first != CLOSE || !says_it || payload.len() > CONTROL_BYTES {
            return Err(format!("{} instead of the close frame {code:?}", name(came)));
        }
        match self.frame().await? {
            None => Ok(()),
            Some(after) => Err(format!("{} behind the close frame", name(&after))),
        }
    }
}

fn name((first, payload): &(u8, Bytes)) -> String {
    format!("{first:#04x} of {} bytes: {:?}", payload.len(), payload.slice(..payload.len().min(32)))
}
