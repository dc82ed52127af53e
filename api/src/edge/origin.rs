//! Where a request comes from: its id, its client, and what it was counted by.

use std::net::IpAddr;
use std::sync::Arc;

use audit::{Action, Event, Outcome};
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue};
use limits::{counted, sender};
use uuid::Uuid;

use super::quota::Tally;
use super::settings::ClientLimits;
use crate::problem::{Kind, Problem};

/// Characters of an id that a caller may give its request.
const ID_CHARS_MAX: usize = 128;
/// Characters of what a caller wrote that go into the audit log; no handle and no device has more.
const AUDITED_CHARS_MAX: usize = 128;

/// Where a request comes from.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    /// Names the request in its answer, in log lines and in the audit log.
    pub(crate) request_id: Arc<str>,
    /// Whose request it is, as far as trusted proxies tell.
    pub(crate) address: IpAddr,
    /// Whom it counts for; none: no limit of a client holds.
    pub(super) counted: Option<IpAddr>,
    pub(super) tally: Tally,
}

impl Origin {
    pub(super) fn new(peer: IpAddr, headers: &HeaderMap, limits: &ClientLimits) -> Self {
        let address = sender(peer, headers, &limits.trusted_proxies);
        let counted = counted(peer, headers, &limits.trusted_proxies, &limits.unlimited);
        let mut ids = headers.get_all("x-request-id").iter();
        let given = ids.next().filter(|_| ids.next().is_none()).and_then(visible);
        let request_id = given.map_or_else(|| Uuid::now_v7().to_string().into(), Arc::from);
        Self { request_id, address, counted, tally: Tally::default() }
    }

    /// The id as a header's value.
    pub(super) fn header(&self) -> HeaderValue {
        HeaderValue::from_str(&self.request_id).unwrap_or(HeaderValue::from_static("-"))
    }

    /// An event of this request.
    pub(crate) fn event(&self, action: Action, outcome: Outcome) -> Event {
        Event {
            address: Some(self.address),
            request_id: Some(self.request_id.to_string()),
            ..Event::new(action, outcome)
        }
    }

    /// What was tried with this request and what came of it; none if it came to no decision.
    ///
    /// What is malformed or over a limit is counted elsewhere: a flood of it must not fill the disk.
    pub(crate) fn tried<T>(&self, action: Action, done: &Result<T, Problem>) -> Option<Event> {
        let problem = match done {
            Ok(_) => return Some(self.event(action, Outcome::Ok)),
            Err(problem) => problem.kind(),
        };
        let is_undecided = matches!(problem, Kind::BadRequest | Kind::TooLarge | Kind::RateLimited | Kind::Busy);
        // Broken off: what was begun may be done.
        let is_broken_off = problem.status().is_server_error();
        let outcome = if is_broken_off { Outcome::Pending } else { Outcome::Refused };
        (!is_undecided).then(|| Event { detail: Some(problem.name()), ..self.event(action, outcome) })
    }
}

/// What a caller wrote, as far as the audit log takes it.
pub(crate) fn audited(text: &str) -> Option<String> {
    Some(text.chars().take(AUDITED_CHARS_MAX).collect())
}

fn visible(value: &HeaderValue) -> Option<&str> {
    let text = std::str::from_utf8(value.as_bytes()).ok()?;
    let is_fine = (1..=ID_CHARS_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    is_fine.then_some(text)
}

impl<S: Sync> FromRequestParts<S> for Origin {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        parts.extensions.get().cloned().ok_or_else(|| Kind::Internal.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(given: &[&[u8]]) -> String {
        let mut headers = HeaderMap::new();
        for value in given {
            headers.append("x-request-id", HeaderValue::from_bytes(value).unwrap());
        }
        Origin::new([192, 0, 2, 1].into(), &headers, &ClientLimits::default()).request_id.to_string()
    }

    #[test]
    fn an_id_is_the_callers_if_it_can_be_shown_anywhere_and_drawn_otherwise() {
        let longest = [b'x'; ID_CHARS_MAX];
        for fine in [&b"r"[..], b"a-b/c:{\"}~", &longest] {
            assert_eq!(id(&[fine]).as_bytes(), fine);
        }
        let drawn = |given: &[&[u8]]| Uuid::parse_str(&id(given)).unwrap().get_version_num();
        for bad in [&b""[..], b"a b", b"a\tb", "ä".as_bytes(), b"\xff", &[b'x'; ID_CHARS_MAX + 1]] {
            assert_eq!(drawn(&[bad]), 7, "{bad:?}");
        }
        assert_eq!((drawn(&[]), drawn(&[b"one", b"two"])), (7, 7));
        assert_ne!(id(&[]), id(&[]));
    }
}
