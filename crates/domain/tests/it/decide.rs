//! Who may do what, by kind, role and state: each refusal that `decide` knows.

use domain::limits::MEMBERS_MAX;
use domain::{Action, ChatKind, Code, Command, Decision, Event, Message, Origin, Role, Rules, Target, decide};

use crate::setup::{STAMP, World, command, create, member, say, user};

const OWNER: u16 = 1;
const ADMIN: u16 = 2;
const MEMBER: u16 = 3;
const READER: u16 = 4;
const STRANGER: u16 = 9;
/// xxh3-128 of the byte 20 and `good morning`.
const PLAIN_HASH: u128 = 0x1508_1ff6_ac4b_31cd_3d26_43e4_c729_009d;
const STAFF: &[(u16, Role)] = &[(ADMIN, Role::Admin), (MEMBER, Role::Member), (READER, Role::Reader)];

fn add(n: u16, role: Role) -> Action {
    Action::AddMember { member: member(n, role) }
}

fn remove(n: u16) -> Action {
    Action::RemoveMember { user: user(n) }
}

fn set(n: u16, role: Role) -> Action {
    Action::SetRole { member: member(n, role) }
}

fn rename(name: &str) -> Action {
    Action::RenameChat { name: name.into() }
}

fn transfer(n: u16) -> Action {
    Action::TransferOwnership { user: user(n) }
}

/// What becomes of it in a fresh chat; `None`: it is stored.
fn outcome(kind: ChatKind, sender: u16, action: Action) -> Option<Code> {
    match World::with(kind, STAFF).decide(&command(sender, 1, action)) {
        Decision::Append(_) => None,
        Decision::Reject { code, .. } => Some(code),
        Decision::Repeat { .. } => panic!("nothing was sent before"),
    }
}

#[test]
fn a_chat_that_is_not_there_is_unknown_to_all_but_its_creation() {
    for action in
        [say("x"), add(5, Role::Member), remove(2), Action::LeaveChat, set(2, Role::Reader), rename("x"), transfer(2)]
    {
        let mut none = World::default();
        assert_eq!(none.refused(&command(OWNER, 1, action)), (Code::UnknownChat, 0));
    }
    assert_eq!(World::with(ChatKind::Group, STAFF).log[0].seq, 1);
}

#[test]
fn who_may_write_depends_on_kind_and_role() {
    let table = [
        (ChatKind::Group, OWNER, None),
        (ChatKind::Group, ADMIN, None),
        (ChatKind::Group, MEMBER, None),
        (ChatKind::Group, READER, Some(Code::Forbidden)),
        (ChatKind::Channel, OWNER, None),
        (ChatKind::Channel, ADMIN, None),
        (ChatKind::Channel, MEMBER, Some(Code::Forbidden)),
        (ChatKind::Channel, READER, Some(Code::Forbidden)),
        (ChatKind::Group, STRANGER, Some(Code::NotAMember)),
        (ChatKind::Channel, STRANGER, Some(Code::NotAMember)),
    ];
    for (kind, sender, expected) in table {
        assert_eq!(outcome(kind, sender, say("x")), expected, "{kind:?} {sender}");
    }
}

#[test]
fn who_may_let_in_depends_on_both_roles() {
    let (no, ok) = (Some(Code::Forbidden), None);
    // By owner, admin, member, reader; as owner, admin, member, reader.
    let table = [(OWNER, [ok, ok, ok, ok]), (ADMIN, [no, no, ok, ok]), (MEMBER, [no; 4]), (READER, [no; 4])];
    for (by, expected) in table {
        let roles = [Role::Owner, Role::Admin, Role::Member, Role::Reader];
        for (role, expected) in roles.into_iter().zip(expected) {
            for kind in [ChatKind::Group, ChatKind::Channel] {
                assert_eq!(outcome(kind, by, add(5, role)), expected, "{by} adds {role:?}");
            }
        }
    }
    assert_eq!(outcome(ChatKind::Group, OWNER, add(MEMBER, Role::Member)), Some(Code::AlreadyAMember));
    assert_eq!(outcome(ChatKind::Group, STRANGER, add(5, Role::Member)), Some(Code::NotAMember));
}

#[test]
fn who_may_put_out_depends_on_both_roles() {
    let (no, ok) = (Some(Code::Forbidden), None);
    let table = [(OWNER, [no, ok, ok, ok]), (ADMIN, [no, no, ok, ok]), (MEMBER, [no; 4]), (READER, [no; 4])];
    for (by, expected) in table {
        for (user, expected) in [OWNER, ADMIN, MEMBER, READER].into_iter().zip(expected) {
            assert_eq!(outcome(ChatKind::Group, by, remove(user)), expected, "{by} removes {user}");
        }
    }
    assert_eq!(outcome(ChatKind::Group, ADMIN, remove(STRANGER)), Some(Code::NoSuchMember));
    // One who may remove nobody does not learn who is there.
    assert_eq!(outcome(ChatKind::Group, MEMBER, remove(STRANGER)), Some(Code::Forbidden));
    assert_eq!(outcome(ChatKind::Group, STRANGER, remove(MEMBER)), Some(Code::NotAMember));
}

#[test]
fn the_last_owner_stays_while_others_do() {
    assert_eq!(outcome(ChatKind::Group, OWNER, Action::LeaveChat), Some(Code::LastOwner));
    assert_eq!(outcome(ChatKind::Group, ADMIN, Action::LeaveChat), None);
    assert_eq!(outcome(ChatKind::Group, STRANGER, Action::LeaveChat), Some(Code::NotAMember));
    let mut world = World::with(ChatKind::Group, STAFF);
    world.stored(&command(OWNER, 1, add(5, Role::Owner)));
    world.stored(&command(OWNER, 2, Action::LeaveChat));
    assert_eq!(world.refused(&command(5, 1, Action::LeaveChat)), (Code::LastOwner, 3));
    let mut alone = World::with(ChatKind::Group, &[]);
    alone.stored(&command(OWNER, 1, Action::LeaveChat));
    assert!(alone.chat().members().is_empty());
}

#[test]
fn who_may_change_a_role_depends_on_all_three() {
    let (no, ok, same, last) = (Some(Code::Forbidden), None, Some(Code::NoChange), Some(Code::LastOwner));
    // Whose: owner, admin, member, reader; to owner, admin, member, reader.
    let by_owner = [[same, last, last, last], [ok, same, ok, ok], [ok, ok, same, ok], [ok, ok, ok, same]];
    // An admin steps down if it likes, and never up.
    let by_admin = [[no; 4], [no, same, ok, ok], [no, no, same, ok], [no, no, ok, same]];
    let table = [(OWNER, by_owner), (ADMIN, by_admin), (MEMBER, [[no; 4]; 4]), (READER, [[no; 4]; 4])];
    let roles = [Role::Owner, Role::Admin, Role::Member, Role::Reader];
    for (by, whose) in table {
        for (user, expected) in [OWNER, ADMIN, MEMBER, READER].into_iter().zip(whose) {
            for (role, expected) in roles.into_iter().zip(expected) {
                for kind in [ChatKind::Group, ChatKind::Channel] {
                    assert_eq!(outcome(kind, by, set(user, role)), expected, "{by} makes {user} {role:?}");
                }
            }
        }
    }
    assert_eq!(outcome(ChatKind::Group, ADMIN, set(STRANGER, Role::Reader)), Some(Code::NoSuchMember));
    assert_eq!(outcome(ChatKind::Group, MEMBER, set(STRANGER, Role::Reader)), Some(Code::Forbidden));
    assert_eq!(outcome(ChatKind::Group, STRANGER, set(MEMBER, Role::Reader)), Some(Code::NotAMember));
}

#[test]
fn a_role_holds_from_its_entry_on() {
    let mut world = World::with(ChatKind::Group, STAFF);
    assert_eq!(world.stored(&command(OWNER, 1, set(MEMBER, Role::Reader))), 2);
    assert_eq!(world.refused(&command(MEMBER, 1, say("x"))), (Code::Forbidden, 2));
    world.stored(&command(OWNER, 2, set(READER, Role::Owner)));
    world.stored(&command(READER, 1, say("x")));
    // Among equals nobody demotes the other; oneself may, for another one is left.
    assert_eq!(world.refused(&command(OWNER, 3, set(READER, Role::Admin))), (Code::Forbidden, 4));
    world.stored(&command(OWNER, 3, set(OWNER, Role::Member)));
    assert_eq!(world.refused(&command(READER, 2, set(READER, Role::Admin))), (Code::LastOwner, 5));
    assert_eq!(world.refused(&command(OWNER, 4, set(MEMBER, Role::Member))), (Code::Forbidden, 5));
    // None of it is a message, and a stay goes on.
    assert_eq!((world.chat().ordinal(), world.chat().members()[&user(MEMBER)].joined_seq), (1, 1));
    // Nobody else is there, and an owner is needed all the same: alone, one leaves.
    let mut alone = World::with(ChatKind::Group, &[]);
    assert_eq!(alone.refused(&command(OWNER, 1, set(OWNER, Role::Member))), (Code::LastOwner, 1));
}

#[test]
fn owners_and_admins_name_a_chat() {
    let table = [
        (OWNER, None),
        (ADMIN, None),
        (MEMBER, Some(Code::Forbidden)),
        (READER, Some(Code::Forbidden)),
        (STRANGER, Some(Code::NotAMember)),
    ];
    for (by, expected) in table {
        for kind in [ChatKind::Group, ChatKind::Channel] {
            assert_eq!(outcome(kind, by, rename("on tuesdays")), expected, "{by}");
        }
    }
    let mut world = World::with(ChatKind::Group, STAFF);
    world.stored(&command(ADMIN, 1, rename("on tuesdays")));
    assert_eq!(world.log[1].event, Event::ChatRenamed { name: "on tuesdays".into() });
    assert_eq!(world.refused(&command(ADMIN, 1, rename("on mondays"))), (Code::Conflict, 2));
    assert_eq!(world.stored(&command(ADMIN, 2, rename(""))), 3);
}

#[test]
fn an_owner_hands_its_place_to_another_member() {
    let refused = [
        (ADMIN, MEMBER, Code::Forbidden),
        (MEMBER, READER, Code::Forbidden),
        (OWNER, STRANGER, Code::NoSuchMember),
        (OWNER, OWNER, Code::NoChange),
        (STRANGER, MEMBER, Code::NotAMember),
    ];
    for (by, to, code) in refused {
        assert_eq!(outcome(ChatKind::Group, by, transfer(to)), Some(code), "{by} to {to}");
    }
    let mut world = World::with(ChatKind::Channel, STAFF);
    world.stored(&command(OWNER, 1, transfer(READER)));
    let role = |world: &World, n| world.chat().members()[&user(n)].role;
    assert_eq!((role(&world, OWNER), role(&world, READER)), (Role::Admin, Role::Owner));
    // It is what the entry says, however often it is asked for.
    assert!(matches!(world.decide(&command(OWNER, 1, transfer(READER))), Decision::Repeat { seq: 2, .. }));
    assert_eq!(world.refused(&command(OWNER, 2, transfer(MEMBER))), (Code::Forbidden, 2));
    assert_eq!(world.stored(&command(OWNER, 2, Action::LeaveChat)), 3);
    assert_eq!(world.refused(&command(READER, 1, Action::LeaveChat)), (Code::LastOwner, 3));
}

#[test]
fn a_direct_chat_is_fixed_and_both_may_write() {
    let mut world = World::with(ChatKind::Direct, &[(2, Role::Member)]);
    let governing = [set(2, Role::Reader), set(1, Role::Owner), rename("us"), transfer(2)];
    for action in [add(5, Role::Member), remove(2), Action::LeaveChat].into_iter().chain(governing) {
        assert_eq!(world.refused(&command(1, 1, action)), (Code::DirectChatIsFixed, 1));
    }
    assert_eq!(world.stored(&command(1, 1, say("a"))), 2);
    assert_eq!(world.stored(&command(2, 1, say("b"))), 3);
    assert_eq!(world.refused(&command(5, 1, Action::LeaveChat)), (Code::NotAMember, 0));
}

#[test]
fn a_full_chat_lets_nobody_in_until_one_goes() {
    let others: Vec<_> = (2..=u16::try_from(MEMBERS_MAX).unwrap()).map(|n| (n, Role::Member)).collect();
    let mut world = World::with(ChatKind::Group, &others);
    assert_eq!(world.chat().members().len(), MEMBERS_MAX);
    assert_eq!(world.refused(&command(1, 1, add(2_000, Role::Member))), (Code::TooManyMembers, 1));
    world.stored(&command(1, 1, remove(2)));
    world.stored(&command(1, 2, add(2_000, Role::Member)));
}

#[test]
fn a_creation_is_known_by_its_chat_creator_and_content() {
    let mut world = World::with(ChatKind::Group, STAFF);
    world.stored(&command(OWNER, 1, say("x")));
    let again = create(ChatKind::Group, STAFF);
    assert_eq!(world.decide(&again), Decision::Repeat { seq: 1, time: STAMP });
    assert_eq!(world.refused(&create(ChatKind::Channel, STAFF)), (Code::Conflict, 2));
    assert_eq!(world.refused(&create(ChatKind::Group, &STAFF[1..])), (Code::Conflict, 2));
    // A stranger that draws the same id learns nothing of the chat.
    assert_eq!(world.refused(&Command { sender: user(STRANGER), ..again }), (Code::Conflict, 0));
}

#[test]
fn a_direct_chat_is_created_by_either_of_the_two() {
    let mut world = World::with(ChatKind::Direct, &[(2, Role::Member)]);
    let other = Action::CreateChat { kind: ChatKind::Direct, members: vec![member(1, Role::Reader)] };
    let theirs = Command { origin: Origin(0), n: 0, ..command(2, 0, other) };
    assert_eq!(world.decide(&theirs), Decision::Repeat { seq: 1, time: STAMP });
    let third = Action::CreateChat { kind: ChatKind::Direct, members: vec![member(3, Role::Member)] };
    assert_eq!(world.refused(&Command { n: 0, ..command(2, 0, third) }), (Code::Conflict, 1));
}

#[test]
fn a_repeat_gets_the_first_answer_and_another_body_is_a_conflict() {
    let mut world = World::with(ChatKind::Group, STAFF);
    let first = command(MEMBER, 1, say("x"));
    let Decision::Append(entry) = world.decide_at(&first, STAMP + 500) else { panic!() };
    assert_eq!(world.decide_at(&first, STAMP + 9_000), Decision::Repeat { seq: 2, time: entry.time });
    assert_eq!(world.refused(&command(MEMBER, 1, say("y"))), (Code::Conflict, 2));
    // The same body as another kind of command is another command.
    assert_eq!(world.refused(&command(MEMBER, 1, Action::LeaveChat)), (Code::Conflict, 2));
    // M10: also after it was put out, who learns no head any more.
    world.stored(&command(OWNER, 1, remove(MEMBER)));
    assert_eq!(world.decide(&first), Decision::Repeat { seq: 2, time: entry.time });
    assert_eq!(world.refused(&command(MEMBER, 1, say("y"))), (Code::Conflict, 0));
    assert_eq!(world.refused(&command(MEMBER, 2, say("y"))), (Code::NotAMember, 0));
    let without = decide(world.chat.as_ref(), &first, Target::Missing, STAMP, &Rules::without("m10").unwrap());
    assert_eq!(without, Decision::Reject { code: Code::NotAMember, head: 0 });
}

#[test]
fn an_older_n_is_superseded_once_its_outcome_is_forgotten() {
    let mut world = World::with(ChatKind::Group, STAFF);
    for n in (2..=70).step_by(2) {
        world.stored(&command(MEMBER, n, say(n.to_string())));
    }
    // Never stored, and too late now: an n that was passed is not taken up again.
    assert_eq!(world.refused(&command(MEMBER, 69, say("69"))), (Code::Superseded, 36));
    // The 32 latest stored ones are remembered: 8, 10 … 70.
    assert!(matches!(world.decide(&command(MEMBER, 8, say("8"))), Decision::Repeat { seq: 5, .. }));
    assert_eq!(world.refused(&command(MEMBER, 6, say("6"))), (Code::Superseded, 36));
}

#[test]
fn a_command_whose_predecessor_is_not_stored_is_refused_until_it_is() {
    let mut world = World::with(ChatKind::Group, STAFF);
    let second = Command { after: 1, ..command(MEMBER, 2, say("2")) };
    assert_eq!(world.refused(&second), (Code::PredecessorMissing, 1));
    world.stored(&command(MEMBER, 1, say("1")));
    assert_eq!(world.stored(&second), 3);
    // Gaps that the client knows to be settled are none.
    assert_eq!(world.stored(&Command { after: 2, ..command(MEMBER, 9, say("9")) }), 4);
    assert_eq!(world.refused(&Command { after: 10, ..command(MEMBER, 11, say("11")) }), (Code::PredecessorMissing, 4));
    // A rejection frees no n and changes nothing.
    assert_eq!(world.stored(&Command { after: 9, ..command(MEMBER, 10, say("10")) }), 5);
    // Dedupe stands before membership: a stranger's is judged by its n too, but learns no head.
    assert_eq!(world.refused(&Command { after: 1, ..command(STRANGER, 2, say("2")) }), (Code::PredecessorMissing, 0));
}

fn answer(seq: u64) -> Action {
    Action::SendMessage(Message { reply_to: Some(seq), ..Message::plain("yes") })
}

#[test]
fn a_message_answers_what_the_chat_has_and_names_whomever() {
    let mut world = World::with(ChatKind::Group, STAFF);
    world.stored(&command(MEMBER, 1, say("shall we?")));
    for (n, seq) in [(1, 2), (2, 1), (3, 4)] {
        world.stored(&command(ADMIN, n, answer(seq)));
    }
    // Not what it will be itself, nor what is not there yet.
    for seq in [6, 7, u64::MAX] {
        assert_eq!(world.refused(&command(ADMIN, 4, answer(seq))), (Code::NoSuchMessage, 5));
    }
    // Who may not write, or is not in the chat, does not learn what there is.
    assert_eq!(world.refused(&command(READER, 1, answer(9))), (Code::Forbidden, 5));
    assert_eq!(world.refused(&command(STRANGER, 1, answer(9))), (Code::NotAMember, 0));
    let named = Message { mentions: vec![user(STRANGER), user(MEMBER)], mention_all: true, ..Message::plain("all") };
    world.stored(&command(MEMBER, 2, Action::SendMessage(named.clone())));
    assert_eq!(world.log[5].event, Event::MessageSent(named));
    assert_eq!((world.log[5].ordinal, world.log[5].sender), (5, user(MEMBER)));
}

#[test]
fn what_a_message_refers_to_is_a_part_of_it() {
    let mut world = World::with(ChatKind::Group, STAFF);
    world.stored(&command(MEMBER, 1, say("1")));
    let first = Message { reply_to: Some(2), mentions: vec![user(OWNER), user(ADMIN)], ..Message::plain("yes") };
    world.stored(&command(MEMBER, 2, Action::SendMessage(first.clone())));
    let again = |message: &Message| command(MEMBER, 2, Action::SendMessage(message.clone()));
    assert!(matches!(world.decide(&again(&first)), Decision::Repeat { seq: 3, .. }));
    for other in [
        Message { reply_to: Some(1), ..first.clone() },
        Message { reply_to: None, ..first.clone() },
        Message { mentions: vec![user(OWNER)], ..first.clone() },
        Message { mentions: vec![user(ADMIN), user(OWNER)], ..first.clone() },
        Message { mention_all: true, ..first.clone() },
        Message::plain("yes"),
    ] {
        assert_eq!(world.refused(&again(&other)), (Code::Conflict, 3), "{other:?}");
    }
}

#[test]
fn the_hash_of_a_message_that_refers_to_nothing_is_as_chats_remember_it() {
    // Of a build from before there were references; snapshots hold it.
    assert_eq!(Event::MessageSent(Message::plain("good morning")).content_hash(), PLAIN_HASH);
}

#[test]
fn another_senders_same_origin_is_another_outbox() {
    let mut world = World::with(ChatKind::Group, STAFF);
    world.stored(&command(OWNER, 1, say("x")));
    assert_eq!(world.stored(&command(ADMIN, 1, say("x"))), 3);
}
