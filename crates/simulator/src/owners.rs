//! Ingest's shell as a model: acquires, takes over, runs the owner's actions on the model broker and store.

use std::rc::Rc;

use domain::{CommandPosition, Epoch, EventPosition, GatewayId, LoggedEntry, Seq, Target, WriterId};
use ingest::machine::{
    Action, Asked, CommandFacts, CommandRecord, EventFacts, Facts, Halt, HandedRecord, Input, Item, Owner, Route,
    TailRecord, plan,
};
use prost::Message as _;
use proto::log;

use crate::broker::Record;
use crate::store::{Reader, Write};
use crate::world::{ProcessId, World};

/// How often an owner ticks.
const TICK_US: u64 = 200_000;
/// A publish without an answer is in doubt after this long.
const DOUBT_US: u64 = 400_000;
/// Readings before a halt is believed, as in ingest's shell.
const READINGS: u32 = 3;

/// One tenure of one ingest process.
#[derive(Debug)]
pub(crate) struct Ownership {
    pub(crate) process: ProcessId,
    owner: Owner,
    next: Seq,
    reading: bool,
    /// The broker's restarts when the connection was made (M6).
    restarts: u64,
}

/// The process whose turn it is acquires the partition.
pub(crate) fn acquire(world: &mut World, process: ProcessId) {
    let delay = world.latency();
    world.within(process, delay, move |world| {
        if world.ingest[world.ingest_turn] != process {
            return;
        }
        // One process has one tenure at a time.
        world.owners.retain(|_, owner| owner.process != process);
        let tenure = world.broker.tenure();
        let name = world.name(process);
        world.say(|| format!("{name} acquires the partition as tenure {tenure}"));
        take_over(world, process, tenure, READINGS);
    });
}

fn take_over(world: &mut World, process: ProcessId, tenure: u64, readings: u32) {
    // Three reads with time between them: others go on meanwhile.
    let delay = world.latency();
    world.within(process, delay, move |world| {
        let stored = world.store.position();
        let read = [Reader::Delivery, Reader::Projections].map(|reader| world.store.checkpoint(reader).0);
        let restarts = world.broker.restarts;
        let delay = world.latency();
        world.within(process, delay, move |world| {
            let events = (world.broker.events.first, world.broker.events.last());
            let commands = (world.broker.commands.first, world.broker.commands.last());
            let delay = world.latency();
            world.within(process, delay, move |world| {
                let appended = stored.as_ref().map_or(0, |stored| stored.events.sequence);
                let folded = stored.as_ref().map_or(0, |stored| stored.commands.sequence);
                let from = appended.max(events.0.saturating_sub(1)) + 1;
                let tail: Vec<_> = world
                    .broker
                    .events
                    .from(from, usize::MAX)
                    .filter(|record| (from..=events.1).contains(&record.sequence))
                    .filter_map(tail_record)
                    .collect();
                if tail.len() as u64 != (events.1 + 1).saturating_sub(from) || restarts != world.broker.restarts {
                    // Trimmed under the reader, or the connection is gone: begin anew.
                    acquire(world, process);
                    return;
                }
                let fingerprint = |record: &Record| (record.time_ns, record.message_id.clone());
                let at = |sequence| world.broker.commands.at(sequence).map(fingerprint);
                let named = tail.last().map_or(0, |last| last.commands.sequence);
                let at_stored = world.broker.events.at(appended).and_then(tail_record);
                let facts = Facts {
                    epoch: world.broker.epoch,
                    commands: CommandFacts {
                        first: commands.0,
                        last: commands.1,
                        at_stored: at(folded),
                        at_tail: at(named),
                    },
                    events: EventFacts {
                        first: events.0,
                        last: events.1,
                        read: read[0].max(read[1]),
                        at_stored: at_stored.map(|record| (record.position.writer, record.position.batch)),
                        tail,
                    },
                    stored,
                };
                // M7: the mark stops it, also where neither streams nor store hold anything that could be compared.
                let rules = &world.switches.server;
                let planned = if world.broker.unclean { Err(Halt::Epoch) } else { plan(facts, rules) };
                match planned {
                    Ok(plan) => {
                        let writer = WriterId(world.random.next());
                        let next = plan.read_from;
                        world.say(|| {
                            format!(
                                "tenure {tenure} has taken over: expects event {}, appends {} records first, reads \
                                 commands from {next}",
                                plan.expected,
                                plan.tail.len()
                            )
                        });
                        let owner = Owner::new(plan, writer, world.scene.owner, world.switches.server);
                        world.owners.insert(tenure, Ownership { process, owner, next, reading: false, restarts });
                        give(world, tenure, Input::Tick);
                        tick(world, tenure);
                        look_for_trimming(world, tenure);
                    }
                    Err(_) if readings > 1 => take_over(world, process, tenure, readings - 1),
                    Err(halt) => {
                        world.say(|| format!("tenure {tenure} stops the partition: {halt}"));
                        world.halted = Some(halt);
                    }
                }
            });
        });
    });
}

fn tick(world: &mut World, tenure: u64) {
    let Some(owner) = world.owners.get(&tenure) else { return };
    let process = owner.process;
    world.within(process, TICK_US, move |world| {
        give(world, tenure, Input::Tick);
        tick(world, tenure);
    });
}

/// M9: what is on disk for sure, and what the required readers still need.
fn look_for_trimming(world: &mut World, tenure: u64) {
    let Some(owner) = world.owners.get(&tenure) else { return };
    let process = owner.process;
    let every = world.scene.trim_every;
    world.within(process, every, move |world| {
        let events_needed = [Reader::Delivery, Reader::Projections].map(|reader| world.store.checkpoint(reader).0);
        // A checkpoint that a power cut takes back needs what it said to be done with.
        if world.switches.server.m9 {
            world.store.sync();
        }
        if let Some(position) = world.store.synced_position() {
            let events_needed = events_needed[0].min(events_needed[1]);
            let delay = world.latency();
            world.within(process, delay, move |world| give(world, tenure, Input::Synced { position, events_needed }));
        }
        look_for_trimming(world, tenure);
    });
}

/// There are new commands: every tenure's reader gets them in its time.
pub(crate) fn commands_came(world: &mut World) {
    for tenure in world.owners.keys().copied().collect::<Vec<_>>() {
        read_soon(world, tenure);
    }
}

fn read_soon(world: &mut World, tenure: u64) {
    let last = world.broker.commands.last();
    let Some(owner) = world.owners.get_mut(&tenure) else { return };
    if owner.reading || owner.next > last || !owner.owner.wants_commands() {
        return;
    }
    owner.reading = true;
    let process = owner.process;
    let delay = world.latency();
    world.within(process, delay, move |world| read(world, tenure));
}

fn read(world: &mut World, tenure: u64) {
    let most = 1 + world.random.index(4);
    let Some(owner) = world.owners.get_mut(&tenure) else { return };
    owner.reading = false;
    if owner.next < world.broker.commands.first {
        // Another owner trimmed what this one has not read.
        step_down(world, tenure, "a gap in COMMANDS");
        return;
    }
    let records: Vec<_> = world.broker.commands.from(owner.next, most).map(command_record).collect();
    owner.next += records.len() as u64;
    if !records.is_empty() {
        give(world, tenure, Input::Commands(records));
    }
}

pub(crate) fn step_down(world: &mut World, tenure: u64, why: &str) {
    let Some(owner) = world.owners.remove(&tenure) else { return };
    world.say(|| format!("tenure {tenure} steps down: {why}"));
    let delay = world.random.between(1_000, 100_000);
    world.within(owner.process, delay, move |world| acquire(world, owner.process));
}

/// Whether this tenure takes what is handed to it, behind the gateway's last record in the stream.
pub(crate) fn may_take(world: &World, tenure: u64, record: &HandedRecord, after: Seq) -> bool {
    world.owners.get(&tenure).is_some_and(|one| {
        let runs = world.processes.get(one.process).is_some_and(|process| process.alive && !process.paused);
        runs && after < one.next && one.owner.may_take(record)
    })
}

pub(crate) fn give(world: &mut World, tenure: u64, input: Input) {
    let Some(owner) = world.owners.get_mut(&tenure) else { return };
    let process = owner.process;
    let mut actions = Vec::new();
    owner.owner.handle(input, &mut actions);
    for action in actions {
        act(world, process, tenure, action);
    }
    read_soon(world, tenure);
}

/// Whether what a tenure sent still reaches the broker: its connection died with the broker's restart (M6).
fn connected(world: &World, tenure: u64) -> bool {
    world.owners.get(&tenure).is_some_and(|owner| owner.restarts == world.broker.restarts || !world.switches.server.m6)
}

fn act(world: &mut World, process: ProcessId, tenure: u64, action: Action) {
    let way = world.latency();
    match action {
        Action::Load(chat) => world.after(way, move |world| {
            let loaded = if !world.calm && world.random.one_in(40) {
                Input::LoadFailed(chat)
            } else {
                match world.store.load_chat(chat) {
                    Ok(loaded) => Input::Loaded(chat, loaded),
                    Err(error) => {
                        world.fault(format!("chat {chat} cannot be loaded: {error}"));
                        return;
                    }
                }
            };
            let back = world.latency();
            world.within(process, back, move |world| give(world, tenure, loaded));
        }),
        Action::LoadTarget(chat, seq) => world.after(way, move |world| {
            let loaded = if !world.calm && world.random.one_in(40) {
                Input::TargetFailed(chat, seq)
            } else {
                let row = world.store.row(chat, seq);
                Input::TargetLoaded(chat, seq, row.map_or(Target::Missing, |row| Target::of(&row.entry)))
            };
            let back = world.latency();
            world.within(process, back, move |world| give(world, tenure, loaded));
        }),
        Action::Publish { payload, expected } => {
            let (restarts, cuts) = (world.broker.restarts, world.store.cuts);
            world.after(way, move |world| {
                // What was on its way when the machine went dark never arrives.
                if cuts != world.store.cuts {
                    return;
                }
                let dead = !world.lives(process) || (restarts != world.broker.restarts && world.switches.server.m6);
                if dead && world.random.one_in(2) {
                    return;
                }
                if !world.calm && world.random.one_in(world.scene.loss * 2) {
                    world.say(|| format!("a publish of tenure {tenure} is lost on its way"));
                    world.within(process, DOUBT_US, move |world| give(world, tenure, Input::PublishInDoubt));
                    return;
                }
                publish(world, process, tenure, &payload, expected);
            });
        }
        Action::Append { position, chats } => {
            let write = Rc::new(Write::Append { position, chats });
            let cuts = world.store.cuts;
            world.after(way, move |world| append(world, process, tenure, cuts, write));
        }
        Action::Answer(gateway, answers) => {
            let to = world.gateways.iter().find(|(_, one)| one.id == gateway).map(|(process, _)| *process);
            if let (Some(to), true) = (to, connected(world, tenure)) {
                world.core(process, to, move |world| crate::gateways::answered(world, to, answers));
            }
        }
        Action::Taken(tickets) => crate::handing::taken(world, tenure, tickets),
        Action::Trim { commands_below, events_below } => {
            world.after(way, move |world| {
                if connected(world, tenure) {
                    world.say(|| {
                        format!("tenure {tenure} trims commands below {commands_below}, events below {events_below}")
                    });
                    world.broker.commands.trim(commands_below);
                    world.broker.events.trim(events_below);
                }
            });
        }
        Action::StepDown => step_down(world, tenure, "another owner writes"),
        Action::Halt(halt) => {
            world.say(|| format!("tenure {tenure} stops the partition: {halt}"));
            world.halted = Some(halt);
        }
    }
}

fn publish(world: &mut World, process: ProcessId, tenure: u64, payload: &bytes::Bytes, expected: Seq) {
    let published = world.broker.publish_events(world.now, payload.clone(), expected);
    world.say(|| match published {
        Some(sequence) => format!("tenure {tenure} publishes event record {sequence}: {}", entries_of(payload)),
        None => format!("tenure {tenure} is refused: it expected {expected} to be the last event record"),
    });
    if let Some(sequence) = published {
        check_appended(world, payload);
        world.events_cut = None;
        world.truth.published(world.now, sequence, payload);
        crate::deliverers::events_came(world);
        crate::projectors::records_came(world);
    }
    if !world.calm && world.random.one_in(world.scene.loss * 2) {
        world.say(|| format!("the answer to tenure {tenure}'s publish is lost"));
        world.within(process, DOUBT_US, move |world| give(world, tenure, Input::PublishInDoubt));
        return;
    }
    let back = world.latency();
    match published {
        Some(sequence) => world.within(process, back, move |world| give(world, tenure, Input::Published(sequence))),
        None => world.within(process, back, move |world| {
            let last = world.broker.events.last();
            let tail = world.broker.events.at(last).and_then(tail_record);
            let tail = tail.map(|record| (record.position.writer, record.position.batch, last));
            let back = world.latency();
            world.within(process, back, move |world| give(world, tenure, Input::PublishRefused(tail)));
        }),
    }
}

/// What a record says is appended stands in the store as it is published.
fn check_appended(world: &mut World, payload: &bytes::Bytes) {
    let said = log::EventBatch::decode(payload.clone()).map_or(0, |batch| batch.appended_through);
    let appended = world.store.position().map_or(0, |position| position.events.sequence);
    if said > appended {
        world.fault(format!("a record says that the store has all through {said}, and it has all through {appended}"));
    }
}

fn append(world: &mut World, process: ProcessId, tenure: u64, cuts: u64, write: Rc<Write>) {
    if !world.lives(process) && world.random.one_in(2) {
        return;
    }
    let back = world.latency();
    if !world.calm && world.random.one_in(60) {
        // A timeout says nothing: the write may stand, may come late, or may never come.
        match world.random.below(3) {
            0 => world.store_write(cuts, write),
            1 => {
                let late = world.random.between(10_000, 3_000_000);
                world.after(late, move |world| world.store_write(cuts, write));
            }
            _ => {}
        }
        world.within(process, back, move |world| give(world, tenure, Input::AppendFailed));
        return;
    }
    world.store_write(cuts, write);
    world.within(process, back, move |world| give(world, tenure, Input::Appended));
}

fn entries_of(payload: &bytes::Bytes) -> String {
    let Ok(batch) = log::EventBatch::decode(payload.clone()) else { return "undecodable".to_owned() };
    let entries: Vec<_> = batch
        .entries
        .into_iter()
        .filter_map(|bytes| LoggedEntry::decode(bytes).ok())
        .map(|logged| {
            let entry = logged.entry;
            let (kind, n) = (entry.event.kind(), entry.n);
            format!(
                "{} seq {} {kind:?} by {} n {n}",
                short(entry.chat.as_bytes()),
                entry.seq,
                short(entry.sender.as_bytes())
            )
        })
        .collect();
    if entries.is_empty() { "no entry".to_owned() } else { entries.join("; ") }
}

/// The last byte of an id tells the ids of one run apart.
pub(crate) fn short(id: &[u8; 16]) -> String {
    format!("{:02x}", id[15])
}

fn command_record(record: &Record) -> CommandRecord {
    let batch = log::CommandBatch::decode(record.payload.clone()).unwrap_or_default();
    CommandRecord {
        sequence: record.sequence,
        time_ns: record.time_ns,
        message_id: record.message_id.clone(),
        bytes: record.payload.len(),
        items: batch.commands.into_iter().map(item).collect(),
    }
}

pub(crate) fn item(wire: log::Command) -> Item {
    let route = wire.route.map(|route| Route {
        gateway: GatewayId(route.gateway),
        session: route.session,
        request: route.request,
    });
    Item { route, asked: Asked::from_wire(&wire.sender, wire.command, wire.import) }
}

fn tail_record(record: &Record) -> Option<TailRecord> {
    let batch = log::EventBatch::decode(record.payload.clone()).ok()?;
    let commands = batch.commands_through?;
    Some(TailRecord {
        position: EventPosition { sequence: record.sequence, writer: WriterId(batch.writer), batch: batch.batch },
        epoch: Epoch(batch.epoch),
        commands: CommandPosition {
            sequence: commands.sequence,
            count: commands.count,
            time_ns: commands.time_ns,
            message_id: commands.message_id,
        },
        entries: batch.entries.into_iter().map(LoggedEntry::decode).collect::<Result<_, _>>().ok()?,
    })
}
