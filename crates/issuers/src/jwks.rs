//! A set of keys as an issuer publishes it (RFC 7517), and those of it that may check its tokens.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::DecodingKey;
use serde::Deserialize;

use crate::Algorithm;

/// Keys in one set, whether they can be used or not.
pub(crate) const KEYS_MAX: usize = 32;
/// Of a key's name.
const KID_BYTES_MAX: usize = 256;
/// RSA keys of 2,048 to 8,192 bits: shorter ones are weak, longer ones slow.
const RSA_BYTES: std::ops::RangeInclusive<usize> = 256..=1_024;

/// Why a set is not used.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum Unusable {
    #[error("the answer is not a set of keys")]
    NotASet,
    #[error("the set has more than 32 keys")]
    TooMany,
    #[error("two keys of the set have the same name")]
    Ambiguous,
    #[error("none of the keys may check tokens")]
    Empty,
}

/// The keys that may check tokens, by name.
pub(crate) type Keys = BTreeMap<Box<str>, Arc<Key>>;

/// What checks tokens.
#[derive(Clone, Debug)]
pub(crate) struct Key {
    pub(crate) checks: DecodingKey,
    /// What tokens may be signed with by it; at least one.
    pub(crate) algorithms: BTreeSet<Algorithm>,
}

#[derive(Deserialize)]
struct Set {
    keys: Vec<serde_json::Value>,
}

/// A public key's members that say what it is and what it is for.
#[derive(Deserialize)]
struct Published {
    kty: String,
    kid: String,
    alg: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    crv: Option<String>,
    x: Option<String>,
    y: Option<String>,
    n: Option<String>,
    e: Option<String>,
}

/// The keys of a set that may check tokens by one of these algorithms. The others are none of ours, and no fault.
pub(crate) fn usable(set: &[u8], allowed: &BTreeSet<Algorithm>) -> Result<Keys, Unusable> {
    let Set { keys } = serde_json::from_slice(set).map_err(|_fault| Unusable::NotASet)?;
    if keys.len() > KEYS_MAX {
        return Err(Unusable::TooMany);
    }
    let mut usable = Keys::new();
    for key in keys {
        let Some((kid, key)) = serde_json::from_value(key).ok().and_then(|key: Published| key.usable(allowed)) else {
            continue;
        };
        if usable.insert(kid, Arc::new(key)).is_some() {
            return Err(Unusable::Ambiguous);
        }
    }
    if usable.is_empty() { Err(Unusable::Empty) } else { Ok(usable) }
}

impl Published {
    fn usable(self, allowed: &BTreeSet<Algorithm>) -> Option<(Box<str>, Key)> {
        let is_named = !self.kid.is_empty() && self.kid.len() <= KID_BYTES_MAX;
        let is_for_signatures = self.usage.as_deref().is_none_or(|usage| usage == "sig")
            && self.key_ops.as_ref().is_none_or(|ops| ops.iter().any(|op| op == "verify"));
        if !is_named || !is_for_signatures {
            return None;
        }
        let (able, checks) = self.material()?;
        let is_meant = |algorithm: &&Algorithm| {
            allowed.contains(algorithm) && self.alg.as_deref().is_none_or(|alg| alg == algorithm.name())
        };
        let algorithms: BTreeSet<_> = able.iter().filter(is_meant).copied().collect();
        (!algorithms.is_empty()).then(|| (self.kid.into(), Key { checks, algorithms }))
    }

    /// The key itself, and what a key of its kind can check.
    fn material(&self) -> Option<(&'static [Algorithm], DecodingKey)> {
        let bytes = |member: &Option<String>| URL_SAFE_NO_PAD.decode(member.as_deref()?).ok();
        match (&*self.kty, self.crv.as_deref()) {
            ("OKP", Some("Ed25519")) => {
                let x = bytes(&self.x).filter(|x| x.len() == 32)?;
                Some((&[Algorithm::EdDsa], DecodingKey::from_ed_der(&x)))
            }
            ("EC", Some("P-256")) => {
                let is_coordinate = |bytes: &Vec<u8>| bytes.len() == 32;
                let (x, y) = (bytes(&self.x).filter(is_coordinate)?, bytes(&self.y).filter(is_coordinate)?);
                // An uncompressed point (SEC 1 §2.3.3).
                Some((&[Algorithm::Es256], DecodingKey::from_ec_der(&[&[4], &x[..], &y[..]].concat())))
            }
            ("RSA", None) => {
                let (n, e) = (bytes(&self.n)?, bytes(&self.e)?);
                let is_strong = RSA_BYTES.contains(&n.len()) && n.first().is_some_and(|first| *first >= 0x80);
                let key = || DecodingKey::from_rsa_raw_components(&n, &e);
                is_strong.then(|| (&[Algorithm::Rs256, Algorithm::Ps256][..], key()))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const ALL: [Algorithm; 4] = [Algorithm::EdDsa, Algorithm::Es256, Algorithm::Rs256, Algorithm::Ps256];

    fn of(keys: &[Value], allowed: &[Algorithm]) -> Result<Keys, Unusable> {
        usable(json!({ "keys": keys }).to_string().as_bytes(), &allowed.iter().copied().collect())
    }

    fn text(bytes: usize) -> String {
        URL_SAFE_NO_PAD.encode(vec![0xaa; bytes])
    }

    fn ed() -> Value {
        json!({ "kty": "OKP", "crv": "Ed25519", "kid": "ed", "x": text(32) })
    }

    fn with(mut key: Value, member: &str, value: Value) -> Value {
        key[member] = value;
        key
    }

    #[test]
    fn x10_only_keys_that_are_meant_to_check_these_tokens_count() {
        let ec = json!({ "kty": "EC", "crv": "P-256", "kid": "ec", "x": text(32), "y": text(32) });
        let rsa = json!({ "kty": "RSA", "kid": "rsa", "n": text(256), "e": "AQAB" });
        let all = [ed(), ec.clone(), rsa.clone()];
        let found = of(&all, &ALL).unwrap();
        let names: Vec<_> = found.iter().map(|(kid, key)| (&**kid, key.algorithms.len())).collect();
        assert_eq!(names, [("ec", 1), ("ed", 1), ("rsa", 2)]);
        assert_eq!(of(&all, &[Algorithm::Es256]).unwrap().keys().map(|kid| &**kid).collect::<Vec<_>>(), ["ec"]);
        let pss = of(&[with(rsa.clone(), "alg", "PS256".into())], &ALL).unwrap();
        assert_eq!(pss["rsa"].algorithms, [Algorithm::Ps256].into());
        for fine in [
            with(ed(), "use", "sig".into()),
            with(ed(), "alg", "EdDSA".into()),
            with(ed(), "key_ops", json!(["verify"])),
            with(ed(), "x5t", "whatever".into()),
        ] {
            assert!(of(std::slice::from_ref(&fine), &ALL).is_ok(), "{fine}");
        }
        for none in [
            with(ed(), "use", "enc".into()),
            with(ed(), "alg", "ES256".into()),
            with(ed(), "alg", "RSA-OAEP".into()),
            with(ed(), "alg", 1.into()),
            with(ed(), "key_ops", json!(["encrypt"])),
            with(ed(), "kty", "EC".into()),
            with(ed(), "crv", "X25519".into()),
            with(ed(), "kid", Value::Null),
            with(ed(), "kid", "".into()),
            with(ed(), "kid", "x".repeat(257).into()),
            with(ed(), "x", text(31).into()),
            with(ed(), "x", "no base64 !".into()),
            with(ec.clone(), "crv", "P-384".into()),
            with(ec.clone(), "y", Value::Null),
            with(ec, "x", text(48).into()),
            with(rsa.clone(), "n", text(128).into()),
            with(rsa.clone(), "n", text(1_025).into()),
            with(rsa.clone(), "n", URL_SAFE_NO_PAD.encode([&[0; 128][..], &[0xaa; 128]].concat()).into()),
            with(rsa, "e", Value::Null),
            json!({ "kty": "oct", "kid": "mac", "k": text(32), "alg": "HS256" }),
            json!("a key"),
        ] {
            assert_eq!(of(std::slice::from_ref(&none), &ALL).unwrap_err(), Unusable::Empty, "{none}");
            assert_eq!(of(&[none.clone(), with(ed(), "kid", "good".into())], &ALL).unwrap().len(), 1, "{none}");
        }
    }

    #[test]
    fn x10_a_set_that_is_none_is_too_long_or_names_two_keys_alike_is_not_used() {
        let many = |n: usize| (0..n).map(|n| with(ed(), "kid", n.to_string().into())).collect::<Vec<_>>();
        assert_eq!(of(&many(KEYS_MAX), &ALL).unwrap().len(), KEYS_MAX);
        assert_eq!(of(&many(KEYS_MAX + 1), &ALL).unwrap_err(), Unusable::TooMany);
        assert_eq!(of(&[ed(), ed()], &ALL).unwrap_err(), Unusable::Ambiguous);
        assert_eq!(of(&[], &ALL).unwrap_err(), Unusable::Empty);
        for noise in ["", "[]", "{}", "<html>", r#"{"keys":{}}"#] {
            assert_eq!(usable(noise.as_bytes(), &ALL.into()).unwrap_err(), Unusable::NotASet, "{noise}");
        }
    }
}
