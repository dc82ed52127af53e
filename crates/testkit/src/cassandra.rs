//! A real Apache Cassandra node: own folder, own ports on 127.0.0.1, every write synced before it is answered.
//!
//! [`shared`] is the one that the tests of a binary use together, each in a keyspace of its own; a node that a test
//! breaks is its own, by [`Cassandra::start`]. Nothing here speaks CQL. The jars are what `cargo xtask test cql` fetched
//! into the folder that [`JARS_VARIABLE`] names; Java is the one on PATH.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::{env, fs};

use anyhow::{Context, Result, bail};
use tokio::net::TcpStream;
use tokio::sync::{OnceCell, Semaphore, SemaphorePermit};

use crate::children::Running;
use crate::ports::free_port;
use crate::scratch::Scratch;
use crate::wait;

/// Names the folder of Cassandra's jars.
pub const JARS_VARIABLE: &str = "HELIOGRAPH_CASSANDRA";
/// Names a node of a cluster that is there, `host:port`, for the tests that break nothing.
pub const CLUSTER_VARIABLE: &str = "HELIOGRAPH_TEST_CQL";

/// Nodes that one test process breaks at a time: each takes some 600 MiB.
const PARALLEL_NODES: usize = 1;
static TURNS: Semaphore = Semaphore::const_new(PARALLEL_NODES);

/// A node needs 5 to 14 s on two busy cores; far longer beside other builds.
const READY_WITHIN: Duration = Duration::from_secs(180);
const STOPPED_WITHIN: Duration = Duration::from_secs(60);
const READY_LINE: &str = "Starting listening for CQL clients";

/// How Java starts it.
const JVM_OPTIONS: &str = concat!("@", env!("CARGO_MANIFEST_DIR"), "/cassandra/jvm.options");
/// Its configuration, with places to fill in.
const CONFIG: &str = include_str!("../cassandra/cassandra.yaml");
const LOGBACK: &str = include_str!("../cassandra/logback.xml");

/// A node of a test; dropping it kills the process and removes its folder.
///
/// All methods take `&self`, so that one task may break the node while others use it.
#[derive(Debug)]
pub struct Cassandra {
    // Declared first: the process dies before its folder goes.
    process: Mutex<Option<Running>>,
    folder: Scratch,
    jars: PathBuf,
    jmx_port: u16,
    address: String,
    _turn: Option<SemaphorePermit<'static>>,
}

/// The cluster that the tests of this process share, `host:port`: the one that [`CLUSTER_VARIABLE`] names, else a node
/// that starts with the first who asks.
pub async fn shared() -> Result<String> {
    static NODE: OnceCell<Cassandra> = OnceCell::const_new();
    if let Some(given) = env::var_os(CLUSTER_VARIABLE) {
        return given.into_string().ok().with_context(|| format!("{CLUSTER_VARIABLE} is not UTF-8"));
    }
    let node = NODE.get_or_try_init(|| Cassandra::start_in_turn(None)).await?;
    Ok(node.address.clone())
}

impl Cassandra {
    /// Starts a node of the test's own, and returns when it takes CQL.
    pub async fn start() -> Result<Self> {
        let turn = TURNS.acquire().await.context("the nodes' turns are closed")?;
        Self::start_in_turn(Some(turn)).await
    }

    async fn start_in_turn(turn: Option<SemaphorePermit<'static>>) -> Result<Self> {
        let jars = env::var_os(JARS_VARIABLE).map(PathBuf::from);
        let jars = jars.with_context(|| format!("{JARS_VARIABLE} names no folder: `cargo xtask test cql` does"))?;
        let mut tries = 0;
        loop {
            let folder = Scratch::new("cassandra")?;
            let (port, jmx_port) = (free_port()?, free_port()?);
            fs::write(folder.join("cassandra.yaml"), config(folder.path(), port, free_port()?)?)?;
            fs::write(folder.join("logback.xml"), LOGBACK)?;
            let node = Self {
                process: Mutex::new(None),
                folder,
                jars: jars.clone(),
                jmx_port,
                address: format!("127.0.0.1:{port}"),
                _turn: None,
            };
            match node.restart().await {
                Ok(()) => return Ok(Self { _turn: turn, ..node }),
                // Another process may have taken a free port in between.
                Err(error) if tries < 3 && format!("{error:#}").contains("already in use") => tries += 1,
                Err(error) => return Err(error),
            }
        }
    }

    /// Where clients connect, `host:port`; it stays over restarts.
    pub fn address(&self) -> &str {
        &self.address
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

    /// Starts again on the same ports and folder, after a kill if it still runs.
    pub async fn restart(&self) -> Result<()> {
        self.kill()?;
        let mut command = Command::new("java");
        command.current_dir(self.folder.path()).arg(JVM_OPTIONS);
        command.arg(format!("-Dcassandra.jmx.local.port={}", self.jmx_port));
        command.arg("-cp").arg(self.jars.join("*")).arg("org.apache.cassandra.service.CassandraDaemon");
        let mut process = Running::start_with("cassandra", command, Some(self.folder.path()))?;
        process.wait_for_line(READY_WITHIN, READY_LINE).await?;
        // Said a moment before the port is open.
        wait::until(READY_WITHIN, "the node's port", async || TcpStream::connect(&self.address).await.is_ok()).await;
        *self.process() = Some(process);
        Ok(())
    }

    /// SIGSTOP: connections stay open and nothing answers.
    pub fn pause(&self) -> Result<()> {
        self.process().as_ref().context("the node does not run")?.pause()
    }

    /// SIGCONT: goes on after [`pause`](Self::pause).
    pub fn resume(&self) -> Result<()> {
        self.process().as_ref().context("the node does not run")?.resume()
    }

    /// The node's last lines, for an error.
    pub fn tail(&self) -> String {
        self.process().as_ref().map(Running::tail).unwrap_or_default()
    }

    fn process(&self) -> MutexGuard<'_, Option<Running>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The configuration of a node in this folder.
fn config(folder: &Path, port: u16, storage_port: u16) -> Result<String> {
    let folder = folder.to_str().context("the temporary folder's path is not UTF-8")?;
    if folder.contains(['"', '\\']) {
        bail!("the temporary folder's path does not fit into a configuration file: {folder}");
    }
    let fill = [("{folder}", folder), ("{port}", &port.to_string()), ("{storage_port}", &storage_port.to_string())];
    Ok(fill.iter().fold(CONFIG.to_owned(), |text, (place, value)| text.replace(place, value)))
}
