//! Many light clients that sign in, hear where their chats stand, and stay.
//!
//! One task each, which answers pings and reads away the rest. A cut drops all of their connections at once.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use bytes::BytesMut;
use prost::Message as _;
use proto::v1::{self, server_frame::Frame};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::wire::{self, Incoming};

/// Connections that are being opened at a time: below what a listener's backlog takes.
const OPENING_MAX: usize = 1_024;
const LOOK_AGAIN: Duration = Duration::from_millis(2);
const OPEN_WITHIN: Duration = Duration::from_secs(120);

/// What is done with a connection before it counts as open.
#[derive(Clone, Debug)]
pub(crate) enum Opening {
    /// TCP, nothing more.
    Tcp,
    /// The WebSocket handshake.
    Handshake,
    /// Handshake, sign-in, and where the chats of all these partitions stand.
    SignIn {
        /// One for each client.
        tokens: Arc<Vec<String>>,
        partitions: u16,
    },
}

/// Clients that are there.
#[derive(Debug)]
pub(crate) struct Herd {
    address: SocketAddr,
    opening: Opening,
    open: Arc<AtomicUsize>,
    clients: JoinSet<Result<()>>,
}

impl Herd {
    pub(crate) fn new(address: SocketAddr, opening: Opening) -> Self {
        Self { address, opening, open: Arc::default(), clients: JoinSet::new() }
    }

    /// Opens connections until there are `count`; how long that took.
    pub(crate) async fn grow(&mut self, count: usize) -> Result<Duration> {
        let begun = Instant::now();
        let room = Arc::new(Semaphore::new(OPENING_MAX));
        for number in self.clients.len()..count {
            let (address, opening) = (self.address, self.opening.clone());
            let (open, room) = (Arc::clone(&self.open), Arc::clone(&room));
            self.clients.spawn(async move {
                let opened = {
                    let _permit = room.acquire().await?;
                    opening.open(number, address).await?
                };
                open.fetch_add(1, Ordering::Relaxed);
                stay(opened).await
            });
        }
        while self.open.load(Ordering::Relaxed) < count {
            if let Some(ended) = self.clients.try_join_next() {
                ended?.context("a client of the herd")?;
                bail!("a client of the herd left");
            }
            if begun.elapsed() > OPEN_WITHIN {
                bail!("{} of {count} clients were there after {OPEN_WITHIN:?}", self.open.load(Ordering::Relaxed));
            }
            sleep(LOOK_AGAIN).await;
        }
        Ok(begun.elapsed())
    }

    /// Drops all connections at once.
    pub(crate) async fn cut(&mut self) {
        self.clients.shutdown().await;
        self.open.store(0, Ordering::Relaxed);
    }
}

/// A connection and what was read from it.
type Opened = (TcpStream, BytesMut);

impl Opening {
    async fn open(&self, number: usize, address: SocketAddr) -> Result<Opened> {
        let (tokens, partitions) = match self {
            Self::Tcp => {
                let stream = TcpStream::connect(address).await?;
                stream.set_zero_linger()?;
                return Ok((stream, BytesMut::new()));
            }
            Self::Handshake => return wire::connect(address).await,
            Self::SignIn { tokens, partitions } => (tokens, usize::from(*partitions)),
        };
        let (mut stream, mut read) = wire::connect(address).await?;
        let token = tokens.get(number).context("too few tokens")?.clone();
        let mut out = Vec::new();
        wire::put_authenticate(token, "herd", &mut out);
        stream.write_all(&out).await?;
        let mut current = 0;
        while current < partitions {
            match wire::next(&mut read)? {
                Some(Incoming::Binary(payload)) => {
                    if let Some(Frame::Heads(heads)) = v1::ServerFrame::decode(payload)?.frame {
                        current += usize::from(heads.last && heads.current);
                    }
                }
                Some(Incoming::Close(code)) => bail!("closed with {code} while it signed in"),
                Some(Incoming::Ping(payload)) => pong(&mut stream, &payload).await?,
                Some(Incoming::Pong) => {}
                None => {
                    if stream.read_buf(&mut read).await? == 0 {
                        bail!("closed without a word while it signed in");
                    }
                }
            }
        }
        Ok((stream, read))
    }
}

async fn pong(stream: &mut TcpStream, payload: &[u8]) -> Result<()> {
    let mut out = Vec::new();
    wire::put_pong(payload, &mut out);
    Ok(stream.write_all(&out).await?)
}

async fn stay((mut stream, mut read): Opened) -> Result<()> {
    loop {
        while let Some(incoming) = wire::next(&mut read)? {
            match incoming {
                Incoming::Ping(payload) => pong(&mut stream, &payload).await?,
                Incoming::Close(code) => bail!("closed with {code}"),
                Incoming::Binary(_) | Incoming::Pong => {}
            }
        }
        if stream.read_buf(&mut read).await? == 0 {
            bail!("closed without a word");
        }
    }
}
