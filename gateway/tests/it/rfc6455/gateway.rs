//! The gateway under test: its own acceptor, with a handler that sends every message back.

use std::net::SocketAddr;

use gateway::limits::{ClientLimits, Rate};
use gateway::socket::{Acceptor, Class, Config, Connection};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::limits::{FRAGMENTS_MAX, MESSAGE_BYTES};
use crate::socket::peer::config;

/// Lets the longest message through, and the one in the most fragments.
const WIDE: Rate = Rate { per_s: MESSAGE_BYTES, burst: MESSAGE_BYTES };

/// A running echo server; it ends when this is dropped.
pub(super) struct Echo {
    pub(super) address: SocketAddr,
    _shutdown: DropGuard,
}

impl Echo {
    pub(super) fn start() -> Self {
        let settings = Config {
            // What group 9 needs.
            max_message_bytes: MESSAGE_BYTES,
            max_fragments: FRAGMENTS_MAX,
            queue_bytes: 2 * MESSAGE_BYTES as usize,
            limits: ClientLimits {
                socket_bytes: WIDE,
                address_bytes: WIDE,
                socket_extra_frames: WIDE,
                ..ClientLimits::default()
            },
            ..config()
        };
        let acceptor = Acceptor::bind(settings).unwrap();
        let address = acceptor.local_addr();
        let shutdown = CancellationToken::new();
        tokio::spawn(acceptor.run(echo, shutdown.clone()));
        Self { address, _shutdown: shutdown.drop_guard() }
    }
}

async fn echo(connection: Connection) {
    let Connection { mut reader, outbound, .. } = connection;
    reader.authenticated();
    while let Ok(message) = reader.next_message().await {
        if outbound.push(message.payload, Class::Ordinary).is_err() {
            return;
        }
    }
}
