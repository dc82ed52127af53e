//! A gate before a server: what passes it in one direction can be held and let go, byte for byte, or made late.
//!
//! Whoever is behind a held gate stands still for the other side while its connection lives. A cut ends connections as a
//! lost network does, for both sides at once.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

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
    cuts: Arc<watch::Sender<u64>>,
    _passing: JoinSet<()>,
}

/// One direction: whether it is shut, and what waits before it.
#[derive(Debug, Clone)]
struct Wing {
    shut: Arc<watch::Sender<bool>>,
    waiting: Arc<Mutex<Vec<u8>>>,
    /// How late each piece comes, in ms.
    late_ms: Arc<AtomicU64>,
}

impl Gate {
    /// An open gate before the server on this local port.
    pub async fn before(port: u16) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("no port for a gate")?;
        let own = listener.local_addr()?.port();
        let (to_server, to_clients) = (Wing::open(), Wing::open());
        let wings = (to_server.clone(), to_clients.clone());
        let cuts = Arc::new(watch::Sender::new(0));
        let cut = Arc::clone(&cuts);
        let mut passing = JoinSet::new();
        passing.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let accepted = tokio::select! {
                    accepted = listener.accept() => accepted,
                    // What has ended is not kept.
                    Some(_) = connections.join_next() => continue,
                };
                let Ok((client, _)) = accepted else { return };
                let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await else { continue };
                let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
                let (there, back) = (wings.0.clone(), wings.1.clone());
                let mut cut = cut.subscribe();
                connections.spawn(async move {
                    // An end of one side is passed on, and the other direction ends when its side does.
                    let both =
                        async { tokio::join!(there.pass(from_client, to_server), back.pass(from_server, to_client)) };
                    tokio::select! {
                        _ = both => {}
                        _ = cut.changed() => {}
                    }
                });
            }
        });
        Ok(Self { port: own, to_server, to_clients, cuts, _passing: passing })
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

    /// Ends every connection there is, without a word; new ones pass.
    pub fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Has each piece come this late in both directions, from now on.
    pub fn delay(&self, late: Duration) {
        let late = u64::try_from(late.as_millis()).unwrap_or(u64::MAX);
        for wing in [&self.to_server, &self.to_clients] {
            wing.late_ms.store(late, Ordering::Relaxed);
        }
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
        Self { shut: Arc::new(watch::Sender::new(false)), waiting: Arc::default(), late_ms: Arc::default() }
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
                // Read on, so that all that waits can be seen.
                let mut held = Vec::new();
                let reading = async {
                    let mut count = count;
                    while count > 0 {
                        held.extend_from_slice(&bytes[..count]);
                        self.waiting().extend_from_slice(&bytes[..count]);
                        count = from.read(&mut bytes).await.unwrap_or(0);
                    }
                    std::future::pending::<()>().await;
                };
                tokio::select! {
                    () = reading => {}
                    open = shut.wait_for(|shut| !shut) => if open.is_err() { return },
                }
                self.waiting().clear();
                if to.write_all(&held).await.is_err() {
                    return;
                }
                continue;
            }
            let late = self.late_ms.load(Ordering::Relaxed);
            if late > 0 {
                sleep(Duration::from_millis(late)).await;
            }
            if to.write_all(&bytes[..count]).await.is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{Instant, timeout};

    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    /// A server that answers each byte with itself, and the gate before it.
    async fn echo() -> Gate {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut read, mut write) = stream.split();
                    let _ = tokio::io::copy(&mut read, &mut write).await;
                });
            }
        });
        Gate::before(port).await.unwrap()
    }

    async fn asks(stream: &mut TcpStream) -> bool {
        let mut answer = [0];
        stream.write_all(b"x").await.is_ok() && timeout(SOON, stream.read_exact(&mut answer)).await.unwrap().is_ok()
    }

    #[tokio::test]
    async fn a_cut_ends_what_there_is_and_nothing_later() {
        let gate = echo().await;
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, gate.port())).await.unwrap();
        assert!(asks(&mut stream).await);
        gate.cut();
        assert_eq!(timeout(SOON, stream.read(&mut [0])).await.unwrap().unwrap_or(0), 0);
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, gate.port())).await.unwrap();
        assert!(asks(&mut stream).await);
    }

    #[tokio::test]
    async fn all_that_is_held_is_seen_and_comes_in_its_order() {
        let gate = echo().await;
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, gate.port())).await.unwrap();
        assert!(asks(&mut stream).await);
        gate.hold(Direction::ToServer);
        for part in ["one ", "two ", "three"] {
            stream.write_all(part.as_bytes()).await.unwrap();
            crate::wait::until(SOON, part, async || gate.holds(Direction::ToServer, part)).await;
        }
        gate.let_go(Direction::ToServer);
        let mut came = [0; 13];
        timeout(SOON, stream.read_exact(&mut came)).await.unwrap().unwrap();
        assert_eq!(&came, b"one two three");
        assert!(!gate.holds(Direction::ToServer, "one") && asks(&mut stream).await);
    }

    #[tokio::test]
    async fn what_is_late_comes_late_both_ways() {
        let gate = echo().await;
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, gate.port())).await.unwrap();
        gate.delay(Duration::from_millis(30));
        let before = Instant::now();
        assert!(asks(&mut stream).await);
        assert!(before.elapsed() >= Duration::from_millis(60), "{:?}", before.elapsed());
    }

    #[tokio::test]
    async fn an_end_of_the_server_reaches_the_client() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let gate = Gate::before(listener.local_addr().unwrap().port()).await.unwrap();
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, gate.port())).await.unwrap();
        drop(listener.accept().await.unwrap());
        assert_eq!(timeout(SOON, stream.read(&mut [0])).await.unwrap().unwrap_or(0), 0);
    }
}
