use super::*;
use crate::{Action, Command, Decision, Partition, Rules, Target, decide};

const NOW: Micros = 1_790_000_000_000_000;
const THEN: Micros = 1_300_000_000_000_000;

fn user(byte: u8) -> UserId {
    UserId::new([byte; 16])
}

fn step(seq: Seq, step: Step) -> Import {
    let chat = ChatId::draw(Partition(3), 1_300_000_000_000, 7);
    Import { chat, import: ImportId::new([8; 16]), sender: user(1), seq, step }
}

fn begin(kind: ChatKind) -> Import {
    step(1, Step::Begin { kind, time: THEN })
}

fn said(seq: Seq, text: &'static str) -> Import {
    // By somebody who is not in it any more.
    let said = step(seq, Step::Message { time: THEN + seq, body: Bytes::from_static(text.as_bytes()) });
    Import { sender: user(9), ..said }
}

fn end(seq: Seq, members: &[(u8, Role)]) -> Import {
    let members = members.iter().map(|(byte, role)| Member { user: user(*byte), role: *role }).collect();
    step(seq, Step::End { members })
}

/// Decides and folds.
fn take(chat: &mut Option<Chat>, asked: &Import) -> Decision {
    let decision = decide_import(chat.as_ref(), asked, NOW);
    if let Decision::Append(entry) = &decision {
        match chat {
            Some(chat) => chat.apply(entry),
            None => *chat = Chat::create(entry),
        }
    }
    decision
}

fn code(decision: &Decision) -> Option<Code> {
    if let Decision::Reject { code, .. } = decision { Some(*code) } else { None }
}

fn command(sender: u8, action: Action) -> Command {
    let chat = begin(ChatKind::Group).chat;
    let n = u64::from(!matches!(action, Action::CreateChat { .. }));
    Command { chat, sender: user(sender), origin: Origin(5), n, after: 0, basis: 0, action }
}

fn imported() -> (Chat, Vec<Import>) {
    let mut chat = None;
    let owner = [(1, Role::Owner), (2, Role::Member)];
    let steps = vec![begin(ChatKind::Group), said(2, "a"), said(3, "b"), end(4, &owner)];
    for asked in &steps {
        assert!(matches!(take(&mut chat, asked), Decision::Append(_)), "{asked:?}");
    }
    (chat.unwrap(), steps)
}

#[test]
fn entries_keep_their_times_and_the_chat_goes_on_behind_them() {
    let (chat, _) = imported();
    assert_eq!((chat.head(), chat.ordinal(), chat.last_time()), (4, 2, NOW), "it ends when it ends");
    assert_eq!(chat.members().keys().copied().collect::<Vec<_>>(), [user(1), user(2)]);
    assert!(chat.members().values().all(|member| member.joined_seq == 1), "what is before is theirs");
    let hello = command(2, Action::SendMessage(Message::plain("hello")));
    let Decision::Append(next) = decide(Some(&chat), &hello, Target::Missing, NOW, &Rules::ALL) else {
        panic!("refused")
    };
    assert_eq!((next.seq, next.ordinal, next.time), (5, 3, NOW + 1));
}

#[test]
fn a_step_that_has_its_entry_gets_the_first_answer_again_and_one_too_far_makes_no_hole() {
    let mut chat = None;
    let (_, steps) = imported();
    assert_eq!(code(&take(&mut chat, &steps[1])), Some(Code::PredecessorMissing), "nothing begins with a message");
    for (place, asked) in steps.iter().enumerate() {
        let Decision::Append(first) = take(&mut chat, asked) else { panic!("refused: {asked:?}") };
        for earlier in &steps[..=place] {
            let Decision::Repeat { seq, .. } = take(&mut chat, earlier) else { panic!("no repeat: {earlier:?}") };
            assert_eq!(seq, earlier.seq);
        }
        let again = Decision::Repeat { seq: first.seq, time: first.time };
        assert_eq!(take(&mut chat, asked), again);
        // M10: whatever the log's clock says now.
        assert_eq!(decide_import(chat.as_ref(), asked, 0), again);
        let far = if place < 2 { steps.get(place + 2) } else { None };
        assert_eq!(far.and_then(|far| code(&take(&mut chat, far))), far.map(|_| Code::PredecessorMissing));
    }
    assert_eq!(chat, Some(imported().0));
}

#[test]
fn what_another_import_says_is_a_conflict_and_so_is_what_comes_after_the_end() {
    let (chat, steps) = imported();
    let mut chat = Some(chat);
    for asked in &steps {
        let other = Import { import: ImportId::new([9; 16]), ..asked.clone() };
        assert_eq!(code(&take(&mut chat, &other)), Some(Code::Conflict));
    }
    for late in [said(4, "c"), said(5, "c"), end(3, &[(1, Role::Owner)]), end(5, &[(1, Role::Owner)])] {
        assert_eq!(code(&take(&mut chat, &late)), Some(Code::Conflict), "{late:?}");
    }
    // Nor into a chat that members opened.
    let create = command(1, Action::CreateChat { kind: ChatKind::Group, members: Vec::new() });
    let Decision::Append(first) = decide(None, &create, Target::Missing, NOW, &Rules::ALL) else { panic!("refused") };
    let mut opened = Chat::create(&first);
    for asked in &steps {
        assert_eq!(code(&take(&mut opened, asked)), Some(Code::Conflict));
    }
}

#[test]
fn a_time_that_an_entry_would_not_keep_is_refused() {
    let mut chat = None;
    let ahead = step(1, Step::Begin { kind: ChatKind::Group, time: NOW + 1 });
    assert_eq!(code(&take(&mut chat, &ahead)), Some(Code::BadRequest));
    take(&mut chat, &begin(ChatKind::Group));
    for time in [0, THEN - 1, THEN, NOW + 1] {
        let bad = step(2, Step::Message { time, body: Bytes::new() });
        assert_eq!(code(&take(&mut chat, &bad)), Some(Code::BadRequest), "{time}");
    }
    assert!(matches!(take(&mut chat, &said(2, "")), Decision::Append(_)), "the control");
}

#[test]
fn nobody_gets_anything_into_it_before_its_end_or_learns_that_it_is_there() {
    let mut chat = None;
    take(&mut chat, &begin(ChatKind::Group));
    take(&mut chat, &said(2, "a"));
    for action in [
        Action::SendMessage(Message::default()),
        Action::LeaveChat,
        Action::AddMember { member: Member { user: user(3), role: Role::Member } },
        Action::RemoveMember { user: user(1) },
    ] {
        let rejected = Decision::Reject { code: Code::UnknownChat, head: 0 };
        assert_eq!(decide(chat.as_ref(), &command(1, action), Target::Missing, NOW, &Rules::ALL), rejected);
    }
    // Who was led here by the claim of two comes again.
    let create = command(1, Action::CreateChat { kind: ChatKind::Group, members: Vec::new() });
    let rejected = Decision::Reject { code: Code::Unavailable, head: 0 };
    assert_eq!(decide(chat.as_ref(), &create, Target::Missing, NOW, &Rules::ALL), rejected);
}

#[test]
fn two_who_open_their_direct_chat_get_the_one_that_was_imported() {
    let mut chat = None;
    let both = [(1, Role::Member), (2, Role::Member)];
    for asked in [begin(ChatKind::Direct), said(2, "a"), end(3, &both)] {
        assert!(matches!(take(&mut chat, &asked), Decision::Append(_)));
    }
    let open = |by, other| {
        let members = vec![Member { user: user(other), role: Role::Member }];
        let create = command(by, Action::CreateChat { kind: ChatKind::Direct, members });
        decide(chat.as_ref(), &create, Target::Missing, NOW, &Rules::ALL)
    };
    for (by, other) in [(1, 2), (2, 1)] {
        assert_eq!(open(by, other), Decision::Repeat { seq: 1, time: THEN });
    }
    assert_eq!(code(&open(1, 3)), Some(Code::Conflict));
}

#[test]
fn an_import_ends_with_members_that_the_chat_can_have() {
    let owned: &[(u8, Role)] = &[(1, Role::Owner), (2, Role::Reader)];
    let plain: &[(u8, Role)] = &[(1, Role::Member), (2, Role::Member)];
    for (kind, good, bad) in [
        (ChatKind::Group, owned, plain),
        (ChatKind::Channel, owned, plain),
        (ChatKind::Direct, plain, owned),
        (ChatKind::Direct, plain, &plain[..1]),
    ] {
        let mut chat = None;
        take(&mut chat, &begin(kind));
        assert_eq!(code(&take(&mut chat, &end(2, bad))), Some(Code::BadRequest), "{kind:?}");
        assert!(matches!(take(&mut chat, &end(2, good)), Decision::Append(_)), "{kind:?}");
    }
}

#[test]
fn a_snapshot_holds_what_the_fold_knows_at_each_seq() {
    let (_, steps) = imported();
    let mut chat = None;
    for asked in &steps {
        take(&mut chat, asked);
        let now = chat.as_ref().unwrap();
        let members = now.members().iter().map(|(user, member)| (*user, *member));
        assert_eq!(Chat::restore(now.id(), &now.snapshot(), members).unwrap(), *now);
        assert_eq!(now.is_importing(), asked.seq < 4);
    }
}

#[test]
fn a_client_has_no_way_to_say_one() {
    use prost::Message as _;
    let create = Action::CreateChat { kind: ChatKind::Group, members: Vec::new() };
    let good = command(1, create.clone()).to_wire().encode_to_vec();
    let read = |bytes: &[u8]| proto::v1::Command::decode(bytes).map(|wire| Command::from_wire(user(1), wire));
    // A field that a frame does not have is passed over: here number 100, with a step in it.
    let step = said(2, "a").to_wire().encode_to_vec();
    let hidden = [&good[..], &[0xa2, 0x06, u8::try_from(step.len()).unwrap()], &step].concat();
    assert_eq!(read(&hidden).unwrap().map(|command| command.action), Ok(create));
    // As the record has it, it is no command.
    let record = log::Command { import: Some(said(2, "a").to_wire()), ..log::Command::default() };
    assert!(read(&record.encode_to_vec()).is_err());
}

#[test]
fn a_step_survives_the_wire_and_one_that_makes_no_sense_does_not() {
    let (_, steps) = imported();
    for asked in steps {
        assert_eq!(Import::from_wire(asked.sender, asked.to_wire()), Ok(asked));
    }
    let members = [(2, Role::Member), (1, Role::Owner)];
    for bad in [
        step(2, Step::Begin { kind: ChatKind::Group, time: THEN }),
        said(1, "a"),
        said(0, "a"),
        end(2, &[]),
        end(2, &members),
        end(2, &[(1, Role::Owner), (1, Role::Member)]),
        Import { chat: ChatId::new([7; 16]), ..said(2, "a") },
    ] {
        assert_eq!(Import::from_wire(bad.sender, bad.to_wire()), Err(Code::BadRequest), "{bad:?}");
    }
    let long = Step::Message { time: THEN, body: vec![0; BODY_BYTES_MAX + 1].into() };
    assert_eq!(Import::from_wire(user(1), step(2, long).to_wire()), Err(Code::BodyTooLarge));
    let many = (0..=MEMBERS_MAX).map(|n| {
        let mut bytes = [1; 16];
        bytes[..8].copy_from_slice(&(n as u64).to_be_bytes());
        Member { user: UserId::new(bytes), role: Role::Owner }
    });
    let many = step(2, Step::End { members: many.collect() });
    assert_eq!(Import::from_wire(user(1), many.to_wire()), Err(Code::TooManyMembers));
    assert_eq!(Import::from_wire(user(1), log::Import { step: None, ..said(2, "a").to_wire() }), Err(Code::BadRequest));
}
