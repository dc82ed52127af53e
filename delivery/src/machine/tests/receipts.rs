//! Watermarks: merged, clamped, published once, echoed once written, told to senders.

use proptest::prelude::*;

use bytes::Bytes;

use super::*;

/// A chat of users 1, 2, 3 with messages 2 and 3 of user 1 and 4 of user 3; 1, 2 and 3 are online.
fn rig() -> (Rig, Chat) {
    let mut rig = Rig::new(Rules::ALL);
    rig.online(G1, 1, &[1, 2, 3]);
    let mut chat = Chat::new(1);
    let entries = [chat.created(&[1, 2, 3]), chat.message(1), chat.message(1), chat.message(3)];
    rig.record(&entries);
    rig.take();
    (rig, chat)
}

fn marks(statuses: &[StatusAdvanced]) -> Vec<(Seq, Seq, u64)> {
    statuses.iter().map(|status| (status.delivered, status.seen, status.seen_ordinal)).collect()
}

#[test]
fn a_receipt_ticks_the_senders_at_once_and_is_echoed_once_written() {
    let (mut rig, chat) = rig();
    rig.receipt(chat.id, 2, 4, 3);
    let seen = rig.take();
    assert_eq!(marks(&seen.statuses[0]), [(4, 3, 2)], "the ordinal at the seen entry comes from the ring");
    assert_eq!(seen.watermarks(), [(101, user(2), 4, 3), (103, user(2), 4, 3)], "ticks, and no echo (M20)");
    rig.feed(Input::Written { epoch: Epoch(1), statuses: 9 });
    assert!(rig.take().batches.is_empty(), "of another epoch");
    rig.written();
    assert_eq!(rig.take().watermarks(), [(102, user(2), 4, 3)]);
}

#[test]
fn without_m20_the_echo_precedes_the_table() {
    let mut rig = Rig::new(Rules::without("m20").unwrap());
    rig.online(G1, 1, &[2]);
    let mut chat = Chat::new(1);
    let entries = [chat.created(&[1, 2]), chat.message(1)];
    rig.record(&entries);
    rig.take();
    rig.receipt(chat.id, 2, 2, 2);
    assert_eq!(rig.take().watermarks(), [(102, user(2), 2, 2)]);
}

#[test]
fn seen_lifts_delivered() {
    let (mut rig, chat) = rig();
    rig.receipt(chat.id, 2, 0, 4);
    assert_eq!(marks(&rig.take().statuses[0]), [(4, 4, 3)]);
}

#[test]
fn a_claim_above_the_head_is_clamped_and_held_until_the_head_gets_there() {
    let (mut rig, mut chat) = rig();
    rig.receipt(chat.id, 2, 6, 5);
    assert_eq!(marks(&rig.take().statuses[0]), [(4, 4, 3)]);
    let fifth = chat.message(1);
    rig.record(&[fifth]);
    assert!(rig.take().statuses.is_empty(), "all of the claim, or what is known of it");
    let sixth = chat.message(1);
    rig.record(&[sixth]);
    assert_eq!(marks(&rig.take().statuses[0]), [(6, 5, 4)]);
}

#[test]
fn a_repeated_receipt_is_published_once_and_echoed_again() {
    let (mut rig, chat) = rig();
    rig.receipt(chat.id, 2, 4, 4);
    rig.take();
    rig.receipt(chat.id, 2, 4, 4);
    let seen = rig.take();
    assert!(seen.statuses.is_empty());
    assert!(seen.watermarks().is_empty(), "not in the table yet");
    rig.written();
    rig.take();
    rig.receipt(chat.id, 2, 3, 2);
    let seen = rig.take();
    assert!(seen.statuses.is_empty());
    assert_eq!(seen.watermarks(), [(102, user(2), 4, 4)], "its echo may have been lost");
}

#[test]
fn a_status_that_never_reaches_the_table_is_published_again_when_asserted_again() {
    let (mut rig, chat) = rig();
    rig.receipt(chat.id, 2, 4, 4);
    rig.take();
    rig.now += 3_000_000;
    rig.receipt(chat.id, 2, 4, 4);
    assert_eq!(marks(&rig.take().statuses[0]), [(4, 4, 3)]);
}

#[test]
fn what_waits_for_a_publish_in_flight_is_coalesced() {
    let (mut rig, chat) = rig();
    rig.publishes = false;
    rig.receipt(chat.id, 2, 2, 0);
    assert_eq!(marks(&rig.take().statuses[0]), [(2, 1, 0)]);
    rig.receipt(chat.id, 2, 3, 0);
    rig.receipt(chat.id, 3, 3, 0);
    rig.receipt(chat.id, 2, 4, 2);
    assert!(rig.take().statuses.is_empty(), "one publish in flight");
    rig.feed(Input::StatusesPublished(Some(1)));
    assert_eq!(marks(&rig.take().statuses[0]), [(4, 2, 1), (4, 4, 3)]);
    // Not published: waits for the tick, then goes again.
    rig.feed(Input::StatusesPublished(None));
    assert!(rig.take().statuses.is_empty());
    rig.feed(Input::Tick);
    assert_eq!(marks(&rig.take().statuses[0]), [(4, 2, 1), (4, 4, 3)]);
}

#[test]
fn a_sender_has_what_it_sent_and_its_own_claims_are_still_echoed() {
    let (mut rig, mut chat) = rig();
    let reply = chat.message(2);
    rig.record(&[reply]);
    let ticks: Vec<_> = rig.take().watermarks();
    assert_eq!(ticks, [(101, user(2), 5, 5), (103, user(2), 5, 5)], "who replies has read");
    rig.receipt(chat.id, 2, 4, 4);
    assert_eq!(marks(&rig.take().statuses[0]), [(5, 5, 4)]);
    rig.written();
    assert_eq!(rig.take().watermarks(), [(102, user(2), 5, 5)]);
}

#[test]
fn strangers_and_foreign_chats_are_dropped_and_former_members_end_at_their_leaving() {
    let (mut rig, mut chat) = rig();
    rig.receipt(chat.id, 9, 4, 4);
    assert_eq!(rig.take().dropped, [Dropped::NotMember]);
    rig.receipt(ChatId::draw(Partition(4), 1, 1), 2, 1, 1);
    assert_eq!(rig.take().dropped, [Dropped::BadReceipt]);
    rig.feed(Input::Receipts(vec![Receipt { chat: vec![1].into(), ..Receipt::default() }]));
    assert_eq!(rig.take().dropped, [Dropped::BadReceipt]);
    let entries = [chat.entry(2, Event::MemberLeft), chat.message(1)];
    rig.record(&entries);
    rig.take();
    rig.receipt(chat.id, 2, 6, 6);
    assert_eq!(marks(&rig.take().statuses[0]), [(5, 5, 3)]);
}

#[test]
fn a_cold_chat_is_loaded_through_the_claim_and_the_ordinal_read_from_its_row() {
    let mut rig = Rig::new(Rules::ALL);
    rig.online(G1, 1, &[1, 2]);
    let mut chat = Chat::new(1);
    for logged in [chat.created(&[1, 2]), chat.message(1), chat.message(1)] {
        rig.append(&logged);
    }
    rig.answers = false;
    rig.receipt(chat.id, 2, 3, 3);
    assert_eq!(rig.take().loads, [(chat.id, 3, Patience::None)]);
    let rows = rig.members(chat.id, 3);
    rig.feed(Input::Members { chat: chat.id, at_least: 3, patience: Patience::None, rows });
    assert_eq!(rig.take().ordinals, [(chat.id, 3)]);
    rig.feed(Input::Ordinal { chat: chat.id, seq: 3, ordinal: Some(2) });
    let seen = rig.take();
    assert_eq!(marks(&seen.statuses[0]), [(3, 3, 2)]);
    assert_eq!(seen.watermarks(), [(101, user(2), 3, 3)], "the ring does not know the senders, so all members hear");
    // The next event is folded on from there.
    rig.answers = true;
    let fourth = chat.message(1);
    rig.record(&[fourth]);
    assert_eq!(rig.take().seqs(102), [4]);
}

#[test]
fn receipts_that_wait_are_bounded() {
    let settings = Settings { receipts_max: 3, ..Settings::default() };
    let mut rig = Rig::with(Rules::ALL, settings);
    rig.answers = false;
    for n in 0..10 {
        rig.receipt(chat(n), 2, 3, 3);
    }
    let seen = rig.take();
    assert_eq!(seen.loads.len(), 3);
    assert_eq!(seen.dropped, [Dropped::Receipt; 7]);
    for n in 0..3 {
        rig.feed(Input::Members { chat: chat(n), at_least: 3, patience: Patience::None, rows: None });
    }
    assert_eq!(rig.take().dropped, [Dropped::Receipt; 3], "not stored so far: asserted again by its client");
}

#[test]
fn statuses_that_wait_and_echoes_are_bounded() {
    let settings = Settings { statuses_max: 2, ..Settings::default() };
    let mut rig = Rig::with(Rules::ALL, settings);
    rig.online(G1, 1, &[1, 2, 3, 4, 5]);
    let mut chat = Chat::new(1);
    let entries = [chat.created(&[1, 2, 3, 4, 5]), chat.message(1)];
    rig.record(&entries);
    rig.publishes = false;
    for n in 1..=5 {
        rig.receipt(chat.id, n, 2, 0);
    }
    let seen = rig.take();
    assert_eq!(seen.statuses.len(), 1, "one in flight, two wait");
    assert_eq!(seen.dropped, [Dropped::Receipt; 2]);
    rig.feed(Input::StatusesPublished(Some(1)));
    rig.feed(Input::StatusesPublished(Some(2)));
    let seen = rig.take();
    assert_eq!(seen.statuses.len(), 1);
    assert_eq!(seen.dropped, [Dropped::Echo], "the oldest echo goes, its client asserts again");
    rig.feed(Input::Written { epoch: EPOCH, statuses: 2 });
    let echoed: Vec<u64> = rig.take().watermarks().iter().map(|(session, ..)| *session).collect();
    assert_eq!(echoed, [102, 103]);
    // What was dropped is taken when it is asserted again.
    rig.receipt(chat.id, 5, 2, 0);
    assert_eq!(rig.take().statuses.len(), 1);
}

proptest! {
    /// Receipts in any order, any number of times, beside events: the last status of each user is the maximum of what
    /// was claimed and implied, no status goes back, and `seen` ≤ `delivered` ≤ head.
    #[test]
    fn the_merge_does_not_depend_on_order_and_never_goes_back(
        claims in prop::collection::vec((1..4_u8, 0..9_u64, 0..9_u64), 1..30),
        order in any::<prop::sample::Index>(),
        flights in prop::collection::vec(any::<bool>(), 30),
    ) {
        let run = |claims: &[(u8, u64, u64)]| {
            let (mut rig, chat) = rig();
            let mut last: BTreeMap<Bytes, (Seq, Seq, u64)> = BTreeMap::new();
            for ((n, delivered, seen), published) in claims.iter().zip(&flights) {
                rig.publishes = false;
                rig.receipt(chat.id, *n, *delivered, *seen);
                if *published {
                    rig.feed(Input::StatusesPublished(Some(1)));
                }
            }
            for _ in 0..4 {
                rig.feed(Input::StatusesPublished(Some(2)));
            }
            for status in rig.take().statuses.into_iter().flatten() {
                let now = (status.delivered, status.seen, status.seen_ordinal);
                let before = last.insert(status.user.clone(), now).unwrap_or_default();
                assert!(before.0 <= now.0 && before.1 <= now.1 && before.2 <= now.2, "{before:?} → {now:?}");
                assert!(now.1 <= now.0 && now.0 <= 4);
            }
            last
        };
        let mut turned = claims.clone();
        turned.rotate_left(order.index(claims.len()));
        turned.reverse();
        prop_assert_eq!(run(&claims), run(&turned));
    }
}
