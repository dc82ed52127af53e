//! Reactions, pins and policies: who may, of what, how often; and what is remembered of them.

use domain::limits::{PINS_MAX, SLOW_MODE_S_MAX};
use domain::{
    Action, Chat, ChatKind, Code, Command, Decision, Event, Micros, Origin, Policy, PolicyChange, Role, Seq,
    is_reaction,
};
use proto::v1;

use crate::setup::{STAMP, World, command, member, say, user};

const OWNER: u16 = 1;
const ADMIN: u16 = 2;
const MEMBER: u16 = 3;
const READER: u16 = 4;
const STRANGER: u16 = 9;
const STAFF: &[(u16, Role)] = &[(ADMIN, Role::Admin), (MEMBER, Role::Member), (READER, Role::Reader)];
const SECOND: Micros = 1_000_000;

fn react(seq: Seq, reaction: &str) -> Action {
    Action::React { seq, reaction: reaction.into() }
}

fn pin(seq: Seq) -> Action {
    Action::PinMessage { seq, unpin: false }
}

fn unpin(seq: Seq) -> Action {
    Action::PinMessage { seq, unpin: true }
}

fn slow(seconds: u32) -> Action {
    Action::SetChatPolicy(PolicyChange { slow_mode_s: Some(seconds), ..PolicyChange::default() })
}

fn trust(members_add: bool) -> Action {
    Action::SetChatPolicy(PolicyChange { members_add: Some(members_add), ..PolicyChange::default() })
}

/// A group in which the owner has said something, at seq 2.
fn group() -> World {
    let mut world = World::with(ChatKind::Group, STAFF);
    world.stored(&command(OWNER, 1, say("x")));
    world
}

#[test]
fn all_but_readers_react_to_messages_also_in_channels() {
    for kind in [ChatKind::Group, ChatKind::Channel] {
        let mut world = World::with(kind, STAFF);
        world.stored(&command(OWNER, 1, say("x")));
        for (sender, refused) in [
            (OWNER, None),
            (ADMIN, None),
            (MEMBER, None),
            (READER, Some(Code::Forbidden)),
            (STRANGER, Some(Code::NotAMember)),
        ] {
            let asked = Command { origin: Origin(2), ..command(sender, 1, react(2, "👍")) };
            match world.decide(&asked) {
                Decision::Append(entry) => {
                    assert_eq!((refused, entry.ordinal), (None, 1));
                    assert_eq!(entry.event, Event::MessageReacted { seq: 2, reaction: "👍".into() });
                }
                Decision::Reject { code, .. } => assert_eq!(Some(code), refused),
                Decision::Repeat { .. } => panic!("nothing was sent before"),
            }
        }
    }
}

#[test]
fn a_reaction_is_to_a_message_that_is_there() {
    let mut world = group();
    for seq in [1, 3, Seq::MAX] {
        assert_eq!(world.refused(&command(MEMBER, 1, react(seq, "+"))), (Code::NoSuchMessage, 2));
    }
    world.stored(&command(MEMBER, 1, react(2, "+")));
    world.stored(&command(MEMBER, 2, react(2, "")));
    world.stored(&command(OWNER, 2, Action::DeleteMessage { seq: 2 }));
    assert_eq!(world.refused(&command(MEMBER, 3, react(2, "+"))), (Code::NoSuchMessage, 5));
    // The same under the same n is the one that was stored; another one is not.
    assert!(matches!(world.decide(&command(MEMBER, 1, react(2, "+"))), Decision::Repeat { seq: 3, .. }));
    assert_eq!(world.refused(&command(MEMBER, 1, react(2, "-"))).0, Code::Conflict);
    assert_eq!(World::default().refused(&command(OWNER, 1, react(2, "+"))), (Code::UnknownChat, 0));
}

#[test]
fn a_reaction_is_a_word_without_spaces_or_nothing() {
    let longest = "x".repeat(64);
    for fine in ["", "👍", "👩‍👩‍👧‍👧", "party_parrot", &longest] {
        assert!(is_reaction(fine), "{fine}");
    }
    for wrong in [" ", "two words", "tab\t", "bell\u{7}", "no\u{a0}break", &format!("{longest}x")] {
        assert!(!is_reaction(wrong), "{wrong}");
    }
    let wire = v1::React { seq: 2, reaction: "two words".to_owned() };
    let wire = v1::Command { action: Some(v1::command::Action::React(wire)), ..command(1, 1, say("")).to_wire() };
    assert_eq!(Command::from_wire(user(1), wire), Err(Code::BadRequest));
    for nowhere in [react(0, "+"), pin(0)] {
        assert_eq!(Command::from_wire(user(1), command(1, 1, nowhere).to_wire()), Err(Code::BadRequest));
    }
}

#[test]
fn who_runs_the_chat_pins_and_of_two_both() {
    let mut world = group();
    for (sender, code) in [(MEMBER, Code::Forbidden), (READER, Code::Forbidden), (STRANGER, Code::NotAMember)] {
        for action in [pin(2), unpin(2)] {
            assert_eq!(world.refused(&command(sender, 1, action)).0, code, "{sender}");
        }
    }
    world.stored(&command(OWNER, 2, say("y")));
    world.stored(&command(ADMIN, 1, pin(3)));
    world.stored(&command(OWNER, 3, pin(2)));
    let pinned = |seq, unpinned, pins: &[Seq]| Event::MessagePinned { seq, unpinned, pins: pins.to_vec() };
    assert_eq!(world.log.last().unwrap().event, pinned(2, false, &[3, 2]));
    assert_eq!(world.refused(&command(ADMIN, 2, pin(3))).0, Code::NoChange);
    world.stored(&command(ADMIN, 2, unpin(3)));
    assert_eq!(world.log.last().unwrap().event, pinned(3, true, &[2]));
    assert_eq!(world.refused(&command(ADMIN, 3, unpin(3))).0, Code::NoChange);
    assert_eq!(world.refused(&command(ADMIN, 3, pin(1))).0, Code::NoSuchMessage);
    assert!(
        matches!(world.decide(&command(ADMIN, 1, pin(3))), Decision::Repeat { seq: 4, .. }),
        "whatever else is pinned"
    );
    assert_eq!(world.restored().as_ref(), world.chat.as_ref());

    let mut world = World::with(ChatKind::Direct, &[(2, Role::Member)]);
    world.stored(&command(1, 1, say("x")));
    world.stored(&command(2, 1, pin(2)));
    world.stored(&command(1, 2, unpin(2)));
}

#[test]
fn a_pin_goes_with_its_message_and_there_is_room_for_so_many() {
    let mut world = group();
    world.stored(&command(OWNER, 2, pin(2)));
    world.stored(&command(OWNER, 3, Action::DeleteMessage { seq: 2 }));
    assert_eq!(world.chat().pins(), []);
    assert_eq!(world.refused(&command(OWNER, 4, unpin(2))).0, Code::NoSuchMessage);
    let mut n = 3;
    let mut next = |world: &mut World, action| {
        n += 1;
        world.stored(&command(OWNER, n, action))
    };
    let said: Vec<_> = (0..=PINS_MAX).map(|_| next(&mut world, say("x"))).collect();
    for seq in &said[1..] {
        next(&mut world, pin(*seq));
    }
    assert_eq!(world.refused(&command(OWNER, 1_000, pin(said[0]))).0, Code::TooManyPins);
    next(&mut world, Action::DeleteMessage { seq: said[7] });
    next(&mut world, pin(said[0]));
    assert_eq!(world.chat().pins().len(), PINS_MAX);
    assert_eq!(world.restored().as_ref(), world.chat.as_ref());
}

#[test]
fn a_policy_is_set_by_who_runs_the_chat_and_not_of_two() {
    let mut world = group();
    for sender in [MEMBER, READER] {
        assert_eq!(world.refused(&command(sender, 1, slow(5))), (Code::Forbidden, 2));
    }
    assert_eq!(world.refused(&command(ADMIN, 1, slow(0))).0, Code::NoChange);
    world.stored(&command(ADMIN, 1, slow(5)));
    world.stored(&command(OWNER, 2, trust(true)));
    let policy = Policy { members_add: true, slow_mode_s: 5 };
    let change = PolicyChange { members_add: Some(true), slow_mode_s: None };
    assert_eq!(world.log.last().unwrap().event, Event::ChatPolicySet { policy, change });
    assert_eq!((world.chat().policy(), world.restored().unwrap().policy()), (policy, policy));
    assert!(
        matches!(world.decide(&command(ADMIN, 1, slow(5))), Decision::Repeat { seq: 3, .. }),
        "whatever was set since"
    );
    let mut world = World::with(ChatKind::Direct, &[(2, Role::Member)]);
    assert_eq!(world.refused(&command(1, 1, slow(5))), (Code::DirectChatIsFixed, 1));
    let wire = command(1, 1, slow(SLOW_MODE_S_MAX + 1)).to_wire();
    assert_eq!(Command::from_wire(user(1), wire), Err(Code::BadRequest));
}

#[test]
fn trusted_members_add_their_like_and_no_more() {
    let mut world = group();
    let add = |n, role| Action::AddMember { member: member(n, role) };
    assert_eq!(world.refused(&command(MEMBER, 1, add(10, Role::Member))).0, Code::Forbidden);
    world.stored(&command(ADMIN, 1, trust(true)));
    world.stored(&command(MEMBER, 1, add(10, Role::Member)));
    world.stored(&command(10, 1, add(11, Role::Reader)));
    for (sender, role) in [(MEMBER, Role::Admin), (MEMBER, Role::Owner), (READER, Role::Reader)] {
        assert_eq!(world.refused(&command(sender, 2, add(12, role))).0, Code::Forbidden, "{sender} {role:?}");
    }
    assert_eq!(world.refused(&command(MEMBER, 2, add(10, Role::Member))).0, Code::AlreadyAMember);
    assert_eq!(world.refused(&command(MEMBER, 2, Action::RemoveMember { user: user(10) })).0, Code::Forbidden);
    world.stored(&command(ADMIN, 2, trust(false)));
    assert_eq!(world.refused(&command(MEMBER, 2, add(12, Role::Member))).0, Code::Forbidden);
}

/// What becomes of it so many µs after the start.
fn code_at(world: &mut World, asked: &Command, at: Micros) -> Option<Code> {
    match world.decide_at(asked, STAMP + at) {
        Decision::Append(_) => None,
        Decision::Reject { code, .. } => Some(code),
        Decision::Repeat { .. } => panic!("{asked:?} was stored before"),
    }
}

#[test]
fn in_slow_mode_members_make_one_entry_in_so_many_seconds() {
    let mut world = group();
    world.stored(&command(ADMIN, 1, slow(5)));
    let start = 60 * SECOND;
    assert_eq!(code_at(&mut world, &command(MEMBER, 1, say("a")), start), None);
    let seq = world.chat().head();
    // From another device as well, whatever it is; a rejection frees no n and makes nobody wait longer.
    let other = |n, action| Command { origin: Origin(2), ..command(MEMBER, n, action) };
    for action in [say("b"), react(2, "+"), Action::EditMessage { seq, body: "c".into() }] {
        assert_eq!(code_at(&mut world, &other(1, action), start + 5 * SECOND - 1), Some(Code::SlowMode));
    }
    assert_eq!(code_at(&mut world, &other(1, say("b")), start + 5 * SECOND), None);
    // What puts things right waits for nothing, nor does who runs the chat.
    assert_eq!(code_at(&mut world, &other(2, Action::DeleteMessage { seq }), start + 6 * SECOND), None);
    for n in 2..5 {
        assert_eq!(code_at(&mut world, &command(OWNER, n, say("x")), start + 6 * SECOND), None);
    }
    assert_eq!(code_at(&mut world, &other(3, Action::LeaveChat), start + 6 * SECOND), None);
    // A repeat is answered as the first was.
    assert!(matches!(world.decide_at(&other(1, say("b")), start + 6 * SECOND), Decision::Repeat { .. }));
}

#[test]
fn slow_mode_outlives_a_restart() {
    let mut world = group();
    world.stored(&command(ADMIN, 1, slow(5)));
    assert_eq!(code_at(&mut world, &command(MEMBER, 1, say("a")), 60 * SECOND), None);
    let chat: Option<Chat> = world.restored();
    world.chat = chat;
    assert_eq!(code_at(&mut world, &command(MEMBER, 2, say("b")), 61 * SECOND), Some(Code::SlowMode));
    assert_eq!(code_at(&mut world, &command(MEMBER, 2, say("b")), 65 * SECOND), None);
}
