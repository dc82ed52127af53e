//! The projections' shell as a model: reads both streams, loads rows, writes once, says `written`.

use std::rc::Rc;

use domain::{Epoch, Seq};
use projections::machine::{Action, Fold, Input, Raw};

use crate::broker::Stream;
use crate::deliverers;
use crate::store::{Reader, Write};
use crate::world::{ProcessId, World};

const TICK_US: u64 = 1_000_000;

/// One tenure of a projections process.
#[derive(Debug)]
pub(crate) struct Projector {
    pub(crate) process: ProcessId,
    fold: Fold,
    events: Seq,
    statuses: Seq,
    reading: bool,
}

/// Starts a process that takes over; an earlier one may still be at work.
pub(crate) fn start(world: &mut World) {
    let process = world.start("projections".to_owned());
    world.projector = process;
    acquire(world, process);
}

fn acquire(world: &mut World, process: ProcessId) {
    let delay = world.latency();
    world.within(process, delay, move |world| {
        let tenure = world.broker.tenure();
        let (events, statuses) = world.store.checkpoint(Reader::Projections);
        let statuses = statuses.min(world.broker.statuses.last());
        if events + 1 < world.broker.events.first {
            world.fault("a required reader's events are trimmed: the read models need a rebuild".to_owned());
            return;
        }
        world.say(|| format!("projections acquire as tenure {tenure} and fold events above {events}"));
        let mut fold = Fold::new(world.scene.summaries);
        fold.handle(Input::Took { epoch: world.broker.epoch, events, statuses }, &mut Vec::new());
        let projector = Projector { process, fold, events: events + 1, statuses: statuses + 1, reading: false };
        world.projectors.insert(tenure, projector);
        tick(world, tenure);
        read_soon(world, tenure);
    });
}

fn tick(world: &mut World, tenure: u64) {
    let Some(projector) = world.projectors.get(&tenure) else { return };
    world.within(projector.process, TICK_US, move |world| {
        give(world, tenure, Input::Tick);
        tick(world, tenure);
    });
}

/// There are new records in one of the streams.
pub(crate) fn records_came(world: &mut World) {
    for tenure in world.projectors.keys().copied().collect::<Vec<_>>() {
        read_soon(world, tenure);
    }
}

fn read_soon(world: &mut World, tenure: u64) {
    let Some(projector) = world.projectors.get_mut(&tenure) else { return };
    let (events, statuses) = (world.broker.events.last(), world.broker.statuses.last());
    let waits = projector.events <= events || projector.statuses <= statuses;
    if projector.reading || !waits || !projector.fold.wants_records() {
        return;
    }
    projector.reading = true;
    let process = projector.process;
    let delay = world.latency();
    world.within(process, delay, move |world| read(world, tenure));
}

fn read(world: &mut World, tenure: u64) {
    let most = 1 + world.random.index(6);
    let Some(projector) = world.projectors.get_mut(&tenure) else { return };
    projector.reading = false;
    if projector.events < world.broker.events.first {
        // Another one was faster and what it folded is trimmed: begin anew from its checkpoint.
        let process = projector.process;
        world.projectors.remove(&tenure);
        if world.projector == process {
            acquire(world, process);
        }
        return;
    }
    projector.statuses = projector.statuses.max(world.broker.statuses.first);
    let take = |stream: &Stream, from| {
        let raw = stream.from(from, most);
        raw.map(|record| Raw { sequence: record.sequence, payload: record.payload.clone() }).collect::<Vec<_>>()
    };
    let events = take(&world.broker.events, projector.events);
    let statuses = take(&world.broker.statuses, projector.statuses);
    projector.events += events.len() as u64;
    projector.statuses += statuses.len() as u64;
    if !(events.is_empty() && statuses.is_empty()) {
        give(world, tenure, Input::Read { events, statuses });
    }
}

fn give(world: &mut World, tenure: u64, input: Input) {
    let Some(projector) = world.projectors.get_mut(&tenure) else { return };
    let process = projector.process;
    let mut actions = Vec::new();
    projector.fold.handle(input, &mut actions);
    for action in actions {
        act(world, process, tenure, action);
    }
    read_soon(world, tenure);
}

fn act(world: &mut World, process: ProcessId, tenure: u64, action: Action) {
    let way = world.latency();
    match action {
        Action::Load { summaries, stays } => world.after(way, move |world| {
            let summaries = summaries.into_iter().filter_map(|chat| Some((chat, world.store.summary(chat)?))).collect();
            let stays = stays
                .into_iter()
                .filter_map(|(user, chat)| Some(((user, chat), world.store.stay(user, chat)?)))
                .collect();
            let back = world.latency();
            world.within(process, back, move |world| give(world, tenure, Input::Loaded { summaries, stays }));
        }),
        Action::Project(projected) => {
            let cuts = world.store.cuts;
            world.after(way, move |world| {
                if !world.lives(process) && world.random.one_in(2) {
                    return;
                }
                world.store_write(cuts, Rc::new(Write::Project(projected)));
                let back = world.latency();
                world.within(process, back, move |world| give(world, tenure, Input::Stored));
            });
        }
        Action::Written { epoch, statuses } => say_written(world, process, epoch, statuses),
        Action::StatusesSkipped => {}
        // After a lost tail the streams are another log; ingest says so and stops the partition.
        Action::Halt(_) if world.expects_halt || world.may_halt => {}
        Action::Halt(error) => world.fault(format!("projections halt: {error}")),
    }
}

fn say_written(world: &mut World, process: ProcessId, epoch: Epoch, statuses: Seq) {
    for tenure in world.tenancies.keys().copied().collect::<Vec<_>>() {
        let to = world.tenancies[&tenure].process;
        world.core(process, to, move |world| deliverers::written(world, tenure, epoch, statuses));
    }
}
