//! Turns what a client over a real socket sees into the checker's observations.
//!
//! [`Eyes`] is a client's observer: it notes every frame as it came, and keeps what a run waits for. It never asks the
//! client anything, for it runs under its lock.

mod eyes;

pub use eyes::{Eyes, Seen, asked_as, chat_of, content_of, seen_entry, user_of};
