//! Read models: projections, lists, summaries, watermarks, heads and checkpoints.

use std::collections::BTreeMap;

use domain::{ChatId, Epoch, Partition, UserId, Watermark};
use proptest::{
    collection::vec,
    prelude::*,
    test_runner::{Config, TestRunner},
};
use store::{Append, ChatSetting, Checkpoint, Head, NameRow, Projection, Reader, Receipt, Store, UserChatRow};

use crate::rows::{
    append, at, cases, new_chat, new_partition, new_user, preview, projection, rows, setting, stay, summary,
};

fn listed(user: UserId, chat: ChatId, joined_seq: u64, left_seq: Option<u64>) -> UserChatRow {
    UserChatRow { user, chat, joined_seq, left_seq }
}

fn mark(delivered: u64, seen: u64, seen_ordinal: u64) -> Watermark {
    Watermark { delivered, seen, seen_ordinal }
}

pub(crate) async fn a_projection_is_read_back_whole(store: &Store) {
    let (partition, user, other) = (new_partition(), new_user(), new_user());
    let (one, two) = (new_chat(partition), new_chat(partition));
    store
        .project(Projection {
            user_chats: vec![listed(user, one, 1, None), listed(user, two, 4, None), listed(other, one, 2, None)],
            summaries: vec![summary(one, 9), summary(two, 8)],
            watermarks: vec![(one, user, mark(7, 5, 4)), (one, other, mark(3, 0, 0))],
            ..projection(partition, 1, 30, 12)
        })
        .await
        .unwrap();
    let listed_now = store.chats_of(user, None, None, 10).await.unwrap();
    assert_eq!(listed_now, [listed(user, one, 1, None), listed(user, two, 4, None)]);
    let unknown = new_chat(partition);
    let summaries = store.summaries(&[two, unknown, one]).await.unwrap();
    assert_eq!(summaries, [Some(summary(two, 8)), None, Some(summary(one, 9))]);
    let marks = store.watermarks(one, &[other, new_user(), user]).await.unwrap();
    assert_eq!(marks, [mark(3, 0, 0), Watermark::default(), mark(7, 5, 4)]);
    let reached = store.checkpoint(Reader::Projections, Partition(partition)).await.unwrap();
    assert_eq!(reached, Some(Checkpoint { epoch: Epoch(1), events: 30, statuses: 12 }));
}

pub(crate) async fn heads_join_list_summary_and_watermark(store: &Store) {
    let (partition, user, other) = (new_partition(), new_user(), new_user());
    let (chat, foreign) = (new_chat(partition), new_chat((partition + 1) % 4_096));
    store
        .project(Projection {
            user_chats: vec![
                listed(user, chat, 2, None),
                listed(other, new_chat(partition), 1, None),
                listed(user, foreign, 1, None),
            ],
            summaries: vec![summary(chat, 9), summary(foreign, 3)],
            watermarks: vec![(chat, user, mark(7, 5, 4)), (chat, other, mark(9, 9, 8))],
            ..projection(partition, 1, 1, 1)
        })
        .await
        .unwrap();
    let heads = store.heads(user, Partition(partition), None, 10).await.unwrap();
    assert_eq!(
        heads,
        [Head { chat, head: 9, ordinal: 8, first_seq: 1, joined_seq: 2, left_seq: None, watermark: mark(7, 5, 4) }]
    );
}

pub(crate) async fn a_left_chat_has_the_leaving_as_its_head(store: &Store) {
    let (partition, user) = (new_partition(), new_user());
    let chat = new_chat(partition);
    store.append(append(chat, at(1, 1), rows(chat, user, 1..=9))).await.unwrap();
    let left = Projection {
        user_chats: vec![listed(user, chat, 1, Some(6))],
        summaries: vec![summary(chat, 9)],
        ..projection(partition, 1, 2, 1)
    };
    store.project(left).await.unwrap();
    let heads = store.heads(user, Partition(partition), None, 10).await.unwrap();
    // Messages up to the leaving only, of the nine entries' eight.
    assert_eq!((heads[0].head, heads[0].ordinal, heads[0].left_seq), (6, 5, Some(6)));
    // A late write from when the user was still in, then a return.
    let late = Projection { user_chats: vec![listed(user, chat, 1, None)], ..projection(partition, 1, 1, 1) };
    store.project(late).await.unwrap();
    assert_eq!(store.heads(user, Partition(partition), None, 10).await.unwrap(), heads);
    let back = Projection { user_chats: vec![listed(user, chat, 8, None)], ..projection(partition, 1, 3, 1) };
    store.project(back).await.unwrap();
    let heads = store.heads(user, Partition(partition), None, 10).await.unwrap();
    assert_eq!((heads[0].head, heads[0].joined_seq, heads[0].left_seq), (9, 8, None));
}

pub(crate) async fn a_chat_without_summary_is_not_left_out(store: &Store) {
    let (partition, user) = (new_partition(), new_user());
    let chat = new_chat(partition);
    let bare = Projection { user_chats: vec![listed(user, chat, 5, None)], ..projection(partition, 1, 1, 1) };
    store.project(bare).await.unwrap();
    let heads = store.heads(user, Partition(partition), None, 10).await.unwrap();
    assert_eq!((heads.len(), heads[0].chat, heads[0].head), (1, chat, 5));
}

pub(crate) async fn a_name_is_the_latest_and_unknown_to_who_left_before_it(store: &Store) {
    let partition = new_partition();
    let (reader, early, late) = (new_user(), new_user(), new_user());
    let (chat, other) = (new_chat(partition), new_chat(partition));
    assert_eq!(store.chat_name(chat).await.unwrap(), None);
    let named = |seq, name: &str| Projection {
        names: vec![NameRow { chat, seq, name: name.into() }],
        ..projection(partition, 1, seq, 1)
    };
    let lists = Projection {
        user_chats: vec![
            listed(reader, chat, 1, None),
            listed(reader, other, 1, None),
            listed(early, chat, 1, Some(4)),
            listed(late, chat, 1, Some(6)),
        ],
        ..named(5, "the café")
    };
    store.project(lists).await.unwrap();
    let shown = async |user: UserId| store.chat_lines(user, None, 10).await.unwrap().remove(0).name;
    assert_eq!(shown(reader).await.as_deref(), Some("the café"));
    assert_eq!(shown(late).await.as_deref(), Some("the café"));
    assert_eq!(shown(early).await, None, "named after it had gone");
    // What comes late says what was.
    store.project(named(3, "before")).await.unwrap();
    assert_eq!(store.chat_name(chat).await.unwrap(), Some(NameRow { chat, seq: 5, name: "the café".into() }));
    store.project(named(9, "")).await.unwrap();
    assert_eq!((shown(reader).await, shown(late).await), (None, None));
    assert_eq!(store.chat_name(chat).await.unwrap(), Some(NameRow { chat, seq: 9, name: "".into() }));
    assert_eq!(store.chat_lines(reader, None, 10).await.unwrap().remove(1).name, None);
}

pub(crate) async fn a_list_shows_of_a_chat_what_the_stay_shows(store: &Store) {
    let partition = new_partition();
    let (reader, early, late, back) = (new_user(), new_user(), new_user(), new_user());
    let chat = new_chat(partition);
    store.append(append(chat, at(1, 1), rows(chat, reader, 1..=9))).await.unwrap();
    store
        .project(Projection {
            user_chats: vec![
                listed(reader, chat, 1, None),
                listed(early, chat, 1, Some(6)),
                listed(late, chat, 9, None),
                listed(back, chat, 1, Some(8)),
            ],
            // The last message is that of seq 8: what follows is none.
            summaries: vec![store::SummaryRow { preview: Some(preview(8)), ..summary(chat, 9) }],
            ..projection(partition, 1, 2, 1)
        })
        .await
        .unwrap();
    assert!(store.put_chat_setting(setting(early, chat), 0).await.unwrap());
    let line = async |user| store.chat_lines(user, None, 10).await.unwrap().remove(0);
    let shown = line(reader).await;
    let summary = shown.summary.unwrap();
    assert_eq!((summary.head, summary.activity, summary.preview), (9, 1_009, Some(preview(8))));
    assert_eq!((shown.head.head, shown.setting), (9, None));
    // Who left learns nothing of what came later, not even when.
    let shown = line(early).await;
    let summary = shown.summary.unwrap();
    let leaving = store.history(chat, 5, 1, 1 << 10).await.unwrap().rows[0].entry.time;
    assert_eq!((summary.head, summary.activity, summary.preview), (6, leaving, None));
    assert_eq!(shown.setting, Some(ChatSetting { version: 1, ..setting(early, chat) }));
    assert_eq!(line(back).await.summary.unwrap().preview, Some(preview(8)), "left with it");
    assert_eq!(line(late).await.summary.unwrap().preview, None, "said before the joining");
}

pub(crate) async fn a_page_of_the_list_crosses_partitions(store: &Store) {
    let (user, other) = (new_user(), new_user());
    let mut chats = Vec::new();
    for _ in 0..5 {
        let partition = new_partition();
        let chat = new_chat(partition);
        chats.push(chat);
        store
            .project(Projection {
                user_chats: vec![listed(user, chat, 1, None), listed(other, new_chat(partition), 1, None)],
                watermarks: vec![(chat, user, mark(7, 5, 4))],
                ..projection(partition, 1, 1, 1)
            })
            .await
            .unwrap();
    }
    chats.sort_by_key(|chat| (chat.partition(), *chat));
    let page = async |after, limit| -> Vec<ChatId> {
        let lines = store.chat_lines(user, after, limit).await.unwrap();
        assert!(lines.iter().all(|line| line.summary.is_none() && line.head.watermark == mark(7, 5, 4)));
        lines.into_iter().map(|line| line.head.chat).collect()
    };
    assert_eq!(page(None, 3).await, chats[..3]);
    assert_eq!(page(Some(chats[2]), 3).await, chats[3..]);
    assert_eq!(page(None, usize::MAX).await, chats);
    assert!(page(Some(chats[4]), 3).await.is_empty());
}

pub(crate) async fn receipts_are_of_those_who_were_there_and_still_are(store: &Store) {
    let partition = new_partition();
    let (chat, other) = (new_chat(partition), new_chat(partition));
    let mut users: Vec<_> = (0..30).map(|_| new_user()).collect();
    users.sort_unstable();
    let gone = [new_user(), new_user(), new_user()];
    let mut members: Vec<_> = users.iter().map(|user| stay(chat, *user, 1, None)).collect();
    // Put out; came later; put out and back later.
    members.extend([stay(chat, gone[0], 1, Some(7)), stay(chat, gone[1], 6, None)]);
    members.extend([stay(chat, gone[2], 1, Some(3)), stay(chat, gone[2], 8, None)]);
    let of_chat = append(chat, at(1, 1), rows(chat, users[0], 1..=9));
    let chats = of_chat.chats.into_iter().map(|rows| store::ChatAppend { members: members.clone(), ..rows }).collect();
    store.append(Append { chats, ..of_chat }).await.unwrap();
    let elsewhere = append(other, at(1, 2), rows(other, users[0], 1..=1));
    store.append(elsewhere).await.unwrap();
    let watermarks = vec![(chat, users[3], mark(5, 4, 3)), (other, users[4], mark(1, 1, 0))];
    store.project(Projection { watermarks, ..projection(partition, 1, 1, 1) }).await.unwrap();
    let mut walked: Vec<Receipt> = Vec::new();
    loop {
        let page = store.receipts(chat, 5, walked.last().map(|last| last.user), 7).await.unwrap();
        let is_full = page.len() == 7;
        walked.extend(page);
        if !is_full {
            break;
        }
    }
    assert_eq!(walked.iter().map(|receipt| receipt.user).collect::<Vec<_>>(), users);
    assert_eq!((walked[3].watermark, walked[4].watermark), (mark(5, 4, 3), Watermark::default()));
    assert_eq!(store.receipts(chat, 9, None, usize::MAX).await.unwrap().len(), 32);
    assert!(store.receipts(new_chat(partition), 1, None, 9).await.unwrap().is_empty());
}

pub(crate) async fn pages_of_chats_cover_all_once(store: &Store) {
    let user = new_user();
    let partitions = [new_partition(), new_partition(), new_partition()];
    let mut chats: Vec<_> = (0..50).flat_map(|_| partitions.map(new_chat)).collect();
    for partition in partitions {
        let of_partition = chats.iter().filter(|chat| chat.partition() == Partition(partition));
        let user_chats = of_partition.map(|chat| listed(user, *chat, 1, None)).collect();
        store.project(Projection { user_chats, ..projection(partition, 1, 1, 1) }).await.unwrap();
    }
    chats.sort_by_key(|chat| (chat.partition(), *chat));
    let mut walked = Vec::new();
    loop {
        let page = store.chats_of(user, None, walked.last().copied(), 7).await.unwrap();
        let full = page.len() == 7;
        walked.extend(page.into_iter().map(|row| row.chat));
        if !full {
            break;
        }
    }
    assert_eq!(walked, chats);
    // One partition, with an `after` of a lower, of this and of a higher one.
    let middle = Partition(partitions[1]);
    let within: Vec<_> = chats.iter().copied().filter(|chat| chat.partition() == middle).collect();
    let of_middle = async |after| -> Vec<ChatId> {
        let page = store.heads(user, middle, after, 1_000).await.unwrap();
        page.into_iter().map(|head| head.chat).collect()
    };
    assert_eq!(of_middle(None).await, within);
    assert_eq!(of_middle(Some(chats[0])).await, within);
    assert_eq!(of_middle(Some(within[9])).await, within[10..]);
    assert!(of_middle(chats.last().copied()).await.is_empty());
}

pub(crate) async fn pages_of_all_summaries_cover_each_once(store: &Store) {
    let partitions = [new_partition(), new_partition()];
    let chats: Vec<_> = (0..20).flat_map(|_| partitions.map(new_chat)).collect();
    for partition in partitions {
        let of_partition = chats.iter().filter(|chat| chat.partition() == Partition(partition));
        let summaries = of_partition.map(|chat| summary(*chat, 9)).collect();
        store.project(Projection { summaries, ..projection(partition, 1, 1, 1) }).await.unwrap();
    }
    let mut walked = Vec::new();
    loop {
        let page = store.all_summaries(walked.last().copied(), 7).await.unwrap();
        let full = page.len() == 7;
        let first = page.first().map(|row| row.chat);
        assert!(first.is_none_or(|first| !walked.contains(&first)), "a page begins where another did");
        walked.extend(page.into_iter().map(|row| row.chat));
        if !full {
            break;
        }
    }
    // Others may write chats of their own meanwhile.
    for chat in chats {
        assert_eq!(walked.iter().filter(|walked| **walked == chat).count(), 1, "{chat}");
    }
}

pub(crate) async fn checkpoints_only_move_forward(store: &Store) {
    let partition = Partition(new_partition());
    let reach = |epoch, events, statuses| Checkpoint { epoch: Epoch(epoch), events, statuses };
    let steps = [
        (reach(2, 5, 3), reach(2, 5, 3)),
        (reach(2, 4, 3), reach(2, 5, 3)),
        // Each part for itself: what both stand for is stored.
        (reach(2, 4, 9), reach(2, 5, 9)),
        (reach(1, 90, 90), reach(2, 5, 9)),
        (reach(3, 1, 0), reach(3, 1, 0)),
    ];
    for (saved, expected) in steps {
        store.save_checkpoint(Reader::Delivery, partition, saved).await.unwrap();
        assert_eq!(store.checkpoint(Reader::Delivery, partition).await.unwrap(), Some(expected));
    }
}

pub(crate) async fn readers_keep_their_own_checkpoints(store: &Store) {
    let partition = new_partition();
    let reach = |events| Checkpoint { epoch: Epoch(1), events, statuses: 0 };
    for (reader, events) in [(Reader::Projections, 3), (Reader::Delivery, 4), (Reader::Push, 5)] {
        store.save_checkpoint(reader, Partition(partition), reach(events)).await.unwrap();
    }
    for (reader, events) in [(Reader::Projections, 3), (Reader::Delivery, 4), (Reader::Push, 5)] {
        assert_eq!(store.checkpoint(reader, Partition(partition)).await.unwrap(), Some(reach(events)));
    }
    assert_eq!(store.checkpoint(Reader::Push, Partition(new_partition())).await.unwrap(), None);
}

/// One step of a random projection, with chats and users by number.
#[derive(Clone, Debug)]
enum Row {
    List { user: usize, chat: usize, joined_seq: u64, left_seq: Option<u64> },
    Summary { chat: usize, head: u64 },
    Mark { chat: usize, user: usize, watermark: Watermark },
    Reach { events: u64, statuses: u64 },
}

fn row() -> impl Strategy<Value = Row> {
    prop_oneof![
        (0..2_usize, 0..2_usize, 1..5_u64, prop::option::of(5..9_u64))
            .prop_map(|(user, chat, joined_seq, left_seq)| Row::List { user, chat, joined_seq, left_seq }),
        (0..2_usize, 1..9_u64).prop_map(|(chat, head)| Row::Summary { chat, head }),
        (0..2_usize, 0..2_usize, 0..9_u64, 0..9_u64, 0..9_u64).prop_map(|(chat, user, delivered, seen, ordinal)| {
            Row::Mark { chat, user, watermark: mark(delivered, seen, ordinal) }
        }),
        (0..9_u64, 0..9_u64).prop_map(|(events, statuses)| Row::Reach { events, statuses }),
    ]
}

/// All that the models say of two chats and two users, with their own ids taken out.
async fn project_and_read(store: &Store, groups: &[Vec<Row>]) -> Vec<String> {
    let partition = new_partition();
    let (chats, users) = ([new_chat(partition), new_chat(partition)], [new_user(), new_user()]);
    for group in groups {
        let mut write = projection(partition, 1, 0, 0);
        for row in group {
            match *row {
                Row::List { user, chat, joined_seq, left_seq } => {
                    write.user_chats.push(listed(users[user], chats[chat], joined_seq, left_seq));
                }
                Row::Summary { chat, head } => write.summaries.push(summary(chats[chat], head)),
                Row::Mark { chat, user, watermark } => write.watermarks.push((chats[chat], users[user], watermark)),
                Row::Reach { events, statuses } => {
                    let reached = &mut write.checkpoint;
                    reached.events = reached.events.max(events);
                    reached.statuses = reached.statuses.max(statuses);
                }
            }
        }
        store.project(write).await.unwrap();
    }
    let mut read = Vec::new();
    for user in users {
        for row in store.chats_of(user, None, None, 10).await.unwrap() {
            let number = chats.iter().position(|chat| *chat == row.chat);
            read.push(format!("{number:?} {} {:?}", row.joined_seq, row.left_seq));
        }
        read.push("list ends".to_owned());
    }
    for row in store.summaries(&chats).await.unwrap() {
        read.push(format!("{:?}", row.map(|row| (row.head, row.ordinal, row.preview))));
    }
    for chat in chats {
        read.push(format!("{:?}", store.watermarks(chat, &users).await.unwrap()));
    }
    read.push(format!("{:?}", store.checkpoint(Reader::Projections, Partition(partition)).await.unwrap()));
    read
}

pub(crate) async fn projections_in_any_order_and_grouping_give_the_same_rows(store: &Store) {
    // Rows, where each goes in a second order, and after how many of them a write ends.
    let steps = vec((row(), any::<u32>(), any::<bool>(), any::<bool>()), 1..12);
    let mut runner = TestRunner::new(Config { cases: cases(store), failure_persistence: None, ..Config::default() });
    let handle = tokio::runtime::Handle::current();
    tokio::task::block_in_place(|| {
        runner
            .run(&steps, |rows| {
                let grouped = |rows: &[(Row, bool)]| {
                    rows.iter().fold(vec![Vec::new()], |mut groups: Vec<Vec<Row>>, (row, ends)| {
                        groups.last_mut().expect("there is always one").push(row.clone());
                        if *ends {
                            groups.push(Vec::new());
                        }
                        groups
                    })
                };
                let first: Vec<_> = rows.iter().map(|(row, _, ends, _)| (row.clone(), *ends)).collect();
                let mut order: BTreeMap<(u32, usize), _> = BTreeMap::new();
                for (number, (row, place, _, ends)) in rows.iter().enumerate() {
                    order.insert((*place, number), (row.clone(), *ends));
                }
                let mut second: Vec<_> = order.into_values().collect();
                // And the first of them once more at the end: a repetition.
                second.push(first[0].clone());
                let (one, other) = handle.block_on(async {
                    let one = project_and_read(store, &grouped(&first)).await;
                    (one, project_and_read(store, &grouped(&second)).await)
                });
                prop_assert_eq!(one, other);
                Ok(())
            })
            .unwrap();
    });
}
