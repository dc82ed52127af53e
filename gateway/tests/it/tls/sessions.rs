//! Whole sessions over TLS, with the client that people use.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use client::{Client, Event, Events, Options, Trust};
use domain::Event as Entry;
use gateway::socket::{CloseCode, SubProtocol};
use prost::Message as _;
use proto::log;
use testkit::Authority;
use tokio::time::timeout;

use super::files::{self, Files};
use crate::sessions::setup::{Chat, Deployment, SOON, user};

/// As large as a body may be.
const BODY_BYTES: usize = 16 * 1024;
/// So many of them are a megabyte and a half.
const MESSAGES: usize = 100;

/// A gateway that speaks TLS, and who vouches for it.
struct Place {
    deployment: Deployment,
    authority: Authority,
    files: Files,
}

impl Place {
    async fn start() -> Self {
        let authority = files::authority();
        let files = Files::of(&authority.issue().unwrap());
        let tls = files.config();
        let deployment = Deployment::start_with(SubProtocol::Proto, |config, _| config.socket.tls = Some(tls)).await;
        Self { deployment, authority, files }
    }

    fn options(&self, n: u8) -> Options {
        let url = format!("wss://localhost:{}/v1/socket", self.deployment.address.port());
        let trust = Trust::File(self.files.trusted(&self.authority));
        Options { trust, ..Options::new(url, self.deployment.token(n), "phone") }
    }

    async fn connect(&self, n: u8) -> (Client, Events) {
        let (client, mut events) = Client::connect(self.options(n));
        until(&mut events, |event| matches!(event, Event::Connected { .. }).then_some(())).await;
        (client, events)
    }
}

/// The next event that `pick` takes; others are passed over.
async fn until<T>(events: &mut Events, mut pick: impl FnMut(&Event) -> Option<T>) -> T {
    let picked = async {
        loop {
            let event = events.next().await.expect("the client goes on");
            if let Some(picked) = pick(&event) {
                return picked;
            }
        }
    };
    timeout(SOON, picked).await.expect("in time")
}

#[tokio::test]
async fn a_client_sends_and_reads_pages_of_many_records() {
    let place = Place::start().await;
    let mut chat = Chat::new(1);
    let mut entries = vec![chat.created(&[1, 2])];
    for n in 0..MESSAGES {
        entries.push(chat.entry(Entry::MessageSent(domain::Message::plain(vec![n as u8; BODY_BYTES]))));
    }
    place.deployment.append(&entries).await;
    let (alice, _events) = place.connect(1).await;
    let id = client::ChatId::from_wire(&chat.id.to_wire()).unwrap();
    let sent = alice.send(id, Bytes::from(vec![7; BODY_BYTES])).unwrap();
    timeout(SOON, sent.accepted).await.expect("in time").unwrap();
    let mut read = Vec::new();
    while read.len() < entries.len() {
        let after = read.len() as u64;
        let page = timeout(SOON, alice.history(id, after, 256, 0)).await.expect("in time").unwrap();
        // Bodies alone: more than one record holds.
        assert!(page.entries.len() > 1, "a page of {}", page.entries.len());
        read.extend(page.entries);
    }
    for (got, entry) in read.iter().zip(&entries) {
        assert!(got.encode_to_vec() == entry.bytes, "entry {}", got.seq);
    }
    drop(alice);
    place.deployment.stop().await;
}

#[tokio::test]
async fn a_client_that_trusts_others_hears_nothing_and_says_so() {
    let place = Place::start().await;
    let (mine, others) = (place.options(1), files::authority());
    let files = Files::of(&others.issue().unwrap());
    let strangers = [Trust::File(files.trusted(&others)), Trust::Platform];
    for trust in strangers {
        let (_client, mut events) = Client::connect(Options { trust, ..mine.clone() });
        let error = until(&mut events, |event| match event {
            Event::Unreachable { error } => Some(error.clone()),
            Event::Connected { .. } => panic!("it trusts whom it does not know"),
            _ => None,
        })
        .await;
        assert!(error.contains("UnknownIssuer") || error.contains("no authority"), "{error}");
    }
    // Nor one who is asked for by another name.
    let url = mine.urls[0].replace("localhost", "127.0.0.2");
    let (_client, mut events) = Client::connect(Options { urls: vec![url], ..mine.clone() });
    let error = until(&mut events, |event| match event {
        Event::Unreachable { error } => Some(error.clone()),
        _ => None,
    })
    .await;
    assert!(!error.is_empty());
    place.deployment.stop().await;
}

#[tokio::test]
async fn a_revoked_client_and_one_that_is_replaced_hear_it() {
    let place = Place::start().await;
    let (_first, mut of_first) = place.connect(1).await;
    let (_second, mut of_second) = place.connect(1).await;
    let fatal = |event: &Event| match event {
        Event::Fatal { code } => Some(*code),
        _ => None,
    };
    assert_eq!(until(&mut of_first, fatal).await, CloseCode::Replaced.number());
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let revocation = log::Revocation {
        user: user(1).to_wire(),
        issued_through_s: now_s,
        device: String::new(),
        sign_in: String::new(),
        forget_after_s: now_s + 600,
    };
    let what = Some(log::control::What::Revocation(revocation));
    let record = log::Control { schema: 1, what }.encode_to_vec().into();
    place.deployment.log.publish_control(record, "1").await.unwrap();
    assert_eq!(until(&mut of_second, fatal).await, CloseCode::Revoked.number());
    place.deployment.stop().await;
}

#[tokio::test]
async fn a_gateway_that_leaves_tells_its_clients_when_to_come_back() {
    let place = Place::start().await;
    let (_client, mut events) = place.connect(1).await;
    place.deployment.shutdown.cancel();
    let code = until(&mut events, |event| match event {
        Event::Disconnected { code } => Some(*code),
        _ => None,
    })
    .await;
    // Told when to come back, it does not wait to be closed.
    assert!(matches!(code, None | Some(4002)), "{code:?}");
    place.deployment.stop().await;
}
