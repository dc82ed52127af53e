//! Answers under a tag: who has the same already is told so and sent nothing (RFC 9110 §8.8.3, §13.1.2).
//!
//! The tag is made of the answer's own bytes, so it spares the network and not the reads.

use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};
use serde::{Deserialize, Serialize};
use utoipa::IntoParams;
use xxhash_rust::xxh3::xxh3_128;

use crate::problem::{Kind, Problem};

/// As the description of the API names it.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "read from the headers; this describes it")]
pub(crate) struct Header {
    /// The `ETag` of an earlier answer: 304 if this one would be the same.
    #[serde(rename = "If-None-Match")]
    if_none_match: Option<String>,
}

/// The value as JSON under its tag; 304 and no body if the client names that tag.
pub(crate) fn tagged<T: Serialize>(headers: &HeaderMap, value: &T) -> Result<Response, Problem> {
    let body = serde_json::to_vec(value).map_err(|_fault| Problem::from(Kind::Internal))?;
    let tag = format!("\"{:032x}\"", xxh3_128(&body));
    let is_known = headers.get_all(IF_NONE_MATCH).iter().any(|named| names(named, &tag));
    let mut response = if is_known {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        ([(CONTENT_TYPE, HeaderValue::from_static("application/json"))], Body::from(body)).into_response()
    };
    let tag = HeaderValue::try_from(tag).map_err(|_fault| Problem::from(Kind::Internal))?;
    response.headers_mut().insert(ETAG, tag);
    // Kept by the client alone, and asked for anew each time.
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    Ok(response)
}

/// Whether an `If-None-Match` names this tag. Weak ones count too; ours have no comma in them.
fn names(header: &HeaderValue, tag: &str) -> bool {
    let Ok(named) = header.to_str() else { return false };
    let is_it = |one: &str| one.strip_prefix("W/").unwrap_or(one) == tag;
    named.trim() == "*" || named.split(',').map(str::trim).any(is_it)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_found_among_others_weak_or_not() {
        let is_named = |header: &'static str| names(&HeaderValue::from_static(header), "\"ab\"");
        for header in ["\"ab\"", "W/\"ab\"", "\"x\", \"ab\"", " \"x\",W/\"ab\" ", "*"] {
            assert!(is_named(header), "{header}");
        }
        for header in ["", "ab", "\"a\"", "W/ab", "\"x\", \"*\"", "\"xab\""] {
            assert!(!is_named(header), "{header}");
        }
    }

    #[test]
    fn the_same_value_has_the_same_tag_and_another_another() {
        let tag = |value: &str| tagged(&HeaderMap::new(), &value).unwrap().headers()[ETAG].clone();
        assert_eq!(tag("a"), tag("a"));
        assert_ne!(tag("a"), tag("b"));
        let mut headers = HeaderMap::new();
        headers.insert(IF_NONE_MATCH, tag("a"));
        assert_eq!(tagged(&headers, &"a").unwrap().status(), StatusCode::NOT_MODIFIED);
        assert_eq!(tagged(&headers, &"b").unwrap().status(), StatusCode::OK);
    }
}
