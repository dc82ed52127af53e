//! History beside everything else that a socket does: it waits without keeping others waiting, at the reader's pace.

use domain::{Event, LoggedEntry, Member, Role, Seq, limits::HISTORY_ENTRIES_MAX};
use gateway::socket::SubProtocol;
use proto::v1::client_frame::Frame as Ask;
use proto::v1::server_frame::Frame;
use proto::v1::{ErrorCode, History, ReadHistory};

use super::client::{Client, message};
use super::setup::{Chat, Deployment, chat, user};

over_each_sub_protocol! {
    a_history_that_waits_keeps_nothing_behind_it_waiting,
    who_reads_more_at_a_time_than_may_wait_hears_busy_and_goes_on,
    answers_larger_than_the_queue_come_at_the_readers_pace_and_close_nothing,
    a_page_ends_at_its_limit_of_entries_or_of_bytes,
    who_was_let_in_by_an_entry_that_is_not_stored_yet_waits_for_it,
    one_who_left_learns_nothing_of_what_follows_until_let_in_again,
}

fn read(chat: &Chat, after: Seq, limit: u32, at_least: Seq) -> Ask {
    Ask::ReadHistory(ReadHistory { chat: chat.id.to_wire(), after, limit, at_least })
}

/// The next reply to any history request.
async fn answered(client: &mut Client) -> (u64, Result<History, ErrorCode>) {
    client
        .until(|replied, frame| match frame {
            Frame::History(history) => Some((replied, Ok(history))),
            Frame::Error(error) => Some((replied, Err(error.code()))),
            _ => None,
        })
        .await
}

fn long(chat: &mut Chat, entries: usize, bytes: usize) -> Vec<LoggedEntry> {
    let mut log = vec![chat.created(&[1, 2])];
    log.extend((0..entries).map(|_| chat.entry(Event::MessageSent(domain::Message::plain(vec![b'x'; bytes])))));
    log
}

async fn a_history_that_waits_keeps_nothing_behind_it_waiting(over: SubProtocol) {
    let deployment = Deployment::start_with(over, |config, _| config.history_wait_ms = 20_000).await;
    let mut chat_of = Chat::new(1);
    deployment.append(&long(&mut chat_of, 1, 8)).await;
    let mut client = deployment.client(1).await;
    let waits = client.ask(read(&chat_of, 2, 0, 3)).await;
    let send = client.ask(message(chat(1), 1, "hello")).await;
    assert_eq!(client.reply(send).await, None, "before the history is answered");
    deployment.append(&[chat_of.message()]).await;
    let (replied, history) = answered(&mut client).await;
    assert_eq!((replied, history.unwrap().through), (waits, 3));
    deployment.stop().await;
}

async fn who_reads_more_at_a_time_than_may_wait_hears_busy_and_goes_on(over: SubProtocol) {
    let deployment = Deployment::start_with(over, |config, _| config.history_wait_ms = 20_000).await;
    let mut chat_of = Chat::new(1);
    deployment.append(&long(&mut chat_of, 1, 8)).await;
    let mut client = deployment.client(1).await;
    let waits = client.ask(read(&chat_of, 2, 0, 3)).await;
    // Accepted behind it: by then the first one has left the line.
    let send = client.ask(message(chat(1), 1, "hello")).await;
    assert_eq!(client.reply(send).await, None);
    let mut ids = Vec::new();
    for _ in 0..64 {
        ids.push(client.ask(read(&chat_of, 0, 0, 0)).await);
    }
    let too_many = client.ask(read(&chat_of, 0, 0, 0)).await;
    let (replied, refused) = answered(&mut client).await;
    assert_eq!((replied, refused.unwrap_err()), (too_many, ErrorCode::Busy));
    deployment.append(&[chat_of.message()]).await;
    for id in [waits].into_iter().chain(ids) {
        let (replied, history) = answered(&mut client).await;
        assert_eq!((replied, history.is_ok()), (id, true));
    }
    deployment.stop().await;
}

async fn answers_larger_than_the_queue_come_at_the_readers_pace_and_close_nothing(over: SubProtocol) {
    let deployment = Deployment::start_with(over, |config, _| config.socket.send_buffer_bytes = 4_096).await;
    let mut chat_of = Chat::new(1);
    deployment.append(&long(&mut chat_of, 60, 8_000)).await;
    let mut client = deployment.client(1).await;
    let mut ids = Vec::new();
    for _ in 0..60 {
        ids.push(client.ask(read(&chat_of, 1, 0, 0)).await);
    }
    let mut bytes = 0;
    for id in ids {
        let (replied, history) = answered(&mut client).await;
        let history = history.unwrap();
        assert_eq!((replied, history.through), (id, history.entries.last().unwrap().seq));
        bytes += prost::Message::encoded_len(&history);
    }
    assert!(bytes > 10 * deployment_queue(), "{bytes}");
    deployment.stop().await;
}

fn deployment_queue() -> usize {
    gateway::socket::Config::default().queue_bytes
}

async fn a_page_ends_at_its_limit_of_entries_or_of_bytes(over: SubProtocol) {
    let deployment = Deployment::start(over).await;
    let (mut short, mut fat) = (Chat::new(1), Chat::new(2));
    deployment.append(&long(&mut short, 300, 40)).await;
    deployment.append(&long(&mut fat, 10, 16 << 10)).await;
    let mut client = deployment.client(1).await;
    let (most, most_fat) = match over {
        SubProtocol::Proto => (HISTORY_ENTRIES_MAX, 2),
        // 18 KiB of entries, of which JSON makes more than twice as much.
        SubProtocol::Json => (179, 1),
    };
    let cases = [(3, 3), (0, most), (100_000, most)];
    for (limit, expected) in cases {
        client.ask(read(&short, 0, limit, 0)).await;
        let history = answered(&mut client).await.1.unwrap();
        assert_eq!((history.entries.len(), history.through), (expected as usize, u64::from(expected)), "{limit}");
    }
    client.ask(read(&fat, 1, 0, 0)).await;
    let history = answered(&mut client).await.1.unwrap();
    assert_eq!((history.entries.len(), history.through), (most_fat, 1 + most_fat as u64));
    deployment.stop().await;
}

async fn who_was_let_in_by_an_entry_that_is_not_stored_yet_waits_for_it(over: SubProtocol) {
    let deployment = Deployment::start_with(over, |config, _| config.history_wait_ms = 20_000).await;
    let (mut group, mut fresh) = (Chat::new(1), Chat::new(2));
    deployment.append(&long(&mut group, 1, 8)).await;
    let mut client = deployment.client(3).await;
    // As pushes told it: of one chat it became a member with seq 3, another was made with it.
    let added = client.ask(read(&group, 2, 0, 3)).await;
    let created = client.ask(read(&fresh, 0, 0, 1)).await;
    let send = client.ask(message(chat(9), 1, "by now the first one waits")).await;
    assert_eq!(client.reply(send).await, None);
    deployment
        .append(&[group.entry(Event::MemberAdded { member: Member { user: user(3), role: Role::Member } })])
        .await;
    let (replied, history) = answered(&mut client).await;
    assert_eq!((replied, history.unwrap().through), (added, 3));
    deployment.append(&[fresh.created(&[3])]).await;
    let (replied, history) = answered(&mut client).await;
    assert_eq!((replied, history.unwrap().through), (created, 1));
    deployment.stop().await;
}

async fn one_who_left_learns_nothing_of_what_follows_until_let_in_again(over: SubProtocol) {
    let deployment = Deployment::start(over).await;
    let mut chat_of = Chat::new(1);
    deployment.append(&long(&mut chat_of, 1, 8)).await;
    deployment.append(&[chat_of.entry(Event::MemberRemoved { user: user(2) }), chat_of.message()]).await;
    let mut client = deployment.client(2).await;
    for (after, expected) in [(0, Ok(3)), (3, Ok(3)), (4, Err(ErrorCode::OutOfRange))] {
        client.ask(read(&chat_of, after, 0, 0)).await;
        assert_eq!(answered(&mut client).await.1.map(|history| history.through), expected, "after {after}");
    }
    let member = Member { user: user(2), role: Role::Member };
    deployment.append(&[chat_of.entry(Event::MemberAdded { member }), chat_of.message()]).await;
    client.ask(read(&chat_of, 3, 0, 5)).await;
    let history = answered(&mut client).await.1.unwrap();
    let seqs: Vec<_> = history.entries.iter().map(|entry| entry.seq).collect();
    assert_eq!((seqs, history.through), (vec![5, 6], 6));
    deployment.stop().await;
}
