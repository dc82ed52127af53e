//! How values look in JSON: ids and times as strings, requests read strictly.

use std::fmt;
use std::marker::PhantomData;

use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use domain::Micros;
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::problem::Problem;

/// A JSON body; what is wrong with it is a problem.
pub(crate) struct Json<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let axum::Json(Object(value)) = axum::Json::from_request(request, state).await?;
        Ok(Self(value))
    }
}

/// What is an object in JSON. Serde alone would take an array for one too, its fields by their order.
pub(crate) struct Object<T>(pub(crate) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(OfObject(PhantomData))
    }
}

/// A list of objects.
pub(crate) fn objects<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    Ok(Vec::<Object<T>>::deserialize(deserializer)?.into_iter().map(|Object(value)| value).collect())
}

struct OfObject<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for OfObject<T> {
    type Value = Object<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object<T>, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(Object)
    }
}

/// The query; what is wrong with it is a problem.
pub(crate) struct Asked<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Asked<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Query(value) = Query::from_request_parts(parts, state).await?;
        Ok(Self(value))
    }
}

/// A field that may be left out, but is no null where it is said.
pub(crate) fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// As [`present`], a whole number however it is written: `5.0` is one in JSON.
pub(crate) fn whole<'de, D: Deserializer<'de>, T: TryFrom<u64>>(deserializer: D) -> Result<Option<T>, D::Error> {
    /// Above it a number in JSON may stand for its neighbour.
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
    let number = f64::deserialize(deserializer)?;
    let is_whole = number.fract() == 0.0 && (0.0..=EXACT_MAX).contains(&number);
    let whole = is_whole.then_some(number as u64).and_then(|number| T::try_from(number).ok());
    whole.map(Some).ok_or_else(|| D::Error::custom("no whole number"))
}

/// Parts of the path; with an id that is none there is nothing.
pub(crate) struct At<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for At<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Path(value) = Path::from_request_parts(parts, state).await?;
        Ok(Self(value))
    }
}

/// The last time that RFC 3339 can write: 9999-12-31T23:59:59.999999Z.
const LAST_US: Micros = 253_402_300_799_999_999;

/// µs since 1970 as RFC 3339 in UTC.
pub fn time(us: Micros) -> String {
    let time = OffsetDateTime::from_unix_timestamp_nanos(i128::from(us) * 1_000).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    time.format(&Rfc3339).unwrap_or_default()
}

/// What [`time`] made, or any other RFC 3339 from 1970 to 9999, in µs since 1970.
pub fn parse_time(text: &str) -> Option<Micros> {
    let time = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    Micros::try_from(time.unix_timestamp_nanos() / 1_000).ok().filter(|us| *us <= LAST_US)
}

/// As [`parse_time`]; `field` is what the fault is said of.
pub(crate) fn from_time(field: &str, text: &str) -> Result<Micros, Problem> {
    parse_time(text).ok_or_else(|| Problem::bad(format!("`{field}` is no RFC 3339 time from 1970 to 9999")))
}

/// Bytes as base64 (RFC 4648 §4).
pub(crate) fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// What [`base64`] made.
pub(crate) fn from_base64(text: &str) -> Result<Vec<u8>, Problem> {
    STANDARD.decode(text).map_err(|_fault| Problem::bad("`body` is no base64"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_array_is_no_object_and_null_no_value() {
        #[derive(Deserialize)]
        struct Said {
            #[serde(default, deserialize_with = "present")]
            name: Option<String>,
            #[serde(default, deserialize_with = "whole")]
            count: Option<u32>,
        }
        let read = |text| serde_json::from_str::<Object<Said>>(text).map(|Object(said)| (said.name, said.count)).ok();
        assert_eq!(read("{}"), Some((None, None)));
        assert_eq!(read(r#"{"name":"a","count":5.0}"#), Some((Some("a".to_owned()), Some(5))));
        for bad in
            ["[]", r#"["a",5]"#, r#"{"name":null}"#, r#"{"count":5.5}"#, r#"{"count":-1}"#, r#"{"count":5000000000}"#]
        {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[test]
    fn times_come_back_from_any_zone() {
        let parsed = |text| from_time("x", text).ok();
        assert_eq!(parsed("2026-09-21T14:13:20.123456Z"), Some(1_790_000_000_123_456));
        assert_eq!(parsed("2026-09-21T16:13:20.123456+02:00"), Some(1_790_000_000_123_456));
        assert_eq!(parsed("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(parsed("9999-12-31T23:59:59.999999Z").map(time), Some("9999-12-31T23:59:59.999999Z".to_owned()));
        for bad in
            ["", "tomorrow", "1969-12-31T23:59:59Z", "2026-09-21", "2026-13-01T00:00:00Z", "9999-12-31T23:59:59-23:59"]
        {
            assert_eq!(parsed(bad), None, "{bad}");
        }
    }

    #[test]
    fn times_are_rfc_3339_in_utc() {
        assert_eq!(time(0), "1970-01-01T00:00:00Z");
        assert_eq!(time(1_790_000_000_123_456), "2026-09-21T14:13:20.123456Z");
        assert_eq!(time(u64::MAX), "1970-01-01T00:00:00Z", "no such time");
    }
}
