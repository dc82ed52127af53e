//! Sockets on one side, the command log and pushes on the other.
//!
//! ```text
//! socket: accept → limits → upgrade → frame_guard ─▶ session: hello → authenticate → users → welcome
//!   session ─ frame ▶ pace ─ command ▶ inbound ▶ pack (machine::Packer) ▶ COMMANDS-p ; accepted ◀─ acknowledged
//!   session ─ history ▶ history ▶ store        session ─ received, seen ▶ receipts ▶ delivery
//! CONTROL ▶ control ▶ revocations ▶ registry ▶ close
//! ingest ─ answers ▶ relay ▶ outbound           delivery ─ pushes, acks ▶ relay (machine::Tracker) ▶ downlink (machine::Pushes) ▶ outbound ; heads
//! ```
//! It checks who asks and what shape it has; what is allowed, the fold decides. It keeps nothing.

mod changes;
mod config;
mod control;
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
mod pack;
mod receipts;
mod registry;
mod relay;
mod revocations;
mod session;
pub mod socket;
mod token;
mod users;

pub use config::{Config, Resume};
pub use error::Error;
pub use frames::is_retryable;
pub use gateway::{Dependencies, Gateway};
pub use token::{Grant, TokenError, TokenKey, VALID_MAX};
