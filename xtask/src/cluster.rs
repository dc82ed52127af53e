//! `cluster`: the layout of separate roles, whole on this machine, to try it and to break it.
//!
//! ```text
//! up ─ layout ▶ members (Cassandra, brokers, roles, HAProxy) ▶ target/cluster/state.json ◀ status, kill, down
//! ```
//! Processes outlive the command that started them. Only what stands in the state is ended, and only if it still is the
//! process that was started: a pid may have been given out again.

pub(crate) mod layout;
mod probe;
mod state;
mod steps;

use std::fs::{self, File};
use std::path::PathBuf;

use layout::Member;
use state::State;

use crate::{Result, process};

const USAGE: &str = "cargo xtask cluster up [--debug] | status [--json] | kill NAME | down [--keep]";

/// Where everything of the cluster is: a folder a member, and the state.
struct Folder {
    path: PathBuf,
    /// One command at a time; the system frees it when we end.
    _lock: File,
}

/// Carries out what was typed.
pub(crate) fn cluster(arguments: &[String]) -> Result<()> {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["up"] => steps::up(&Folder::open()?, true),
        ["up", "--debug"] => steps::up(&Folder::open()?, false),
        ["status"] => status(&Folder::open()?, false),
        ["status", "--json"] => status(&Folder::open()?, true),
        ["kill", name] => kill(&Folder::open()?, name),
        ["down"] => steps::down(&Folder::open()?, false),
        ["down", "--keep"] => steps::down(&Folder::open()?, true),
        _ => Err(format!("usage: {USAGE}")),
    }
}

impl Folder {
    fn open() -> Result<Self> {
        let path = process::target_folder()?.join("cluster");
        let failed = |error| format!("{}: {error}", path.display());
        fs::create_dir_all(&path).map_err(failed)?;
        let lock = File::create(path.join("lock")).map_err(failed)?;
        lock.try_lock().map_err(|_taken| "another `cargo xtask cluster` is at work".to_owned())?;
        Ok(Self { path, _lock: lock })
    }

    fn of(&self, member: &Member) -> PathBuf {
        self.path.join(member.name)
    }

    fn state(&self) -> Result<State> {
        State::read(self.path.join("state.json"))
    }
}

/// Prints how every member is; an error if one of them is not alive and ready.
fn status(folder: &Folder, is_json: bool) -> Result<()> {
    let state = folder.state()?;
    let mut wanting = 0;
    let mut items = Vec::new();
    if !is_json {
        println!("{:14} {:12} {:>8}  {:6} {:6} PORTS", "NAME", "ROLE", "PID", "ALIVE", "READY");
    }
    for member in layout::MEMBERS {
        let pid = state.alive(member);
        let is_ready = pid.is_some() && probe::is_ready(member, &state);
        wanting += usize::from(!is_ready);
        let ports = state.ports(member);
        if is_json {
            items.push(serde_json::json!({
                "name": member.name, "role": member.kind.name(), "pid": pid, "alive": pid.is_some(), "ready": is_ready,
                "ports": ports,
            }));
            continue;
        }
        let said = |is: bool| if is { "yes" } else { "no" };
        let ports: Vec<_> = ports.iter().map(|(name, port)| format!("{name} {port}")).collect();
        let pid = pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string());
        println!(
            "{:14} {:12} {:>8}  {:6} {:6} {}",
            member.name,
            member.kind.name(),
            pid,
            said(pid != "-"),
            said(is_ready),
            ports.join(", ")
        );
    }
    if is_json {
        println!("{}", serde_json::Value::Array(items));
    }
    if wanting == 0 { Ok(()) } else { Err(format!("{wanting} of {} are not ready", layout::MEMBERS.len())) }
}

/// SIGKILL to one member; `up` starts it again.
fn kill(folder: &Folder, name: &str) -> Result<()> {
    let member = layout::MEMBERS.iter().find(|member| member.name == name);
    let member = member.ok_or_else(|| {
        let names: Vec<_> = layout::MEMBERS.iter().map(|member| member.name).collect();
        format!("there is no `{name}`, but {}", names.join(", "))
    })?;
    let state = folder.state()?;
    let pid = state.alive(member).ok_or_else(|| format!("{name} does not run"))?;
    steps::signal(pid, "KILL")?;
    steps::ends(&state, &[member], steps::KILLED_WITHIN)?;
    println!("{name}: {pid} is dead; `cargo xtask cluster up` starts it again");
    Ok(())
}
