//! What clients are counted with at both edges: rates, bounded tables, and who a client is.
//!
//! ```text
//! network, forwarded (peer and headers → client) ; rate (a governor for each limit, a bucket for each client)
//! keys (client → what it took, bounded)
//! ```
//! What is counted, and what over a limit means, each edge decides. Nothing here waits or answers.

mod forwarded;
mod keys;
mod network;
mod rate;

use std::time::Duration;

pub use forwarded::{counted, sender};
pub use keys::{Keys, Names};
pub use network::{Network, NetworkError, client_key, holds, loopback};
pub use rate::{Bucket, Left, Limiter, Rate};

/// How often clients are forgotten that have nothing to tell any more.
pub const SWEEP_EVERY: Duration = Duration::from_secs(2);
