//! Certificates of a test's own: who vouches for a server, and what the server shows.

use anyhow::Result;
use pem::Pem;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

/// An authority that nobody trusts but who is told to.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: rcgen::Certificate,
}

/// A certificate for `localhost` and `127.0.0.1`, and its key.
#[derive(Clone)]
pub struct Issued {
    /// The certificate in PEM form.
    pub certificate: String,
    /// The key in PEM form.
    pub key: String,
    /// The certificate as handshakes carry it.
    pub der: Vec<u8>,
    /// When it expires, in seconds since 1970.
    pub expires_s: i64,
}

fn pem(tag: &str, der: &[u8]) -> String {
    pem::encode(&Pem::new(tag, der))
}

impl Authority {
    /// An authority of this name, which no other one of the same test should have.
    ///
    /// # Errors
    /// If no key can be made.
    pub fn new(name: &str) -> Result<Self> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?;
        Ok(Self { issuer: Issuer::new(params, key), certificate })
    }

    /// A new certificate with a new key.
    ///
    /// # Errors
    /// If no key can be made.
    pub fn issue(&self) -> Result<Issued> {
        let params = CertificateParams::new(["localhost".to_owned(), "127.0.0.1".to_owned()])?;
        let key = KeyPair::generate()?;
        let der = params.signed_by(&key, &self.issuer)?.der().to_vec();
        Ok(Issued {
            certificate: pem("CERTIFICATE", &der),
            key: pem("PRIVATE KEY", &key.serialize_der()),
            der,
            expires_s: params.not_after.unix_timestamp(),
        })
    }

    /// Its own certificate as handshakes carry it.
    pub fn der(&self) -> &[u8] {
        self.certificate.der()
    }

    /// Its own certificate in PEM form.
    pub fn pem(&self) -> String {
        pem("CERTIFICATE", self.der())
    }
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Issued {
    // Without the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Issued").field("expires_s", &self.expires_s).finish_non_exhaustive()
    }
}
