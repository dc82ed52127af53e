//! The broker of `heliograph up`: a nats-server child with a configuration, a port and a name that are kept.
//!
//! After a kill -9 of ours the child lives on as an orphan. It is known by the configuration file that it was started
//! with, so that never two of them run on one folder's streams: the next start adopts it, or stops it first if it was
//! told to sync otherwise.

mod room;

use std::fmt;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use event_log::BrokerLogin;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use room::refuses_in_spite_of_room;

use crate::boot::LazyMark;
use crate::folder::{closed, replace};

/// Whom the broker lets in, and nobody else: other users of the machine reach its port too.
const USER: &str = "heliograph";
/// Names a nats-server to use.
const VARIABLE: &str = "HELIOGRAPH_NATS_SERVER";
/// Below the ports that the system gives to outgoing connections: a client that dials a dead port there can meet itself.
const PORTS: std::ops::Range<u16> = 20_000..32_000;
/// A broker with many streams reads them before it answers.
const READY_WITHIN: Duration = Duration::from_secs(30);
const STOP_WITHIN: Duration = Duration::from_secs(10);
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// A broker that cannot stay up is not started in a tight loop.
const RESTART_AFTER: Duration = Duration::from_millis(200);
/// Starts in a row that may fail, each tried later than the one before: some ten seconds in all.
const FAILURES_MAX: u32 = 10;

/// A disk that has room and still refuses, for a quota perhaps, is no reason to start it over and over.
const RESTART_FOR_ROOM_EVERY: Duration = Duration::from_secs(30);

/// Whether the broker syncs each record before it acknowledges.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sync {
    /// `sync_interval: always`: what is acknowledged survives a power cut.
    #[default]
    Always,
    /// Now and then: faster, and a power cut may cost the last writes.
    Lazy,
}

/// What is kept of a broker between starts, and for commands that go to it themselves.
#[derive(Clone, Serialize, Deserialize)]
struct Kept {
    name: String,
    port: u16,
    sync: Sync,
    pid: Option<i32>,
    /// Whoever has it may read and write everything; empty: a folder of before there was one.
    #[serde(default)]
    password: String,
}

impl Kept {
    fn access(&self) -> Access {
        let login = BrokerLogin { user: USER.to_owned(), password: self.password.clone() };
        Access { url: format!("nats://127.0.0.1:{}", self.port), login }
    }
}

impl fmt::Debug for Kept {
    // Without what no log may have: the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kept").field("name", &self.name).field("port", &self.port).finish_non_exhaustive()
    }
}

/// How a broker is reached.
#[derive(Clone, Debug)]
pub struct Access {
    /// Its address.
    pub url: String,
    /// Who is let in.
    pub login: BrokerLogin,
}

/// A running broker.
#[derive(Debug)]
pub struct Broker {
    folder: PathBuf,
    binary: PathBuf,
    kept: Kept,
    mark: LazyMark,
    /// None: adopted.
    child: Option<Child>,
}

impl Broker {
    /// Adopts the orphan of an earlier run, or starts a broker.
    ///
    /// # Errors
    /// If there is no nats-server, it does not become ready, or it may have lost what it acknowledged (M7).
    pub async fn start(folder: &Path, sync: Sync) -> Result<Self> {
        LazyMark::new(folder, event_log::host_boot_id()).check()?;
        Self::begin(folder, sync, true).await
    }

    /// Starts a broker whose partitions get new epochs, whatever it may have lost; its mark stays until it is stopped.
    ///
    /// # Errors
    /// If there is no nats-server, or it does not become ready.
    pub async fn start_to_renew(folder: &Path) -> Result<Self> {
        Self::begin(folder, Sync::Always, false).await
    }

    /// Whether its mark says that it may have lost what it acknowledged (M7).
    pub fn may_have_lost_any(&self) -> bool {
        self.mark.check().is_err()
    }

    async fn begin(folder: &Path, sync: Sync, marks: bool) -> Result<Self> {
        closed(folder)?;
        let binary = find()?;
        let mark = LazyMark::new(folder, event_log::host_boot_id());
        let kept = match fs::read(state_file(folder)) {
            Ok(bytes) => serde_json::from_slice(&bytes).context("the broker's state file is damaged")?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Kept {
                name: format!("heliograph-{}", Uuid::new_v4()),
                port: free_port()?,
                sync,
                pid: None,
                password: String::new(),
            },
            Err(error) => return Err(error).context("cannot read the broker's state"),
        };
        let mut broker = Self { folder: folder.to_owned(), binary, kept, mark, child: None };
        if let Some(orphan) = broker.orphan()? {
            broker.kept.pid = Some(orphan.as_raw());
            let is_closed = !broker.kept.password.is_empty();
            if is_closed && broker.kept.sync == sync && broker.adopt().await? {
                tracing::info!(port = broker.kept.port, "adopted the broker of an earlier run");
                return Ok(broker);
            }
            broker.end().await?;
        }
        if TcpListener::bind((Ipv4Addr::LOCALHOST, broker.kept.port)).is_err() {
            broker.kept.port = free_port()?;
        }
        broker.kept.sync = sync;
        if broker.kept.password.is_empty() {
            broker.kept.password = format!("{:032x}", rand::random::<u128>());
        }
        match sync {
            _ if !marks => {}
            // What a lazy run of this boot left to the kernel is on disk before anything is promised.
            Sync::Always => broker.mark.clear()?,
            Sync::Lazy => broker.mark.set()?,
        }
        broker.write_config()?;
        broker.spawn().await?;
        Ok(broker)
    }

    /// The broker of an earlier run that lives on: whoever was started with our configuration.
    fn orphan(&self) -> Result<Option<Pid>> {
        let processes = fs::read_dir("/proc").context("cannot list processes")?;
        let pids = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok().map(Pid::from_raw));
        Ok(pids.into_iter().find(|pid| self.is_ours(*pid)))
    }

    /// Whether this process lives and was started with our configuration.
    fn is_ours(&self, pid: Pid) -> bool {
        let Ok(line) = fs::read(format!("/proc/{pid}/cmdline")) else { return false };
        let config = config_file(&self.folder);
        line.split(|byte| *byte == 0).any(|word| word == config.as_os_str().as_encoded_bytes())
    }

    /// Waits for the orphan to answer, which it does once it has read its streams; false: it ended meanwhile.
    async fn adopt(&self) -> Result<bool> {
        let end = Instant::now() + READY_WITHIN;
        while self.pid().is_some_and(|pid| self.is_ours(pid)) {
            if self.answers().await {
                self.keep()?;
                return Ok(true);
            }
            if Instant::now() > end {
                bail!("the broker of an earlier run does not answer; see {}", self.folder.join("log").display());
            }
            sleep(LOOK_AGAIN).await;
        }
        Ok(false)
    }

    /// How it is reached.
    pub fn access(&self) -> Access {
        self.kept.access()
    }

    /// Keeps it running until shut down, then ends it.
    ///
    /// One whose disk was full is started anew once there is room: by itself it would go on refusing.
    ///
    /// # Errors
    /// If it ended and cannot be started again.
    pub async fn supervise(mut self, shutdown: CancellationToken) -> Result<()> {
        let (mut failures, mut rests_until) = (0, Instant::now());
        loop {
            let folder = self.folder.clone();
            let refusing = async {
                sleep_until(rests_until).await;
                refuses_in_spite_of_room(&folder).await;
            };
            tokio::select! {
                () = self.ended() => tracing::warn!(port = self.kept.port, "the broker ended; starting it again"),
                () = refusing => {
                    tracing::warn!(port = self.kept.port, "the broker's disk was full; starting it anew");
                    self.end().await?;
                    rests_until = Instant::now() + RESTART_FOR_ROOM_EVERY;
                }
                () = shutdown.cancelled() => return self.stop().await,
            }
            sleep(RESTART_AFTER * (failures + 1)).await;
            match self.spawn().await {
                Ok(()) => failures = 0,
                // Killed before it answered: that is no other end than one a moment later.
                Err(_ended) if failures < FAILURES_MAX && self.has_ended() => failures += 1,
                Err(error) => return Err(error),
            }
        }
    }

    fn has_ended(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(Some(_))))
    }

    async fn ended(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.wait().await;
            return;
        }
        while self.pid().is_some_and(|pid| self.is_ours(pid)) {
            sleep(LOOK_AGAIN).await;
        }
    }

    /// Ends it; what its mark said is over.
    ///
    /// # Errors
    /// If it does not end in time, or the file system refuses.
    pub async fn stop(mut self) -> Result<()> {
        self.end().await?;
        self.mark.clear()
    }

    /// Ends it, and leaves its mark as it is.
    ///
    /// # Errors
    /// If it does not end in time.
    pub async fn leave(mut self) -> Result<()> {
        self.end().await
    }

    /// SIGTERM, and waits for the end.
    async fn end(&mut self) -> Result<()> {
        if let Some(pid) = self.pid() {
            // Gone already is as good as stopped.
            let _ = kill(pid, Signal::SIGTERM);
        }
        if timeout(STOP_WITHIN, self.ended()).await.is_err() {
            bail!("the broker did not stop within {STOP_WITHIN:?}");
        }
        self.kept.pid = None;
        self.keep()
    }

    fn pid(&self) -> Option<Pid> {
        self.kept.pid.map(Pid::from_raw)
    }

    fn write_config(&self) -> Result<()> {
        let sync = match self.kept.sync {
            Sync::Always => "always",
            Sync::Lazy => "2m",
        };
        let config = format!(
            "# Written at each start.\nserver_name: \"{}\"\nlisten: \"127.0.0.1:{}\"\n\
             authorization {{\n  user: \"{USER}\"\n  password: \"{}\"\n}}\njetstream {{\n  store_dir: {:?}\n  \
             sync_interval: \"{sync}\"\n}}\n",
            self.kept.name,
            self.kept.port,
            self.kept.password,
            self.folder.join("streams"),
        );
        replace(&config_file(&self.folder), config.as_bytes(), 0o600).context("cannot write the broker's configuration")
    }

    async fn spawn(&mut self) -> Result<()> {
        // Name and port stand before the child does: whatever becomes of us, the next start knows it by them.
        self.keep()?;
        let log = fs::File::create(self.folder.join("log"))?;
        let child = Command::new(&self.binary)
            .arg("--config")
            .arg(config_file(&self.folder))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            // A Ctrl-C in the terminal is for us; we stop the broker last.
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {}", self.binary.display()))?;
        self.kept.pid = child.id().and_then(|pid| i32::try_from(pid).ok());
        self.child = Some(child);
        self.keep()?;
        let end = Instant::now() + READY_WITHIN;
        loop {
            let ended = self.child.as_mut().and_then(|child| child.try_wait().ok().flatten());
            if let Some(status) = ended {
                bail!("the broker ended ({status}); see {}", self.folder.join("log").display());
            }
            if self.answers().await {
                return Ok(());
            }
            if Instant::now() > end {
                bail!("the broker was not ready within {READY_WITHIN:?}; see {}", self.folder.join("log").display());
            }
            sleep(LOOK_AGAIN).await;
        }
    }

    /// Whether who listens on our port says our name: the first line that a nats-server sends is `INFO {…}`.
    async fn answers(&self) -> bool {
        let ask = async {
            let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.kept.port)).await.ok()?;
            let mut line = String::new();
            BufReader::new(stream).read_line(&mut line).await.ok()?;
            let info: serde_json::Value = serde_json::from_str(line.strip_prefix("INFO ")?).ok()?;
            Some(info["server_name"] == self.kept.name.as_str() && info["jetstream"] == true)
        };
        matches!(timeout(Duration::from_secs(1), ask).await, Ok(Some(true)))
    }

    fn keep(&self) -> Result<()> {
        replace(&state_file(&self.folder), &serde_json::to_vec_pretty(&self.kept)?, 0o600)
            .context("cannot write the broker's state")
    }
}

/// How the broker of this folder is reached, as its last start wrote it.
///
/// # Errors
/// Nothing was ever started on the folder.
pub fn access_of(folder: &Path) -> Result<Access> {
    let file = state_file(folder);
    let state = fs::read(&file).with_context(|| format!("no {}: start `heliograph up` first", file.display()))?;
    let kept: Kept = serde_json::from_slice(&state).with_context(|| format!("{} is damaged", file.display()))?;
    Ok(kept.access())
}

fn state_file(folder: &Path) -> PathBuf {
    folder.join("state.json")
}

fn config_file(folder: &Path) -> PathBuf {
    folder.join("nats-server.conf")
}

fn free_port() -> Result<u16> {
    let from = rand::random_range(PORTS);
    let ports = (from..PORTS.end).chain(PORTS.start..from);
    ports
        .into_iter()
        .find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
        .context("no free port for the broker")
}

/// The nats-server that is given, or one on PATH.
fn find() -> Result<PathBuf> {
    if let Some(given) = std::env::var_os(VARIABLE) {
        return Ok(PathBuf::from(given));
    }
    let paths = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&paths)
        .map(|folder| folder.join("nats-server"))
        .find(|file| file.is_file())
        .with_context(|| format!("no nats-server on PATH; `cargo xtask up` gets one, or set {VARIABLE}"))
}
