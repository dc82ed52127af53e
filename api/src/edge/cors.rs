//! Which pages may read answers: those of exactly the listed origins, and never with cookies.

use std::time::Duration;

use axum::extract::Request;
use axum::http::header::{
    ACCESS_CONTROL_REQUEST_METHOD, AUTHORIZATION, CONTENT_TYPE, ETAG, IF_NONE_MATCH, LOCATION, RETRY_AFTER,
};
use axum::http::{HeaderName, HeaderValue, Method};
use tower_http::cors::{AllowOrigin, CorsLayer};

use crate::Error;

/// How long a browser may go by a preflight's answer; two hours is the most that any of them takes.
const PREFLIGHT_LASTS: Duration = Duration::from_hours(2);

/// What answers preflights and marks answers; none if no origin is listed.
///
/// # Errors
/// [`Error::Config`] for what no browser sends as an origin.
pub(super) fn layer(origins: &[String]) -> Result<Option<CorsLayer>, Error> {
    if origins.is_empty() {
        return Ok(None);
    }
    let refused = Error::Config("allowed_origins: an origin is a scheme and a host, as https://app.example");
    let values = origins.iter().map(|origin| HeaderValue::from_str(origin).ok().filter(|_| is_origin(origin)));
    let values = values.collect::<Option<Vec<_>>>().ok_or(refused)?;
    let named = |name: &'static str| HeaderName::from_static(name);
    let layer = CorsLayer::new()
        .allow_origin(AllowOrigin::list(values))
        .allow_methods([Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE])
        .allow_headers([AUTHORIZATION, CONTENT_TYPE, IF_NONE_MATCH, named("idempotency-key"), named("x-request-id")])
        .expose_headers([
            RETRY_AFTER,
            ETAG,
            LOCATION,
            named("ratelimit"),
            named("ratelimit-policy"),
            named("x-request-id"),
        ])
        .max_age(PREFLIGHT_LASTS);
    Ok(Some(layer))
}

/// Whether it asks on a page's behalf what the page may send.
pub(super) fn is_preflight(request: &Request) -> bool {
    request.headers().contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

/// A scheme, a host and perhaps a port: no path, no wildcard, and not `null`, which anybody can be.
fn is_origin(text: &str) -> bool {
    let Some((scheme, host)) = text.split_once("://") else { return false };
    !scheme.is_empty() && !host.is_empty() && !host.contains(['/', '*', '?', '#', '@', ' '])
}

#[cfg(test)]
mod tests {
    #[test]
    fn an_origin_is_exact_or_refused() {
        let layer = |origin: &str| super::layer(&[origin.to_owned()]);
        for fine in ["https://app.example", "http://localhost:5173", "capacitor://localhost"] {
            assert!(layer(fine).unwrap().is_some(), "{fine}");
        }
        for bad in ["*", "null", "app.example", "https://", "https://*.example", "https://app.example/", "https://a b"]
        {
            assert!(layer(bad).is_err(), "{bad}");
        }
        assert!(super::layer(&[]).unwrap().is_none());
    }
}
