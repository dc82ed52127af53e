//! What a client may take of a gateway: connects, sockets, frames, bytes and new chats, each in a stated measure.
//!
//! ```text
//! accept ─ admissions ; addresses ─ Seat ▶ socket ─ Allowance ▶ session ◀ Place ─ crate::users
//! ```
//! It counts and says no. It never closes a socket and answers nobody.

mod addresses;
mod admissions;
mod allowance;
mod config;

pub(crate) use addresses::{Addresses, Seat, TooMany};
pub(crate) use admissions::Admissions;
pub(crate) use allowance::{Allowance, Verdict};
pub use config::{ClientLimits, UserLimits};
use limits::Names;
pub use limits::{Network, NetworkError, Rate};

/// How a table of this role is called in metrics.
pub(crate) const fn names(of: &'static str) -> Names {
    Names { keys: "gateway_limit_keys", shared: "gateway_limit_keys_shared_total", of }
}
