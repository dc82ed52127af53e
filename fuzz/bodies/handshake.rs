//! Any bytes to a real acceptor in place of an upgrade request: no panic, no hang, and nothing of them comes back.
//!
//! What stands behind a request that is accepted reaches the reader as the first frames.

use std::net::SocketAddr;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use gateway::socket::{Acceptor, Config, Connection};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpSocket;
use tokio::runtime::Runtime;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// After it a server that says nothing hangs.
const DEADLINE: Duration = Duration::from_secs(10);
/// For a request whose end we see and HTTP does not.
const HANDSHAKE_MS: u64 = 100;
/// hyper reads no longer head.
const REQUEST_BYTES_MAX: usize = 16 * 1024;

/// The headers that an answer may have.
const HEADERS: &[&str] = &[
    "allow",
    "connection",
    "content-length",
    "content-type",
    "date",
    "heliograph-error",
    "sec-websocket-accept",
    "sec-websocket-protocol",
    "sec-websocket-version",
    "upgrade",
];
const STATUSES: &[&str] = &["101", "400", "403", "404", "405", "414", "426", "431", "505"];

/// One acceptor for all inputs: to bind one for each would cost more than the test itself.
static SERVER: OnceLock<Mutex<Server>> = OnceLock::new();

struct Server {
    runtime: Runtime,
    address: SocketAddr,
}

impl Server {
    fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let config = Config {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            allowed_origins: vec!["https://app.example".to_owned()],
            handshake_timeout_ms: HANDSHAKE_MS,
            ..Config::default()
        };
        let acceptor = {
            let _in_runtime = runtime.enter();
            Acceptor::bind(config).unwrap()
        };
        let address = acceptor.local_addr();
        runtime.spawn(acceptor.run(serve, CancellationToken::new()));
        Self { runtime, address }
    }
}

async fn serve(connection: Connection) {
    let Connection { mut reader, .. } = connection;
    while reader.next_message().await.is_ok() {}
}

pub(crate) fn run(data: &[u8]) {
    if data.len() > REQUEST_BYTES_MAX {
        return;
    }
    let server = SERVER.get_or_init(|| Mutex::new(Server::start()));
    let server = server.lock().unwrap_or_else(PoisonError::into_inner);
    let answer = server.runtime.block_on(async { timeout(DEADLINE, exchange(server.address, data)).await });
    let answer = answer.expect("the connection ends in time");
    check(data, &answer);
}

/// All that comes back for these bytes.
async fn exchange(address: SocketAddr, data: &[u8]) -> Vec<u8> {
    let socket = TcpSocket::new_v4().unwrap();
    // Ended by a reset: thousands of connections a second would else use up the ports.
    socket.set_zero_linger().unwrap();
    let mut stream = socket.connect(address).await.unwrap();
    let mut answer = Vec::new();
    // What the server thinks of the bytes shows in what it says, not in what it takes.
    let _ = stream.write_all(data).await;
    if is_whole(data) {
        // Only then: to HTTP a client that ends early is gone and gets no answer.
        while !is_whole(&answer) && stream.read_buf(&mut answer).await.is_ok_and(|read| read > 0) {}
    }
    let _ = stream.shutdown().await;
    while stream.read_buf(&mut answer).await.is_ok_and(|read| read > 0) {}
    answer
}

fn is_whole(head: &[u8]) -> bool {
    head.windows(4).any(|end| end == b"\r\n\r\n")
}

fn check(data: &[u8], answer: &[u8]) {
    let text = String::from_utf8_lossy(answer);
    let Some((head, _)) = text.split_once("\r\n\r\n") else {
        assert!(answer.is_empty(), "no whole head: {text}");
        assert!(!is_request(data), "a whole request without an answer");
        return;
    };
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.")?.get(2..5)).unwrap_or_default();
    assert!(STATUSES.contains(&status), "{head}");
    for line in lines {
        let (name, value) = line.split_once(": ").unwrap_or((line, ""));
        assert!(HEADERS.contains(&name), "{head}");
        match name {
            "sec-websocket-protocol" => assert!(value == "heliograph.v1.proto" || value == "heliograph.v1.json"),
            "sec-websocket-version" => assert_eq!(value, "13"),
            "sec-websocket-accept" => assert_eq!(value.len(), 28),
            _ => {}
        }
    }
    if status == "101" {
        let asked = String::from_utf8_lossy(data).to_lowercase();
        for needed in ["get /v1/socket", " http/1.1", "upgrade", "websocket", "13", "heliograph.v1."] {
            assert!(asked.contains(needed), "switched without {needed}");
        }
    }
}

/// Whether these bytes begin with a request that is beyond doubt: only then silence is a fault.
fn is_request(data: &[u8]) -> bool {
    data.starts_with(b"GET /v1/socket HTTP/1.1\r\n") && is_whole(data) && data.is_ascii()
}
