//! Signs whatever headers and claims a test wants, as an issuer would.

use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RSA_PSS_SHA256,
    RsaEncoding, RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use issuers::Algorithm;
use serde_json::{Value, json};

use crate::source::{AUDIENCE, ISSUER};

/// A key and its name.
pub(crate) struct Signer {
    pub(crate) kid: String,
    key: Key,
}

enum Key {
    Ed(Ed25519KeyPair),
    Ec(EcdsaKeyPair),
    Rsa(&'static str, &'static dyn RsaEncoding, Box<RsaKeyPair>),
}

pub(crate) fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

pub(crate) fn part(text: &str) -> String {
    URL_SAFE_NO_PAD.encode(text)
}

/// With `member` in the place of what was there; null: without it.
pub(crate) fn with(mut object: Value, member: &str, value: Value) -> Value {
    if value.is_null() {
        object.as_object_mut().unwrap().remove(member);
    } else {
        object[member] = value;
    }
    object
}

impl Signer {
    pub(crate) fn new(kid: &str, algorithm: Algorithm) -> Self {
        let rsa = || Box::new(RsaKeyPair::generate(KeySize::Rsa2048).unwrap());
        let key = match algorithm {
            Algorithm::EdDsa => Key::Ed(Ed25519KeyPair::generate().unwrap()),
            Algorithm::Es256 => Key::Ec(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap()),
            Algorithm::Rs256 => Key::Rsa("RS256", &RSA_PKCS1_SHA256, rsa()),
            Algorithm::Ps256 => Key::Rsa("PS256", &RSA_PSS_SHA256, rsa()),
        };
        Self { kid: kid.to_owned(), key }
    }

    pub(crate) fn ed(kid: &str) -> Self {
        Self::new(kid, Algorithm::EdDsa)
    }

    /// The same key, which signs by PSS from now on.
    pub(crate) fn by_pss(self) -> Self {
        let Key::Rsa(_, _, pair) = self.key else { panic!("not an RSA key") };
        Self { key: Key::Rsa("PS256", &RSA_PSS_SHA256, pair), ..self }
    }

    pub(crate) const fn algorithm(&self) -> &'static str {
        match &self.key {
            Key::Ed(_) => "EdDSA",
            Key::Ec(_) => "ES256",
            Key::Rsa(name, ..) => name,
        }
    }

    /// Its public half as the issuer publishes it.
    pub(crate) fn public(&self) -> Value {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let mut key = match &self.key {
            Key::Ed(pair) => json!({ "kty": "OKP", "crv": "Ed25519", "x": text(pair.public_key().as_ref()) }),
            Key::Ec(pair) => {
                let point = pair.public_key().as_ref();
                json!({ "kty": "EC", "crv": "P-256", "x": text(&point[1..33]), "y": text(&point[33..]) })
            }
            Key::Rsa(_, _, pair) => {
                let public = pair.public_key();
                let (n, e) = (public.modulus().big_endian_without_leading_zero(), public.exponent());
                json!({ "kty": "RSA", "n": text(n), "e": text(e.big_endian_without_leading_zero()) })
            }
        };
        key["kid"] = self.kid.as_str().into();
        key["alg"] = self.algorithm().into();
        key["use"] = "sig".into();
        key
    }

    /// What somebody might take for the secret of an HMAC: the public key in the forms in which it is about.
    pub(crate) fn public_forms(&self) -> Vec<Vec<u8>> {
        let der = match &self.key {
            Key::Ed(pair) => pair.public_key().as_der().unwrap().as_ref().to_vec(),
            Key::Ec(pair) => pair.public_key().as_der().unwrap().as_ref().to_vec(),
            Key::Rsa(_, _, pair) => pair.public_key().as_der().unwrap().as_ref().to_vec(),
        };
        let public = self.public();
        let raw = public.get("x").or_else(|| public.get("n")).unwrap().as_str().unwrap();
        vec![der, raw.as_bytes().to_vec(), URL_SAFE_NO_PAD.decode(raw).unwrap(), public.to_string().into_bytes()]
    }

    pub(crate) fn header(&self) -> Value {
        json!({ "alg": self.algorithm(), "typ": "at+jwt", "kid": self.kid })
    }

    pub(crate) fn sign(&self, header: &Value, claims: &Value) -> String {
        let signed = format!("{}.{}", part(&header.to_string()), part(&claims.to_string()));
        let random = SystemRandom::new();
        let signature = match &self.key {
            Key::Ed(pair) => pair.sign(signed.as_bytes()).as_ref().to_vec(),
            Key::Ec(pair) => pair.sign(&random, signed.as_bytes()).unwrap().as_ref().to_vec(),
            Key::Rsa(_, padding, pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(*padding, &random, signed.as_bytes(), &mut signature).unwrap();
                signature
            }
        };
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    /// A good token.
    pub(crate) fn token(&self) -> String {
        self.sign(&self.header(), &claims())
    }
}

/// What a good token says: as most issuers write it, without `nbf`.
pub(crate) fn claims() -> Value {
    json!({ "iss": ISSUER, "aud": AUDIENCE, "sub": "user-42", "iat": now_s(), "exp": now_s() + 600 })
}
