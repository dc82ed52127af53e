//! `buf`: the style of the `.proto` files, and what would break those who speak the published schema.
//!
//! `proto/buf.yaml` has the rules, `proto/baseline.txtpb` the published schema. The baseline changes by
//! `cargo xtask baseline` alone, which takes what breaks nothing; to publish a break, delete it first.

use std::path::PathBuf;
use std::process::Command;

use crate::process::{run, workspace};
use crate::{Result, npm};

const BASELINE: &str = "baseline.txtpb";

/// Lints the schema, and compares it with the published one.
pub(crate) fn check() -> Result<()> {
    npm::install(&pins())?;
    run(buf().arg("lint"))?;
    run(buf().args(["breaking", "--against", BASELINE]))
}

/// Makes today's schema the published one.
pub(crate) fn publish() -> Result<()> {
    npm::install(&pins())?;
    if workspace().join("proto").join(BASELINE).exists() {
        run(buf().args(["breaking", "--against", BASELINE]))?;
    }
    run(buf().args(["build", "--exclude-source-info", "--output", BASELINE]))
}

fn buf() -> Command {
    let mut buf = Command::new(pins().join("node_modules/.bin/buf"));
    buf.current_dir(workspace().join("proto"));
    buf
}

fn pins() -> PathBuf {
    workspace().join("xtask/buf")
}
