//! The end of all sign-ins at once, whatever crosses it and wherever it is broken off.

use domain::UserId;
use event_log::{ControlReader, Log, LogConfig};
use heliograph::broker::{self, Access};
use heliograph::folder;
use serde_json::json;
use store::{RefreshFamily, Store};
use testkit::nats::{NatsOptions, NatsServer};
use tokio::time::timeout;

use super::accounts::{is_revoked, refresh, sign_in, with};
use super::http::Answer;
use super::{PASSWORD, Person};
use crate::cast::SOON;
use crate::process::Up;

const NEW_PASSWORD: &str = "another good password";

impl Person {
    async fn changes_password(&self) -> Answer {
        let change = json!({ "current": PASSWORD, "new": NEW_PASSWORD }).to_string();
        self.http.ask("PUT", "/v1/me/password", &[], Some(change)).await
    }
}

/// Somebody signed in this often.
async fn signed_in(store: &Store, times: u8) -> UserId {
    let user = UserId::new([7; 16]);
    for n in 0..times {
        let family = RefreshFamily {
            family: [n; 16],
            user,
            device: "phone".into(),
            live: [n; 32],
            spent: Vec::new(),
            created_us: 1,
            expires_us: 2,
            version: 0,
        };
        assert!(store.put_refresh_family(family, 0).await.unwrap());
    }
    user
}

/// Waits for the next revocation.
async fn revocation(control: &mut ControlReader) {
    timeout(SOON, control.next()).await.expect("it is told");
}

#[tokio::test(flavor = "multi_thread")]
async fn x6_the_end_of_sign_ins_is_told_at_once_and_again_when_no_refresh_token_is_left() {
    let nats = NatsServer::start(NatsOptions::default()).await.unwrap();
    let log = Log::connect(LogConfig { servers: vec![nats.url().to_owned()], ..LogConfig::default() }).await.unwrap();
    log.open_streams().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(store::Config::in_folder(folder.path())).await.unwrap();
    let user = signed_in(&store, 100).await;
    let mut control = log.follow_control().await.unwrap();
    let told = async {
        revocation(&mut control).await;
        let at_first = store.refresh_families_of(user).await.unwrap().len();
        revocation(&mut control).await;
        (at_first, store.refresh_families_of(user).await.unwrap().len())
    };
    let (ended, (at_first, at_last)) = tokio::join!(api::end_sign_ins(&store, &log, user, ""), told);
    assert_eq!((ended.unwrap(), at_last), (100, 0));
    assert!(at_first > 0, "sockets close before a hundred rows are written");
}

#[tokio::test(flavor = "multi_thread")]
async fn x6_signing_out_everywhere_and_a_new_password_are_told_twice() {
    let mut up = Up::new();
    up.start().await;
    let Access { url, login } = broker::access_of(&folder::broker(up.folder())).unwrap();
    let config = LogConfig { servers: vec![url], login: Some(login), ..LogConfig::default() };
    let log = Log::connect(config).await.unwrap();
    let mut control = log.follow_control().await.unwrap();
    let (alice, _) = up.register("alice").await;
    let (bob, _) = up.register("bob").await;
    assert_eq!(alice.http.delete("/v1/sign-ins").await.status, 204);
    assert_eq!(control.waiting().await.unwrap().len(), 2);
    assert_eq!(bob.changes_password().await.status, 204);
    assert_eq!(control.waiting().await.unwrap().len(), 2);
    up.stop().await;
}

/// What is asked of an API that dies behind the write of the row: nobody hears an answer.
async fn broken_off(up: &mut Up, alice: &Person, is_password: bool) {
    up.kill();
    up.start_to_crash("accounts.row_written", 1).await;
    let alice = alice.at(up);
    let asking = tokio::spawn(async move {
        if is_password { alice.changes_password().await } else { alice.http.delete("/v1/sign-ins").await }
    });
    up.crashed().await;
    assert!(asking.await.is_err());
    up.start().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn x6_no_sign_in_goes_on_behind_a_new_password_that_was_broken_off() {
    let mut up = Up::new();
    up.start().await;
    let (alice, laptop) = up.register("alice").await;
    let phone = sign_in(&up, "alice", PASSWORD).await;
    let next = refresh(&up, &phone.text("refresh_token")).await;
    assert_eq!(next.status, 200, "the control: it goes on");
    broken_off(&mut up, &alice, true).await;
    assert_eq!(sign_in(&up, "alice", PASSWORD).await.problem(), "wrong-password");
    assert_eq!(refresh(&up, &next.text("refresh_token")).await.problem(), "refresh-refused");
    is_revoked(&with(&up, &next)).await;
    // Asked again by whoever heard no answer, it is carried out whole.
    assert_eq!(alice.at(&up).http.get("/v1/me").await.status, 200, "nobody has told of the laptop");
    let guess = json!({ "current": "a wrong guess", "new": "a wrong guess as well" }).to_string();
    let guessed = alice.at(&up).http.ask("PUT", "/v1/me/password", &[], Some(guess)).await;
    assert_eq!(guessed.problem(), "wrong-password");
    assert_eq!(alice.at(&up).changes_password().await.status, 204);
    is_revoked(&alice.at(&up).http).await;
    assert_eq!(refresh(&up, &laptop.text("refresh_token")).await.problem(), "refresh-refused");
    let new = sign_in(&up, "alice", NEW_PASSWORD).await;
    assert_eq!(refresh(&up, &new.text("refresh_token")).await.status, 200, "what began behind it goes on");
    up.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn x6_a_sign_in_behind_a_broken_off_end_carries_it_out() {
    let mut up = Up::new();
    up.start().await;
    let (alice, laptop) = up.register("alice").await;
    broken_off(&mut up, &alice, false).await;
    assert_eq!(alice.at(&up).http.get("/v1/me").await.status, 200, "nobody has told of it");
    assert_eq!(sign_in(&up, "alice", PASSWORD).await.status, 201);
    is_revoked(&alice.at(&up).http).await;
    assert_eq!(refresh(&up, &laptop.text("refresh_token")).await.problem(), "refresh-refused");
    up.stop().await;
}
