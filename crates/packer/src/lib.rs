//! Packs commands into the log's records and tells their senders that they are in it.
//!
//! ```text
//! gateway, api ─ put ▶ pack (machine::Packer) ▶ the owner in this process, else COMMANDS-p ; Senders ◀ accepted, busy
//! ```
//! It never looks into a command, and knows nothing of sockets or requests but the numbers that their answers go to.

mod machine;
mod pack;

pub use machine::{Packer, PackerAction, PackerInput, Waiting};
pub use pack::{Pack, Senders, pack};
