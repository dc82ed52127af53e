//! Gets one small document from where the file says: over TLS, in bounded time and room, and from nowhere else.
//!
//! A connection an answer: it is asked for once an hour.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, HOST, USER_AGENT};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::{InvalidDnsNameError, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use url::{Host, Position, Url};

/// Of an answer, and of its head.
const BYTES_MAX: usize = 64 * 1024;

/// Why there is no document.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    #[error("no answer in time")]
    Late,
    #[error("no connection")]
    Connection(#[from] io::Error),
    #[error("http goes to this machine alone, and the name is another's")]
    NotHere,
    #[error("the server has no name")]
    Name(#[from] InvalidDnsNameError),
    #[error("no answer")]
    Http(#[from] hyper::Error),
    #[error("the request cannot be written")]
    Request(#[from] hyper::http::Error),
    #[error("the answer is {0}")]
    Status(StatusCode),
    #[error("the answer has more than 64 KiB, or breaks off")]
    Body(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Gets documents.
#[derive(Clone)]
pub(crate) struct Fetch {
    tls: TlsConnector,
    within: Duration,
}

impl Fetch {
    pub(crate) fn new(tls: Arc<ClientConfig>, within: Duration) -> Self {
        Self { tls: tls.into(), within }
    }

    /// The document; where an answer points is not gone.
    pub(crate) async fn get(&self, url: &Url) -> Result<Bytes, FetchError> {
        timeout(self.within, self.whole(url)).await.map_err(|_late| FetchError::Late)?
    }

    async fn whole(&self, url: &Url) -> Result<Bytes, FetchError> {
        let address = &url[Position::BeforeHost..Position::BeforePath];
        let port = url.port_or_known_default().unwrap_or_default();
        let (stream, name) = match url.host() {
            Some(Host::Domain(name)) => {
                (TcpStream::connect((name, port)).await?, ServerName::try_from(name.to_owned())?)
            }
            Some(Host::Ipv4(ip)) => (TcpStream::connect((ip, port)).await?, ServerName::IpAddress(ip.into())),
            Some(Host::Ipv6(ip)) => (TcpStream::connect((ip, port)).await?, ServerName::IpAddress(ip.into())),
            None => return Err(FetchError::Connection(io::ErrorKind::InvalidInput.into())),
        };
        let request = Request::get(&url[Position::BeforePath..Position::AfterQuery])
            .header(HOST, address)
            .header(ACCEPT, "application/jwk-set+json, application/json")
            .header(USER_AGENT, concat!("heliograph/", env!("CARGO_PKG_VERSION")))
            .body(Empty::<Bytes>::new())?;
        if url.scheme() == "https" {
            return ask(self.tls.connect(name, stream).await?, request).await;
        }
        if !stream.peer_addr()?.ip().is_loopback() {
            return Err(FetchError::NotHere);
        }
        ask(stream, request).await
    }
}

async fn ask(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Empty<Bytes>>,
) -> Result<Bytes, FetchError> {
    let (mut sends, connection) = http1::Builder::new().max_buf_size(BYTES_MAX).handshake(TokioIo::new(stream)).await?;
    // Ends with this future, whatever the server does.
    let mut carries = JoinSet::new();
    carries.spawn(connection);
    let answer = sends.send_request(request).await?;
    if answer.status() != StatusCode::OK {
        return Err(FetchError::Status(answer.status()));
    }
    let body = Limited::new(answer.into_body(), BYTES_MAX).collect().await.map_err(FetchError::Body)?;
    Ok(body.to_bytes())
}
