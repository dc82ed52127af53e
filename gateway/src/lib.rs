//! Sockets on one side, the command log and pushes on the other.
//!
//! ```text
//! socket: accept → limits → upgrade → frame_guard ─▶ session: hello → authenticate → users → welcome
//!   session ─ frame ▶ pace ─ command ▶ inbound ▶ packer ▶ COMMANDS-p ; accepted ◀─ acknowledged
//!   session ─ history ▶ history ▶ store        session ─ received, seen ▶ receipts ▶ delivery
//! CONTROL ▶ tokens ▶ registry ▶ close
//! ingest ─ answers ▶ relay ▶ outbound           delivery ─ pushes, acks ▶ relay (machine::Tracker) ▶ downlink (machine::Pushes) ▶ outbound ; heads
//! ```
//! It checks who asks and what shape it has; what is allowed, the fold decides. It keeps nothing.

mod admission;
mod changes;
mod clock;
mod config;
mod downlink;
mod edge;
mod error;
mod frames;
mod gateway;
mod heads;
mod history;
mod inbound;
mod json;
pub mod limits;
pub mod machine;
mod pace;

mod receipts;
mod registry;
mod relay;
mod session;
pub mod socket;
mod ticket;
mod users;

pub use config::{Config, Resume};
pub use error::Error;
pub use frames::is_retryable;
pub use gateway::{Dependencies, Gateway};
