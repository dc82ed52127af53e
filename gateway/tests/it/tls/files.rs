//! What a gateway reads, which a test writes as an operator does.

use std::fs;
use std::path::{Path, PathBuf};

use gateway::socket::TlsConfig;
use testkit::{Authority, Issued, Scratch};

/// The files of a gateway, and what its clients trust.
pub(crate) struct Files {
    folder: Scratch,
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

    /// Writes where a client finds it who vouches for the gateway.
    pub(crate) fn trusted(&self, authority: &Authority) -> PathBuf {
        let file = self.folder.join("authority.pem");
        fs::write(&file, authority.pem()).unwrap();
        file
    }
}

/// An authority that is no other.
pub(crate) fn authority() -> Authority {
    Authority::new(&uuid::Uuid::new_v4().to_string()).unwrap()
}
