//! However a stream of commands is cut, restored and repeated, it makes the same log.

use std::collections::{BTreeMap, BTreeSet};

use domain::{Action, ChatKind, Command, Decision, Entry, Message, Micros, Origin, Role};
use proptest::prelude::*;

use crate::setup::{STAMP, World, command, create, member, say, user};
use crate::versions::folded_from_rows;

fn action() -> impl Strategy<Value = Action> {
    let role = prop::sample::select(vec![Role::Admin, Role::Member, Role::Reader]);
    let every = prop::sample::select(vec![Role::Owner, Role::Admin, Role::Member, Role::Reader]);
    prop_oneof![
        6 => "[ab]{0,2}".prop_map(say),
        2 => (0..90_u64, prop::collection::btree_set(1..9_u16, 0..3)).prop_map(|(seq, users)| referring(seq, users)),
        2 => (2..7_u16, role).prop_map(|(n, role)| Action::AddMember { member: member(n, role) }),
        1 => (1..7_u16).prop_map(|n| Action::RemoveMember { user: user(n) }),
        1 => Just(Action::LeaveChat),
        2 => (1..7_u16, every).prop_map(|(n, role)| Action::SetRole { member: member(n, role) }),
        1 => (1..7_u16).prop_map(|n| Action::TransferOwnership { user: user(n) }),
        1 => "[ab]{0,2}".prop_map(|name| Action::RenameChat { name: name.into() }),
        4 => (1..40_u64, "[ab]{0,2}").prop_map(|(seq, body)| Action::EditMessage { seq, body: body.into() }),
        2 => (1..40_u64).prop_map(|seq| Action::DeleteMessage { seq }),
    ]
}

fn referring(seq: u64, users: BTreeSet<u16>) -> Action {
    let reply_to = (seq > 0).then_some(seq);
    let mentions = users.into_iter().map(user).collect();
    Action::SendMessage(Message { reply_to, mentions, mention_all: seq.is_multiple_of(5), ..Message::plain("a") })
}

/// Any command, sensible or not, and its record's stamp, which may go back.
fn anything() -> impl Strategy<Value = (Command, Micros)> {
    let numbers = (1..7_u16, 1..4_u64, 1..60_u64, 0..60_u64, 0..60_u64);
    (numbers, action(), 0..2_000_000_u64).prop_map(|((sender, origin, n, after, basis), action, stamp)| {
        let after = after % n;
        (Command { origin: Origin(origin), after, basis, ..command(sender, n, action) }, STAMP + stamp)
    })
}

fn stream() -> impl Strategy<Value = Vec<(Command, Micros)>> {
    let staff = [(2, Role::Admin), (3, Role::Member), (4, Role::Reader)];
    prop::collection::vec(anything(), 0..150).prop_map(move |mut commands| {
        commands.insert(0, (create(ChatKind::Group, &staff), STAMP));
        commands
    })
}

/// A client that keeps the protocol: n counts up, `basis` is the head that it knew.
#[derive(Default)]
struct Outbox {
    sent: BTreeMap<(u16, u64), u64>,
}

impl Outbox {
    fn next(&mut self, sender: u16, origin: u64, basis: u64) -> Command {
        let n = self.sent.entry((sender, origin)).or_default();
        *n += 1;
        Command { origin: Origin(origin), after: *n - 1, basis, ..command(sender, *n, say(format!("{n}"))) }
    }
}

proptest! {
    #[test]
    fn cut_anywhere_and_restored_there_it_decides_the_same(stream in stream(), cuts in prop::collection::vec(any::<bool>(), 151)) {
        let mut straight = World::default();
        let mut cut = World::default();
        for ((command, stamp), ends_batch) in stream.iter().zip(cuts) {
            let expected = straight.decide_at(command, *stamp);
            prop_assert_eq!(cut.decide_at(command, *stamp), expected);
            if ends_batch {
                cut.chat = cut.restored();
                prop_assert_eq!(&cut.chat, &straight.chat);
            }
        }
        prop_assert_eq!(cut.log, straight.log);
    }

    #[test]
    fn folded_from_its_rows_it_is_what_is_folded_from_its_events(stream in stream(), cut in 0..150_usize) {
        let mut world = World::default();
        let mut early = None;
        for (at, (command, stamp)) in stream.iter().enumerate() {
            world.decide_at(command, *stamp);
            if at == cut {
                early = world.restored();
            }
        }
        let folded = folded_from_rows(&world);
        prop_assert_eq!(&folded, &world.chat);
        // From a snapshot of any time and the rows above it, as they are now.
        if let Some(mut early) = early {
            let head = usize::try_from(early.head()).unwrap();
            world.rows[head..].iter().for_each(|row| early.apply(row));
            prop_assert_eq!(Some(early), folded);
        }
        // The rows that come again change nothing, and are known for what they are.
        for (row, entry) in world.rows.iter().zip(&world.log) {
            prop_assert!(row.is_version_of(entry), "{row:?} of {entry:?}");
            prop_assert!(world.log.iter().all(|by| row.changed_by(by).is_none()));
        }
    }

    #[test]
    fn seq_is_dense_time_strictly_grows_and_ordinals_count_messages(stream in stream()) {
        let mut world = World::default();
        for (command, stamp) in &stream {
            if let Decision::Append(entry) = world.decide_at(command, *stamp) {
                prop_assert!(entry.time >= *stamp);
            }
        }
        let mut ordinal = 0;
        let mut identities = BTreeSet::new();
        for (at, entry) in world.log.iter().enumerate() {
            ordinal += u64::from(entry.event.is_message());
            prop_assert_eq!((entry.seq, entry.ordinal), (at as u64 + 1, ordinal));
            prop_assert!(at == 0 || entry.time > world.log[at - 1].time);
            prop_assert!(identities.insert((entry.sender, entry.origin, entry.n)), "stored twice: {:?}", entry);
        }
    }

    #[test]
    fn late_copies_of_what_is_stored_change_nothing(
        stream in stream(),
        copies in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 0..80),
    ) {
        let mut once = World::default();
        let stored: Vec<_> = stream.iter().map(|(command, stamp)| {
            matches!(once.decide_at(command, *stamp), Decision::Append(_))
        }).collect();
        let mut repeated = World::default();
        let mut late: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (of, at) in copies {
            let (of, at) = (of.index(stream.len()), at.index(stream.len()));
            if stored[of] && at >= of {
                late.entry(at).or_default().push(of);
            }
        }
        for (at, (command, stamp)) in stream.iter().enumerate() {
            repeated.decide_at(command, *stamp);
            for of in late.get(&at).into_iter().flatten() {
                let answer = repeated.decide_at(&stream[*of].0, STAMP + 5_000_000);
                prop_assert!(!matches!(answer, Decision::Append(_)), "{answer:?}");
            }
        }
        prop_assert_eq!(repeated.log, once.log);
        prop_assert_eq!(repeated.chat, once.chat);
    }

    #[test]
    fn nothing_is_stored_twice_even_after_its_origin_was_forgotten(
        sends in prop::collection::vec((1..3_u16, 1..200_u64, 0..4_u64), 1..300),
        copies in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 0..200),
        days in prop::collection::vec(0..3_u64, 300),
    ) {
        let mut world = World::with(ChatKind::Group, &[(2, Role::Member), (3, Role::Member)]);
        let mut outbox = Outbox::default();
        let mut sent: Vec<Command> = Vec::new();
        let mut late: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (of, at) in copies {
            let (of, at) = (of.index(sends.len()), at.index(sends.len()));
            late.entry(at.max(of)).or_default().push(of);
        }
        let mut stamp = STAMP;
        for (at, (sender, origin, lag)) in sends.iter().enumerate() {
            stamp += days[at] * 10_000_000_000;
            let basis = world.chat().head().saturating_sub(*lag);
            let command = outbox.next(*sender, *origin, basis);
            world.decide_at(&command, stamp);
            sent.push(command);
            for of in late.get(&at).into_iter().flatten() {
                world.decide_at(&sent[*of], stamp);
            }
            if at % 7 == 0 {
                world.chat = world.restored();
            }
        }
        let identity = |entry: &Entry| (entry.sender, entry.origin, entry.n);
        let distinct: BTreeSet<_> = world.log.iter().map(identity).collect();
        prop_assert_eq!(distinct.len(), world.log.len());
    }
}
