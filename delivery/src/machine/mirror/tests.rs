//! The mirror under loss, repetition and reordering.

use proptest::prelude::*;
use proto::relay::SessionUp;

use super::*;

const G: u64 = 7;

fn user(n: u8) -> UserId {
    UserId::new([n; 16])
}

fn up(session: u64, n: u8) -> SessionUp {
    SessionUp { session, user: user(n).to_wire() }
}

fn snapshot(version: u64, up: Vec<SessionUp>) -> Announcement {
    Announcement { gateway: G, version, snapshot: true, up, ..Announcement::default() }
}

fn delta(version: u64, up: Vec<SessionUp>, down: Vec<u64>) -> Announcement {
    Announcement { gateway: G, version, up, down, ..Announcement::default() }
}

fn feed(mirror: &mut Mirror, now: Micros, announcement: Announcement) -> Vec<Action> {
    let mut actions = Vec::new();
    mirror.handle(now, Input::Announced(announcement), &mut actions);
    actions
}

fn held(version: u64) -> Vec<Action> {
    vec![Action::Held { gateway: GatewayId(G), version }]
}

#[test]
fn deltas_that_follow_a_snapshot_are_held_and_acknowledged() {
    let mut mirror = Mirror::new();
    assert_eq!(feed(&mut mirror, 0, snapshot(1, vec![up(1, 1)])), held(1));
    assert_eq!(feed(&mut mirror, 0, delta(2, vec![up(2, 1), up(3, 2)], vec![])), held(2));
    assert_eq!(mirror.sessions_of(user(1)).count(), 2);
    assert_eq!(feed(&mut mirror, 0, delta(3, vec![], vec![1, 2])), held(3));
    assert_eq!(mirror.sessions_of(user(1)).count(), 0);
    assert!(mirror.sessions_of(user(2)).eq([(GatewayId(G), SessionId(3))]));
}

#[test]
fn a_gap_asks_for_a_snapshot_and_acknowledges_nothing_until_it_comes() {
    let mut mirror = Mirror::new();
    feed(&mut mirror, 0, snapshot(1, vec![up(1, 1)]));
    assert_eq!(feed(&mut mirror, 0, delta(3, vec![up(3, 3)], vec![])), [Action::Ask(Some(GatewayId(G)))]);
    assert_eq!(feed(&mut mirror, 1, delta(4, vec![], vec![])), [], "asked already");
    let mut actions = Vec::new();
    mirror.handle(ASK_AGAIN_US, Input::Tick, &mut actions);
    assert_eq!(actions, [Action::Ask(Some(GatewayId(G)))], "the request may have been lost");
    assert_eq!(feed(&mut mirror, 2, snapshot(4, vec![up(3, 3)])), held(4));
    assert_eq!(mirror.sessions_of(user(1)).count(), 0);
    assert_eq!(mirror.sessions_of(user(3)).count(), 1);
}

#[test]
fn a_repeated_announcement_is_acknowledged_again() {
    let mut mirror = Mirror::new();
    feed(&mut mirror, 0, snapshot(1, vec![up(1, 1)]));
    feed(&mut mirror, 0, delta(2, vec![], vec![1]));
    assert_eq!(feed(&mut mirror, 0, delta(2, vec![], vec![1])), held(2));
    assert_eq!(feed(&mut mirror, 0, snapshot(2, vec![])), held(2));
    assert_eq!(feed(&mut mirror, 0, snapshot(1, vec![up(1, 1)])), [], "an overtaken snapshot sets nothing back");
    assert_eq!(mirror.sessions_of(user(1)).count(), 0);
}

#[test]
fn a_gateway_that_leaves_or_stays_silent_is_forgotten() {
    let mut mirror = Mirror::new();
    feed(&mut mirror, 0, snapshot(1, vec![up(1, 1)]));
    let leaving = Announcement { gateway: G, version: 2, leaving: true, ..Announcement::default() };
    assert_eq!(feed(&mut mirror, 0, leaving), [Action::Forgotten(GatewayId(G))]);
    assert_eq!(mirror.sessions_of(user(1)).count(), 0);
    feed(&mut mirror, 0, snapshot(3, vec![up(1, 1)]));
    let mut actions = Vec::new();
    mirror.handle(SILENT_US, Input::Tick, &mut actions);
    assert_eq!(actions, [Action::Ask(Some(GatewayId(G)))]);
    actions.clear();
    mirror.handle(FORGET_US, Input::Tick, &mut actions);
    assert_eq!(actions, [Action::Forgotten(GatewayId(G))]);
    assert_eq!(mirror.session_count(), 0);
}

#[test]
fn a_snapshot_in_parts_counts_once_it_is_whole() {
    let part = |version, part, session| Announcement { part, parts: 2, ..snapshot(version, vec![up(session, 1)]) };
    let mut mirror = Mirror::new();
    feed(&mut mirror, 0, snapshot(1, vec![up(9, 1)]));
    assert_eq!(feed(&mut mirror, 0, part(2, 1, 1)), []);
    assert!(mirror.sessions_of(user(1)).eq([(GatewayId(G), SessionId(9))]), "half a snapshot takes nobody away");
    assert_eq!(feed(&mut mirror, 0, part(2, 2, 2)), held(2));
    assert_eq!(mirror.sessions_of(user(1)).count(), 2);
    assert_eq!(feed(&mut mirror, 0, part(3, 2, 3)), [Action::Ask(Some(GatewayId(G)))], "its first part was lost");
}

#[test]
fn a_user_id_of_another_length_is_refused() {
    let mut mirror = Mirror::new();
    let bad = SessionUp { session: 1, user: vec![0; 15].into() };
    assert_eq!(feed(&mut mirror, 0, snapshot(1, vec![bad])), [Action::Refused]);
}

#[test]
fn gateways_and_their_sessions_are_bounded() {
    let mut mirror = Mirror::new();
    for gateway in 1..=GATEWAYS_MAX as u64 {
        feed(&mut mirror, 0, Announcement { gateway, ..snapshot(1, vec![]) });
    }
    let one_more = Announcement { gateway: 0, ..snapshot(1, vec![]) };
    assert_eq!(feed(&mut mirror, 0, one_more), [Action::Refused]);
    let many = (0..=SESSIONS_PER_GATEWAY_MAX as u64).map(|session| up(session, 1)).collect();
    assert_eq!(feed(&mut mirror, 0, snapshot(2, many)), [Action::Refused]);
    assert_eq!(mirror.session_count(), 0);
}

proptest! {
    /// A gateway changes its sessions; announcements are lost, repeated and reordered; a snapshot answers each request
    /// when it is asked for after the storm. The mirror then equals the gateway.
    #[test]
    fn any_loss_and_order_of_announcements_converges(
        changes in prop::collection::vec((any::<bool>(), 0..12_u64, 0..4_u8), 1..40),
        fates in prop::collection::vec((0..10_u8, 0..80_usize), 40),
    ) {
        let mut truth: BTreeMap<SessionId, UserId> = BTreeMap::new();
        let mut sent = vec![(0, snapshot(1, vec![]))];
        let mut version = 1;
        for (place, ((add, session, n), (fate, late))) in changes.into_iter().zip(fates).enumerate() {
            version += 1;
            let announcement = if add && !truth.contains_key(&SessionId(session)) {
                truth.insert(SessionId(session), user(n));
                delta(version, vec![up(session, n)], vec![])
            } else {
                truth.remove(&SessionId(session));
                delta(version, vec![], vec![session])
            };
            match fate {
                0..2 => {}
                2..4 => sent.push((place + late, announcement)),
                4 => { sent.push((place, announcement.clone())); sent.push((place + late, announcement)); }
                _ => sent.push((place, announcement)),
            }
        }
        sent.sort_by_key(|(place, _)| *place);
        let mut mirror = Mirror::new();
        for (_, announcement) in sent {
            feed(&mut mirror, 0, announcement);
        }
        // One more change shows the mirror whether it missed some; it asks, and the answer heals it.
        version += 1;
        truth.insert(SessionId(99), user(9));
        let asked = feed(&mut mirror, ASK_AGAIN_US, delta(version, vec![up(99, 9)], vec![]));
        if asked != held(version) {
            let all = truth.iter().map(|(session, user)| SessionUp { session: session.0, user: user.to_wire() });
            prop_assert_eq!(feed(&mut mirror, ASK_AGAIN_US, snapshot(version, all.collect())), held(version));
        }
        prop_assert_eq!(mirror.session_count(), truth.len());
        for n in 0..10 {
            let mut found: Vec<_> = mirror.sessions_of(user(n)).map(|(_, session)| session).collect();
            found.sort();
            let wanted: Vec<_> = truth.iter().filter(|(_, u)| **u == user(n)).map(|(session, _)| *session).collect();
            prop_assert_eq!(found, wanted);
        }
    }
}
