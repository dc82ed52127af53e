//! Invites: counted once a user, never beyond their bound, and gone whole.

use std::collections::BTreeSet;

use domain::UserId;
use store::{Error, INVITE_USES_MAX, INVITES_MAX, InviteRow, InviteUse, Store};

use crate::rows::{invite, invite_use, new_chat, new_user};

pub(crate) async fn an_invite_comes_back_whole_and_is_listed(store: &Store) {
    let (chat, other) = (new_chat(5), new_chat(5));
    let (one, two, elsewhere) =
        (invite(chat, new_user(), 90, 3), invite(chat, new_user(), 80, 1), invite(other, new_user(), 90, 3));
    assert_eq!(store.invite(one.hash).await.unwrap(), None);
    for row in [&one, &two, &elsewhere] {
        assert!(store.put_invite(row.clone()).await.unwrap());
    }
    // A hash is taken once, whoever comes with it.
    assert!(!store.put_invite(InviteRow { chat: other, uses_max: 9, ..one.clone() }).await.unwrap());
    assert_eq!(store.invite(one.hash).await.unwrap().as_ref(), Some(&one));
    assert_eq!(store.invites_of(chat).await.unwrap(), [one, two]);
    assert_eq!(store.invites_of(other).await.unwrap(), [elsewhere]);
    assert!(store.invites_of(new_chat(5)).await.unwrap().is_empty());
}

pub(crate) async fn of_twenty_users_at_once_an_invite_for_five_takes_five(store: &Store) {
    let row = invite(new_chat(5), new_user(), 90, 5);
    assert!(store.put_invite(row.clone()).await.unwrap());
    let uses: Vec<_> = (0..20)
        .map(|origin| {
            let (store, proposed) = (store.clone(), invite_use(&row, new_user(), origin));
            tokio::spawn(async move {
                let used = store.use_invite(proposed).await.unwrap();
                assert!(used.is_none_or(|used| used == proposed));
                used.map(|used| used.user)
            })
        })
        .collect();
    let mut users = BTreeSet::new();
    for used in uses {
        users.extend(used.await.unwrap());
    }
    assert_eq!(users.len(), 5);
    assert_eq!(store.invite(row.hash).await.unwrap(), Some(InviteRow { uses: 5, ..row }));
}

pub(crate) async fn a_user_is_counted_once_and_keeps_the_first_use(store: &Store) {
    let (row, user) = (invite(new_chat(5), new_user(), 90, 2), new_user());
    assert!(store.put_invite(row.clone()).await.unwrap());
    assert_eq!(store.invite_use(row.hash, user).await.unwrap(), None);
    let uses: Vec<_> = (1..=16)
        .map(|origin| {
            let (store, proposed) = (store.clone(), invite_use(&row, user, origin));
            tokio::spawn(async move { store.use_invite(proposed).await.unwrap().unwrap().origin })
        })
        .collect();
    let mut origins = BTreeSet::new();
    for used in uses {
        origins.insert(used.await.unwrap());
    }
    assert_eq!(origins.len(), 1, "all of them are one command");
    assert_eq!(store.invite(row.hash).await.unwrap().unwrap().uses, 1);
    // Also when nobody else is let in any more.
    let first = store.invite_use(row.hash, user).await.unwrap().unwrap();
    let late = |user, origin| InviteUse { at_us: 90, ..invite_use(&row, user, origin) };
    assert_eq!(store.use_invite(late(user, 77)).await.unwrap(), Some(first));
    assert_eq!(store.use_invite(late(new_user(), 78)).await.unwrap(), None, "it has ended");
    let just_before = InviteUse { at_us: 89, ..invite_use(&row, new_user(), 79) };
    assert!(store.use_invite(just_before).await.unwrap().is_some());
    assert_eq!(store.use_invite(invite_use(&row, new_user(), 80)).await.unwrap(), None, "it is used up");
}

pub(crate) async fn a_removed_invite_is_gone_with_its_uses(store: &Store) {
    let (chat, user) = (new_chat(5), new_user());
    let (row, other) = (invite(chat, new_user(), 90, INVITE_USES_MAX), invite(chat, new_user(), 90, 2));
    for row in [&row, &other] {
        assert!(store.put_invite(row.clone()).await.unwrap());
        store.use_invite(invite_use(row, user, 1)).await.unwrap().unwrap();
    }
    let users: Vec<_> = (1..INVITE_USES_MAX).map(|_| new_user()).collect();
    let uses = users.chunks(64).map(|users| {
        let (store, row, users) = (store.clone(), row.clone(), users.to_vec());
        tokio::spawn(async move {
            for user in users {
                store.use_invite(invite_use(&row, user, 2)).await.unwrap().unwrap();
            }
        })
    });
    for uses in uses.collect::<Vec<_>>() {
        uses.await.unwrap();
    }
    assert_eq!(store.use_invite(invite_use(&row, new_user(), 3)).await.unwrap(), None);
    assert!(store.remove_invite(row.hash).await.unwrap());
    assert!(!store.remove_invite(row.hash).await.unwrap());
    assert_eq!(store.invite(row.hash).await.unwrap(), None);
    assert_eq!(store.use_invite(invite_use(&row, user, 4)).await.unwrap(), None);
    for user in [user, users[0], users[998]] {
        assert_eq!(store.invite_use(row.hash, user).await.unwrap(), None);
    }
    assert_eq!(store.invites_of(chat).await.unwrap(), [InviteRow { uses: 1, ..other.clone() }]);
    assert!(store.invite_use(other.hash, user).await.unwrap().is_some());
}

pub(crate) async fn invites_of_a_chat_are_bounded_and_listed_whole(store: &Store) {
    let (chat, user) = (new_chat(5), new_user());
    for _ in 0..INVITES_MAX {
        assert!(store.put_invite(invite(chat, user, 90, 1)).await.unwrap());
    }
    let refused = store.put_invite(invite(chat, user, 90, 1)).await;
    assert!(matches!(refused, Err(Error::Full { max: INVITES_MAX, .. })), "{refused:?}");
    let listed = store.invites_of(chat).await.unwrap();
    assert_eq!(listed.len(), INVITES_MAX);
    assert!(store.remove_invite(listed[7].hash).await.unwrap());
    assert!(store.put_invite(invite(chat, user, 90, 1)).await.unwrap());
    for uses_max in [0, INVITE_USES_MAX + 1] {
        let refused = store.put_invite(invite(new_chat(5), user, 90, uses_max)).await;
        assert!(matches!(refused, Err(Error::Length { .. })), "{refused:?}");
    }
}

pub(crate) async fn invites_of_a_maker_come_in_pages_and_go_with_them(store: &Store) {
    let (maker, other) = (new_user(), new_user());
    let made: Vec<_> = (0..7).map(|_| invite(new_chat(5), maker, 90, 3)).collect();
    let foreign = invite(made[0].chat, other, 90, 3);
    for row in made.iter().chain([&foreign]) {
        assert!(store.put_invite(row.clone()).await.unwrap());
    }
    // Whoever comes with a hash that is taken has made nothing.
    assert!(!store.put_invite(InviteRow { inviter: other, ..made[1].clone() }).await.unwrap());
    let listed = async |maker| {
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let page = store.invites_by(maker, after, 2).await.unwrap();
            after = page.last().map(|row| row.hash);
            let is_last = page.len() < 2;
            all.extend(page);
            if is_last {
                return all;
            }
        }
    };
    let sorted = |mut rows: Vec<InviteRow>| {
        rows.sort_by_key(|row| row.hash);
        rows
    };
    assert_eq!(listed(maker).await, sorted(made.clone()));
    assert_eq!(listed(other).await, std::slice::from_ref(&foreign));
    assert!(store.remove_invite(made[3].hash).await.unwrap());
    assert_eq!(listed(maker).await.len(), 6);
    assert_eq!(store.invites_by(maker, None, 0).await.unwrap().len(), 1, "at least one");
    // Of what is removed with its maker, the uses go too; of others nothing does.
    let used = invite_use(&made[0], new_user(), 1);
    store.use_invite(used).await.unwrap().unwrap();
    store.erase_user(maker).await.unwrap();
    assert!(listed(maker).await.is_empty());
    for row in &made {
        assert_eq!(store.invite(row.hash).await.unwrap(), None);
        assert!(store.invites_of(row.chat).await.unwrap().iter().all(|row| row.inviter == other));
    }
    assert_eq!(store.invite_use(used.hash, used.user).await.unwrap(), None);
    assert_eq!(store.use_invite(InviteUse { user: new_user(), ..used }).await.unwrap(), None);
    assert_eq!(listed(other).await, [foreign]);
    store.erase_user(maker).await.unwrap();
}

pub(crate) async fn ended_invites_are_named_the_oldest_first(store: &Store) {
    // Ends that no other test comes near.
    let rows: Vec<_> = [3, 1, 2].map(|end| invite(new_chat(5), UserId::new([1; 16]), end, 1)).into();
    for row in &rows {
        assert!(store.put_invite(row.clone()).await.unwrap());
    }
    assert_eq!(store.invites_ended_before(3, 9).await.unwrap(), [rows[1].hash, rows[2].hash]);
    assert_eq!(store.invites_ended_before(4, 1).await.unwrap(), [rows[1].hash]);
    assert!(store.remove_invite(rows[1].hash).await.unwrap());
    assert_eq!(store.invites_ended_before(4, 9).await.unwrap(), [rows[2].hash, rows[0].hash]);
    assert!(store.invites_ended_before(2, 9).await.unwrap().is_empty());
}
