//! Delivery's state machines: who is online, what each gateway gets, how far each user got.
//!
//! No clock, no I/O, no randomness: the shell and the simulator feed inputs and run actions.
//!
//! ```text
//! announcements ─▶ Mirror ─┐ sessions_of
//! events ─▶ Expansion ─▶ Lanes ─▶ numbered batches, acks, through
//! receipts ─▶ Receipts ─▶ statuses, ticks at once, echoes once written
//! ```

mod expansion;
mod hot;
mod io;
mod lanes;
mod mirror;
mod receipts;

pub use expansion::Expansion;
pub use hot::{HotChat, HotChats, Membership};
pub use io::{Action, Dropped, EventRecord, Input, Patience, Settings};
pub use mirror::{Action as MirrorAction, Input as MirrorInput, Mirror};
pub use receipts::Receipts;

#[cfg(test)]
mod tests;
