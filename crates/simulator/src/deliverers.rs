//! Delivery's shell as a model: workers that mirror sessions, tenures that expand, and their sends, loads, statuses.

use std::collections::BTreeMap;
use std::rc::Rc;

use delivery::machine::{
    Action, EventRecord, Expansion, Input, Membership, Mirror, MirrorAction, MirrorInput, Patience, Settings,
};
use domain::{ChatId, Epoch, GatewayId, Seq, TenureId};
use prost::Message as _;
use proto::relay::{Announcement, Receipt, ToGateway};

use crate::gateways::{self, PARTITION};
use crate::store::{Reader, Write};
use crate::world::{ProcessId, World};

/// How often mirrors and expansions tick.
const TICK_US: u64 = 1_000_000;
/// How long a load for an event waits for its row.
const ROW_WAIT_US: u64 = 1_000_000;

/// One delivery process: its mirror serves whatever it owns.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) process: ProcessId,
    mirror: Mirror,
}

#[derive(Clone, Copy, Debug, Default)]
struct Notice {
    forgotten: bool,
    held: Option<u64>,
}

/// One tenure of a worker.
#[derive(Debug)]
pub(crate) struct Tenancy {
    pub(crate) process: ProcessId,
    worker: usize,
    machine: Expansion,
    next: Seq,
    reading: bool,
    notices: BTreeMap<GatewayId, Notice>,
}

/// Starts a worker at a place, over again if it was there.
pub(crate) fn start(world: &mut World, place: usize) {
    let process = world.start(format!("delivery {place}"));
    let worker = Worker { process, mirror: Mirror::new() };
    if place < world.workers.len() {
        world.workers[place] = worker;
    } else {
        world.workers.push(worker);
    }
    reflect(world, place, MirrorInput::Missed);
    tick_mirror(world, place, process);
}

fn tick_mirror(world: &mut World, place: usize, process: ProcessId) {
    world.within(process, TICK_US, move |world| {
        reflect(world, place, MirrorInput::Tick);
        tick_mirror(world, place, process);
    });
}

/// A gateway's announcement came.
pub(crate) fn announced(world: &mut World, place: usize, announcement: Announcement) {
    reflect(world, place, MirrorInput::Announced(announcement));
}

/// The mirror changes first, and the tenures hear of it after (M17).
fn reflect(world: &mut World, place: usize, input: MirrorInput) {
    let now = world.now;
    let Some(worker) = world.workers.get_mut(place) else { return };
    let process = worker.process;
    let mut actions = Vec::new();
    worker.mirror.handle(now, input, &mut actions);
    for action in actions {
        match action {
            MirrorAction::Ask(gateway) => {
                for to in world.places.clone() {
                    world.core(process, to, move |world| gateways::asked(world, to, gateway));
                }
            }
            MirrorAction::Held { gateway, version } => post(world, process, gateway, |notice| {
                notice.held = Some(version);
            }),
            MirrorAction::Forgotten(gateway) => post(world, process, gateway, |notice| {
                *notice = Notice { forgotten: true, held: None };
            }),
            MirrorAction::Refused => {}
        }
    }
}

fn post(world: &mut World, process: ProcessId, gateway: GatewayId, note: impl Fn(&mut Notice)) {
    let tenures: Vec<_> = world.tenancies.iter().filter(|(_, one)| one.process == process).map(|(id, _)| *id).collect();
    for tenure in tenures {
        let Some(tenancy) = world.tenancies.get_mut(&tenure) else { continue };
        note(tenancy.notices.entry(gateway).or_default());
        let delay = world.random.between(0, 1_000);
        world.within(process, delay, move |world| {
            let Some(tenancy) = world.tenancies.get_mut(&tenure) else { return };
            for (gateway, notice) in std::mem::take(&mut tenancy.notices) {
                if notice.forgotten {
                    give(world, tenure, Input::Forgotten(gateway));
                }
                if let Some(version) = notice.held {
                    give(world, tenure, Input::Announced { gateway, version });
                }
            }
        });
    }
}

/// A worker acquires the partition; what it had before is over for it.
pub(crate) fn acquire(world: &mut World, place: usize) {
    let process = world.workers[place].process;
    let delay = world.latency();
    world.within(process, delay, move |world| {
        // Another one was told to have it meanwhile: a later tenure would be the one that counts for ever.
        if world.delivery_turn != place || world.workers[place].process != process {
            return;
        }
        world.tenancies.retain(|_, tenancy| tenancy.process != process);
        let tenure = world.broker.tenure();
        let name = world.name(process);
        let (kept, _) = world.store.checkpoint(Reader::Delivery);
        let after = kept.max(world.broker.events.first - 1);
        world.say(|| format!("{name} acquires the partition as tenure {tenure}, expands events above {after}"));
        let settings = Settings { hot_bytes_max: world.scene.hot_bytes, ..Settings::default() };
        let machine = Expansion::new(PARTITION, world.switches.server, settings);
        let tenancy =
            Tenancy { process, worker: place, machine, next: after + 1, reading: false, notices: BTreeMap::new() };
        world.tenancies.insert(tenure, tenancy);
        let epoch = world.broker.epoch;
        give(world, tenure, Input::Took { owner: TenureId(tenure), epoch, after });
        tick(world, tenure);
    });
}

fn tick(world: &mut World, tenure: u64) {
    let Some(tenancy) = world.tenancies.get(&tenure) else { return };
    world.within(tenancy.process, TICK_US, move |world| {
        give(world, tenure, Input::Tick);
        tick(world, tenure);
    });
}

/// There are new event records.
pub(crate) fn events_came(world: &mut World) {
    for tenure in world.tenancies.keys().copied().collect::<Vec<_>>() {
        read_soon(world, tenure);
    }
}

fn read_soon(world: &mut World, tenure: u64) {
    let last = world.broker.events.last();
    let Some(tenancy) = world.tenancies.get_mut(&tenure) else { return };
    if tenancy.reading || tenancy.next > last || !tenancy.machine.wants_events() {
        return;
    }
    tenancy.reading = true;
    let process = tenancy.process;
    let delay = world.latency();
    world.within(process, delay, move |world| read(world, tenure));
}

fn read(world: &mut World, tenure: u64) {
    let most = 1 + world.random.index(4);
    let Some(tenancy) = world.tenancies.get_mut(&tenure) else { return };
    tenancy.reading = false;
    if tenancy.next < world.broker.events.first {
        let worker = tenancy.worker;
        world.say(|| format!("delivery tenure {tenure} finds a gap in EVENTS and gives up"));
        world.tenancies.remove(&tenure);
        if world.delivery_turn == worker {
            acquire(world, worker);
        }
        return;
    }
    let records: Vec<_> = world
        .broker
        .events
        .from(tenancy.next, most)
        .filter_map(|record| EventRecord::decode(record.sequence, record.payload.clone()).ok())
        .map(|(_, record)| record)
        .collect();
    tenancy.next += records.len() as u64;
    if !records.is_empty() {
        give(world, tenure, Input::Events(records));
    }
}

/// A gateway's receipts came.
pub(crate) fn receipts(world: &mut World, tenure: u64, receipts: Vec<Receipt>) {
    give(world, tenure, Input::Receipts(receipts));
}

/// Projections say what stands in the table.
pub(crate) fn written(world: &mut World, tenure: u64, epoch: Epoch, statuses: Seq) {
    give(world, tenure, Input::Written { epoch, statuses });
}

fn give(world: &mut World, tenure: u64, input: Input) {
    let now = world.now;
    let Some(tenancy) = world.tenancies.get_mut(&tenure) else { return };
    let process = tenancy.process;
    let Some(worker) = world.workers.get(tenancy.worker).filter(|worker| worker.process == process) else { return };
    let mut actions = Vec::new();
    tenancy.machine.handle(now, input, &worker.mirror, &mut actions);
    for action in actions {
        act(world, process, tenure, action);
    }
    read_soon(world, tenure);
}

fn act(world: &mut World, process: ProcessId, tenure: u64, action: Action) {
    match action {
        Action::Send { gateway, message } => send(world, process, gateway, message),
        Action::LoadMembers { chat, at_least, patience } => {
            let wait = if patience == Patience::Long { ROW_WAIT_US } else { 0 };
            let (way, deadline) = (world.latency(), world.now + wait);
            world.after(way, move |world| load(world, process, tenure, (chat, at_least, patience), deadline));
        }
        Action::ReadOrdinal { chat, seq } => {
            let way = world.latency();
            world.after(way, move |world| {
                let ordinal = world.store.row(chat, seq).map(|row| row.entry.ordinal);
                let back = world.latency();
                world.within(process, back, move |world| give(world, tenure, Input::Ordinal { chat, seq, ordinal }));
            });
        }
        Action::PublishStatuses(batch) => {
            let way = world.latency();
            let count = batch.statuses.len();
            world.say(|| format!("delivery tenure {tenure} publishes {count} statuses"));
            world.after(way, move |world| {
                let landed = world.lives(process) && !world.lost();
                let sequence = landed.then(|| {
                    let now = world.now;
                    world.broker.publish_statuses(now, batch.encode_to_vec().into())
                });
                crate::projectors::records_came(world);
                // An answer that is lost looks as a publish that failed.
                let told = sequence.filter(|_| !world.lost());
                let back = world.latency();
                world.within(process, back, move |world| give(world, tenure, Input::StatusesPublished(told)));
            });
        }
        Action::Checkpoint { events } => {
            let (way, cuts) = (world.latency(), world.store.cuts);
            world.after(way, move |world| {
                world.store_write(cuts, Rc::new(Write::Checkpoint(Reader::Delivery, (events, 0))));
            });
        }
        Action::Dropped(what) => {
            world.say(|| format!("delivery tenure {tenure} drops a receipt or echo: {}", what.label()));
        }
    }
}

fn send(world: &mut World, process: ProcessId, gateway: GatewayId, message: ToGateway) {
    let to = world.gateways.iter().find(|(_, one)| one.id == gateway).map(|(process, _)| *process);
    let Some(to) = to else { return };
    if !world.core(process, to, move |world| gateways::told(world, to, message)) {
        let name = world.name(to);
        let said = world.random.one_in(3);
        world.say(|| {
            format!("a message of delivery tenure to {name} is lost{}", if said { ", and it is told" } else { "" })
        });
        if said {
            world.link(process, to, move |world| gateways::lagged(world, to));
        }
    }
}

fn load(
    world: &mut World,
    process: ProcessId,
    tenure: u64,
    (chat, at_least, patience): (ChatId, Seq, Patience),
    deadline: u64,
) {
    let rows = world.store.members(chat, at_least);
    if rows.is_none() && world.now < deadline {
        return world.after(20_000, move |world| load(world, process, tenure, (chat, at_least, patience), deadline));
    }
    let membership = |row: &crate::store::MemberRow| Membership {
        user: row.user,
        joined_seq: row.joined_seq,
        left_seq: row.left_seq,
    };
    let rows = rows.map(|rows| rows.iter().map(membership).collect());
    let back = world.latency();
    world.within(process, back, move |world| give(world, tenure, Input::Members { chat, at_least, patience, rows }));
}
