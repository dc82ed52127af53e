//! What keeps a gateway from serving.

/// What keeps a gateway from serving.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An address that is none.
    #[error("not an address of the form HOST:PORT")]
    Address(#[source] std::net::AddrParseError),
    /// Sockets cannot be accepted.
    #[error(transparent)]
    Socket(#[from] crate::socket::Error),
    /// The log refused or is gone.
    #[error("log: {0}")]
    Log(#[from] event_log::Error),
    /// A task that others rely on ended.
    #[error("{0} stopped")]
    Stopped(&'static str),
}
