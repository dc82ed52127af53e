//! Appends, positions, members, snapshots and claims.

use std::time::Duration;

use bytes::Bytes;
use domain::Partition;
use store::{Append, ChatAppend, Error, Store};
use testkit::wait;

use crate::rows::{append, at, later, message, new_chat, new_partition, new_user, rows, seqs, snapshot, soon, stay};

pub(crate) async fn rows_members_snapshot_and_position_come_back(store: &Store) {
    let (partition, user) = (new_partition(), new_user());
    let (one, other) = (new_chat(partition), new_chat(partition));
    assert_eq!(store.position(Partition(partition)).await.unwrap(), None);
    assert_eq!(store.snapshot(one).await.unwrap(), None);
    let part = |chat| ChatAppend {
        chat,
        members: vec![stay(chat, user, 1, None)],
        roles: Vec::new(),
        rows: rows(chat, user, 1..=3),
        snapshot: Some(snapshot(3, 1)),
    };
    let write = Append { partition: Partition(partition), position: at(1, 1), chats: vec![part(one), part(other)] };
    store.append(write).await.unwrap();
    for chat in [one, other] {
        let page = store.history(chat, 0, 100, 1 << 20).await.unwrap();
        assert_eq!(page.rows, rows(chat, user, 1..=3));
        assert_eq!((page.through, page.first_seq), (3, 1));
        assert_eq!(store.members(chat, 3, soon()).await.unwrap(), [stay(chat, user, 1, None)]);
        assert_eq!(store.snapshot(chat).await.unwrap(), Some(snapshot(3, 1)));
    }
    assert_eq!(store.position(Partition(partition)).await.unwrap(), Some(at(1, 1)));
}

pub(crate) async fn the_same_append_again_changes_nothing(store: &Store) {
    let (user, chat) = (new_user(), new_chat(new_partition()));
    let write = append(chat, at(1, 4), rows(chat, user, 1..=5));
    for _ in 0..3 {
        store.append(write.clone()).await.unwrap();
        assert_eq!(store.history(chat, 0, 100, 1 << 20).await.unwrap().rows, rows(chat, user, 1..=5));
        assert_eq!(store.position(chat.partition()).await.unwrap(), Some(at(1, 4)));
    }
}

pub(crate) async fn a_late_append_of_a_stale_owner_changes_nothing(store: &Store) {
    let (user, chat) = (new_user(), new_chat(new_partition()));
    let old = append(chat, at(1, 1), rows(chat, user, 1..=2));
    let new = append(chat, at(1, 2), rows(chat, user, 3..=4));
    store.append(old.clone()).await.unwrap();
    store.append(new).await.unwrap();
    store.append(old).await.unwrap();
    assert_eq!(store.position(chat.partition()).await.unwrap(), Some(at(1, 2)));
    assert_eq!(seqs(&store.history(chat, 0, 100, 1 << 20).await.unwrap().rows), [1, 2, 3, 4]);
}

pub(crate) async fn an_old_position_with_new_rows_keeps_the_position(store: &Store) {
    let (user, partition) = (new_user(), new_partition());
    let (one, other) = (new_chat(partition), new_chat(partition));
    store.append(append(one, at(1, 9), rows(one, user, 1..=1))).await.unwrap();
    store.append(append(other, at(1, 3), rows(other, user, 1..=2))).await.unwrap();
    assert_eq!(store.position(Partition(partition)).await.unwrap(), Some(at(1, 9)));
    assert_eq!(store.history(other, 0, 100, 1 << 20).await.unwrap().through, 2);
}

pub(crate) async fn another_entry_under_a_stored_seq_is_refused_whole(store: &Store) {
    let (user, partition) = (new_user(), new_partition());
    let (chat, untouched) = (new_chat(partition), new_chat(partition));
    store.append(append(chat, at(1, 1), rows(chat, user, 1..=3))).await.unwrap();
    let mut wrong = rows(chat, user, 2..=4);
    wrong[1] = message(chat, user, 3, b"another body");
    let write = Append {
        partition: Partition(partition),
        position: at(1, 2),
        chats: vec![
            ChatAppend {
                chat: untouched,
                members: vec![stay(untouched, user, 1, None)],
                roles: Vec::new(),
                rows: rows(untouched, user, 1..=1),
                snapshot: Some(snapshot(1, 1)),
            },
            ChatAppend {
                chat,
                members: vec![stay(chat, user, 1, None)],
                roles: Vec::new(),
                rows: wrong,
                snapshot: None,
            },
        ],
    };
    let refused = store.append(write).await;
    assert!(matches!(refused, Err(Error::Conflict { chat: at, seq: 3 }) if at == chat), "{refused:?}");
    assert_eq!(store.history(chat, 0, 100, 1 << 20).await.unwrap().rows, rows(chat, user, 1..=3));
    assert_eq!(store.position(Partition(partition)).await.unwrap(), Some(at(1, 1)));
    assert_eq!(store.history(untouched, 0, 100, 1 << 20).await.unwrap().through, 0);
    assert_eq!(store.snapshot(untouched).await.unwrap(), None);
    assert!(store.members(untouched, 0, soon()).await.unwrap().is_empty());
    assert!(store.members(chat, 0, soon()).await.unwrap().is_empty());
}

pub(crate) async fn a_later_epoch_wins_and_an_earlier_one_does_not(store: &Store) {
    let (user, chat) = (new_user(), new_chat(new_partition()));
    store.append(append(chat, at(5, 900), rows(chat, user, 1..=1))).await.unwrap();
    store.append(append(chat, at(6, 1), rows(chat, user, 2..=2))).await.unwrap();
    assert_eq!(store.position(chat.partition()).await.unwrap(), Some(at(6, 1)));
    store.append(append(chat, at(5, 901), rows(chat, user, 2..=2))).await.unwrap();
    assert_eq!(store.position(chat.partition()).await.unwrap(), Some(at(6, 1)));
}

pub(crate) async fn the_end_of_a_stay_is_not_taken_back_by_a_late_join(store: &Store) {
    let (user, chat) = (new_user(), new_chat(new_partition()));
    let with = |sequence, row| {
        let mut write = append(chat, at(1, sequence), rows(chat, user, [sequence]));
        write.chats[0].members.push(row);
        write
    };
    store.append(with(1, stay(chat, user, 1, None))).await.unwrap();
    store.append(with(2, stay(chat, user, 1, Some(2)))).await.unwrap();
    store.append(with(1, stay(chat, user, 1, None))).await.unwrap();
    assert_eq!(store.members(chat, 2, soon()).await.unwrap(), [stay(chat, user, 1, Some(2))]);
}

pub(crate) async fn a_user_who_comes_back_has_two_stays(store: &Store) {
    let (user, other, chat) = (new_user(), new_user(), new_chat(new_partition()));
    let mut write = append(chat, at(1, 1), rows(chat, user, 1..=9));
    // Both ends of a short stay in one append, as two rows of the same stay.
    write.chats[0].members = vec![
        stay(chat, user, 1, None),
        stay(chat, other, 3, None),
        stay(chat, user, 1, Some(5)),
        stay(chat, user, 300, None),
    ];
    store.append(write).await.unwrap();
    let members = store.members(chat, 9, soon()).await.unwrap();
    assert_eq!(members, [stay(chat, user, 1, Some(5)), stay(chat, user, 300, None), stay(chat, other, 3, None)]);
    assert!(members[0].is_member_after(4) && !members[0].is_member_after(5) && !members[0].is_member_after(0));
}

pub(crate) async fn a_snapshot_never_goes_back(store: &Store) {
    let (user, chat) = (new_user(), new_chat(new_partition()));
    let with = |sequence, head| {
        let mut write = append(chat, at(1, sequence), rows(chat, user, [sequence]));
        write.chats[0].snapshot = Some(snapshot(head, 1));
        write
    };
    store.append(with(1, 8)).await.unwrap();
    store.append(with(2, 7)).await.unwrap();
    assert_eq!(store.snapshot(chat).await.unwrap(), Some(snapshot(8, 1)));
    store.append(with(3, 9)).await.unwrap();
    assert_eq!(store.snapshot(chat).await.unwrap(), Some(snapshot(9, 1)));
}

pub(crate) async fn a_row_of_another_chat_or_partition_is_refused_whole(store: &Store) {
    let (user, partition) = (new_user(), new_partition());
    let (chat, other, elsewhere) = (new_chat(partition), new_chat(partition), new_chat((partition + 1) % 4_096));
    let mut foreign_row = append(chat, at(1, 1), rows(chat, user, 1..=2));
    foreign_row.chats[0].rows.extend(rows(other, user, 1..=1));
    let mut foreign_member = append(chat, at(1, 1), rows(chat, user, 1..=2));
    foreign_member.chats[0].members.push(stay(other, user, 1, None));
    let mut foreign_chat = append(chat, at(1, 1), rows(chat, user, 1..=2));
    foreign_chat.chats.extend(append(elsewhere, at(1, 1), rows(elsewhere, user, 1..=1)).chats);
    for wrong in [foreign_row, foreign_member, foreign_chat] {
        let refused = store.append(wrong).await;
        assert!(matches!(refused, Err(Error::Misplaced { .. })), "{refused:?}");
    }
    assert_eq!(store.history(chat, 0, 100, 1 << 20).await.unwrap().through, 0);
    assert_eq!(store.position(Partition(partition)).await.unwrap(), None);
}

pub(crate) async fn what_was_synced_is_never_above_what_is_stored(store: &Store) {
    let (user, chat) = (new_user(), new_chat(new_partition()));
    for sequence in 1..=50 {
        store.append(append(chat, at(1, sequence), rows(chat, user, [sequence]))).await.unwrap();
        let synced = store.synced_position(chat.partition()).await.unwrap();
        assert!(synced.is_none_or(|synced| synced.events.sequence <= sequence));
    }
    store.sync().await.unwrap();
    assert_eq!(store.synced_position(chat.partition()).await.unwrap(), Some(at(1, 50)));
    store.append(append(chat, at(1, 51), rows(chat, user, [51]))).await.unwrap();
    wait::until(Duration::from_secs(10), "the lazy sync", async || {
        store.synced_position(chat.partition()).await.unwrap() == Some(at(1, 51))
    })
    .await;
}

pub(crate) async fn appends_of_many_callers_at_once_all_land(store: &Store) {
    let user = new_user();
    let callers: Vec<_> = (0..8)
        .map(|_| {
            let (store, chat) = (store.clone(), new_chat(new_partition()));
            tokio::spawn(async move {
                for sequence in 1..=40 {
                    store.append(append(chat, at(1, sequence), rows(chat, user, [sequence]))).await.unwrap();
                    assert_eq!(store.history(chat, sequence - 1, 1, 1).await.unwrap().through, sequence);
                }
                chat
            })
        })
        .collect();
    for caller in callers {
        let chat = caller.await.unwrap();
        assert_eq!(store.history(chat, 0, 100, 1 << 20).await.unwrap().rows, rows(chat, user, 1..=40));
        assert_eq!(store.position(chat.partition()).await.unwrap(), Some(at(1, 40)));
    }
}

pub(crate) async fn members_wait_for_the_row_they_need(store: &Store) {
    let (user, chat) = (new_user(), new_chat(new_partition()));
    let none = store.members(chat, 2, soon()).await;
    assert!(matches!(none, Err(Error::NotYet { at_least: 2, .. })), "{none:?}");
    assert!(store.members(chat, 0, soon()).await.unwrap().is_empty());
    let waiting = tokio::spawn({
        let store = store.clone();
        async move { store.members(chat, 2, later()).await }
    });
    // Row 1 is not enough.
    store.append(append(chat, at(1, 1), rows(chat, user, 1..=1))).await.unwrap();
    assert!(!waiting.is_finished());
    let mut write = append(chat, at(1, 2), rows(chat, user, 2..=2));
    write.chats[0].members.push(stay(chat, user, 1, None));
    store.append(write).await.unwrap();
    assert_eq!(waiting.await.unwrap().unwrap(), [stay(chat, user, 1, None)]);
}

pub(crate) async fn two_claims_of_one_direct_chat_agree_under_race(store: &Store) {
    let (a, b) = (new_user(), new_user());
    let claims: Vec<_> = (0..32)
        .map(|turn| {
            let (store, proposed) = (store.clone(), new_chat(3));
            let (first, second) = if turn % 2 == 0 { (a, b) } else { (b, a) };
            tokio::spawn(async move { (proposed, store.claim_direct(first, second, proposed).await.unwrap()) })
        })
        .collect();
    let mut proposed = Vec::new();
    let mut claimed = Vec::new();
    for claim in claims {
        let (own, won) = claim.await.unwrap();
        proposed.push(own);
        claimed.push(won);
    }
    assert!(claimed.iter().all(|chat| *chat == claimed[0]), "{claimed:?}");
    assert!(proposed.contains(&claimed[0]));
    assert_eq!(store.claim_direct(b, a, new_chat(3)).await.unwrap(), claimed[0]);
    let own = new_chat(3);
    assert_eq!(store.claim_direct(a, new_user(), own).await.unwrap(), own);
}

pub(crate) async fn a_meta_value_is_fixed_at_its_first_claim(store: &Store) {
    let key = format!("partitions-{}", new_user());
    let claim = |value: &'static [u8]| store.claim_meta(&key, Bytes::from_static(value));
    assert_eq!(claim(b"8").await.unwrap(), "8");
    assert_eq!(claim(b"16").await.unwrap(), "8");
    assert_eq!(claim(b"8").await.unwrap(), "8");
}
