//! The store's behaviour: one suite for every engine, and what only the embedded one promises.

#![expect(clippy::unwrap_used, reason = "what fails in a test ends it, and says where")]

mod conformance;
mod crash;
mod embedded;
mod lasting;
mod rows;
