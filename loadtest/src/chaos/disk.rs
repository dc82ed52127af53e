//! A disk of its own for the deployment, small enough to be filled: a tmpfs, where we may mount one.

use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};

/// What the streams of two partitions reserve, which must be below three quarters of the disk; filled, it is in memory.
const MIB: usize = 2_048;
const BALLAST: &str = "ballast";

/// A mounted tmpfs, gone with this.
#[derive(Debug)]
pub(crate) struct Disk {
    folder: PathBuf,
}

impl Disk {
    /// Mounts one over an empty folder; none where that is not allowed.
    pub(crate) fn over(folder: &Path) -> Option<Self> {
        fs::create_dir_all(folder).ok()?;
        let options = format!("size={MIB}m,mode=0700");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &options, "heliograph-chaos"]).arg(folder);
        let mounted = mount.stdin(Stdio::null()).stderr(Stdio::null()).status();
        mounted.is_ok_and(|status| status.success()).then(|| Self { folder: folder.to_owned() })
    }

    /// Takes all the room that is left.
    pub(crate) fn fill(&self) -> Result<()> {
        let mut ballast = File::create(self.folder.join(BALLAST)).context("no ballast")?;
        let mut piece = vec![0_u8; 1 << 20];
        while !piece.is_empty() {
            match ballast.write(&piece) {
                Ok(_) => {}
                // Smaller and smaller, until not a page is left.
                Err(error) if error.kind() == ErrorKind::StorageFull => piece.truncate(piece.len() / 2),
                Err(error) => return Err(error).context("the disk cannot be filled"),
            }
        }
        Ok(())
    }

    /// Gives it back.
    pub(crate) fn free(&self) -> Result<()> {
        match fs::remove_file(self.folder.join(BALLAST)) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error).context("the disk stays full"),
            _ => Ok(()),
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: a process of ours that is on its way out may still hold a file.
        let _ = Command::new("umount").arg("-l").arg(&self.folder).stderr(Stdio::null()).status();
    }
}
