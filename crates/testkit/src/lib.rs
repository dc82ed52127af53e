//! What tests need from the machine: broker processes, child processes, folders, waiting, and a watch on log lines.
//!
//! Never depends on a role: it knows processes, files and time, and nothing of messages.
//!
//! ```text
//! authority certificates of a test's own
//! cassandra a real Apache Cassandra node in its own folder
//! children  any child process: its lines, its signals, its end
//! gate      a proxy that holds what passes and lets it go
//! ports     one that a server can come back to
//! nats      a real nats-server in its own folder
//! scratch   a folder for one test
//! wait      until a condition holds, with a deadline
//! logs      a run fails on an unlisted WARN or ERROR line
//! ```

mod authority;
pub mod cassandra;
pub mod children;
pub mod gate;
mod leash;
pub mod logs;
pub mod nats;
mod ports;
pub mod scratch;
pub mod wait;

pub use authority::{Authority, Issued};
pub use cassandra::Cassandra;
pub use children::Running;
pub use gate::{Direction, Gate};
pub use nats::{NatsOptions, NatsServer};
pub use ports::free_port;
pub use scratch::Scratch;
