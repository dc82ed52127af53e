//! Tokens that are revoked, renewed and outlived.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use event_log::LogConfig;
use gateway::socket::{CloseCode, SubProtocol};
use gateway::{Config, Dependencies, Gateway};
use issuers::Issuers;
use prost::Message as _;
use proto::log;
use proto::v1::ErrorCode;
use proto::v1::server_frame::Frame;
use testkit::{Direction, Gate};
use tokens::{KeyRing, Rotation};
use tokio::time::{Instant, timeout};

use super::client::{Client, authenticate, authenticate_as, message};
use super::setup::{Deployment, SOON, chat, user};

over_each_sub_protocol! {
    x6_a_revocation_closes_what_it_names_and_lets_nobody_in_with_it_again,
    x6_a_gateway_that_was_cut_off_or_not_there_learns_of_it_all_the_same,
    x6_a_revoked_key_ends_what_it_signed_also_where_it_is_kept,
    x5_a_socket_outlives_its_token_by_the_grace_unless_it_is_renewed,
    x5_a_renewal_for_somebody_else_or_another_device_ends_the_socket,
}

/// What is promised for every gateway that can be reached.
const CLOSED_WITHIN: Duration = Duration::from_secs(2);

pub(super) fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

pub(super) fn revocation(n: u8, device: &str, sign_in: &str) -> log::Revocation {
    log::Revocation {
        user: user(n).to_wire(),
        issued_through_s: now_s(),
        device: device.to_owned(),
        sign_in: sign_in.to_owned(),
        forget_after_s: now_s() + 600,
    }
}

pub(super) async fn revoke(deployment: &Deployment, id: &str, revocation: log::Revocation) {
    let what = Some(log::control::What::Revocation(revocation));
    let record = log::Control { schema: 1, what }.encode_to_vec().into();
    deployment.log.publish_control(record, id).await.unwrap();
}

impl Deployment {
    fn token_of(&self, n: u8, device: &str, sign_in: &str) -> String {
        self.keys.mint_for(user(n), device, sign_in, Duration::from_secs(600)).unwrap()
    }

    async fn client_with(&self, token: &str) -> Client {
        let mut client = self.connect().await;
        client.sign_in_as(token, "test").await.unwrap();
        client
    }
}

async fn x6_a_revocation_closes_what_it_names_and_lets_nobody_in_with_it_again(over: SubProtocol) {
    let deployment = Deployment::start(over).await;
    let (phone, tablet) = (deployment.token_of(1, "test", "a"), deployment.token_of(1, "", "b"));
    let mut on_phone = deployment.client_with(&phone).await;
    let mut on_tablet = deployment.connect().await;
    on_tablet.sign_in(&tablet).await;
    let mut other = deployment.client(2).await;

    let begun = Instant::now();
    revoke(&deployment, "1", revocation(1, "", "a")).await;
    assert_eq!(on_phone.closed().await, (vec![], CloseCode::Revoked.number()));
    assert!(begun.elapsed() < CLOSED_WITHIN, "{:?}", begun.elapsed());
    let mut again = deployment.connect().await;
    again.ask(authenticate_as(&phone, "test")).await;
    assert_eq!(again.closed().await, (vec![ErrorCode::Unauthenticated], CloseCode::Revoked.number()));

    // The control: what it does not name goes on.
    for (client, n) in [(&mut on_tablet, 1), (&mut other, 2)] {
        let id = client.ask(message(chat(n), 1, "still here")).await;
        assert_eq!(client.reply(id).await, None);
    }
    revoke(&deployment, "2", revocation(1, "", "")).await;
    assert_eq!(on_tablet.closed().await, (vec![], CloseCode::Revoked.number()));
    let id = other.ask(message(chat(2), 2, "still here")).await;
    assert_eq!(other.reply(id).await, None);
    deployment.stop().await;
}

async fn x6_a_gateway_that_was_cut_off_or_not_there_learns_of_it_all_the_same(over: SubProtocol) {
    let deployment = Deployment::start(over).await;
    let gate = Gate::before(deployment.server.port()).await.unwrap();
    let config =
        LogConfig { servers: vec![format!("nats://127.0.0.1:{}", gate.port())], ..deployment.log.config().clone() };
    let log = event_log::Log::connect(config).await.unwrap();
    let dependencies = || Dependencies {
        log: log.clone(),
        store: deployment.store.clone(),
        keys: deployment.keys.clone(),
        issuers: Issuers::default(),
    };
    let bind = || {
        let mut config = Config::listening_on("127.0.0.1:0").unwrap();
        config.socket.drain_ms = 0;
        Gateway::bind(config, dependencies()).unwrap()
    };
    let behind = bind();
    let (address, shutdown) = (behind.local_addr(), deployment.shutdown.clone());
    let running = tokio::spawn(behind.run(shutdown.clone()));
    let mut client = Client::connect(address, over).await;
    let token = deployment.token(1);
    client.sign_in(&token).await;
    let mut untouched = Client::connect(address, over).await;
    untouched.sign_in(&deployment.token(2)).await;

    gate.hold(Direction::ToClients);
    revoke(&deployment, "1", revocation(1, "", "")).await;
    // It cannot know yet.
    let id = client.ask(authenticate(&token)).await;
    client.until(|replied, frame| (replied == id && matches!(frame, Frame::Renewed(_))).then_some(())).await;
    gate.let_go(Direction::ToClients);
    let begun = Instant::now();
    assert_eq!(client.closed().await.1, CloseCode::Revoked.number());
    assert!(begun.elapsed() < CLOSED_WITHIN, "{:?}", begun.elapsed());
    let id = untouched.ask(authenticate(&deployment.token(2))).await;
    untouched.until(|replied, frame| (replied == id && matches!(frame, Frame::Renewed(_))).then_some(())).await;

    // One that starts later knows before it takes anybody in.
    let late = bind();
    let address = late.local_addr();
    let late = tokio::spawn(late.run(shutdown.clone()));
    let mut client = Client::connect(address, over).await;
    client.ask(authenticate(&token)).await;
    assert_eq!(client.closed().await, (vec![ErrorCode::Unauthenticated], CloseCode::Revoked.number()));
    shutdown.cancel();
    for gateway in [running, late] {
        timeout(SOON, gateway).await.expect("in time").unwrap().unwrap();
    }
    // What connects through the gate goes before what it leads to.
    drop((log, gate));
    deployment.stop().await;
}

async fn x6_a_revoked_key_ends_what_it_signed_also_where_it_is_kept(over: SubProtocol) {
    let deployment = Deployment::start(over).await;
    let ring = KeyRing::generate(now_s()).unwrap();
    let stolen = ring.known(now_s()).remove(0).kid;
    deployment.keys.replace(ring.clone());
    let forged = deployment.token_of(1, "test", "");
    let mut of_thief = deployment.client_with(&forged).await;
    let Rotation::To(rotated) = ring.rotated(now_s(), Duration::ZERO).unwrap() else { panic!("no rotation") };
    deployment.keys.replace(rotated);
    let mut other = deployment.client_with(&deployment.token_of(2, "test", "")).await;

    let begun = Instant::now();
    tokens::revoke_key(&deployment.log, &stolen, "1").await.unwrap();
    assert_eq!(of_thief.closed().await, (vec![], CloseCode::Revoked.number()));
    assert!(begun.elapsed() < CLOSED_WITHIN, "{:?}", begun.elapsed());
    assert!(deployment.keys.check(&forged).is_ok(), "the key is here still");
    let mut again = deployment.connect().await;
    again.ask(authenticate_as(&forged, "test")).await;
    assert_eq!(again.closed().await, (vec![ErrorCode::Unauthenticated], CloseCode::Revoked.number()));
    // The control: what another key signed goes on.
    let id = other.ask(message(chat(2), 1, "still here")).await;
    assert_eq!(other.reply(id).await, None);
    deployment.stop().await;
}

async fn x5_a_socket_outlives_its_token_by_the_grace_unless_it_is_renewed(over: SubProtocol) {
    let deployment = Deployment::start_with(over, |config, _| config.renewal_grace_ms = 500).await;
    let short = |n| deployment.keys.mint(user(n), Duration::from_secs(2)).unwrap();
    let mut left = deployment.connect().await;
    let mut renewed = deployment.connect().await;
    let expires_us = left.sign_in(&short(1)).await.expires_us;
    renewed.sign_in(&short(2)).await;
    let id = renewed.ask(authenticate(&deployment.token(2))).await;
    let until_us = renewed
        .until(|replied, frame| match frame {
            Frame::Renewed(renewed) if replied == id => Some(renewed.expires_us),
            _ => None,
        })
        .await;
    assert!(until_us > expires_us);

    assert_eq!(left.closed().await, (vec![], CloseCode::TokenExpired.number()));
    let now_us = u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros()).unwrap();
    // Late by the wheel's tick at most, and by how busy this machine is.
    assert!((expires_us + 500_000..expires_us + 2_500_000).contains(&now_us), "{expires_us} {now_us}");
    // The control: the other one, of the same age, goes on.
    let id = renewed.ask(message(chat(2), 1, "still here")).await;
    assert_eq!(renewed.reply(id).await, None);
    deployment.stop().await;
}

async fn x5_a_renewal_for_somebody_else_or_another_device_ends_the_socket(over: SubProtocol) {
    let deployment = Deployment::start(over).await;
    let cases = [
        (deployment.token(2), CloseCode::Unauthenticated),
        (deployment.token_of(1, "another", "a"), CloseCode::Unauthenticated),
        ("nonsense".to_owned(), CloseCode::Unauthenticated),
        (deployment.token_of(1, "test", "gone"), CloseCode::Revoked),
    ];
    revoke(&deployment, "1", revocation(1, "", "gone")).await;
    for (token, code) in cases {
        let mut client = deployment.client_with(&deployment.token_of(1, "test", "a")).await;
        client.ask(authenticate_as(&token, "test")).await;
        assert_eq!(client.closed().await, (vec![ErrorCode::Unauthenticated], code.number()));
    }
    deployment.stop().await;
}
