//! Other people's pages: their scripts open no socket, and a cookie that a browser adds opens no session.

use std::net::SocketAddr;

use gateway::socket::{CloseCode, Config, SubProtocol};
use prost::Message as _;
use proto::v1::{ClientFrame, ErrorCode};

use super::last_words;
use super::stock::Stock;
use crate::sessions::client::message;
use crate::sessions::setup::{Deployment, chat};
use crate::socket::peer::{Behaviour, Gateway, RawClient, config, frame};

async fn opens(address: SocketAddr, change: &str) -> bool {
    RawClient::connect(address).await.asks(change).await.starts_with("http/1.1 101 ")
}

#[tokio::test]
async fn x1_a_page_of_another_origin_opens_no_socket() {
    const OURS: &str = "https://app.example";
    let foreign = ["https://evil.example", "https://app.example.evil.example", "http://app.example", "null"];
    let gateway = Gateway::start(Config { allowed_origins: vec![OURS.into()], ..config() }, Behaviour::Trust);
    assert!(opens(gateway.address, &format!("Origin: {OURS}")).await);
    assert!(opens(gateway.address, "").await, "no browser, which must then bring a token in its first frame");
    let open_to_all = Stock::start().await;
    for origin in foreign {
        let change = format!("Origin: {origin}");
        let head = RawClient::connect(gateway.address).await.asks(&change).await;
        assert!(head.starts_with("http/1.1 403 "), "{origin}: {head}");
        assert!(head.contains("heliograph-error: origin_not_allowed\r\n"), "{head}");
        let with_token = format!("{change}\r\nAuthorization: Bearer abc.def");
        assert!(!opens(gateway.address, &with_token).await, "a token does not make up for it");
        assert!(opens(open_to_all.address, &change).await, "control: nobody looks at {origin}");
    }
}

/// What a client hears that sends a command behind this upgrade, without signing in.
async fn first_words(deployment: &Deployment, change: &str) -> (Vec<ErrorCode>, u16) {
    let mut client = RawClient::connect(deployment.address).await;
    let head = client.asks(change).await;
    assert!(head.starts_with("http/1.1 101 "), "{head}");
    let sent = ClientFrame { id: 1, frame: Some(message(chat(1), 1, "sent by a page")) };
    client.send(&frame(0x82, &sent.encode_to_vec())).await;
    last_words(&mut client).await
}

#[tokio::test]
async fn x2_a_cookie_never_authenticates_a_socket() {
    let deployment = Deployment::start(SubProtocol::Proto).await;
    let token = deployment.token(1);
    let refused = (vec![ErrorCode::NotAuthenticatedYet], CloseCode::Unauthenticated.number());
    for name in ["session", "token", "heliograph", "__Host-session", "authorization"] {
        let change = format!("Cookie: {name}={token}");
        assert_eq!(first_words(&deployment, &change).await, refused, "{name}");
    }
    assert_eq!(deployment.ingest().await.last().await, 0, "nothing reached the log");
    // Control: the same token opens a session from where a page of another origin cannot put it.
    let mut control = deployment.client(1).await;
    let id = control.ask(message(chat(1), 1, "sent by its owner")).await;
    assert_eq!(control.reply(id).await, None);
    deployment.stop().await;
}

#[tokio::test]
async fn x1_without_a_list_no_page_whatever_opens_a_socket() {
    let gateway = Gateway::start(config(), Behaviour::Trust);
    let listed = Gateway::start(
        Config { allowed_origins: vec!["http://127.0.0.1".into(), "https://app.example".into()], ..config() },
        Behaviour::Trust,
    );
    for origin in ["https://app.example", "http://127.0.0.1"] {
        let change = format!("Origin: {origin}");
        assert!(!opens(gateway.address, &change).await);
        assert!(opens(listed.address, &change).await, "control: the same page, listed");
    }
}
