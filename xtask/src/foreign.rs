//! Gets what the clients of other makers need: a Python with `websockets`, npm's `ws`, a Chromium, and `HAProxy`.
//!
//! Pins stand beside the scripts in `clients/foreign/`. Chromium and `HAProxy` are not pinned: they come from the system,
//! as users and operators have them.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, io};

use crate::process::{run, workspace};
use crate::{Result, npm};

/// What Chromium is called on PATH.
const CHROMIUM: &[&str] = &["chromium", "chromium-browser", "google-chrome"];

/// What `HAProxy` is called; only root has its folder on PATH everywhere.
const HAPROXY: &[&str] = &["haproxy", "/usr/sbin/haproxy"];

/// The tests' environment: which variable names which program.
pub(crate) fn prepare() -> Result<Vec<(&'static str, PathBuf)>> {
    let scripts = workspace().join("clients/foreign");
    npm::install(&scripts)?;
    // Makes the certificate of HAProxy's test.
    program("openssl", &["openssl"])?;
    // Types what the README says.
    program("curl", &["curl"])?;
    Ok(vec![
        ("HELIOGRAPH_FOREIGN_PYTHON", python(&scripts)?),
        ("HELIOGRAPH_FOREIGN_CHROMIUM", program("chromium", CHROMIUM)?),
        ("HELIOGRAPH_FOREIGN_HAPROXY", haproxy()?),
    ])
}

/// The system's `HAProxy`.
pub(crate) fn haproxy() -> Result<PathBuf> {
    program("haproxy", HAPROXY)
}

/// A Python of its own, with the packages of `requirements.txt`; pip checks each against its hash there.
fn python(scripts: &Path) -> Result<PathBuf> {
    let folder = workspace().join(".tools/foreign-python");
    let failed = |error: io::Error| format!("cannot prepare {}: {error}", folder.display());
    let requirements = scripts.join("requirements.txt");
    let (wanted, installed) = (fs::read(&requirements).map_err(failed)?, folder.join(".installed"));
    let python = folder.join("bin/python");
    if fs::read(&installed).is_ok_and(|list| list == wanted) && succeeds(&python, &["--version"]) {
        return Ok(python);
    }
    if !succeeds("python3", &["-c", "import sys; sys.exit(sys.version_info < (3, 11))"]) {
        return Err("no Python 3.11 or newer on PATH as python3; install it".to_owned());
    }
    if !succeeds("python3", &["-c", "import ensurepip"]) {
        install_package("python3-venv")?;
    }
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder))?;
    let mut pip = Command::new(&python);
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input", "--no-deps"]);
    run(pip.args(["--only-binary=:all:", "--require-hashes", "--requirement"]).arg(&requirements))?;
    // Last: an install that is broken off does not look done.
    fs::write(&installed, wanted).map_err(failed)?;
    Ok(python)
}

/// A program of the system, from the package of this name where it is missing.
pub(crate) fn program(package: &str, names: &[&str]) -> Result<PathBuf> {
    if let Some(found) = on_path(names) {
        return Ok(found);
    }
    install_package(package)?;
    on_path(names).ok_or_else(|| format!("the package `{package}` brought no program of that name"))
}

/// By apt, where that is there and allowed; else the person has to.
fn install_package(package: &str) -> Result<()> {
    let is_root = fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0);
    if !is_root || on_path(&["apt-get"]).is_none() {
        return Err(format!("the package `{package}` is missing, and only root can install it with apt-get; do so"));
    }
    eprintln!("installing the package `{package}`");
    let apt = || {
        let mut apt = Command::new("apt-get");
        apt.env("DEBIAN_FRONTEND", "noninteractive").arg("--quiet=2");
        apt
    };
    run(apt().arg("update"))?;
    run(apt().args(["install", "--yes", "--no-install-recommends", package]).stdout(Stdio::null()))
}

fn on_path(names: &[&str]) -> Option<PathBuf> {
    let paths = env::var_os("PATH")?;
    let folders: Vec<_> = env::split_paths(&paths).collect();
    names.iter().flat_map(|name| folders.iter().map(move |folder| folder.join(name))).find(|path| path.is_file())
}

fn succeeds(program: impl AsRef<std::ffi::OsStr>, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(arguments).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_found_by_its_first_name_that_there_is() {
        assert_eq!(on_path(&["there-is-no-such-program"]), None);
        assert!(on_path(&["there-is-no-such-program", "sh"]).is_some_and(|path| path.ends_with("sh")));
    }

    #[test]
    fn all_that_is_installed_for_the_scripts_is_pinned() {
        let read = |name: &str| fs::read_to_string(workspace().join("clients/foreign").join(name)).unwrap();
        assert!(read("requirements.txt").contains("--hash=sha256:"));
        for folder in ["clients/foreign", "xtask/buf"] {
            let lock = fs::read_to_string(workspace().join(folder).join("package-lock.json")).unwrap();
            let lock: serde_json::Value = serde_json::from_str(&lock).unwrap();
            let packages = lock["packages"].as_object().unwrap();
            for (name, package) in packages.iter().filter(|(name, _)| !name.is_empty()) {
                assert!(package["integrity"].is_string(), "{folder}: {name} has no hash");
                assert!(package["resolved"].is_null(), "{folder}: {name} names a registry");
            }
        }
    }
}
