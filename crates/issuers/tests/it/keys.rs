//! An issuer's keys over time: rotated, out of reach, slow, and wrong.

use std::sync::Arc;
use std::time::Duration;

use issuers::Algorithm;
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use testkit::wait::until;
use testkit::{Authority, logs};
use tokens::TokenError;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::signer::Signer;
use crate::source::{HOUR, Here, MINUTE, Source};

const SOON: Duration = Duration::from_secs(30);
const ED: [Algorithm; 1] = [Algorithm::EdDsa];

#[tokio::test]
async fn x10_a_rotation_with_overlap_loses_no_token() {
    let (old, new) = (Signer::ed("old"), Signer::ed("new"));
    let source = Source::start(&[old.public()]).await;
    let here = Here::trusting(&source, &ED);
    here.issuers.refresh_due().await;
    assert!(here.takes(&old).await);
    source.gives(&[new.public(), old.public()]);
    assert!(here.takes(&new).await && here.takes(&old).await);
    assert_eq!(source.asked(), 2, "a name that is not known is asked for at once");
    // The hourly look finds that the old one is gone, though nobody asked for another.
    source.gives(&[new.public()]);
    here.pass(HOUR);
    here.issuers.refresh_due().await;
    assert_eq!((here.takes(&new).await, source.asked()), (true, 3));
    assert_eq!(here.check(&old.token()).await, Err(TokenError::Invalid));
}

#[tokio::test]
async fn x10_an_unknown_key_is_asked_for_at_most_once_a_minute() {
    let source = Source::start(&[Signer::ed("known").public()]).await;
    let here = Here::trusting(&source, &ED);
    here.issuers.refresh_due().await;
    for minute in 1..4 {
        for n in 0..50 {
            let foreign = Signer::ed(&format!("foreign-{n}"));
            assert_eq!(here.check(&foreign.token()).await, Err(TokenError::Invalid));
        }
        assert_eq!(source.asked(), 1 + minute, "the first of the minute asks");
        here.pass(MINUTE - Duration::from_secs(1));
        assert!(!here.takes(&Signer::ed("early")).await);
        assert_eq!(source.asked(), 1 + minute);
        here.pass(Duration::from_secs(1));
    }
}

#[tokio::test]
async fn x10_who_misses_a_key_shares_one_fetch_and_holds_up_nobody() {
    let (known, new) = (Signer::ed("known"), Arc::new(Signer::ed("new")));
    let source = Source::start(&[known.public()]).await;
    let here = Arc::new(Here::trusting(&source, &ED));
    here.issuers.refresh_due().await;
    here.pass(MINUTE);
    source.hold();
    source.gives(&[known.public(), new.public()]);
    let mut askers = JoinSet::new();
    for _ in 0..100 {
        let (here, new) = (Arc::clone(&here), Arc::clone(&new));
        askers.spawn(async move { here.takes(&new).await });
    }
    until(SOON, "the fetch", async || source.asked() == 2).await;
    // Who waits in the middle of it may leave: the others get their answer.
    let leaves = here.issuers.check_now(&here.own, &new.token());
    assert_eq!(leaves, None);
    assert!(matches!(here.issuers.check_now(&here.own, &known.token()), Some(Ok(_))), "a known key waits for nothing");
    source.release();
    assert!(askers.join_all().await.into_iter().all(|taken| taken));
    assert_eq!(source.asked(), 2);
}

#[tokio::test]
async fn x10_out_of_reach_the_known_keys_last_a_day_and_then_nobody_gets_in() {
    let watch = logs::watch();
    watch.allow("the keys of an issuer cannot be fetched");
    let (known, new) = (Signer::ed("known"), Signer::ed("new"));
    let mut source = Source::start(&[known.public()]).await;
    let here = Here::trusting(&source, &ED);
    here.issuers.refresh_due().await;
    source.down();
    for _ in 0..23 {
        here.pass(HOUR);
        here.issuers.refresh_due().await;
        assert!(here.takes(&known).await);
        assert_eq!(here.check(&new.token()).await, Err(TokenError::Invalid));
    }
    here.pass(HOUR - Duration::from_secs(1));
    assert!(here.takes(&known).await, "the last second of the day");
    here.pass(Duration::from_secs(1));
    assert_eq!(here.check(&known.token()).await, Err(TokenError::NoKeys), "nobody can tell any more");
    source.up().await;
    here.pass(MINUTE);
    assert!(here.takes(&known).await, "back within a minute, without a look in between");
}

#[tokio::test]
async fn x10_an_issuer_that_was_never_reached_lets_nobody_in_and_is_asked_again() {
    let watch = logs::watch();
    watch.allow("the keys of an issuer cannot be fetched");
    let known = Signer::ed("known");
    let mut source = Source::start(&[known.public()]).await;
    let here = Here::trusting(&source, &ED);
    source.down();
    here.issuers.refresh_due().await;
    assert_eq!(here.check(&known.token()).await, Err(TokenError::NoKeys));
    source.up().await;
    here.issuers.refresh_due().await;
    assert_eq!((here.check(&known.token()).await, source.asked()), (Err(TokenError::NoKeys), 0), "once a minute");
    here.pass(MINUTE);
    here.issuers.refresh_due().await;
    assert!(here.takes(&known).await);
}

#[tokio::test]
async fn x10_an_answer_that_is_wrong_too_long_or_elsewhere_changes_nothing() {
    let watch = logs::watch();
    watch.allow("the keys of an issuer cannot be fetched");
    let (known, evil) = (Signer::ed("known"), Signer::ed("evil"));
    let source = Source::start(&[known.public()]).await;
    let elsewhere = Source::start(&[evil.public()]).await;
    let here = Here::trusting(&source, &ED);
    here.issuers.refresh_due().await;
    let set = json!({ "keys": [evil.public()] }).to_string();
    let padded = |bytes: usize| format!("{set}{}", " ".repeat(bytes - set.len()));
    let many = (0..33).map(|n| Signer::ed(&format!("evil{n}")).public()).collect::<Vec<Value>>();
    let to = format!("location: http://{}/keys?of=us\r\n", elsewhere.address);
    for (status, headers, body) in [
        ("301 Moved Permanently", &*to, &*set),
        ("302 Found", &to, &set),
        ("307 Temporary Redirect", &to, &set),
        ("500 Internal Server Error", "", &set),
        ("204 No Content", "", &set),
        ("200 OK", "", &padded(64 * 1024 + 1)),
        ("200 OK", "transfer-encoding: chunked\r\n", &set),
        ("200 OK", &format!("x: {}\r\n", "x".repeat(200_000)), &set),
        ("200 OK", "", "<html>sign in to the network</html>"),
        ("200 OK", "", &set[..set.len() - 1]),
        ("200 OK", "", r#"{"keys":[]}"#),
        ("200 OK", "", &json!({ "keys": many }).to_string()),
        ("200 OK", "", &json!({ "keys": [evil.public(), evil.public()] }).to_string()),
    ] {
        source.answers(status, headers, body);
        let before = source.asked();
        here.pass(MINUTE);
        assert!(!here.takes(&evil).await, "{status} {headers:.80}");
        assert_eq!(source.asked(), before + 1);
        assert!(here.takes(&known).await);
    }
    assert_eq!(elsewhere.asked(), 0, "no answer sends anybody anywhere");
    // The control: the same set, as long as it may be.
    source.answers("200 OK", "", &padded(64 * 1024));
    here.pass(MINUTE);
    assert!(here.takes(&evil).await);
}

#[tokio::test]
async fn x10_an_issuer_that_does_not_answer_is_given_up_in_time() {
    let watch = logs::watch();
    watch.allow("the keys of an issuer cannot be fetched");
    let known = Signer::ed("known");
    let source = Source::start(&[known.public()]).await;
    source.hold();
    let url = format!("http://{}/keys?of=us", source.address);
    let here = Here::with(&url, &ED, Duration::from_millis(50), None);
    assert_eq!(here.check(&known.token()).await, Err(TokenError::NoKeys));
    source.release();
    here.pass(MINUTE);
    assert!(here.takes(&known).await);
}

#[tokio::test]
async fn x10_a_server_that_nobody_vouches_for_gives_no_keys() {
    let watch = logs::watch();
    watch.allow("the keys of an issuer cannot be fetched");
    let (trusted, other) = (Authority::new("trusted").unwrap(), Authority::new("another").unwrap());
    let known = Signer::ed("known");
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(trusted.der().to_vec())).unwrap();
    for (authority, vouched) in [(&trusted, true), (&other, false)] {
        let issued = authority.issue().unwrap();
        let chain =
            CertificateDer::pem_slice_iter(issued.certificate.as_bytes()).collect::<Result<Vec<_>, _>>().unwrap();
        let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config =
            rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config = config.with_no_client_auth().with_single_cert(chain, key).unwrap();
        let source = Source::start_with(&[known.public()], Some(TlsAcceptor::from(Arc::new(config)))).await;
        let url = format!("https://localhost:{}/keys?of=us", source.address.port());
        let here = Here::with(&url, &ED, SOON, Some(roots.clone()));
        here.issuers.refresh_due().await;
        assert_eq!((here.takes(&known).await, source.asked()), (vouched, u64::from(vouched)));
    }
}
