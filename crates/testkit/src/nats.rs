//! A real nats-server for one test: own folder, own port on 127.0.0.1, JetStream on disk.
//!
//! It can be killed, stopped, paused and started again on the same port and folder, and its disk can be set back to an
//! earlier copy (the power cut of a lazily synced broker). Nothing here speaks the NATS protocol.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, sleep};

use crate::children::Running;
use crate::ports::free_port;
use crate::scratch::{Scratch, copy_folder};

mod binary;

pub use binary::find as find_binary;

/// Servers of one test process at a time; the others wait for their turn.
///
/// Two cores carry about this many brokers with their tests. A test that holds some and waits for more counts on others
/// ending, so no test should hold more than two.
pub const PARALLEL_SERVERS: usize = 4;
static TURNS: Semaphore = Semaphore::const_new(PARALLEL_SERVERS);

/// A fresh server needs about 60 ms; one with much state and a busy disk far longer.
const READY_WITHIN: Duration = Duration::from_secs(20);
const STOPPED_WITHIN: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(3);

/// When the server forces its files to disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sync {
    /// After each write, before the acknowledgement.
    Always,
    /// Every two minutes, as the server does by default.
    #[default]
    Lazy,
}

/// How a test wants its server; `NatsOptions::default()` is a lazily synced one on a free port.
#[derive(Debug, Clone, Default)]
pub struct NatsOptions {
    sync: Sync,
    max_file_store: Option<u64>,
    port: Option<u16>,
    extra: String,
}

impl NatsOptions {
    /// Syncs each write before it is acknowledged.
    pub fn sync_always(mut self) -> Self {
        self.sync = Sync::Always;
        self
    }

    /// Sets when files are forced to disk.
    pub fn sync(mut self, sync: Sync) -> Self {
        self.sync = sync;
        self
    }

    /// Bounds what all streams together may take on disk, in bytes.
    pub fn max_file_store(mut self, bytes: u64) -> Self {
        self.max_file_store = Some(bytes);
        self
    }

    /// Listens on this port instead of a free one.
    pub fn port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    /// Adds lines at the end of the server's configuration file.
    pub fn extra_config(mut self, lines: &str) -> Self {
        self.extra.push_str(lines);
        self.extra.push('\n');
        self
    }
}

/// A copy of a server's disk, to be put back later.
#[derive(Debug)]
pub struct SavedStore {
    folder: Scratch,
}

/// A nats-server of one test; dropping it kills the process and removes its folder.
///
/// All methods take `&self`, so that one task may break the server while others use it.
#[derive(Debug)]
pub struct NatsServer {
    // Declared first: the process dies before its folder goes.
    process: Mutex<Option<Running>>,
    folder: Scratch,
    binary: PathBuf,
    port: u16,
    url: String,
    _turn: SemaphorePermit<'static>,
}

impl NatsServer {
    /// Starts a server and returns when it accepts clients and its JetStream is up.
    pub async fn start(options: NatsOptions) -> Result<Self> {
        let binary = binary::find()?;
        let turn = TURNS.acquire().await.context("the servers' turns are closed")?;
        let folder = Scratch::new("nats")?;
        let mut tries = 0;
        loop {
            let port = match options.port {
                Some(port) => port,
                None => free_port()?,
            };
            fs::write(folder.join("nats.conf"), config(&options, port, folder.path())?)?;
            let process = launch(&binary, folder.path())?;
            match ready(process, port, folder.path()).await {
                Ok(process) => {
                    let url = format!("nats://127.0.0.1:{port}");
                    return Ok(Self { process: Mutex::new(Some(process)), folder, binary, port, url, _turn: turn });
                }
                // Another process may have taken the free port in between.
                Err(Failed::PortTaken) if options.port.is_none() && tries < 20 => tries += 1,
                Err(failed) => return Err(failed.into_error(port)),
            }
        }
    }

    /// What a client connects to, `nats://127.0.0.1:PORT`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The client port; it stays over restarts.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The process id, while the server runs.
    pub fn pid(&self) -> Option<u32> {
        self.process().as_ref().map(Running::pid)
    }

    /// The server's own folder: configuration, log and store.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The server's log so far, over all its starts.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.join("nats.log")).unwrap_or_default()
    }

    /// SIGKILL; at the return the process is gone.
    pub fn kill(&self) -> Result<()> {
        if let Some(mut process) = self.process().take() {
            process.kill()?;
        }
        Ok(())
    }

    /// SIGTERM, and waits for the orderly end.
    pub async fn stop(&self) -> Result<()> {
        let process = self.process().take();
        if let Some(mut process) = process {
            process.stop(STOPPED_WITHIN).await?;
        }
        Ok(())
    }

    /// Starts again on the same port and folder, after a kill if it still runs.
    pub async fn restart(&self) -> Result<()> {
        self.kill()?;
        let end = Instant::now() + READY_WITHIN;
        loop {
            let process = launch(&self.binary, self.folder.path())?;
            match ready(process, self.port, self.folder.path()).await {
                Ok(process) => {
                    *self.process() = Some(process);
                    return Ok(());
                }
                Err(Failed::PortTaken) if Instant::now() < end => sleep(PAUSE * 10).await,
                Err(failed) => return Err(failed.into_error(self.port)),
            }
        }
    }

    /// SIGSTOP: connections stay open and nothing answers.
    pub fn pause(&self) -> Result<()> {
        self.process().as_ref().context("the server does not run")?.pause()
    }

    /// SIGCONT: goes on after [`pause`](Self::pause).
    pub fn resume(&self) -> Result<()> {
        self.process().as_ref().context("the server does not run")?.resume()
    }

    /// Copies the disk of a server that does not run.
    pub fn save_store(&self) -> Result<SavedStore> {
        self.must_be_down("saved")?;
        let folder = Scratch::new("saved")?;
        copy_folder(&self.store_folder(), &folder.join("store"))?;
        Ok(SavedStore { folder })
    }

    /// Sets the disk back to `saved`: all written since then is lost, as after a power cut.
    pub fn put_back_store(&self, saved: &SavedStore) -> Result<()> {
        self.must_be_down("put back")?;
        fs::remove_dir_all(self.store_folder())?;
        copy_folder(&saved.folder.join("store"), &self.store_folder())?;
        Ok(())
    }

    /// Puts back one stream of an earlier store: what was written to it since is lost, the others keep theirs.
    pub fn put_back_stream(&self, saved: &SavedStore, name: &str) -> Result<()> {
        self.must_be_down("put back")?;
        let place = Path::new("jetstream/$G/streams").join(name);
        let folder = self.store_folder().join(&place);
        fs::remove_dir_all(&folder).with_context(|| format!("there is no stream {name}"))?;
        Ok(copy_folder(&saved.folder.join("store").join(place), &folder)?)
    }

    /// Where the streams' files lie.
    pub fn store_folder(&self) -> PathBuf {
        self.folder.join("store")
    }

    fn must_be_down(&self, what: &str) -> Result<()> {
        if self.process().is_some() {
            bail!("a store can only be {what} while the server is down");
        }
        Ok(())
    }

    fn process(&self) -> MutexGuard<'_, Option<Running>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Failed {
    PortTaken,
    Other(anyhow::Error),
}

impl Failed {
    fn into_error(self, port: u16) -> anyhow::Error {
        match self {
            Self::PortTaken => anyhow!("port {port} is taken"),
            Self::Other(error) => error,
        }
    }
}

fn config(options: &NatsOptions, port: u16, folder: &Path) -> Result<String> {
    let folder = folder.to_str().context("the temporary folder's path is not UTF-8")?;
    let sync = match options.sync {
        Sync::Always => "always",
        Sync::Lazy => "\"2m\"",
    };
    let mut text = format!(
        "server_name: \"testkit-{port}\"\nhost: \"127.0.0.1\"\nport: {port}\nports_file_dir: \"{folder}\"\nlog_file: \
         \"{folder}/nats.log\"\njetstream {{\n  store_dir: \"{folder}/store\"\n  sync_interval: {sync}\n"
    );
    if let Some(bytes) = options.max_file_store {
        writeln!(text, "  max_file_store: {bytes}")?;
    }
    text.push_str("}\n");
    text.push_str(&options.extra);
    Ok(text)
}

fn launch(binary: &Path, folder: &Path) -> Result<Running> {
    fs::create_dir_all(folder.join("store"))?;
    let mut command = Command::new(binary);
    command.arg("--config").arg(folder.join("nats.conf")).current_dir(folder);
    Running::start("nats-server", command)
}

/// Waits until the server greets with JetStream on.
async fn ready(mut process: Running, port: u16, folder: &Path) -> Result<Running, Failed> {
    let ports_file = folder.join(format!("nats-server_{}.ports", process.pid()));
    let end = Instant::now() + READY_WITHIN;
    loop {
        if let Some(status) = process.try_status().map_err(Failed::Other)? {
            let log = fs::read_to_string(folder.join("nats.log")).unwrap_or_default();
            // Only the lines of this start: an earlier one may have met a taken port.
            let last = log.lines().rev().take(3).any(|line| line.contains("address already in use"));
            if last {
                return Err(Failed::PortTaken);
            }
            let output = process.tail();
            return Err(Failed::Other(anyhow!("nats-server ended at its start ({status})\n{output}\n{log}")));
        }
        // The ports file is named by pid, so it speaks for this process and no other on the port.
        if ports_file.is_file() && greets(port).map_err(|error| Failed::Other(error.into()))? {
            return Ok(process);
        }
        if Instant::now() >= end {
            let log = fs::read_to_string(folder.join("nats.log")).unwrap_or_default();
            return Err(Failed::Other(anyhow!("nats-server was not ready in {READY_WITHIN:?}\n{log}")));
        }
        sleep(PAUSE).await;
    }
}

/// The greeting is one line, `INFO {…}`, said before the client speaks.
fn greets(port: u16) -> io::Result<bool> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let Ok(socket) = TcpStream::connect_timeout(&address, Duration::from_secs(1)) else { return Ok(false) };
    socket.set_read_timeout(Some(Duration::from_secs(1)))?;
    let mut line = String::new();
    Ok(BufReader::new(socket).read_line(&mut line).is_ok() && line.contains("\"jetstream\":true"))
}
