//! Who gets no TLS, and what they see of it.

use std::sync::Arc;

use gateway::socket::{Acceptor, Config, Error};
use rustls::AlertDescription;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::files::{self, Files};
use super::peer::{Secured, handshake, trusting};
use crate::socket::peer::{Behaviour, RawClient, config, upgrade_request, within};

const ALERT: u8 = 21;
const FATAL: u8 = 2;

/// All that the gateway says to these bytes, up to the end of the connection in order.
async fn answer(secured: &Secured, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(secured.gateway.address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    within(stream.read_to_end(&mut answer)).await.expect("an end, not a reset");
    answer
}

/// A hello as TLS 1.1 has it.
fn hello_of_tls_1_1() -> Vec<u8> {
    let mut body = vec![3, 2];
    body.extend([7; 32]);
    // No session to resume; one cipher suite; no compression; signatures by RSA with SHA-256.
    body.extend([0, 0, 2, 0x00, 0x2f, 1, 0, 0, 8, 0, 13, 0, 4, 0, 2, 4, 1]);
    let mut message = vec![1, 0, 0, body.len() as u8];
    message.extend(body);
    let mut record = vec![22, 3, 1, 0, message.len() as u8];
    record.extend(message);
    record
}

#[tokio::test]
async fn plain_http_is_told_that_tls_is_spoken_here() {
    let secured = Secured::start(Behaviour::Trust);
    for request in [upgrade_request(""), "GET / HTTP/1.1\r\n\r\n".to_owned(), "POST".to_owned()] {
        let answer = String::from_utf8(answer(&secured, request.as_bytes()).await).unwrap();
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
        assert!(answer.contains("heliograph-error: tls_required\r\n"), "{answer}");
    }
}

#[tokio::test]
async fn what_is_no_tls_or_an_old_one_is_refused_in_order() {
    let secured = Secured::start(Behaviour::Trust);
    let alert = answer(&secured, &hello_of_tls_1_1()).await;
    assert_eq!((alert[0], &alert[5..]), (ALERT, &[FATAL, AlertDescription::ProtocolVersion.into()][..]));
    for garbage in [&[0; 64][..], &[0x16; 64], &[0xff; 64], b"\x16\x03\x01\x00\x04nope"] {
        // Where not even a record can be made out, there is nobody who would understand an alert.
        let alert = answer(&secured, garbage).await;
        assert!(alert.is_empty() || (alert.len() == 7 && alert[0] == ALERT && alert[5] == FATAL), "{alert:?}");
    }
}

#[tokio::test]
async fn a_handshake_that_never_ends_is_bounded_in_bytes() {
    let secured = Secured::start_with(Config { handshake_timeout_ms: 3_600_000, ..config() }, Behaviour::Trust);
    // A hello of 65,535 bytes, as it says itself, of which 20 KiB come and are waited for no longer.
    let mut stream = TcpStream::connect(secured.gateway.address).await.unwrap();
    let part = |start: &[u8]| {
        let mut record = vec![22, 3, 1, 0x28, 0];
        record.extend(start);
        record.resize(5 + (10 << 10), 0);
        record
    };
    stream.write_all(&[part(&[1, 0, 0xff, 0xff]), part(&[])].concat()).await.unwrap();
    let mut byte = [0];
    // With the rest unread, an end or a reset.
    assert!(!matches!(within(stream.read(&mut byte)).await, Ok(1..)));
}

#[tokio::test]
async fn http_1_1_is_the_only_protocol_and_nobody_has_to_ask_for_it() {
    let secured = Secured::start(Behaviour::Trust);
    let offering = async |protocols: &[&str]| {
        let mut config = trusting(&secured.authority);
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        config.enable_sni = !protocols.is_empty();
        let stream = TcpStream::connect(secured.gateway.address).await.unwrap();
        let stream = handshake(Arc::new(config), stream).await?;
        Ok::<_, std::io::Error>(stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec))
    };
    assert_eq!(offering(&[]).await.unwrap(), None);
    assert_eq!(offering(&["h2", "http/1.1"]).await.unwrap(), Some(b"http/1.1".to_vec()));
    assert!(offering(&["h2"]).await.unwrap_err().to_string().contains("NoApplicationProtocol"));
}

#[tokio::test]
async fn a_client_that_trusts_another_authority_does_not_connect() {
    let secured = Secured::start(Behaviour::Trust);
    let stream = TcpStream::connect(secured.gateway.address).await.unwrap();
    let error = handshake(Arc::new(trusting(&files::authority())), stream).await.unwrap_err();
    assert!(error.to_string().contains("UnknownIssuer"), "{error}");
}

#[tokio::test]
async fn an_upgrade_is_refused_over_tls_as_over_tcp() {
    let secured = Secured::start(Behaviour::Trust);
    let head = secured.connect().await.asks("Sec-WebSocket-Version: 8").await;
    assert!(head.starts_with("http/1.1 426 ") && head.contains("heliograph-error: websocket_version\r\n"), "{head}");
    // The control: without TLS nothing has changed.
    let plain = crate::socket::peer::Gateway::start(config(), Behaviour::Trust);
    assert!(RawClient::connect(plain.address).await.asks("").await.starts_with("http/1.1 101 "));
}

#[tokio::test]
async fn a_bad_pair_is_refused_before_a_port_is_bound_and_the_file_is_named() {
    let authority = files::authority();
    let (one, other) = (authority.issue().unwrap(), authority.issue().unwrap());
    let secret: String = one.key.lines().nth(1).unwrap().to_owned();
    let cases = [
        ("", one.key.as_str(), "tls.crt"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", &one.key, "tls.crt"),
        (&one.certificate, "", "tls.key"),
        (&one.certificate, &one.key.replace("-----END", "----END"), "tls.key"),
        (&one.certificate, &one.certificate, "tls.key"),
        (&one.certificate, &other.key, "tls.key"),
    ];
    for (certificate, key, named) in cases {
        let files = Files::of(&one);
        files.write(certificate, key);
        let error = Acceptor::bind(Config { tls: Some(files.config()), ..config() }).unwrap_err();
        assert!(matches!(error, Error::Certificate(_)), "{error:?}");
        let (text, debug) = (error.to_string(), format!("{error:?}"));
        assert!(text.contains(&files.folder().join(named).display().to_string()), "{text}");
        assert!(!text.contains(&secret) && !debug.contains(&secret), "{debug}");
    }
    let nowhere = gateway::socket::TlsConfig::of_files("/nowhere/tls.crt".into(), "/nowhere/tls.key".into());
    let error = Acceptor::bind(Config { tls: Some(nowhere), ..config() }).unwrap_err();
    assert!(error.to_string().contains("/nowhere/tls.crt"), "{error}");
}
