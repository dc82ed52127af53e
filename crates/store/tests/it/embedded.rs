//! What the embedded engine promises beside the suite: its folder, its commits and its bounds.

use std::fs;

use bytes::Bytes;
use domain::Partition;
use store::{Config, Error, Store, UserChatRow};
use testkit::Scratch;

use crate::rows::{
    append, at, invite, invite_use, later, message, new_chat, new_partition, new_user, projection, rows, summary,
};

/// A fresh engine for the suite; the folder lives as long as what is returned beside it.
pub(crate) async fn open() -> (Store, Scratch) {
    let scratch = Scratch::new("store").unwrap();
    let store = Store::open(quick_sync(&scratch)).await.unwrap();
    (store, scratch)
}

pub(crate) fn quick_sync(scratch: &Scratch) -> Config {
    Config { sync_interval_ms: 100, ..Config::in_folder(scratch.join("store")) }
}

#[tokio::test]
async fn a_second_opening_of_the_folder_is_refused_until_the_first_is_gone() {
    let scratch = Scratch::new("lock").unwrap();
    let store = Store::open(quick_sync(&scratch)).await.unwrap();
    let second = store.clone();
    let refused = Store::open(quick_sync(&scratch)).await;
    assert!(matches!(refused, Err(Error::Locked { .. })), "{refused:?}");
    assert!(refused.unwrap_err().to_string().contains("is already open"));
    drop(store);
    assert!(matches!(Store::open(quick_sync(&scratch)).await, Err(Error::Locked { .. })));
    drop(second);
    Store::open(quick_sync(&scratch)).await.unwrap();
}

#[tokio::test]
async fn everything_is_there_after_a_reopening_and_counts_as_synced() {
    let scratch = Scratch::new("reopen").unwrap();
    let (user, chat) = (new_user(), new_chat(new_partition()));
    let proposed = new_chat(2);
    let other = new_user();
    {
        let store = Store::open(quick_sync(&scratch)).await.unwrap();
        store.append(append(chat, at(1, 7), rows(chat, user, 1..=20))).await.unwrap();
        store.claim_direct(user, other, proposed).await.unwrap();
        store.claim_meta("cluster", Bytes::from_static(b"here")).await.unwrap();
    }
    let store = Store::open(quick_sync(&scratch)).await.unwrap();
    assert_eq!(store.history(chat, 0, 100, 1 << 20).await.unwrap().rows, rows(chat, user, 1..=20));
    assert_eq!(store.position(chat.partition()).await.unwrap(), Some(at(1, 7)));
    assert_eq!(store.synced_position(chat.partition()).await.unwrap(), Some(at(1, 7)));
    assert_eq!(store.claim_direct(other, user, new_chat(2)).await.unwrap(), proposed);
    assert_eq!(store.claim_meta("cluster", Bytes::from_static(b"there")).await.unwrap(), "here");
}

#[tokio::test]
async fn a_folder_whose_making_was_cut_short_is_made_again() {
    let scratch = Scratch::new("cut").unwrap();
    let half_made = scratch.join("store/engine.new");
    fs::create_dir_all(half_made.join("keyspaces")).unwrap();
    fs::write(half_made.join("0.jnl"), b"half").unwrap();
    let store = Store::open(quick_sync(&scratch)).await.unwrap();
    assert_eq!(store.position(Partition(0)).await.unwrap(), None);
    assert!(!half_made.exists());
}

#[tokio::test]
async fn a_folder_of_another_format_is_refused() {
    let scratch = Scratch::new("format").unwrap();
    drop(Store::open(quick_sync(&scratch)).await.unwrap());
    {
        let database = fjall::Database::builder(scratch.join("store/engine")).open().unwrap();
        let meta = database.keyspace("meta", fjall::KeyspaceCreateOptions::default).unwrap();
        meta.insert("format", [9]).unwrap();
    }
    let refused = Store::open(quick_sync(&scratch)).await;
    assert!(matches!(refused, Err(Error::Format { expected: 1, .. })), "{refused:?}");
}

#[tokio::test]
async fn one_commit_carries_the_writes_of_many_callers() {
    let scratch = Scratch::new("group").unwrap();
    let store = Store::open(quick_sync(&scratch)).await.unwrap();
    let user = new_user();
    let before = store.commits();
    let callers: Vec<_> = (0..64)
        .map(|_| {
            let (store, chat) = (store.clone(), new_chat(new_partition()));
            tokio::spawn(async move {
                for sequence in 1..=20 {
                    store.append(append(chat, at(1, sequence), rows(chat, user, [sequence]))).await.unwrap();
                }
            })
        })
        .collect();
    for caller in callers {
        caller.await.unwrap();
    }
    let commits = store.commits() - before;
    // 64 callers with one append in flight each: 20 rounds would be 20 commits, one by one 1,280.
    assert!((20..=320).contains(&commits), "{commits} commits for 1,280 appends");
}

#[tokio::test]
async fn a_write_without_change_is_no_commit() {
    let (store, _scratch) = open().await;
    let (user, chat) = (new_user(), new_chat(new_partition()));
    let write = append(chat, at(1, 1), rows(chat, user, 1..=3));
    store.append(write.clone()).await.unwrap();
    let commits = store.commits();
    for _ in 0..5 {
        store.append(write.clone()).await.unwrap();
        store.sync().await.unwrap();
    }
    assert_eq!(store.commits(), commits);
}

#[tokio::test]
async fn a_failed_write_does_not_harm_the_others_of_its_commit() {
    let (store, _scratch) = open().await;
    let user = new_user();
    let chat = new_chat(new_partition());
    store.append(append(chat, at(1, 1), rows(chat, user, 1..=2))).await.unwrap();
    let writes: Vec<_> = (0..40)
        .map(|turn| {
            let (store, own) = (store.clone(), new_chat(new_partition()));
            let write = if turn % 2 == 0 {
                append(own, at(1, 1), rows(own, user, 1..=2))
            } else {
                append(chat, at(1, 2), vec![message(chat, user, 2, b"another")])
            };
            tokio::spawn(async move { (turn, own, store.append(write).await) })
        })
        .collect();
    for write in writes {
        let (turn, own, written) = write.await.unwrap();
        if turn % 2 == 0 {
            written.unwrap();
            assert_eq!(store.history(own, 0, 9, 1 << 20).await.unwrap().through, 2);
        } else {
            assert!(matches!(written, Err(Error::Conflict { .. })));
        }
    }
    assert_eq!(store.position(chat.partition()).await.unwrap(), Some(at(1, 1)));
}

/// Lets 40 callers write at once, every eighth with a large body, and counts the commits.
async fn commits_of_forty_writes(queue_writes: usize, queue_bytes: usize) -> u64 {
    let scratch = Scratch::new("bounds").unwrap();
    let store = Store::open(Config { queue_bytes, queue_writes, ..quick_sync(&scratch) }).await.unwrap();
    let user = new_user();
    let writes: Vec<_> = (0..40)
        .map(|turn| {
            let (store, chat) = (store.clone(), new_chat(new_partition()));
            let body = vec![b'x'; if turn % 8 == 0 { 10_000 } else { 100 }];
            tokio::spawn(async move {
                store.append(append(chat, at(1, 1), vec![message(chat, user, 1, &body)])).await.unwrap();
                assert_eq!(store.history(chat, 0, 9, 1 << 20).await.unwrap().through, 1);
            })
        })
        .collect();
    for write in writes {
        write.await.unwrap();
    }
    store.commits()
}

#[tokio::test]
async fn writes_beyond_the_bounds_wait_and_all_land() {
    // What is in a commit was in the room together: two writes, or 2,000 bytes, which is some five small writes or one
    // large one that gets all of the room.
    let by_count = commits_of_forty_writes(2, 1 << 20).await;
    assert!(by_count >= 20, "{by_count} commits");
    let by_bytes = commits_of_forty_writes(1_000, 2_000).await;
    assert!(by_bytes >= 12, "{by_bytes} commits");
    let unbounded = commits_of_forty_writes(1_000, 1 << 20).await;
    assert!(unbounded < 12, "{unbounded} commits");
}

#[tokio::test]
async fn only_a_sync_moves_the_synced_position() {
    let scratch = Scratch::new("synced").unwrap();
    let config = Config { sync_interval_ms: 3_600_000, ..quick_sync(&scratch) };
    let store = Store::open(config).await.unwrap();
    let (user, chat) = (new_user(), new_chat(new_partition()));
    let synced = async || store.synced_position(chat.partition()).await.unwrap();
    store.append(append(chat, at(1, 1), rows(chat, user, 1..=1))).await.unwrap();
    assert_eq!(synced().await, None);
    store.sync().await.unwrap();
    assert_eq!(synced().await, Some(at(1, 1)));
    store.append(append(chat, at(1, 2), rows(chat, user, 2..=2))).await.unwrap();
    assert_eq!(synced().await, Some(at(1, 1)));
    // A claim is on disk before it is answered, and with it all that was committed before.
    store.claim_direct(user, new_user(), chat).await.unwrap();
    assert_eq!(synced().await, Some(at(1, 2)));
}

#[tokio::test]
async fn a_write_without_an_answer_in_time_fails_as_stalled() {
    let scratch = Scratch::new("stall").unwrap();
    let store = Store::open(Config { stall_limit_ms: 0, ..quick_sync(&scratch) }).await.unwrap();
    let (user, chat) = (new_user(), new_chat(new_partition()));
    // Many milliseconds of work, one of patience.
    let stalled = store.append(append(chat, at(1, 1), rows(chat, user, 1..=20_000))).await;
    assert!(matches!(stalled, Err(Error::Stalled { .. })), "{stalled:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_never_sees_half_a_projection() {
    let (store, _scratch) = open().await;
    let (partition, user) = (new_partition(), new_user());
    let chats: Vec<_> = (0..30).map(|_| new_chat(partition)).collect();
    let writer = tokio::spawn({
        let (store, chats) = (store.clone(), chats.clone());
        async move {
            for step in 1..=200 {
                let mut write = projection(partition, 1, step, step);
                for chat in &chats {
                    write.user_chats.push(UserChatRow { user, chat: *chat, joined_seq: step, left_seq: None });
                    write.summaries.push(summary(*chat, step));
                }
                store.project(write).await.unwrap();
            }
        }
    });
    let mut reads = 0;
    while !writer.is_finished() {
        let heads = store.heads(user, Partition(partition), None, 21).await.unwrap();
        let first = heads.first().map(|head| head.head);
        assert!(heads.iter().all(|head| Some(head.head) == first && Some(head.joined_seq) == first), "{heads:?}");
        reads += 1;
    }
    writer.await.unwrap();
    assert!(reads > 10, "{reads} reads beside 200 writes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_erasure_goes_on_over_more_uses_of_invites_than_one_commit_takes_out() {
    const USES: usize = 800;
    let (store, _scratch) = open().await;
    let (maker, other) = (new_user(), new_user());
    let made = [maker, maker, other].map(|maker| invite(new_chat(5), maker, 90, 1_000));
    let mut used = Vec::new();
    for row in &made {
        assert!(store.put_invite(row.clone()).await.unwrap());
        for _ in 0..USES {
            let (store, proposed) = (store.clone(), invite_use(row, new_user(), 1));
            used.push((proposed, tokio::spawn(async move { store.use_invite(proposed).await.unwrap().is_some() })));
        }
    }
    let mut proposed = Vec::new();
    for (one, used) in used {
        assert!(used.await.unwrap());
        proposed.push(one);
    }
    store.erase_user(maker).await.unwrap();
    assert!(store.invites_by(maker, None, 9).await.unwrap().is_empty());
    for (number, one) in proposed.iter().enumerate() {
        let is_there = store.invite_use(one.hash, one.user).await.unwrap().is_some();
        assert_eq!(is_there, number >= 2 * USES, "use {number}");
    }
    assert_eq!(store.invites_by(other, None, 9).await.unwrap()[0].uses as usize, USES);
}

#[tokio::test]
async fn a_write_whose_caller_is_gone_still_lands() {
    let (store, _scratch) = open().await;
    let (user, chat) = (new_user(), new_chat(new_partition()));
    let caller = tokio::spawn({
        let store = store.clone();
        async move { store.append(append(chat, at(1, 1), rows(chat, user, 1..=1))).await }
    });
    // Handed over at its first step, before any answer can be back.
    tokio::task::yield_now().await;
    caller.abort();
    store.history_at_least(chat, 0, 9, 1 << 20, 1, later()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sealing_memtables_all_the_time_neither_halts_nor_loses() {
    let scratch = Scratch::new("seal").unwrap();
    let config = Config { memtable_bytes: 1, stall_limit_ms: 20_000, ..quick_sync(&scratch) };
    let store = Store::open(config.clone()).await.unwrap();
    let user = new_user();
    let callers: Vec<_> = (0..4)
        .map(|_| {
            let (store, chat) = (store.clone(), new_chat(new_partition()));
            tokio::spawn(async move {
                for sequence in 1..=150 {
                    let row = message(chat, user, sequence, &[b'x'; 8_000]);
                    store.append(append(chat, at(1, sequence), vec![row])).await.unwrap();
                }
                chat
            })
        })
        .collect();
    let mut chats = Vec::new();
    for caller in callers {
        chats.push(caller.await.unwrap());
    }
    drop(store);
    let store = Store::open(config).await.unwrap();
    for chat in chats {
        for after in [0, 50, 100] {
            let page = store.history(chat, after, 50, 1 << 20).await.unwrap();
            assert_eq!((page.rows.len(), page.through), (50, after + 50));
        }
    }
}
