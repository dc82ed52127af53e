//! The TLS handshake of one connection: bounded in bytes here, in time and in number by who calls.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustls::Error;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::Tls;
use super::session::SEALED_BYTES;
use crate::socket::transport::Transport;
use crate::socket::upgrade::Refusal;

/// Most bytes of a client's part of a handshake. With a post-quantum key and a ticket it sends some 2 KiB.
const HANDSHAKE_BYTES: usize = 16 * 1024;
/// Most bytes that are read after a refusal, so that the kernel does not take it back with a reset.
const LINGER_BYTES: u64 = 16 * 1024;

/// A TCP connection that may be read so far only.
#[derive(Debug)]
pub(in crate::socket) struct Metered {
    stream: TcpStream,
    left: usize,
}

impl Metered {
    pub(in crate::socket) fn into_inner(self) -> TcpStream {
        self.stream
    }
}

impl Tls {
    /// Makes a TLS connection of a TCP connection; none if it came to nothing, which is counted and answered here.
    pub(in crate::socket) async fn handshake(&self, mut stream: TcpStream) -> Option<Transport> {
        if speaks_http(&stream).await {
            refused(Refusal::TlsRequired.code(), "plain HTTP");
            let _ = stream.write_all(Refusal::TlsRequired.bytes().as_bytes()).await;
            linger(stream).await;
            return None;
        }
        let acceptor = TlsAcceptor::from(self.config());
        let metered = Metered { stream, left: HANDSHAKE_BYTES };
        let bounded = |session: &mut rustls::ServerConnection| session.set_buffer_limit(Some(SEALED_BYTES));
        match Box::pin(acceptor.accept_with(metered, bounded).into_fallible()).await {
            Ok(mut stream) => {
                stream.get_mut().0.left = usize::MAX;
                Some(Transport::Tls(Box::new(stream)))
            }
            Err((error, Metered { left: 0, .. })) => {
                refused("tls_too_long", error);
                None
            }
            Err((error, Metered { stream, .. })) => {
                refused(code(&error), error);
                linger(stream).await;
                None
            }
        }
    }
}

fn refused(code: &'static str, error: impl std::fmt::Display) {
    metrics::counter!("gateway_handshakes_refused_total", "code" => code).increment(1);
    tracing::debug!(%error, code, "no TLS");
}

/// Whether the first byte begins an HTTP request instead of a TLS record.
async fn speaks_http(stream: &TcpStream) -> bool {
    let mut first = [0];
    matches!(stream.peek(&mut first).await, Ok(1)) && first[0].is_ascii_uppercase()
}

/// Lets the peer take what it was told: unread bytes would have the kernel reset the connection.
async fn linger(mut stream: TcpStream) {
    if stream.shutdown().await.is_ok() {
        let _ = tokio::io::copy(&mut stream.take(LINGER_BYTES), &mut tokio::io::sink()).await;
    }
}

/// The label on the counter of refused handshakes.
fn code(error: &io::Error) -> &'static str {
    let Some(error) = error.get_ref().and_then(|error| error.downcast_ref::<Error>()) else {
        return "tls_ended";
    };
    if matches!(error, Error::AlertReceived(_)) {
        "tls_alert"
    } else if matches!(error, Error::PeerIncompatible(_) | Error::NoApplicationProtocol) {
        "tls_incompatible"
    } else {
        "tls_malformed"
    }
}

impl AsyncRead for Metered {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let metered = &mut *self;
        if metered.left == usize::MAX {
            return Pin::new(&mut metered.stream).poll_read(cx, buffer);
        }
        if metered.left == 0 {
            return Poll::Ready(Err(io::Error::other("the handshake is too long")));
        }
        let mut part = buffer.take(metered.left);
        ready!(Pin::new(&mut metered.stream).poll_read(cx, &mut part))?;
        let read = part.filled().len();
        metered.left -= read;
        // Filled within `part`, which begins where `buffer` ends.
        buffer.advance(read);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Metered {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
