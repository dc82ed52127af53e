//! Models that are compared with the chats' logs, and written anew from them.

use domain::{
    CommandPosition, Edit, Event, EventPosition, LoggedEntry, PartitionPosition, Policy, PolicyChange, WriterId,
};
use event_log::Stream;
use projections::rebuild;
use projections::verify::{Verdict, verify};
use store::{Append, ChatAppend, Fact, FactRow, NameRow, Projection, ReactionRow, Reader, Store, UserChatRow};
use testkit::wait::until;

use crate::setup::{Chat, Deployment, P0, SOON, Writer, rows, until_folded, user};

/// Publishes entries of one chat and appends their rows, as ingest does.
async fn write(writer: &mut Writer, store: &Store, chat: &Chat, entries: &[LoggedEntry]) {
    writer.write(entries).await;
    let events = EventPosition { sequence: writer.last, writer: WriterId(1), batch: writer.last };
    let position = PartitionPosition { epoch: writer.tenure.epoch(), commands: CommandPosition::default(), events };
    let rows = entries.to_vec();
    let part = ChatAppend { chat: chat.id, members: Vec::new(), roles: Vec::new(), rows, snapshot: None };
    store.append(Append { partition: P0, position, chats: vec![part] }).await.unwrap();
}

/// Something of every kind: what a chat goes through, `turn` after `turn`.
fn lives(chat: &mut Chat, turn: u64) -> Vec<LoggedEntry> {
    let said = chat.seq + 1;
    let change = PolicyChange { slow_mode_s: Some(u32::try_from(turn).unwrap()), ..PolicyChange::default() };
    let edited = |previous| Event::MessageEdited(Edit { seq: said, body: "edited".into(), previous, erased: false });
    let reacted = |seq, reaction: &str| Event::MessageReacted { seq, reaction: reaction.into() };
    vec![
        chat.message(1, "one"),
        chat.message(2, "two"),
        chat.entry(2, reacted(said, "+")),
        chat.entry(1, reacted(said + 1, "+")),
        chat.entry(1, edited(0)),
        chat.entry(1, Event::ChatRenamed { name: format!("turn {turn}").into() }),
        chat.entry(1, Event::ChatPolicySet { policy: Policy::default().with(change), change }),
        chat.entry(1, Event::MessagePinned { seq: said, unpinned: false, pins: vec![said] }),
        chat.entry(1, Event::MessageDeleted { seq: said + 1 }),
        chat.entry(2, reacted(said, if turn.is_multiple_of(2) { "" } else { "-" })),
        chat.entry(1, Event::MemberRemoved { user: user(3) }),
        chat.entry(1, Event::MemberAdded { member: domain::Member { user: user(3), role: domain::Role::Reader } }),
    ]
}

async fn rebuilt(store: &Store, chats: &[Chat]) {
    let began = rebuild::begin(store, P0).await.unwrap().expect("something is appended");
    for chat in chats {
        rebuild::chat(store, began, chat.id).await.unwrap();
    }
    rebuild::end(store, P0, began).await.unwrap();
}

#[tokio::test]
async fn a_halted_partition_goes_on_once_its_models_are_rebuilt() {
    let deployment = Deployment::start().await;
    deployment.watch.allow("projections halted").allow("needs_rebuild=true");
    let store = deployment.store("store").await;
    let mut writer = deployment.writer(P0).await;
    let mut chat = Chat::new(P0, 1);
    let created = chat.created([1, 2, 3]);
    write(&mut writer, &store, &chat, &[created]).await;
    for turn in 1..4 {
        let entries = lives(&mut chat, turn);
        write(&mut writer, &store, &chat, &entries).await;
    }
    until(SOON, "a trimmed stream", async || writer.tenure.trim(Stream::Events, 4).await.unwrap() == 4).await;
    let projections = deployment.project(&store);
    until(SOON, "a loud halt", async || {
        deployment.watch.lines().iter().any(|line| line.contains("needs_rebuild=true"))
    })
    .await;
    assert!(matches!(verify(&store, chat.id, None).await.unwrap(), Verdict::Differs(_)), "nothing is folded");
    rebuilt(&store, std::slice::from_ref(&chat)).await;
    assert_eq!(verify(&store, chat.id, None).await.unwrap(), Verdict::Equal);
    let entries = lives(&mut chat, 4);
    write(&mut writer, &store, &chat, &entries).await;
    until_folded(&store, P0, writer.last, 0).await;
    assert_eq!(verify(&store, chat.id, None).await.unwrap(), Verdict::Equal);
    projections.stop().await;
}

#[tokio::test]
async fn rebuilt_while_all_goes_on_models_are_those_that_were_never_rebuilt() {
    let deployment = Deployment::start().await;
    let (store, whole) = (deployment.store("store").await, deployment.store("whole").await);
    let projections = deployment.project(&store);
    let mut writer = deployment.writer(P0).await;
    let mut chats = [Chat::new(P0, 1), Chat::new(P0, 2)];
    for chat in &mut chats {
        let created = chat.created([1, 2, 3]);
        write(&mut writer, &store, chat, &[created]).await;
    }
    for turn in 1..12 {
        for chat in &mut chats {
            let entries = lives(chat, turn);
            // Cut anywhere, so that a rebuild comes between any two.
            for part in entries.chunks(1 + usize::try_from(turn).unwrap() % 5) {
                write(&mut writer, &store, chat, part).await;
            }
        }
        rebuilt(&store, &chats).await;
    }
    until_folded(&store, P0, writer.last, 0).await;
    for chat in &chats {
        assert_eq!(verify(&store, chat.id, None).await.unwrap(), Verdict::Equal);
    }
    projections.stop().await;
    let projections = deployment.project(&whole);
    until_folded(&whole, P0, writer.last, 0).await;
    projections.stop().await;
    let ids = chats.each_ref().map(|chat| chat.id);
    assert_eq!(rows(&store, P0, 3, &ids).await, rows(&whole, P0, 3, &ids).await);
    for chat in ids {
        assert_eq!(store.chat_facts(chat).await.unwrap(), whole.chat_facts(chat).await.unwrap());
        let thought = async |store: &Store| store.reactions(chat, 0, 1_000, 1_000).await.unwrap();
        assert_eq!(thought(&store).await, thought(&whole).await);
    }
}

#[tokio::test]
async fn each_wrong_row_is_named_by_its_model() {
    let deployment = Deployment::start().await;
    let store = deployment.store("store").await;
    let projections = deployment.project(&store);
    let mut writer = deployment.writer(P0).await;
    let mut chat = Chat::new(P0, 1);
    let created = chat.created([1, 2, 3]);
    write(&mut writer, &store, &chat, &[created]).await;
    let entries = lives(&mut chat, 1);
    write(&mut writer, &store, &chat, &entries).await;
    let checkpoint = until_folded(&store, P0, writer.last, 0).await;
    projections.stop().await;
    assert_eq!(verify(&store, chat.id, None).await.unwrap(), Verdict::Equal, "the control");
    let (id, head) = (chat.id, chat.seq);
    let bare = || Projection::bare(Reader::Projections, P0, checkpoint);
    let summary = store.summaries(&[id]).await.unwrap().remove(0).unwrap();
    // The last first: each check ends with the first that it finds.
    for (model, wrong) in [
        (
            "chats_by_user",
            Projection {
                user_chats: vec![UserChatRow { user: user(2), chat: id, joined_seq: head, left_seq: None }],
                ..bare()
            },
        ),
        (
            "reactions",
            Projection {
                reactions: vec![ReactionRow { chat: id, seq: 2, user: user(3), reaction: "!".into(), by: head }],
                ..bare()
            },
        ),
        (
            "chat_facts",
            Projection { facts: vec![FactRow { chat: id, seq: head + 1, fact: Fact::Pins(vec![9]) }], ..bare() },
        ),
        ("chat_names", Projection { names: vec![NameRow { chat: id, seq: head + 1, name: "x".into() }], ..bare() }),
        (
            "chat_summaries",
            Projection { summaries: vec![store::SummaryRow { ordinal: summary.ordinal + 1, ..summary }], ..bare() },
        ),
    ] {
        store.project(wrong).await.unwrap();
        for only in [None, Some(model)] {
            match verify(&store, id, only).await.unwrap() {
                Verdict::Differs(difference) => assert_eq!(difference.model, model, "{difference:?}"),
                other @ (Verdict::Equal | Verdict::Changing) => panic!("{model}: {other:?}"),
            }
        }
    }
    assert_eq!(verify(&store, id, Some("watermarks")).await.unwrap(), Verdict::Equal, "what is not asked for");
}
