//! Accounts: users, handles, refresh families and send claims.

use domain::UserId;
use store::{
    Error, HANDLE_BYTES_MAX, IDEMPOTENCY_KEY_BYTES_MAX, LIST_ROWS_MAX, PASSWORD_BYTES_MAX, REFRESH_FAMILIES_MAX,
    RefreshFamily, SEND_CLAIM_KEPT_US, SPENT_MAX, SendClaim, SendOutcome, Spent, Store, UserRow, UserState,
};

use crate::rows::{family, new_chat, new_family, new_text, new_user, send_claim, user_row};

pub(crate) async fn a_user_comes_back_whole_with_its_version(store: &Store) {
    let user = new_user();
    assert_eq!(store.user(user).await.unwrap(), None);
    let row =
        UserRow { avatar: "p/1".into(), state: UserState::Banned, version: 77, ..user_row(user, "Ärger €𝄞") };
    assert!(store.put_user(row.clone(), 0).await.unwrap());
    assert_eq!(store.user(user).await.unwrap(), Some(UserRow { version: 1, ..row.clone() }));
    assert!(store.put_user(UserRow { password: "".into(), ..row.clone() }, 1).await.unwrap());
    assert_eq!(store.user(user).await.unwrap(), Some(UserRow { version: 2, password: "".into(), ..row }));
}

pub(crate) async fn a_user_is_written_only_over_the_expected_version(store: &Store) {
    let user = new_user();
    assert!(!store.put_user(user_row(user, "early"), 1).await.unwrap());
    assert_eq!(store.user(user).await.unwrap(), None);
    assert!(store.put_user(user_row(user, "one"), 0).await.unwrap());
    for expected in [0, 2, u64::MAX] {
        assert!(!store.put_user(user_row(user, "no"), expected).await.unwrap());
    }
    assert_eq!(store.user(user).await.unwrap(), Some(UserRow { version: 1, ..user_row(user, "one") }));
}

pub(crate) async fn users_who_leave_are_listed_until_their_row_says_otherwise(store: &Store) {
    let (one, two) = (new_user(), new_user());
    let listed = async |user| store.leaving_users(LIST_ROWS_MAX).await.unwrap().contains(&user);
    let leaving = |user| UserRow { state: UserState::Leaving, ..user_row(user, "gone") };
    for user in [one, two] {
        assert!(store.put_user(user_row(user, "here"), 0).await.unwrap());
        assert!(!listed(user).await);
        assert!(!store.put_user(leaving(user), 9).await.unwrap());
        assert!(!listed(user).await, "a write that is not done leaves no trace");
        assert!(store.put_user(leaving(user), 1).await.unwrap());
        assert!(listed(user).await);
    }
    assert_eq!(store.leaving_users(1).await.unwrap().len(), 1);
    assert!(store.put_user(UserRow { state: UserState::Deleted, ..user_row(one, "") }, 2).await.unwrap());
    assert_eq!((listed(one).await, listed(two).await), (false, true));
    assert_eq!(store.user(two).await.unwrap().unwrap().state, UserState::Leaving);
}

pub(crate) async fn of_many_writes_with_one_expected_version_exactly_one_lands(store: &Store) {
    let user = new_user();
    for expected in 0..8 {
        let writes: Vec<_> = (0..24)
            .map(|turn| {
                let (store, row) = (store.clone(), user_row(user, &format!("{expected} {turn}")));
                tokio::spawn(async move { store.put_user(row.clone(), expected).await.unwrap().then_some(row) })
            })
            .collect();
        let mut landed = Vec::new();
        for write in writes {
            landed.extend(write.await.unwrap());
        }
        assert_eq!(landed.len(), 1, "{landed:?}");
        let stored = store.user(user).await.unwrap().unwrap();
        assert_eq!(stored, UserRow { version: expected + 1, ..landed.remove(0) });
    }
}

pub(crate) async fn a_counter_by_compare_and_set_loses_no_step(store: &Store) {
    let user = new_user();
    assert!(store.put_user(UserRow { created_us: 0, ..user_row(user, "0") }, 0).await.unwrap());
    let callers: Vec<_> = (0..8)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move {
                let mut steps = 0;
                while steps < 10 {
                    let row = store.user(user).await.unwrap().unwrap();
                    let expected = row.version;
                    let next = UserRow { created_us: row.created_us + 1, ..row };
                    steps += u64::from(store.put_user(next, expected).await.unwrap());
                }
            })
        })
        .collect();
    for caller in callers {
        caller.await.unwrap();
    }
    let row = store.user(user).await.unwrap().unwrap();
    assert_eq!((row.created_us, row.version), (80, 81));
}

pub(crate) async fn a_handle_belongs_to_whoever_claimed_it_first(store: &Store) {
    let (one, two, handle) = (new_user(), new_user(), new_text("h"));
    assert_eq!(store.user_of_handle(&handle).await.unwrap(), None);
    assert_eq!(store.claim_handle(&handle, one).await.unwrap(), one);
    assert_eq!(store.claim_handle(&handle, two).await.unwrap(), one);
    assert_eq!(store.claim_handle(&handle, one).await.unwrap(), one);
    assert_eq!(store.user_of_handle(&handle).await.unwrap(), Some(one));
}

pub(crate) async fn of_many_claims_of_one_handle_exactly_one_wins(store: &Store) {
    // Many handles, so that claims of one wait together while those of another are written.
    let mut races = Vec::new();
    for _ in 0..12 {
        let handle = new_text("race");
        let claims: Vec<_> = (0..16)
            .map(|_| {
                let (store, user, handle) = (store.clone(), new_user(), handle.clone());
                tokio::spawn(async move { (user, store.claim_handle(&handle, user).await.unwrap()) })
            })
            .collect();
        races.push((handle, claims));
    }
    for (handle, claims) in races {
        let mut answers = Vec::new();
        for claim in claims {
            answers.push(claim.await.unwrap());
        }
        let owner = store.user_of_handle(&handle).await.unwrap().unwrap();
        assert!(answers.iter().all(|(_, told)| *told == owner), "{answers:?}");
        assert_eq!(answers.iter().filter(|(user, told)| user == told).count(), 1);
    }
}

pub(crate) async fn a_handle_is_given_up_only_by_its_owner(store: &Store) {
    let (one, two, handle) = (new_user(), new_user(), new_text("h"));
    assert!(!store.release_handle(&handle, one).await.unwrap());
    store.claim_handle(&handle, one).await.unwrap();
    assert!(!store.release_handle(&handle, two).await.unwrap());
    assert_eq!(store.user_of_handle(&handle).await.unwrap(), Some(one));
    assert!(store.release_handle(&handle, one).await.unwrap());
    assert_eq!(store.user_of_handle(&handle).await.unwrap(), None);
    assert!(!store.release_handle(&handle, one).await.unwrap());
    assert_eq!(store.claim_handle(&handle, two).await.unwrap(), two);
}

async fn claimed(store: &Store, handles: &[String]) -> Vec<(Box<str>, UserId)> {
    let mut claimed = Vec::new();
    for handle in handles {
        let user = new_user();
        assert_eq!(store.claim_handle(handle, user).await.unwrap(), user);
        claimed.push((handle.as_str().into(), user));
    }
    claimed
}

pub(crate) async fn handles_are_listed_by_prefix_in_the_order_of_their_bytes(store: &Store) {
    let base = new_text("p");
    // One, two, three and four bytes a character, and the highest character there is.
    let highest = format!("{base}\u{10ffff}");
    let ends = ["", "a", "ab", "az", "b", "ä", "äb", "€", "𝄞", "\u{10ffff}", "\u{10ffff}\u{10ffff}"];
    let mut all = claimed(store, &ends.map(|end| format!("{base}{end}"))).await;
    // A neighbour that only begins alike, and one that sorts behind all of them.
    claimed(store, &[base[..base.len() - 1].to_owned(), format!("{}\u{10ffff}", &base[..base.len() - 1])]).await;
    all.sort();
    let list = async |prefix: &str, after: Option<&str>, limit| store.handles(prefix, after, limit).await.unwrap();
    assert_eq!(list(&base, None, 100).await, all);
    assert_eq!(list(&format!("{base}ä"), None, 100).await.len(), 2);
    assert_eq!(list(&highest, None, 100).await, all[9..]);
    assert_eq!(list(&highest, Some(&highest), 100).await, all[10..]);
    assert!(list(&format!("{base}c"), None, 100).await.is_empty());
    // An `after` of a lower place leaves all, one of a higher place none.
    assert_eq!(list(&base, Some("\u{1}"), 100).await, all);
    assert!(list(&base, Some("\u{10ffff}\u{10ffff}"), 100).await.is_empty());
    let mut walked: Vec<(Box<str>, UserId)> = Vec::new();
    loop {
        let page = list(&base, walked.last().map(|(handle, _)| &**handle), 3).await;
        let is_full = page.len() == 3;
        walked.extend(page);
        if !is_full {
            break;
        }
    }
    assert_eq!(walked, all);
    // A limit of nothing is one, and one beyond the bound is cut to it.
    assert_eq!(list(&base, None, 0).await, all[..1]);
    assert!(list(&base, None, usize::MAX).await.len() <= LIST_ROWS_MAX);
    let nothing = store.handles("", None, 10).await;
    assert!(matches!(nothing, Err(Error::Length { .. })), "{nothing:?}");
}

pub(crate) async fn a_refresh_family_comes_back_whole_and_is_listed(store: &Store) {
    let (user, id) = (new_user(), new_family());
    assert_eq!(store.refresh_family(id).await.unwrap(), None);
    assert!(store.refresh_families_of(user).await.unwrap().is_empty());
    let spent = (0..SPENT_MAX).map(|number| Spent { hash: [number as u8; 32], at_us: number as u64 }).collect();
    let row = RefreshFamily { spent, version: 9, ..family(user, id) };
    assert!(store.put_refresh_family(row.clone(), 0).await.unwrap());
    let row = RefreshFamily { version: 1, ..row };
    assert_eq!(store.refresh_family(id).await.unwrap(), Some(row.clone()));
    assert_eq!(store.refresh_families_of(user).await.unwrap(), [row]);
}

pub(crate) async fn a_refresh_family_is_written_only_over_the_expected_version(store: &Store) {
    let (user, id) = (new_user(), new_family());
    assert!(!store.put_refresh_family(family(user, id), 1).await.unwrap());
    assert!(store.refresh_families_of(user).await.unwrap().is_empty());
    assert!(store.put_refresh_family(family(user, id), 0).await.unwrap());
    // Two at once use one token: one of them gets the next.
    let uses: Vec<_> = (1..=16)
        .map(|live| {
            let (store, row) = (store.clone(), RefreshFamily { live: [live; 32], ..family(user, id) });
            tokio::spawn(async move { store.put_refresh_family(row.clone(), 1).await.unwrap().then_some(row) })
        })
        .collect();
    let mut landed = Vec::new();
    for done in uses {
        landed.extend(done.await.unwrap());
    }
    assert_eq!(landed.len(), 1, "{landed:?}");
    let stored = RefreshFamily { version: 2, ..landed.remove(0) };
    assert_eq!(store.refresh_families_of(user).await.unwrap(), [stored]);
}

pub(crate) async fn a_refresh_family_never_changes_its_user(store: &Store) {
    let (user, other, id) = (new_user(), new_user(), new_family());
    assert!(store.put_refresh_family(family(user, id), 0).await.unwrap());
    assert!(!store.put_refresh_family(family(other, id), 1).await.unwrap());
    assert_eq!(store.refresh_families_of(user).await.unwrap().len(), 1);
    assert!(store.refresh_families_of(other).await.unwrap().is_empty());
}

pub(crate) async fn a_refresh_family_is_removed_once(store: &Store) {
    let (user, id, kept) = (new_user(), new_family(), new_family());
    assert!(store.put_refresh_family(family(user, id), 0).await.unwrap());
    assert!(store.put_refresh_family(family(user, kept), 0).await.unwrap());
    let removals: Vec<_> = (0..16)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move { store.remove_refresh_family(id).await.unwrap() })
        })
        .collect();
    let mut removed = Vec::new();
    for removal in removals {
        removed.extend(removal.await.unwrap());
    }
    assert_eq!(removed, [RefreshFamily { version: 1, ..family(user, id) }]);
    assert_eq!(store.refresh_family(id).await.unwrap(), None);
    assert_eq!(store.refresh_families_of(user).await.unwrap(), [RefreshFamily { version: 1, ..family(user, kept) }]);
    // A token that is used late does not bring it back.
    assert!(!store.put_refresh_family(family(user, id), 1).await.unwrap());
    assert_eq!(store.refresh_families_of(user).await.unwrap().len(), 1);
}

pub(crate) async fn families_of_a_user_are_bounded_and_listed_whole(store: &Store) {
    // The highest user id there is: no key lies behind its own.
    let user = UserId::new([0xff; 16]);
    // More at once than there is room for.
    let puts: Vec<_> = (0..REFRESH_FAMILIES_MAX + 9)
        .map(|_| {
            let (store, id) = (store.clone(), new_family());
            tokio::spawn(async move { (id, store.put_refresh_family(family(user, id), 0).await) })
        })
        .collect();
    let mut there = Vec::new();
    let mut refused = Vec::new();
    for put in puts {
        match put.await.unwrap() {
            (id, Ok(true)) => there.push(id),
            (id, Err(Error::Full { max: REFRESH_FAMILIES_MAX, .. })) => refused.push(id),
            other => panic!("{other:?}"),
        }
    }
    there.sort_unstable();
    let listed = async || -> Vec<_> {
        store.refresh_families_of(user).await.unwrap().iter().map(|family| family.family).collect()
    };
    assert_eq!(there.len(), REFRESH_FAMILIES_MAX);
    assert_eq!(listed().await, there);
    // One that is there may go on, and room that was made is room.
    assert!(store.put_refresh_family(family(user, there[0]), 1).await.unwrap());
    store.remove_refresh_family(there[0]).await.unwrap().unwrap();
    assert!(store.put_refresh_family(family(user, refused[0]), 0).await.unwrap());
    assert_eq!(store.refresh_family(refused[1]).await.unwrap(), None);
    for id in listed().await {
        store.remove_refresh_family(id).await.unwrap().unwrap();
    }
    assert!(listed().await.is_empty());
}

pub(crate) async fn a_send_claim_is_fixed_for_a_day(store: &Store) {
    let (user, key) = (new_user(), new_text("k"));
    let first = SendClaim { fingerprint: u128::MAX - 5, ..send_claim(user, &key, SEND_CLAIM_KEPT_US * 3) };
    assert_eq!(store.claim_send(first.clone()).await.unwrap(), first);
    let at = |at_us| SendClaim { chat: new_chat(4), n: at_us, ..send_claim(user, &key, at_us) };
    // Again, later, a whole day later, and by a clock that went back.
    for at_us in [first.at_us, first.at_us + 1, first.at_us + SEND_CLAIM_KEPT_US, 0] {
        assert_eq!(store.claim_send(at(at_us)).await.unwrap(), first);
    }
    let next = at(first.at_us + SEND_CLAIM_KEPT_US + 1);
    assert_eq!(store.claim_send(next.clone()).await.unwrap(), next);
    assert_eq!(store.claim_send(at(first.at_us)).await.unwrap(), next);
}

pub(crate) async fn of_many_claims_of_one_key_exactly_one_wins(store: &Store) {
    let (user, key) = (new_user(), new_text("k"));
    // First none is there, then an old one.
    for day in [1, 3] {
        let claims: Vec<_> = (0..24)
            .map(|n| {
                let (store, own) = (store.clone(), SendClaim { n, ..send_claim(user, &key, day * SEND_CLAIM_KEPT_US) });
                tokio::spawn(async move { (store.claim_send(own.clone()).await.unwrap(), own) })
            })
            .collect();
        let mut answers = Vec::new();
        for claim in claims {
            answers.push(claim.await.unwrap());
        }
        assert_eq!(answers[0].0.at_us, day * SEND_CLAIM_KEPT_US);
        assert!(answers.iter().all(|(told, _)| *told == answers[0].0), "{answers:?}");
        assert_eq!(answers.iter().filter(|(told, own)| told == own).count(), 1);
    }
}

pub(crate) async fn keys_of_two_users_are_apart(store: &Store) {
    let (one, two) =
        (send_claim(new_user(), "same", SEND_CLAIM_KEPT_US), send_claim(new_user(), "same", SEND_CLAIM_KEPT_US));
    assert_eq!(store.claim_send(one.clone()).await.unwrap(), one);
    assert_eq!(store.claim_send(two.clone()).await.unwrap(), two);
    // A key that another one begins with is another key.
    let longer = SendClaim { key: "same ".into(), n: 9, ..one };
    assert_eq!(store.claim_send(longer.clone()).await.unwrap(), longer);
}

pub(crate) async fn what_was_stored_is_never_noted_as_rejected(store: &Store) {
    use SendOutcome::{Rejected, Stored, Unknown};
    let (user, claim) = (new_user(), |user| send_claim(user, "k", SEND_CLAIM_KEPT_US));
    let rejected = Rejected { code: 22 };
    let stored = Stored { chat: new_chat(5), seq: 7, time: 9 };
    assert_eq!(store.send_claim(user, "k").await.unwrap(), None);
    assert!(!store.settle_send(user, "k", 5, rejected).await.unwrap(), "there is no claim");
    store.claim_send(claim(user)).await.unwrap();
    assert_eq!(store.send_claim(user, "k").await.unwrap(), Some(claim(user)));
    assert!(!store.settle_send(user, "k", 99, rejected).await.unwrap(), "of another command");
    let steps = [
        (rejected, true, rejected),
        (Unknown, false, rejected),
        (Rejected { code: 23 }, true, Rejected { code: 23 }),
        (stored, true, stored),
        (rejected, false, stored),
        (stored, true, stored),
    ];
    for (said, is_so, outcome) in steps {
        assert_eq!(store.settle_send(user, "k", 5, said).await.unwrap(), is_so, "{said:?}");
        assert_eq!(store.send_claim(user, "k").await.unwrap(), Some(SendClaim { outcome, ..claim(user) }));
    }
    let again = store.claim_send(claim(user)).await.unwrap();
    assert_eq!(again.outcome, stored, "told to who asks again");
    // One that takes its place a day later begins anew.
    let later = SendClaim { origin: 6, ..send_claim(user, "k", 3 * SEND_CLAIM_KEPT_US) };
    assert_eq!(store.claim_send(later).await.unwrap().outcome, Unknown);
}

pub(crate) async fn a_sweep_takes_the_old_send_claims_alone(store: &Store) {
    let user = new_user();
    // Before all of the other tests' claims.
    for at_us in 1..=10 {
        store.claim_send(send_claim(user, &format!("k{at_us}"), at_us * 10)).await.unwrap();
    }
    // Used anew after a day: its old time is not swept in its stead.
    let renewed = send_claim(user, "k1", SEND_CLAIM_KEPT_US + 11);
    assert_eq!(store.claim_send(renewed.clone()).await.unwrap(), renewed);
    assert_eq!(store.forget_send_claims(60, 0).await.unwrap(), 0);
    assert_eq!(store.forget_send_claims(60, 3).await.unwrap(), 3);
    // Two at once: each claim is counted once.
    let (a, b) = tokio::join!(store.forget_send_claims(60, 10), store.forget_send_claims(60, 10));
    assert_eq!(a.unwrap() + b.unwrap(), 1);
    assert_eq!(store.forget_send_claims(60, 10).await.unwrap(), 0);
    for at_us in 1..=10 {
        let again = SendClaim { n: 77, ..send_claim(user, &format!("k{at_us}"), at_us * 10) };
        let is_swept = (2..6).contains(&at_us);
        assert_eq!(store.claim_send(again.clone()).await.unwrap() == again, is_swept, "claim {at_us}");
    }
}

pub(crate) async fn a_sweep_takes_the_ended_families_alone(store: &Store) {
    let user = new_user();
    // Ended before all of the other tests' families.
    let families: Vec<_> =
        (1..=10).map(|n| RefreshFamily { expires_us: n * 10, ..family(user, new_family()) }).collect();
    for family in &families {
        assert!(store.put_refresh_family(family.clone(), 0).await.unwrap());
    }
    // Used since: its old end is not swept in its stead. Ended by hand: nothing is left to count.
    let used = RefreshFamily { expires_us: 1_000, ..families[0].clone() };
    assert!(store.put_refresh_family(used, 1).await.unwrap());
    assert!(store.remove_refresh_family(families[1].family).await.unwrap().is_some());
    assert_eq!(store.forget_refresh_families(70, 0).await.unwrap(), 0);
    assert_eq!(store.forget_refresh_families(70, 2).await.unwrap(), 2);
    // Two at once: each family is counted once.
    let (a, b) = tokio::join!(store.forget_refresh_families(70, 10), store.forget_refresh_families(70, 10));
    assert_eq!(a.unwrap() + b.unwrap(), 2);
    assert_eq!(store.forget_refresh_families(70, 10).await.unwrap(), 0);
    for (n, family) in families.iter().enumerate() {
        let is_gone = (1..6).contains(&n);
        assert_eq!(store.refresh_family(family.family).await.unwrap().is_none(), is_gone, "family {n}");
    }
    assert_eq!(store.refresh_families_of(user).await.unwrap().len(), 5, "and those of the user are as many");
    store.erase_user(user).await.unwrap();
    assert_eq!(store.forget_refresh_families(1_001, 10).await.unwrap(), 0, "erased with their index");
}

pub(crate) async fn texts_beyond_their_bounds_are_refused(store: &Store) {
    fn is_length<T>(refused: Result<T, Error>) -> bool {
        matches!(refused, Err(Error::Length { .. }))
    }
    let user = new_user();
    let long = |max: usize| -> Box<str> { "x".repeat(max + 1).into() };
    let row = user_row(user, "me");
    assert!(is_length(store.put_user(UserRow { password: long(PASSWORD_BYTES_MAX), ..row.clone() }, 0).await));
    assert!(is_length(store.put_user(UserRow { handle: long(HANDLE_BYTES_MAX), ..row.clone() }, 0).await));
    assert!(store.put_user(UserRow { password: "x".repeat(PASSWORD_BYTES_MAX).into(), ..row }, 0).await.unwrap());
    for handle in ["", &long(HANDLE_BYTES_MAX)] {
        assert!(is_length(store.claim_handle(handle, user).await));
        assert!(is_length(store.release_handle(handle, user).await));
        assert!(is_length(store.user_of_handle(handle).await));
        assert!(is_length(store.handles(handle, None, 1).await));
    }
    for key in ["".into(), long(IDEMPOTENCY_KEY_BYTES_MAX)] {
        assert!(is_length(store.claim_send(SendClaim { key, ..send_claim(user, "k", 1) }).await));
    }
    let longest = "x".repeat(IDEMPOTENCY_KEY_BYTES_MAX);
    store.claim_send(send_claim(user, &longest, SEND_CLAIM_KEPT_US)).await.unwrap();
    let spent = vec![Spent { hash: [1; 32], at_us: 1 }; SPENT_MAX + 1];
    let row = family(user, new_family());
    assert!(is_length(store.put_refresh_family(RefreshFamily { spent, ..row.clone() }, 0).await));
    assert!(is_length(store.put_refresh_family(RefreshFamily { device: "".into(), ..row }, 0).await));
    assert!(store.refresh_families_of(user).await.unwrap().is_empty());
}
