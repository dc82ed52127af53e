//! A folder for one test, removed at its end.
//!
//! Kept, and its path said, when the test fails and `HELIOGRAPH_KEEP_SCRATCH` is set.

use std::path::{Path, PathBuf};
use std::{env, fs, io, thread};

use anyhow::{Context, Result};
use tempfile::TempDir;

/// Set it to look at what a failed test left.
pub const KEEP_VARIABLE: &str = "HELIOGRAPH_KEEP_SCRATCH";

/// A temporary folder that dies with its test.
#[derive(Debug)]
pub struct Scratch {
    // None only while it is being dropped.
    folder: Option<TempDir>,
}

impl Scratch {
    /// Makes a fresh folder whose name starts with `name`.
    pub fn new(name: &str) -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix(&format!("heliograph-{name}-"))
            .tempdir()
            .context("cannot make a temporary folder")?;
        Ok(Self { folder: Some(folder) })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        self.folder.as_ref().expect("the folder is there until drop").path()
    }

    /// A path inside the folder.
    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path().join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let Some(folder) = self.folder.take() else { return };
        if thread::panicking() && env::var_os(KEEP_VARIABLE).is_some() {
            eprintln!("kept {}", folder.keep().display());
        }
    }
}

/// Copies a folder with all that is in it; `to` must not exist.
pub(crate) fn copy_folder(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), &target)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_is_there_and_goes_with_its_owner() {
        let scratch = Scratch::new("own").unwrap();
        fs::write(scratch.join("file"), b"x").unwrap();
        let path = scratch.path().to_path_buf();
        assert!(path.is_dir());
        drop(scratch);
        assert!(!path.exists());
    }
}
