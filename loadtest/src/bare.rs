//! What a connection costs without us: a server that does the handshake, or not even that, and echoes.
//!
//! It runs as a child process of its own, so that its memory is its own; [`Bare`] is the parent's side of it.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use http_body_util::Empty;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use testkit::Running;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

const READY_WITHIN: Duration = Duration::from_secs(10);
const LISTENS_ON: &str = "listens on ";
/// As the gateway's.
const BACKLOG: u32 = 4_096;

/// What the server does for a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Kind {
    /// A task that echoes bytes.
    Echo,
    /// The WebSocket handshake of stock hyper and fastwebsockets, then nothing.
    Handshake,
}

/// A running one.
#[derive(Debug)]
pub(crate) struct Bare {
    process: Running,
    pub(crate) address: SocketAddr,
}

impl Bare {
    pub(crate) async fn start(kind: Kind) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args([
            "bare",
            match kind {
                Kind::Echo => "echo",
                Kind::Handshake => "handshake",
            },
        ]);
        let mut process = Running::start("bare server", command)?;
        process.wait_for_line(READY_WITHIN, LISTENS_ON).await?;
        let line = process.lines().into_iter().find_map(|line| Some(line.split_once(LISTENS_ON)?.1.to_owned()));
        let address = line.context("no address")?.trim().parse()?;
        Ok(Self { process, address })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }
}

/// Serves until it is killed.
///
/// # Errors
/// When the kernel refuses.
#[expect(clippy::print_stdout, reason = "its parent reads where it listens")]
pub fn serve(kind: Kind) -> Result<()> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
        let socket = TcpSocket::new_v4()?;
        socket.bind(([127, 0, 0, 1], 0).into())?;
        let listener: TcpListener = socket.listen(BACKLOG)?;
        println!("{LISTENS_ON}{}", listener.local_addr()?);
        loop {
            let (stream, _) = listener.accept().await?;
            match kind {
                Kind::Echo => drop(tokio::spawn(echo(stream))),
                Kind::Handshake => drop(tokio::spawn(handshake(stream))),
            }
        }
    })
}

async fn echo(mut stream: TcpStream) -> std::io::Result<()> {
    loop {
        // No buffer while nothing comes: the least that a connection can cost.
        stream.readable().await?;
        let mut bytes = [0; 1_024];
        match stream.try_read(&mut bytes) {
            Ok(0) => return Ok(()),
            Ok(count) => stream.write_all(bytes.get(..count).unwrap_or_default()).await?,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

async fn handshake(stream: TcpStream) -> Result<()> {
    stream.set_nodelay(true)?;
    let service = service_fn(|mut request: Request<Incoming>| async move {
        let (response, upgrade) = fastwebsockets::upgrade::upgrade(&mut request)?;
        tokio::spawn(async move {
            let Ok(socket) = upgrade.await else { return };
            let mut io = socket.into_inner();
            let mut bytes = [0; 64];
            while matches!(io.read(&mut bytes).await, Ok(1..)) {}
        });
        Ok::<Response<Empty<Bytes>>, fastwebsockets::WebSocketError>(response)
    });
    http1::Builder::new().serve_connection(TokioIo::new(stream), service).with_upgrades().await?;
    Ok(())
}
