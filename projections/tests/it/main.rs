//! Projections on a real broker and the embedded store, beside a stand-in for ingest and for delivery.

#![expect(clippy::unwrap_used, reason = "a test's own functions may fail the test, as the tests do")]

mod models;
mod rebuilds;
mod restarts;
mod setup;
