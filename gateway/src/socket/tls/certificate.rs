//! A certificate chain and its key, from two PEM files to what handshakes use.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, io};

use rustls::crypto::aws_lc_rs::{self, Ticketer};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::NoServerSessionStorage;
use rustls::version::{TLS12, TLS13};
use rustls::{Error, ServerConfig};
use x509_cert::Certificate;
use x509_cert::der::Decode as _;

use crate::socket::config::TlsConfig;

/// The only protocol that a socket is opened over.
const ALPN: &[u8] = b"http/1.1";
/// A client opens one socket at a time: it needs one ticket to come back with.
const TICKETS: usize = 1;

/// Why a certificate and its key cannot be used.
///
/// What is in the key's file is never part of it.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file cannot be read.
    #[error("cannot read {}", .file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file holds no certificate, or one that is damaged.
    #[error("{} is no certificate chain in PEM form: {reason}", .file.display())]
    Certificate {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A file holds no private key, or one of a kind that cannot be used.
    #[error("{} is no private key in PEM form that can be used", .file.display())]
    Key {
        /// The file.
        file: PathBuf,
    },
    /// The key is of another certificate.
    #[error("the key in {} is not that of the certificate in {}", .key.display(), .certificate.display())]
    Mismatch {
        /// The key's file.
        key: PathBuf,
        /// The certificate's file.
        certificate: PathBuf,
    },
    /// The system gives no randomness for session tickets.
    #[error("no session tickets: {0}")]
    Tickets(Error),
}

/// Tells two contents of the files apart.
pub(super) type Digest = [u8; 32];

/// What stands in the two files.
pub(super) struct Pair {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

/// What handshakes use.
pub(super) struct Certified {
    pub(super) config: Arc<ServerConfig>,
    /// When the first certificate of the chain expires, in seconds since 1970.
    pub(super) expires_s: u64,
}

impl Pair {
    /// Reads both files; blocks.
    pub(super) fn read(files: &TlsConfig) -> Result<Self, CertificateError> {
        let read =
            |file: &Path| fs::read(file).map_err(|source| CertificateError::Read { file: file.to_owned(), source });
        Ok(Self { certificate: read(&files.certificate)?, key: read(&files.key)? })
    }

    /// By content: a Kubernetes secret is a symlink that changes, with times of its own.
    pub(super) fn digest(&self) -> Digest {
        use ::aws_lc_rs::digest::{Context, SHA256};
        let mut context = Context::new(&SHA256);
        context.update(&(self.certificate.len() as u64).to_be_bytes());
        context.update(&self.certificate);
        context.update(&self.key);
        let mut digest = Digest::default();
        digest.copy_from_slice(context.finish().as_ref());
        digest
    }

    /// Checks that both parse and belong together.
    pub(super) fn certify(&self, files: &TlsConfig) -> Result<Certified, CertificateError> {
        let damaged = |reason: String| CertificateError::Certificate { file: files.certificate.clone(), reason };
        let no_key = || CertificateError::Key { file: files.key.clone() };
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&self.certificate).collect();
        let chain = chain.map_err(|error| damaged(error.to_string()))?;
        let first = chain.first().ok_or_else(|| damaged("it holds none".to_owned()))?;
        let parsed = Certificate::from_der(first).map_err(|error| damaged(error.to_string()))?;
        let expires_s = parsed.tbs_certificate.validity.not_after.to_unix_duration().as_secs();
        // The reason would come from what is in the file.
        let key = PrivateKeyDer::from_pem_slice(&self.key).map_err(|_reason| no_key())?;
        let provider = Arc::new(aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13, &TLS12])
            .and_then(|config| config.with_no_client_auth().with_single_cert(chain, key));
        let mut config = config.map_err(|error| {
            if matches!(error, Error::InconsistentKeys(_)) {
                CertificateError::Mismatch { key: files.key.clone(), certificate: files.certificate.clone() }
            } else if matches!(error, Error::InvalidCertificate(_)) {
                damaged(error.to_string())
            } else {
                no_key()
            }
        })?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        // Nothing is kept for who has gone. With the certificate goes the ticketer: nobody resumes by the old one.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.ticketer = Ticketer::new().map_err(CertificateError::Tickets)?;
        config.send_tls13_tickets = TICKETS;
        Ok(Certified { config: Arc::new(config), expires_s })
    }
}
