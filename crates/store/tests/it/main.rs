//! The store's behaviour: one suite for every engine, and what only the embedded one promises.

mod conformance;
mod crash;
mod embedded;
mod rows;
