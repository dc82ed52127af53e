//! History: what the reader's stays show, whole through where it says so.

use domain::{ChatId, Entry, Event, Member, Role, Seq};
use gateway::socket::SubProtocol;
use proto::v1::client_frame::Frame as Ask;
use proto::v1::server_frame::Frame;
use proto::v1::{ErrorCode, History, ReadHistory};

use super::client::Client;
use super::setup::{Chat, Deployment, chat, user};

over_each_sub_protocol! {
    history_shows_each_reader_the_own_stay_and_is_whole_through_the_head,
    history_out_of_bounds_of_no_member_and_of_no_chat_is_refused,
    a_history_that_waits_is_answered_when_the_entry_is_stored,
}

async fn read(client: &mut Client, chat: ChatId, after: Seq, at_least: Seq) -> Result<History, ErrorCode> {
    let id = client.ask(Ask::ReadHistory(ReadHistory { chat: chat.to_wire(), after, limit: 0, at_least })).await;
    client
        .until(|replied, frame| match frame {
            Frame::History(history) if replied == id => Some(Ok(history)),
            Frame::Error(error) if replied == id => Some(Err(error.code())),
            _ => None,
        })
        .await
}

fn seqs(history: &History) -> Vec<Seq> {
    history.entries.iter().map(|entry| entry.seq).collect()
}

/// 1 created by 1 with 2; 2 message; 3 adds 3; 4 message; 5 removes 2; 6 message.
async fn written(deployment: &Deployment) -> Chat {
    let mut chat = Chat::new(1);
    let member = Member { user: user(3), role: Role::Member };
    let entries = [
        chat.created(&[1, 2]),
        chat.message(),
        chat.entry(Event::MemberAdded { member }),
        chat.message(),
        chat.entry(Event::MemberRemoved { user: user(2) }),
        chat.message(),
    ];
    deployment.append(&entries).await;
    chat
}

async fn history_shows_each_reader_the_own_stay_and_is_whole_through_the_head(over: SubProtocol) {
    let deployment = Deployment::start(over).await;
    let chat = written(&deployment).await;
    let shown = [(1, vec![1, 2, 3, 4, 5, 6], 6), (2, vec![1, 2, 3, 4, 5], 5), (3, vec![3, 4, 5, 6], 6)];
    for (n, shown, through) in shown {
        let mut client = deployment.client(n).await;
        let history = read(&mut client, chat.id, 0, 0).await.unwrap();
        assert_eq!((seqs(&history), history.through, history.first_seq), (shown, through, 1), "user {n}");
        assert_eq!((history.epoch, &history.chat), (deployment.epoch.0, &chat.id.to_wire()));
    }
    let mut client = deployment.client(1).await;
    assert_eq!(seqs(&read(&mut client, chat.id, 4, 0).await.unwrap()), [5, 6]);
    assert!(read(&mut client, chat.id, 6, 0).await.unwrap().entries.is_empty());
    deployment.stop().await;
}

async fn history_out_of_bounds_of_no_member_and_of_no_chat_is_refused(over: SubProtocol) {
    let deployment = Deployment::start_with(over, |config, _| config.history_wait_ms = 50).await;
    let chat_of = written(&deployment).await.id;
    let (mut member, mut stranger) = (deployment.client(1).await, deployment.client(9).await);
    assert_eq!(read(&mut member, chat_of, 7, 0).await, Err(ErrorCode::OutOfRange));
    assert_eq!(read(&mut member, chat_of, u64::MAX, 0).await, Err(ErrorCode::OutOfRange));
    assert_eq!(read(&mut member, chat_of, 0, 7).await, Err(ErrorCode::NotYet));
    assert_eq!(read(&mut stranger, chat_of, 0, 0).await, Err(ErrorCode::NotAMember));
    assert_eq!(read(&mut member, chat(2), 0, 0).await, Err(ErrorCode::UnknownChat));
    let elsewhere = ChatId::draw(domain::Partition(77), 1_000, 4);
    assert_eq!(read(&mut member, elsewhere, 0, 0).await, Err(ErrorCode::UnknownChat));
    // None of it did harm.
    assert_eq!(read(&mut member, chat_of, 0, 6).await.unwrap().through, 6);
    deployment.stop().await;
}

async fn a_history_that_waits_is_answered_when_the_entry_is_stored(over: SubProtocol) {
    let deployment = Deployment::start_with(over, |config, _| config.history_wait_ms = 20_000).await;
    let mut chat = written(&deployment).await;
    let mut client = deployment.client(1).await;
    let late = chat.message();
    let (history, ()) = tokio::join!(read(&mut client, chat.id, 5, 7), async {
        tokio::task::yield_now().await;
        deployment.append(std::slice::from_ref(&late)).await;
    });
    let history = history.unwrap();
    assert_eq!((seqs(&history), history.through), (vec![6, 7], 7));
    let wire = prost::Message::encode_to_vec(&history.entries[1]);
    assert_eq!(Entry::decode(&wire.into()).unwrap(), late.entry);
    deployment.stop().await;
}
