//! A client's command as it comes in: each field that is refused, and the way back.

use bytes::Bytes;
use domain::limits::{BODY_BYTES_MAX, MEMBERS_MAX, MENTIONS_MAX, NAME_BYTES_MAX};
use domain::{Action, ChatKind, Code, Command, Message, Origin, Role, Version};
use proto::v1;
use proto::v1::command::Action as Wire;

use crate::setup::{command, create, member, say, user};

fn send() -> v1::Command {
    Command { after: 1, ..command(1, 2, say("x")) }.to_wire()
}

fn read(wire: v1::Command) -> Result<Command, Code> {
    Command::from_wire(user(1), wire)
}

fn creation(kind: i32, members: Vec<v1::Member>) -> v1::Command {
    v1::Command {
        action: Some(Wire::CreateChat(v1::CreateChat { kind, members })),
        ..create(ChatKind::Group, &[]).to_wire()
    }
}

#[test]
fn every_command_comes_back_as_it_was() {
    let actions = [
        say(""),
        Action::SendMessage(Message {
            body: Bytes::from_static(b"yes"),
            reply_to: Some(2),
            mentions: vec![user(9), user(2)],
            mention_all: true,
            version: Version::Original,
        }),
        Action::EditMessage { seq: 2, body: Bytes::from_static(b"no") },
        Action::DeleteMessage { seq: 2 },
        Action::AddMember { member: member(2, Role::Owner) },
        Action::SetRole { member: member(2, Role::Reader) },
        Action::RenameChat { name: "the café".into() },
        Action::RenameChat { name: "".into() },
        Action::TransferOwnership { user: user(2) },
        Action::RemoveMember { user: user(2) },
        Action::LeaveChat,
    ];
    for action in actions {
        let command = Command { after: 3, basis: 9, ..command(1, 4, action) };
        assert_eq!(read(command.to_wire()), Ok(command));
    }
    let create = create(ChatKind::Channel, &[(2, Role::Admin), (3, Role::Reader)]);
    assert_eq!(read(create.to_wire()), Ok(create));
}

#[test]
fn each_field_out_of_its_range_is_refused() {
    assert!(read(send()).is_ok());
    let bad: [(&str, v1::Command); 14] = [
        ("no action", v1::Command { action: None, ..send() }),
        ("short chat", v1::Command { chat: vec![1; 15].into(), ..send() }),
        ("chat of another version", v1::Command { chat: vec![0x40; 16].into(), ..send() }),
        ("no chat", v1::Command { chat: Bytes::new(), ..send() }),
        ("no origin", v1::Command { origin: 0, ..send() }),
        ("no n", v1::Command { n: 0, after: 0, ..send() }),
        ("after itself", v1::Command { after: 2, ..send() }),
        ("nobody added", v1::Command { action: Some(Wire::AddMember(v1::AddMember { member: None })), ..send() }),
        (
            "added as nothing",
            v1::Command {
                action: Some(Wire::AddMember(v1::AddMember {
                    member: Some(v1::Member { user: user(2).to_wire(), role: 0 }),
                })),
                ..send()
            },
        ),
        (
            "short member",
            v1::Command {
                action: Some(Wire::AddMember(v1::AddMember {
                    member: Some(v1::Member { user: vec![1; 3].into(), role: 3 }),
                })),
                ..send()
            },
        ),
        (
            "a role that there is not",
            v1::Command { action: Some(Wire::SetRole(v1::SetRole { user: user(2).to_wire(), role: 9 })), ..send() },
        ),
        (
            "nobody's role",
            v1::Command { action: Some(Wire::SetRole(v1::SetRole { user: Bytes::new(), role: 3 })), ..send() },
        ),
        (
            "handed to nobody",
            v1::Command {
                action: Some(Wire::TransferOwnership(v1::TransferOwnership { user: Bytes::new() })),
                ..send()
            },
        ),
        (
            "short user",
            v1::Command { action: Some(Wire::RemoveMember(v1::RemoveMember { user: vec![1; 17].into() })), ..send() },
        ),
    ];
    for (what, wire) in bad {
        assert_eq!(read(wire), Err(Code::BadRequest), "{what}");
    }
}

#[test]
fn a_body_may_be_as_long_as_the_limit_and_no_longer() {
    let body = |bytes: usize| v1::Command {
        action: Some(Wire::SendMessage(v1::SendMessage { body: vec![1; bytes].into(), ..v1::SendMessage::default() })),
        ..send()
    };
    assert!(read(body(BODY_BYTES_MAX)).is_ok());
    assert_eq!(read(body(BODY_BYTES_MAX + 1)), Err(Code::BodyTooLarge));
}

#[test]
fn a_message_names_each_user_once_and_no_more_than_it_may() {
    let naming = |users: Vec<Bytes>| v1::Command {
        action: Some(Wire::SendMessage(v1::SendMessage { mentions: users, ..v1::SendMessage::default() })),
        ..send()
    };
    let users = |count: usize| (0..count).map(|n| user(u16::try_from(n).unwrap()).to_wire()).collect::<Vec<_>>();
    assert!(read(naming(users(MENTIONS_MAX))).is_ok());
    let twice = vec![user(1).to_wire(), user(2).to_wire(), user(1).to_wire()];
    for refused in [users(MENTIONS_MAX + 1), twice, vec![Bytes::from_static(b"bob")], vec![Bytes::new()]] {
        assert_eq!(read(naming(refused.clone())), Err(Code::BadRequest), "{refused:?}");
    }
}

#[test]
fn a_name_is_one_line_within_the_limit() {
    let named =
        |name: &str| v1::Command { action: Some(Wire::RenameChat(v1::RenameChat { name: name.to_owned() })), ..send() };
    for name in ["", "x", "on tuesdays", "\u{1f9d7}", &"ä".repeat(NAME_BYTES_MAX / 2)] {
        assert!(read(named(name)).is_ok(), "{name}");
    }
    let long = "x".repeat(NAME_BYTES_MAX + 1);
    for name in [" x", "x ", "\u{3000}x", " ", "a\nb", "a\u{1b}[2J", "a\u{85}b", &long] {
        assert_eq!(read(named(name)), Err(Code::BadRequest), "{name:?}");
    }
}

#[test]
fn a_creation_names_distinct_others_within_the_limit_and_no_second_owner() {
    let (direct, group) = (v1::ChatKind::Direct as i32, v1::ChatKind::Group as i32);
    let one = |n: u16| v1::Member { user: user(n).to_wire(), role: v1::Role::Member.into() };
    let many = |count: usize| (0..count).map(|n| one(u16::try_from(n).unwrap() + 2)).collect::<Vec<_>>();
    assert!(read(creation(group, many(MEMBERS_MAX - 1))).is_ok());
    assert_eq!(read(creation(group, many(MEMBERS_MAX))), Err(Code::TooManyMembers));
    assert!(read(creation(group, Vec::new())).is_ok());
    assert!(read(creation(direct, vec![one(2)])).is_ok());
    let owner = v1::Member { role: v1::Role::Owner.into(), ..one(2) };
    let refused = [
        (0, vec![one(2)]),
        (99, vec![one(2)]),
        (direct, vec![]),
        (direct, vec![one(2), one(3)]),
        (direct, vec![one(1)]),
        (group, vec![one(1)]),
        (group, vec![one(2), one(2)]),
        (group, vec![owner]),
    ];
    for (kind, members) in refused {
        assert_eq!(read(creation(kind, members.clone())), Err(Code::BadRequest), "{kind} {members:?}");
    }
    // Its identity is its chat: origin and n say nothing.
    assert_eq!(read(creation(group, Vec::new())).map(|it| (it.origin, it.n)), Ok((Origin(0), 0)));
}
