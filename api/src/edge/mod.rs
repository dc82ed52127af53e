//! What happens to every request before and after the path that it is for.
//!
//! ```text
//! peer → origin (request id, client) → allowances (by address) → cors → content coding → a task: router → problem, headers
//! ```
//! It knows no path and reads no body. A request that is over its limit costs a lookup and an answer, no task.

mod allowances;
mod cors;
mod guesses;
mod origin;
mod quota;
mod settings;
#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::header::{ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderMap, HeaderValue, Method};
use axum::response::{IntoResponse as _, Response};
use metrics::counter;
use tokio::time::timeout;
use tower::{Layer as _, ServiceExt as _, service_fn};
use tower_http::cors::CorsLayer;
use tracing::Instrument as _;

pub(crate) use self::allowances::Allowances;
pub(crate) use self::origin::{Origin, audited};
pub use self::settings::ClientLimits;
use crate::problem::{Kind, Problem, written};
use crate::{Config, Error};

/// No coding: the only one that a body may come in.
const IDENTITY: &str = "identity";

/// What all connections answer with.
#[derive(Debug)]
pub(crate) struct Edge {
    router: Router,
    allowances: Arc<Allowances>,
    /// None: no page of another origin may read an answer.
    cors: Option<CorsLayer>,
    within: Duration,
}

/// Whether the settings name origins that a browser can send.
///
/// # Errors
/// [`Error::Config`] if one is none.
pub(crate) fn check_origins(origins: &[String]) -> Result<(), Error> {
    cors::layer(origins).map(|_layer| ())
}

impl Edge {
    /// # Errors
    /// [`Error::Config`] for an origin that is none.
    pub(crate) fn new(router: Router, config: &Config, allowances: Arc<Allowances>) -> Result<Self, Error> {
        let cors = cors::layer(&config.allowed_origins)?;
        let within = Duration::from_millis(config.request_timeout_ms);
        Ok(Self { router, allowances, cors, within })
    }

    /// The answer to a request that came from this peer.
    pub(crate) async fn answer(&self, peer: IpAddr, mut request: Request) -> Response {
        counter!("api_requests_total").increment(1);
        let origin = self.allowances.origin(peer, request.headers());
        request.extensions_mut().insert(origin.clone());
        let taken = self.allowances.request(&origin);
        // An error's level, so that whatever lines are let through name their request.
        let span = tracing::error_span!("request", request.id = %origin.request_id);
        let response = self.decorated(request, taken, span).await;
        let mut response = written(response, &origin.request_id);
        let headers = response.headers_mut();
        headers.insert("x-request-id", origin.header());
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        // Tokens and what people say: unless a path knows better, nobody keeps a copy.
        headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
        origin.tally.put_into(headers);
        response
    }

    /// With what a page of an allowed origin needs to read it.
    async fn decorated(&self, request: Request, taken: Result<(), Problem>, span: tracing::Span) -> Response {
        // The layer answers all that may be a preflight, so what is none and what is over its limit goes past it.
        let is_bare = request.method() == Method::OPTIONS && (taken.is_err() || !cors::is_preflight(&request));
        let mut refusal = taken.err();
        let inner = service_fn(|request| {
            let (refusal, span) = (refusal.take(), span.clone());
            async move {
                let Some(problem) = refusal else { return Ok(self.routed(request, span).await) };
                Ok::<_, Infallible>(problem.into_response())
            }
        });
        let answered = match &self.cors {
            Some(cors) if !is_bare => cors.layer(inner).oneshot(request).await,
            Some(_) | None => inner.oneshot(request).await,
        };
        match answered {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }

    /// In a task of its own, which goes on to its end whoever hangs up or waits no longer: nothing is left half done.
    async fn routed(&self, request: Request, span: tracing::Span) -> Response {
        if is_coded(request.headers()) {
            let refused = Problem::from(Kind::UnsupportedMediaType).into_response();
            return ([(ACCEPT_ENCODING, HeaderValue::from_static(IDENTITY))], refused).into_response();
        }
        let router = self.router.clone();
        let answering = async move {
            match router.oneshot(request).await {
                Ok(response) => response,
                Err(never) => match never {},
            }
        };
        match timeout(self.within, tokio::spawn(answering.instrument(span))).await {
            Ok(Ok(response)) => response,
            Ok(Err(_panicked)) => Problem::from(Kind::Internal).into_response(),
            Err(_late) => Problem::from(Kind::Unavailable).into_response(),
        }
    }
}

/// Whether the body is compressed or coded otherwise: a small one could stand for a huge one (X15).
fn is_coded(headers: &HeaderMap) -> bool {
    let is_identity = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(IDENTITY.as_bytes());
    headers.get_all(CONTENT_ENCODING).iter().any(|value| !is_identity(value))
}
