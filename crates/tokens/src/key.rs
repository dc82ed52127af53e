//! Tokens as JWTs signed with Ed25519 (RFC 7519, RFC 8037, RFC 9068): one algorithm, every claim and header checked.
//!
//! Keys are named by their thumbprint (RFC 7638). Which one signs and which ones check is the ring's to say.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use domain::UserId;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, Header, Validation, decode, decode_header, encode};
use serde::{Deserialize, Serialize};

use crate::grant::{LEEWAY_S, now_s};
use crate::ring::{Key, KeyRing, KnownKey};
use crate::{Grant, SignedBy, TokenError, VALID_MAX};

/// Who made the token, as its `iss` has it.
pub const ISSUER: &str = "heliograph";
/// For what it is: a token for something else opens nothing here.
const AUDIENCE: &str = "heliograph";
/// The media type of an access token (RFC 9068 §2.1): another kind of token by the same key is none.
const TYPE: &str = "at+jwt";

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

/// The keys that sign and check tokens; clones share them.
#[derive(Clone, Debug)]
pub struct TokenKeys(Arc<RwLock<Arc<KeyRing>>>);

impl From<KeyRing> for TokenKeys {
    fn from(ring: KeyRing) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(ring))))
    }
}

impl TokenKeys {
    /// A new key as PKCS#8 in PEM.
    ///
    /// # Errors
    /// [`TokenError::Key`] if the system has no randomness.
    pub fn generate() -> Result<String, TokenError> {
        KeyRing::generate(now_s())?.to_pem()
    }

    /// Reads what [`TokenKeys::generate`] made, or a whole [`KeyRing`].
    ///
    /// # Errors
    /// [`TokenError::Key`] for anything else.
    pub fn from_pem(text: &str) -> Result<Self, TokenError> {
        Ok(KeyRing::from_pem(text)?.into())
    }

    /// Uses these keys from now on, in all clones.
    pub fn replace(&self, ring: KeyRing) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(ring);
    }

    fn ring(&self) -> Arc<KeyRing> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The public halves, for whoever checks tokens elsewhere (RFC 7517): the one that signs first.
    pub fn public(&self) -> Vec<PublicKey> {
        let of = |key: &Key| PublicKey {
            kty: "OKP",
            crv: "Ed25519",
            alg: "EdDSA",
            usage: "sig",
            kid: key.kid.clone(),
            x: URL_SAFE_NO_PAD.encode(key.public).into(),
        };
        self.ring().usable(now_s()).map(of).collect()
    }

    /// What may be said of each key that is not gone: the one that signs first.
    pub fn known(&self) -> Vec<KnownKey> {
        self.ring().known(now_s())
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
        let ring = self.ring();
        let key = ring.signing(now_s()).ok_or(TokenError::Key)?;
        let header =
            Header { typ: Some(TYPE.to_owned()), kid: Some(key.kid.to_string()), ..Header::new(Algorithm::EdDSA) };
        encode(&header, claims, &key.signing).map_err(|_fault| TokenError::Key)
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
        let kid = kid_of(token)?;
        let ring = self.ring();
        let key = ring.named(&kid, now_s()).ok_or(TokenError::Invalid)?;
        let Claims { sub, iat, exp, device, sign_in, .. } = decode::<Claims>(token, &key.checking, &rules)
            .map_err(|error| {
                let expired = matches!(error.kind(), ErrorKind::ExpiredSignature);
                if expired { TokenError::Expired } else { TokenError::Invalid }
            })?
            .claims;
        let user = sub.parse().map_err(|_fault| TokenError::Invalid)?;
        let (device, sign_in) = (device.into(), sign_in.into());
        let signed_by = SignedBy::Own(key.tag);
        let grant = Grant { user, device, sign_in, issued_s: iat, expires_s: exp, signed_by };
        if grant.is_revocable() { Ok(grant) } else { Err(TokenError::Invalid) }
    }
}

/// The key that the header names, if the header is one of ours.
fn kid_of(token: &str) -> Result<String, TokenError> {
    let header = decode_header(token).map_err(|_fault| TokenError::Invalid)?;
    // A key that comes with the token, or from where it says, proves nothing.
    let brings_a_key = header.jku.is_some() || header.jwk.is_some() || header.x5u.is_some() || header.x5c.is_some();
    if brings_a_key || header.typ.as_deref() != Some(TYPE) {
        return Err(TokenError::Invalid);
    }
    header.kid.ok_or(TokenError::Invalid)
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::EncodingKey;
    use serde_json::Value;

    use super::*;
    use crate::NAME_BYTES_MAX;
    use crate::grant::LEEWAY_S;
    use crate::ring::Rotation;

    fn key() -> TokenKeys {
        TokenKeys::from_pem(&TokenKeys::generate().unwrap()).unwrap()
    }

    impl TokenKeys {
        fn signer(&self) -> EncodingKey {
            self.ring().signing(now_s()).unwrap().signing.clone()
        }
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
    fn x8_each_wrong_claim_is_refused() {
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
    fn x9_what_the_library_lets_pass_unless_told_otherwise_is_refused() {
        let keys = key();
        let kid = keys.public()[0].kid.to_string();
        let header = Header { typ: Some(TYPE.into()), kid: Some(kid.clone()), ..Header::new(Algorithm::EdDSA) };
        let token = |name: &str, value: Value| {
            let mut claims = serde_json::to_value(claims()).unwrap();
            let fields = claims.as_object_mut().unwrap();
            let _before = if value.is_null() { fields.remove(name) } else { fields.insert(name.into(), value) };
            encode(&header, &claims, &keys.signer()).unwrap()
        };
        let check = |token: &str| keys.check(token).map(|_grant| ());
        assert_eq!(check(&token("nbf", (now_s() + LEEWAY_S - 2).into())), Ok(()), "clocks differ a little");
        let soon = token("nbf", (now_s() + LEEWAY_S + 5).into());
        let late = token("exp", (now_s() - LEEWAY_S - 5).into());
        let from_nobody = token("iss", Value::Null);
        assert_eq!(check(&soon), Err(TokenError::Invalid));
        assert_eq!(check(&late), Err(TokenError::Expired));
        assert_eq!(check(&from_nobody), Err(TokenError::Invalid));
        let never = (now_s() + 60).to_string();
        for (name, value) in [("aud", Value::Null), ("nbf", Value::Null), ("exp", Value::Null), ("exp", never.into())] {
            assert_eq!(check(&token(name, value.clone())), Err(TokenError::Invalid), "{name}: {value}");
        }
        // The control: its defaults look at no `nbf` and no issuer, and are late by a minute.
        let mut defaults = Validation::new(Algorithm::EdDSA);
        defaults.set_audience(&[AUDIENCE]);
        let ring = keys.ring();
        let checking = &ring.named(&kid, now_s()).unwrap().checking;
        for let_pass in [soon, late, from_nobody] {
            assert!(decode::<Value>(&let_pass, checking, &defaults).is_ok());
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
        let check = |header: Header| keys.check(&encode(&header, &claims(), &keys.signer()).unwrap());
        let good = || Header { typ: Some(TYPE.into()), kid: Some(kid.clone()), ..Header::new(Algorithm::EdDSA) };
        assert!(check(good()).is_ok());
        let jwk = jsonwebtoken::jwk::Jwk::from_encoding_key(&keys.signer(), Algorithm::EdDSA).unwrap();
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
        for secret in [&URL_SAFE_NO_PAD.decode(&*public.x).unwrap()[..], public.x.as_bytes()] {
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
    fn a_rotation_reaches_every_clone_and_a_key_that_is_gone_checks_nothing() {
        let now = now_s();
        let old = KeyRing::generate(now).unwrap();
        let keys = TokenKeys::from(old.clone());
        let clone = keys.clone();
        let user = UserId::new([7; 16]);
        let before = clone.mint(user, Duration::from_secs(60)).unwrap();
        let rotated = |at, ahead| match old.rotated(at, ahead).unwrap() {
            Rotation::To(ring) => ring,
            other @ (Rotation::Pending | Rotation::Full) => panic!("{other:?}"),
        };
        keys.replace(rotated(now, Duration::from_secs(3_600)));
        let kids = |keys: &TokenKeys| keys.public().into_iter().map(|key| key.kid).collect::<Vec<_>>();
        let (signs, next) = (kids(&clone)[0].clone(), kids(&clone)[1].clone());
        assert_eq!(kid_of(&clone.mint(user, Duration::from_secs(60)).unwrap()).unwrap(), *signs);
        keys.replace(rotated(now, Duration::ZERO));
        let after = clone.mint(user, Duration::from_secs(60)).unwrap();
        assert_ne!(kid_of(&after).unwrap(), *signs);
        assert!(clone.check(&before).is_ok() && clone.check(&after).is_ok());
        assert!(!kids(&clone).contains(&next), "another rotation has another key");
        // As if the rotation had been made so long ago that the old key's end is now.
        let ended = now - VALID_MAX.as_secs() - LEEWAY_S;
        keys.replace(rotated(ended, Duration::ZERO));
        assert_eq!(clone.check(&before), Err(TokenError::Invalid));
        assert_eq!(kids(&clone).len(), 1);
    }
}
