//! The mark of a lazily synced broker: which boot of the host its last writes belong to.
//!
//! M7: such a broker acknowledges what the kernel still holds. If the host went down meanwhile, both streams may have
//! lost their tails alike, which no comparison of the two can show; so nothing may go on as if they were whole.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

/// The mark in one broker's folder.
#[derive(Debug)]
pub(crate) struct LazyMark {
    folder: PathBuf,
    file: PathBuf,
    boot: String,
}

impl LazyMark {
    /// The mark of this folder, on a host in this boot; no boot id is a boot like any other.
    pub(crate) fn new(folder: &Path, boot: Option<String>) -> Self {
        Self {
            folder: folder.to_owned(),
            file: folder.join("lazy-boot"),
            boot: boot.unwrap_or_else(|| "unknown".to_owned()),
        }
    }

    /// Refuses if the broker ran lazily synced in another boot and was never stopped in order.
    ///
    /// # Errors
    /// As said, or what the file system says.
    pub(crate) fn check(&self) -> Result<()> {
        match fs::read_to_string(&self.file) {
            Ok(boot) if boot == self.boot => Ok(()),
            Ok(_) => bail!(
                "the machine went down while the broker ran with --lazy-sync: what it acknowledged last may be lost, so no \
                 partition goes on before `heliograph epoch renew`"
            ),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", self.file.display())),
        }
    }

    /// Says, on disk, that a lazily synced broker runs from now on.
    ///
    /// # Errors
    /// What the file system says.
    pub(crate) fn set(&self) -> Result<()> {
        let mark = || -> io::Result<()> {
            let mut file = OpenOptions::new().create(true).truncate(true).write(true).open(&self.file)?;
            file.write_all(self.boot.as_bytes())?;
            file.sync_all()?;
            self.sync_folder()
        };
        mark().with_context(|| format!("cannot write {}", self.file.display()))
    }

    /// Takes the mark away once the stopped broker's writes are on disk.
    ///
    /// # Errors
    /// What the file system says.
    pub(crate) fn clear(&self) -> Result<()> {
        if !self.file.exists() {
            return Ok(());
        }
        // The broker has ended, and all that it ever wrote is the kernel's.
        let clear =
            || sync_all(&self.folder).and_then(|()| fs::remove_file(&self.file)).and_then(|()| self.sync_folder());
        clear().with_context(|| format!("cannot remove {}", self.file.display()))
    }

    fn sync_folder(&self) -> io::Result<()> {
        File::open(&self.folder)?.sync_all()
    }
}

/// Syncs every file below a folder, and the folders themselves.
fn sync_all(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_all(&entry.path())?;
        } else {
            File::open(entry.path())?.sync_all()?;
        }
    }
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lazy_broker_of_another_boot_is_refused_until_it_was_stopped_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let mark = |boot: &str| LazyMark::new(folder.path(), Some(boot.to_owned()));
        mark("one").check().unwrap();
        mark("one").set().unwrap();
        mark("one").check().unwrap();
        assert!(mark("two").check().unwrap_err().to_string().contains("--lazy-sync"));
        mark("one").clear().unwrap();
        mark("two").check().unwrap();
    }
}
