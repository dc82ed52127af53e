//! What bytes go over: TCP as it is, or TLS over it.
//!
//! A plain socket pays nothing for the other kind: what TLS needs is boxed, and a plain write is the kernel's own.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio_rustls::server::TlsStream;

use super::queue::Queue;
use super::tls::{Metered, Session};

/// A connection on its way to a socket: HTTP is spoken over it.
#[derive(Debug)]
pub(super) enum Transport {
    Plain(TcpStream),
    Tls(Box<TlsStream<Metered>>),
}

/// What a socket writes to.
pub(super) enum Sink {
    Plain(OwnedWriteHalf),
    /// Has the keys of both directions.
    Tls(Box<Session>),
}

/// The two directions of a socket.
pub(super) struct Halves {
    /// Gives out what is on the wire: with [`Sink::Tls`], sealed.
    pub(super) input: OwnedReadHalf,
    pub(super) sink: Sink,
    /// What was opened already and read by nobody.
    pub(super) read: Bytes,
    /// Nothing follows it.
    pub(super) is_over: bool,
}

impl Transport {
    /// Takes the two directions apart, for the runtime that asks: another one may have opened the connection.
    pub(super) fn into_split(self) -> io::Result<Halves> {
        Ok(match self {
            Self::Plain(stream) => {
                let (input, half) = here(stream)?.into_split();
                Halves { input, sink: Sink::Plain(half), read: Bytes::new(), is_over: false }
            }
            Self::Tls(stream) => {
                let (metered, connection) = stream.into_inner();
                let (input, half) = here(metered.into_inner())?.into_split();
                let mut session = Box::new(Session::new(half, connection));
                let mut read = Vec::new();
                let is_over = session.open(&[], &mut read).is_err();
                Halves { input, sink: Sink::Tls(session), read: read.into(), is_over }
            }
        })
    }
}

/// The stream, told by this runtime's reactor when there is something to do.
fn here(stream: TcpStream) -> io::Result<TcpStream> {
    TcpStream::from_std(stream.into_std()?)
}

impl Sink {
    pub(super) const fn is_tls(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    /// Bytes that left the queue and not yet this process; 0 only if there are none.
    pub(super) fn held(&self) -> usize {
        match self {
            Self::Plain(_) => 0,
            Self::Tls(session) => session.held(),
        }
    }

    /// Writes until the queue is empty and all of it is with the kernel, the kernel takes no more or the socket is broken.
    pub(super) fn write(
        &mut self,
        queue: &mut Queue,
        mut write: impl FnMut(&mut OwnedWriteHalf, &[IoSlice<'_>]) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<()>> {
        let half = match self {
            Self::Plain(half) => half,
            Self::Tls(session) => return session.write(queue, write),
        };
        while !queue.is_empty() {
            match write(half, &queue.slices()) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(written)) => queue.advance(written),
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Transport {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_socket_is_no_larger_for_the_other_kind() {
        assert_eq!(size_of::<Option<Sink>>(), size_of::<Option<OwnedWriteHalf>>());
    }
}
