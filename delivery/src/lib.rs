//! Pushes events to online sessions and merges receipts.

mod error;
pub mod machine;

pub use error::Error;
