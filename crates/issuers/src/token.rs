//! What a token of another issuer says, and whom it means here.

use domain::UserId;
use jsonwebtoken::dangerous::insecure_decode_claims;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Header, Validation, decode, decode_header};
use serde::Deserialize;
use serde_json::{Map, Value};
use tokens::{Grant, LEEWAY_S, SignedBy, TokenError};
use uuid::Uuid;

use crate::jwks::Key;
use crate::{Algorithm, IssuerConfig};

/// The media types of an access token: as RFC 9068 §2.1 has it, and as nearly all issuers write it (RFC 7519 §5.1).
const TYPES: [&str; 2] = ["at+jwt", "JWT"];
/// Of a user at an issuer: four times what `OpenID` Connect lets a subject have.
const USER_BYTES_MAX: usize = 1_024;
/// Namespace of the ids of other issuers' users; changing it makes strangers of all of them.
const NAMESPACE: Uuid = Uuid::from_u128(0x5b1d_6a0c_27e4_4d39_9c83_f6b2_0e57_a14d);

/// The id here of an issuer's user: a `UUIDv5` of the issuer, a zero byte and the user's name there.
///
/// No issuer's name has a zero byte in it, so no two of them mean the same user.
pub fn user_id(issuer: &str, user: &str) -> UserId {
    let name = [issuer.as_bytes(), &[0], user.as_bytes()].concat();
    UserId::new(Uuid::new_v5(&NAMESPACE, &name).into_bytes())
}

/// Whose the token says that it is; nothing of it is checked yet.
pub(crate) fn issuer(token: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Says {
        iss: String,
    }
    insecure_decode_claims::<Says>(token).ok().map(|says| says.iss)
}

/// The name of the key that the token has to be checked with, if its header may be one of this issuer's.
pub(crate) fn kid(token: &str, config: &IssuerConfig) -> Result<(Header, String), TokenError> {
    let mut header = decode_header(token).map_err(|_fault| TokenError::Invalid)?;
    // A key that comes with the token, or from where it says, proves nothing; what must be understood is not (RFC 7515 §4.1.11).
    let is_strange = header.jku.is_some()
        || header.jwk.is_some()
        || header.x5u.is_some()
        || header.x5c.is_some()
        || header.crit.is_some();
    let is_of_type = header.typ.as_deref().is_some_and(|typ| TYPES.iter().any(|known| known.eq_ignore_ascii_case(typ)));
    let is_signed = Algorithm::of_header(header.alg).is_some_and(|algorithm| config.algorithms.contains(&algorithm));
    let kid = header.kid.take().filter(|_kid| !is_strange && is_of_type && is_signed).ok_or(TokenError::Invalid)?;
    Ok((header, kid))
}

/// What the token grants now, checked with the key that its header names.
pub(crate) fn check(token: &str, header: &Header, key: &Key, config: &IssuerConfig) -> Result<Grant, TokenError> {
    let is_of_key = Algorithm::of_header(header.alg).is_some_and(|algorithm| key.algorithms.contains(&algorithm));
    if !is_of_key {
        return Err(TokenError::Invalid);
    }
    let mut rules = Validation::new(header.alg);
    rules.set_issuer(&[&config.issuer]);
    rules.set_audience(&[&config.audience]);
    rules.set_required_spec_claims(&["exp", "iss", "aud"]);
    rules.validate_nbf = true;
    rules.leeway = LEEWAY_S;
    let decoded = decode::<Map<String, Value>>(token, &key.checks, &rules).map_err(|error| {
        let expired = matches!(error.kind(), ErrorKind::ExpiredSignature);
        if expired { TokenError::Expired } else { TokenError::Invalid }
    })?;
    granted(&decoded.claims, config).filter(Grant::is_revocable).ok_or(TokenError::Invalid)
}

fn granted(claims: &Map<String, Value>, config: &IssuerConfig) -> Option<Grant> {
    let user =
        claims.get(&config.user_claim)?.as_str().filter(|user| !user.is_empty() && user.len() <= USER_BYTES_MAX)?;
    // A number of seconds, perhaps with a fraction (RFC 7519 §2).
    let seconds = |claim: &str| claims.get(claim)?.as_f64().filter(|seconds| *seconds >= 0.0).map(|s| s as u64);
    let name = |claim: &str| match claims.get(claim) {
        None => Some(""),
        Some(name) => name.as_str(),
    };
    Some(Grant {
        user: user_id(&config.issuer, user),
        device: name("device")?.into(),
        sign_in: name("sid")?.into(),
        issued_s: seconds("iat")?,
        expires_s: seconds("exp")?,
        signed_by: SignedBy::Other,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_user_of_an_issuer_is_the_same_for_ever() {
        assert_eq!(user_id("https://id.example", "42"), user_id("https://id.example", "42"));
        assert_ne!(user_id("https://id.example", "42"), user_id("https://id.example", "43"));
        assert_ne!(user_id("https://id.example", "42"), user_id("https://id.example/", "42"));
        assert_ne!(user_id("https://id.example4", "2"), user_id("https://id.example", "42"));
        // Chats that exist rely on it.
        assert_eq!(user_id("https://id.example", "42").to_string(), "45f228e0-3fbf-585a-9c9d-5f70749619fe");
    }
}
