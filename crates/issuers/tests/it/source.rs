//! The server of an issuer's keys: what it gives is changed under way, and it counts who asks.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use issuers::{Algorithm, Clock, Config, IssuerConfig, Issuers, Setup};
use rustls::RootCertStore;
use serde_json::{Value, json};
use tokens::TokenKeys;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;
use tokio_rustls::TlsAcceptor;

use crate::signer::Signer;

pub(crate) const ISSUER: &str = "https://id.example/";
pub(crate) const AUDIENCE: &str = "chat";
pub(crate) const MINUTE: Duration = Duration::from_mins(1);
pub(crate) const HOUR: Duration = Duration::from_hours(1);

/// The server.
pub(crate) struct Source {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<AbortHandle>,
    tls: Option<TlsAcceptor>,
}

struct Shared {
    answer: Mutex<Vec<u8>>,
    asked: AtomicU64,
    /// A permit an answer.
    gate: Semaphore,
}

fn answer(status: &str, headers: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\n{headers}content-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

impl Source {
    pub(crate) async fn start(keys: &[Value]) -> Self {
        Self::start_with(keys, None).await
    }

    pub(crate) async fn start_with(keys: &[Value], tls: Option<TlsAcceptor>) -> Self {
        let shared = Shared { answer: Mutex::default(), asked: 0.into(), gate: Semaphore::new(Semaphore::MAX_PERMITS) };
        let mut source = Self { address: ([127, 0, 0, 1], 0).into(), shared: Arc::new(shared), accepting: None, tls };
        source.gives(keys);
        source.up().await;
        source
    }

    /// From now on it gives these keys.
    pub(crate) fn gives(&self, keys: &[Value]) {
        self.answers("200 OK", "", &json!({ "keys": keys }).to_string());
    }

    pub(crate) fn answers(&self, status: &str, headers: &str, body: &str) {
        *self.shared.answer.lock().unwrap() = answer(status, headers, body);
    }

    /// From now on nobody is answered.
    pub(crate) fn hold(&self) {
        self.shared.gate.forget_permits(Semaphore::MAX_PERMITS);
    }

    pub(crate) fn release(&self) {
        self.shared.gate.add_permits(Semaphore::MAX_PERMITS - self.shared.gate.available_permits());
    }

    /// Nobody listens any more.
    pub(crate) fn down(&mut self) {
        self.accepting.take().unwrap().abort();
    }

    /// It listens, where it did before.
    pub(crate) async fn up(&mut self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.address = listener.local_addr().unwrap();
        let (shared, tls) = (Arc::clone(&self.shared), self.tls.clone());
        let accepting = tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let (shared, tls) = (Arc::clone(&shared), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => serve(&shared, &mut stream).await,
                        // Whoever does not trust it goes.
                        Some(tls) => match tls.accept(stream).await {
                            Ok(mut stream) => serve(&shared, &mut stream).await,
                            Err(_gone) => {}
                        },
                    }
                });
            }
        });
        self.accepting = Some(accepting.abort_handle());
    }

    /// How often it was asked.
    pub(crate) fn asked(&self) -> u64 {
        self.shared.asked.load(Ordering::SeqCst)
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        if let Some(accepting) = &self.accepting {
            accepting.abort();
        }
    }
}

async fn serve(shared: &Shared, stream: &mut (impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin)) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = stream.read_u8().await else { return };
        head.push(byte);
    }
    assert!(head.starts_with(b"GET /keys?of=us HTTP/1.1\r\n"), "{}", String::from_utf8_lossy(&head));
    shared.asked.fetch_add(1, Ordering::SeqCst);
    shared.gate.acquire().await.unwrap().forget();
    let answer = shared.answer.lock().unwrap().clone();
    // Who has had enough may be gone.
    let _ = stream.write_all(&answer).await;
    let _ = stream.shutdown().await;
}

/// What checks tokens, at a time that the test says.
pub(crate) struct Here {
    pub(crate) issuers: Issuers,
    pub(crate) own: TokenKeys,
    passed_s: Arc<AtomicU64>,
}

impl Here {
    pub(crate) fn trusting(source: &Source, algorithms: &[Algorithm]) -> Self {
        Self::with(&format!("http://{}/keys?of=us", source.address), algorithms, Duration::from_secs(5), None)
    }

    pub(crate) fn with(
        url: &str,
        algorithms: &[Algorithm],
        fetched_within: Duration,
        authorities: Option<RootCertStore>,
    ) -> Self {
        let passed_s = Arc::new(AtomicU64::new(0));
        let clock = Clock::of({
            let passed_s = Arc::clone(&passed_s);
            move || Duration::from_secs(passed_s.load(Ordering::SeqCst))
        });
        let issuer = IssuerConfig {
            issuer: ISSUER.to_owned(),
            jwks_url: url.parse().unwrap(),
            audience: AUDIENCE.to_owned(),
            algorithms: algorithms.iter().copied().collect(),
            user_claim: "sub".to_owned(),
            keys_last_s: 24 * 3_600,
        };
        let setup = Setup { clock, authorities: authorities.or_else(|| Some(RootCertStore::empty())), fetched_within };
        let issuers = Issuers::new(&Config { issuers: vec![issuer] }, setup).unwrap();
        let own = TokenKeys::from_pem(&TokenKeys::generate().unwrap()).unwrap();
        Self { issuers, own, passed_s }
    }

    /// Time passes.
    pub(crate) fn pass(&self, time: Duration) {
        self.passed_s.fetch_add(time.as_secs(), Ordering::SeqCst);
    }

    pub(crate) async fn check(&self, token: &str) -> Result<tokens::Grant, tokens::TokenError> {
        self.issuers.check(&self.own, token).await
    }

    /// Whether a good token of this signer is taken.
    pub(crate) async fn takes(&self, signer: &Signer) -> bool {
        self.check(&signer.token()).await.is_ok()
    }
}
