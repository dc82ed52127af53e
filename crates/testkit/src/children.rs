//! Runs any program as a child: keeps its lines, waits for one of them, sends it signals, sees it end.
//!
//! Dropping a [`Running`] kills the child and waits for it. Should the test process itself be killed, its leash does.
//! Nothing here knows which program it is.

use std::fs;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::{Instant, sleep};

use crate::leash::Leash;

/// Lines kept of one child; older ones go first.
const LINES_KEPT: usize = 10_000;
/// How long the lines of an ended child may still be on their way.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// How long a process may take to stand still after its SIGSTOP.
const STANDS_STILL_WITHIN: Duration = Duration::from_secs(10);
/// Between two looks at a child or at its lines.
const PAUSE: Duration = Duration::from_millis(3);

/// What a child has printed on both its outputs.
#[derive(Debug, Default)]
struct Printed {
    lines: Vec<String>,
    // How many older lines were let go, so that a place in the output stays valid.
    dropped: usize,
}

/// A child process whose output is kept.
#[derive(Debug)]
pub struct Running {
    name: String,
    pid: Pid,
    child: Child,
    leash: Option<Leash>,
    printed: Arc<Mutex<Printed>>,
    readers: Vec<JoinHandle<()>>,
    status: Option<ExitStatus>,
}

impl Running {
    /// Starts `command`; `name` stands in every error text.
    ///
    /// Standard output and error are captured, standard input is closed unless `command` says otherwise before.
    pub fn start(name: &str, command: Command) -> Result<Self> {
        Self::start_with(name, command, None)
    }

    /// As [`start`](Self::start); should this process die without a drop, `folder` is removed behind the child.
    pub(crate) fn start_with(name: &str, mut command: Command, folder: Option<&Path>) -> Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("cannot start {name}: {command:?}"))?;
        let printed = Arc::new(Mutex::new(Printed::default()));
        let mut readers = Vec::new();
        if let Some(output) = child.stdout.take() {
            readers.push(keep_lines(output, Arc::clone(&printed)));
        }
        if let Some(output) = child.stderr.take() {
            readers.push(keep_lines(output, Arc::clone(&printed)));
        }
        let id = child.id();
        let pid = Pid::from_raw(i32::try_from(id).context("a pid above i32")?);
        let mut running = Self { name: name.to_owned(), pid, child, leash: None, printed, readers, status: None };
        // Tied after `running` owns the child: should this fail, drop still ends it.
        running.leash = Some(Leash::tie(id, folder)?);
        Ok(running)
    }

    /// The child's process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// All lines kept so far, both outputs in the order they came.
    pub fn lines(&self) -> Vec<String> {
        lock(&self.printed).lines.clone()
    }

    /// The last lines as one text, for an error.
    pub fn tail(&self) -> String {
        let printed = lock(&self.printed);
        printed.lines[printed.lines.len().saturating_sub(20)..].join("\n")
    }

    /// Waits until a line that contains `text` was printed, and returns it.
    ///
    /// Fails when the child ends first or the deadline passes; the error carries its last lines.
    pub async fn wait_for_line(&mut self, deadline: Duration, text: &str) -> Result<String> {
        let end = Instant::now() + deadline;
        let mut seen = 0;
        let mut last_words = None;
        loop {
            // Asked before the lines are read: what a child printed before it ended is then not missed.
            let ended = self.try_status()?.filter(|_| {
                // Its pipes are drained by threads. A grandchild may hold them open, hence the bound.
                let until = *last_words.get_or_insert_with(|| Instant::now() + LAST_WORDS);
                Instant::now() >= until || self.readers.iter().all(JoinHandle::is_finished)
            });
            {
                let printed = lock(&self.printed);
                let from = seen.max(printed.dropped) - printed.dropped;
                if let Some(line) = printed.lines[from..].iter().find(|line| line.contains(text)) {
                    return Ok(line.clone());
                }
                seen = printed.dropped + printed.lines.len();
            }
            if let Some(status) = ended {
                bail!("{} ended ({status}) before it printed `{text}`; its last lines:\n{}", self.name, self.tail());
            }
            if Instant::now() >= end {
                bail!("{} did not print `{text}` in {deadline:?}; its last lines:\n{}", self.name, self.tail());
            }
            sleep(PAUSE).await;
        }
    }

    /// The exit status, if the child has ended.
    pub fn try_status(&mut self) -> Result<Option<ExitStatus>> {
        if self.status.is_none() {
            self.status = self.child.try_wait().with_context(|| format!("cannot look at {}", self.name))?;
            if self.status.is_some() {
                self.leash = None;
            }
        }
        Ok(self.status)
    }

    /// Waits for the child to end on its own.
    pub async fn wait_for_end(&mut self, deadline: Duration) -> Result<ExitStatus> {
        let end = Instant::now() + deadline;
        loop {
            if let Some(status) = self.try_status()? {
                return Ok(status);
            }
            if Instant::now() >= end {
                bail!("{} still runs after {deadline:?}; its last lines:\n{}", self.name, self.tail());
            }
            sleep(PAUSE).await;
        }
    }

    /// SIGKILL, and waits for the end: at the return the child holds no port, lock or file.
    pub fn kill(&mut self) -> Result<ExitStatus> {
        if let Some(status) = self.status {
            return Ok(status);
        }
        self.signal(Signal::SIGKILL)?;
        self.reap()
    }

    /// SIGTERM, and waits for an orderly end.
    pub async fn stop(&mut self, deadline: Duration) -> Result<ExitStatus> {
        if self.try_status()?.is_none() {
            self.signal(Signal::SIGTERM)?;
        }
        self.wait_for_end(deadline).await
    }

    /// SIGSTOP: at the return the child stands still, and keeps its sockets.
    pub fn pause(&self) -> Result<()> {
        self.must_be_ours(Signal::SIGSTOP)?;
        pause(self.pid)
    }

    /// SIGCONT: the child goes on.
    pub fn resume(&self) -> Result<()> {
        self.signal(Signal::SIGCONT)
    }

    /// Sends any signal to a child that has not been reaped.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.must_be_ours(signal)?;
        kill(self.pid, signal).with_context(|| format!("cannot send {signal} to {}", self.name))
    }

    /// The pid of a child that was reaped may be another's by now.
    fn must_be_ours(&self, signal: Signal) -> Result<()> {
        match self.status {
            Some(status) => bail!("{} has ended ({status}); no {signal} can reach it", self.name),
            None => Ok(()),
        }
    }

    fn reap(&mut self) -> Result<ExitStatus> {
        self.leash = None;
        let status = self.child.wait().with_context(|| format!("cannot wait for {}", self.name))?;
        self.status = Some(status);
        Ok(status)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

/// SIGSTOP to any process, and waits until all its threads stand still.
///
/// The signal alone returns at once, while threads on other cores still run: they may answer one request more.
pub fn pause(pid: Pid) -> Result<()> {
    kill(pid, Signal::SIGSTOP).with_context(|| format!("cannot stop process {pid}"))?;
    let end = Instant::now() + STANDS_STILL_WITHIN;
    while !stands_still(pid).with_context(|| format!("cannot look at the threads of process {pid}"))? {
        if Instant::now() >= end {
            bail!("process {pid} does not stand still after {STANDS_STILL_WITHIN:?}");
        }
        thread::sleep(PAUSE);
    }
    Ok(())
}

/// Whether each thread of the process is stopped, by `/proc` (proc(5), state `T`).
fn stands_still(pid: Pid) -> io::Result<bool> {
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        match fs::read_to_string(thread?.path().join("stat")) {
            // The state follows the name, which is in brackets and may hold any character.
            Ok(stat) if stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('T')) => {}
            Ok(_) => return Ok(false),
            // A thread that ended since the list was read, before or after its file was opened.
            Err(error)
                if matches!(Errno::from_raw(error.raw_os_error().unwrap_or(0)), Errno::ENOENT | Errno::ESRCH) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

fn lock(printed: &Mutex<Printed>) -> MutexGuard<'_, Printed> {
    printed.lock().unwrap_or_else(PoisonError::into_inner)
}

fn keep_lines(output: impl Read + Send + 'static, printed: Arc<Mutex<Printed>>) -> JoinHandle<()> {
    thread::spawn(move || {
        let mut output = BufReader::new(output);
        let mut line = Vec::new();
        while matches!(output.read_until(b'\n', &mut line), Ok(read) if read > 0) {
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            line.clear();
            let mut printed = lock(&printed);
            if printed.lines.len() == LINES_KEPT {
                // A tenth at once, so that a chatty child does not shift the whole list for each line.
                printed.lines.drain(..LINES_KEPT / 10);
                printed.dropped += LINES_KEPT / 10;
            }
            printed.lines.push(text);
        }
    })
}
