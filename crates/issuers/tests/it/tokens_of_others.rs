//! What of a token is checked, with each algorithm: as this deployment's own are, by the same table.

use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use issuers::{Algorithm, user_id};
use serde_json::{Value, json};
use tokens::{Grant, NAME_BYTES_MAX, SignedBy, TokenError, VALID_MAX};

use crate::signer::{Signer, claims, now_s, part, with};
use crate::source::{HOUR, Here, ISSUER, MINUTE, Source};

const ALL: [Algorithm; 4] = [Algorithm::EdDsa, Algorithm::Es256, Algorithm::Rs256, Algorithm::Ps256];

/// An issuer that signs with each algorithm, and what trusts all of them.
async fn each() -> (Vec<Signer>, Source, Here) {
    let signers: Vec<_> = ALL.iter().map(|algorithm| Signer::new(&format!("{algorithm:?}"), *algorithm)).collect();
    let source = Source::start(&signers.iter().map(Signer::public).collect::<Vec<_>>()).await;
    let here = Here::trusting(&source, &ALL);
    here.issuers.refresh_due().await;
    (signers, source, here)
}

#[tokio::test]
async fn x10_a_token_of_another_issuer_grants_what_it_says() {
    let (signers, _source, here) = each().await;
    for signer in &signers {
        let claims = with(with(claims(), "device", "phone".into()), "sid", "s1".into());
        let token = signer.sign(&signer.header(), &claims);
        let expected = Grant {
            user: user_id(ISSUER, "user-42"),
            device: "phone".into(),
            sign_in: "s1".into(),
            issued_s: claims["iat"].as_u64().unwrap(),
            expires_s: claims["exp"].as_u64().unwrap(),
            signed_by: SignedBy::Other,
        };
        assert_eq!(here.issuers.check_now(&here.own, &token), Some(Ok(expected)), "{}", signer.kid);
        let grant = here.check(&signer.token()).await.unwrap();
        assert_eq!((&*grant.device, &*grant.sign_in), ("", ""));
    }
    // This deployment's own are checked as ever.
    let own = here.own.mint(user_id(ISSUER, "x"), Duration::from_secs(60)).unwrap();
    assert!(here.check(&own).await.is_ok());
}

#[tokio::test]
async fn x10_every_claim_of_another_issuers_token_is_checked() {
    let (signers, _source, here) = each().await;
    for signer in &signers {
        let check = async |claims: Value| here.check(&signer.sign(&signer.header(), &claims)).await;
        assert!(check(claims()).await.is_ok());
        for (claim, fine) in [
            ("aud", json!(["another", "chat"])),
            ("nbf", (now_s() - 1).into()),
            ("iat", (now_s() as f64 + 0.5).into()),
            ("iat", (now_s() + 3).into()),
        ] {
            assert!(check(with(claims(), claim, fine.clone())).await.is_ok(), "{claim}: {fine}");
        }
        assert_eq!(check(with(claims(), "exp", (now_s() - 60).into())).await, Err(TokenError::Expired));
        for (claim, bad) in [
            ("iss", "https://id.example".into()),
            ("iss", "heliograph".into()),
            ("iss", json!([ISSUER])),
            ("iss", Value::Null),
            ("aud", "another".into()),
            ("aud", json!(["another"])),
            ("aud", Value::Null),
            ("sub", Value::Null),
            ("sub", "".into()),
            ("sub", 42.into()),
            ("sub", "x".repeat(1_025).into()),
            ("exp", Value::Null),
            ("exp", "soon".into()),
            ("exp", (now_s() + VALID_MAX.as_secs() + 60).into()),
            ("nbf", (now_s() + 60).into()),
            ("nbf", "now".into()),
            ("iat", Value::Null),
            ("iat", (-1).into()),
            ("iat", (now_s() + 60).into()),
            ("device", "x".repeat(NAME_BYTES_MAX + 1).into()),
            ("device", 1.into()),
            ("sid", "x".repeat(NAME_BYTES_MAX + 1).into()),
        ] {
            let refused = check(with(claims(), claim, bad.clone())).await;
            assert_eq!(refused, Err(TokenError::Invalid), "{} {claim}: {bad}", signer.kid);
        }
    }
}

#[tokio::test]
async fn x10_a_header_of_another_kind_is_refused() {
    let (signers, source, here) = each().await;
    for (at, signer) in signers.iter().enumerate() {
        let check = async |header: Value| here.check(&signer.sign(&header, &claims())).await;
        for typ in ["at+jwt", "JWT", "jwt"] {
            assert!(check(with(signer.header(), "typ", typ.into())).await.is_ok(), "{typ}");
        }
        let other = &signers[(at + 1) % signers.len()];
        for (member, bad) in [
            ("typ", "dpop+jwt".into()),
            ("typ", Value::Null),
            ("kid", Value::Null),
            ("kid", "another".into()),
            ("kid", other.kid.as_str().into()),
            ("alg", other.algorithm().into()),
            ("alg", "none".into()),
            ("alg", "HS256".into()),
            ("alg", "RS512".into()),
            ("jku", format!("http://{}/keys", source.address).into()),
            ("x5u", format!("http://{}/keys", source.address).into()),
            ("x5c", json!([URL_SAFE_NO_PAD.encode(&signer.public_forms()[0])])),
            ("jwk", signer.public()),
            ("crit", json!(["exp"])),
        ] {
            let refused = check(with(signer.header(), member, bad.clone())).await;
            assert_eq!(refused, Err(TokenError::Invalid), "{} {member}: {bad}", signer.kid);
        }
        // No signature at all, with everything else as it should be; and noise.
        let token = signer.token();
        let payload = token.split('.').nth(1).unwrap();
        let none = part(&with(signer.header(), "alg", "none".into()).to_string());
        let cut = &token[..token.len() - 8];
        for bad in [&format!("{none}.{payload}."), &format!("{none}.{payload}"), cut, "", "a.b.c", "..", payload] {
            assert_eq!(here.check(bad).await, Err(TokenError::Invalid), "{bad}");
        }
    }
    assert_eq!(source.asked(), 2, "a strange name asks once, and no header sends anybody anywhere");
}

#[tokio::test]
async fn x10_the_public_key_is_no_secret_to_sign_with() {
    let (signers, _source, here) = each().await;
    for signer in &signers {
        let header = with(signer.header(), "alg", "HS256".into());
        let signed = format!("{}.{}", part(&header.to_string()), part(&claims().to_string()));
        for secret in signer.public_forms() {
            let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &secret), signed.as_bytes());
            let confused = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(tag));
            assert_eq!(here.check(&confused).await, Err(TokenError::Invalid), "{}", signer.kid);
        }
    }
}

#[tokio::test]
async fn x10_an_algorithm_that_the_file_does_not_name_is_refused() {
    let signers = [Signer::new("rs", Algorithm::Rs256), Signer::new("ps", Algorithm::Ps256), Signer::ed("ed")];
    // Published without a word on what they are for: the file decides.
    let keys: Vec<_> = signers.iter().map(|signer| with(signer.public(), "alg", Value::Null)).collect();
    let source = Source::start(&keys).await;
    let here = Here::trusting(&source, &[Algorithm::Rs256]);
    assert!(here.takes(&signers[0]).await);
    here.pass(MINUTE);
    assert!(!here.takes(&signers[1]).await);
    assert!(!here.takes(&signers[2]).await);
}

#[tokio::test]
async fn x10_a_key_checks_what_it_was_published_for_and_nothing_else() {
    let signer = Signer::new("rsa", Algorithm::Rs256);
    let source = Source::start(&[signer.public()]).await;
    let here = Here::trusting(&source, &ALL);
    assert!(here.takes(&signer).await);
    let signer = signer.by_pss();
    assert_eq!(here.check(&signer.token()).await, Err(TokenError::Invalid));
    // The control: it is good once the key is published for that.
    source.gives(&[signer.public()]);
    here.pass(HOUR);
    here.issuers.refresh_due().await;
    assert!(here.takes(&signer).await);
}

#[tokio::test]
async fn x10_another_issuers_key_signs_for_nobody_else() {
    let (signer, source) = (Signer::ed("k"), Source::start(&[Signer::ed("k").public()]).await);
    let here = Here::trusting(&source, &[Algorithm::EdDsa]);
    here.issuers.refresh_due().await;
    assert_eq!(here.check(&signer.token()).await, Err(TokenError::Invalid), "the same name, another key");
    for iss in ["heliograph", "https://nobody.example"] {
        let token = signer.sign(&signer.header(), &with(claims(), "iss", iss.into()));
        assert_eq!(here.check(&token).await, Err(TokenError::Invalid), "{iss}");
    }
    assert_eq!(source.asked(), 1);
}
