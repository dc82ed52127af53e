//! The log on a real broker: every trap that it is built to see.

#![expect(clippy::unwrap_used, reason = "a test's own functions may fail the test, as the tests do")]

mod broker;
mod commands;
mod control;
mod core_messages;
mod counters;
mod fence;
mod leases;
mod look;
mod reader;
mod scan;
mod streams;
mod tap;
mod tenures;
mod volume;
