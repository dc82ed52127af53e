//! Installs the npm packages of a folder, exactly those of its lock file; npm checks each against its hash there.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::Result;
use crate::process::{run, workspace};

/// The oldest Node.js that the packages run on.
const NODE_OLDEST: u32 = 20;

/// Sees to it that `node_modules` of this folder is what its lock file says.
pub(crate) fn install(folder: &Path) -> Result<()> {
    let failed = |error: io::Error| format!("cannot prepare {}: {error}", folder.display());
    // Two runs at once: the second waits here and finds what the first has installed.
    let tools = workspace().join(".tools");
    fs::create_dir_all(&tools).map_err(failed)?;
    let lock = File::create(tools.join("npm-lock")).map_err(failed)?;
    lock.lock().map_err(failed)?;
    let wanted = fs::read(folder.join("package-lock.json")).map_err(failed)?;
    let installed = folder.join("node_modules/.installed");
    if fs::read(&installed).is_ok_and(|lock_file| lock_file == wanted) {
        return Ok(());
    }
    if node_version().is_none_or(|version| version < NODE_OLDEST) {
        return Err(format!("no Node.js {NODE_OLDEST} or newer on PATH; install it, with npm"));
    }
    let mut npm = Command::new("npm");
    // No script of a package runs here: none of them needs to.
    npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]).current_dir(folder);
    run(&mut npm)?;
    // Last: an install that is broken off does not look done.
    fs::write(&installed, wanted).map_err(failed)
}

fn node_version() -> Option<u32> {
    let output = Command::new("node").arg("--version").stderr(Stdio::null()).output().ok()?;
    String::from_utf8(output.stdout).ok()?.trim().strip_prefix('v')?.split('.').next()?.parse().ok()
}
