//! History pages: order, limits, holes and waiting.

use domain::{ChatId, Partition, Seq, UserId};
use store::{Error, Store};

use crate::rows::{append, at, later, message, new_chat, new_partition, new_user, rows, seqs, snapshot, soon, stay};

/// A chat with these rows, in one append.
async fn with_rows(store: &Store, stored: impl IntoIterator<Item = Seq>) -> (ChatId, UserId) {
    let (user, chat) = (new_user(), new_chat(new_partition()));
    store.append(append(chat, at(1, 1), rows(chat, user, stored))).await.unwrap();
    (chat, user)
}

pub(crate) async fn rows_come_in_order_and_through_is_the_last(store: &Store) {
    let (chat, user) = with_rows(store, 1..=300).await;
    for (after, count) in [(0, 300), (1, 299), (255, 45), (256, 44), (299, 1), (300, 0)] {
        let page = store.history(chat, after, 1_000, 1 << 20).await.unwrap();
        assert_eq!(page.rows, rows(chat, user, after + 1..=300));
        assert_eq!((page.rows.len(), page.through), (count, 300));
    }
}

pub(crate) async fn a_count_limit_cuts_the_page(store: &Store) {
    let (chat, _) = with_rows(store, 1..=20).await;
    let page = store.history(chat, 5, 3, 1 << 20).await.unwrap();
    assert_eq!((seqs(&page.rows), page.through), (vec![6, 7, 8], 8));
    // Zero asks for the least that helps.
    let page = store.history(chat, 5, 0, 1 << 20).await.unwrap();
    assert_eq!((seqs(&page.rows), page.through), (vec![6], 6));
}

pub(crate) async fn a_byte_limit_cuts_the_page_but_never_to_nothing(store: &Store) {
    let (user, chat) = (new_user(), new_chat(new_partition()));
    let large: Vec<_> = (1..=4).map(|seq| message(chat, user, seq, &[b'x'; 1_000])).collect();
    let each = large[1].bytes.len();
    store.append(append(chat, at(1, 1), large)).await.unwrap();
    for (limit, count) in [(0, 1), (each - 1, 1), (each, 1), (2 * each - 1, 1), (2 * each, 2), (usize::MAX, 3)] {
        let page = store.history(chat, 1, 100, limit).await.unwrap();
        assert_eq!(page.rows.len(), count, "at {limit} bytes");
        assert_eq!(page.through, 1 + count as u64);
    }
}

pub(crate) async fn nothing_above_a_hole_is_told(store: &Store) {
    let (chat, _) = with_rows(store, [1, 2, 3, 5, 6]).await;
    let page = store.history(chat, 0, 100, 1 << 20).await.unwrap();
    assert_eq!((seqs(&page.rows), page.through), (vec![1, 2, 3], 3));
    let page = store.history(chat, 3, 100, 1 << 20).await.unwrap();
    assert_eq!((seqs(&page.rows), page.through), (vec![], 3));
    // The caller says that it knows 4, which is not stored: the store is whole through 3 only.
    let page = store.history(chat, 4, 100, 1 << 20).await.unwrap();
    assert_eq!((seqs(&page.rows), page.through), (vec![], 3));
}

pub(crate) async fn an_after_above_the_head_is_told_the_head(store: &Store) {
    let (chat, _) = with_rows(store, 1..=10).await;
    for after in [11, 5_000, Seq::MAX - 1, Seq::MAX] {
        let page = store.history(chat, after, 100, 1 << 20).await.unwrap();
        assert_eq!((seqs(&page.rows), page.through), (vec![], 10));
    }
}

pub(crate) async fn rows_below_the_first_kept_one_count_as_known(store: &Store) {
    let (user, chat) = (new_user(), new_chat(new_partition()));
    let mut write = append(chat, at(1, 1), rows(chat, user, 6..=9));
    write.chats[0].snapshot = Some(snapshot(9, 6));
    store.append(write).await.unwrap();
    for after in [0, 3, 5] {
        let page = store.history(chat, after, 100, 1 << 20).await.unwrap();
        assert_eq!((seqs(&page.rows), page.through, page.first_seq), (vec![6, 7, 8, 9], 9, 6));
    }
    let page = store.history(chat, 7, 100, 1 << 20).await.unwrap();
    assert_eq!((seqs(&page.rows), page.through, page.first_seq), (vec![8, 9], 9, 6));
}

pub(crate) async fn the_chats_of_a_partition_are_those_that_have_rows(store: &Store) {
    let (partition, other, user) = (new_partition(), new_partition(), new_user());
    // One over several buckets, and two whose ids follow each other.
    let chats = [new_chat(partition), new_chat(partition), new_chat(partition)];
    for (chat, head) in chats.into_iter().zip([9_000, 1, 2]) {
        store
            .append(append(
                chat,
                at(1, 1),
                rows(chat, user, [1, head].into_iter().collect::<std::collections::BTreeSet<_>>()),
            ))
            .await
            .unwrap();
    }
    let elsewhere = new_chat(other);
    store.append(append(elsewhere, at(1, 1), rows(elsewhere, user, 1..=3))).await.unwrap();
    let mut found = store.logged_chats(Partition(partition)).await.unwrap();
    found.sort_unstable();
    let mut expected = chats.to_vec();
    expected.sort_unstable();
    assert_eq!(found, expected);
    assert_eq!(store.logged_chats(Partition(other)).await.unwrap(), [elsewhere]);
    assert!(store.logged_chats(Partition(new_partition())).await.unwrap().is_empty());
}

pub(crate) async fn an_unknown_chat_has_an_empty_history(store: &Store) {
    let page = store.history(new_chat(1), 7, 100, 1 << 20).await.unwrap();
    assert!(page.rows.is_empty());
    assert_eq!(page.through, 0);
}

pub(crate) async fn pages_across_buckets_join_without_hole(store: &Store) {
    // A bucket of the CQL table holds 4,096 seqs.
    let (chat, user) = with_rows(store, 1..=8_200).await;
    let mut told = Vec::new();
    loop {
        let page = store.history(chat, told.len() as u64, 700, 1 << 20).await.unwrap();
        if page.rows.is_empty() {
            break;
        }
        told.extend(page.rows);
    }
    assert_eq!(told, rows(chat, user, 1..=8_200));
}

pub(crate) async fn at_least_waits_for_the_append(store: &Store) {
    let (chat, user) = with_rows(store, 1..=2).await;
    let page = store.history_at_least(chat, 0, 100, 1 << 20, 2, soon()).await.unwrap();
    assert_eq!(page.through, 2);
    let waiting: Vec<_> = (0..20)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move { store.history_at_least(chat, 0, 100, 1 << 20, 4, later()).await })
        })
        .collect();
    store.append(append(chat, at(1, 2), rows(chat, user, 3..=3))).await.unwrap();
    store.append(append(chat, at(1, 3), rows(chat, user, 4..=5))).await.unwrap();
    for waiting in waiting {
        assert_eq!(waiting.await.unwrap().unwrap().rows, rows(chat, user, 1..=5));
    }
}

pub(crate) async fn at_least_gives_up_at_the_deadline(store: &Store) {
    let (chat, _) = with_rows(store, 1..=2).await;
    let none = store.history_at_least(chat, 0, 100, 1 << 20, 3, soon()).await;
    assert!(matches!(&none, Err(error @ Error::NotYet { at_least: 3, .. }) if error.is_retryable()), "{none:?}");
}

pub(crate) async fn the_stays_of_one_user_are_told_apart(store: &Store) {
    let (chat, user, other) = (new_chat(5), new_user(), new_user());
    let stays = [stay(chat, user, 1, Some(3)), stay(chat, user, 5, None)];
    let of_chat = append(chat, at(1, 1), rows(chat, user, 1..=5));
    let members = vec![stays[1], stay(chat, other, 1, None), stays[0]];
    let chats = of_chat.chats.into_iter().map(|rows| store::ChatAppend { members: members.clone(), ..rows }).collect();
    store.append(store::Append { chats, ..of_chat }).await.unwrap();
    assert_eq!(store.stays(chat, user, 5, soon()).await.unwrap(), stays);
    let stranger = store.stays(chat, new_user(), 0, soon()).await;
    assert!(matches!(stranger, Err(store::ReadError::NotAMember)), "{stranger:?}");
    let nowhere = store.stays(new_chat(5), user, 0, soon()).await;
    assert!(matches!(nowhere, Err(store::ReadError::UnknownChat)), "{nowhere:?}");
}
