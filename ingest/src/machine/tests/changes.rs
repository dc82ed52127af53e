//! Edits and deletions: what they are judged by, wherever that stands, and what is read for it.

use super::*;

fn change(id: ChatId, n: u64, action: Ask) -> Command {
    Command { action, after: 0, ..send(id, n) }
}

fn edit(id: ChatId, n: u64, seq: Seq) -> Command {
    change(id, n, Ask::EditMessage { seq, body: format!("edit {n}").into() })
}

fn delete(id: ChatId, n: u64, seq: Seq) -> Command {
    change(id, n, Ask::DeleteMessage { seq })
}

/// In each chat three messages, seqs 2 to 4; what becomes of them; each command twice.
fn workload(chats: u64) -> Vec<Vec<Command>> {
    let mut records = vec![(0..chats).map(|at| create(chat(at))).collect()];
    let steps: [&dyn Fn(ChatId) -> Command; 9] = [
        &|id| send(id, 1),
        &|id| send(id, 2),
        &|id| send(id, 3),
        &|id| edit(id, 4, 2),
        &|id| edit(id, 5, 2),
        &|id| delete(id, 6, 3),
        // It is gone.
        &|id| edit(id, 7, 3),
        &|id| edit(id, 8, 2),
        &|id| delete(id, 9, 2),
    ];
    for step in steps {
        records.push((0..chats).flat_map(|at| [step(chat(at)), step(chat(at))]).collect());
    }
    records
}

fn check(world: &World) -> Result<(), TestCaseError> {
    for at in 0..3 {
        let mut log: Vec<domain::Entry> = Vec::new();
        for record in world.events.iter().map(|bytes| tail_record(1, bytes)) {
            log.extend(record.entries.into_iter().map(|entry| entry.entry).filter(|entry| entry.chat == chat(at)));
        }
        let previous: Vec<_> = log
            .iter()
            .filter_map(|entry| {
                let Event::MessageEdited(edit) = &entry.event else { return None };
                Some((entry.n, edit.previous))
            })
            .collect();
        let numbers: Vec<_> = log.iter().map(|entry| (entry.seq, entry.n)).collect();
        prop_assert_eq!(numbers, [(1, 0), (2, 1), (3, 2), (4, 3), (5, 4), (6, 5), (7, 6), (8, 8), (9, 9)]);
        prop_assert_eq!(previous, [(4, 0), (5, 5), (8, 6)]);
        let row = |entry: &domain::Entry| log.iter().fold(entry.clone(), |row, by| row.changed_by(by).unwrap_or(row));
        let rows: Vec<_> = log.iter().map(|entry| row(entry).encode()).collect();
        prop_assert_eq!(world.rows[&chat(at)].values().cloned().collect::<Vec<_>>(), rows);
    }
    let mut answers: BTreeMap<(Bytes, u64), proto::v1::Outcome> = BTreeMap::new();
    for outcome in &world.outcomes {
        let first = answers.entry((outcome.chat.clone(), outcome.n)).or_insert_with(|| outcome.clone());
        prop_assert_eq!(&*first, outcome);
        if let (7, Some(proto::v1::outcome::Result::Rejected(rejected))) = (outcome.n, &outcome.result) {
            prop_assert_eq!(rejected.code(), Code::NoSuchMessage);
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn one_log_and_its_rows_come_out_whatever_is_lost_or_taken_over(chances in prop::collection::vec(any::<u8>(), 0..500)) {
        check(&run(&workload(3), &chances, Rules::ALL))?;
    }

    #[test]
    fn one_log_and_its_rows_come_out_of_what_is_handed_over(chances in prop::collection::vec(any::<u8>(), 0..500)) {
        check(&run_handed(&workload(3), &chances, Rules::ALL).0)?;
    }
}

/// An owner over a chat with messages 2 to 9 in the store, which it has read.
fn over_stored() -> (World, Running) {
    let mut world = World::default();
    world.commands.push(record(1, &[create(chat(0))]));
    for n in 1..=8 {
        world.commands.push(record(n + 1, &[send(chat(0), n)]));
    }
    go(&mut world, None, &[], Rules::ALL);
    let mut owner = Running::take_over(&world, 7, Rules::ALL);
    // Whatever it is asked, it loads the chat.
    world.commands.push(record(10, &[send(chat(0), 8)]));
    settle(&mut world, &mut owner);
    (world, owner)
}

fn settle(world: &mut World, owner: &mut Running) {
    while owner.read < world.commands.len() || !owner.asked.is_empty() {
        owner.step(world, 3);
    }
}

fn ask(world: &mut World, owner: &mut Running, commands: &[Command]) {
    let sequence = world.commands.len() as u64 + 1;
    world.commands.push(record(sequence, commands));
    owner.read += 1;
    owner.input(Input::Commands(vec![record(sequence, commands)]));
}

fn targets(owner: &Running) -> Vec<Seq> {
    let asked = owner.asked.iter();
    let seqs = asked.filter_map(|action| if let Action::LoadTarget(_, seq) = action { Some(*seq) } else { None });
    seqs.collect()
}

fn result_of(world: &World, n: u64) -> Option<(u64, i32)> {
    let outcome = world.outcomes.iter().rev().find(|outcome| outcome.n == n)?;
    match outcome.result.as_ref()? {
        proto::v1::outcome::Result::Stored(stored) => Some((stored.seq, 0)),
        proto::v1::outcome::Result::Rejected(rejected) => Some((0, rejected.code)),
    }
}

#[test]
fn what_is_said_in_the_same_batch_or_on_its_way_is_changed_without_a_read() {
    let (mut world, mut owner) = over_stored();
    ask(&mut world, &mut owner, &[send(chat(0), 9), edit(chat(0), 10, 10), delete(chat(0), 11, 10)]);
    assert!(targets(&owner).is_empty());
    // Published and not appended: the append fails, and is not tried again before the next tick.
    while !owner.asked.iter().any(|action| matches!(action, Action::Append { .. })) {
        owner.step(&mut world, 3);
    }
    owner.asked.clear();
    owner.input(Input::AppendFailed);
    ask(&mut world, &mut owner, &[edit(chat(0), 12, 10)]);
    ask(&mut world, &mut owner, &[delete(chat(0), 12, 10)]);
    assert_eq!((targets(&owner), world.rows[&chat(0)].len()), (vec![], 9));
    settle(&mut world, &mut owner);
    owner.input(Input::Tick);
    settle(&mut world, &mut owner);
    assert_eq!((result_of(&world, 10), result_of(&world, 11)), (Some((11, 0)), Some((12, 0))));
    assert_eq!(result_of(&world, 12), Some((0, Code::NoChange.into())));
    assert_eq!(world.target(chat(0), 10), Target::Deleted);
}

#[test]
fn what_only_the_store_knows_is_read_once_and_for_all_that_wait_together() {
    let (mut world, mut owner) = over_stored();
    let commands: Vec<_> = (0..5).map(|at| edit(chat(0), 9 + at, 2 + at)).collect();
    ask(&mut world, &mut owner, &commands[..2]);
    assert_eq!(targets(&owner), [2, 3]);
    ask(&mut world, &mut owner, &commands[2..]);
    assert_eq!(targets(&owner), [2, 3], "the rest once these are there");
    settle(&mut world, &mut owner);
    for at in 0..5 {
        assert_eq!(result_of(&world, 9 + at), Some((10 + at, 0)));
    }
    ask(&mut world, &mut owner, &[edit(chat(0), 14, 2), delete(chat(0), 15, 3), edit(chat(0), 16, 1)]);
    assert_eq!(targets(&owner), [1], "the first two are known");
    settle(&mut world, &mut owner);
    assert_eq!(result_of(&world, 16), Some((0, Code::NoSuchMessage.into())), "no message");
}

#[test]
fn a_read_that_fails_is_made_again_at_the_next_tick() {
    let (mut world, mut owner) = over_stored();
    ask(&mut world, &mut owner, &[edit(chat(0), 9, 2)]);
    assert_eq!(targets(&owner), [2]);
    owner.asked.clear();
    owner.input(Input::TargetFailed(chat(0), 2));
    assert!(targets(&owner).is_empty());
    owner.input(Input::Tick);
    assert_eq!(targets(&owner), [2]);
    settle(&mut world, &mut owner);
    assert_eq!(result_of(&world, 9), Some((10, 0)));
}

#[test]
fn a_read_that_comes_late_does_not_bring_back_what_is_deleted() {
    let (mut world, mut owner) = over_stored();
    let said = world.target(chat(0), 2);
    ask(&mut world, &mut owner, &[delete(chat(0), 9, 2)]);
    settle(&mut world, &mut owner);
    owner.input(Input::TargetLoaded(chat(0), 2, said));
    ask(&mut world, &mut owner, &[edit(chat(0), 10, 2)]);
    settle(&mut world, &mut owner);
    assert_eq!(result_of(&world, 10), Some((0, Code::NoSuchMessage.into())));
}

#[test]
fn what_would_have_to_wait_for_a_read_is_not_taken_over_hand() {
    let (mut world, mut owner) = over_stored();
    let handed = |commands: &[Command]| {
        let CommandRecord { items, bytes, .. } = record(9, commands);
        HandedRecord { ticket: 1, stamp: 5, items, bytes }
    };
    assert!(!owner.owner.may_take(&handed(&[edit(chat(0), 9, 2)])));
    assert!(owner.owner.may_take(&handed(&[send(chat(0), 9), edit(chat(0), 10, 10)])));
    ask(&mut world, &mut owner, &[edit(chat(0), 9, 2)]);
    settle(&mut world, &mut owner);
    assert!(owner.owner.may_take(&handed(&[edit(chat(0), 10, 2)])));
}

#[test]
fn a_takeover_writes_a_change_again_whose_row_is_there_already() {
    let (mut world, mut owner) = over_stored();
    ask(&mut world, &mut owner, &[delete(chat(0), 9, 2)]);
    while !owner.asked.iter().any(|action| matches!(action, Action::Append { .. })) {
        owner.step(&mut world, 3);
    }
    // As a cluster may leave it: the row of the deletion stands, its message is as it was, the position has not moved.
    let published = tail_record(world.events.len() as u64, world.events.last().unwrap());
    let row = published.entries[0].clone();
    world.rows.get_mut(&chat(0)).unwrap().insert(row.entry.seq, row.bytes);
    let mut next = Running::take_over(&world, 8, Rules::ALL);
    // What is asked comes before anything that the owner asked for is done.
    world.commands.push(record(world.commands.len() as u64 + 1, &[edit(chat(0), 10, 2)]));
    next.input(Input::Commands(world.commands[next.read..].to_vec()));
    next.read = world.commands.len();
    settle(&mut world, &mut next);
    assert_eq!(world.target(chat(0), 2), Target::Deleted);
    assert_eq!(result_of(&world, 10), Some((0, Code::NoSuchMessage.into())), "nor is it taken for what it was");
}
