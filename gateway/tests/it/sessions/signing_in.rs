//! The handshake, and frames that are none.

use bytes::Bytes;
use gateway::socket::{CloseCode, SubProtocol};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use proto::v1::client_frame::Frame as Ask;
use proto::v1::{self, ErrorCode};
use tokens::TokenKeys;
use tokio_websockets::Message;

use super::client::{authenticate, encoded, message};
use super::setup::{Deployment, chat, user};

over_each_sub_protocol! {
    a_good_token_is_welcomed_as_its_user,
    a_bad_an_expired_and_a_foreign_token_are_refused_each_with_its_code,
    who_does_not_authenticate_in_time_is_closed_and_may_come_back,
    nothing_is_taken_before_authentication,
    an_unknown_frame_is_refused_and_the_socket_goes_on,
    bytes_that_are_no_frame_close_the_socket_for_good,
    a_message_of_the_other_sub_protocols_kind_closes_the_socket_for_good,
    a_message_over_the_limit_closes_the_socket_as_too_big,
}

/// `expired` is the only key of the claims that tests here need.
#[derive(serde::Serialize)]
struct Claims {
    iss: &'static str,
    aud: &'static str,
    sub: String,
    iat: u64,
    nbf: u64,
    exp: u64,
}

/// A token that was good once.
pub(crate) fn expired(pem: &str) -> String {
    let claims = Claims {
        iss: "heliograph",
        aud: "heliograph",
        sub: user(1).to_string(),
        iat: 1_000_000_000,
        nbf: 1_000_000_000,
        exp: 1_000_000_600,
    };
    let key = EncodingKey::from_ed_der(pem::parse(pem).unwrap().contents());
    let kid = Some(TokenKeys::from_pem(pem).unwrap().public()[0].kid.to_string());
    let header = Header { typ: Some("at+jwt".to_owned()), kid, ..Header::new(Algorithm::EdDSA) };
    encode(&header, &claims, &key).unwrap()
}

async fn a_good_token_is_welcomed_as_its_user(over: SubProtocol) {
    let deployment = Deployment::start(over).await;
    let mut client = deployment.connect().await;
    let limits = client.hello.limits.unwrap();
    assert_eq!((limits.body_bytes, limits.frame_bytes, limits.outbox_span), (16 << 10, 64 << 10, 32));
    let welcome = client.sign_in(&deployment.token(7)).await;
    assert_eq!((welcome.user, welcome.partitions), (user(7).to_wire(), 2));
    assert_ne!(welcome.session, deployment.client(7).await.session);
    deployment.stop().await;
}

async fn a_bad_an_expired_and_a_foreign_token_are_refused_each_with_its_code(over: SubProtocol) {
    let deployment = Deployment::start(over).await;
    let mut healthy = deployment.client(1).await;
    let foreign = TokenKeys::from_pem(&TokenKeys::generate().unwrap()).unwrap();
    let foreign = foreign.mint(user(1), std::time::Duration::from_secs(600)).unwrap();
    let cases = [
        ("nonsense".to_owned(), CloseCode::Unauthenticated),
        (foreign, CloseCode::Unauthenticated),
        (expired(&deployment.pem), CloseCode::TokenExpired),
    ];
    for (token, code) in cases {
        let mut client = deployment.connect().await;
        client.ask(authenticate(&token)).await;
        assert_eq!(client.closed().await, (vec![ErrorCode::Unauthenticated], code.number()));
    }
    let id = healthy.ask(message(chat(1), 1, "still here")).await;
    assert_eq!(healthy.reply(id).await, None);
    deployment.stop().await;
}

async fn who_does_not_authenticate_in_time_is_closed_and_may_come_back(over: SubProtocol) {
    let deployment = Deployment::start_with(over, |config, _| config.socket.authenticate_timeout_ms = 100).await;
    let mut client = deployment.connect().await;
    assert_eq!(client.closed().await, (vec![], CloseCode::AuthenticateTimeout.number()));
    deployment.stop().await;
}

async fn nothing_is_taken_before_authentication(over: SubProtocol) {
    let deployment = Deployment::start(over).await;
    let mut client = deployment.connect().await;
    client.ask(message(chat(1), 1, "too early")).await;
    let refused = (vec![ErrorCode::NotAuthenticatedYet], CloseCode::Unauthenticated.number());
    assert_eq!(client.closed().await, refused);
    assert_eq!(deployment.ingest().await.last().await, 0);
    deployment.stop().await;
}

async fn an_unknown_frame_is_refused_and_the_socket_goes_on(over: SubProtocol) {
    let deployment = Deployment::start(over).await;
    let mut client = deployment.client(1).await;
    // Id 77 and field 99, which no version has so far.
    let unknown: &[u8] = match over {
        SubProtocol::Proto => &[0x08, 77, 0x9a, 0x06, 0x00],
        SubProtocol::Json => br#"{"id":"77","later":{}}"#,
    };
    client.send_bytes(Bytes::from_static(unknown)).await;
    assert_eq!(client.reply(77).await, Some(ErrorCode::BadRequest));
    let unnamed = v1::ClientFrame { id: 0, frame: Some(Ask::ReadHistory(v1::ReadHistory::default())) };
    client.send(&unnamed).await;
    assert_eq!(client.reply(0).await, Some(ErrorCode::BadRequest));
    let id = client.ask(message(chat(1), 1, "still here")).await;
    assert_eq!(client.reply(id).await, None);
    deployment.stop().await;
}

async fn bytes_that_are_no_frame_close_the_socket_for_good(over: SubProtocol) {
    let deployment = Deployment::start(over).await;
    let bytes: &[u8] = match over {
        SubProtocol::Proto => b"\xff\xff\xff",
        SubProtocol::Json => b"{\"id\":",
    };
    let mut early = deployment.connect().await;
    early.send_bytes(Bytes::from_static(bytes)).await;
    assert_eq!(early.closed().await, (vec![ErrorCode::BadRequest], CloseCode::BadFrame.number()));
    let mut client = deployment.client(1).await;
    client.send_bytes(Bytes::from_static(bytes)).await;
    assert_eq!(client.closed().await, (vec![], CloseCode::BadFrame.number()));
    deployment.stop().await;
}

async fn a_message_of_the_other_sub_protocols_kind_closes_the_socket_for_good(over: SubProtocol) {
    let deployment = Deployment::start(over).await;
    let frame = v1::ClientFrame { id: 1, frame: Some(authenticate(&deployment.token(1))) };
    let other = match over {
        SubProtocol::Proto => Message::text(String::from_utf8(encoded(SubProtocol::Json, &frame).into()).unwrap()),
        SubProtocol::Json => Message::binary(encoded(SubProtocol::Proto, &frame)),
    };
    let mut client = deployment.connect().await;
    client.send_message(other).await;
    assert_eq!(client.closed().await, (vec![], CloseCode::UnsupportedData.number()));
    deployment.stop().await;
}

async fn a_message_over_the_limit_closes_the_socket_as_too_big(over: SubProtocol) {
    let deployment = Deployment::start(over).await;
    let mut client = deployment.client(1).await;
    let limit = client.hello.limits.unwrap().frame_bytes as usize;
    // No frame, but whole: read as one it closes with another code.
    client.send_bytes(vec![b' '; limit + 1].into()).await;
    assert_eq!(client.closed().await, (vec![], CloseCode::TooBig.number()));
    deployment.stop().await;
}
