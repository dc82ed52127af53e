//! What a client may take of a gateway: connects, sockets, frames, bytes and new chats, each in a stated measure.
//!
//! ```text
//! accept ─ admissions ; network, forwarded ▶ addresses ─ Seat ▶ socket ─ Allowance ▶ session ◀ Place ─ crate::users
//! rate (a governor for each limit, a bucket for each client) ; keys (client → what it took, bounded)
//! ```
//! It counts and says no. It never closes a socket and answers nobody.

mod addresses;
mod admissions;
mod allowance;
mod config;
mod forwarded;
mod keys;
mod network;
mod rate;

use std::time::Duration;

pub(crate) use addresses::{Addresses, Seat, TooMany};
pub(crate) use admissions::Admissions;
pub(crate) use allowance::{Allowance, Verdict};
pub use config::{ClientLimits, UserLimits};
pub(crate) use keys::Keys;
pub use network::{Network, NetworkError};
pub use rate::Rate;
pub(crate) use rate::{Bucket, Limiter};

/// How often clients are forgotten that have nothing to tell any more.
pub(crate) const SWEEP_EVERY: Duration = Duration::from_secs(2);
