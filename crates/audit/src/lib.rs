//! Who did what to accounts and chats: one JSON object a line, in a file of its own that is only appended to.
//!
//! ```text
//! event (who, what, where, result) → log (bounded queue) → writer (a thread, the file)
//! ```
//! It never holds up whoever reports: what the queue or the disk has no room for is counted and lost. It has no field
//! for bodies, tokens and passwords.

mod event;
mod log;
mod writer;

pub use event::{Action, Event, Outcome};
pub use log::{Error, Log};
