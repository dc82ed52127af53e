//! The system under test: `heliograph up` as a child process, in a folder of its own.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use domain::UserId;
use heliograph::folder;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use testkit::{Running, Scratch};
use tokens::TokenKeys;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

const READY_WITHIN: Duration = Duration::from_secs(30);
const STOP_WITHIN: Duration = Duration::from_secs(30);
const TOKENS_VALID_FOR: Duration = Duration::from_secs(3_600);

/// A running `heliograph up`.
#[derive(Debug)]
pub(crate) struct Target {
    // Declared first: the process dies before its folder goes.
    process: Running,
    folder: Scratch,
    door: Door,
    admin: SocketAddr,
}

/// Where sockets connect, and the key that signs in whoever comes.
#[derive(Debug, Clone)]
pub(crate) struct Door {
    pub(crate) address: SocketAddr,
    keys: TokenKeys,
}

impl Door {
    /// Of the `heliograph up` that runs in a folder.
    pub(crate) fn of(data: &Path) -> Result<Self> {
        let address = folder::address(data)?.parse()?;
        Ok(Self { address, keys: TokenKeys::from_pem(&folder::token_key(data)?)? })
    }

    /// A token that signs `user` in.
    pub(crate) fn token(&self, user: UserId) -> Result<String> {
        Ok(self.keys.mint(user, TOKENS_VALID_FOR)?)
    }
}

impl Target {
    /// Starts one that syncs lazily; returns when it listens.
    pub(crate) async fn start(partitions: u16) -> Result<Self> {
        Self::start_with(partitions, &[]).await
    }

    /// As [`Self::start`], with further arguments of `heliograph up`.
    pub(crate) async fn start_with(partitions: u16, arguments: &[&str]) -> Result<Self> {
        Self::started(partitions, &[&["--lazy-sync"], arguments].concat()).await
    }

    /// As [`Self::start`], but what it acknowledges is on disk.
    pub(crate) async fn start_synced(partitions: u16) -> Result<Self> {
        Self::started(partitions, &[]).await
    }

    async fn started(partitions: u16, arguments: &[&str]) -> Result<Self> {
        let folder = Scratch::new("load")?;
        let admin = free_address().await?;
        let mut command = Command::new(binary()?);
        command
            .args(["up", "--listen", "127.0.0.1:0", "--api", "127.0.0.1:0", "--partitions", &partitions.to_string()])
            .args(["--admin", &admin.to_string(), "--data"])
            .arg(folder.join("data"))
            .args(arguments)
            .env("HELIOGRAPH_NATS_SERVER", testkit::nats::find_binary()?);
        let mut process = Running::start("heliograph up", command)?;
        process.wait_for_line(READY_WITHIN, "listens on").await?;
        let door = Door::of(&folder.join("data"))?;
        Ok(Self { process, folder, door, admin })
    }

    /// Where sockets connect.
    pub(crate) fn gateway(&self) -> SocketAddr {
        self.door.address
    }

    /// Where sockets connect, and who signs in there.
    pub(crate) fn door(&self) -> &Door {
        &self.door
    }

    /// Where the HTTP API is.
    pub(crate) fn api(&self) -> Result<SocketAddr> {
        Ok(folder::api(&self.data())?.parse()?)
    }

    /// The folder that holds everything of it.
    pub(crate) fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// A token that signs `user` in.
    pub(crate) fn token(&self, user: UserId) -> Result<String> {
        self.door.token(user)
    }

    /// One counter, summed over its labels unless they are named too; 0 if it was never touched.
    pub(crate) async fn counter(&self, name: &str) -> Result<f64> {
        let mut stream = TcpStream::connect(self.admin).await?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        if !answer.starts_with("HTTP/1.1 200") {
            bail!("no metrics: {answer}");
        }
        let ours = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{']));
        let values = answer.lines().filter(ours).filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
        Ok(values.sum())
    }

    /// Fails if it printed a warning: a figure taken beside one would not be worth much.
    pub(crate) fn check_quiet(&self) -> Result<()> {
        let bad = |line: &String| line.contains("WARN") || line.contains("ERROR");
        match self.process.lines().into_iter().find(bad) {
            Some(line) => bail!("heliograph said: {line}"),
            None => Ok(()),
        }
    }

    /// CPU time of it and its broker so far, in seconds: (heliograph, nats-server).
    pub(crate) fn cpu(&self) -> Result<(f64, f64)> {
        let broker = broker_pid(&self.folder.join("data/broker/state.json")).context("the broker has no pid")?;
        Ok((cpu_of(self.process.pid())?, cpu_of(broker.as_raw().unsigned_abs())?))
    }

    /// The process.
    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Ends it in order.
    pub(crate) async fn stop(mut self) -> Result<()> {
        let status = self.process.stop(STOP_WITHIN).await?;
        if !status.success() {
            bail!("heliograph ended with {status}:\n{}", self.process.tail());
        }
        Ok(())
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        // Ended in order, there is no broker any more; after a failure it must not outlive its folder.
        let _ = self.process.kill();
        if let Some(pid) = broker_pid(&self.folder.join("data/broker/state.json")) {
            let _ = kill(pid, Signal::SIGKILL);
        }
    }
}

pub(crate) fn broker_pid(state: &Path) -> Option<Pid> {
    let state: serde_json::Value = serde_json::from_slice(&fs::read(state).ok()?).ok()?;
    Some(Pid::from_raw(i32::try_from(state["pid"].as_i64()?).ok()?))
}

/// User and system time of a process, in seconds.
pub(crate) fn cpu_of(pid: u32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name in brackets may hold spaces; the fields are counted behind it.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok()).context("an odd /proc stat");
    Ok((ticks(11)? + ticks(12)?) / 100.0)
}

/// Resident memory of a process, in bytes.
pub(crate) fn rss_of(pid: u32) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kib: f64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib * 1_024.0)
}

async fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0").await?.local_addr()?)
}

/// The binary beside ours, brought up to date by cargo where cargo runs us.
pub(crate) fn binary() -> Result<PathBuf> {
    let ours = std::env::current_exe()?;
    let beside = ours.with_file_name("heliograph");
    if let Some(cargo) = std::env::var_os("CARGO") {
        let release = ours.parent().is_some_and(|folder| folder.ends_with("release"));
        let mut build = Command::new(cargo);
        build.args(["build", "--quiet", "-p", "heliograph"]).args(release.then_some("--release"));
        build.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
        if !build.status()?.success() {
            bail!("heliograph does not build");
        }
    }
    if !beside.is_file() {
        bail!("no {}; build it with `cargo build --release`", beside.display());
    }
    Ok(beside)
}
