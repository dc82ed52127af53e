//! Tokens that sign users in: JWTs signed with Ed25519 (RFC 7519, RFC 8037), one algorithm, every claim checked.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use domain::UserId;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode};
use serde::{Deserialize, Serialize};

/// Who made the token, and for whom it is.
const ISSUER: &str = "heliograph";
/// A token for something else must not open a socket.
const AUDIENCE: &str = "heliograph.socket";
/// Clocks of two of our machines may differ this much.
const LEEWAY_S: u64 = 5;
/// The longest that a token may be valid: revocations are kept a day longer.
pub const VALID_MAX: Duration = Duration::from_hours(30 * 24);
/// Of the names of a device and of a sign-in.
pub(crate) const NAME_BYTES_MAX: usize = 128;
const PEM_TAG: &str = "PRIVATE KEY";

/// Why a token does not sign in.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TokenError {
    /// It was good once.
    #[error("the token has expired")]
    Expired,
    /// Not ours, damaged, for something else, or not valid yet.
    #[error("the token is not valid here")]
    Invalid,
    /// Longer than [`VALID_MAX`].
    #[error("a token is valid for at most 30 days")]
    TooLong,
    /// The key that signs tokens cannot be used.
    #[error("the token key cannot be used")]
    Key,
}

#[derive(Debug, Serialize, Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    sub: String,
    iat: u64,
    nbf: u64,
    exp: u64,
    /// The device that it is for.
    #[serde(default, rename = "dev", skip_serializing_if = "String::is_empty")]
    device: String,
    /// The sign-in that it comes from: all tokens that follow from one entry of a password share it.
    #[serde(default, rename = "sid", skip_serializing_if = "String::is_empty")]
    sign_in: String,
}

/// What a token grants: whom it signs in, and what its revocation may name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Grant {
    /// Who is signed in.
    pub user: UserId,
    /// The device that it is for; empty: any.
    pub device: Box<str>,
    /// The sign-in that it comes from; empty: not known.
    pub sign_in: Box<str>,
    /// When it was issued, in seconds since 1970 UTC.
    pub issued_s: u64,
    /// When it expires, in seconds since 1970 UTC.
    pub expires_s: u64,
}

/// The key pair that signs and checks tokens.
#[derive(Clone)]
pub struct TokenKey {
    signing: EncodingKey,
    checking: DecodingKey,
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenKey").finish_non_exhaustive()
    }
}

impl TokenKey {
    /// A new key as PKCS#8 in PEM.
    ///
    /// # Errors
    /// [`TokenError::Key`] if the system has no randomness.
    pub fn generate() -> Result<String, TokenError> {
        let pair = Ed25519KeyPair::generate().map_err(|_fault| TokenError::Key)?;
        let der = pair.to_pkcs8v1().map_err(|_fault| TokenError::Key)?;
        Ok(pem::encode(&pem::Pem::new(PEM_TAG, der.as_ref())))
    }

    /// Reads what [`TokenKey::generate`] made.
    ///
    /// # Errors
    /// [`TokenError::Key`] for anything else.
    pub fn from_pem(text: &str) -> Result<Self, TokenError> {
        let parsed = pem::parse(text).map_err(|_fault| TokenError::Key)?;
        let der = parsed.contents();
        let pair = Ed25519KeyPair::from_pkcs8(der).map_err(|_fault| TokenError::Key)?;
        Ok(Self {
            signing: EncodingKey::from_ed_der(der),
            checking: DecodingKey::from_ed_der(pair.public_key().as_ref()),
        })
    }

    /// A token that signs `user` in for this long, on any device.
    ///
    /// # Errors
    /// [`TokenError::TooLong`] above [`VALID_MAX`], [`TokenError::Key`] if signing fails.
    pub fn mint(&self, user: UserId, valid_for: Duration) -> Result<String, TokenError> {
        self.mint_for(user, "", "", valid_for)
    }

    /// A token that signs `user` in for this long on this device, as part of this sign-in.
    ///
    /// # Errors
    /// As [`TokenKey::mint`].
    pub fn mint_for(
        &self,
        user: UserId,
        device: &str,
        sign_in: &str,
        valid_for: Duration,
    ) -> Result<String, TokenError> {
        if valid_for > VALID_MAX {
            return Err(TokenError::TooLong);
        }
        let now = now_s();
        self.sign(&Claims {
            iss: ISSUER.to_owned(),
            aud: AUDIENCE.to_owned(),
            sub: user.to_string(),
            iat: now,
            nbf: now,
            exp: now + valid_for.as_secs(),
            device: device.to_owned(),
            sign_in: sign_in.to_owned(),
        })
    }

    fn sign(&self, claims: &Claims) -> Result<String, TokenError> {
        encode(&Header::new(Algorithm::EdDSA), claims, &self.signing).map_err(|_fault| TokenError::Key)
    }

    /// What the token grants now.
    ///
    /// # Errors
    /// [`TokenError::Expired`] or [`TokenError::Invalid`].
    pub fn check(&self, token: &str) -> Result<Grant, TokenError> {
        let mut rules = Validation::new(Algorithm::EdDSA);
        rules.set_issuer(&[ISSUER]);
        rules.set_audience(&[AUDIENCE]);
        rules.set_required_spec_claims(&["exp", "nbf", "iss", "aud", "sub"]);
        rules.validate_nbf = true;
        rules.leeway = LEEWAY_S;
        let Claims { sub, iat, exp, device, sign_in, .. } = decode::<Claims>(token, &self.checking, &rules)
            .map_err(|error| {
                let expired = matches!(error.kind(), ErrorKind::ExpiredSignature);
                if expired { TokenError::Expired } else { TokenError::Invalid }
            })?
            .claims;
        // A revocation names tokens by when they were issued, and is forgotten once all of them have expired: one that
        // comes from the future or stays for ever would slip through.
        let is_revocable = iat <= now_s() + LEEWAY_S && exp.saturating_sub(iat) <= VALID_MAX.as_secs();
        if !is_revocable || device.len() > NAME_BYTES_MAX || sign_in.len() > NAME_BYTES_MAX {
            return Err(TokenError::Invalid);
        }
        let user = sub.parse().map_err(|_fault| TokenError::Invalid)?;
        Ok(Grant { user, device: device.into(), sign_in: sign_in.into(), issued_s: iat, expires_s: exp })
    }
}

/// Time since 1970 UTC.
pub(crate) fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Seconds since 1970 UTC.
pub(crate) fn now_s() -> u64 {
    since_1970().as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> TokenKey {
        TokenKey::from_pem(&TokenKey::generate().unwrap()).unwrap()
    }

    fn claims() -> Claims {
        let now = now_s();
        Claims {
            iss: ISSUER.into(),
            aud: AUDIENCE.into(),
            sub: UserId::new([1; 16]).to_string(),
            iat: now,
            nbf: now,
            exp: now + 60,
            device: String::new(),
            sign_in: String::new(),
        }
    }

    #[test]
    fn a_token_signs_its_user_in() {
        let key = key();
        let user = UserId::new([7; 16]);
        let grant = key.check(&key.mint_for(user, "phone", "s1", Duration::from_secs(60)).unwrap()).unwrap();
        assert_eq!((grant.user, &*grant.device, &*grant.sign_in), (user, "phone", "s1"));
        assert_eq!(grant.expires_s - grant.issued_s, 60);
        let grant = key.check(&key.mint(user, VALID_MAX).unwrap()).unwrap();
        assert_eq!((&*grant.device, &*grant.sign_in), ("", ""));
        assert_eq!(key.mint(user, VALID_MAX + Duration::from_secs(1)), Err(TokenError::TooLong));
    }

    #[test]
    fn each_wrong_claim_is_refused() {
        let key = key();
        let check = |claims: Claims| key.check(&key.sign(&claims).unwrap());
        assert!(check(claims()).is_ok());
        assert_eq!(check(Claims { exp: now_s() - 60, ..claims() }), Err(TokenError::Expired));
        for bad in [
            Claims { iss: "other".into(), ..claims() },
            Claims { aud: "other".into(), ..claims() },
            Claims { sub: "alice".into(), ..claims() },
            Claims { nbf: now_s() + 60, ..claims() },
            // No revocation would name it, or it would outlive its revocation.
            Claims { iat: now_s() + 60, ..claims() },
            Claims { exp: now_s() + VALID_MAX.as_secs() + 60, ..claims() },
            Claims { device: "x".repeat(NAME_BYTES_MAX + 1), ..claims() },
        ] {
            assert_eq!(check(bad), Err(TokenError::Invalid));
        }
    }

    #[test]
    fn another_key_another_algorithm_and_noise_are_refused() {
        let ours = key();
        let foreign = key().mint(UserId::new([1; 16]), Duration::from_secs(60)).unwrap();
        assert_eq!(ours.check(&foreign), Err(TokenError::Invalid));
        let hmac = encode(&Header::new(Algorithm::HS256), &claims(), &EncodingKey::from_secret(b"x")).unwrap();
        assert_eq!(ours.check(&hmac), Err(TokenError::Invalid));
        for noise in ["", "a.b.c", &foreign[..foreign.len() - 8]] {
            assert_eq!(ours.check(noise), Err(TokenError::Invalid));
        }
        assert!(TokenKey::from_pem("no key").is_err());
    }
}
