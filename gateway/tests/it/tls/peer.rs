//! A gateway that speaks TLS, and a client of it whose bytes and records the test decides on.

use std::sync::Arc;

use gateway::socket::Config;
use rustls::ClientConfig;
use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::ServerName;
use testkit::Authority;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::files::{self, Files};
use crate::socket::peer::{Behaviour, Gateway, Opened, RawClient, config, within};

/// Who the certificates say that a gateway is.
pub(crate) const NAME: &str = "localhost";

pub(crate) type Client = RawClient<TlsStream<TcpStream>>;

pub(crate) struct Secured {
    pub(crate) gateway: Gateway,
    pub(crate) authority: Authority,
    pub(crate) files: Files,
    pub(crate) client: Arc<ClientConfig>,
}

pub(crate) fn roots(authority: &Authority) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add(authority.der().to_vec().into()).unwrap();
    roots
}

/// What a client offers that trusts this authority.
pub(crate) fn trusting(authority: &Authority) -> ClientConfig {
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let config = config.with_safe_default_protocol_versions().unwrap();
    config.with_root_certificates(roots(authority)).with_no_client_auth()
}

/// The TLS handshake alone.
pub(crate) async fn handshake(config: Arc<ClientConfig>, stream: TcpStream) -> std::io::Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from(NAME).unwrap();
    within(TlsConnector::from(config).connect(name, stream)).await
}

impl Secured {
    pub(crate) fn start(behaviour: Behaviour) -> Self {
        Self::start_with(config(), behaviour)
    }

    pub(crate) fn start_with(settings: Config, behaviour: Behaviour) -> Self {
        let authority = files::authority();
        let files = Files::of(&authority.issue().unwrap());
        Self::of(Config { tls: Some(files.config()), ..settings }, authority, files, behaviour)
    }

    /// One with these files, which the settings name.
    pub(crate) fn of(settings: Config, authority: Authority, files: Files, behaviour: Behaviour) -> Self {
        let gateway = Gateway::start(settings, behaviour);
        let client = Arc::new(trusting(&authority));
        Self { gateway, authority, files, client }
    }

    /// A client after its TLS handshake; it has asked for nothing.
    pub(crate) async fn connect(&self) -> Client {
        self.connect_over(TcpStream::connect(self.gateway.address).await.unwrap()).await
    }

    pub(crate) async fn connect_over(&self, stream: TcpStream) -> Client {
        Client::from_stream(handshake(Arc::clone(&self.client), stream).await.unwrap())
    }

    /// One with the smallest receive buffer, so that an unread stream soon stalls its writer.
    pub(crate) async fn open_narrow(&mut self) -> (Client, Opened) {
        let mut client = self.connect_over(RawClient::connect_narrow(self.gateway.address).await.stream).await;
        client.upgrade().await;
        (client, self.gateway.opened().await)
    }

    /// Both sides of a new socket.
    pub(crate) async fn open(&mut self) -> (Client, Opened) {
        let mut client = self.connect().await;
        client.upgrade().await;
        (client, self.gateway.opened().await)
    }
}

impl Client {
    /// Sends these bytes as TLS records of their own.
    pub(crate) async fn send_record(&mut self, bytes: &[u8]) {
        self.send(bytes).await;
    }
}
