//! The writing side of a socket, for whoever has something to tell its client.
//!
//! Every call returns at once: a push queues an encoded frame that all recipients share, and the flusher writes
//! it. The bound of the queue is the whole protection against a client that does not read.

use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fastwebsockets::OpCode;

use super::close::CloseCode;
use super::connection::{Closed, Shared};
use super::queue::{Admitted, Class};
use super::upgrade::SubProtocol;

/// Why a frame was not queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PushError {
    /// The socket is closing or gone.
    #[error("socket closed")]
    Closed,
    /// The client reads too slowly; this push closed the socket with `slow`.
    #[error("reader too slow, socket closed")]
    Slow,
    /// An ephemeral frame found too little room; nothing else changed.
    #[error("ephemeral frame dropped")]
    Dropped,
    /// A history reply needs an empty queue: try again after `drained`.
    #[error("queue not empty")]
    NotEmpty,
}

/// Pushes to one socket; cloned freely.
#[derive(Clone)]
pub struct Outbound {
    shared: Arc<Shared>,
}

impl fmt::Debug for Outbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shared.fmt(f)
    }
}

impl Outbound {
    pub(super) const fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Number of the socket in this process.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.shared.id
    }

    /// The encoding that frames for this socket must have.
    #[must_use]
    pub fn sub_protocol(&self) -> SubProtocol {
        self.shared.sub_protocol
    }

    /// Queues one encoded server frame (the payload of a WebSocket message).
    ///
    /// # Errors
    /// The frame was not queued; with [`PushError::Slow`] this call also closed the socket.
    pub fn push(&self, frame: Bytes, class: Class) -> Result<(), PushError> {
        let opcode = match self.shared.sub_protocol {
            SubProtocol::Proto => OpCode::Binary,
            SubProtocol::Json => OpCode::Text,
        };
        match self.shared.admit(opcode, &frame, class) {
            None => Err(PushError::Closed),
            Some(Admitted::Queued) => Ok(()),
            Some(Admitted::NotEmpty) => Err(PushError::NotEmpty),
            Some(Admitted::Dropped) => {
                metrics::counter!("gateway_frames_dropped_total", "class" => "ephemeral").increment(1);
                Err(PushError::Dropped)
            }
            Some(Admitted::Full) => {
                self.close(CloseCode::Slow);
                Err(PushError::Slow)
            }
        }
    }

    /// Closes the socket; only the first close counts.
    ///
    /// What waits is still written before the close frame, except for a slow or silent reader.
    pub fn close(&self, code: CloseCode) {
        self.shared.close(code);
    }

    /// Closes the socket as `token_expired` after this time, unless the time is set anew.
    ///
    /// At most a tick of the wheel late.
    pub fn expire_in(&self, time: Duration) {
        self.shared.expire_in(time);
    }

    /// Waits until nothing waits to be written, or the socket is gone.
    pub async fn drained(&self) {
        poll_fn(|cx| self.shared.poll_drained(cx)).await;
    }

    /// How the socket ended; none while it is open. The peer's own words are with the reader.
    #[must_use]
    pub fn closed(&self) -> Option<Closed> {
        self.shared.ended()
    }

    /// Bytes that wait, frame headers included.
    #[must_use]
    pub fn queued_bytes(&self) -> usize {
        self.shared.waiting().0
    }

    /// Frames that wait.
    #[must_use]
    pub fn queued_frames(&self) -> usize {
        self.shared.waiting().1
    }
}
