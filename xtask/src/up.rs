//! `up`: from a fresh clone to every role running, in one command.
//!
//! It hands over to `heliograph up`, which says what to do next.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use crate::{Result, broker, process};

/// Gets a broker, builds the binary, and becomes it.
pub(crate) fn up(arguments: &[String]) -> Result<()> {
    let broker = broker::get()?;
    process::run(process::cargo().args(["build", "--release", "--package", "heliograph"]))?;
    let binary = process::target_folder()?.join("release/heliograph");
    // Replaces this process, so that signals and the exit code are the binary's own. Only a failure returns.
    let error = Command::new(&binary).arg("up").args(arguments).env(broker::VARIABLE, broker).exec();
    Err(format!("cannot run {}: {error}", binary.display()))
}
