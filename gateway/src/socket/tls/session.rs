//! The TLS state of one open socket, which both of its directions change.
//!
//! It stands under its socket's lock: reading may have something to write (an alert, the answer to new keys), and what is
//! sealed must leave in the order in which it was sealed. It holds no plaintext: what comes is handed on at once, and what
//! goes is sealed when the kernel is ready for it, so that it still can be dropped before.

use std::io::{self, BufRead as _, IoSlice, Write};
use std::task::Poll;

use rustls::ServerConnection;
use tokio::net::tcp::OwnedWriteHalf;

use crate::socket::queue::Queue;

/// Most bytes that are sealed ahead of the kernel: two whole records, which leave in one write.
pub(super) const SEALED_BYTES: usize = 32 * 1024;

/// Nothing more comes from the peer: it said so, or what came was no TLS.
pub(in crate::socket) struct Over;

/// The writing half and the keys of both.
pub(in crate::socket) struct Session {
    half: OwnedWriteHalf,
    connection: ServerConnection,
    /// Bytes that are sealed and not with the kernel, to within what TLS adds to them.
    sealed: usize,
}

impl Session {
    pub(in crate::socket) fn new(half: OwnedWriteHalf, connection: ServerConnection) -> Self {
        Self { half, connection, sealed: 0 }
    }

    /// Bytes that left the queue and not yet this process; 0 only if there are none.
    pub(in crate::socket) fn held(&self) -> usize {
        if self.connection.wants_write() { self.sealed.max(1) } else { 0 }
    }

    /// Seals what waits and writes it, until all is with the kernel or the kernel takes no more.
    pub(in crate::socket) fn write(
        &mut self,
        queue: &mut Queue,
        mut write: impl FnMut(&mut OwnedWriteHalf, &[IoSlice<'_>]) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<()>> {
        loop {
            while self.connection.wants_write() {
                match self.connection.write_tls(&mut Wire { half: &mut self.half, write: &mut write }) {
                    Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    Ok(written) => self.sealed = self.sealed.saturating_sub(written),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Poll::Ready(Err(error)),
                }
            }
            self.sealed = 0;
            if queue.is_empty() {
                return Poll::Ready(Ok(()));
            }
            match self.connection.writer().write_vectored(&queue.slices()) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(sealed) => {
                    queue.advance(sealed);
                    self.sealed = sealed;
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// Opens what came off the wire; what was in it goes to the end of `plain`.
    ///
    /// # Errors
    /// Nothing more comes. What was said before is in `plain` all the same.
    pub(in crate::socket) fn open(&mut self, mut wire: &[u8], plain: &mut Vec<u8>) -> Result<(), Over> {
        loop {
            let processed = self.connection.process_new_packets();
            self.take(plain);
            match processed {
                Ok(state) if state.peer_has_closed() => return Err(Over),
                Ok(_) => {}
                Err(error) => {
                    tracing::debug!(%error, "TLS failed");
                    return Err(Over);
                }
            }
            // A part at a time, as much as the connection holds for a record.
            match wire.is_empty() {
                true => return Ok(()),
                false if self.connection.read_tls(&mut wire).is_err() => return Err(Over),
                false => {}
            }
        }
    }

    fn take(&mut self, plain: &mut Vec<u8>) {
        let mut reader = self.connection.reader();
        while let Ok(chunk) = reader.fill_buf()
            && !chunk.is_empty()
        {
            plain.extend_from_slice(chunk);
            let taken = chunk.len();
            reader.consume(taken);
        }
    }

    /// Says that nothing follows; it has yet to be written.
    pub(in crate::socket) fn close(&mut self) {
        self.connection.send_close_notify();
    }
}

/// Lets rustls write as the caller does: by trying, or with somebody to wake.
struct Wire<'a, W> {
    half: &'a mut OwnedWriteHalf,
    write: &'a mut W,
}

impl<W: FnMut(&mut OwnedWriteHalf, &[IoSlice<'_>]) -> Poll<io::Result<usize>>> Write for Wire<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match (self.write)(self.half, slices) {
            Poll::Ready(result) => result,
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
