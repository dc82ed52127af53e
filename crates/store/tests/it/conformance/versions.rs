//! Edits and deletions: the rows that they rewrite, whatever is written again or late.

use domain::{ChatId, Edit, Entry, Event, LoggedEntry, Message, Seq, UserId, Version};
use store::Store;

use crate::rows::{append, at, logged, message, new_chat, new_partition, new_user, rows};

pub(crate) fn change(chat: ChatId, sender: UserId, seq: Seq, event: Event) -> LoggedEntry {
    let entry = message(chat, sender, seq, b"").entry;
    logged(Entry { event, ..entry })
}

pub(crate) fn edit(chat: ChatId, user: UserId, seq: Seq, of: Seq, previous: Seq) -> LoggedEntry {
    let body = format!("edit {seq}").into();
    change(chat, user, seq, Event::MessageEdited(Edit { seq: of, body, previous, erased: false }))
}

pub(crate) fn deletion(chat: ChatId, user: UserId, seq: Seq, of: Seq) -> LoggedEntry {
    change(chat, user, seq, Event::MessageDeleted { seq: of })
}

/// What the store has of a message: its body and version.
async fn stands(store: &Store, chat: ChatId, seq: Seq) -> (Vec<u8>, Version) {
    let row = store.entry(chat, seq).await.unwrap().expect("it is stored");
    assert_eq!(LoggedEntry::decode(row.bytes.clone()).unwrap(), row, "bytes and columns say the same");
    let Event::MessageSent(Message { body, version, .. }) = row.entry.event else { panic!("no message") };
    (body.to_vec(), version)
}

/// The rows of these entries as they are to be: each changed by all that are about it, in order.
pub(crate) fn folded(entries: &[LoggedEntry]) -> Vec<LoggedEntry> {
    let changed = |row: &LoggedEntry| {
        let by = |row: Entry, by: &LoggedEntry| row.changed_by(&by.entry).unwrap_or(row);
        logged(entries.iter().fold(row.entry.clone(), by))
    };
    entries.iter().map(changed).collect()
}

pub(crate) async fn an_edit_gives_its_message_another_body(store: &Store) {
    let (user, chat) = (new_user(), new_chat(new_partition()));
    assert_eq!(store.entry(chat, 2).await.unwrap(), None);
    store.append(append(chat, at(1, 1), rows(chat, user, 1..=3))).await.unwrap();
    let original = message(chat, user, 2, b"body 2");
    assert_eq!(store.entry(chat, 2).await.unwrap(), Some(original.clone()));
    let first_hash = original.entry.event.content_hash();
    for (seq, previous) in [(4, 0), (5, 4)] {
        store.append(append(chat, at(1, seq), vec![edit(chat, user, seq, 2, previous)])).await.unwrap();
        let expected = (format!("edit {seq}").into_bytes(), Version::Edited { seq, first_hash });
        assert_eq!(stands(store, chat, 2).await, expected);
    }
    assert_eq!(store.entry(chat, 3).await.unwrap(), Some(message(chat, user, 3, b"body 3")), "the others stay");
    assert_eq!(store.history(chat, 0, 100, 1 << 20).await.unwrap().through, 5);
    // Late, and again.
    let all = [rows(chat, user, 1..=3), vec![edit(chat, user, 4, 2, 0)], vec![edit(chat, user, 5, 2, 4)]].concat();
    for again in [vec![original], vec![edit(chat, user, 4, 2, 0)], all.clone()] {
        store.append(append(chat, at(1, 5), again)).await.unwrap();
        assert_eq!(store.history(chat, 0, 100, 1 << 20).await.unwrap().rows, folded(&all));
    }
}

pub(crate) async fn of_a_deleted_message_no_row_has_a_word_left(store: &Store) {
    let (user, chat) = (new_user(), new_chat(new_partition()));
    let other = edit(chat, user, 5, 3, 0);
    let all = [
        rows(chat, user, 1..=3),
        vec![edit(chat, user, 4, 2, 0), other.clone(), edit(chat, user, 6, 2, 4), deletion(chat, user, 7, 2)],
    ]
    .concat();
    for (sequence, part) in [(1, &all[..4]), (2, &all[4..6]), (3, &all[6..])] {
        store.append(append(chat, at(1, sequence), part.to_vec())).await.unwrap();
    }
    let stored = store.history(chat, 0, 100, 1 << 20).await.unwrap().rows;
    assert_eq!(stored, folded(&all));
    assert_eq!(stands(store, chat, 2).await, (Vec::new(), Version::Deleted { seq: 7 }));
    let holds = |row: &LoggedEntry, word: &[u8]| row.bytes.windows(word.len()).any(|bytes| bytes == word);
    for word in [&b"body 2"[..], b"edit 4", b"edit 6"] {
        assert!(!stored.iter().any(|row| holds(row, word)), "{}", String::from_utf8_lossy(word));
    }
    assert!(holds(&stored[4], b"edit 5") && holds(&other, b"edit 5"), "the edit of another one stays");
    for again in [all[..3].to_vec(), all[3..6].to_vec(), all.clone()] {
        store.append(append(chat, at(1, 3), again)).await.unwrap();
        assert_eq!(store.history(chat, 0, 100, 1 << 20).await.unwrap().rows, stored);
    }
}

pub(crate) async fn a_change_reaches_across_buckets(store: &Store) {
    let (user, chat) = (new_user(), new_chat(new_partition()));
    store.append(append(chat, at(1, 1), rows(chat, user, 1..=2))).await.unwrap();
    store.append(append(chat, at(1, 2), vec![edit(chat, user, 4_097, 2, 0)])).await.unwrap();
    assert_eq!(stands(store, chat, 2).await.0, b"edit 4097");
    let last = vec![edit(chat, user, 8_199, 2, 4_097), deletion(chat, user, 8_200, 2)];
    store.append(append(chat, at(1, 3), last)).await.unwrap();
    assert_eq!(stands(store, chat, 2).await, (Vec::new(), Version::Deleted { seq: 8_200 }));
    for seq in [4_097, 8_199] {
        let row = store.entry(chat, seq).await.unwrap().unwrap();
        assert!(
            matches!(&row.entry.event, Event::MessageEdited(edit) if edit.erased && edit.body.is_empty()),
            "{row:?}"
        );
    }
}

pub(crate) async fn another_entry_under_a_changed_one_is_refused(store: &Store) {
    let (user, chat) = (new_user(), new_chat(new_partition()));
    let changes = vec![edit(chat, user, 4, 2, 0), deletion(chat, user, 5, 3)];
    store.append(append(chat, at(1, 1), [rows(chat, user, 1..=3), changes].concat())).await.unwrap();
    let before = store.history(chat, 0, 100, 1 << 20).await.unwrap().rows;
    let later = |seq| logged(Entry { time: 9, ..message(chat, user, seq, b"body").entry });
    let other_edit = change(chat, user, 4, Event::MessageDeleted { seq: 2 });
    for wrong in [message(chat, user, 2, b"another body"), later(3), other_edit] {
        let seq = wrong.entry.seq;
        let refused = store.append(append(chat, at(1, 2), vec![wrong])).await;
        assert!(matches!(refused, Err(store::Error::Conflict { seq: at, .. }) if at == seq), "{refused:?}");
    }
    assert_eq!(store.history(chat, 0, 100, 1 << 20).await.unwrap().rows, before);
}
