//! The tracker, a case at a time.

use super::*;

const P0: Partition = Partition(0);
const ALICE: SessionId = SessionId(1);
const BOB: SessionId = SessionId(2);

fn user(n: u8) -> UserId {
    UserId::new([n; 16])
}

fn tracker() -> Tracker {
    Tracker::new(GatewayId(7), [P0], Rules::ALL)
}

fn run(tracker: &mut Tracker, inputs: impl IntoIterator<Item = TrackerInput>) -> Vec<TrackerAction> {
    let mut actions = Vec::new();
    inputs.into_iter().for_each(|input| tracker.handle(0, input, &mut actions));
    actions
}

fn ack(version: u64, owner: u64, last_batch: u64) -> TrackerInput {
    TrackerInput::Acknowledged(AnnouncementAck {
        gateway: 7,
        version,
        epoch: 5,
        owner,
        as_of: 10 * version,
        last_batch,
        ..AnnouncementAck::default()
    })
}

fn ready(actions: &[TrackerAction]) -> Vec<(Seq, Vec<SessionId>)> {
    let one = |action: &TrackerAction| match action {
        TrackerAction::Ready { as_of, sessions, .. } => {
            Some((*as_of, sessions.iter().map(|(session, _)| *session).collect()))
        }
        TrackerAction::Announce(_) | TrackerAction::Resync(_) => None,
    };
    actions.iter().filter_map(one).collect()
}

/// Alice is ready at owner 3 with version 2.
fn settled() -> Tracker {
    let mut tracker = tracker();
    let actions = run(&mut tracker, [TrackerInput::Up(ALICE, user(1)), TrackerInput::Go]);
    assert!(matches!(&actions[..], [TrackerAction::Announce(it)] if it.version == 2 && it.up.len() == 1));
    assert_eq!(ready(&run(&mut tracker, [ack(2, 3, 0)])), [(20, vec![ALICE])]);
    tracker
}

#[test]
fn a_session_is_ready_when_its_owner_acknowledged_it() {
    let mut tracker = settled();
    run(&mut tracker, [TrackerInput::Up(BOB, user(2)), TrackerInput::Go]);
    assert!(ready(&run(&mut tracker, [ack(2, 3, 0)])).is_empty());
    assert_eq!(ready(&run(&mut tracker, [ack(3, 3, 0)])), [(30, vec![BOB])]);
}

#[test]
fn a_gap_in_the_batches_makes_all_sessions_ready_anew() {
    let mut tracker = settled();
    let mut actions = Vec::new();
    assert!(tracker.batch(0, P0, TenureId(3), 1, &mut actions));
    assert!(!tracker.batch(0, P0, TenureId(3), 1, &mut actions), "a repeat");
    assert!(actions.is_empty());
    assert!(tracker.batch(0, P0, TenureId(3), 3, &mut actions));
    assert!(matches!(&actions[..], [TrackerAction::Resync(P0), TrackerAction::Announce(it)] if it.version == 3));
    assert!(ready(&run(&mut tracker, [ack(2, 3, 3)])).is_empty(), "an ack from before the loss");
    assert_eq!(ready(&run(&mut tracker, [ack(3, 3, 3)])), [(30, vec![ALICE])]);
}

#[test]
fn the_loss_of_the_last_batch_is_seen_by_its_number() {
    let mut tracker = settled();
    let through = |last_batch| TrackerInput::Through { partition: P0, owner: TenureId(3), last_batch };
    assert!(run(&mut tracker, [through(0)]).is_empty());
    assert!(matches!(run(&mut tracker, [through(1)])[0], TrackerAction::Resync(P0)));
}

#[test]
fn a_new_owner_means_resync_and_an_old_one_is_ignored() {
    let mut tracker = settled();
    let mut actions = Vec::new();
    assert!(tracker.batch(0, P0, TenureId(4), 1, &mut actions));
    assert!(matches!(actions[0], TrackerAction::Resync(P0)));
    assert!(!tracker.batch(0, P0, TenureId(3), 1, &mut actions));
    assert!(ready(&run(&mut tracker, [ack(3, 3, 0)])).is_empty());
    assert_eq!(ready(&run(&mut tracker, [ack(3, 4, 1)])), [(30, vec![ALICE])]);
    // Its ack alone tells of an owner too.
    assert_eq!(ready(&run(&mut tracker, [ack(3, 5, 0)])), [(30, vec![ALICE])]);
}

#[test]
fn an_owner_that_does_not_answer_is_told_again() {
    let mut tracker = tracker();
    run(&mut tracker, [TrackerInput::Up(ALICE, user(1)), TrackerInput::Go]);
    let mut actions = Vec::new();
    tracker.handle(ANNOUNCE_AGAIN_US - 1, TrackerInput::Tick, &mut actions);
    assert!(actions.is_empty());
    tracker.handle(ANNOUNCE_AGAIN_US, TrackerInput::Tick, &mut actions);
    assert!(matches!(&actions[..], [TrackerAction::Announce(it)] if it.version == 3 && !it.snapshot));
    let all = run(&mut tracker, [TrackerInput::Asked]);
    assert!(matches!(&all[..], [TrackerAction::Announce(it)] if it.snapshot && it.up.len() == 1));
}

#[test]
fn an_owner_that_falls_silent_is_told_anew() {
    let mut tracker = settled();
    let through = || TrackerInput::Through { partition: P0, owner: TenureId(3), last_batch: 0 };
    let mut actions = Vec::new();
    tracker.handle(1_000_000, through(), &mut actions);
    tracker.handle(1_000_000 + SILENT_US - 1, TrackerInput::Tick, &mut actions);
    assert!(actions.is_empty());
    tracker.handle(1_000_000 + SILENT_US, TrackerInput::Tick, &mut actions);
    assert!(matches!(&actions[..], [TrackerAction::Resync(P0), TrackerAction::Announce(it)] if it.version == 3));
    assert_eq!(ready(&run(&mut tracker, [ack(3, 4, 0)])), [(30, vec![ALICE])]);
}
