//! What the models say while events and statuses come in.

use domain::{ChatKind, Event, Member, Role, Watermark};
use event_log::{Received, Subject};
use prost::Message as _;
use proto::relay::Written;

use crate::setup::{Chat, Deployment, P0, SOON, until_folded, user};

fn mark(delivered: u64, seen: u64, seen_ordinal: u64) -> Watermark {
    Watermark { delivered, seen, seen_ordinal }
}

#[tokio::test]
async fn the_list_shows_heads_previews_and_what_is_unread() {
    let deployment = Deployment::start().await;
    let store = deployment.store("store").await;
    let projections = deployment.project(&store);
    let mut writer = deployment.writer(P0).await;
    let mut chat = Chat::new(P0, 1);
    writer.write(&[chat.created([1, 2])]).await;
    writer.write(&[chat.message(1, "one"), chat.message(1, "two"), chat.message(1, "three")]).await;
    let statuses = writer.status(chat.id, 2, mark(4, 3, 2)).await;
    until_folded(&store, P0, 2, statuses).await;

    let summary = store.summaries(&[chat.id]).await.unwrap().remove(0).unwrap();
    assert_eq!((summary.head, summary.ordinal, summary.first_seq, summary.kind), (4, 3, 1, ChatKind::Group));
    let last = summary.preview.unwrap();
    assert_eq!((last.seq, last.sender, &last.body[..]), (4, user(1), &b"three"[..]));
    let reader = store.heads(user(2), P0, None, 10).await.unwrap().remove(0);
    assert_eq!(reader.ordinal - reader.watermark.seen_ordinal, 1, "one message is unread");
    assert_eq!(reader.watermark, mark(4, 3, 2));
    let sender = store.heads(user(1), P0, None, 10).await.unwrap().remove(0);
    assert_eq!(sender.ordinal - sender.watermark.seen_ordinal, 0, "own sends are never unread");

    let joined = chat.entry(1, Event::MemberAdded { member: Member { user: user(3), role: Role::Member } });
    writer.write(&[joined, chat.entry(2, Event::MemberLeft), chat.message(1, "four")]).await;
    until_folded(&store, P0, 3, 0).await;
    let newcomer = store.heads(user(3), P0, None, 10).await.unwrap().remove(0);
    assert_eq!(newcomer.ordinal - newcomer.watermark.seen_ordinal, 1, "old history is never unread");
    let left = store.heads(user(2), P0, None, 10).await.unwrap().remove(0);
    assert_eq!((left.head, left.left_seq), (6, Some(6)), "a left chat stays, and ends at the leaving");
    projections.stop().await;
}

#[tokio::test]
async fn written_is_said_once_the_rows_stand() {
    let deployment = Deployment::start().await;
    let store = deployment.store("store").await;
    let mut written = deployment.log.subscribe(Subject::Written(P0)).await.unwrap();
    let projections = deployment.project(&store);
    let mut writer = deployment.writer(P0).await;
    let mut chat = Chat::new(P0, 1);
    writer.write(&[chat.created([1, 2])]).await;
    let sequence = writer.status(chat.id, 2, mark(1, 1, 0)).await;
    // Said after the write, and again and again: a lost one is made good.
    for _ in 0..2 {
        loop {
            let next = tokio::time::timeout(SOON, written.next()).await.expect("said in time");
            let Some(Received::Message(message)) = next else { panic!("no message") };
            let said = Written::decode(message.payload).unwrap();
            assert_eq!(said.epoch, writer.tenure.epoch().0);
            if said.statuses == sequence {
                break;
            }
        }
        assert_eq!(store.watermarks(chat.id, &[user(2)]).await.unwrap(), [mark(1, 1, 0)]);
    }
    projections.stop().await;
}
