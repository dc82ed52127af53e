//! Ends a child when the test process dies, however it dies.
//!
//! A small shell reads from a pipe that only this process holds. When the pipe closes without a word (this process was
//! killed), the shell kills the child. On the ordinary way the leash is let go with the child, so that a pid that the
//! system gives out again is never hit.

use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};

/// Watches over one child.
#[derive(Debug)]
pub(crate) struct Leash {
    shell: Child,
}

impl Leash {
    /// Ties `pid` to the life of this process.
    pub(crate) fn tie(pid: u32) -> Result<Self> {
        // Signals from the terminal are ignored, so that the shell outlives the tests by the moment that it needs.
        let shell = Command::new("sh")
            .args(["-c", "trap '' INT TERM HUP; read -r word; kill -9 \"$1\" 2>/dev/null", "leash", &pid.to_string()])
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
