//! Ingest on a real broker and the embedded store, beside a stand-in for gateways.

#![expect(clippy::unwrap_used, reason = "a test's own functions may fail the test, as the tests do")]

mod faults;
mod hand_over;
mod path;
mod setup;
