//! `heliograph up` as a child process on one data folder, killed and started again on the same address.
//!
//! Its broker outlives a kill; the last one is ended with the folder.

use std::fs;
use std::process::Command;
use std::time::Duration;

use heliograph::folder;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use testkit::{Running, Scratch};
use tokens::TokenKeys;

use crate::cast::Cast;

/// A start reads the streams and the store of the run before.
const UP_WITHIN: Duration = Duration::from_secs(60);
const STOP_WITHIN: Duration = Duration::from_secs(30);
const CRASHES_WITHIN: Duration = Duration::from_secs(60);
/// The lines of level WARN and ERROR that a run may print.
const ALLOWED: [&str; 4] = [
    "the broker ended; starting it again",
    "the broker's disk was full",
    "certificate not reloaded",
    "the keys of an issuer cannot be fetched",
];

/// A data folder, an address, and what runs on them.
#[derive(Debug)]
pub(crate) struct Up {
    pub(crate) running: Option<Running>,
    pub(crate) listen: String,
    /// Whether its broker syncs lazily.
    pub(crate) is_lazy: bool,
    /// Whether commands go to the owner of the same process directly, as they do by default.
    pub(crate) hands_over: bool,
    // Declared last: whoever writes into it ends first.
    scratch: Scratch,
}

impl Up {
    /// A folder that nothing runs on yet.
    pub(crate) fn new() -> Self {
        let (listen, scratch) = (format!("127.0.0.1:{}", free_port()), Scratch::new("up").unwrap());
        Self { running: None, listen, is_lazy: true, hands_over: true, scratch }
    }

    /// The command as a person would type it, on this folder and address.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_heliograph"));
        command.args(["up"]).args(self.is_lazy.then_some("--lazy-sync")).args([
            "--partitions",
            "2",
            "--listen",
            &self.listen,
            "--api",
            "127.0.0.1:0",
            "--data",
        ]);
        command.arg(self.scratch.path());
        command.args((!self.hands_over).then_some("--no-hand-over"));
        command.env("HELIOGRAPH_NATS_SERVER", testkit::nats::find_binary().unwrap());
        command.env_remove("HELIOGRAPH_CRASH_POINT");
        command
    }

    /// Starts it and waits until it listens.
    pub(crate) async fn start(&mut self) {
        self.start_with(self.command()).await;
    }

    /// Starts it so that it dies as from a kill -9 when it passes this point for the n-th time.
    pub(crate) async fn start_to_crash(&mut self, point: &str, countdown: u32) {
        let mut command = self.command();
        command.env("HELIOGRAPH_CRASH_POINT", format!("{point}:{countdown}"));
        self.start_with(command).await;
    }

    pub(crate) async fn start_with(&mut self, command: Command) {
        assert!(self.running.is_none(), "it runs already");
        let mut running = Running::start("heliograph up", command).unwrap();
        running.wait_for_line(UP_WITHIN, "Heliograph listens on").await.unwrap();
        self.running = Some(running);
    }

    /// SIGKILL to the process; its broker lives on.
    pub(crate) fn kill(&mut self) {
        let mut running = self.running.take().expect("it runs");
        running.kill().unwrap();
        assert_quiet(&running);
    }

    /// SIGTERM, and waits for an orderly end, its broker's too.
    pub(crate) async fn stop(&mut self) {
        let mut running = self.running.take().expect("it runs");
        let status = running.stop(STOP_WITHIN).await.unwrap();
        assert!(status.success(), "{status}: {}", running.tail());
        assert_quiet(&running);
    }

    /// Waits until it has died at its crash point.
    pub(crate) async fn crashed(&mut self) {
        let mut running = self.running.take().expect("it runs");
        let status = running.wait_for_end(CRASHES_WITHIN).await.unwrap();
        assert!(!status.success(), "{status}");
        assert_quiet(&running);
    }

    /// Devices that talk to it, whichever process it is.
    pub(crate) fn cast(&self) -> Cast {
        let key = folder::token_key(self.scratch.path()).unwrap();
        Cast::new(vec![format!("ws://{}/v1/socket", self.listen)], TokenKeys::from_pem(&key).unwrap())
    }

    pub(crate) fn folder(&self) -> &std::path::Path {
        self.scratch.path()
    }

    /// The broker's process id as the folder has it, if that process is this folder's broker.
    pub(crate) fn broker(&self) -> Option<Pid> {
        let state = fs::read(self.scratch.join("broker/state.json")).ok()?;
        let state: serde_json::Value = serde_json::from_slice(&state).ok()?;
        let pid = i32::try_from(state["pid"].as_i64()?).ok()?;
        // A pid may be given out again; only a process that was started on this folder is ours.
        let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?;
        line.contains(self.scratch.path().to_str()?).then_some(Pid::from_raw(pid))
    }

    /// SIGKILL to the broker.
    pub(crate) fn kill_broker(&self) {
        kill(self.broker().expect("a broker"), Signal::SIGKILL).unwrap();
    }
}

/// Fails on an unlisted WARN or ERROR line.
fn assert_quiet(running: &Running) {
    let loud = |line: &&String| line.contains(" WARN ") || line.contains(" ERROR ");
    let unlisted = |line: &&String| !ALLOWED.iter().any(|text| line.contains(text));
    let lines = running.lines();
    let lines: Vec<_> = lines.iter().filter(loud).filter(unlisted).cloned().collect();
    assert!(lines.is_empty(), "unlisted WARN or ERROR lines:\n{}", lines.join("\n"));
}

impl Drop for Up {
    fn drop(&mut self) {
        let mut running = self.running.take();
        if let Some(running) = &mut running {
            let _ = running.kill();
        }
        if let Some(broker) = self.broker() {
            let _ = kill(broker, Signal::SIGKILL);
        }
        // A test that fails already keeps its own reason.
        if let Some(running) = running.filter(|_| !std::thread::panicking()) {
            assert_quiet(&running);
        }
    }
}

/// A port that no outgoing connection takes.
pub(crate) fn free_port() -> u16 {
    testkit::free_port().expect("a free port")
}
