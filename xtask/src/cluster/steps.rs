//! From nothing to a cluster that is ready, and back.

use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::layout::{self, Kind, MEMBERS, Member, Programs};
use super::state::State;
use super::{Folder, probe};
use crate::process::{self, run};
use crate::{Result, broker, cassandra, foreign};

/// Cassandra on a machine that builds beside it takes a minute.
const READY_WITHIN: Duration = Duration::from_secs(180);
/// A gateway drains, an owner hands over.
const STOPPED_WITHIN: Duration = Duration::from_secs(30);
pub(super) const KILLED_WITHIN: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// The keys that sign tokens: made in the folder of the first of those that have them, and copied to the others.
const KEY_FILE: &str = "token-key.pem";

/// Starts whatever of the layout does not run, and waits until all of it is ready.
pub(super) fn up(folder: &Folder, is_release: bool) -> Result<()> {
    let programs = programs(is_release)?;
    let mut state = folder.state()?;
    state.give_ports()?;
    let is_base = |member: &&Member| matches!(member.kind, Kind::Cassandra | Kind::Nats);
    let base: Vec<_> = MEMBERS.iter().filter(is_base).collect();
    start(folder, &mut state, &programs, &base)?;
    let mut schema = Command::new(&programs.heliograph);
    schema.args(["schema", "apply", "--store", &layout::store(&state)?, "--replicas", "datacenter1=1"]);
    run(schema.stdout(Stdio::null()))?;
    share_keys(folder, &programs)?;
    let roles: Vec<_> = MEMBERS.iter().filter(|member| matches!(member.kind, Kind::Role(_))).collect();
    start(folder, &mut state, &programs, &roles)?;
    let proxy: Vec<_> = layout::all(Kind::Proxy).collect();
    for proxy in &proxy {
        certify(&folder.of(proxy))?;
    }
    start(folder, &mut state, &programs, &proxy)?;
    super::status(folder, false)?;
    say(folder, &state, &programs)
}

fn programs(is_release: bool) -> Result<Programs> {
    let nats_server = broker::get()?;
    let jars = cassandra::jars_and_java()?;
    let haproxy = foreign::haproxy()?;
    let mut build = process::cargo();
    build.args(["build", "--package", "heliograph"]).args(is_release.then_some("--release"));
    run(&mut build)?;
    let kind = if is_release { "release" } else { "debug" };
    let heliograph = process::target_folder()?.join(kind).join("heliograph");
    Ok(Programs { heliograph, nats_server, cassandra_jars: jars, haproxy })
}

/// Starts those that do not run, and waits until all of them are ready.
fn start(folder: &Folder, state: &mut State, programs: &Programs, members: &[&Member]) -> Result<()> {
    for member in members {
        if state.alive(member).is_some() {
            continue;
        }
        let mut command = layout::command(member, &folder.path, state, programs)?;
        let failed = |error| format!("{}: {error}", member.name);
        let log = File::options().create(true).append(true).open(log(folder, member)).map_err(failed)?;
        let also = log.try_clone().map_err(failed)?;
        // A group of its own, so that what ends this command does not end it.
        command.stdin(Stdio::null()).stdout(log).stderr(also).process_group(0);
        let child = command.spawn().map_err(failed)?;
        state.started(member, child.id())?;
    }
    let begun = Instant::now();
    for member in members {
        while !probe::is_ready(member, state) {
            if state.alive(member).is_none() || begun.elapsed() > READY_WITHIN {
                return Err(format!("{} is not ready; {}", member.name, tail(&log(folder, member))));
            }
            sleep(LOOK_EVERY);
        }
    }
    Ok(())
}

fn log(folder: &Folder, member: &Member) -> std::path::PathBuf {
    folder.of(member).join("log")
}

/// The last lines of a log.
fn tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<_> = text.lines().rev().take(10).collect();
    format!("{} ends so:\n{}", log.display(), lines.into_iter().rev().collect::<Vec<_>>().join("\n"))
}

/// The same keys for every process that signs or checks tokens.
fn share_keys(folder: &Folder, programs: &Programs) -> Result<()> {
    let mut holders = MEMBERS.iter().filter(|member| matches!(member.kind, Kind::Role("gateway" | "api")));
    let first = folder.of(holders.next().ok_or("no gateway in the layout")?);
    if !first.join(KEY_FILE).exists() {
        let mut generate = Command::new(&programs.heliograph);
        run(generate.args(["token", "generate", "--data"]).arg(&first).stdout(Stdio::null()))?;
    }
    for other in holders {
        let (own, failed) = (folder.of(other), |error| format!("{}: {error}", other.name));
        fs::create_dir_all(&own).map_err(failed)?;
        fs::copy(first.join(KEY_FILE), own.join(KEY_FILE)).map_err(failed)?;
    }
    Ok(())
}

/// An authority for this machine alone, and the proxy's certificate: clients refuse one that vouches for itself.
fn certify(own: &Path) -> Result<()> {
    let folder = own.join("certificates");
    if folder.join("localhost.pem").exists() {
        return Ok(());
    }
    let failed = |error| format!("{}: {error}", own.display());
    fs::create_dir_all(&folder).map_err(failed)?;
    let program = foreign::program("openssl", &["openssl"])?;
    let [authority, authority_key, certificate, key] =
        ["authority.pem", "authority.key", "certificate.pem", "certificate.key"].map(|name| own.join(name));
    let make = |name: &str, extensions: &[&str], (certificate, key): (&Path, &Path), signer: Option<(&Path, &Path)>| {
        let mut openssl = Command::new(&program);
        openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30"]);
        openssl.args(["-subj", &format!("/CN={name}")]).args(extensions.iter().flat_map(|one| ["-addext", one]));
        if let Some((authority, its_key)) = signer {
            openssl.arg("-CA").arg(authority).arg("-CAkey").arg(its_key);
        }
        run(openssl.arg("-keyout").arg(key).arg("-out").arg(certificate).stderr(Stdio::null()))
    };
    make("Heliograph cluster", &[], (&authority, &authority_key), None)?;
    let of_leaf = ["basicConstraints=critical,CA:FALSE", "subjectAltName=DNS:localhost,IP:127.0.0.1"];
    make("localhost", &of_leaf, (&certificate, &key), Some((&authority, &authority_key)))?;
    let both = [fs::read(&certificate).map_err(failed)?, fs::read(&key).map_err(failed)?].concat();
    fs::write(folder.join("localhost.pem"), both).map_err(failed)
}

/// How to use it.
fn say(folder: &Folder, state: &State, programs: &Programs) -> Result<()> {
    let proxy = layout::all(Kind::Proxy).next().ok_or("no proxy in the layout")?;
    let port = state.port(proxy, "listen")?;
    let gateway = folder.path.join("gateway-1");
    let authority = folder.of(proxy).join("authority.pem");
    println!(
        "\nTry it, in two terminals:\n\n  export HELIOGRAPH_ADDRESS=wss://127.0.0.1:{port} HELIOGRAPH_TRUSTED_AUTHORITY={}\n  \
         {} chat --data {} --as alice --to bob\n\nThe HTTP API: https://127.0.0.1:{port}/docs. What a member says is in its folder in {}.",
        authority.display(),
        programs.heliograph.display(),
        gateway.display(),
        folder.path.display()
    );
    Ok(())
}

/// Ends all that runs, in the order in which clients hear of it properly; then forgets it, unless it is kept.
pub(super) fn down(folder: &Folder, keeps: bool) -> Result<()> {
    let state = folder.state()?;
    let of = |fits: fn(Kind) -> bool| MEMBERS.iter().filter(|member| fits(member.kind)).collect::<Vec<_>>();
    let (roles, base) =
        (of(|kind| matches!(kind, Kind::Role(_))), of(|kind| matches!(kind, Kind::Cassandra | Kind::Nats)));
    let mut ended = 0;
    for members in [of(|kind| kind == Kind::Proxy), roles, base] {
        let running: Vec<_> = members.iter().filter_map(|member| state.alive(member)).collect();
        for pid in &running {
            signal(*pid, "TERM")?;
        }
        ended += running.len();
        if ends(&state, &members, STOPPED_WITHIN).is_err() {
            for member in &members {
                if let Some(pid) = state.alive(member) {
                    println!("{} does not end by itself", member.name);
                    signal(pid, "KILL")?;
                }
            }
            ends(&state, &members, KILLED_WITHIN)?;
        }
    }
    println!("{ended} of {} ended", MEMBERS.len());
    if keeps {
        Ok(())
    } else {
        fs::remove_dir_all(&folder.path).map_err(|error| format!("{}: {error}", folder.path.display()))
    }
}

/// Waits until none of them is alive.
pub(super) fn ends(state: &State, members: &[&Member], within: Duration) -> Result<()> {
    let begun = Instant::now();
    while let Some(member) = members.iter().find(|member| state.alive(member).is_some()) {
        if begun.elapsed() > within {
            return Err(format!("{} still runs", member.name));
        }
        sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// By the shell, whose `kill` every system has.
pub(super) fn signal(pid: u32, name: &str) -> Result<()> {
    run(Command::new("sh").args(["-c", &format!("kill -{name} {pid}")]))
}
