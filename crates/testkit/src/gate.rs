//! A gate before a server: what passes it in one direction can be held and let go, byte for byte.
//!
//! Whoever is behind a held gate stands still for the other side while its connection lives.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// A direction through a [`Gate`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From clients to the server.
    ToServer,
    /// From the server to clients.
    ToClients,
}

/// A TCP proxy before one local server; its connections end with it.
#[derive(Debug)]
pub struct Gate {
    port: u16,
    to_server: Wing,
    to_clients: Wing,
    _passing: JoinSet<()>,
}

/// One direction: whether it is shut, and what waits before it.
#[derive(Debug, Clone)]
struct Wing {
    shut: Arc<watch::Sender<bool>>,
    waiting: Arc<Mutex<Vec<u8>>>,
}

impl Gate {
    /// An open gate before the server on this local port.
    pub async fn before(port: u16) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("no port for a gate")?;
        let own = listener.local_addr()?.port();
        let (to_server, to_clients) = (Wing::open(), Wing::open());
        let wings = (to_server.clone(), to_clients.clone());
        let mut passing = JoinSet::new();
        passing.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await else { continue };
                let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
                connections.spawn(wings.0.clone().pass(from_client, to_server));
                connections.spawn(wings.1.clone().pass(from_server, to_client));
            }
        });
        Ok(Self { port: own, to_server, to_clients, _passing: passing })
    }

    /// Where clients connect.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Holds what comes from now on in this direction.
    pub fn hold(&self, direction: Direction) {
        self.wing(direction).shut.send_replace(true);
    }

    /// Lets go what was held, in its order, and all that follows.
    pub fn let_go(&self, direction: Direction) {
        self.wing(direction).shut.send_replace(false);
    }

    /// Whether what is held in this direction contains this text.
    pub fn holds(&self, direction: Direction, text: &str) -> bool {
        let waiting = self.wing(direction).waiting();
        waiting.windows(text.len()).any(|window| window == text.as_bytes())
    }

    fn wing(&self, direction: Direction) -> &Wing {
        match direction {
            Direction::ToServer => &self.to_server,
            Direction::ToClients => &self.to_clients,
        }
    }
}

impl Wing {
    fn open() -> Self {
        Self { shut: Arc::new(watch::Sender::new(false)), waiting: Arc::default() }
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<u8>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Copies until either end closes.
    async fn pass(self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
        let mut shut = self.shut.subscribe();
        let mut bytes = vec![0; 64 << 10];
        loop {
            let Ok(count @ 1..) = from.read(&mut bytes).await else { return };
            if *shut.borrow() {
                self.waiting().extend_from_slice(&bytes[..count]);
                if shut.wait_for(|shut| !shut).await.is_err() {
                    return;
                }
                self.waiting().clear();
            }
            if to.write_all(&bytes[..count]).await.is_err() {
                return;
            }
        }
    }
}
