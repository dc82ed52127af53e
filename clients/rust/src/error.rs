//! What can go wrong between a caller and its client.

use proto::v1;

use crate::machine::Full;

/// Why a call failed, or a socket ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The outbox is at its bound: wait until sends settle.
    #[error(transparent)]
    Full(#[from] Full),
    /// The body is over the server's limit.
    #[error("the body has {bytes} bytes, more than the {limit} that the server takes")]
    BodyTooLarge {
        /// The body's size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// New chats need a first welcome, which says how many partitions there are.
    #[error("not signed in yet")]
    NotSignedIn,
    /// There is no live socket, or it ended before the answer.
    #[error("the socket ended before the answer")]
    Disconnected,
    /// The server refused the request.
    #[error("the server refused: {:?} {}", .0.code(), .0.text)]
    Refused(v1::Error),
    /// The server says not to come back, or the client was closed.
    #[error("the client has ended")]
    Ended,
    /// An address or header is not valid.
    #[error("the address is not valid: {0}")]
    Address(String),
    /// There is no token to sign in with.
    #[error("there is no token: {0}")]
    Token(String),
    /// Nobody is known who could vouch for a server.
    #[error("no authority to trust: {0}")]
    Trust(String),
    /// The server closed the socket before it was signed in.
    #[error("the server closed the socket with code {0}")]
    Closed(u16),
    /// Connecting or signing in took too long.
    #[error("connecting took too long")]
    SignInTimeout,
    /// The server sent nothing for longer than its heartbeat.
    #[error("the server fell silent")]
    Silent,
    /// The peer sent what is no frame of the protocol.
    #[error("the server sent what is no frame: {0}")]
    Frame(#[from] prost::DecodeError),
    /// The socket failed.
    #[error("the socket failed: {0}")]
    Socket(#[from] tokio_websockets::Error),
}
