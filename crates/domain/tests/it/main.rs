//! What the fold promises, seen through the crate's public side alone.

#![expect(clippy::unwrap_used, reason = "a test's own functions may fail the test, as the tests do")]

mod decide;
mod opinions;
mod origins;
mod replay;
mod setup;
mod versions;
mod wire;
