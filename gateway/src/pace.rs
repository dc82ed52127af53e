//! How fast one signed-in socket may go, and what it hears when it goes faster.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use domain::Code;
use metrics::counter;

use crate::frames;
use crate::limits::{Allowance, Verdict};
use crate::socket::{Class, CloseCode, Outbound};
use crate::users::Place;

/// How fast one signed-in socket may go.
pub(crate) struct Pace {
    /// None for a client that no limit holds for.
    allowance: Option<Arc<Allowance>>,
    place: Place,
}

impl Pace {
    pub(crate) const fn new(allowance: Option<Arc<Allowance>>, place: Place) -> Self {
        Self { allowance, place }
    }

    /// Whether the message may be looked at. If not, its sender is told, or the socket is closed.
    pub(crate) fn admits(&self, message: &Bytes, outbound: &Outbound) -> bool {
        let Some(allowance) = &self.allowance else { return true };
        match allowance.take_message(message.len(), |bytes| self.place.take_message(bytes)) {
            Verdict::Pass => true,
            Verdict::Wait(wait) => {
                match frames::decode(outbound.sub_protocol(), message.clone()) {
                    Ok(frame) => refuse(outbound, frame.id, wait),
                    Err(_) => outbound.close(CloseCode::BadFrame),
                }
                false
            }
            Verdict::Flood => {
                outbound.close(CloseCode::RateLimited);
                false
            }
        }
    }

    /// Takes the creation of a chat.
    ///
    /// # Errors
    /// How long to wait until the next one may come.
    pub(crate) fn take_chat(&self) -> Result<(), Duration> {
        if self.allowance.is_some() { self.place.take_chat() } else { Ok(()) }
    }
}

impl std::fmt::Debug for Pace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pace").field("limited", &self.allowance.is_some()).finish_non_exhaustive()
    }
}

/// Tells the client that request `id` came too fast, and when it may come again.
pub(crate) fn refuse(outbound: &Outbound, id: u64, wait: Duration) {
    counter!("gateway_requests_refused_total").increment(1);
    // Rounded up: one who waits as long as told must not be early.
    let wait_ms = u32::try_from(wait.as_millis()).unwrap_or(u32::MAX).saturating_add(1);
    let _ = frames::error_after(id, Code::RateLimited, wait_ms).push(outbound, Class::Ordinary);
}
