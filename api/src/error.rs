//! Why the API does not run.

use std::io;
use std::net::{AddrParseError, SocketAddr};

/// Why the API does not run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not an address.
    #[error("not an address to listen on")]
    Address(#[source] AddrParseError),
    /// A setting that cannot work.
    #[error("setting refused: {0}")]
    Config(&'static str),
    /// The address is taken or not ours.
    #[error("cannot listen on {address}")]
    Bind {
        /// The address of the settings.
        address: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// The log cannot be reached.
    #[error("the log")]
    Log(#[from] event_log::Error),
    /// The system has no randomness, or no memory for a password.
    #[error("passwords cannot be hashed")]
    Passwords,
    /// Something that all requests rely on ended.
    #[error("{0} ended")]
    Stopped(&'static str),
}
