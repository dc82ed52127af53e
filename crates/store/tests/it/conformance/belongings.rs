//! What is a user's alone: devices, blocks and settings of chats, tickets, and the erasure of all of it.

use std::collections::BTreeSet;

use domain::{ChatId, UserId};
use store::{
    ChatSetting, DEVICE_BYTES_MAX, DEVICE_NAME_BYTES_MAX, DEVICES_MAX, DeviceRow, Error, LIST_ROWS_MAX,
    SEND_CLAIM_KEPT_US, SIGN_IN_BYTES_MAX, SendClaim, Store, TicketRow,
};

use crate::rows::{device, family, new_chat, new_family, new_user, send_claim, setting, ticket, user_row};

pub(crate) async fn a_device_is_seen_named_listed_and_removed(store: &Store) {
    let (user, other) = (new_user(), new_user());
    assert!(store.devices_of(user).await.unwrap().is_empty());
    for name in ["b", "a", "ä"] {
        store.see_device(user, name, 1).await.unwrap();
    }
    store.see_device(other, "a", 1).await.unwrap();
    assert!(store.name_device(user, "a", "𝄞").await.unwrap());
    assert!(!store.name_device(user, "c", "none").await.unwrap());
    // Two at once, of which the later one was earlier: nothing goes back, and the name stays.
    for now_us in [99, 98] {
        store.see_device(user, "a", now_us).await.unwrap();
    }
    let seen = DeviceRow { name: "𝄞".into(), seen_us: 99, ..device(user, "a") };
    assert_eq!(store.devices_of(user).await.unwrap(), [seen, device(user, "b"), device(user, "ä")]);
    assert!(store.remove_device(user, "a").await.unwrap());
    assert!(!store.remove_device(user, "a").await.unwrap());
    assert!(!store.name_device(user, "a", "gone").await.unwrap());
    assert_eq!(store.devices_of(user).await.unwrap(), [device(user, "b"), device(user, "ä")]);
    assert_eq!(store.devices_of(other).await.unwrap(), [device(other, "a")]);
}

pub(crate) async fn devices_of_a_user_are_bounded_and_listed_whole(store: &Store) {
    let user = new_user();
    for number in 0..DEVICES_MAX {
        store.see_device(user, &format!("{number:03}"), 1).await.unwrap();
    }
    let refused = store.see_device(user, "more", 1).await;
    assert!(matches!(refused, Err(Error::Full { max: DEVICES_MAX, .. })), "{refused:?}");
    store.see_device(user, "000", 5).await.unwrap();
    assert_eq!(store.devices_of(user).await.unwrap().len(), DEVICES_MAX);
    assert!(store.remove_device(user, "000").await.unwrap());
    store.see_device(user, "more", 1).await.unwrap();
    assert_eq!(store.devices_of(user).await.unwrap().len(), DEVICES_MAX);
}

pub(crate) async fn a_block_holds_one_way_until_it_is_lifted(store: &Store) {
    let (user, other) = (new_user(), new_user());
    assert!(!store.is_blocked(user, other).await.unwrap());
    store.block(user, other).await.unwrap();
    store.block(user, other).await.unwrap();
    assert!(store.is_blocked(user, other).await.unwrap());
    assert!(!store.is_blocked(other, user).await.unwrap());
    assert_eq!(store.blocks_of(user, None, 10).await.unwrap(), [other]);
    store.unblock(user, other).await.unwrap();
    store.unblock(user, other).await.unwrap();
    assert!(!store.is_blocked(user, other).await.unwrap());
    assert!(store.blocks_of(user, None, 10).await.unwrap().is_empty());
}

/// Has `user` block `count` others, many at a time.
async fn block_many(store: &Store, user: UserId, count: usize) -> BTreeSet<UserId> {
    let others: Vec<_> = (0..count).map(|_| new_user()).collect();
    let mut blocks = Vec::new();
    for chunk in others.chunks(count.div_ceil(64)) {
        let (store, chunk) = (store.clone(), chunk.to_vec());
        blocks.push(tokio::spawn(async move {
            for other in chunk {
                store.block(user, other).await.unwrap();
            }
        }));
    }
    for block in blocks {
        block.await.unwrap();
    }
    others.into_iter().collect()
}

pub(crate) async fn ten_thousand_blocks_come_in_pages(store: &Store) {
    // The highest user id there is: no key lies behind its own.
    let user = UserId::new([0xff; 16]);
    let mut others = block_many(store, user, 9_998).await;
    for other in [UserId::new([0; 16]), UserId::new([0xff; 16])] {
        store.block(user, other).await.unwrap();
        others.insert(other);
    }
    let mut walked = Vec::new();
    loop {
        let page = store.blocks_of(user, walked.last().copied(), usize::MAX).await.unwrap();
        assert!(page.len() <= LIST_ROWS_MAX);
        let is_full = page.len() == LIST_ROWS_MAX;
        walked.extend(page);
        if !is_full {
            break;
        }
    }
    assert_eq!(walked, others.into_iter().collect::<Vec<_>>());
    store.erase_user(user).await.unwrap();
    assert!(store.blocks_of(user, None, 1).await.unwrap().is_empty());
}

pub(crate) async fn a_setting_is_written_only_over_the_expected_version(store: &Store) {
    let (user, chat) = (new_user(), new_chat(5));
    assert_eq!(store.chat_setting(user, chat).await.unwrap(), None);
    assert!(!store.put_chat_setting(setting(user, chat), 1).await.unwrap());
    assert!(store.put_chat_setting(setting(user, chat), 0).await.unwrap());
    assert_eq!(store.chat_setting(user, chat).await.unwrap(), Some(ChatSetting { version: 1, ..setting(user, chat) }));
    let writes: Vec<_> = (1..=16)
        .map(|muted_until_us| {
            let (store, row) = (store.clone(), ChatSetting { muted_until_us, archived: true, ..setting(user, chat) });
            tokio::spawn(async move { store.put_chat_setting(row, 1).await.unwrap().then_some(row) })
        })
        .collect();
    let mut landed = Vec::new();
    for write in writes {
        landed.extend(write.await.unwrap());
    }
    assert_eq!(landed.len(), 1, "{landed:?}");
    let stored = store.chat_setting(user, chat).await.unwrap();
    assert_eq!(stored, Some(ChatSetting { version: 2, ..landed[0] }));
}

pub(crate) async fn settings_come_in_pages_by_chat(store: &Store) {
    let user = new_user();
    let mut chats: Vec<_> = (0..20).map(|number| new_chat(40 - number)).collect();
    for chat in &chats {
        assert!(store.put_chat_setting(setting(user, *chat), 0).await.unwrap());
    }
    chats.sort();
    let of = async |after, limit| -> Vec<ChatId> {
        store.chat_settings_of(user, after, limit).await.unwrap().iter().map(|row| row.chat).collect()
    };
    assert_eq!(of(None, 100).await, chats);
    assert_eq!(of(None, 7).await, chats[..7]);
    assert_eq!(of(Some(chats[6]), 100).await, chats[7..]);
    assert!(of(Some(chats[19]), 100).await.is_empty());
}

pub(crate) async fn a_ticket_is_taken_once(store: &Store) {
    let row = ticket(new_user(), 1_000);
    assert_eq!(store.take_ticket(row.hash, 1).await.unwrap(), None);
    store.put_ticket(row.clone()).await.unwrap();
    let takes: Vec<_> = (0..24)
        .map(|_| {
            let (store, hash) = (store.clone(), row.hash);
            tokio::spawn(async move { store.take_ticket(hash, 999).await.unwrap() })
        })
        .collect();
    let mut taken = Vec::new();
    for take in takes {
        taken.extend(take.await.unwrap());
    }
    assert_eq!(taken, [row]);
}

pub(crate) async fn an_expired_ticket_is_none_and_gone(store: &Store) {
    let row = ticket(new_user(), 1_000);
    store.put_ticket(row.clone()).await.unwrap();
    assert_eq!(store.take_ticket(row.hash, 1_000).await.unwrap(), None);
    // Not even by a clock that goes back.
    assert_eq!(store.take_ticket(row.hash, 1).await.unwrap(), None);
}

pub(crate) async fn a_sweep_takes_the_expired_tickets_alone(store: &Store) {
    let user = new_user();
    let rows: Vec<_> = (1..=6).map(|number| ticket(user, number * 10)).collect();
    for row in &rows {
        store.put_ticket(row.clone()).await.unwrap();
    }
    // Put anew with another end: the old one is not swept in its stead.
    let renewed = TicketRow { expires_us: 1_000, ..rows[0].clone() };
    store.put_ticket(renewed.clone()).await.unwrap();
    assert_eq!(store.forget_tickets(40, 0).await.unwrap(), 0);
    assert_eq!(store.forget_tickets(40, 1).await.unwrap(), 1);
    assert_eq!(store.forget_tickets(40, 9).await.unwrap(), 1);
    assert_eq!(store.forget_tickets(40, 9).await.unwrap(), 0);
    assert_eq!(store.take_ticket(renewed.hash, 1).await.unwrap(), Some(renewed));
    for row in &rows[1..3] {
        assert_eq!(store.take_ticket(row.hash, 1).await.unwrap(), None);
    }
    for row in &rows[3..] {
        assert_eq!(store.take_ticket(row.hash, 1).await.unwrap().as_ref(), Some(row));
    }
}

pub(crate) async fn an_erased_user_keeps_row_and_handle_alone(store: &Store) {
    let (user, other, chat) = (new_user(), new_user(), new_chat(6));
    let handle = crate::rows::new_text("h");
    // More blocks than one step of an erasure takes, and families of both users.
    block_many(store, user, 1_100).await;
    let (own, foreign) = (new_family(), new_family());
    for (user, id) in [(user, own), (other, foreign)] {
        store.see_device(user, "d", 1).await.unwrap();
        assert!(store.put_refresh_family(family(user, id), 0).await.unwrap());
        store.block(user, other).await.unwrap();
        assert!(store.put_chat_setting(setting(user, chat), 0).await.unwrap());
        store.claim_send(send_claim(user, "k", SEND_CLAIM_KEPT_US)).await.unwrap();
        assert!(store.put_user(user_row(user, "a"), 0).await.unwrap());
    }
    store.claim_handle(&handle, user).await.unwrap();
    store.erase_user(user).await.unwrap();
    assert!(store.devices_of(user).await.unwrap().is_empty());
    assert!(store.refresh_families_of(user).await.unwrap().is_empty());
    assert_eq!(store.refresh_family(own).await.unwrap(), None);
    assert!(store.blocks_of(user, None, 10).await.unwrap().is_empty());
    assert!(store.chat_settings_of(user, None, 10).await.unwrap().is_empty());
    let anew = |user| SendClaim { n: 88, ..send_claim(user, "k", SEND_CLAIM_KEPT_US) };
    assert_eq!(store.claim_send(anew(user)).await.unwrap(), anew(user));
    assert!(store.user(user).await.unwrap().is_some());
    assert_eq!(store.user_of_handle(&handle).await.unwrap(), Some(user));
    // The other one has all that was there.
    assert_eq!(store.devices_of(other).await.unwrap().len(), 1);
    assert_eq!(store.refresh_families_of(other).await.unwrap().len(), 1);
    assert!(store.refresh_family(foreign).await.unwrap().is_some());
    assert_eq!(store.blocks_of(other, None, 10).await.unwrap(), [other]);
    assert_eq!(store.chat_settings_of(other, None, 10).await.unwrap().len(), 1);
    assert_ne!(store.claim_send(anew(other)).await.unwrap(), anew(other));
    // Again, and with nothing there, it changes nothing.
    store.erase_user(user).await.unwrap();
    store.erase_user(new_user()).await.unwrap();
}

pub(crate) async fn belongings_beyond_their_bounds_are_refused(store: &Store) {
    fn is_length<T>(refused: Result<T, Error>) -> bool {
        matches!(refused, Err(Error::Length { .. }))
    }
    let user = new_user();
    let long = |max: usize| -> Box<str> { "x".repeat(max + 1).into() };
    for device_id in ["".into(), long(DEVICE_BYTES_MAX)] {
        assert!(is_length(store.see_device(user, &device_id, 1).await));
        assert!(is_length(store.remove_device(user, &device_id).await));
    }
    assert!(is_length(store.put_ticket(TicketRow { device: long(DEVICE_BYTES_MAX), ..ticket(user, 9) }).await));
    assert!(is_length(store.name_device(user, "d", &long(DEVICE_NAME_BYTES_MAX)).await));
    assert!(is_length(store.put_ticket(TicketRow { sign_in: long(SIGN_IN_BYTES_MAX), ..ticket(user, 9) }).await));
    let longest: String = "x".repeat(DEVICE_BYTES_MAX);
    store.see_device(user, &longest, 1).await.unwrap();
    assert_eq!(store.devices_of(user).await.unwrap(), [device(user, &longest)]);
}
