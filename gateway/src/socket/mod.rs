//! Sockets: from a TCP connection to whole messages in, and shared frames out.
//!
//! ```text
//! accept → tls → upgrade → connection ─┬─ reader   → frame_guard → Message
//!                                      └─ outbound → queue → flush → transport
//! porch (threads for accept to upgrade) ; heartbeat (one wheel for all sockets) ; close (codes) ; edge (what all sockets share) ; room (for newcomers)
//! ```
//!
//! This layer knows RFC 6455 and nothing of what the messages say: no token is checked here, no frame is decoded.
//!
//! # For the layer above
//! ```text
//! let acceptor = Acceptor::bind(config)?;         // address known: acceptor.local_addr()
//! acceptor.run(handler, shutdown).await;          // returns when drained
//!
//! async fn serve(mut connection: Connection) {    // the handler: one task per socket
//!     connection.outbound.push(hello, Class::Ordinary)?;
//!     loop {
//!         match connection.reader.next_message().await {
//!             Ok(message) => …,                   // after authenticate: connection.reader.authenticated()
//!             Err(closed) => break,               // by the peer, by us (with which code) or lost
//!         }
//!     }
//! }                                               // dropping the reader ends the close handshake
//! ```
//! - One task owns the [`Reader`]. Not calling `next_message` is back-pressure on the client, but it also keeps
//!   its pongs from being seen: beyond the heartbeat timeout the socket is closed.
//! - [`Outbound`] is a clone away for everyone else; its calls never wait. `push` says why a frame was not taken.
//!   With [`Class::History`] the answer may be [`PushError::NotEmpty`]: await `drained`, then push again.
//! - [`Outbound::close`] from anywhere ends `next_message` with [`Closed::ByServer`]. The first close counts.
//! - An idle socket costs its task, its [`Outbound`] state and one wheel entry; no buffer, no timer, no writer task.
//!   Whatever the handler's future keeps alive over `next_message().await` comes on top: box what is rarely needed.
//! - Until `authenticated` is called the socket has small limits and a deadline.
//! - At shutdown, [`Handler::draining`] hears for each socket when it will be closed.

mod accept;
pub mod close;
mod config;
mod connection;
mod edge;
mod flush;
pub mod frame_guard;
mod heartbeat;
mod outbound;
mod porch;
mod queue;
mod reader;
mod room;
mod tls;
mod transport;
mod upgrade;

use std::io;
use std::net::SocketAddr;

pub use accept::{Acceptor, Handler};
pub use close::{CloseCode, PeerClose};
pub use config::{Config, TlsConfig};
pub use connection::{Closed, Connection};
pub use frame_guard::{Kind, Message};
pub use outbound::{Outbound, PushError};
pub use queue::Class;
pub use reader::Reader;
pub use tls::{CertificateError, CertificateReload};
pub use upgrade::{Bearer, PATH, Refusal, SubProtocol};

/// Why sockets cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A setting that cannot work.
    #[error("setting refused: {0}")]
    Config(&'static str),
    /// The certificate or its key cannot be used.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The address is taken or not ours.
    #[error("cannot listen on {address}")]
    Bind {
        /// The address of the settings.
        address: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
}
