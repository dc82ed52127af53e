//! Ends a child when the test process dies, however it dies.
//!
//! A small shell reads from a pipe that only this process holds. When the pipe closes without a word (this process was
//! killed), the shell kills the child. On the ordinary way the leash is let go with the child, so that a pid that the
//! system gives out again is never hit. A folder may be tied with the child: it goes with one that is ended so.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};

/// Watches over one child.
#[derive(Debug)]
pub(crate) struct Leash {
    shell: Child,
}

impl Leash {
    /// Ties `pid`, and with it a folder, to the life of this process.
    pub(crate) fn tie(pid: u32, folder: Option<&Path>) -> Result<Self> {
        // Signals from the terminal are ignored, so that the shell outlives the tests by the moment that it needs. The
        // folder is removed when nobody writes to it any more; the bound is for a system that never buries its dead.
        const SCRIPT: &str = "trap '' INT TERM HUP; read -r word; kill -9 \"$1\" 2>/dev/null; [ -n \"$2\" ] || exit; \
                              for turn in 1 2 3 4 5 6 7 8 9; do kill -0 \"$1\" 2>/dev/null || break; sleep 1; done; \
                              rm -rf -- \"$2\"";
        let shell = Command::new("sh")
            .args(["-c", SCRIPT, "leash", &pid.to_string()])
            .arg(folder.unwrap_or_else(|| Path::new("")))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start the shell that watches over a child process")?;
        Ok(Self { shell })
    }
}

impl Drop for Leash {
    fn drop(&mut self) {
        // The shell dies first and so never reaches its `kill`.
        let _ = self.shell.kill();
        let _ = self.shell.wait();
    }
}
