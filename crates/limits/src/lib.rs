//! What clients are counted with at both edges: rates, bounded tables, and who a client is.
//!
//! ```text
//! network, forwarded (peer and headers → client) ; rate (a governor for each limit, a bucket for each client)
//! keys (client → what it took, bounded) ◀ sweep (now and then)
//! ```
//! What is counted, and what over a limit means, each edge decides. Nothing here makes a client wait, or answers it.

mod forwarded;
mod keys;
mod network;
mod rate;
mod sweep;

pub use forwarded::{counted, sender};
pub use keys::{Keys, Names};
pub use network::{Network, NetworkError, client_key, holds, loopback};
pub use rate::{Bucket, Left, Limiter, Rate};
pub use sweep::sweep_until;
