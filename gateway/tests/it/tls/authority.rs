//! An authority of the test's own, and the files that a gateway reads.

use std::fs;
use std::path::{Path, PathBuf};

use gateway::socket::TlsConfig;
use pem::Pem;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::RootCertStore;
use testkit::Scratch;

/// Who the certificates say that a gateway is.
pub(crate) const NAME: &str = "localhost";

pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: rcgen::Certificate,
}

/// A certificate and its key, in PEM form.
#[derive(Clone)]
pub(crate) struct Issued {
    pub(crate) certificate: String,
    pub(crate) key: String,
    /// The certificate as handshakes carry it.
    pub(crate) der: Vec<u8>,
}

/// The files of a gateway, which a test writes as an operator does.
pub(crate) struct Files {
    folder: Scratch,
}

fn pem(tag: &str, der: &[u8]) -> String {
    pem::encode(&Pem::new(tag, der))
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        // Else it would go by the name of every other one.
        params.distinguished_name.push(DnType::CommonName, uuid::Uuid::new_v4().to_string());
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Self { issuer: Issuer::new(params, key), certificate }
    }

    /// A new certificate with a new key.
    pub(crate) fn issue(&self) -> Issued {
        let params = CertificateParams::new([NAME.to_owned(), "127.0.0.1".to_owned()]).unwrap();
        let key = KeyPair::generate().unwrap();
        let der = params.signed_by(&key, &self.issuer).unwrap().der().to_vec();
        Issued { certificate: pem("CERTIFICATE", &der), key: pem("PRIVATE KEY", &key.serialize_der()), der }
    }

    pub(crate) fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.der().clone()).unwrap();
        roots
    }

    /// Writes its own certificate where a client finds it.
    pub(crate) fn write(&self, files: &Files) -> PathBuf {
        let file = files.folder.join("authority.pem");
        fs::write(&file, pem("CERTIFICATE", self.certificate.der())).unwrap();
        file
    }
}

impl Files {
    pub(crate) fn of(issued: &Issued) -> Self {
        let files = Self { folder: Scratch::new("tls").unwrap() };
        files.write(&issued.certificate, &issued.key);
        files
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn write(&self, certificate: &str, key: &str) {
        let TlsConfig { certificate: certificate_file, key: key_file, .. } = self.config();
        fs::write(certificate_file, certificate).unwrap();
        fs::write(key_file, key).unwrap();
    }

    pub(crate) fn config(&self) -> TlsConfig {
        TlsConfig::of_files(self.folder.join("tls.crt"), self.folder.join("tls.key"))
    }
}
