//! Every answer has what every answer has, whatever is behind it.

use axum::body::{Body, to_bytes};
use axum::extract::Path;
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ORIGIN, RETRY_AFTER, VARY,
};
use axum::http::{Request, StatusCode};
use axum::routing::{get, post};
use limits::Rate;
use serde::Deserialize;
use serde_json::Value;

use super::*;
use crate::wire::{Asked, Json};

const PAGE: &str = "https://app.example";
const CLIENT: [u8; 4] = [192, 0, 2, 1];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    _count: u32,
}

/// Paths that fail in every way there is.
fn router() -> Router {
    Router::new()
        .route("/fine", get(async || "fine"))
        .route("/cached", get(async || ([(CACHE_CONTROL, "public, max-age=60")], "fine")))
        .route("/json", post(async |Json(_): Json<Wanted>| "fine"))
        .route("/query", get(async |Asked(_): Asked<Wanted>| "fine"))
        .route("/store", get(async || Err::<(), _>(Problem::from(store_error()))))
        .route("/slow", get(async || std::future::pending::<()>().await))
        .route(
            "/panic/{word}",
            get(async |Path(word): Path<String>| -> () { panic!("{word} in /srv/heliograph/store") }),
        )
        .fallback(async || Problem::from(Kind::NotFound))
        .method_not_allowed_fallback(async || Problem::from(Kind::MethodNotAllowed))
}

/// As from a folder that another process has: with a path in its text.
fn store_error() -> store::Error {
    store::Error::Locked { folder: "/srv/heliograph/store".into() }
}

fn edge(change: impl FnOnce(&mut Config)) -> Edge {
    let mut config = Config { request_timeout_ms: 200, ..Config::default() };
    change(&mut config);
    Edge::new(router(), &config, Arc::new(Allowances::new(&config.limits))).unwrap()
}

fn asked(method: &str, path: &str) -> axum::http::request::Builder {
    Request::builder().method(method).uri(path)
}

async fn answer(edge: &Edge, request: Request<Body>) -> (StatusCode, HeaderMap, String) {
    let (parts, body) = edge.answer(CLIENT.into(), request).await.into_parts();
    let body = to_bytes(body, 1 << 20).await.unwrap();
    (parts.status, parts.headers, String::from_utf8(body.to_vec()).unwrap())
}

async fn get_(edge: &Edge, path: &str) -> (StatusCode, HeaderMap, String) {
    answer(edge, asked("GET", path).body(Body::empty()).unwrap()).await
}

#[tokio::test]
async fn x25_each_refusal_has_type_and_id_and_nothing_of_what_is_behind_it() {
    let edge = edge(|_| ());
    let json = |body: &'static str| {
        asked("POST", "/json").header("content-type", "application/json").body(Body::from(body)).unwrap()
    };
    let empty = |method: &str, path: &str| asked(method, path).body(Body::empty()).unwrap();
    let cases = [
        (json("{\"hunter2"), 400, "bad-request"),
        (json("{\"_count\":\"hunter2\"}"), 400, "bad-request"),
        (json("{\"hunter2 `;--\":1}"), 400, "bad-request"),
        (empty("GET", "/query?_count=hunter2"), 400, "bad-request"),
        (empty("POST", "/json"), 415, "unsupported-media-type"),
        (empty("GET", "/store"), 500, "internal"),
        (empty("GET", "/panic/hunter2"), 500, "internal"),
        (empty("GET", "/slow"), 503, "unavailable"),
        (empty("GET", "/hunter2"), 404, "not-found"),
        (empty("DELETE", "/fine"), 405, "method-not-allowed"),
    ];
    for (request, status, problem) in cases {
        let what = format!("{} {}", request.method(), request.uri());
        let (answered, headers, body) = answer(&edge, request).await;
        let said: Value = serde_json::from_str(&body).unwrap_or_else(|_| panic!("{what}: {body}"));
        let kind = format!("/problems/{problem}");
        assert_eq!((answered.as_u16(), said["type"].as_str()), (status, Some(&*kind)), "{what}: {body}");
        assert_eq!(headers["content-type"], "application/problem+json", "{what}");
        assert_eq!(said["request_id"], headers["x-request-id"].to_str().unwrap(), "{what}");
        for word in ["hunter2", "/srv", "already open", "panicked", ".rs", "expected", "invalid", "parsing", "tests::"]
        {
            assert!(!body.contains(word), "{what}: {body}");
        }
    }
    let (_, _, body) = answer(&edge, json("{\"_count\":\"x\"}")).await;
    assert!(body.contains("the body is not as described at `_count`: line 1, column 13"), "still of use: {body}");
    let (_, _, body) = get_(&edge, "/query?_count=x").await;
    assert!(body.contains("the query is not as described at `_count`"), "{body}");
}

#[tokio::test]
async fn every_answer_has_an_id_and_is_kept_by_nobody_unless_its_path_says_so() {
    let edge = edge(|_| ());
    for path in ["/fine", "/nothing", "/panic/x", "/slow"] {
        let request = asked("GET", path).header("x-request-id", "r-1").body(Body::empty()).unwrap();
        let (_, headers, _) = answer(&edge, request).await;
        let said = ["x-request-id", "cache-control", "x-content-type-options"].map(|name| &headers[name]);
        assert_eq!(said, ["r-1", "no-store", "nosniff"], "{path}");
    }
    let (_, headers, _) = get_(&edge, "/cached").await;
    assert_eq!(
        (&headers["cache-control"], headers.get_all("cache-control").iter().count()),
        (&HeaderValue::from_static("public, max-age=60"), 1)
    );
}

#[tokio::test]
async fn x15_a_coded_body_is_refused_unread() {
    let edge = edge(|_| ());
    for coding in ["gzip", "br", "deflate", "zstd", "gzip, gzip", "identity, gzip", ""] {
        let request = asked("POST", "/json").header("content-encoding", coding).body(Body::from("x")).unwrap();
        let (status, headers, body) = answer(&edge, request).await;
        assert_eq!(
            (status, &headers["accept-encoding"]),
            (StatusCode::UNSUPPORTED_MEDIA_TYPE, &"identity".parse().unwrap()),
            "{coding}"
        );
        assert!(body.contains("/problems/unsupported-media-type"), "{body}");
    }
    let request =
        asked("POST", "/json").header("content-encoding", "Identity").header("content-type", "application/json");
    let (status, ..) = answer(&edge, request.body(Body::from("{\"_count\":1}")).unwrap()).await;
    assert_eq!(status, StatusCode::OK, "the control");
}

#[tokio::test]
async fn pages_of_listed_origins_may_read_answers_and_no_others() {
    let edge = edge(|config| config.allowed_origins = vec![PAGE.to_owned(), "https://b.example".to_owned()]);
    let from = |method: &str, path: &str, origin: &str| asked(method, path).header(ORIGIN, origin);
    for path in ["/fine", "/nothing", "/panic/x"] {
        let (_, headers, _) = answer(&edge, from("GET", path, PAGE).body(Body::empty()).unwrap()).await;
        assert_eq!(headers[ACCESS_CONTROL_ALLOW_ORIGIN], PAGE, "{path}");
        let exposed = headers[ACCESS_CONTROL_EXPOSE_HEADERS].to_str().unwrap().to_owned();
        for name in ["retry-after", "ratelimit", "ratelimit-policy", "x-request-id", "etag", "location"] {
            assert!(exposed.split(',').any(|it| it.trim() == name), "{exposed}");
        }
        assert!(headers[VARY].to_str().unwrap().to_lowercase().contains("origin"));
        assert!(!headers.contains_key(ACCESS_CONTROL_ALLOW_CREDENTIALS));
    }
    for other in ["https://app.example.evil", "http://app.example", "https://app.example:444", "null"] {
        let (_, headers, _) = answer(&edge, from("GET", "/fine", other).body(Body::empty()).unwrap()).await;
        assert!(!headers.contains_key(ACCESS_CONTROL_ALLOW_ORIGIN), "{other}");
        assert!(headers.contains_key(VARY), "a cache must not give it to another origin");
    }
    let preflight = |origin: &str| {
        let request = from("OPTIONS", "/json", origin).header("access-control-request-method", "POST");
        request.header("access-control-request-headers", "authorization").body(Body::empty()).unwrap()
    };
    let (status, headers, _) = answer(&edge, preflight(PAGE)).await;
    assert_eq!((status, &headers[ACCESS_CONTROL_ALLOW_ORIGIN]), (StatusCode::OK, &PAGE.parse().unwrap()));
    let methods = headers[ACCESS_CONTROL_ALLOW_METHODS].to_str().unwrap();
    assert!(["GET", "POST", "PUT", "PATCH", "DELETE"].iter().all(|method| methods.contains(method)), "{methods}");
    let allowed = headers[ACCESS_CONTROL_ALLOW_HEADERS].to_str().unwrap();
    assert!(
        ["authorization", "content-type", "idempotency-key"].iter().all(|name| allowed.contains(name)),
        "{allowed}"
    );
    let (_, headers, _) = answer(&edge, preflight("https://evil.example")).await;
    assert!(!headers.contains_key(ACCESS_CONTROL_ALLOW_ORIGIN));
    let (status, ..) = answer(&edge, asked("OPTIONS", "/fine").body(Body::empty()).unwrap()).await;
    assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED, "no preflight");
    // Without a list nobody is told anything.
    let closed = super::tests::edge(|_| ());
    let (status, headers, _) = answer(&closed, preflight(PAGE)).await;
    assert!(status == StatusCode::METHOD_NOT_ALLOWED && !headers.contains_key(ACCESS_CONTROL_ALLOW_ORIGIN));
}

#[tokio::test]
async fn x13_an_address_over_its_limit_hears_when_to_come_again_before_anything_is_parsed() {
    let edge = edge(|config| {
        config.limits.address_requests = Rate { per_s: 1, burst: 3 };
        config.limits.trusted_proxies = vec!["10.0.0.0/8".parse().unwrap()];
        config.allowed_origins = vec![PAGE.to_owned()];
    });
    let from = async |peer: [u8; 4], forwarded: &str| {
        let request = asked("GET", "/fine").header("x-forwarded-for", forwarded).header(ORIGIN, PAGE);
        edge.answer(peer.into(), request.body(Body::empty()).unwrap()).await
    };
    for left in [2, 1, 0] {
        let answer = from(CLIENT, "203.0.113.7").await;
        assert_eq!(
            (answer.status(), &answer.headers()["ratelimit-policy"]),
            (StatusCode::OK, &"\"address\";q=3;w=3".parse().unwrap())
        );
        let limit = answer.headers()["ratelimit"].to_str().unwrap().to_owned();
        assert!(limit.starts_with(&format!("\"address\";r={left};t=")), "{limit}");
    }
    // What it writes into the header is nothing to us, and what it sends is not looked at.
    for forwarded in ["203.0.113.8", "127.0.0.1", "nonsense"] {
        let answer = from(CLIENT, forwarded).await;
        assert_eq!(answer.status(), StatusCode::TOO_MANY_REQUESTS, "{forwarded}");
        assert_eq!(answer.headers()[RETRY_AFTER], "1");
        assert_eq!(answer.headers()["ratelimit"], "\"address\";r=0;t=1");
        assert_eq!(answer.headers()[ACCESS_CONTROL_ALLOW_ORIGIN], PAGE, "its page may read why");
    }
    let coded = asked("POST", "/json").header("content-encoding", "gzip").body(Body::from("{")).unwrap();
    let (status, _, body) = answer(&edge, coded).await;
    assert!(status == StatusCode::TOO_MANY_REQUESTS && body.contains("/problems/rate-limited"), "{body}");
    let preflight = asked("OPTIONS", "/fine").header(ORIGIN, PAGE).header("access-control-request-method", "GET");
    let (status, ..) = answer(&edge, preflight.body(Body::empty()).unwrap()).await;
    assert_eq!(status, StatusCode::TOO_MANY_REQUESTS);
    // A proxy of ours is believed: each of its clients is one.
    for _ in 0..3 {
        assert_eq!(from([10, 0, 0, 1], "203.0.113.7").await.status(), StatusCode::OK);
    }
    assert_eq!(from([10, 0, 0, 1], "127.0.0.1, 203.0.113.7").await.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(from([10, 0, 0, 1], "203.0.113.9").await.status(), StatusCode::OK);
    // A proxy that nobody listed is no reason to let all of its clients off.
    for status in [StatusCode::OK, StatusCode::OK, StatusCode::OK, StatusCode::TOO_MANY_REQUESTS] {
        assert_eq!(from([127, 0, 0, 1], "198.51.100.9").await.status(), status);
    }
    // This machine, speaking for itself, is exempt, and is told of no limit.
    for _ in 0..10 {
        let request = asked("GET", "/fine").body(Body::empty()).unwrap();
        let answer = edge.answer([127, 0, 0, 1].into(), request).await;
        assert!(answer.status() == StatusCode::OK && !answer.headers().contains_key("ratelimit"));
    }
}
