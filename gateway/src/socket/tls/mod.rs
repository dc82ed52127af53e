//! TLS in the gateway itself: from a TCP connection to a session, and certificates that change meanwhile.
//!
//! ```text
//! certificate ◀ watch ─▶ Tls ─ handshake ▶ transport ─┬─ session (under its socket's lock)
//!                                                     └─ reader
//! ```
//! TLS 1.2 and 1.3 by rustls over aws-lc-rs, HTTP/1.1 alone, no client certificates. No key is ever logged.

mod certificate;
mod handshake;
mod session;
mod watch;

use std::sync::{Arc, PoisonError, RwLock};

use rustls::ServerConfig;
use tokio::sync::Notify;

pub use certificate::CertificateError;
use certificate::{Certified, Digest, Pair};
pub(super) use handshake::Metered;
pub(super) use session::{Over, Session};

use super::config::TlsConfig;

/// The certificate in use and what is needed to replace it.
pub(super) struct Tls {
    files: TlsConfig,
    current: RwLock<Current>,
    asked: Arc<Notify>,
}

struct Current {
    config: Arc<ServerConfig>,
    digest: Digest,
}

/// Has the files of the certificate looked at now; cheap to clone.
#[derive(Clone, Debug)]
pub struct CertificateReload(Arc<Notify>);

impl CertificateReload {
    /// Has the files looked at soon. Whether they are taken shows in the log and on the counters.
    pub fn ask(&self) {
        self.0.notify_one();
    }
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// They cannot be read or used; the error names the file.
    pub(super) fn open(files: &TlsConfig) -> Result<Self, CertificateError> {
        let pair = Pair::read(files)?;
        let digest = pair.digest();
        let Certified { config, expires_s } = pair.certify(files)?;
        watch::tell_expiry(expires_s);
        let current = RwLock::new(Current { config, digest });
        Ok(Self { files: files.clone(), current, asked: Arc::default() })
    }

    pub(super) fn reload(&self) -> CertificateReload {
        CertificateReload(Arc::clone(&self.asked))
    }

    /// What the next handshake uses.
    fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner).config)
    }
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").field("files", &self.files).finish_non_exhaustive()
    }
}
