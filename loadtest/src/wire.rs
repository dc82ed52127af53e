//! The client's side of a WebSocket at the least cost: bytes in, frames out.
//!
//! Masked with a zero key, which the protocol allows and the server has to unmask all the same. What the load generator
//! saves here is left to the system under test, which shares its cores.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context as _, Result, bail};
use bytes::{Buf as _, Bytes, BytesMut};
use proto::v1::{self, client_frame};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

const CONTINUATION: u8 = 0x00;
const BINARY: u8 = 0x02;
const FIN_CONTINUATION: u8 = 0x80;
const FIN_BINARY: u8 = 0x82;
const FIN_CLOSE: u8 = 0x88;
const FIN_PING: u8 = 0x89;
const FIN_PONG: u8 = 0x8a;
const MASKED: u8 = 0x80;
const ZERO_KEY: [u8; 4] = [0; 4];

/// A frame from the server.
#[derive(Debug)]
pub(crate) enum Incoming {
    /// One message.
    Binary(Bytes),
    /// To be answered with the same payload.
    Ping(Bytes),
    /// The server leaves; its close code.
    Close(u16),
    /// Nothing to do.
    Pong,
}

/// Where a fragment stands in its message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Place {
    First,
    Between,
    Last,
}

/// How a client comes to the gateway, where that matters.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Way {
    /// The kernel keeps no more than so many bytes of what is not read.
    pub(crate) receive_bytes: Option<u32>,
    /// It comes through a proxy.
    pub(crate) proxied: Option<Proxied>,
}

/// Two addresses of a client that comes through a proxy.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Proxied {
    /// The proxy's own, an address of this machine.
    pub(crate) proxy: Ipv4Addr,
    /// The client's, which the proxy passes on.
    pub(crate) client: Ipv4Addr,
}

impl Proxied {
    /// What the proxy says of it, as a line of the request's head.
    pub(crate) fn header(self) -> String {
        format!("x-forwarded-for: {}\r\n", self.client)
    }
}

/// What became of a request for a socket.
#[derive(Debug)]
pub(crate) enum Answer {
    /// The socket, and what was read behind the answer.
    Upgraded(TcpStream, BytesMut),
    /// The head of another answer; its status.
    Refused(u16, String),
}

impl Way {
    /// Connects, and asks for nothing yet.
    pub(crate) async fn reach(self, address: SocketAddr) -> Result<TcpStream> {
        let socket = TcpSocket::new_v4()?;
        if let Some(bytes) = self.receive_bytes {
            socket.set_recv_buffer_size(bytes)?;
        }
        if let Some(Proxied { proxy, .. }) = self.proxied {
            socket.bind((proxy, 0).into())?;
        }
        let stream = socket.connect(address).await.context("cannot connect to the gateway")?;
        stream.set_nodelay(true)?;
        // What is dropped is cut: an orderly end would keep its port for a minute, and there are not enough of them.
        stream.set_zero_linger()?;
        Ok(stream)
    }

    /// The request for a socket.
    pub(crate) fn request(self, address: SocketAddr) -> String {
        let forwarded = self.proxied.map_or_else(String::new, Proxied::header);
        format!(
            "GET /v1/socket HTTP/1.1\r\nhost: {address}\r\n{forwarded}connection: upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\
             sec-websocket-protocol: heliograph.v1.proto\r\n\r\n"
        )
    }

    /// Connects and asks for a socket.
    pub(crate) async fn ask(self, address: SocketAddr) -> Result<Answer> {
        self.exchange(address, &self.request(address)).await
    }

    /// Connects, sends a request and reads the head of the answer.
    pub(crate) async fn exchange(self, address: SocketAddr, request: &str) -> Result<Answer> {
        let mut stream = self.reach(address).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut read = BytesMut::with_capacity(4 << 10);
        loop {
            if stream.read_buf(&mut read).await? == 0 {
                bail!("the gateway closed the connection in its upgrade");
            }
            if let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n") {
                let head = read.split_to(end + 4);
                return Ok(match status(&head).context("no answer of HTTP")? {
                    101 => Answer::Upgraded(stream, read),
                    status => Answer::Refused(status, String::from_utf8_lossy(&head).into_owned()),
                });
            }
        }
    }

    /// Connects and upgrades.
    pub(crate) async fn connect(self, address: SocketAddr) -> Result<(TcpStream, BytesMut)> {
        match self.ask(address).await? {
            Answer::Upgraded(stream, read) => Ok((stream, read)),
            Answer::Refused(_, head) => bail!("the gateway refused the upgrade: {head}"),
        }
    }
}

/// Connects and upgrades, from where it does not matter.
pub(crate) async fn connect(address: SocketAddr) -> Result<(TcpStream, BytesMut)> {
    Way::default().connect(address).await
}

fn status(head: &[u8]) -> Option<u16> {
    std::str::from_utf8(head.strip_prefix(b"HTTP/1.1 ")?.get(..3)?).ok()?.parse().ok()
}

/// The first whole frame that was read, if there is one.
pub(crate) fn next(read: &mut BytesMut) -> Result<Option<Incoming>> {
    let [first, second, rest @ ..] = &read[..] else { return Ok(None) };
    let (head, len) = match (second, rest) {
        (126, [high, low, ..]) => (4, usize::from(u16::from_be_bytes([*high, *low]))),
        (127, [a, b, c, d, e, f, g, h, ..]) => {
            (10, usize::try_from(u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]))?)
        }
        (126 | 127, _) => return Ok(None),
        (len, _) => (2, usize::from(*len)),
    };
    if read.len() < head + len {
        return Ok(None);
    }
    let kind = *first;
    read.advance(head);
    let payload = read.split_to(len).freeze();
    Ok(Some(match kind {
        FIN_BINARY => Incoming::Binary(payload),
        FIN_PING => Incoming::Ping(payload),
        FIN_PONG => Incoming::Pong,
        FIN_CLOSE => Incoming::Close(payload.get(..2).map_or(1005, |code| u16::from_be_bytes([code[0], code[1]]))),
        other => bail!("the gateway sent a frame that begins with {other:#x}"),
    }))
}

/// Appends a binary frame.
pub(crate) fn put_binary(payload: &impl prost::Message, out: &mut Vec<u8>) {
    put_head(FIN_BINARY, payload.encoded_len(), out);
    payload.encode_raw(out);
}

/// Appends the frame that signs in, as request 1.
pub(crate) fn put_authenticate(token: String, device: &str, resume: Option<v1::Resume>, out: &mut Vec<u8>) {
    let authenticate = v1::Authenticate { token, device: device.to_owned(), resume, ..Default::default() };
    let authenticate = client_frame::Frame::Authenticate(authenticate);
    put_binary(&v1::ClientFrame { id: 1, frame: Some(authenticate) }, out);
}

/// Appends a ping without a payload.
pub(crate) fn put_ping(out: &mut Vec<u8>) {
    put_head(FIN_PING, 0, out);
}

/// Appends a fragment without a payload, in its place in a message.
pub(crate) fn put_fragment(place: Place, out: &mut Vec<u8>) {
    let kind = match place {
        Place::First => BINARY,
        Place::Between => CONTINUATION,
        Place::Last => FIN_CONTINUATION,
    };
    put_head(kind, 0, out);
}

/// Appends the answer to a ping.
pub(crate) fn put_pong(payload: &[u8], out: &mut Vec<u8>) {
    put_head(FIN_PONG, payload.len(), out);
    out.extend_from_slice(payload);
}

fn put_head(kind: u8, len: usize, out: &mut Vec<u8>) {
    out.push(kind);
    match (u8::try_from(len), u16::try_from(len)) {
        (Ok(short), _) if short < 126 => out.push(MASKED | short),
        (_, Ok(medium)) => {
            out.push(MASKED | 126);
            out.extend_from_slice(&medium.to_be_bytes());
        }
        _ => {
            out.push(MASKED | 127);
            out.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&ZERO_KEY);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_taken_only_when_they_are_whole() {
        let mut whole = vec![FIN_BINARY, 126, 1, 0];
        whole.extend([7; 256]);
        whole.extend([FIN_CLOSE, 2, 0x0f, 0xa1]);
        for cut in 0..260 {
            assert!(next(&mut BytesMut::from(&whole[..cut])).unwrap().is_none(), "{cut}");
        }
        let mut read = BytesMut::from(&whole[..]);
        assert!(matches!(next(&mut read), Ok(Some(Incoming::Binary(payload))) if payload.len() == 256));
        assert!(matches!(next(&mut read), Ok(Some(Incoming::Close(4001)))));
        assert!(matches!(next(&mut read), Ok(None)));
    }

    #[test]
    fn heads_have_the_shortest_length_that_fits() {
        for (len, head) in [(0, 6), (125, 6), (126, 8), (65_535, 8), (65_536, 14)] {
            let mut out = Vec::new();
            put_head(FIN_BINARY, len, &mut out);
            assert_eq!(out.len(), head, "{len}");
        }
    }
}
