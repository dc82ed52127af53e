//! Tokens as JWTs signed with Ed25519 (RFC 7519, RFC 8037, RFC 9068): one algorithm, every claim and header checked.
//!
//! Keys are named by their thumbprint (RFC 7638). The first one signs, all of them check, so a new key may be put first
//! while tokens of the older ones are still about.

use std::fmt;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use domain::UserId;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, decode_header, encode};
use serde::{Deserialize, Serialize};

use crate::grant::{LEEWAY_S, now_s};
use crate::{Grant, TokenError, VALID_MAX};

/// Who made the token, as its `iss` has it.
pub const ISSUER: &str = "heliograph";
/// For what it is: a token for something else opens nothing here.
const AUDIENCE: &str = "heliograph";
/// The media type of an access token (RFC 9068 §2.1): another kind of token by the same key is none.
const TYPE: &str = "at+jwt";
const PEM_TAG: &str = "PRIVATE KEY";

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

/// The public half of a key as a JWK (RFC 8037 §2).
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct PublicKey {
    kty: &'static str,
    crv: &'static str,
    alg: &'static str,
    #[serde(rename = "use")]
    usage: &'static str,
    /// Names the key in a token's header.
    pub kid: Box<str>,
    x: Box<str>,
}

/// What checks the tokens of one key.
#[derive(Clone)]
struct Checking {
    kid: Box<str>,
    public: [u8; 32],
    key: DecodingKey,
}

/// The keys that sign and check tokens.
#[derive(Clone)]
pub struct TokenKeys {
    signing: EncodingKey,
    /// The signing one first; at least that one.
    checking: Vec<Checking>,
}

impl fmt::Debug for TokenKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kids = self.checking.iter().map(|key| &key.kid);
        f.debug_list().entries(kids).finish()
    }
}

impl TokenKeys {
    /// A new key as PKCS#8 in PEM.
    ///
    /// # Errors
    /// [`TokenError::Key`] if the system has no randomness.
    pub fn generate() -> Result<String, TokenError> {
        let pair = Ed25519KeyPair::generate().map_err(|_fault| TokenError::Key)?;
        let der = pair.to_pkcs8v1().map_err(|_fault| TokenError::Key)?;
        Ok(pem::encode(&pem::Pem::new(PEM_TAG, der.as_ref())))
    }

    /// Reads what [`TokenKeys::generate`] made: one key or several, the one that signs first.
    ///
    /// # Errors
    /// [`TokenError::Key`] for anything else.
    pub fn from_pem(text: &str) -> Result<Self, TokenError> {
        let parsed = pem::parse_many(text).map_err(|_fault| TokenError::Key)?;
        let first = parsed.first().ok_or(TokenError::Key)?;
        let signing = EncodingKey::from_ed_der(first.contents());
        let checking = parsed.iter().map(|key| Checking::of(key.contents()));
        Ok(Self { signing, checking: checking.collect::<Result<_, _>>()? })
    }

    /// The public halves, for whoever checks tokens elsewhere (RFC 7517): the one that signs first.
    pub fn public(&self) -> Vec<PublicKey> {
        let of = |key: &Checking| PublicKey {
            kty: "OKP",
            crv: "Ed25519",
            alg: "EdDSA",
            usage: "sig",
            kid: key.kid.clone(),
            x: URL_SAFE_NO_PAD.encode(key.public).into(),
        };
        self.checking.iter().map(of).collect()
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
    /// As [`TokenKeys::mint`].
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
        let kid = self.checking.first().map(|key| String::from(&*key.kid));
        let header = Header { typ: Some(TYPE.to_owned()), kid, ..Header::new(Algorithm::EdDSA) };
        encode(&header, claims, &self.signing).map_err(|_fault| TokenError::Key)
    }

    /// The key that the header names, if the header is one of ours.
    fn key_of(&self, token: &str) -> Result<&DecodingKey, TokenError> {
        let header = decode_header(token).map_err(|_fault| TokenError::Invalid)?;
        // A key that comes with the token, or from where it says, proves nothing.
        let brings_a_key = header.jku.is_some() || header.jwk.is_some() || header.x5u.is_some() || header.x5c.is_some();
        if brings_a_key || header.typ.as_deref() != Some(TYPE) {
            return Err(TokenError::Invalid);
        }
        let kid = header.kid.ok_or(TokenError::Invalid)?;
        let named = self.checking.iter().find(|key| *key.kid == kid).ok_or(TokenError::Invalid)?;
        Ok(&named.key)
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
        let key = self.key_of(token)?;
        let Claims { sub, iat, exp, device, sign_in, .. } = decode::<Claims>(token, key, &rules)
            .map_err(|error| {
                let expired = matches!(error.kind(), ErrorKind::ExpiredSignature);
                if expired { TokenError::Expired } else { TokenError::Invalid }
            })?
            .claims;
        let user = sub.parse().map_err(|_fault| TokenError::Invalid)?;
        let grant = Grant { user, device: device.into(), sign_in: sign_in.into(), issued_s: iat, expires_s: exp };
        if grant.is_revocable() { Ok(grant) } else { Err(TokenError::Invalid) }
    }
}

impl Checking {
    fn of(der: &[u8]) -> Result<Self, TokenError> {
        let pair = Ed25519KeyPair::from_pkcs8(der).map_err(|_fault| TokenError::Key)?;
        let public: [u8; 32] = pair.public_key().as_ref().try_into().map_err(|_fault| TokenError::Key)?;
        let x = URL_SAFE_NO_PAD.encode(public);
        // RFC 7638 §3.2: the required members alone, in the order of their names.
        let members = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#);
        let kid = URL_SAFE_NO_PAD.encode(digest(&SHA256, members.as_bytes()));
        Ok(Self { kid: kid.into(), public, key: DecodingKey::from_ed_der(&public) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::NAME_BYTES_MAX;

    fn key() -> TokenKeys {
        TokenKeys::from_pem(&TokenKeys::generate().unwrap()).unwrap()
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
        assert!(TokenKeys::from_pem("no key").is_err());
    }

    #[test]
    fn x8_a_header_of_another_kind_is_refused() {
        let keys = key();
        let kid = keys.public()[0].kid.to_string();
        let check = |header: Header| keys.check(&encode(&header, &claims(), &keys.signing).unwrap());
        let good = || Header { typ: Some(TYPE.into()), kid: Some(kid.clone()), ..Header::new(Algorithm::EdDSA) };
        assert!(check(good()).is_ok());
        let jwk = jsonwebtoken::jwk::Jwk::from_encoding_key(&keys.signing, Algorithm::EdDSA).unwrap();
        for bad in [
            Header { typ: Some("JWT".into()), ..good() },
            Header { typ: None, ..good() },
            Header { kid: None, ..good() },
            Header { kid: Some("another".into()), ..good() },
            Header { jku: Some("https://keys.example/".into()), ..good() },
            Header { x5u: Some("https://keys.example/".into()), ..good() },
            Header { jwk: Some(jwk.clone()), ..good() },
        ] {
            assert_eq!(check(bad.clone()), Err(TokenError::Invalid), "{bad:?}");
        }
        // No signature at all (RFC 7519 §6), with everything else as it should be.
        let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
        let header = part(&format!(r#"{{"alg":"none","typ":"at+jwt","kid":"{kid}"}}"#));
        let token = keys.sign(&claims()).unwrap();
        let payload = token.split('.').nth(1).unwrap();
        for unsigned in [format!("{header}.{payload}."), format!("{header}.{payload}")] {
            assert_eq!(keys.check(&unsigned), Err(TokenError::Invalid));
        }
    }

    #[test]
    fn x8_the_public_key_is_no_secret_to_sign_with() {
        let keys = key();
        let public = &keys.public()[0];
        let header =
            Header { typ: Some(TYPE.into()), kid: Some(public.kid.to_string()), ..Header::new(Algorithm::HS256) };
        for secret in [&keys.checking[0].public[..], public.x.as_bytes()] {
            let confused = encode(&header, &claims(), &EncodingKey::from_secret(secret)).unwrap();
            assert_eq!(keys.check(&confused), Err(TokenError::Invalid));
        }
    }

    #[test]
    fn tokens_of_the_key_before_are_good_while_it_is_kept() {
        let (old, new) = (TokenKeys::generate().unwrap(), TokenKeys::generate().unwrap());
        let before = TokenKeys::from_pem(&old).unwrap();
        let token = before.mint(UserId::new([7; 16]), Duration::from_secs(60)).unwrap();
        let both = TokenKeys::from_pem(&format!("{new}\n{old}")).unwrap();
        assert!(both.check(&token).is_ok());
        let newer = both.mint(UserId::new([7; 16]), Duration::from_secs(60)).unwrap();
        assert_eq!(before.check(&newer), Err(TokenError::Invalid));
        let after = TokenKeys::from_pem(&new).unwrap();
        assert!(after.check(&newer).is_ok());
        assert_eq!(after.check(&token), Err(TokenError::Invalid));
        assert_eq!(both.public().len(), 2);
    }

    #[test]
    fn a_key_is_named_by_its_thumbprint() {
        // RFC 8037, appendix A.1 and A.3.
        let public = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
        let seed = URL_SAFE_NO_PAD.decode("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A").unwrap();
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).unwrap();
        let key = Checking::of(pair.to_pkcs8v1().unwrap().as_ref()).unwrap();
        assert_eq!(URL_SAFE_NO_PAD.encode(key.public), public);
        assert_eq!(&*key.kid, "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    }
}
