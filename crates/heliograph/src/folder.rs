//! The data folder: who may use it, and what lies where.
//!
//! ```text
//! lock              held while `up` runs
//! address           where the gateway listens: what `chat` connects to, with `wss://` before it if that is TLS
//! api               where the HTTP API listens
//! admin.sock        what operators' commands ask `up` over; for the folder's owner only
//! audit.log         who did what to accounts and chats; appended to, readable by its owner only
//! token-key.pem     keys that sign and check tokens, with their times; readable by its owner only
//! worker            the name among the processes of `run` that share the partitions
//! broker/           configuration, pid, port and streams of the broker
//! store/            the embedded store
//! ```

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use tokio::net::{UnixListener, UnixSocket, UnixStream};

const STORE: &str = "store";
/// The mode of a folder that is its owner's alone.
const CLOSED: u32 = 0o700;
/// Operators' connections that wait to be accepted.
const ADMIN_BACKLOG: u32 = 64;

/// The data folder, locked by this process while this value lives.
#[derive(Debug)]
pub struct DataFolder {
    path: PathBuf,
    _lock: File,
}

impl DataFolder {
    /// Makes the folder if there is none, and locks it.
    ///
    /// # Errors
    /// If another process has it, or the file system refuses.
    pub fn open(path: &Path) -> Result<Self> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(CLOSED)
            .create(path)
            .with_context(|| format!("cannot make {}", path.display()))?;
        let path = path.canonicalize().with_context(|| format!("cannot find {}", path.display()))?;
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(path.join("lock"))?;
        match lock.try_lock() {
            Ok(()) => {
                // Whatever folder was given: it may have been there before, and open to others.
                closed(&broker(&path))?;
                closed(&path.join(STORE))?;
                Ok(Self { path, _lock: lock })
            }
            Err(TryLockError::WouldBlock) => {
                bail!("{} is in use by another `heliograph up`; choose another with --data", path.display())
            }
            Err(TryLockError::Error(error)) => Err(error).context("cannot lock the data folder"),
        }
    }

    /// Where the broker keeps its things.
    pub fn broker(&self) -> PathBuf {
        broker(&self.path)
    }

    /// Where the store keeps its rows.
    pub fn store(&self) -> PathBuf {
        self.path.join(STORE)
    }

    /// What is appended to as an audit log unless told otherwise.
    pub fn audit_log(&self) -> PathBuf {
        self.path.join("audit.log")
    }

    /// The folder's name among the processes that share the partitions: drawn at its first start.
    ///
    /// # Errors
    /// What the file system refuses.
    pub fn worker(&self) -> Result<String> {
        let file = self.path.join("worker");
        match fs::read_to_string(&file) {
            Ok(name) => return Ok(name.trim().to_owned()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", file.display())),
        }
        let name = format!("worker-{:08x}", rand::random::<u32>());
        replace(&file, name.as_bytes(), 0o644)?;
        Ok(name)
    }

    /// Tells `chat` where to connect.
    ///
    /// # Errors
    /// What the file system refuses.
    pub fn announce_address(&self, address: &str) -> Result<()> {
        replace(&address_file(&self.path), address.as_bytes(), 0o644)
    }

    /// Says where the HTTP API is.
    ///
    /// # Errors
    /// What the file system refuses.
    pub fn announce_api(&self, address: &str) -> Result<()> {
        replace(&api_file(&self.path), address.as_bytes(), 0o644)
    }

    /// Listens where operators' commands ask; nobody but the folder's owner can connect.
    ///
    /// # Errors
    /// What the system refuses.
    pub fn listen_for_operators(&self) -> Result<UnixListener> {
        let listen = || {
            let (folder, path) = admin_socket(&self.path)?;
            // Of an earlier run: the lock says that nobody listens on it.
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
            let socket = UnixSocket::new_stream()?;
            socket.bind(&path)?;
            // Before it listens, so that nobody comes in between.
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
            drop(folder);
            socket.listen(ADMIN_BACKLOG)
        };
        listen().with_context(|| format!("cannot listen on {}", self.path.join(ADMIN_SOCKET).display()))
    }

    /// Where the keys are that sign and check tokens.
    pub fn token_keys(&self) -> PathBuf {
        key_file(&self.path)
    }
}

/// A folder that other users of the machine do not get into: whoever does reads all that is said.
///
/// # Errors
/// What the file system refuses.
pub(crate) fn closed(path: &Path) -> Result<()> {
    let close = || {
        fs::create_dir_all(path)?;
        fs::set_permissions(path, fs::Permissions::from_mode(CLOSED))
    };
    close().with_context(|| format!("cannot make {}", path.display()))
}

/// Where the broker of a folder keeps its things.
pub fn broker(folder: &Path) -> PathBuf {
    folder.join("broker")
}

/// The address that the running `up` of this folder announced.
///
/// # Errors
/// If none ever ran there.
pub fn address(folder: &Path) -> Result<String> {
    read(&address_file(folder))
}

/// Where the HTTP API of the running `up` of this folder is.
///
/// # Errors
/// If none ever ran there.
pub fn api(folder: &Path) -> Result<String> {
    read(&api_file(folder))
}

const ADMIN_SOCKET: &str = "admin.sock";

/// The socket's path, good while the folder beside it is open.
///
/// Through the descriptor, since an address has 108 bytes and the path of a folder may be longer.
fn admin_socket(folder: &Path) -> io::Result<(File, PathBuf)> {
    let folder = File::open(folder)?;
    let path = format!("/proc/self/fd/{}/{ADMIN_SOCKET}", folder.as_raw_fd());
    Ok((folder, path.into()))
}

/// Connects to the `up` that runs on this folder.
///
/// # Errors
/// None runs, or it belongs to somebody else.
pub async fn ask_up(folder: &Path) -> Result<UnixStream> {
    let connect = async || {
        let (_folder, path) = admin_socket(folder)?;
        UnixStream::connect(path).await
    };
    match connect().await {
        Ok(stream) => Ok(stream),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            bail!("`heliograph up` does not run on {}; start it, or name its folder with --data", folder.display())
        }
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            bail!("{} belongs to somebody else: ask as its owner", folder.join(ADMIN_SOCKET).display())
        }
        Err(error) => Err(error).with_context(|| format!("cannot ask {}", folder.join(ADMIN_SOCKET).display())),
    }
}

/// The keys that sign and check tokens of this folder, in PEM.
///
/// # Errors
/// If there is none yet.
pub fn token_key(folder: &Path) -> Result<String> {
    read(&key_file(folder))
}

fn read(file: &Path) -> Result<String> {
    fs::read_to_string(file).with_context(|| format!("no {}: start `heliograph up` first", file.display()))
}

fn address_file(folder: &Path) -> PathBuf {
    folder.join("address")
}

fn api_file(folder: &Path) -> PathBuf {
    folder.join("api")
}

fn key_file(folder: &Path) -> PathBuf {
    folder.join("token-key.pem")
}

/// Writes a file whole or not at all, and on disk before it returns.
///
/// # Errors
/// What the file system refuses.
pub(crate) fn replace(file: &Path, content: &[u8], mode: u32) -> Result<()> {
    let new = file.with_extension("new");
    let write = || {
        let mut handle = OpenOptions::new().create(true).truncate(true).write(true).mode(mode).open(&new)?;
        // It may be there from a write that was cut off, open to others.
        handle.set_permissions(fs::Permissions::from_mode(mode))?;
        handle.write_all(content)?;
        handle.sync_all()?;
        fs::rename(&new, file)?;
        File::open(file.parent().unwrap_or_else(|| Path::new(".")))?.sync_all()
    };
    write().with_context(|| format!("cannot write {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_in_use_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let first = DataFolder::open(folder.path()).unwrap();
        assert!(DataFolder::open(folder.path()).unwrap_err().to_string().contains("--data"));
        drop(first);
        DataFolder::open(folder.path()).unwrap();
    }

    #[tokio::test]
    async fn operators_reach_it_however_long_the_path_is_and_nobody_else_does() {
        let folder = tempfile::tempdir().unwrap();
        let long = folder.path().join("x".repeat(200));
        assert!(ask_up(&long).await.unwrap_err().to_string().contains("does not run"));
        let data = DataFolder::open(&long).unwrap();
        let first = data.listen_for_operators().unwrap();
        assert_eq!(fs::metadata(long.join(ADMIN_SOCKET)).unwrap().permissions().mode() & 0o777, 0o600);
        drop(first);
        // What a killed run left behind.
        assert!(ask_up(&long).await.unwrap_err().to_string().contains("does not run"));
        let again = data.listen_for_operators().unwrap();
        let (asked, answered) = tokio::join!(ask_up(&long), again.accept());
        assert!(asked.is_ok() && answered.is_ok());
    }
}
