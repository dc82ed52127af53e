//! The Rust client: outbox, resume, gap detection, merge by seq, receipts.
//!
//! [`machine`] holds the protocol as deterministic state machines; [`Client`] runs them over a WebSocket, one task a
//! client. It sees the wire types only, never the server's rules.
//!
//! ```text
//! Client::send → Outbox ─ command ▶ socket ─ frames ▶ Endpoint ─ own entries ▶ Outbox ─ Settled ▶ Sent::outcome
//!                                                        └─ Timeline ─ in order, once ▶ Events
//! ```

mod client;
mod error;
mod events;
mod ids;
mod link;
pub mod machine;
mod options;
mod renewal;
mod rules;
mod shared;
mod token;
mod trust;

pub use client::{Answer, Client, Sent};
pub use error::Error;
pub use events::Events;
pub use ids::{ChatId, UserId};
pub use machine::{Event, Identity, SendId, Settlement};
pub use options::{Observer, Options};
pub use rules::Rules;
pub use token::Token;
pub use trust::Trust;
