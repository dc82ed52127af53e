//! Delivery on a real broker and the embedded store, beside a stand-in for ingest and for gateways.

#![expect(clippy::unwrap_used, reason = "a test's own functions may fail the test, as the tests do")]

mod gateway;
mod owners;
mod pushes;
mod receipts;
mod setup;
