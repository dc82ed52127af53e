//! Chaos in CI: a short run with a seed that is the same everywhere, and two controls that must be caught.
//!
//! Debug builds: the tests before it have built most of them. Long runs are typed by hand (docs/chaos.md).

use std::path::Path;

use crate::{Result, broker, process};

/// All but a full disk (nats-server refuses writes for good after one, see docs/gaps.md) and the longest pauses.
const FAULTS: &str = "kill-process,kill-all,restart-process,pause-process,kill-broker,restart-broker,pause-broker,\
                      kill-behind-broker,forget-behind-broker,cut-links,hold-links,slow-links,restart-client,forget-client";
/// One run of `loadtest chaos`.
const RUNS: &[&[&str]] = &[
    &["--seed", "7", "--minutes", "1", "--only", FAULTS],
    &["--seed", "1", "--minutes", "0.15", "--control", "dedupe"],
    &["--seed", "1", "--minutes", "0.25", "--control", "members-now"],
];

/// All of them, one after the other; the first that is not as it should be ends it.
pub(crate) fn run(nats_server: Option<&Path>) -> Result<()> {
    let mut build = process::cargo();
    process::run(build.args(["build", "--package", "loadtest", "--package", "heliograph"]))?;
    for arguments in RUNS {
        let mut chaos = process::cargo();
        chaos.args(["run", "--quiet", "--package", "loadtest", "--", "chaos"]).args(*arguments);
        if let Some(nats_server) = nats_server {
            chaos.env(broker::VARIABLE, nats_server);
        }
        process::run(&mut chaos)?;
    }
    Ok(())
}
