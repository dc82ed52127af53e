//! What a signed-in socket, a device and a user may take, and what they hear beyond it.

use std::collections::BTreeMap;
use std::time::Duration;

use domain::{ChatId, Partition};
use gateway::limits::Rate;
use gateway::socket::{CloseCode, SubProtocol};
use gateway::{Config, limits::ClientLimits};
use proto::v1::client_frame::Frame as Ask;
use proto::v1::{self, ErrorCode};
use tokio::time::{Instant, sleep_until};

use super::{is_about_once, once};
use crate::sessions::client::{Client, message};
use crate::sessions::setup::{Deployment, chat, user};

async fn deployment(change: impl FnOnce(&mut Config)) -> Deployment {
    Deployment::start_with(SubProtocol::Proto, |config, _| {
        config.socket.limits.unlimited.clear();
        change(config);
    })
    .await
}

/// The answers to so many messages of these bytes, sent at once.
async fn send(client: &mut Client, count: u64, bytes: usize) -> Vec<Result<(), v1::Error>> {
    let mut asked = Vec::new();
    for n in 1..=count {
        asked.push(client.ask(message(chat(1), n, vec![b'x'; bytes])).await);
    }
    // A refusal may overtake the answer to what was asked before.
    let mut answers = BTreeMap::new();
    while answers.len() < asked.len() {
        let (id, answer) = client.any_answer().await;
        answers.insert(id, answer);
    }
    answers.into_values().collect()
}

/// How many of twelve messages are accepted; each other must say that it came too fast, and when it may come again.
async fn accepted_of_twelve(bytes: usize, change: impl FnOnce(&mut Config)) -> usize {
    let deployment = deployment(change).await;
    let mut client = deployment.client(1).await;
    let answers = send(&mut client, 12, bytes).await;
    for error in answers.iter().filter_map(|answer| answer.as_ref().err()) {
        assert_eq!(error.code(), ErrorCode::RateLimited);
        assert!(error.retryable && error.retry_after_ms > 0, "{error:?}");
    }
    deployment.stop().await;
    answers.iter().filter(|answer| answer.is_ok()).count()
}

#[tokio::test]
async fn x13_messages_are_bounded_by_socket_address_and_user() {
    type Limit = fn(&mut Config, Rate);
    let limits: [Limit; 3] = [
        |config, rate| config.socket.limits.socket_frames = rate,
        |config, rate| config.socket.limits.address_frames = rate,
        |config, rate| config.users.frames = rate,
    ];
    for limit in limits {
        assert!(is_about_once(accepted_of_twelve(10, |config| limit(config, once(5))).await, 5));
        assert_eq!(accepted_of_twelve(10, |config| limit(config, Rate::MAX)).await, 12, "control");
    }
}

#[tokio::test]
async fn x13_bytes_are_bounded_by_socket_address_and_user() {
    type Limit = fn(&mut Config, Rate);
    let limits: [Limit; 3] = [
        |config, rate| config.socket.limits.socket_bytes = rate,
        |config, rate| config.socket.limits.address_bytes = rate,
        |config, rate| config.users.bytes = rate,
    ];
    for limit in limits {
        // Eight of 10 kB are within it, with what surrounds them.
        assert_eq!(accepted_of_twelve(10_000, |config| limit(config, once(85_000))).await, 8);
        assert_eq!(accepted_of_twelve(10_000, |config| limit(config, Rate::MAX)).await, 12, "control");
    }
}

#[tokio::test]
async fn x13_who_waits_as_told_goes_on() {
    let deployment = deployment(|config| config.socket.limits.socket_frames = Rate { per_s: 5, burst: 2 }).await;
    let mut client = deployment.client(1).await;
    let answers = send(&mut client, 3, 10).await;
    let refused = answers[2].as_ref().unwrap_err();
    assert!((1..=201).contains(&refused.retry_after_ms), "{refused:?}");
    sleep_until(Instant::now() + Duration::from_millis(refused.retry_after_ms.into())).await;
    let id = client.ask(message(chat(1), 3, "again")).await;
    assert_eq!(client.reply(id).await, None);
    deployment.stop().await;
}

/// The close code of a socket that goes on in spite of being told to wait; none if it gets through.
async fn goes_on(change: impl FnOnce(&mut ClientLimits)) -> Option<u16> {
    let deployment = deployment(|config| change(&mut config.socket.limits)).await;
    let mut healthy = deployment.client(2).await;
    let mut client = deployment.client(1).await;
    let mut last = 0;
    for n in 1..=100 {
        last = client.ask(message(chat(1), n, "more")).await;
    }
    let ended = loop {
        match client.next().await {
            Ok(frame) if frame.id == last => break None,
            Ok(_) => {}
            Err(code) => break Some(code),
        }
    };
    let id = healthy.ask(message(chat(1), 1, "still here")).await;
    assert_eq!(healthy.reply(id).await, None);
    deployment.stop().await;
    ended
}

#[tokio::test]
async fn x13_a_socket_that_goes_on_though_told_to_wait_is_closed() {
    assert!(CloseCode::RateLimited.reconnect());
    let few = |limits: &mut ClientLimits| (limits.socket_frames, limits.flood_factor) = (once(10), 4);
    assert_eq!(goes_on(few).await, Some(CloseCode::RateLimited.number()));
    let patient = |limits: &mut ClientLimits| (limits.socket_frames, limits.flood_factor) = (once(10), 1_000);
    assert_eq!(goes_on(patient).await, None, "control: it is told for ever");
}

/// How many of so many devices of one user are signed in; what the others hear.
async fn devices(count: usize, sockets_max: usize) -> (usize, Vec<(Vec<v1::Error>, u16)>) {
    let deployment = deployment(|config| config.users.sockets_max = sockets_max).await;
    let (mut kept, mut refusals) = (Vec::new(), Vec::new());
    for number in 0..count {
        let mut client = deployment.connect().await;
        match client.sign_in_as(&deployment.token(1), &format!("device {number}")).await {
            Ok(()) => kept.push(client),
            Err(refusal) => refusals.push(refusal),
        }
    }
    // Another user is not touched by it, nor are those that are in.
    deployment.client(2).await;
    let last = kept.last_mut().unwrap();
    let id = last.ask(message(chat(1), 1, "still here")).await;
    assert_eq!(last.reply(id).await, None);
    // One that leaves makes room.
    if !refusals.is_empty() {
        kept.pop();
        testkit::wait::until(crate::sessions::setup::SOON, "room for another one", async || {
            let mut client = deployment.connect().await;
            client.sign_in_as(&deployment.token(1), "one more").await.is_ok()
        })
        .await;
    }
    let in_all = count - refusals.len();
    deployment.stop().await;
    (in_all, refusals)
}

#[tokio::test]
async fn x13_sockets_of_a_user_are_bounded() {
    assert_eq!(Config::default().users.sockets_max, 32);
    let (signed_in, refusals) = devices(6, 4).await;
    assert_eq!(signed_in, 4);
    for (errors, code) in refusals {
        let [error] = &errors[..] else { panic!("{errors:?}") };
        assert_eq!((error.code(), error.retryable), (ErrorCode::RateLimited, true));
        assert!(error.retry_after_ms >= 1_000, "{error:?}");
        assert_eq!(code, CloseCode::TooManySockets.number());
        assert!(CloseCode::TooManySockets.reconnect());
    }
    assert_eq!(devices(6, 32).await.0, 6, "control: with the usual bound");
}

/// Whether the first socket is still open after a second one came as this device.
async fn first_stays(first_device: &str, second: u8, second_device: &str) -> bool {
    let deployment = Deployment::start(SubProtocol::Proto).await;
    let mut first = deployment.connect().await;
    first.sign_in_as(&deployment.token(1), first_device).await.unwrap();
    let mut newer = deployment.connect().await;
    newer.sign_in_as(&deployment.token(second), second_device).await.unwrap();
    let id = newer.ask(message(chat(1), 1, "the newer one goes on")).await;
    assert_eq!(newer.reply(id).await, None);
    let id = first.ask(message(chat(1), 1, "am I still here")).await;
    let stays = loop {
        match first.next().await {
            Ok(frame) if frame.id == id => break true,
            Ok(_) => {}
            Err(code) => {
                assert_eq!(code, CloseCode::Replaced.number());
                break false;
            }
        }
    };
    deployment.stop().await;
    stays
}

#[tokio::test]
async fn x13_a_device_has_one_socket_and_the_newer_one_wins() {
    assert!(!first_stays("phone", 1, "phone").await);
    assert!(first_stays("phone", 1, "laptop").await, "control: another device");
    assert!(first_stays("phone", 2, "phone").await, "control: the same name at another user");
    assert!(first_stays("", 1, "").await, "one that names no device cannot be told from others");
}

/// How many of five chats that a user creates are accepted.
async fn chats_created(chats_per_hour: u32) -> usize {
    let deployment = deployment(|config| config.users.chats_per_hour = chats_per_hour).await;
    let (mut phone, mut laptop) = (deployment.connect().await, deployment.connect().await);
    phone.sign_in_as(&deployment.token(1), "phone").await.unwrap();
    laptop.sign_in_as(&deployment.token(1), "laptop").await.unwrap();
    let mut accepted = 0;
    for n in 0..5 {
        let members = vec![v1::Member { user: user(2).to_wire(), role: v1::Role::Member.into() }];
        let create = v1::CreateChat { kind: v1::ChatKind::Group.into(), members };
        let action = Some(v1::command::Action::CreateChat(create));
        let chat = ChatId::draw(Partition(0), 1_000, n << 2).to_wire();
        // Another device of the same user gets no more.
        let client = if n % 2 == 0 { &mut phone } else { &mut laptop };
        let id = client.ask(Ask::Command(v1::Command { chat, action, ..v1::Command::default() })).await;
        match client.answer(id).await {
            Ok(()) => accepted += 1,
            Err(error) => {
                assert_eq!(error.code(), ErrorCode::RateLimited);
                assert!(error.retry_after_ms > 60_000, "{error:?}");
            }
        }
    }
    // Messages are not touched by it.
    let id = phone.ask(message(chat(1), 1, "still here")).await;
    assert_eq!(phone.reply(id).await, None);
    deployment.stop().await;
    accepted
}

#[tokio::test]
async fn x13_chats_that_a_user_creates_are_bounded() {
    assert_eq!(chats_created(3).await, 3);
    assert_eq!(chats_created(120).await, 5, "control: with the usual bound");
}

#[tokio::test]
async fn x13_a_network_that_is_exempt_has_no_limits() {
    let narrow = |config: &mut Config| {
        config.socket.limits.socket_frames = once(6);
        config.socket.limits.address_connects = once(1);
        config.users.frames = once(1);
        config.users.chats_per_hour = 1;
        config.users.sockets_max = 1;
    };
    let exempt = Deployment::start_with(SubProtocol::Proto, |config, _| narrow(config)).await;
    let mut client = exempt.client(1).await;
    let answers = send(&mut client, 50, 10).await;
    assert!(answers.iter().all(Result::is_ok), "this machine is exempt by default");
    exempt.stop().await;
    assert!(is_about_once(accepted_of_twelve(10, narrow).await, 1), "control: it is not with an empty list");
}
