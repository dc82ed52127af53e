//! What a chat remembers of outboxes, and what it does when it had to forget.

use domain::limits::{ORIGIN_KEPT_US, ORIGINS_PER_CHAT_MAX, ORIGINS_PER_SENDER_MAX};
use domain::{ChatKind, Code, Command, Decision, Origin, Role, Seq};

use crate::setup::{STAMP, World, command, say};

fn first_of(sender: u16, origin: u64, basis: Seq) -> Command {
    Command { origin: Origin(origin), basis, ..command(sender, 1, say("x")) }
}

fn group(members: u16) -> World {
    let others: Vec<_> = (2..=members).map(|n| (n, Role::Member)).collect();
    World::with(ChatKind::Group, &others)
}

fn origins(world: &World) -> Vec<proto::log::OriginState> {
    world.chat().snapshot().origins
}

#[test]
fn a_sender_over_its_bound_forgets_its_own_least_recently_used_origin() {
    let bound = ORIGINS_PER_SENDER_MAX as u64;
    let mut world = group(2);
    let others = world.stored(&first_of(2, 77, 1));
    for origin in 1..=bound {
        world.stored(&first_of(1, origin, world.chat().head()));
    }
    // Used again: no longer the oldest.
    world.stored(&Command { n: 2, ..first_of(1, 1, 0) });
    assert_eq!(world.chat().snapshot().evicted_through, 0);
    world.stored(&first_of(1, bound + 1, world.chat().head()));
    assert_eq!(origins(&world).len(), ORIGINS_PER_SENDER_MAX + 1);
    // Origin 2 went, last used by the fourth entry; older ones of others stay.
    assert_eq!(world.chat().snapshot().evicted_through, 4);
    assert!(matches!(world.decide(&first_of(2, 77, 1)), Decision::Repeat { seq, .. } if seq == others));
    assert!(matches!(world.decide(&first_of(1, 1, 0)), Decision::Repeat { seq: 3, .. }));
    let head = world.chat().head();
    assert_eq!(world.refused(&first_of(1, 2, 3)), (Code::OriginUnknown, head));
}

#[test]
fn a_full_chat_forgets_the_least_recently_used_origin_of_anyone() {
    let members = u16::try_from(ORIGINS_PER_CHAT_MAX / ORIGINS_PER_SENDER_MAX + 1).unwrap();
    let mut world = group(members);
    world.stored(&first_of(members, 1, 1));
    for sender in 1..members {
        for origin in 1..=ORIGINS_PER_SENDER_MAX as u64 {
            world.stored(&first_of(sender, origin, world.chat().head()));
        }
    }
    // The very first one had to go for the last one.
    assert_eq!(origins(&world).len(), ORIGINS_PER_CHAT_MAX);
    assert_eq!(world.chat().snapshot().evicted_through, 2);
    let head = world.chat().head();
    assert_eq!(world.refused(&first_of(members, 1, 1)), (Code::OriginUnknown, head));
    // In a full chat, a sender that draws one too many loses its own and nobody else's: not that of sender 1.
    let last = members - 1;
    let oldest_own = 2 + u64::from(last - 1) * ORIGINS_PER_SENDER_MAX as u64 + 1;
    world.stored(&first_of(last, 99, world.chat().head()));
    assert_eq!(world.chat().snapshot().evicted_through, oldest_own);
    assert_eq!(origins(&world).len(), ORIGINS_PER_CHAT_MAX);
    assert!(matches!(world.decide(&first_of(1, 1, 0)), Decision::Repeat { seq: 3, .. }));
}

#[test]
fn an_origin_is_kept_for_a_day_of_event_time_after_its_last_entry() {
    let mut world = group(2);
    let first = first_of(1, 1, 1);
    let Decision::Append(entry) = world.decide_at(&first, STAMP) else { panic!() };
    world.decide_at(&first_of(2, 1, 1), entry.time + ORIGIN_KEPT_US);
    assert!(matches!(world.decide(&first), Decision::Repeat { seq: 2, .. }));
    world.decide_at(&Command { n: 2, ..first_of(2, 1, 1) }, entry.time + ORIGIN_KEPT_US + 1);
    assert_eq!(world.chat().snapshot().evicted_through, 2);
    assert_eq!(world.refused(&first), (Code::OriginUnknown, 4));
    // Made in the knowledge of what was forgotten, it cannot be a copy of it.
    assert_eq!(world.stored(&first_of(1, 2, 2)), 5);
}

#[test]
fn what_was_forgotten_hides_no_head_from_a_member_and_shows_none_to_a_stranger() {
    let mut world = group(2);
    for origin in 0..=ORIGINS_PER_SENDER_MAX as u64 {
        world.stored(&first_of(1, origin + 1, world.chat().head()));
    }
    let head = world.chat().head();
    assert_eq!(world.refused(&first_of(2, 5, 1)), (Code::OriginUnknown, head));
    assert_eq!(world.refused(&first_of(9, 5, 1)).1, 0);
}
