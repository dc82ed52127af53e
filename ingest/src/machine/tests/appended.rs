//! What the owner's records say of its appends.

use super::*;

/// What each published record says, and whether it has entries.
fn said(world: &World) -> Vec<(Seq, bool)> {
    let batch = |payload: &Bytes| proto::log::EventBatch::decode(payload.clone()).unwrap();
    world.events.iter().map(batch).map(|batch| (batch.appended_through, !batch.entries.is_empty())).collect()
}

/// Does all that is asked for, and then sees so many ticks go by.
fn settle(world: &mut World, owner: &mut Running, ticks: usize) {
    for _ in 0..ticks {
        while !owner.asked.is_empty() {
            owner.step(world, 3);
        }
        owner.input(Input::Tick);
    }
    while !owner.asked.is_empty() {
        owner.step(world, 3);
    }
}

fn ask(world: &mut World, owner: &mut Running, commands: &[Command]) {
    let sequence = world.commands.len() as u64 + 1;
    world.commands.push(record(sequence, commands));
    owner.read += 1;
    owner.input(Input::Commands(vec![record(sequence, commands)]));
}

#[test]
fn the_next_record_says_through_which_all_is_appended() {
    let mut world = World::default();
    let mut owner = Running::take_over(&world, 1, Rules::ALL);
    ask(&mut world, &mut owner, &[create(chat(0))]);
    settle(&mut world, &mut owner, 1);
    ask(&mut world, &mut owner, &[send(chat(0), 1)]);
    settle(&mut world, &mut owner, 1);
    assert_eq!(said(&world), [(0, true), (1, true)]);
    // While the append is under way the record before it is the last that is appended.
    ask(&mut world, &mut owner, &[send(chat(0), 2)]);
    while !owner.asked.iter().any(|action| matches!(action, Action::Append { .. })) {
        owner.step(&mut world, 3);
    }
    ask(&mut world, &mut owner, &[send(chat(0), 3)]);
    settle(&mut world, &mut owner, 1);
    assert_eq!(said(&world), [(0, true), (1, true), (2, true), (2, true)]);
}

#[test]
fn where_no_record_follows_one_of_its_own_says_it_once() {
    let mut world = World::default();
    let mut owner = Running::take_over(&world, 1, Rules::ALL);
    ask(&mut world, &mut owner, &[create(chat(0)), send(chat(0), 1)]);
    settle(&mut world, &mut owner, 4);
    assert_eq!(said(&world), [(0, true)], "not at once");
    settle(&mut world, &mut owner, 200);
    assert_eq!(said(&world), [(0, true), (1, false)]);
    assert_eq!(world.position.as_ref().map(|at| at.events.sequence), Some(2), "it is appended like any other");
    // Neither does one that holds answers alone need another one.
    ask(&mut world, &mut owner, &[send(chat(0), 1)]);
    settle(&mut world, &mut owner, 200);
    assert_eq!(said(&world), [(0, true), (1, false), (2, false)]);
    // And it begins anew with the next entry.
    ask(&mut world, &mut owner, &[send(chat(0), 2)]);
    settle(&mut world, &mut owner, 200);
    assert_eq!(said(&world)[3..], [(3, true), (4, false)]);
}

#[test]
fn while_the_store_or_the_stream_does_not_go_on_nothing_is_said() {
    let mut world = World::default();
    let mut owner = Running::take_over(&world, 1, Rules::ALL);
    ask(&mut world, &mut owner, &[create(chat(0))]);
    for _ in 0..100 {
        // Every append fails, and is tried again with the next tick.
        while !owner.asked.is_empty() {
            owner.step(&mut world, 12);
        }
        owner.input(Input::Tick);
    }
    assert_eq!(said(&world), [(0, true)]);
    // The stream is full as it is said: the same record again, and none beside it.
    let full = |owner: &mut Running| {
        owner.asked.clear();
        owner.input(Input::PublishFull);
        owner.input(Input::Tick);
    };
    while !owner.asked.iter().any(|action| matches!(action, Action::Publish { .. })) {
        if owner.asked.is_empty() {
            owner.input(Input::Tick);
        } else {
            owner.step(&mut world, 3);
        }
    }
    for _ in 0..100 {
        full(&mut owner);
        let publishes = owner.asked.iter().filter(|action| matches!(action, Action::Publish { .. })).count();
        assert_eq!((publishes, owner.asked.len()), (1, 1));
    }
    settle(&mut world, &mut owner, 200);
    assert_eq!(said(&world), [(0, true), (1, false)]);
}

#[test]
fn a_new_owner_says_what_it_found_and_what_it_appended_of_the_tail() {
    let mut world = World::default();
    let mut first = Running::take_over(&world, 1, Rules::ALL);
    ask(&mut world, &mut first, &[create(chat(0))]);
    settle(&mut world, &mut first, 1);
    // Nothing is under way: it has nothing to say before it has something to publish.
    let mut second = Running::take_over(&world, 2, Rules::ALL);
    settle(&mut world, &mut second, 200);
    assert_eq!(said(&world), [(0, true)]);
    ask(&mut world, &mut second, &[send(chat(0), 1)]);
    while !second.asked.iter().any(|action| matches!(action, Action::Append { .. })) {
        second.step(&mut world, 3);
    }
    assert_eq!(said(&world), [(0, true), (1, true)]);
    let mut third = Running::take_over(&world, 3, Rules::ALL);
    settle(&mut world, &mut third, 200);
    assert_eq!(said(&world), [(0, true), (1, true), (2, false)]);
    // As over a cluster: the rows of the tail stand, the position came later.
    let position = world.position.clone().unwrap();
    ask(&mut world, &mut third, &[send(chat(0), 2)]);
    settle(&mut world, &mut third, 1);
    world.position = Some(position);
    let mut fourth = Running::take_over(&world, 4, Rules::ALL);
    settle(&mut world, &mut fourth, 200);
    assert_eq!(said(&world)[3..], [(3, true), (4, false)]);
}

#[test]
fn who_is_refused_as_it_says_so_steps_down() {
    let mut world = World::default();
    let mut first = Running::take_over(&world, 1, Rules::ALL);
    ask(&mut world, &mut first, &[create(chat(0))]);
    settle(&mut world, &mut first, 1);
    let mut second = Running::take_over(&world, 2, Rules::ALL);
    ask(&mut world, &mut second, &[send(chat(0), 1)]);
    settle(&mut world, &mut second, 1);
    settle(&mut world, &mut first, 200);
    assert!(first.dead && !second.dead);
    assert_eq!(said(&world), [(0, true), (1, true)]);
}
