//! Many light clients that sign in, hear where their chats stand, and stay.
//!
//! One task each, which answers pings and counts the pushes. A cut drops all of their connections at once; who comes back
//! names its session, as a client does.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
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
    SignIn { clients: Arc<Vec<Client>>, partitions: u16 },
}

/// What one client keeps over a cut.
#[derive(Debug)]
pub(crate) struct Client {
    token: String,
    session: Mutex<Option<v1::Resume>>,
}

impl Client {
    fn session(&self) -> MutexGuard<'_, Option<v1::Resume>> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a push; how many there were.
    fn count(&self, frame: &Frame) -> u64 {
        let mut session = self.session();
        let Some(session) = session.as_mut() else { return 0 };
        let is_push = matches!(frame, Frame::Ready(_) | Frame::Heads(_) | Frame::Pushed(_) | Frame::Watermark(_));
        session.pushes += u64::from(is_push);
        session.pushes
    }
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
                stay(opened, opening.client(number)).await
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
    /// One client for each token.
    pub(crate) fn sign_in(tokens: Vec<String>, partitions: u16) -> Self {
        let clients = tokens.into_iter().map(|token| Client { token, session: Mutex::default() }).collect();
        Self::SignIn { clients: Arc::new(clients), partitions }
    }

    fn client(&self, number: usize) -> Option<&Client> {
        match self {
            Self::Tcp | Self::Handshake => None,
            Self::SignIn { clients, .. } => clients.get(number),
        }
    }

    async fn open(&self, number: usize, address: SocketAddr) -> Result<Opened> {
        let partitions = match self {
            Self::Tcp => {
                let stream = TcpStream::connect(address).await?;
                stream.set_zero_linger()?;
                return Ok((stream, BytesMut::new()));
            }
            Self::Handshake => return wire::connect(address).await,
            Self::SignIn { partitions, .. } => usize::from(*partitions),
        };
        let client = self.client(number).context("too few tokens")?;
        let (mut stream, mut read) = wire::connect(address).await?;
        let mut out = Vec::new();
        let resume = *client.session();
        wire::put_authenticate(client.token.clone(), "herd", resume, &mut out);
        stream.write_all(&out).await?;
        let mut current = 0;
        let mut resumed = None;
        loop {
            match wire::next(&mut read)? {
                Some(Incoming::Binary(payload)) => {
                    let Some(frame) = v1::ServerFrame::decode(payload)?.frame else { continue };
                    if let Frame::Welcome(welcome) = &frame {
                        resumed = welcome.resumed;
                        if resumed.is_none() {
                            *client.session() = Some(v1::Resume { session: welcome.session, pushes: 0 });
                        }
                    } else if let Frame::Heads(heads) = &frame {
                        current += usize::from(heads.last && heads.current);
                    }
                    let pushes = client.count(&frame);
                    if current == partitions || resumed.is_some_and(|resumed| resumed.pushes == pushes) {
                        return Ok((stream, read));
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
    }
}

async fn pong(stream: &mut TcpStream, payload: &[u8]) -> Result<()> {
    let mut out = Vec::new();
    wire::put_pong(payload, &mut out);
    Ok(stream.write_all(&out).await?)
}

async fn stay((mut stream, mut read): Opened, client: Option<&Client>) -> Result<()> {
    loop {
        while let Some(incoming) = wire::next(&mut read)? {
            match incoming {
                Incoming::Ping(payload) => pong(&mut stream, &payload).await?,
                Incoming::Close(code) => bail!("closed with {code}"),
                Incoming::Binary(payload) => {
                    if let (Some(client), Some(frame)) = (client, v1::ServerFrame::decode(payload)?.frame) {
                        client.count(&frame);
                    }
                }
                Incoming::Pong => {}
            }
        }
        if stream.read_buf(&mut read).await? == 0 {
            bail!("closed without a word");
        }
    }
}
