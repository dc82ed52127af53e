//! What the embedded engine promises of writes that nothing can replay: synced, whole, bounded, behind no append.

use std::{
    fs,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use domain::UserId;
use store::{Config, Error, RefreshFamily, SEND_CLAIM_KEPT_US, SendOutcome, Store, UserRow};
use testkit::{Scratch, wait};

use crate::{
    embedded::{open, quick_sync},
    rows::{
        append, at, device, family, invite, invite_use, message, new_chat, new_family, new_partition, new_text,
        new_user, rows, send_claim, setting, ticket, user_row,
    },
};

/// An engine that syncs by itself never.
async fn never_syncing(scratch: &Scratch) -> Store {
    Store::open(Config { sync_interval_ms: 3_600_000, ..quick_sync(scratch) }).await.unwrap()
}

/// Whether an append that came just before the write is on disk once the write is answered.
async fn is_synced_by(store: &Store, write: impl Future<Output = ()>) -> bool {
    let chat = new_chat(new_partition());
    store.append(append(chat, at(1, 1), rows(chat, new_user(), 1..=1))).await.unwrap();
    assert_eq!(store.synced_position(chat.partition()).await.unwrap(), None);
    write.await;
    store.synced_position(chat.partition()).await.unwrap() == Some(at(1, 1))
}

#[tokio::test]
async fn every_write_to_accounts_is_on_disk_before_it_is_answered() {
    let scratch = Scratch::new("lasting").unwrap();
    let store = &never_syncing(&scratch).await;
    let (user, handle, id) = (new_user(), new_text("h"), new_family());
    let claim = send_claim(user, "k", SEND_CLAIM_KEPT_US);
    let of = |what: &'static str, is_synced: bool| assert!(is_synced, "{what}");
    of("put_user", is_synced_by(store, async { assert!(store.put_user(user_row(user, "a"), 0).await.unwrap()) }).await);
    of(
        "put_user again",
        is_synced_by(store, async { assert!(store.put_user(user_row(user, "b"), 1).await.unwrap()) }).await,
    );
    of(
        "claim_handle",
        is_synced_by(store, async { assert_eq!(store.claim_handle(&handle, user).await.unwrap(), user) }).await,
    );
    of(
        "release_handle",
        is_synced_by(store, async { assert!(store.release_handle(&handle, user).await.unwrap()) }).await,
    );
    of(
        "put_refresh_family",
        is_synced_by(store, async { assert!(store.put_refresh_family(family(user, id), 0).await.unwrap()) }).await,
    );
    of(
        "remove_refresh_family",
        is_synced_by(store, async { assert!(store.remove_refresh_family(id).await.unwrap().is_some()) }).await,
    );
    of(
        "claim_send",
        is_synced_by(store, async { assert_eq!(store.claim_send(claim.clone()).await.unwrap(), claim) }).await,
    );

    of(
        "settle_send",
        is_synced_by(store, async {
            assert!(store.settle_send(user, "k", 5, SendOutcome::Rejected { code: 1 }).await.unwrap());
        })
        .await,
    );

    let (chat, row) = (new_chat(3), ticket(user, 9));
    let invited = invite(chat, user, 90, 2);
    of("put_invite", is_synced_by(store, async { assert!(store.put_invite(invited.clone()).await.unwrap()) }).await);
    let used = invite_use(&invited, user, 1);
    of(
        "use_invite",
        is_synced_by(store, async { assert_eq!(store.use_invite(used).await.unwrap(), Some(used)) }).await,
    );
    assert!(!is_synced_by(store, async { assert_eq!(store.use_invite(used).await.unwrap(), Some(used)) }).await);
    of("remove_invite", is_synced_by(store, async { assert!(store.remove_invite(invited.hash).await.unwrap()) }).await);
    of("see_device", is_synced_by(store, async { store.see_device(user, "d", 1).await.unwrap() }).await);
    of("name_device", is_synced_by(store, async { assert!(store.name_device(user, "d", "D").await.unwrap()) }).await);
    of("remove_device", is_synced_by(store, async { assert!(store.remove_device(user, "d").await.unwrap()) }).await);
    of("block", is_synced_by(store, async { store.block(user, user).await.unwrap() }).await);
    of("unblock", is_synced_by(store, async { store.unblock(user, user).await.unwrap() }).await);
    of(
        "put_chat_setting",
        is_synced_by(store, async { assert!(store.put_chat_setting(setting(user, chat), 0).await.unwrap()) }).await,
    );
    of("put_ticket", is_synced_by(store, async { store.put_ticket(row.clone()).await.unwrap() }).await);
    of(
        "take_ticket",
        is_synced_by(store, async { assert!(store.take_ticket(row.hash, 1).await.unwrap().is_some()) }).await,
    );
    of("erase_user", is_synced_by(store, async { store.erase_user(user).await.unwrap() }).await);
    assert!(store.claim_send(claim.clone()).await.is_ok());
    // What changes nothing needs no disk.
    assert!(!is_synced_by(store, async { assert!(!store.put_user(user_row(user, "c"), 1).await.unwrap()) }).await);
    assert!(!is_synced_by(store, async { store.unblock(user, user).await.unwrap() }).await);
    assert!(!is_synced_by(store, async { store.erase_user(new_user()).await.unwrap() }).await);
    assert!(!is_synced_by(store, async { assert_eq!(store.claim_send(claim.clone()).await.unwrap(), claim) }).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backlog_is_written_ahead_and_the_write_behind_it_is_synced() {
    let scratch = Scratch::new("ahead").unwrap();
    let store = &never_syncing(&scratch).await;
    let (user, chat) = (new_user(), new_chat(new_partition()));
    // Twice what is written ahead of a sync.
    for sequence in 1..=8 {
        let row = message(chat, user, sequence, &[b'x'; 64 << 10]);
        store.append(append(chat, at(1, sequence), vec![row])).await.unwrap();
    }
    assert_eq!(store.synced_position(chat.partition()).await.unwrap(), None);
    assert!(store.put_user(user_row(user, "a"), 0).await.unwrap());
    assert_eq!(store.synced_position(chat.partition()).await.unwrap(), Some(at(1, 8)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_that_wait_share_a_sync() {
    let (store, _scratch) = open().await;
    let before = store.commits();
    let writes: Vec<_> = (0..512)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move { store.put_user(user_row(new_user(), "a"), 0).await.unwrap() })
        })
        .collect();
    for write in writes {
        assert!(write.await.unwrap());
    }
    let commits = store.commits() - before;
    assert!(commits < 256, "{commits} commits for 512 writes");
}

#[tokio::test]
async fn a_write_whose_caller_is_gone_is_still_carried_out_whole() {
    let (store, _scratch) = open().await;
    let (user, id) = (new_user(), new_family());
    let caller = tokio::spawn({
        let store = store.clone();
        async move { store.put_refresh_family(family(user, id), 0).await }
    });
    // Handed over at its first step, before any answer can be back.
    tokio::task::yield_now().await;
    caller.abort();
    wait::until(Duration::from_secs(10), "the family", async || store.refresh_family(id).await.unwrap().is_some())
        .await;
    assert_eq!(store.refresh_families_of(user).await.unwrap().len(), 1);
}

/// A user with more blocks than three steps of an erasure take.
async fn blocking_many(store: &Store) -> UserId {
    let user = new_user();
    let blocks: Vec<_> = (0..3_100)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move { store.block(user, new_user()).await.unwrap() })
        })
        .collect();
    for block in blocks {
        block.await.unwrap();
    }
    user
}

#[tokio::test]
async fn an_erasure_whose_caller_is_gone_is_still_carried_out_whole() {
    let scratch = Scratch::new("erasure").unwrap();
    let store = Store::open(quick_sync(&scratch)).await.unwrap();
    let users = [blocking_many(&store).await, blocking_many(&store).await];
    let erase_and_go = async |user| {
        let store = store.clone();
        let caller = tokio::spawn(async move { store.erase_user(user).await });
        tokio::task::yield_now().await;
        caller.abort();
        let _ = caller.await;
    };
    erase_and_go(users[0]).await;
    wait::until(Duration::from_secs(10), "the erasure", async || {
        store.blocks_of(users[0], None, 1).await.unwrap().is_empty()
    })
    .await;
    // And one that the closing of the store falls on.
    erase_and_go(users[1]).await;
    drop(store);
    let store = Store::open(quick_sync(&scratch)).await.unwrap();
    assert!(store.blocks_of(users[1], None, 1).await.unwrap().is_empty());
}

#[tokio::test]
async fn an_append_does_not_wait_behind_the_sync_of_a_write_that_came_before_it() {
    let (store, _scratch) = open().await;
    let (user, order) = (new_user(), Arc::new(Mutex::new(Vec::new())));
    // Keeps the writer at work until the others wait.
    let busy = tokio::spawn({
        let (store, chat) = (store.clone(), new_chat(new_partition()));
        async move { store.append(append(chat, at(1, 1), rows(chat, user, 1..=20_000))).await.unwrap() }
    });
    tokio::task::yield_now().await;
    let account = tokio::spawn({
        let (store, order) = (store.clone(), Arc::clone(&order));
        async move {
            assert!(store.put_user(user_row(user, "a"), 0).await.unwrap());
            order.lock().unwrap().push("account");
        }
    });
    tokio::task::yield_now().await;
    let message = tokio::spawn({
        let (store, order, chat) = (store.clone(), Arc::clone(&order), new_chat(new_partition()));
        async move {
            store.append(append(chat, at(1, 1), rows(chat, user, 1..=1))).await.unwrap();
            order.lock().unwrap().push("append");
        }
    });
    for task in [busy, account, message] {
        task.await.unwrap();
    }
    assert_eq!(*order.lock().unwrap(), ["append", "account"]);
}

#[tokio::test]
async fn what_was_handed_over_lands_even_if_the_store_is_closed_at_once() {
    let scratch = Scratch::new("closed").unwrap();
    let store = Store::open(quick_sync(&scratch)).await.unwrap();
    let users: Vec<_> = (0..40).map(|_| new_user()).collect();
    let callers: Vec<_> = users
        .iter()
        .map(|user| {
            let (store, row) = (store.clone(), user_row(*user, "a"));
            tokio::spawn(async move { store.put_user(row, 0).await })
        })
        .collect();
    tokio::task::yield_now().await;
    for caller in callers {
        caller.abort();
        let _ = caller.await;
    }
    drop(store);
    let store = Store::open(quick_sync(&scratch)).await.unwrap();
    for user in users {
        assert!(store.user(user).await.unwrap().is_some());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_beyond_the_queue_wait_and_all_land_beside_appends() {
    let scratch = Scratch::new("room").unwrap();
    let store = Store::open(Config { queue_writes: 2, queue_bytes: 2_000, ..quick_sync(&scratch) }).await.unwrap();
    let callers: Vec<_> = (0..40)
        .map(|_| {
            let (store, user, chat) = (store.clone(), new_user(), new_chat(new_partition()));
            tokio::spawn(async move {
                let row = UserRow { avatar: "x".repeat(1_000).into(), ..user_row(user, "a") };
                assert!(store.put_user(row, 0).await.unwrap());
                store.append(append(chat, at(1, 1), rows(chat, user, 1..=1))).await.unwrap();
                assert_eq!(store.user(user).await.unwrap().unwrap().version, 1);
            })
        })
        .collect();
    for caller in callers {
        caller.await.unwrap();
    }
    // What is in a commit was in the room together.
    assert!(store.commits() >= 40, "{} commits", store.commits());
}

#[tokio::test]
async fn a_write_without_an_answer_in_time_is_stalled_and_may_land() {
    let scratch = Scratch::new("late").unwrap();
    let user = new_user();
    {
        let store = Store::open(Config { stall_limit_ms: 0, ..quick_sync(&scratch) }).await.unwrap();
        let chat = new_chat(new_partition());
        // Many milliseconds of work before it, one of patience.
        let long = store.append(append(chat, at(1, 1), rows(chat, user, 1..=20_000)));
        let (_, stalled) = tokio::join!(long, store.put_user(user_row(user, "a"), 0));
        assert!(matches!(stalled, Err(Error::Stalled { .. })), "{stalled:?}");
    }
    let store = Store::open(quick_sync(&scratch)).await.unwrap();
    assert_eq!(store.user(user).await.unwrap().map(|row| row.version), Some(1));
}

#[tokio::test]
async fn accounts_are_there_after_a_reopening() {
    let scratch = Scratch::new("again").unwrap();
    let (user, handle, id) = (new_user(), new_text("h"), new_family());
    let claim = send_claim(user, "k", SEND_CLAIM_KEPT_US);
    let given_up = new_text("h");
    let (chat, row, taken) = (new_chat(3), ticket(user, 9), ticket(user, 9));
    {
        let store = Store::open(quick_sync(&scratch)).await.unwrap();
        assert!(store.put_user(user_row(user, "a"), 0).await.unwrap());
        store.claim_handle(&handle, user).await.unwrap();
        store.claim_handle(&given_up, user).await.unwrap();
        assert!(store.release_handle(&given_up, user).await.unwrap());
        assert!(store.put_refresh_family(family(user, id), 0).await.unwrap());
        store.claim_send(claim.clone()).await.unwrap();
        store.see_device(user, "d", 1).await.unwrap();
        store.block(user, user).await.unwrap();
        assert!(store.put_chat_setting(setting(user, chat), 0).await.unwrap());
        store.put_ticket(row.clone()).await.unwrap();
        store.put_ticket(taken.clone()).await.unwrap();
        assert!(store.take_ticket(taken.hash, 1).await.unwrap().is_some());
    }
    let store = Store::open(quick_sync(&scratch)).await.unwrap();
    assert_eq!(store.user(user).await.unwrap(), Some(UserRow { version: 1, ..user_row(user, "a") }));
    assert_eq!(store.user_of_handle(&handle).await.unwrap(), Some(user));
    assert_eq!(store.user_of_handle(&given_up).await.unwrap(), None);
    let kept = RefreshFamily { version: 1, ..family(user, id) };
    assert_eq!(store.refresh_family(id).await.unwrap().as_ref(), Some(&kept));
    assert_eq!(store.refresh_families_of(user).await.unwrap(), [kept]);
    assert_eq!(store.devices_of(user).await.unwrap(), [device(user, "d")]);
    assert!(store.is_blocked(user, user).await.unwrap());
    assert_eq!(store.chat_setting(user, chat).await.unwrap().map(|row| row.version), Some(1));
    assert_eq!(store.take_ticket(taken.hash, 1).await.unwrap(), None);
    assert_eq!(store.take_ticket(row.hash, 1).await.unwrap(), Some(row));
    let later = store::SendClaim { n: 99, ..claim.clone() };
    assert_eq!(store.claim_send(later).await.unwrap(), claim);
}

/// Writes one row past the store, as damage or another version would leave it.
fn overwrite(folder: &Path, table: &str, key: &[u8], value: &[u8]) {
    let database = fjall::Database::builder(folder.join("engine")).open().unwrap();
    let table = database.keyspace(table, fjall::KeyspaceCreateOptions::default).unwrap();
    table.insert(key, value).unwrap();
}

#[tokio::test]
async fn a_damaged_row_is_an_error_and_stays_as_it_is() {
    let scratch = Scratch::new("damage").unwrap();
    let folder = scratch.join("store");
    let (user, id) = (new_user(), new_family());
    drop(Store::open(quick_sync(&scratch)).await.unwrap());
    overwrite(&folder, "users", user.as_bytes(), &[1, 0, 0]);
    overwrite(&folder, "handles", b"broken", &[9; 17]);
    overwrite(&folder, "refresh_families", &id, &[1]);
    overwrite(&folder, "refresh_families_by_user", &[&user.as_bytes()[..], &id].concat(), &[1]);
    overwrite(&folder, "devices", &[&user.as_bytes()[..], b"d"].concat(), &[2]);
    overwrite(&folder, "blocks", &[*user.as_bytes(); 2].concat(), &[]);
    let chat = new_chat(3);
    overwrite(&folder, "chat_settings", &[*user.as_bytes(), *chat.as_bytes()].concat(), &[1; 20]);
    overwrite(&folder, "tickets", &[5; 32], &[1]);
    overwrite(&folder, "invites", &[5; 32], &[1]);
    overwrite(&folder, "invites_by_chat", &[&chat.as_bytes()[..], &[6; 32]].concat(), &[1]);
    let maker = new_user();
    overwrite(&folder, "invites_by_maker", &[&maker.as_bytes()[..], &[6; 32]].concat(), &[1]);
    overwrite(&folder, "send_claims", &[&user.as_bytes()[..], b"k"].concat(), &[]);
    fn is_corrupt<T: std::fmt::Debug>(read: Result<T, Error>) {
        assert!(matches!(read, Err(Error::Corrupt { .. })), "{read:?}");
    }
    let store = Store::open(quick_sync(&scratch)).await.unwrap();
    for _ in 0..2 {
        is_corrupt(store.user(user).await);
        is_corrupt(store.put_user(user_row(user, "a"), 0).await);
        is_corrupt(store.user_of_handle("broken").await);
        is_corrupt(store.claim_handle("broken", user).await);
        is_corrupt(store.release_handle("broken", user).await);
        is_corrupt(store.handles("bro", None, 9).await);
        is_corrupt(store.refresh_family(id).await);
        is_corrupt(store.put_refresh_family(family(user, id), 0).await);
        is_corrupt(store.remove_refresh_family(id).await);
        is_corrupt(store.refresh_families_of(user).await);
        is_corrupt(store.claim_send(send_claim(user, "k", 1)).await);
        is_corrupt(store.devices_of(user).await);
        is_corrupt(store.is_blocked(user, user).await);
        is_corrupt(store.blocks_of(user, None, 1).await);
        is_corrupt(store.chat_setting(user, chat).await);
        is_corrupt(store.chat_settings_of(user, None, 1).await);
        is_corrupt(store.put_chat_setting(setting(user, chat), 1).await);
        is_corrupt(store.take_ticket([5; 32], 1).await);
        is_corrupt(store.invite([5; 32]).await);
        is_corrupt(store.remove_invite([5; 32]).await);
        is_corrupt(store.invites_of(chat).await);
        is_corrupt(store.invites_by(maker, None, 1).await);
        is_corrupt(store.erase_user(maker).await);
        is_corrupt(store.settle_send(user, "k", 1, SendOutcome::Unknown).await);
        is_corrupt(store.erase_user(user).await);
    }
    // A damaged row harms no other.
    assert!(store.put_user(user_row(new_user(), "a"), 0).await.unwrap());
}

#[tokio::test]
async fn an_index_row_without_its_family_is_an_error() {
    let scratch = Scratch::new("index").unwrap();
    let (user, id) = (new_user(), new_family());
    drop(Store::open(quick_sync(&scratch)).await.unwrap());
    let key = [&user.as_bytes()[..], &id].concat();
    overwrite(&scratch.join("store"), "refresh_families_by_user", &key, &[1]);
    let store = Store::open(quick_sync(&scratch)).await.unwrap();
    let read = store.refresh_families_of(user).await;
    assert!(matches!(read, Err(Error::Corrupt { .. })), "{read:?}");
}

#[tokio::test]
async fn a_folder_from_before_the_tables_of_accounts_gets_them() {
    let scratch = Scratch::new("older").unwrap();
    let engine = scratch.join("store/engine");
    fs::create_dir_all(scratch.join("store")).unwrap();
    {
        let database = fjall::Database::builder(&engine).open().unwrap();
        let meta = database.keyspace("meta", fjall::KeyspaceCreateOptions::default).unwrap();
        meta.insert("format", [1]).unwrap();
        meta.insert("cluster", b"here").unwrap();
    }
    let user = new_user();
    for version in 0..2 {
        let store = Store::open(quick_sync(&scratch)).await.unwrap();
        assert_eq!(store.claim_meta("cluster", "there".into()).await.unwrap(), "here");
        assert!(store.put_user(user_row(user, "a"), version).await.unwrap());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_never_sees_a_family_without_its_index_row_or_the_other_way_round() {
    let (store, _scratch) = open().await;
    let user = new_user();
    let ids: Arc<Vec<_>> = Arc::new((0..12).map(|_| new_family()).collect());
    let writer = tokio::spawn({
        let (store, ids) = (store.clone(), Arc::clone(&ids));
        async move {
            for _ in 0..20 {
                for id in ids.iter() {
                    assert!(store.put_refresh_family(family(user, *id), 0).await.unwrap());
                }
                for id in ids.iter() {
                    store.remove_refresh_family(*id).await.unwrap().unwrap();
                }
            }
        }
    });
    let mut seen = 0;
    while !writer.is_finished() {
        // An index row without its family is an error.
        seen += store.refresh_families_of(user).await.unwrap().len();
    }
    writer.await.unwrap();
    assert!(seen > 0);
    assert_eq!(store.refresh_families_of(UserId::new([0; 16])).await.unwrap(), []);
}
