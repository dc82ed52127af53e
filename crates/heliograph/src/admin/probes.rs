//! What probes and scrapers read: whether the process lives and is ready, what it counted, what it is.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use metrics::counter;
use serde::Serialize;

use super::Shared;

/// The media type of the Prometheus text format.
const PROMETHEUS_TEXT: &str = "text/plain; version=0.0.4";

pub(super) fn routes() -> Router<Arc<Shared>> {
    Router::new()
        .route("/livez", get(async || "ok"))
        .route("/readyz", get(ready))
        .route("/metrics", get(counted))
        .route("/version", get(async || Json(VERSION)))
}

async fn ready(State(shared): State<Arc<Shared>>) -> Response {
    let readiness = shared.health.readiness(&shared.store, &shared.log).await;
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(readiness)).into_response()
}

async fn counted(State(shared): State<Arc<Shared>>) -> Response {
    // Counted by the engine itself; read only when somebody asks.
    counter!("store_commits_total").absolute(shared.store.commits());
    ([(CONTENT_TYPE, PROMETHEUS_TEXT)], shared.metrics.render()).into_response()
}

/// What this is.
#[derive(Debug, Serialize)]
struct Version {
    version: &'static str,
    /// Of the source, where the build was told in `HELIOGRAPH_COMMIT`.
    commit: Option<&'static str>,
    /// Sub-protocols of the socket.
    protocols: [&'static str; 2],
    /// Versions of the HTTP API.
    api: [&'static str; 1],
}

const VERSION: Version = Version {
    version: env!("CARGO_PKG_VERSION"),
    commit: option_env!("HELIOGRAPH_COMMIT"),
    protocols: ["heliograph.v1.proto", "heliograph.v1.json"],
    api: ["v1"],
};
