//! Edits and deletions: who may, of what, in which state; and what is remembered of them.

use bytes::Bytes;
use domain::limits::BODY_BYTES_MAX;
use domain::{Action, Chat, ChatKind, Code, Command, Decision, Edit, Event, Origin, Role, Rules, Seq, Target, decide};
use prost::Message as _;

use crate::setup::{STAMP, World, command, member, say, user};

const OWNER: u16 = 1;
const ADMIN: u16 = 2;
const MEMBER: u16 = 3;
const READER: u16 = 4;
const STRANGER: u16 = 9;
const STAFF: &[(u16, Role)] = &[(ADMIN, Role::Admin), (MEMBER, Role::Member), (READER, Role::Reader)];

fn edit(seq: Seq, body: &'static str) -> Action {
    Action::EditMessage { seq, body: body.into() }
}

fn delete(seq: Seq) -> Action {
    Action::DeleteMessage { seq }
}

/// What becomes of it in a chat where seq 2 is a message of `by`; `None`: it is stored.
fn outcome(kind: ChatKind, by: u16, sender: u16, action: Action) -> Option<Code> {
    let mut world = World::with(kind, STAFF);
    world.stored(&command(by, 1, say("x")));
    match world.decide(&Command { origin: Origin(2), ..command(sender, 1, action) }) {
        Decision::Append(_) => None,
        Decision::Reject { code, .. } => Some(code),
        Decision::Repeat { .. } => panic!("nothing was sent before"),
    }
}

#[test]
fn only_its_sender_edits_a_message_and_who_runs_the_chat_deletes_any() {
    let (no, ok) = (Some(Code::Forbidden), None);
    for kind in [ChatKind::Group, ChatKind::Channel] {
        for by in [OWNER, ADMIN] {
            for sender in [OWNER, ADMIN, MEMBER, READER] {
                let own = sender == by;
                assert_eq!(outcome(kind, by, sender, edit(2, "y")), if own { ok } else { no }, "{sender} edits {by}'s");
                let may = own || [OWNER, ADMIN].contains(&sender);
                assert_eq!(outcome(kind, by, sender, delete(2)), if may { ok } else { no }, "{sender} deletes {by}'s");
            }
        }
        for action in [edit(2, "y"), delete(2)] {
            assert_eq!(outcome(kind, OWNER, STRANGER, action), Some(Code::NotAMember));
        }
    }
    assert_eq!(outcome(ChatKind::Group, MEMBER, MEMBER, edit(2, "y")), ok);
    assert_eq!(outcome(ChatKind::Group, MEMBER, MEMBER, delete(2)), ok);
}

#[test]
fn of_two_alone_each_changes_its_own() {
    let mut world = World::with(ChatKind::Direct, &[(2, Role::Member)]);
    world.stored(&command(1, 1, say("x")));
    for action in [edit(2, "y"), delete(2)] {
        assert_eq!(world.refused(&command(2, 1, action)), (Code::Forbidden, 2));
    }
    world.stored(&command(1, 2, edit(2, "y")));
    world.stored(&command(1, 3, delete(2)));
}

#[test]
fn who_may_say_no_more_edits_no_more_and_still_takes_back() {
    let mut world = World::with(ChatKind::Group, STAFF);
    world.stored(&command(MEMBER, 1, say("x")));
    world.stored(&command(OWNER, 1, Action::SetRole { member: member(MEMBER, Role::Reader) }));
    assert_eq!(world.refused(&command(MEMBER, 2, edit(2, "y"))), (Code::Forbidden, 3));
    world.stored(&command(MEMBER, 2, delete(2)));
    // Of another's, and gone: that it is gone comes first.
    assert_eq!(world.refused(&command(READER, 1, edit(2, "y"))), (Code::NoSuchMessage, 4));
    world.stored(&command(OWNER, 2, Action::RemoveMember { user: user(MEMBER) }));
    assert_eq!(world.refused(&command(MEMBER, 3, delete(2))), (Code::NotAMember, 0));
}

#[test]
fn what_is_no_message_is_neither_edited_nor_deleted() {
    let mut world = World::with(ChatKind::Group, STAFF);
    world.stored(&command(OWNER, 1, say("x")));
    world.stored(&command(OWNER, 2, edit(2, "y")));
    for seq in [1, 3, 4, Seq::MAX] {
        for action in [edit(seq, "z"), delete(seq)] {
            assert_eq!(world.refused(&command(OWNER, 3, action)), (Code::NoSuchMessage, 3), "{seq}");
        }
    }
    // Facts of a seq that the chat does not have are not looked at.
    let beyond = command(OWNER, 3, delete(9));
    let said = Target::Said { by: user(OWNER), edited: 0 };
    let expected = Decision::Reject { code: Code::NoSuchMessage, head: 3 };
    assert_eq!(decide(world.chat.as_ref(), &beyond, said, STAMP, &Rules::ALL), expected);
    for action in [edit(2, "x"), delete(2)] {
        assert_eq!(World::default().refused(&command(OWNER, 1, action)), (Code::UnknownChat, 0));
    }
}

#[test]
fn a_deleted_message_is_edited_no_more_and_deleted_once() {
    let mut world = World::with(ChatKind::Group, STAFF);
    world.stored(&command(MEMBER, 1, say("x")));
    assert_eq!(world.stored(&command(ADMIN, 1, delete(2))), 3);
    assert_eq!(world.refused(&command(MEMBER, 2, edit(2, "y"))), (Code::NoSuchMessage, 3));
    assert_eq!(world.refused(&command(MEMBER, 2, delete(2))), (Code::NoChange, 3));
    // A member learns that before it learns that it might not.
    assert_eq!(world.refused(&command(READER, 1, delete(2))), (Code::NoChange, 3));
}

#[test]
fn an_edit_names_the_one_before_and_neither_counts() {
    let mut world = World::with(ChatKind::Group, STAFF);
    world.stored(&command(MEMBER, 1, say("x")));
    world.stored(&command(MEMBER, 2, edit(2, "y")));
    world.stored(&command(MEMBER, 3, edit(2, "z")));
    world.stored(&command(ADMIN, 1, delete(2)));
    assert_eq!(world.stored(&command(MEMBER, 4, say("w"))), 6);
    let log: Vec<_> = world.log[1..].iter().map(|entry| (entry.ordinal, entry.event.clone())).collect();
    let edited = |body: &'static str, previous| {
        Event::MessageEdited(Edit { seq: 2, body: Bytes::from_static(body.as_bytes()), previous, erased: false })
    };
    assert_eq!(log[1..4], [(1, edited("y", 0)), (1, edited("z", 3)), (1, Event::MessageDeleted { seq: 2 })]);
    assert_eq!(log[4].0, 2, "a deleted message stays counted");
}

#[test]
fn a_repeat_of_an_edit_is_answered_and_another_text_is_a_conflict() {
    let mut world = World::with(ChatKind::Group, STAFF);
    world.stored(&command(MEMBER, 1, say("x")));
    let first = command(MEMBER, 2, edit(2, "y"));
    assert_eq!(world.stored(&first), 3);
    world.stored(&command(MEMBER, 3, edit(2, "z")));
    let time = world.log[2].time;
    assert_eq!(world.decide(&first), Decision::Repeat { seq: 3, time });
    assert_eq!(world.refused(&command(MEMBER, 2, edit(2, "other"))), (Code::Conflict, 4));
    assert_eq!(world.refused(&command(MEMBER, 2, delete(2))), (Code::Conflict, 4));
    // What was said first is still what a repeat of the send is compared with.
    assert_eq!(world.refused(&command(MEMBER, 1, say("z"))), (Code::Conflict, 4));
    let time = world.log[1].time;
    assert_eq!(world.decide(&command(MEMBER, 1, say("x"))), Decision::Repeat { seq: 2, time });
}

#[test]
fn of_what_is_deleted_no_hash_is_left_and_any_repeat_is_answered_as_stored() {
    let mut world = World::with(ChatKind::Group, STAFF);
    let (sent, changed) = (command(MEMBER, 1, say("secret")), command(MEMBER, 2, edit(2, "other secret")));
    world.stored(&sent);
    world.stored(&changed);
    world.stored(&command(MEMBER, 3, say("kept")));
    let hashes = [&sent, &changed].map(|command| command.event().content_hash().to_be_bytes());
    let holds = |world: &World, hash: &[u8; 16]| {
        let snapshot = world.chat().snapshot().encode_to_vec();
        snapshot.windows(16).any(|bytes| bytes == hash)
    };
    assert!(hashes.iter().all(|hash| holds(&world, hash)), "the check can fail");
    world.stored(&command(ADMIN, 1, delete(2)));
    assert!(!hashes.iter().any(|hash| holds(&world, hash)));
    let at = |seq: usize| world.log[seq - 1].time;
    let (first, second) = (at(2), at(3));
    for world in [&mut world.clone(), &mut World { chat: folded_from_rows(&world), ..world }] {
        assert_eq!(world.decide(&sent), Decision::Repeat { seq: 2, time: first });
        assert_eq!(world.decide(&command(MEMBER, 1, say("anything"))), Decision::Repeat { seq: 2, time: first });
        assert_eq!(world.decide(&changed), Decision::Repeat { seq: 3, time: second });
        assert_eq!(world.refused(&command(MEMBER, 3, say("not that"))), (Code::Conflict, 5), "others keep theirs");
    }
}

pub(crate) fn folded_from_rows(world: &World) -> Option<Chat> {
    let (first, later) = world.rows.split_first()?;
    let mut chat = Chat::create(first)?;
    later.iter().for_each(|row| chat.apply(row));
    Some(chat)
}

#[test]
fn an_edit_has_the_bounds_of_a_message_and_names_one() {
    let read = |action| Command::from_wire(user(1), command(1, 2, action).to_wire()).map(|_| ());
    let body = |bytes: usize| Action::EditMessage { seq: 2, body: vec![1; bytes].into() };
    assert_eq!(read(body(BODY_BYTES_MAX)), Ok(()));
    assert_eq!(read(body(BODY_BYTES_MAX + 1)), Err(Code::BodyTooLarge));
    assert_eq!([read(edit(0, "x")), read(delete(0))], [Err(Code::BadRequest), Err(Code::BadRequest)]);
}
