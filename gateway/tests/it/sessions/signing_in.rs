//! The handshake, and frames that are none.

use bytes::Bytes;
use gateway::TokenKey;
use gateway::socket::CloseCode;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use prost::Message as _;
use proto::v1::client_frame::Frame as Ask;
use proto::v1::{self, ErrorCode};

use super::client::{Client, authenticate, message};
use super::setup::{Deployment, chat, user};

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
        aud: "heliograph.socket",
        sub: user(1).to_string(),
        iat: 1_000_000_000,
        nbf: 1_000_000_000,
        exp: 1_000_000_600,
    };
    let key = EncodingKey::from_ed_der(pem::parse(pem).unwrap().contents());
    encode(&Header::new(Algorithm::EdDSA), &claims, &key).unwrap()
}

#[tokio::test]
async fn a_good_token_is_welcomed_as_its_user() {
    let deployment = Deployment::start().await;
    let mut client = Client::connect(deployment.address).await;
    let limits = client.hello.limits.unwrap();
    assert_eq!((limits.body_bytes, limits.frame_bytes, limits.outbox_span), (16 << 10, 64 << 10, 32));
    let welcome = client.sign_in(&deployment.token(7)).await;
    assert_eq!((welcome.user, welcome.partitions), (user(7).to_wire(), 2));
    assert_ne!(welcome.session, deployment.client(7).await.session);
    deployment.stop().await;
}

#[tokio::test]
async fn a_bad_an_expired_and_a_foreign_token_are_refused_each_with_its_code() {
    let deployment = Deployment::start().await;
    let mut healthy = deployment.client(1).await;
    let foreign = TokenKey::from_pem(&TokenKey::generate().unwrap()).unwrap();
    let foreign = foreign.mint(user(1), std::time::Duration::from_secs(600)).unwrap();
    let cases = [
        ("nonsense".to_owned(), CloseCode::Unauthenticated),
        (foreign, CloseCode::Unauthenticated),
        (expired(&deployment.pem), CloseCode::TokenExpired),
    ];
    for (token, code) in cases {
        let mut client = Client::connect(deployment.address).await;
        client.ask(authenticate(&token)).await;
        assert_eq!(client.closed().await, (vec![ErrorCode::Unauthenticated], code.number()));
    }
    let id = healthy.ask(message(chat(1), 1, "still here")).await;
    assert_eq!(healthy.reply(id).await, None);
    deployment.stop().await;
}

#[tokio::test]
async fn who_does_not_authenticate_in_time_is_closed_and_may_come_back() {
    let deployment = Deployment::start_with(|config, _| config.socket.authenticate_timeout_ms = 100).await;
    let mut client = Client::connect(deployment.address).await;
    assert_eq!(client.closed().await, (vec![], CloseCode::AuthenticateTimeout.number()));
    deployment.stop().await;
}

#[tokio::test]
async fn nothing_is_taken_before_authentication() {
    let deployment = Deployment::start().await;
    let mut client = Client::connect(deployment.address).await;
    client.ask(message(chat(1), 1, "too early")).await;
    let refused = (vec![ErrorCode::NotAuthenticatedYet], CloseCode::Unauthenticated.number());
    assert_eq!(client.closed().await, refused);
    assert_eq!(deployment.ingest().await.last().await, 0);
    deployment.stop().await;
}

#[tokio::test]
async fn an_unknown_frame_and_a_second_authentication_are_refused_and_the_socket_goes_on() {
    let deployment = Deployment::start().await;
    let mut client = deployment.client(1).await;
    // Id 77 and field 99, which no version has so far.
    client.send(Bytes::from_static(&[0x08, 77, 0x9a, 0x06, 0x00])).await;
    assert_eq!(client.reply(77).await, Some(ErrorCode::BadRequest));
    let id = client.ask(authenticate(&deployment.token(1))).await;
    assert_eq!(client.reply(id).await, Some(ErrorCode::AlreadyAuthenticated));
    let unnamed = v1::ClientFrame { id: 0, frame: Some(Ask::ReadHistory(v1::ReadHistory::default())) };
    client.send(unnamed.encode_to_vec().into()).await;
    assert_eq!(client.reply(0).await, Some(ErrorCode::BadRequest));
    let id = client.ask(message(chat(1), 1, "still here")).await;
    assert_eq!(client.reply(id).await, None);
    deployment.stop().await;
}

#[tokio::test]
async fn bytes_that_are_no_frame_close_the_socket_for_good() {
    let deployment = Deployment::start().await;
    let mut early = Client::connect(deployment.address).await;
    early.send(Bytes::from_static(b"\xff\xff\xff")).await;
    assert_eq!(early.closed().await, (vec![ErrorCode::BadRequest], CloseCode::BadFrame.number()));
    let mut client = deployment.client(1).await;
    client.send(Bytes::from_static(b"\xff\xff\xff")).await;
    assert_eq!(client.closed().await, (vec![], CloseCode::BadFrame.number()));
    deployment.stop().await;
}
