//! The socket layer against raw bytes and a foreign client.

mod abuse;
mod ending;
mod exchange;
mod opening;
pub(crate) mod peer;
