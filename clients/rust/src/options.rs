//! What a client is told at its birth.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::machine::{Bounds, Event, Kept, Progress, TimelineBounds};
use crate::{Rules, Token, Trust};

/// Sees everything that a client sees, in order, under the client's lock: keep it short.
pub trait Observer: Send + Sync {
    /// One thing was seen or done.
    fn observe(&self, event: &Event);
}

/// How a client connects and what it goes on from.
#[derive(Clone)]
pub struct Options {
    /// Addresses such as `wss://chat.example/v1/socket`, or `ws://` without TLS: the first at first, the next whenever one cannot be had or leaves.
    pub urls: Vec<String>,
    /// Who may vouch for the servers behind `wss://`; read anew after each failure to connect.
    pub trust: Trust,
    /// Says who signs in; asked for at each connection.
    pub token: Token,
    /// Names the device; drawn once and kept.
    pub device: String,
    /// Claim what arrives as received, without being told.
    pub receipts: bool,
    /// Events that may wait for the caller, but for those of one turn; then the socket is read no further.
    pub events: usize,
    /// First of the doubling waits before a new socket, of which a random part is taken. A refused upgrade waits so too:
    /// the WebSocket library tells its status alone, so that its `Retry-After` is not seen.
    pub back_off: Duration,
    /// Longest of these waits.
    pub longest_back_off: Duration,
    /// How long connecting and signing in may take.
    pub sign_in_within: Duration,
    /// Bounds and waits of the outbox.
    pub outbox: Bounds,
    /// Bounds and waits of the timeline.
    pub timeline: TimelineBounds,
    /// Where an earlier run left off.
    pub progress: Progress,
    /// The outbox of an earlier run.
    pub kept: Option<Kept>,
    /// Switches for tests; all on.
    pub rules: Rules,
    /// Sees everything, for a recorder.
    pub observer: Option<Arc<dyn Observer>>,
}

impl Options {
    /// The defaults for one address, token and device.
    pub fn new(url: impl Into<String>, token: impl Into<Token>, device: impl Into<String>) -> Self {
        Self {
            urls: vec![url.into()],
            trust: Trust::default(),
            token: token.into(),
            device: device.into(),
            receipts: true,
            events: 4_096,
            back_off: Duration::from_millis(100),
            longest_back_off: Duration::from_secs(20),
            sign_in_within: Duration::from_secs(15),
            outbox: Bounds::default(),
            timeline: TimelineBounds::default(),
            progress: Progress::default(),
            kept: None,
            rules: Rules::ALL,
            observer: None,
        }
    }
}

impl fmt::Debug for Options {
    // Without the token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options").field("urls", &self.urls).field("device", &self.device).finish_non_exhaustive()
    }
}
