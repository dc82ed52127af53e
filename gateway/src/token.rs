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

    /// A token that signs `user` in for this long.
    ///
    /// # Errors
    /// [`TokenError::Key`] if signing fails.
    pub fn mint(&self, user: UserId, valid_for: Duration) -> Result<String, TokenError> {
        let now = now_s();
        self.sign(&Claims {
            iss: ISSUER.to_owned(),
            aud: AUDIENCE.to_owned(),
            sub: user.to_string(),
            iat: now,
            nbf: now,
            exp: now + valid_for.as_secs(),
        })
    }

    fn sign(&self, claims: &Claims) -> Result<String, TokenError> {
        encode(&Header::new(Algorithm::EdDSA), claims, &self.signing).map_err(|_fault| TokenError::Key)
    }

    /// Who the token signs in.
    ///
    /// # Errors
    /// [`TokenError::Expired`] or [`TokenError::Invalid`].
    pub fn check(&self, token: &str) -> Result<UserId, TokenError> {
        let mut rules = Validation::new(Algorithm::EdDSA);
        rules.set_issuer(&[ISSUER]);
        rules.set_audience(&[AUDIENCE]);
        rules.set_required_spec_claims(&["exp", "nbf", "iss", "aud", "sub"]);
        rules.validate_nbf = true;
        rules.leeway = LEEWAY_S;
        let claims = decode::<Claims>(token, &self.checking, &rules).map_err(|error| {
            let expired = matches!(error.kind(), ErrorKind::ExpiredSignature);
            if expired { TokenError::Expired } else { TokenError::Invalid }
        })?;
        claims.claims.sub.parse().map_err(|_fault| TokenError::Invalid)
    }
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
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
        }
    }

    #[test]
    fn a_token_signs_its_user_in() {
        let key = key();
        let user = UserId::new([7; 16]);
        assert_eq!(key.check(&key.mint(user, Duration::from_secs(60)).unwrap()), Ok(user));
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
