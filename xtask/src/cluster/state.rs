//! What runs: pids and ports, kept in a file between commands.

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::layout::{MEMBERS, Member};
use crate::Result;

/// A process by its pid and when it began: a pid alone may be another's by now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Process {
    pid: u32,
    /// In clock ticks since the machine began.
    began: u64,
}

/// What is kept of the cluster.
#[derive(Debug)]
pub(crate) struct State {
    file: PathBuf,
    ports: BTreeMap<(String, String), u16>,
    processes: BTreeMap<String, Process>,
}

impl State {
    /// Nothing runs where there is no file.
    pub(crate) fn read(file: PathBuf) -> Result<Self> {
        let mut state = Self { file, ports: BTreeMap::new(), processes: BTreeMap::new() };
        if !state.file.exists() {
            return Ok(state);
        }
        let named = |what: &str| format!("{}: {what}", state.file.display());
        let text = fs::read_to_string(&state.file).map_err(|error| named(&error.to_string()))?;
        let kept: Value = serde_json::from_str(&text).map_err(|error| named(&error.to_string()))?;
        for member in MEMBERS {
            let kept = &kept[member.name];
            for name in member.ports {
                if let Some(port) = kept["ports"][*name].as_u64().and_then(|port| u16::try_from(port).ok()) {
                    state.ports.insert(key(member, name), port);
                }
            }
            let pid = kept["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok());
            if let (Some(pid), Some(began)) = (pid, kept["began"].as_u64()) {
                state.processes.insert(member.name.to_owned(), Process { pid, began });
            }
        }
        Ok(state)
    }

    /// Written whole or not at all.
    fn write(&self) -> Result<()> {
        let members: BTreeMap<_, _> = MEMBERS
            .iter()
            .map(|member| {
                let process = self.processes.get(member.name);
                let kept = json!({
                    "ports": self.ports(member), "pid": process.map(|process| process.pid),
                    "began": process.map(|process| process.began),
                });
                (member.name, kept)
            })
            .collect();
        let new = self.file.with_extension("new");
        fs::write(&new, json!(members).to_string())
            .and_then(|()| fs::rename(&new, &self.file))
            .map_err(|error| format!("{}: {error}", self.file.display()))
    }

    /// Gives every member ports that nobody uses now; those that it had stay its own.
    pub(crate) fn give_ports(&mut self) -> Result<()> {
        // Held until all are given, so that none is given twice.
        let mut held = Vec::new();
        for member in MEMBERS {
            for name in member.ports {
                if self.ports.contains_key(&key(member, name)) {
                    continue;
                }
                let free = TcpListener::bind("127.0.0.1:0").and_then(|held| Ok((held.local_addr()?.port(), held)));
                let (port, listener) = free.map_err(|error| format!("no free port: {error}"))?;
                held.push(listener);
                self.ports.insert(key(member, name), port);
            }
        }
        self.write()
    }

    /// Keeps which process the member is.
    pub(crate) fn started(&mut self, member: &Member, pid: u32) -> Result<()> {
        let began = began(pid).ok_or_else(|| format!("{} ended at once", member.name))?;
        self.processes.insert(member.name.to_owned(), Process { pid, began });
        self.write()
    }

    /// The member's pid, if it is that process still.
    pub(crate) fn alive(&self, member: &Member) -> Option<u32> {
        let process = self.processes.get(member.name)?;
        (began(process.pid) == Some(process.began)).then_some(process.pid)
    }

    pub(crate) fn port(&self, member: &Member, name: &str) -> Result<u16> {
        let port = self.ports.get(&key(member, name)).copied();
        port.ok_or_else(|| format!("{} has no port `{name}` yet", member.name))
    }

    pub(crate) fn ports(&self, member: &Member) -> BTreeMap<&'static str, u16> {
        member.ports.iter().filter_map(|name| Some((*name, *self.ports.get(&key(member, name))?))).collect()
    }
}

fn key(member: &Member, port: &str) -> (String, String) {
    (member.name.to_owned(), port.to_owned())
}

/// When the process began, if it lives: one that is dead and not waited for does not.
fn began(pid: u32) -> Option<u64> {
    // proc(5): the name is in parentheses and may hold some itself; state is the 3rd field, the start the 22nd.
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.get(stat.rfind(')')? + 1..)?.split_whitespace();
    if matches!(fields.next()?, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn only_the_very_process_that_was_started_is_alive() {
        let folder = crate::process::workspace().join(format!("target/xtask-cluster-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let file = folder.join("state.json");
        let member = &MEMBERS[0];
        let mut state = State::read(file.clone()).unwrap();
        assert_eq!(state.alive(member), None);
        state.give_ports().unwrap();
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        state.started(member, child.id()).unwrap();
        let ports = state.ports(member);
        let mut state = State::read(file).unwrap();
        assert_eq!((state.alive(member), state.ports(member)), (Some(child.id()), ports));
        // The same pid, as if given out again.
        let other = Process { pid: child.id(), began: state.processes[member.name].began + 1 };
        let own = state.processes.insert(member.name.to_owned(), other).unwrap();
        assert_eq!(state.alive(member), None);
        state.processes.insert(member.name.to_owned(), own);
        child.kill().unwrap();
        // Dead, and not waited for yet.
        while state.alive(member).is_some() {
            std::thread::yield_now();
        }
        child.wait().unwrap();
        assert_eq!(state.alive(member), None);
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn no_port_is_given_twice() {
        let folder = crate::process::workspace().join(format!("target/xtask-cluster-ports-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let mut state = State::read(folder.join("state.json")).unwrap();
        state.give_ports().unwrap();
        let all: std::collections::BTreeSet<_> = state.ports.values().copied().collect();
        assert_eq!(all.len(), MEMBERS.iter().map(|member| member.ports.len()).sum::<usize>());
        let before = state.ports.clone();
        state.give_ports().unwrap();
        assert_eq!(state.ports, before);
        fs::remove_dir_all(folder).unwrap();
    }
}
