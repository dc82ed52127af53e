//! The file of the keys that sign and check tokens: made at the first start, replaced whole by a rotation.
//!
//! Only the process that has the folder's lock writes it. What it says of a key is true from then on for whoever reads
//! it, so a rotation has one step, and a kill is before or after it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use domain::crash_point;
use tokens::{KeyRing, KeyState, KnownKey, Rotation, TokenKeys, now_s};
use tokio::sync::Mutex;

use crate::folder;

/// The keys of a folder, and where they are kept; clones share them.
#[derive(Clone, Debug)]
pub struct KeyFile {
    file: PathBuf,
    keys: TokenKeys,
    /// One rotation at a time.
    writing: Arc<Mutex<()>>,
}

/// What a rotation came to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Rotated {
    /// The keys as they are now, and whether one of them is new.
    Keys(Vec<KnownKey>, bool),
    /// There are as many keys as may be, until the first of them goes.
    Full,
}

impl KeyFile {
    /// Reads the keys, makes one if there is none, and forgets those that are gone.
    ///
    /// # Errors
    /// What the file system refuses, and a file that is damaged.
    pub fn open(file: PathBuf) -> Result<Self> {
        let kept = match read(&file) {
            Ok(ring) => ring,
            Err(error) if is_missing(&error) => {
                let ring = KeyRing::generate(now_s())?;
                write(&file, &ring)?;
                ring
            }
            Err(error) => return Err(error),
        };
        let ring = match kept.without_gone(now_s()) {
            Some(left) => {
                write(&file, &left)?;
                left
            }
            None => kept,
        };
        Ok(Self { file, keys: ring.into(), writing: Arc::default() })
    }

    /// The keys that are used.
    pub fn keys(&self) -> TokenKeys {
        self.keys.clone()
    }

    /// What may be said of each key that is used.
    pub(crate) fn known(&self) -> Vec<KnownKey> {
        self.keys.known()
    }

    /// Makes a key that is published at once and signs `ahead` from now; changes nothing if one waits already.
    ///
    /// # Errors
    /// What the file system refuses, and a file that is damaged; then nothing has changed.
    pub(crate) async fn rotate(&self, ahead: Duration) -> Result<Rotated> {
        let _alone = self.writing.lock().await;
        let (file, keys) = (self.file.clone(), self.keys.clone());
        tokio::task::spawn_blocking(move || {
            let (kept, now) = (read(&file)?, now_s());
            match kept.rotated(now, ahead)? {
                Rotation::Full => Ok(Rotated::Full),
                // Of an answer that was lost, if it was not asked for twice.
                Rotation::Pending => {
                    keys.replace(kept);
                    Ok(Rotated::Keys(keys.known(), false))
                }
                Rotation::To(ring) => {
                    crash_point("keys.made");
                    write(&file, &ring)?;
                    crash_point("keys.written");
                    keys.replace(ring);
                    Ok(Rotated::Keys(keys.known(), true))
                }
            }
        })
        .await
        .context("the keys' task")?
    }

    /// Takes a key out: from then on it signs and checks nothing here, and another signs if it was the one that did.
    ///
    /// # Errors
    /// What the file system refuses, and a file that is damaged; then nothing has changed.
    pub(crate) async fn remove(&self, kid: &str) -> Result<Removed> {
        let _alone = self.writing.lock().await;
        let (file, keys, kid) = (self.file.clone(), self.keys.clone(), kid.to_owned());
        tokio::task::spawn_blocking(move || {
            let (kept, now) = (read(&file)?, now_s());
            let was = kept.known(now).into_iter().find(|key| *key.kid == *kid).map(|key| key.state);
            let left = kept.without(&kid, now)?;
            if let Some(left) = &left {
                write(&file, left)?;
                crash_point("keys.removed");
            }
            keys.replace(left.unwrap_or(kept));
            Ok(Removed { was, keys: keys.known() })
        })
        .await
        .context("the keys' task")?
    }
}

/// What taking a key out came to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Removed {
    /// What the key was used for; none: there was none of this name.
    pub(crate) was: Option<KeyState>,
    /// The keys as they are now.
    pub(crate) keys: Vec<KnownKey>,
}

fn read(file: &Path) -> Result<KeyRing> {
    let said = || format!("the token keys in {}", file.display());
    KeyRing::from_pem(&fs::read_to_string(file).with_context(said)?).with_context(said)
}

fn write(file: &Path, ring: &KeyRing) -> Result<()> {
    folder::replace(file, ring.to_pem()?.as_bytes(), 0o600)
}

fn is_missing(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::NotFound)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn kids(keys: &KeyFile) -> Vec<String> {
        keys.known().into_iter().map(|key| key.kid.into()).collect()
    }

    #[tokio::test]
    async fn a_key_is_made_once_and_a_rotation_is_in_the_file_and_in_use() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token-key.pem");
        let first = KeyFile::open(file.clone()).unwrap();
        assert_eq!(kids(&KeyFile::open(file.clone()).unwrap()), kids(&first));
        // What a kill in the middle of a write leaves behind.
        fs::write(file.with_extension("new"), "-----BEGIN PRIV").unwrap();
        let Rotated::Keys(keys, true) = first.rotate(Duration::from_secs(3_600)).await.unwrap() else { panic!() };
        assert_eq!((keys.len(), first.keys().public().len()), (2, 2));
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(kids(&KeyFile::open(file.clone()).unwrap()), kids(&first));
        assert_eq!(first.rotate(Duration::ZERO).await.unwrap(), Rotated::Keys(keys, false));
    }

    #[tokio::test]
    async fn a_key_that_is_taken_out_is_in_the_file_no_more_and_checks_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token-key.pem");
        let keys = KeyFile::open(file.clone()).unwrap();
        let token = keys.keys().mint(domain::UserId::new([1; 16]), Duration::from_secs(60)).unwrap();
        let stolen = kids(&keys).remove(0);
        let removed = keys.remove(&stolen).await.unwrap();
        assert_eq!((removed.was, removed.keys.len()), (Some(KeyState::Signing), 1));
        assert!(keys.keys().check(&token).is_err());
        assert_eq!(kids(&KeyFile::open(file.clone()).unwrap()), kids(&keys));
        assert!(!kids(&keys).contains(&stolen));
        let again = keys.remove(&stolen).await.unwrap();
        assert_eq!((again.was, again.keys), (None, removed.keys));
    }

    #[tokio::test]
    async fn a_damaged_file_is_said_and_stays_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token-key.pem");
        let keys = KeyFile::open(file.clone()).unwrap();
        fs::write(&file, "no key").unwrap();
        assert!(keys.rotate(Duration::ZERO).await.unwrap_err().to_string().contains("token-key.pem"));
        assert!(KeyFile::open(file.clone()).is_err());
        assert_eq!(fs::read_to_string(&file).unwrap(), "no key");
        assert_eq!(keys.known().len(), 1);
    }
}
