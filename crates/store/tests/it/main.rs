//! The store's behaviour: one suite for every engine, and what only one of them promises.

#![expect(clippy::unwrap_used, reason = "what fails in a test ends it, and says where")]

mod conformance;
mod cql;
mod crash;
mod embedded;
mod lasting;
mod rows;
