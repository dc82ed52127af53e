//! Chaos in CI: a short run with a seed that is the same everywhere, and two controls that must be caught.
//!
//! The binaries are those that the tests before it have built. Long runs are typed by hand (docs/chaos.md).

use std::path::Path;
use std::process::Command;

use crate::{Result, broker, process};

/// All but a full disk (nats-server refuses writes for good after one, see docs/gaps.md) and the longest pauses.
const FAULTS: &str = "kill-process,kill-all,restart-process,pause-process,kill-broker,restart-broker,pause-broker,\
                      kill-behind-broker,forget-behind-broker,cut-links,hold-links,slow-links,restart-client,forget-client";
/// A run of `loadtest chaos` that must find every rule kept.
const RUN: &[&str] = &["--seed", "7", "--minutes", "1", "--only", FAULTS];
/// Runs with a rule left out, under the faults that show it, of which one in [`TRIES`] must be caught: whether a message is
/// on its way just then is a matter of chance, of a membership that changes meanwhile in about every second run.
const CONTROLS: &[&[&str]] = &[
    &["--minutes", "0.25", "--only", "cut-links,hold-links,kill-process,kill-all", "--control", "dedupe"],
    &["--minutes", "0.5", "--control", "members-now"],
];
const TRIES: u32 = 8;

/// All of them, one after the other; the first that is not as it should be ends it.
pub(crate) fn run(nats_server: Option<&Path>) -> Result<()> {
    // Binaries come with the tests of their packages. To build them alone would build their dependencies anew, with the
    // features that tests do not ask for.
    process::run(process::cargo().args(["test", "--workspace", "--no-run", "--quiet"]))?;
    let loadtest = process::target_folder()?.join("debug/loadtest");
    let chaos = |arguments: &[&str]| {
        let mut chaos = Command::new(&loadtest);
        // It would build the other one by itself.
        chaos.arg("chaos").args(arguments).current_dir(process::workspace()).env_remove("CARGO");
        if let Some(nats_server) = nats_server {
            chaos.env(broker::VARIABLE, nats_server);
        }
        process::run(&mut chaos)
    };
    chaos(RUN)?;
    for control in CONTROLS {
        let caught = |seed: u32| chaos(&[&["--seed", &seed.to_string()], *control].concat()).is_ok();
        if !(1..=TRIES).any(caught) {
            return Err(format!("`{}` was not caught in {TRIES} tries", control.join(" ")));
        }
    }
    Ok(())
}
