//! What a request is refused with: RFC 9457 problems of a closed list of types.
//!
//! A client goes by `type` and `status`; `title` and `detail` are for people and may change.

use std::time::Duration;

use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use domain::{Code, UserId, text};
use metrics::counter;
use serde::Serialize;
use store::ReadError;
use utoipa::ToSchema;

/// The media type of problems.
pub(crate) const MEDIA_TYPE: &str = "application/problem+json";
/// What the description calls them.
pub(crate) const SCHEMA: &str = "Problem";
/// Where the types are written down: a path of this server's own documentation.
const TYPES: &str = "/problems/";

macro_rules! kinds {
    ($($(#[doc = $doc:literal])* $kind:ident = $status:ident, $name:literal;)*) => {
        /// The types of problems.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub(crate) enum Kind {
            $($(#[doc = $doc])* $kind,)*
        }

        impl Kind {
            #[cfg(test)]
            pub(crate) const ALL: &[Self] = &[$(Self::$kind),*];

            pub(crate) const fn status(self) -> StatusCode {
                match self { $(Self::$kind => StatusCode::$status,)* }
            }

            pub(crate) const fn name(self) -> &'static str {
                match self { $(Self::$kind => $name,)* }
            }

            pub(crate) fn title(self) -> &'static str {
                match self { $(Self::$kind => concat!($($doc),*).trim(),)* }
            }
        }
    };
}

kinds! {
    /// The request is not what the description of the API says.
    BadRequest = BAD_REQUEST, "bad-request";
    /// No token, or one that is not good here.
    Unauthenticated = UNAUTHORIZED, "unauthenticated";
    /// Handle and password do not belong together.
    WrongPassword = UNAUTHORIZED, "wrong-password";
    /// An operator has banned the user.
    Banned = FORBIDDEN, "banned";
    /// The refresh token is not good; if it was used twice, its sign-in has been ended.
    RefreshRefused = UNAUTHORIZED, "refresh-refused";
    /// There is nothing there, or it is not for the caller to know.
    NotFound = NOT_FOUND, "not-found";
    /// The path has no such method.
    MethodNotAllowed = METHOD_NOT_ALLOWED, "method-not-allowed";
    /// The handle is somebody else's.
    HandleTaken = CONFLICT, "handle-taken";
    /// The request under this key was another one.
    KeyReused = CONFLICT, "key-reused";
    /// The chat decided against it; the code says why.
    Rejected = CONFLICT, "rejected";
    /// Somebody changed it meanwhile: read it again first.
    Changed = CONFLICT, "changed";
    /// There are as many of these as there may be: take one away first.
    TooMany = CONFLICT, "too-many";
    /// The invite has ended, was used up, or lets nobody in any more.
    InviteEnded = GONE, "invite-ended";
    /// Somebody who was named has gone, or does not want to be reached.
    NotReachable = CONFLICT, "not-reachable";
    /// The body is longer than one may be.
    TooLarge = PAYLOAD_TOO_LARGE, "too-large";
    /// The body is not JSON by its content type.
    UnsupportedMediaType = UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type";
    /// More than may be asked for: come back after the time.
    RateLimited = TOO_MANY_REQUESTS, "rate-limited";
    /// Too many sign-ins or commands wait: come back after the time.
    Busy = SERVICE_UNAVAILABLE, "busy";
    /// Something that is needed is away: come back after the time.
    Unavailable = SERVICE_UNAVAILABLE, "unavailable";
    /// What is asked for is not stored yet: come back after the time.
    NotYet = SERVICE_UNAVAILABLE, "not-yet";
    /// A fault of the server.
    Internal = INTERNAL_SERVER_ERROR, "internal";
}

/// A refusal (RFC 9457).
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub(crate) struct Body {
    /// Names the type of problem.
    #[serde(rename = "type")]
    #[schema(example = "/problems/not-found")]
    kind: String,
    /// The type in words.
    title: &'static str,
    /// The HTTP status.
    status: u16,
    /// This occurrence in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    /// With `rejected`: the code of the protocol's table of errors.
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<i32>,
    /// The request's id, as `x-request-id` has it: to be named in a report.
    request_id: String,
}

/// Why a request is refused.
#[derive(Debug)]
pub(crate) struct Problem {
    kind: Kind,
    detail: Option<String>,
    code: Option<Code>,
    retry_after: Option<Duration>,
}

impl From<Kind> for Problem {
    fn from(kind: Kind) -> Self {
        let retry_after = (kind.status() == StatusCode::SERVICE_UNAVAILABLE).then_some(Duration::from_secs(1));
        Self { kind, detail: None, code: None, retry_after }
    }
}

impl Problem {
    /// A malformed request, with what is wrong with it.
    pub(crate) fn bad(detail: impl Into<String>) -> Self {
        Self { detail: Some(detail.into()), ..Kind::BadRequest.into() }
    }

    /// The name of its type as clients see it.
    pub(crate) fn type_name(&self) -> String {
        format!("{TYPES}{}", self.kind.name())
    }

    /// The protocol's code, where the client may know it.
    pub(crate) fn code(&self) -> Option<i32> {
        self.code.map(|code| code as i32)
    }

    /// Whether it says nothing of what was asked, only that it cannot be said now.
    pub(crate) fn is_unavailability(&self) -> bool {
        self.kind.status().is_server_error()
    }

    /// More than a client may take; as much may be asked for after this time.
    pub(crate) fn limited(wait: Duration) -> Self {
        Self { retry_after: Some(wait), ..Kind::RateLimited.into() }
    }

    /// Somebody is not to be reached; why, nobody learns.
    pub(crate) fn not_reachable(user: UserId) -> Self {
        Self { detail: Some(user.to_string()), ..Kind::NotReachable.into() }
    }

    /// Its type.
    pub(crate) const fn kind(&self) -> Kind {
        self.kind
    }

    /// The chat's own decision.
    pub(crate) fn rejected(code: Code) -> Self {
        // Who is not in a chat does not learn whether there is one.
        const OTHERWISE: [(Code, Kind); 6] = [
            (Code::BadRequest, Kind::BadRequest),
            (Code::BodyTooLarge, Kind::TooLarge),
            (Code::UnknownChat, Kind::NotFound),
            (Code::NotAMember, Kind::NotFound),
            (Code::Conflict, Kind::KeyReused),
            (Code::Unavailable, Kind::Unavailable),
        ];
        let kind = OTHERWISE.iter().find(|(named, _)| *named == code).map_or(Kind::Rejected, |(_, kind)| *kind);
        if kind == Kind::NotFound {
            return kind.into();
        }
        Self { detail: Some(text(code).to_owned()), code: Some(code), ..kind.into() }
    }
}

impl From<store::Error> for Problem {
    fn from(error: store::Error) -> Self {
        if matches!(error, store::Error::NotYet { .. }) {
            return Kind::NotYet.into();
        }
        if matches!(error, store::Error::Full { .. }) {
            return Kind::TooMany.into();
        }
        if matches!(error, store::Error::Length { .. }) {
            return Self::bad("something is longer or shorter than it may be");
        }
        tracing::warn!(error = &error as &dyn std::error::Error, "the store refused a request");
        // A store that takes nothing more ends the process, and the next one answers.
        if error.is_retryable() || error.is_final() { Kind::Unavailable.into() } else { Kind::Internal.into() }
    }
}

impl From<ReadError> for Problem {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::UnknownChat | ReadError::NotAMember => Kind::NotFound.into(),
            ReadError::OutOfRange => Self::bad("there is nothing above `after`"),
            ReadError::Store(error) => error.into(),
        }
    }
}

impl From<JsonRejection> for Problem {
    fn from(rejection: JsonRejection) -> Self {
        match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => Kind::TooLarge.into(),
            StatusCode::UNSUPPORTED_MEDIA_TYPE => Kind::UnsupportedMediaType.into(),
            _ => match misfit::<serde_json::Error>(&rejection) {
                Some((at, error)) if error.is_data() => Self::bad(format!(
                    "the body is not as described{at}: line {}, column {}",
                    error.line(),
                    error.column()
                )),
                Some((_, error)) => {
                    Self::bad(format!("the body is no JSON: line {}, column {}", error.line(), error.column()))
                }
                None => Self::bad("the body cannot be read"),
            },
        }
    }
}

impl From<QueryRejection> for Problem {
    fn from(rejection: QueryRejection) -> Self {
        let at = misfit::<serde::de::value::Error>(&rejection).map(|(at, _)| at).unwrap_or_default();
        Self::bad(format!("the query is not as described{at}"))
    }
}

/// Where what was sent is not as described, in words of our own: what libraries say may quote what was sent.
fn misfit<'a, E: std::error::Error + 'static>(
    rejection: &'a (dyn std::error::Error + 'static),
) -> Option<(String, &'a E)> {
    let causes = std::iter::successors(Some(rejection), |error| error.source());
    let found = causes.filter_map(|error| error.downcast_ref::<serde_path_to_error::Error<E>>()).next()?;
    let path = found.path().to_string();
    // A name that was made up is the sender's own text, and may be long.
    let is_plain = path.len() <= 64 && path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._[]".contains(&byte));
    let at = if is_plain && path != "." { format!(" at `{path}`") } else { String::new() };
    Some((at, found.inner()))
}

impl From<PathRejection> for Problem {
    /// A path with an id that is none leads nowhere.
    fn from(_rejection: PathRejection) -> Self {
        Kind::NotFound.into()
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let type_name = self.type_name();
        let Self { kind, detail, code, retry_after } = self;
        counter!("api_requests_refused_total", "problem" => kind.name()).increment(1);
        let status = kind.status();
        let body = Body {
            kind: type_name,
            title: kind.title(),
            status: status.as_u16(),
            detail,
            code: code.map(|code| code as i32),
            request_id: String::new(),
        };
        let mut response = status.into_response();
        response.extensions_mut().insert(body);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        if let Some(wait) = retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(retry_after_s(wait)));
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// Rounded up: who waits as long as told is not early.
fn retry_after_s(wait: Duration) -> u64 {
    wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0)).max(1)
}

/// Writes the body of a refusal, with the id of its request; any other answer stays as it is.
pub(crate) fn written(mut response: Response, request_id: &str) -> Response {
    if let Some(body) = response.extensions_mut().remove::<Body>() {
        let body = Body { request_id: request_id.to_owned(), ..body };
        // Strings and numbers: nothing that could fail.
        *response.body_mut() = serde_json::to_vec(&body).unwrap_or_default().into();
        response.headers_mut().remove(CONTENT_LENGTH);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_the_page_has_each_type_with_its_status() {
        let page = include_str!("../../docs/api.md");
        let (_, rows) = page.split_once("| type | status |").unwrap();
        let rows: Vec<_> = rows.lines().skip(2).take_while(|line| line.starts_with('|')).collect();
        for kind in Kind::ALL {
            let name = format!("`{}`", kind.name());
            let row = rows.iter().find(|row| row.split('|').nth(1).is_some_and(|cell| cell.contains(&name)));
            let row = row.unwrap_or_else(|| panic!("{name} is not on the page"));
            assert!(row.contains(&format!("| {} |", kind.status().as_u16())), "{row}");
        }
        let named: usize = rows.iter().map(|row| row.split('|').nth(1).unwrap().matches('`').count() / 2).sum();
        assert_eq!(named, Kind::ALL.len(), "the page names types that there are not");
    }
}
