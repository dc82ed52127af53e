//! A gateway whose sockets the test holds, and a client that speaks in raw bytes.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use gateway::socket::{
    Acceptor, Bearer, CertificateReload, Closed, Config, Connection, Handler, Message, Outbound, SubProtocol,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// Longer than anything here takes; only a failing test waits for it.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);

pub(crate) async fn within<T>(what: impl Future<Output = T>) -> T {
    timeout(DEADLINE, what).await.expect("in time")
}

/// Settings for tests: any port, no drain time, so that what is not tested does not wait.
pub(crate) fn config() -> Config {
    Config { listen: "127.0.0.1:0".parse().unwrap(), drain_ms: 0, ..Config::default() }
}

/// One socket of the gateway, in the test's hands.
pub(crate) struct Opened {
    pub(crate) outbound: Outbound,
    pub(crate) bearer: Option<Bearer>,
    messages: mpsc::UnboundedReceiver<Result<Message, Closed>>,
}

impl Opened {
    pub(crate) async fn message(&mut self) -> Message {
        within(self.messages.recv()).await.expect("handler runs").expect("a message")
    }

    /// The next message, or how the socket ended.
    pub(crate) async fn next(&mut self) -> Result<Message, Closed> {
        within(self.messages.recv()).await.expect("handler runs")
    }

    pub(crate) async fn closed(&mut self) -> Closed {
        loop {
            if let Err(closed) = within(self.messages.recv()).await.expect("handler says how it ended") {
                return closed;
            }
        }
    }
}

/// What a handler does with its sockets.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Behaviour {
    /// Waits for the first message, then counts the socket as authenticated; passes all messages on.
    Authenticate,
    /// Authenticated from the start.
    Trust,
    /// Authenticated from the start; sends every message back.
    Echo,
    /// Ends at once.
    Leave,
    /// Panics at once.
    Panic,
}

struct Sockets {
    behaviour: Behaviour,
    opened: mpsc::UnboundedSender<Opened>,
    draining: Arc<Mutex<Vec<(u64, Duration)>>>,
}

impl Handler for Sockets {
    fn serve(&self, connection: Connection) -> impl Future<Output = ()> + Send + 'static {
        let (behaviour, opened) = (self.behaviour, self.opened.clone());
        async move {
            let Connection { mut reader, outbound, bearer, .. } = connection;
            let (passed, messages) = mpsc::unbounded_channel();
            let _ = opened.send(Opened { outbound: outbound.clone(), bearer, messages });
            match behaviour {
                Behaviour::Authenticate => {}
                Behaviour::Trust | Behaviour::Echo => reader.authenticated(),
                Behaviour::Leave => return,
                Behaviour::Panic => panic!("planned"),
            }
            loop {
                let next = reader.next_message().await;
                let ended = next.is_err();
                if let Ok(message) = &next {
                    match behaviour {
                        Behaviour::Authenticate => reader.authenticated(),
                        Behaviour::Echo => {
                            let _ = outbound.push(message.payload.clone(), gateway::socket::Class::Ordinary);
                        }
                        Behaviour::Trust | Behaviour::Leave | Behaviour::Panic => {}
                    }
                }
                let _ = passed.send(next);
                if ended {
                    return;
                }
            }
        }
    }

    fn draining(&self, socket: &Outbound, closes_in: Duration) {
        self.draining.lock().unwrap().push((socket.id(), closes_in));
    }
}

/// A running gateway.
pub(crate) struct Gateway {
    pub(crate) address: SocketAddr,
    pub(crate) shutdown: CancellationToken,
    pub(crate) running: JoinHandle<()>,
    pub(crate) draining: Arc<Mutex<Vec<(u64, Duration)>>>,
    pub(crate) reload: Option<CertificateReload>,
    opened: mpsc::UnboundedReceiver<Opened>,
}

impl Gateway {
    pub(crate) fn start(config: Config, behaviour: Behaviour) -> Self {
        let acceptor = Acceptor::bind(config).unwrap();
        let (address, reload) = (acceptor.local_addr(), acceptor.certificate_reload());
        let (sender, opened) = mpsc::unbounded_channel();
        let draining = Arc::default();
        let shutdown = CancellationToken::new();
        let sockets = Sockets { behaviour, opened: sender, draining: Arc::clone(&draining) };
        let running = tokio::spawn(acceptor.run(sockets, shutdown.clone()));
        Self { address, shutdown, running, draining, reload, opened }
    }

    /// The gateway's side of the next socket.
    pub(crate) async fn opened(&mut self) -> Opened {
        within(self.opened.recv()).await.expect("gateway runs")
    }

    /// Both sides of a new socket.
    pub(crate) async fn open(&mut self) -> (RawClient, Opened) {
        let client = RawClient::open(self.address).await;
        (client, self.opened().await)
    }
}

/// The bytes of a good upgrade request with one header line replaced or added.
pub(crate) fn upgrade_request(change: &str) -> String {
    let mut lines = vec![
        "GET /v1/socket HTTP/1.1",
        "Host: gateway",
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Protocol: heliograph.v1.proto",
    ];
    if let Some((name, _)) = change.split_once(':') {
        lines.retain(|line| !line.to_lowercase().starts_with(&format!("{}:", name.to_lowercase())));
        lines.push(change);
    } else if !change.is_empty() {
        lines[0] = change;
    }
    format!("{}\r\n\r\n", lines.join("\r\n"))
}

/// One frame from the server.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ServerFrame {
    pub(crate) opcode: u8,
    pub(crate) payload: Bytes,
}

/// A client that sends what it is told to and reads server frames.
pub(crate) struct RawClient<S = TcpStream> {
    pub(crate) stream: S,
    read: Vec<u8>,
}

impl RawClient {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self { stream: TcpStream::connect(address).await.unwrap(), read: Vec::new() }
    }

    /// Connects with the smallest receive buffer, so that an unread stream soon stalls its writer.
    pub(crate) async fn connect_narrow(address: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(1).unwrap();
        Self { stream: socket.connect(address).await.unwrap(), read: Vec::new() }
    }

    /// Connects from this address, one of those that the loopback network has.
    pub(crate) async fn connect_from(source: Ipv4Addr, address: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((source, 0).into()).unwrap();
        Self { stream: within(socket.connect(address)).await.unwrap(), read: Vec::new() }
    }

    pub(crate) async fn open(address: SocketAddr) -> Self {
        let mut client = Self::connect(address).await;
        client.upgrade().await;
        client
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> RawClient<S> {
    pub(crate) const fn from_stream(stream: S) -> Self {
        Self { stream, read: Vec::new() }
    }

    /// Asks for a socket with one header replaced or added; the head of the answer, empty if there was none.
    pub(crate) async fn asks(&mut self, change: &str) -> String {
        // One that is refused before it asked may be gone already.
        let _ = self.stream.write_all(upgrade_request(change).as_bytes()).await;
        let _ = self.stream.flush().await;
        loop {
            if let Some(end) = self.read.windows(4).position(|window| window == b"\r\n\r\n") {
                let rest = self.read.split_off(end + 4);
                return String::from_utf8(std::mem::replace(&mut self.read, rest)).unwrap().to_lowercase();
            }
            if !self.more().await {
                return String::new();
            }
        }
    }

    pub(crate) async fn upgrade(&mut self) {
        self.upgrade_to(SubProtocol::Proto).await;
    }

    pub(crate) async fn upgrade_to(&mut self, sub_protocol: SubProtocol) {
        let protocol = format!("Sec-WebSocket-Protocol: {}", sub_protocol.name());
        self.send(upgrade_request(&protocol).as_bytes()).await;
        let head = self.response_head().await;
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        let head = head.to_lowercase();
        assert!(head.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=\r\n"), "{head}");
        assert!(head.contains(&format!("{}\r\n", protocol.to_lowercase())), "{head}");
        assert!(!head.contains("sec-websocket-extensions"), "{head}");
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        within(self.stream.write_all(bytes)).await.unwrap();
        within(self.stream.flush()).await.unwrap();
    }

    async fn more(&mut self) -> bool {
        within(self.stream.read_buf(&mut self.read)).await.is_ok_and(|read| read > 0)
    }

    pub(crate) async fn response_head(&mut self) -> String {
        loop {
            if let Some(end) = self.read.windows(4).position(|window| window == b"\r\n\r\n") {
                let rest = self.read.split_off(end + 4);
                return String::from_utf8(std::mem::replace(&mut self.read, rest)).unwrap();
            }
            assert!(self.more().await, "end before the response's head");
        }
    }

    /// The next frame; none at the end of the stream. Server frames must be whole, unmasked and short-headed.
    pub(crate) async fn frame(&mut self) -> Option<ServerFrame> {
        loop {
            if let Some(frame) = self.take_frame() {
                return Some(frame);
            }
            if !self.more().await {
                assert!(self.read.is_empty(), "end inside a frame");
                return None;
            }
        }
    }

    fn take_frame(&mut self) -> Option<ServerFrame> {
        let [first, second, ..] = self.read[..] else {
            return None;
        };
        assert_eq!((first & 0xf0, second & 0x80), (0x80, 0));
        let (head, len) = match second {
            126 => (4, u16::from_be_bytes(self.read.get(2..4)?.try_into().unwrap()) as usize),
            127 => (10, u64::from_be_bytes(self.read.get(2..10)?.try_into().unwrap()) as usize),
            len => (2, len as usize),
        };
        let payload = Bytes::copy_from_slice(self.read.get(head..head + len)?);
        self.read.drain(..head + len);
        Some(ServerFrame { opcode: first & 0x0f, payload })
    }

    /// The code of the close frame, the next frame but pings and data; then the stream must end.
    pub(crate) async fn close_code(&mut self) -> u16 {
        let code = loop {
            let frame = self.frame().await.expect("a close frame before the end");
            if frame.opcode == 8 {
                break u16::from_be_bytes(frame.payload[..2].try_into().unwrap());
            }
        };
        let _ = self.stream.write_all(&close(code)).await;
        assert_eq!(self.frame().await, None, "nothing follows a close frame");
        code
    }

    /// Waits until the server has closed the connection.
    pub(crate) async fn end(&mut self) {
        while self.more().await {}
    }
}

pub(crate) const MASK: [u8; 4] = [0x11, 0x22, 0x33, 0x44];

/// A masked client frame.
pub(crate) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        len @ 0..126 => bytes.push(0x80 | len as u8),
        len @ 126..65_536 => {
            bytes.push(0x80 | 126);
            bytes.extend((len as u16).to_be_bytes());
        }
        len => {
            bytes.push(0x80 | 127);
            bytes.extend((len as u64).to_be_bytes());
        }
    }
    bytes.extend(MASK);
    let masked = bytes.len();
    bytes.extend_from_slice(payload);
    // By words: byte by byte, an unoptimised test would spend most of its time here with messages of megabytes.
    let word = u32::from_ne_bytes(MASK);
    let mut words = bytes[masked..].chunks_exact_mut(MASK.len());
    for bytes in &mut words {
        let unmasked = u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        bytes.copy_from_slice(&(unmasked ^ word).to_ne_bytes());
    }
    words.into_remainder().iter_mut().zip(MASK).for_each(|(byte, mask)| *byte ^= mask);
    bytes
}

pub(crate) fn close(code: u16) -> Vec<u8> {
    frame(0x88, &code.to_be_bytes())
}
