//! Whose word a client takes for who a server is, where the address begins with `wss://`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;
use tokio_websockets::Connector;

use crate::Error;

/// The only protocol that a socket is opened over.
const ALPN: &[u8] = b"http/1.1";

/// Who may vouch for a server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Trust {
    /// The authorities that this machine trusts.
    #[default]
    Platform,
    /// The authorities in this file, in PEM form, and no others.
    File(PathBuf),
}

impl Trust {
    /// Reads the authorities; what connects by them may be used for many sockets.
    ///
    /// # Errors
    /// [`Error::Trust`] where there are none.
    pub(crate) async fn connector(&self) -> Result<Connector, Error> {
        let trust = self.clone();
        // Some hundred small files on some machines.
        let roots = tokio::task::spawn_blocking(move || trust.roots()).await;
        let roots = roots.map_err(|gone| Error::Trust(gone.to_string()))??;
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| Error::Trust(error.to_string()))?;
        let mut config = config.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![ALPN.to_vec()];
        Ok(Connector::Rustls(TlsConnector::from(Arc::new(config))))
    }

    fn roots(&self) -> Result<RootCertStore, Error> {
        let mut roots = RootCertStore::empty();
        match self {
            Self::Platform => {
                // One that is damaged says nothing of the others.
                let _counts = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            }
            Self::File(file) => {
                for authority in authorities(file)? {
                    let added = roots.add(authority);
                    added.map_err(|error| Error::Trust(format!("{}: {error}", file.display())))?;
                }
            }
        }
        if roots.is_empty() {
            let place = match self {
                Self::Platform => "this machine trusts no authority".to_owned(),
                Self::File(file) => format!("{} holds no certificate in PEM form", file.display()),
            };
            return Err(Error::Trust(place));
        }
        Ok(roots)
    }
}

fn authorities(file: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let read = CertificateDer::pem_file_iter(file).and_then(Iterator::collect);
    read.map_err(|error| Error::Trust(format!("cannot read {}: {error}", file.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_authorities_is_named() {
        for file in ["/nowhere/authorities.pem", "/dev/null"] {
            let error = Trust::File(file.into()).roots().unwrap_err().to_string();
            assert!(error.contains(file), "{error}");
        }
    }
}
