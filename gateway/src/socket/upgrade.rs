//! The HTTP upgrade: what a request must have, and the answer when it has not.
//!
//! All checks are ours; fastwebsockets only computes the accept key and switches protocols. No extension is ever
//! negotiated (X15), no cookie is looked at (X2) and nothing of the request is echoed but the sub-protocol.

use std::fmt;

use fastwebsockets::upgrade::is_upgrade_request;
use http_body_util::Empty;
use hyper::body::{Body, Bytes};
use hyper::header::{
    ALLOW, AUTHORIZATION, CONNECTION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, ORIGIN, RETRY_AFTER,
    SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use hyper::{Method, Request, Response, StatusCode, Version};

use crate::limits::TooMany;

/// Where sockets are opened. There is no query string: a token in a URL ends up in logs (X3).
pub const PATH: &str = "/v1/socket";

/// Carries the refusal's code, which is the API; the status is only its class.
const CODE_HEADER: HeaderName = HeaderName::from_static("heliograph-error");

/// The encoding of the messages on a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SubProtocol {
    /// `heliograph.v1.proto`: protobuf in binary messages.
    Proto,
    /// `heliograph.v1.json`: canonical protobuf JSON in text messages.
    Json,
}

impl SubProtocol {
    /// Those that a client may ask for.
    pub const ACCEPTED: &[SubProtocol] = &[SubProtocol::Proto, SubProtocol::Json];

    /// The name in `Sec-WebSocket-Protocol`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Proto => "heliograph.v1.proto",
            Self::Json => "heliograph.v1.json",
        }
    }
}

/// A bearer token as the client sent it, unchecked. It never shows in debug output.
#[derive(Clone, PartialEq, Eq)]
pub struct Bearer(Box<str>);

impl Bearer {
    /// The token itself; not to be logged.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Bearer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Bearer(…)")
    }
}

/// Why an upgrade was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Plain HTTP where TLS is spoken.
    TlsRequired,
    /// Another path, or a query string behind it.
    Path,
    /// Not GET.
    Method,
    /// HTTP/1.0.
    HttpVersion,
    /// A GET with a body.
    BodyNotEmpty,
    /// `Connection` and `Upgrade` do not ask for a WebSocket.
    NotAnUpgrade,
    /// Another version of WebSocket than 13.
    WebSocketVersion,
    /// `Sec-WebSocket-Key` is not one key of 16 bytes.
    Key,
    /// An `Origin` that is not in the list.
    Origin,
    /// None of the offered sub-protocols is ours.
    SubProtocol,
    /// Too many sockets, or too many that are being opened.
    Full,
    /// More connect at once than are let in, whoever they are.
    TooManyAtOnce {
        /// When to come again.
        retry_after_s: u32,
    },
    /// The client's address connects too often, or leaves too many sockets unauthenticated.
    TooManyConnects {
        /// When to come again.
        retry_after_s: u32,
    },
    /// The client's address has too many sockets.
    TooManySockets,
}

impl Refusal {
    /// Name in the `heliograph-error` header, in the body and on the counter.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::TlsRequired => "tls_required",
            Self::Path => "unknown_path",
            Self::Method => "method_not_allowed",
            Self::HttpVersion => "http_version",
            Self::BodyNotEmpty => "body_not_empty",
            Self::NotAnUpgrade => "not_an_upgrade",
            Self::WebSocketVersion => "websocket_version",
            Self::Key => "websocket_key",
            Self::Origin => "origin_not_allowed",
            Self::SubProtocol => "sub_protocol",
            Self::Full | Self::TooManyAtOnce { .. } => "overloaded",
            Self::TooManyConnects { .. } => "too_many_connects",
            Self::TooManySockets => "too_many_sockets",
        }
    }

    /// The status of the answer.
    #[must_use]
    pub const fn status(self) -> StatusCode {
        match self {
            Self::Path => StatusCode::NOT_FOUND,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::HttpVersion => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            Self::TlsRequired | Self::BodyNotEmpty | Self::Key | Self::SubProtocol => StatusCode::BAD_REQUEST,
            Self::NotAnUpgrade | Self::WebSocketVersion => StatusCode::UPGRADE_REQUIRED,
            Self::Origin => StatusCode::FORBIDDEN,
            Self::Full | Self::TooManyAtOnce { .. } => StatusCode::SERVICE_UNAVAILABLE,
            Self::TooManyConnects { .. } | Self::TooManySockets => StatusCode::TOO_MANY_REQUESTS,
        }
    }

    /// When to come again, if it is only a matter of time.
    const fn retry_after_s(self) -> Option<u32> {
        match self {
            Self::Full => Some(1),
            Self::TooManyAtOnce { retry_after_s } | Self::TooManyConnects { retry_after_s } => Some(retry_after_s),
            // Until one of its sockets has gone.
            Self::TooManySockets => Some(10),
            Self::TlsRequired
            | Self::Path
            | Self::Method
            | Self::HttpVersion
            | Self::BodyNotEmpty
            | Self::NotAnUpgrade
            | Self::WebSocketVersion
            | Self::Key
            | Self::Origin
            | Self::SubProtocol => None,
        }
    }

    /// The whole answer, for a connection that is refused before its request is read.
    pub(super) fn bytes(self) -> String {
        let retry_after =
            self.retry_after_s().map_or_else(String::new, |after_s| format!("retry-after: {after_s}\r\n"));
        format!(
            "HTTP/1.1 {}\r\n{CODE_HEADER}: {}\r\n{retry_after}connection: close\r\ncontent-length: 0\r\n\r\n",
            self.status(),
            self.code()
        )
    }

    pub(super) fn response(self) -> Response<String> {
        let mut response = Response::new(format!("{}\n", self.code()));
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        headers.insert(CODE_HEADER, HeaderValue::from_static(self.code()));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
        if let Some(after_s) = self.retry_after_s() {
            headers.insert(RETRY_AFTER, HeaderValue::from(after_s));
        }
        match self {
            Self::Method => {
                headers.insert(ALLOW, HeaderValue::from_static("GET"));
            }
            Self::NotAnUpgrade => {
                headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
                headers.insert(CONNECTION, HeaderValue::from_static("upgrade, close"));
            }
            Self::WebSocketVersion => {
                headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
            }
            Self::TlsRequired
            | Self::Path
            | Self::HttpVersion
            | Self::BodyNotEmpty
            | Self::Key
            | Self::Origin
            | Self::SubProtocol
            | Self::Full
            | Self::TooManyAtOnce { .. }
            | Self::TooManyConnects { .. }
            | Self::TooManySockets => {}
        }
        response
    }
}

impl From<TooMany> for Refusal {
    fn from(too_many: TooMany) -> Self {
        match too_many {
            // Rounded up: one who waits as long as told must not be early.
            TooMany::Connects { retry_after } => Self::TooManyConnects {
                retry_after_s: u32::try_from(retry_after.as_secs()).unwrap_or(u32::MAX).saturating_add(1),
            },
            TooMany::Sockets => Self::TooManySockets,
        }
    }
}

/// What an acceptable request asks for.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) sub_protocol: SubProtocol,
    pub(super) bearer: Option<Bearer>,
}

/// Checks everything that the upgrade needs.
pub(super) fn check<B: Body>(request: &Request<B>, allowed_origins: &[String]) -> Result<Asked, Refusal> {
    let headers = request.headers();
    if request.uri().path() != PATH || request.uri().query().is_some() {
        return Err(Refusal::Path);
    }
    if request.method() != Method::GET {
        return Err(Refusal::Method);
    }
    if request.version() != Version::HTTP_11 {
        return Err(Refusal::HttpVersion);
    }
    if !request.body().is_end_stream() {
        return Err(Refusal::BodyNotEmpty);
    }
    if !is_upgrade_request(request) {
        return Err(Refusal::NotAnUpgrade);
    }
    if only(headers, &SEC_WEBSOCKET_VERSION) != Some("13") {
        return Err(Refusal::WebSocketVersion);
    }
    if !only(headers, &SEC_WEBSOCKET_KEY).is_some_and(is_key) {
        return Err(Refusal::Key);
    }
    if headers.contains_key(ORIGIN) {
        // Exact, as browsers send it. Two headers are no answer to where the page came from.
        let origin = only(headers, &ORIGIN).ok_or(Refusal::Origin)?;
        if !allowed_origins.iter().any(|allowed| allowed == origin) {
            return Err(Refusal::Origin);
        }
    }
    let sub_protocol = offered(headers)
        .find_map(|name| SubProtocol::ACCEPTED.iter().find(|accepted| accepted.name() == name))
        .ok_or(Refusal::SubProtocol)?;
    Ok(Asked { sub_protocol: *sub_protocol, bearer: bearer(headers) })
}

/// The answer to a checked request; the upgrade future gives the stream once it is sent.
pub(super) fn switch<B>(
    request: &mut Request<B>,
    asked: &Asked,
) -> Result<(Response<Empty<Bytes>>, fastwebsockets::upgrade::UpgradeFut), Refusal> {
    // The crate looks at key and version only, both checked above.
    let (mut response, upgrade) = match fastwebsockets::upgrade::upgrade(request) {
        Ok(switched) => switched,
        Err(error) => {
            tracing::debug!(%error, "upgrade refused after the checks");
            return Err(Refusal::Key);
        }
    };
    let name = HeaderValue::from_static(asked.sub_protocol.name());
    response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, name);
    Ok((response, upgrade))
}

/// The header's value if it stands there exactly once.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    if values.next().is_some() { None } else { value.to_str().ok() }
}

fn offered(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    headers
        .get_all(SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
}

/// Base64 of 16 bytes.
fn is_key(key: &str) -> bool {
    let is_digit = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/';
    key.len() == 24 && key.ends_with("==") && key.bytes().take(22).all(is_digit)
}

fn bearer(headers: &HeaderMap) -> Option<Bearer> {
    let (scheme, token) = only(headers, &AUTHORIZATION)?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| Bearer(token.trim().into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &[(&str, &str)] = &[
        ("connection", "keep-alive, Upgrade"),
        ("upgrade", "WebSocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("sec-websocket-protocol", "other, heliograph.v1.proto"),
    ];

    /// The good request with some headers replaced (none: left out, several: repeated).
    fn request(changes: &[(&str, &[&str])]) -> Request<Empty<Bytes>> {
        let mut request = Request::builder().uri(PATH);
        for (name, value) in GOOD {
            if !changes.iter().any(|(changed, _)| changed == name) {
                request = request.header(*name, *value);
            }
        }
        for (name, values) in changes {
            for value in *values {
                request = request.header(*name, *value);
            }
        }
        request.body(Empty::new()).unwrap()
    }

    fn refused(request: &Request<Empty<Bytes>>) -> Option<Refusal> {
        check(request, &["https://app.example".to_owned()]).err()
    }

    #[test]
    fn a_good_request_passes() {
        let asked = check(&request(&[("authorization", &["Bearer abc"])]), &[]).unwrap();
        assert_eq!(asked.sub_protocol, SubProtocol::Proto);
        assert_eq!(asked.bearer.as_ref().map(Bearer::expose), Some("abc"));
        assert!(!format!("{asked:?}").contains("abc"));
    }

    #[test]
    fn the_first_offered_sub_protocol_that_is_ours_is_taken() {
        let taken = |offer| check(&request(&[("sec-websocket-protocol", &[offer])]), &[]).unwrap().sub_protocol;
        assert_eq!(taken("other, heliograph.v1.json, heliograph.v1.proto"), SubProtocol::Json);
        assert_eq!(taken("heliograph.v1.proto, heliograph.v1.json"), SubProtocol::Proto);
    }

    #[test]
    fn each_missing_or_wrong_header_has_its_refusal() {
        let cases: &[(&str, &[&str], Option<Refusal>)] = &[
            ("connection", &[], Some(Refusal::NotAnUpgrade)),
            ("connection", &["keep-alive"], Some(Refusal::NotAnUpgrade)),
            ("connection", &["keep-alive", "upgrade"], None),
            ("upgrade", &[], Some(Refusal::NotAnUpgrade)),
            ("upgrade", &["h2c"], Some(Refusal::NotAnUpgrade)),
            ("sec-websocket-version", &[], Some(Refusal::WebSocketVersion)),
            ("sec-websocket-version", &["8"], Some(Refusal::WebSocketVersion)),
            ("sec-websocket-version", &["13", "8"], Some(Refusal::WebSocketVersion)),
            ("sec-websocket-key", &[], Some(Refusal::Key)),
            ("sec-websocket-key", &["short"], Some(Refusal::Key)),
            ("sec-websocket-key", &["dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZQ=="], Some(Refusal::Key)),
            ("origin", &["https://app.example"], None),
            ("origin", &["https://app.example:8443"], Some(Refusal::Origin)),
            ("origin", &["https://app.example.evil.example"], Some(Refusal::Origin)),
            ("origin", &["null"], Some(Refusal::Origin)),
            ("origin", &["https://app.example", "https://app.example"], Some(Refusal::Origin)),
            ("sec-websocket-protocol", &[], Some(Refusal::SubProtocol)),
            ("sec-websocket-protocol", &["heliograph.v2.proto"], Some(Refusal::SubProtocol)),
            ("sec-websocket-protocol", &["heliograph.v1.json"], None),
            ("sec-websocket-protocol", &["a", "b,heliograph.v1.proto"], None),
        ];
        for (name, values, refusal) in cases {
            assert_eq!(refused(&request(&[(name, values)])), *refusal, "{name}: {values:?}");
        }
    }

    #[test]
    fn only_the_bare_path_opens_a_socket() {
        for uri in ["/", "/v1/socket/", "/v1/socket?token=x", "/v1"] {
            let mut request = request(&[]);
            *request.uri_mut() = uri.parse().unwrap();
            assert_eq!(refused(&request), Some(Refusal::Path), "{uri}");
        }
        let mut request = request(&[]);
        *request.method_mut() = Method::POST;
        assert_eq!(refused(&request), Some(Refusal::Method));
    }
}
