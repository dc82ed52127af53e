//! What kinds and roles forbid is named where it stands in a log, and what they allow is not.

use checker::{Chat, Client, Content, Hash, Invariant, Line, Observation, Policy, SeenEntry, User, check};

const DIRECT: i32 = 1;
const GROUP: i32 = 2;
const CHANNEL: i32 = 3;
const OWNER: i32 = 1;
const ADMIN: i32 = 2;
const MEMBER: i32 = 3;
const READER: i32 = 4;

/// 1 made it; 2 is an admin, 3 and 4 are members, 5 reads.
const ALL: Members<'_> = &[(1, OWNER), (2, ADMIN), (3, MEMBER), (4, MEMBER), (5, READER)];
const TWO: Members<'_> = &[(1, MEMBER), (2, MEMBER)];

enum Did {
    Say,
    Add(u8, i32),
    Remove(u8),
    Leave,
    Role(u8, i32),
    Rename,
    Hand(u8),
    Edit(u64),
    Delete(u64),
    React(u64),
    Pin(u64, &'static [u64]),
    Unpin(u64, &'static [u64]),
    /// Members add, or not, from now on; the entries stand a microsecond apart.
    Trust(bool),
    Slow(u32),
    Set(Policy),
}
use Did::{Add, Delete, Edit, Hand, Leave, Pin, React, Remove, Rename, Role, Say, Set, Slow, Trust, Unpin};

/// What the chat's first members did, one after the other.
type Deeds<'a> = &'a [(u8, Did)];
type Members<'a> = &'a [(u8, i32)];

fn user(number: u8) -> User {
    User::from([number; 16])
}

/// From what a chat has as it is made.
fn set(change: Policy) -> Content {
    let members_add = change.members_add.or(Some(false));
    let policy = Policy { members_add, slow_mode_s: change.slow_mode_s.or(Some(0)) };
    Content::PolicySet { policy, change }
}

/// The faults of a log in which 1 creates the chat and all this follows.
fn faults(kind: i32, members: Members<'_>, deeds: Deeds<'_>) -> Vec<String> {
    let chat = Chat::from([7; 16]);
    let created =
        Content::ChatCreated { kind, members: members.iter().map(|(number, role)| (user(*number), *role)).collect() };
    let events = deeds.iter().map(|(sender, did)| {
        let event = match did {
            Say => Content::Message,
            Add(who, role) => Content::MemberAdded { user: user(*who), role: *role },
            Remove(who) => Content::MemberRemoved { user: user(*who) },
            Leave => Content::MemberLeft,
            Role(who, role) => Content::RoleSet { user: user(*who), role: *role },
            Rename => Content::ChatRenamed,
            Hand(who) => Content::OwnershipTransferred { user: user(*who) },
            Edit(seq) => Content::Edited { seq: *seq },
            Delete(seq) => Content::Deleted { seq: *seq },
            React(seq) => Content::Reacted { seq: *seq },
            Pin(seq, pins) => Content::Pinned { seq: *seq, unpinned: false, pins: pins.to_vec() },
            Unpin(seq, pins) => Content::Pinned { seq: *seq, unpinned: true, pins: pins.to_vec() },
            Trust(members_add) => set(Policy { members_add: Some(*members_add), ..Policy::default() }),
            Slow(seconds) => set(Policy { slow_mode_s: Some(*seconds), ..Policy::default() }),
            Set(policy) => Content::PolicySet { policy: *policy, change: Policy::default() },
        };
        (*sender, event)
    });
    let (mut entries, mut ordinal) = (Vec::new(), 0);
    for ((sender, event), seq) in [(1, created)].into_iter().chain(events).zip(1..) {
        ordinal += u64::from(event == Content::Message);
        let (sender, origin, n, content) = (user(sender), u64::from(sender), seq, Hash(0));
        let hash = Hash(seq.into());
        entries.push(SeenEntry {
            chat,
            seq,
            ordinal,
            sender,
            origin,
            n,
            time: seq,
            hash,
            content,
            changed: None,
            event,
        });
    }
    let reader = user(members[0].0);
    let saw = Observation::FinalHistory { chat, reader, through: entries.len() as u64, entries };
    let report = check(&[Line { index: 0, client: Client(0), saw }]);
    assert!(report.faults.iter().all(|fault| fault.invariant == Invariant::N7), "{report}");
    report.faults.into_iter().map(|fault| fault.what).collect()
}

#[test]
fn what_roles_allow_is_no_fault() {
    let allowed: &[(i32, Members<'_>, Deeds<'_>)] = &[
        (DIRECT, TWO, &[(1, Say), (2, Say)]),
        (DIRECT, TWO, &[(1, Say), (1, Edit(2)), (1, Edit(2)), (1, Delete(2))]),
        (GROUP, ALL, &[(3, Say), (3, Edit(2)), (2, Delete(2)), (4, Say), (4, Delete(5))]),
        (CHANNEL, ALL, &[(1, Say), (2, Delete(2))]),
        (DIRECT, TWO, &[(1, Say), (2, React(2)), (2, React(2)), (2, Pin(2, &[2])), (1, Unpin(2, &[]))]),
        (
            CHANNEL,
            ALL,
            &[(1, Say), (3, React(2)), (2, Pin(2, &[2])), (1, Say), (1, Pin(5, &[2, 5])), (2, Unpin(2, &[5]))],
        ),
        (GROUP, ALL, &[(3, Say), (2, Pin(2, &[2])), (3, Delete(2)), (4, Say), (2, Pin(5, &[5]))]),
        (GROUP, ALL, &[(2, Trust(true)), (3, Add(6, MEMBER)), (6, Add(7, READER)), (2, Add(8, MEMBER))]),
        (GROUP, ALL, &[(3, Say), (1, Slow(1)), (1, Say), (2, React(2)), (4, Leave)]),
        (GROUP, ALL, &[(1, Say), (2, Say), (3, Say), (5, Leave), (3, Leave), (2, Leave)]),
        (GROUP, ALL, &[(1, Remove(2)), (1, Add(2, OWNER)), (2, Add(6, ADMIN)), (1, Leave)]),
        (GROUP, ALL, &[(2, Add(6, MEMBER)), (2, Add(7, READER)), (2, Remove(5)), (2, Remove(3))]),
        (CHANNEL, ALL, &[(1, Say), (2, Say), (3, Leave)]),
        (GROUP, &[(1, OWNER)], &[(1, Leave)]),
        (
            GROUP,
            ALL,
            &[(1, Role(3, OWNER)), (1, Role(1, MEMBER)), (3, Role(2, READER)), (3, Role(5, ADMIN)), (5, Rename)],
        ),
        (GROUP, ALL, &[(2, Role(3, READER)), (2, Role(5, MEMBER)), (2, Role(2, MEMBER)), (5, Say), (1, Rename)]),
        (CHANNEL, ALL, &[(1, Hand(5)), (5, Role(1, READER)), (5, Hand(3)), (3, Rename)]),
    ];
    for (place, (kind, members, deeds)) in allowed.iter().enumerate() {
        assert_eq!(faults(*kind, members, deeds), Vec::<String>::new(), "log {place}");
    }
}

#[test]
fn what_kinds_and_roles_forbid_is_named() {
    let forbidden: &[(&str, i32, Members<'_>, Deeds<'_>)] = &[
        ("writes without being a member", GROUP, ALL, &[(6, Say)]),
        ("writes without being a member", GROUP, ALL, &[(3, Leave), (3, Say)]),
        ("only reads", GROUP, ALL, &[(5, Say)]),
        ("only reads", CHANNEL, ALL, &[(5, Say)]),
        ("in a channel that others run", CHANNEL, ALL, &[(3, Say)]),
        ("reacts although its role only reads", GROUP, ALL, &[(1, Say), (5, React(2))]),
        ("reacts to what is no message", GROUP, ALL, &[(1, React(1))]),
        ("reacts to what is no message", GROUP, ALL, &[(1, Say), (1, Delete(2)), (1, React(2))]),
        ("pins although its role may not", GROUP, ALL, &[(3, Say), (3, Pin(2, &[2]))]),
        ("pins what is no message", GROUP, ALL, &[(1, Pin(1, &[1]))]),
        ("changes nothing", GROUP, ALL, &[(1, Say), (1, Pin(2, &[2])), (1, Pin(2, &[2]))]),
        ("changes nothing", GROUP, ALL, &[(1, Say), (1, Unpin(2, &[]))]),
        ("says other pins than there are", GROUP, ALL, &[(1, Say), (1, Pin(2, &[]))]),
        ("says other pins than there are", GROUP, ALL, &[(1, Say), (1, Say), (1, Pin(2, &[2])), (1, Pin(3, &[3]))]),
        ("governs a direct chat", DIRECT, TWO, &[(1, Slow(1))]),
        ("sets the policy although", GROUP, ALL, &[(3, Slow(1))]),
        ("changes nothing", GROUP, ALL, &[(1, Slow(0))]),
        ("slows the chat down too much", GROUP, ALL, &[(1, Slow(21_601))]),
        ("is not what it asked for", GROUP, ALL, &[(1, Set(Policy { members_add: Some(true), slow_mode_s: Some(0) }))]),
        ("before slow mode lets it", GROUP, ALL, &[(3, Say), (1, Slow(1)), (3, Say)]),
        ("before slow mode lets it", GROUP, ALL, &[(1, Say), (1, Slow(1)), (3, React(2)), (3, React(2))]),
        ("its role may not", GROUP, ALL, &[(1, Trust(true)), (3, Add(6, ADMIN))]),
        ("its role may not", GROUP, ALL, &[(1, Trust(true)), (5, Add(6, READER))]),
        ("its role may not", GROUP, ALL, &[(1, Trust(true)), (3, Remove(4))]),
        ("is a member already", GROUP, ALL, &[(1, Trust(true)), (3, Add(4, MEMBER))]),
        ("members of a direct chat", DIRECT, TWO, &[(1, Add(3, MEMBER))]),
        ("members of a direct chat", DIRECT, TWO, &[(1, Remove(2))]),
        ("members of a direct chat", DIRECT, TWO, &[(2, Leave)]),
        ("its role may not", GROUP, ALL, &[(3, Add(6, MEMBER))]),
        ("its role may not", GROUP, ALL, &[(3, Remove(2))]),
        ("its role may not", GROUP, ALL, &[(3, Remove(1))]),
        ("its role may not", GROUP, ALL, &[(3, Remove(4))]),
        ("its role may not", GROUP, ALL, &[(5, Remove(4))]),
        ("is a member already", GROUP, ALL, &[(1, Add(3, MEMBER))]),
        ("a role that there is not", GROUP, ALL, &[(1, Add(6, 0))]),
        ("a role that there is not", GROUP, ALL, &[(1, Add(6, 5))]),
        ("gives a role that is not below its own", GROUP, ALL, &[(2, Add(6, ADMIN))]),
        ("gives a role that is not below its own", GROUP, ALL, &[(2, Add(6, OWNER))]),
        ("removes who is no member", GROUP, ALL, &[(1, Remove(6))]),
        ("removes whose role is not below its own", GROUP, ALL, &[(2, Remove(1))]),
        ("removes whose role is not below its own", GROUP, ALL, &[(1, Add(6, ADMIN)), (2, Remove(6))]),
        ("removes whose role is not below its own", GROUP, ALL, &[(1, Add(6, OWNER)), (1, Remove(6))]),
        ("leaves as the last owner", GROUP, ALL, &[(1, Leave)]),
        ("leaves as the last owner", GROUP, ALL, &[(1, Add(6, OWNER)), (6, Leave), (1, Leave)]),
        ("governs a direct chat", DIRECT, TWO, &[(1, Rename)]),
        ("governs a direct chat", DIRECT, TWO, &[(1, Role(2, READER))]),
        ("governs a direct chat", DIRECT, TWO, &[(1, Hand(2))]),
        ("changes roles although", GROUP, ALL, &[(3, Role(4, READER))]),
        ("changes roles although", GROUP, ALL, &[(3, Role(3, READER))]),
        ("of who is no member", GROUP, ALL, &[(1, Role(6, READER))]),
        ("a role that there is not", GROUP, ALL, &[(1, Role(3, 0))]),
        ("changes nothing", GROUP, ALL, &[(1, Role(3, MEMBER))]),
        ("changes a role that is not below", GROUP, ALL, &[(2, Role(1, MEMBER))]),
        ("changes a role that is not below", GROUP, ALL, &[(1, Role(3, OWNER)), (1, Role(3, MEMBER))]),
        ("gives a role that is not below", GROUP, ALL, &[(2, Role(3, ADMIN))]),
        ("gives a role that is not below", GROUP, ALL, &[(2, Role(2, OWNER))]),
        ("steps down as the last owner", GROUP, ALL, &[(1, Role(1, ADMIN))]),
        ("renames the chat although", GROUP, ALL, &[(3, Rename)]),
        ("hands on what it does not own", GROUP, ALL, &[(2, Hand(3))]),
        ("hands on what it does not own", GROUP, ALL, &[(1, Hand(3)), (1, Hand(2))]),
        ("makes an owner of who is no member", GROUP, ALL, &[(1, Hand(6))]),
        ("changes nothing", GROUP, ALL, &[(1, Hand(1))]),
        ("creates a chat that it is not in", GROUP, &[(2, OWNER)], &[]),
        ("of no kind", 0, ALL, &[]),
        ("in twice", GROUP, &[(1, OWNER), (2, MEMBER), (2, MEMBER)], &[]),
        ("a role that there is not", GROUP, &[(1, OWNER), (2, 9)], &[]),
        ("direct chat of other than two", DIRECT, ALL, &[]),
        ("not the one owner", GROUP, &[(1, MEMBER), (2, MEMBER)], &[]),
        ("what it has not said", GROUP, ALL, &[(3, Say), (1, Edit(2))]),
        ("is no message, or no more", GROUP, ALL, &[(3, Say), (3, Edit(1))]),
        ("is no message, or no more", GROUP, ALL, &[(3, Say), (3, Delete(2)), (3, Edit(2))]),
        ("only reads", GROUP, ALL, &[(3, Say), (1, Role(3, READER)), (3, Edit(2))]),
        ("deletes what is deleted", GROUP, ALL, &[(3, Say), (3, Delete(2)), (1, Delete(2))]),
        ("deletes what is no message", GROUP, ALL, &[(1, Delete(1))]),
        ("without running the chat", GROUP, ALL, &[(3, Say), (4, Delete(2))]),
        ("without running the chat", DIRECT, TWO, &[(1, Say), (2, Delete(2))]),
        ("not the one owner", CHANNEL, &[(1, OWNER), (2, OWNER)], &[]),
    ];
    for (words, kind, members, deeds) in forbidden {
        let faults = faults(*kind, members, deeds);
        assert!(matches!(&faults[..], [one] if one.contains(words)), "{words}: {faults:?}");
    }
}

#[test]
fn a_chat_has_at_most_a_thousand_members() {
    let many = |last: u16| {
        let chat = Chat::from([7; 16]);
        let id = |number: u16| User::from(u128::from(number).to_be_bytes());
        let members = (1..=1_000).map(|number| (id(number), if number == 1 { OWNER } else { MEMBER })).collect();
        let created = Content::ChatCreated { kind: GROUP, members };
        let added = (1_001..=last).map(|number| Content::MemberAdded { user: id(number), role: MEMBER });
        let entries = [created].into_iter().chain(added).zip(1..).map(|(event, seq)| {
            let (hash, content) = (Hash(seq.into()), Hash(0));
            SeenEntry {
                chat,
                seq,
                ordinal: 0,
                sender: id(1),
                origin: 1,
                n: seq,
                time: seq,
                hash,
                content,
                changed: None,
                event,
            }
        });
        let entries: Vec<_> = entries.collect();
        let saw = Observation::FinalHistory { chat, reader: id(1), through: entries.len() as u64, entries };
        check(&[Line { index: 0, client: Client(0), saw }])
    };
    assert!(many(1_000).is_clean(), "{}", many(1_000));
    assert!(many(1_001).to_string().contains("adds more members than there may be"));
}
