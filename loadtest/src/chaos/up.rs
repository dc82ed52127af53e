//! All roles in one process over a broker child, in a folder of its own: killed, stopped and started where it was.

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use testkit::{Running, Scratch};
use tokio::time::{Instant, sleep};

use super::deployment::{Deployment, Host, Said};
use super::disk::Disk;
use super::fault::Kind;
use crate::target::{self, Door};

/// A start reads the streams and the store of the run before; the machine may be busy.
const UP_WITHIN: Duration = Duration::from_secs(90);
const STOP_WITHIN: Duration = Duration::from_secs(60);
const LOOK_AGAIN: Duration = Duration::from_millis(10);
const PARTITIONS: &str = "2";
/// What every process prints once it serves.
const SERVES: &str = "listens on";

/// Which program it is.
#[derive(Clone, Debug)]
pub(crate) enum Program {
    /// `heliograph up`, as it is delivered.
    Product,
    /// Ours, that composes the same roles with two workers, and perhaps without a rule.
    Roles {
        /// The rule that does not hold.
        without: Option<&'static str>,
    },
}

/// The process, its folder and its ports.
#[derive(Debug)]
pub(crate) struct Up {
    // Declared first: the process dies before its folder goes.
    running: Option<Running>,
    program: Program,
    binary: PathBuf,
    listen: SocketAddr,
    api: SocketAddr,
    said: Said,
    folder: PathBuf,
    disk: Option<Disk>,
    _scratch: Scratch,
}

impl Up {
    /// A folder and ports that nothing runs on yet.
    pub(crate) fn new(program: Program) -> Result<Self> {
        let scratch = Scratch::new("chaos")?;
        let folder = scratch.join("data");
        let address = || Ok::<_, anyhow::Error>(SocketAddr::from((Ipv4Addr::LOCALHOST, testkit::free_port()?)));
        let listen = address()?;
        let mut api = address()?;
        while api == listen {
            api = address()?;
        }
        let binary = match program {
            Program::Product => target::binary()?,
            Program::Roles { .. } => std::env::current_exe()?,
        };
        Ok(Self {
            running: None,
            program,
            binary,
            listen,
            api,
            said: Said::default(),
            disk: Disk::over(&folder),
            folder,
            _scratch: scratch,
        })
    }

    /// Who signs in there; needs a first start.
    pub(crate) fn door(&self) -> Result<Door> {
        Door::of(&self.folder)
    }

    fn command(&self) -> Result<Command> {
        let mut command = Command::new(&self.binary);
        match self.program {
            Program::Product => {
                command.args(["up", "--api", &self.api.to_string(), "--partitions", PARTITIONS]);
            }
            Program::Roles { without } => {
                command.args(["roles", "--partitions", PARTITIONS]);
                command.args(without.map(|rule| format!("--without={rule}")));
            }
        }
        command.args(["--listen", &self.listen.to_string(), "--data"]).arg(&self.folder);
        command.env("HELIOGRAPH_NATS_SERVER", testkit::nats::find_binary()?);
        command.env_remove("HELIOGRAPH_CRASH_POINT");
        Ok(command)
    }

    /// The broker that the folder names, if that process is this folder's.
    fn broker(&self) -> Option<Pid> {
        let pid = target::broker_pid(&self.folder.join("broker/state.json"))?;
        // A pid may be given out again; only a process that was started on this folder is ours.
        let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?;
        line.contains(self.folder.to_str()?).then_some(pid)
    }

    /// Takes leave of the process that ended, for whatever reason.
    fn ended(&mut self, running: &Running) {
        note_lines(&mut self.said.lines, running, &self.folder);
    }
}

impl Deployment for Up {
    fn processes(&self) -> usize {
        1
    }

    fn brokers(&self) -> usize {
        1
    }

    fn gateways(&self) -> Vec<SocketAddr> {
        vec![self.listen]
    }

    fn api(&self) -> Option<SocketAddr> {
        matches!(self.program, Program::Product).then_some(self.api)
    }

    fn disk(&self) -> Option<&Disk> {
        self.disk.as_ref()
    }

    fn can(&self, kind: Kind) -> bool {
        match kind {
            Kind::FillDisk => self.disk.is_some(),
            Kind::HoldWorker => matches!(self.program, Program::Roles { .. }),
            Kind::KillProcess
            | Kind::KillAll
            | Kind::RestartProcess
            | Kind::PauseProcess
            | Kind::FreezeProcess
            | Kind::KillBroker
            | Kind::RestartBroker
            | Kind::PauseBroker
            | Kind::FreezeBroker
            | Kind::KillBehindBroker
            | Kind::ForgetBehindBroker
            | Kind::CutLinks
            | Kind::HoldLinks
            | Kind::SlowLinks
            | Kind::RestartClient
            | Kind::ForgetClient => true,
        }
    }

    fn pid(&mut self, host: Host) -> Option<Pid> {
        match host {
            Host::Process(_) => {
                self.look();
                Pid::from_raw(i32::try_from(self.running.as_ref()?.pid()).ok()?).into()
            }
            Host::Broker(_) => self.broker(),
        }
    }

    fn kill(&mut self, host: Host) -> Result<()> {
        match host {
            Host::Process(_) => {
                self.look();
                if let Some(mut running) = self.running.take() {
                    running.kill()?;
                    self.ended(&running);
                }
            }
            Host::Broker(_) => {
                if let Some(broker) = self.broker() {
                    kill(broker, Signal::SIGKILL).context("the broker")?;
                }
            }
        }
        Ok(())
    }

    async fn stop(&mut self, host: Host) -> Result<()> {
        match host {
            Host::Process(_) => {
                self.look();
                if let Some(mut running) = self.running.take() {
                    let status = running.stop(STOP_WITHIN).await?;
                    self.ended(&running);
                    if !status.success() {
                        self.said.ends.push(format!("told to end, it said {status}: {}", running.tail()));
                    }
                }
            }
            Host::Broker(_) => {
                if let Some(broker) = self.broker() {
                    kill(broker, Signal::SIGTERM).context("the broker")?;
                }
            }
        }
        Ok(())
    }

    async fn start(&mut self, host: Host) -> Result<()> {
        self.look();
        match host {
            Host::Process(_) if self.running.is_none() => {
                let mut running = Running::start("the roles", self.command()?)?;
                self.said.starts += 1;
                let serves = running.wait_for_line(UP_WITHIN, SERVES).await;
                if serves.is_err() {
                    self.ended(&running);
                }
                serves?;
                self.running = Some(running);
            }
            Host::Process(_) => {}
            Host::Broker(_) => {
                let end = Instant::now() + UP_WITHIN;
                while self.broker().is_none() {
                    if Instant::now() > end {
                        bail!("nobody starts the broker again");
                    }
                    sleep(LOOK_AGAIN).await;
                }
            }
        }
        Ok(())
    }

    fn look(&mut self) {
        let Some(running) = &mut self.running else { return };
        let Ok(Some(status)) = running.try_status() else { return };
        let text = format!("it ended on its own ({status}): {}", running.tail());
        if let Some(running) = self.running.take() {
            self.ended(&running);
        }
        self.said.ends.push(text);
    }

    fn said(&self) -> &Said {
        &self.said
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        if let Some(running) = &mut self.running {
            let _ = running.kill();
        }
        if let Some(broker) = self.broker() {
            let _ = kill(broker, Signal::SIGKILL);
        }
    }
}

/// What it said, loud lines only, each without its time and without the name of its folder.
fn note_lines(noted: &mut BTreeMap<String, u64>, running: &Running, folder: &Path) {
    for line in running.lines() {
        let loud = [" WARN ", " ERROR "].into_iter().find_map(|level| line.find(level));
        let panicked = line.contains("panicked at").then_some(0);
        if let Some(from) = loud.or(panicked) {
            let line = line[from..].trim().replace(&folder.display().to_string(), "DATA");
            *noted.entry(line).or_default() += 1;
        }
    }
}
