//! From a socket into the log: accepted only when it is there, busy when it cannot be, the outcome to who asked.

use gateway::socket::SubProtocol;
use std::time::Duration;

use domain::{ChatId, GatewayId, Partition};
use event_log::{LogConfig, Subject};
use prost::Message as _;
use proto::log::CommandBatch;
use proto::relay::{Answer, AnswerBatch};
use proto::v1::client_frame::Frame as Ask;
use proto::v1::server_frame::Frame;
use proto::v1::{self, ErrorCode};
use testkit::wait::until;

use super::client::message;
use super::setup::{Deployment, P0, SOON, chat, user};

over_each_sub_protocol! {
    what_is_accepted_stands_in_the_log_and_its_outcome_finds_the_request,
    a_resend_under_the_same_request_is_accepted_again,
    sends_of_one_socket_keep_their_order_in_the_log,
    a_body_too_large_a_bad_chat_and_an_unknown_partition_never_reach_the_log,
    a_full_stream_answers_busy_and_takes_commands_again_once_trimmed,
    a_broker_that_dies_and_returns_costs_time_but_stores_once,
    two_people_who_both_start_their_direct_chat_get_one,
}

fn commands(records: &[event_log::Record]) -> Vec<proto::log::Command> {
    records.iter().flat_map(|record| CommandBatch::decode(record.payload.clone()).unwrap().commands).collect()
}

async fn what_is_accepted_stands_in_the_log_and_its_outcome_finds_the_request(over: SubProtocol) {
    let deployment = Deployment::start(over).await;
    let ingest = deployment.ingest().await;
    let (mut alice, mut bob) = (deployment.client(1).await, deployment.client(2).await);
    let id = alice.ask(message(chat(1), 1, "hello")).await;
    assert_eq!(alice.reply(id).await, None);
    assert_eq!(ingest.last().await, 1, "accepted before it was stored");
    let bobs = bob.ask(message(chat(1), 1, "hi")).await;
    assert_eq!(bob.reply(bobs).await, None);

    let records = commands(&ingest.records(1, 2).await);
    let [first, second] = &records[..] else { panic!("{records:?}") };
    assert_eq!((&first.sender, &second.sender), (&user(1).to_wire(), &user(2).to_wire()));
    let route = first.route.unwrap();
    assert_eq!((route.session, route.request), (alice.session, id));

    let stored = v1::outcome::Result::Stored(v1::Stored { seq: 2, time_us: 3 });
    let outcome = v1::Outcome { chat: chat(1).to_wire(), origin: 9, n: 1, result: Some(stored) };
    let answer = Answer { session: route.session, request: route.request, outcome: Some(outcome.clone()) };
    // An answer for a session that is gone harms nobody.
    let astray = Answer { session: 1, request: 1, outcome: Some(outcome.clone()) };
    let batch = AnswerBatch { partition: 0, answers: vec![astray, answer] }.encode_to_vec();
    deployment.log.send(&Subject::Answers(GatewayId(route.gateway)), batch.into()).await.unwrap();
    let got = alice.until(|replied, frame| match frame {
        Frame::Outcome(outcome) => Some((replied, outcome)),
        _ => None,
    });
    assert_eq!(got.await, (id, outcome));
    deployment.stop().await;
}

async fn a_resend_under_the_same_request_is_accepted_again(over: SubProtocol) {
    let deployment = Deployment::start(over).await;
    let ingest = deployment.ingest().await;
    let mut client = deployment.client(1).await;
    let frame = v1::ClientFrame { id: 500, frame: Some(message(chat(1), 1, "hello")) };
    for _ in 0..2 {
        client.send(&frame).await;
        assert_eq!(client.reply(500).await, None);
    }
    assert_eq!(commands(&ingest.records(1, 2).await).len(), 2);
    deployment.stop().await;
}

async fn sends_of_one_socket_keep_their_order_in_the_log(over: SubProtocol) {
    let deployment = Deployment::start(over).await;
    let ingest = deployment.ingest().await;
    let mut client = deployment.client(1).await;
    for n in 1..=300 {
        client.ask(message(chat(n % 7), n, vec![b'x'; 2_000])).await;
    }
    let mut accepted = 0;
    client
        .until(|_, frame| {
            accepted += u64::from(matches!(frame, Frame::Accepted(_)));
            (accepted == 300).then_some(())
        })
        .await;
    let last = ingest.last().await;
    assert!(last < 300, "{last} records: nothing was packed");
    let records = ingest.records(1, usize::try_from(last).unwrap()).await;
    assert!(records.iter().all(|record| record.payload.len() <= domain::limits::RECORD_BYTES_MAX));
    let order: Vec<_> = commands(&records).into_iter().map(|command| command.command.unwrap().n).collect();
    assert!(order.iter().copied().eq(1..=300), "{order:?}");
    deployment.stop().await;
}

async fn a_body_too_large_a_bad_chat_and_an_unknown_partition_never_reach_the_log(over: SubProtocol) {
    let deployment = Deployment::start(over).await;
    let ingest = deployment.ingest().await;
    let mut client = deployment.client(1).await;
    let at_limit = client.ask(message(chat(1), 1, vec![0; 16 << 10])).await;
    assert_eq!(client.reply(at_limit).await, None);
    let cases = [
        (message(chat(1), 2, vec![0; (16 << 10) + 1]), ErrorCode::BodyTooLarge),
        (message(ChatId::draw(Partition(900), 1_000, 4), 2, "x"), ErrorCode::UnknownChat),
        (Ask::Command(v1::Command { chat: vec![1, 2, 3].into(), ..v1::Command::default() }), ErrorCode::BadRequest),
        (Ask::Command(v1::Command::default()), ErrorCode::BadRequest),
    ];
    for (ask, code) in cases {
        let id = client.ask(ask).await;
        assert_eq!(client.reply(id).await, Some(code));
    }
    assert_eq!(ingest.last().await, 1);
    deployment.stop().await;
}

async fn a_full_stream_answers_busy_and_takes_commands_again_once_trimmed(over: SubProtocol) {
    let deployment = Deployment::start_with(over, |_, log| {
        *log = LogConfig {
            commands_bytes_max: 64 << 10,
            events_bytes_max: 64 << 10,
            window_bytes: 8 << 10,
            ..log.clone()
        };
    })
    .await;
    let ingest = deployment.ingest().await;
    let mut client = deployment.client(1).await;
    let mut n = 0;
    let code = loop {
        n += 1;
        assert!(n < 50, "the stream takes more than it may");
        let id = client.ask(message(chat(1), n, vec![0; 8 << 10])).await;
        if let Some(code) = client.reply(id).await {
            break code;
        }
    };
    assert_eq!(code, ErrorCode::Busy);
    // Another partition is not touched by it.
    let id = client.ask(message(ChatId::draw(Partition(1), 1_000, 4), 1, vec![0; 8 << 10])).await;
    assert_eq!(client.reply(id).await, None);
    ingest.trim().await;
    let id = client.ask(message(chat(1), n, vec![0; 8 << 10])).await;
    assert_eq!(client.reply(id).await, None);
    deployment.stop().await;
}

/// A stop signal is on its way to a process of many threads for longer than its sender is in `kill`.
fn is_stopped(pid: u32) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    threads.flatten().all(|thread| {
        std::fs::read_to_string(thread.path().join("stat"))
            .is_ok_and(|stat| stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T')))
    })
}

async fn a_broker_that_dies_and_returns_costs_time_but_stores_once(over: SubProtocol) {
    let deployment = Deployment::start_with(over, |_, log| {
        (log.publish_deadline_ms, log.attempt_deadline_ms) = (300, 100);
    })
    .await;
    let mut client = deployment.client(1).await;
    let first = client.ask(message(chat(1), 1, "before")).await;
    assert_eq!(client.reply(first).await, None);
    deployment.server.pause().unwrap();
    let pid = deployment.server.pid().unwrap();
    until(SOON, "every thread of the broker to stand still", async || is_stopped(pid)).await;
    let second = client.ask(message(chat(1), 2, "while nobody answers")).await;
    // Past the deadline of a publish: the record is in doubt and goes again under its own id.
    let wait = tokio::time::timeout(Duration::from_millis(700), client.next()).await;
    assert!(wait.is_err(), "{wait:?}");
    deployment.server.kill().unwrap();
    deployment.server.restart().await.unwrap();
    assert_eq!(client.reply(second).await, None);
    let ingest = deployment.ingest().await;
    let last = ingest.last().await;
    let stored: Vec<_> = commands(&ingest.records(1, usize::try_from(last).unwrap()).await)
        .into_iter()
        .map(|command| command.command.unwrap().n)
        .collect();
    assert_eq!(stored, [1, 2]);
    deployment.stop().await;
}

async fn two_people_who_both_start_their_direct_chat_get_one(over: SubProtocol) {
    let deployment = Deployment::start(over).await;
    let ingest = deployment.ingest().await;
    let (mut alice, mut bob) = (deployment.client(1).await, deployment.client(2).await);
    let create = |chat: ChatId, other: u8| {
        let members = vec![v1::Member { user: user(other).to_wire(), role: v1::Role::Member.into() }];
        let create = v1::CreateChat { kind: v1::ChatKind::Direct.into(), members };
        let action = Some(v1::command::Action::CreateChat(create));
        Ask::Command(v1::Command { chat: chat.to_wire(), action, ..v1::Command::default() })
    };
    let id = alice.ask(create(chat(1), 2)).await;
    assert_eq!(alice.reply(id).await, None);
    // Proposed in another partition, but the chat that exists decides.
    let id = bob.ask(create(ChatId::draw(Partition(1), 1_000, 4), 1)).await;
    assert_eq!(bob.reply(id).await, None);
    let asked = commands(&ingest.records(1, 2).await);
    assert!(asked.iter().all(|command| command.command.as_ref().unwrap().chat == chat(1).to_wire()), "{asked:?}");
    assert_eq!(chat(1).partition(), P0);
    deployment.stop().await;
}
