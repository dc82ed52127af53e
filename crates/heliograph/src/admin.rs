//! What operators and their tools ask a running process: whether it lives, and its metrics.
//!
//! A listener of its own, off unless an address is given, so that it never stands open where clients come in. It reads
//! and never changes anything.

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse as _;
use axum::routing::get;
use metrics::counter;
use store::Store;
use telemetry::Metrics;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// The media type of the Prometheus text format.
const PROMETHEUS_TEXT: &str = "text/plain; version=0.0.4";

/// A bound admin listener.
#[derive(Debug)]
pub struct Admin {
    listener: TcpListener,
    metrics: Metrics,
    store: Store,
}

impl Admin {
    /// Binds the address; nothing is answered yet.
    ///
    /// # Errors
    /// If the address is taken or none.
    pub async fn bind(address: &str, metrics: Metrics, store: Store) -> Result<Self> {
        let listener = TcpListener::bind(address)
            .await
            .with_context(|| format!("cannot listen on {address}; choose another address with --admin"))?;
        Ok(Self { listener, metrics, store })
    }

    /// The bound address.
    ///
    /// # Errors
    /// What the system says.
    pub fn local_addr(&self) -> Result<SocketAddr> {
        Ok(self.listener.local_addr()?)
    }

    /// Answers `/livez` and `/metrics` until shut down.
    ///
    /// # Errors
    /// If the listener fails.
    pub async fn run(self, shutdown: CancellationToken) -> Result<()> {
        let Self { listener, metrics, store } = self;
        let render = move || async move {
            // Counted by the engine itself; read only when somebody asks.
            counter!("store_commits_total").absolute(store.commits());
            ([(CONTENT_TYPE, PROMETHEUS_TEXT)], metrics.render()).into_response()
        };
        let routes = Router::new().route("/livez", get(async || "ok")).route("/metrics", get(render));
        axum::serve(listener, routes).with_graceful_shutdown(shutdown.cancelled_owned()).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;

    use super::*;

    async fn ask(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn says_that_it_lives_and_what_it_counted() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(store::Config::in_folder(folder.path())).await.unwrap();
        store.claim_meta("key", "value".into()).await.unwrap();
        let admin = Admin::bind("127.0.0.1:0", Metrics::install().unwrap(), store.clone()).await.unwrap();
        let (address, shutdown) = (admin.local_addr().unwrap(), CancellationToken::new());
        let running = tokio::spawn(admin.run(shutdown.clone()));
        assert!(ask(address, "/livez").await.ends_with("ok"));
        let commits = format!("store_commits_total {}", store.commits());
        assert!(ask(address, "/metrics").await.contains(&commits));
        assert!(ask(address, "/nothing").await.starts_with("HTTP/1.1 404"));
        shutdown.cancel();
        running.await.unwrap().unwrap();
    }
}
