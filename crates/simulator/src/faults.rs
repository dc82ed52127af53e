//! What a seed does to the world: what users ask, and what breaks when.

use bytes::Bytes;
use domain::{ChatId, Micros, UserId};
use proto::v1::{self, command};

use crate::store::Reader;
use crate::world::World;
use crate::{deliverers, devices, gateways, imports, owners, projectors};

/// A day and an hour: longer than an origin is remembered.
const LONG_US: Micros = 25 * 3_600 * 1_000_000;

/// Starts every process.
pub(crate) fn start(world: &mut World) {
    for place in 0..2 {
        gateways::start(world, place);
        deliverers::start(world, place);
        let process = world.start(format!("ingest {place}"));
        world.ingest.push(process);
    }
    owners::acquire(world, world.ingest[0]);
    deliverers::acquire(world, 0);
    projectors::start(world);
    devices::start(world);
    sync(world);
}

fn sync(world: &mut World) {
    let every = world.scene.sync_every;
    world.after(every, |world| {
        world.store.sync();
        sync(world);
    });
}

/// Draws what will happen and when.
pub(crate) fn plan(world: &mut World) {
    for number in 0..world.scene.chats {
        let creator = world.random.index(world.scene.devices);
        let at = world.random.between(0, 300_000);
        world.after(at, move |world| create(world, number, creator));
    }
    for _ in 0..world.scene.commands {
        let at = world.random.between(100_000, world.scene.active);
        world.after(at, act);
    }
    if world.scene.imports {
        imports::plan(world);
    }
    if world.scene.bursts {
        let (at, device) = (world.random.between(300_000, world.scene.active), world.random.index(world.scene.devices));
        world.after(at, move |world| burst(world, device));
    }
    for _ in 0..world.scene.faults {
        let at = world.random.between(200_000, world.scene.active);
        world.after(at, break_something);
    }
    if world.scene.lazy || world.scene.loses_tail {
        let at = world.random.between(1_000_000, world.scene.active);
        world.after(at, lose_tail);
    }
    if world.scene.long_time {
        let at = world.random.between(500_000, world.scene.active);
        world.after(at, |world| {
            world.say(|| "a day passes for the broker's clock".to_owned());
            world.broker.clock_ahead += LONG_US;
        });
    }
}

/// One message when all else is at rest, so that nothing that follows tells of its loss (M16).
pub(crate) fn lone_message(world: &mut World) {
    let until = world.now + 6_000_000;
    world.run_until(until);
    let loss = std::mem::replace(&mut world.scene.loss, 2);
    let device = world.random.index(world.scene.devices);
    let chat = devices::chat(world.random.index(world.scene.chats));
    let action = message(world, device, chat);
    devices::submit(world, device, chat, action);
    let until = world.now + 40_000;
    world.run_until(until);
    world.scene.loss = loss;
}

fn create(world: &mut World, number: usize, creator: usize) {
    let owner = world.devices[creator].user;
    let chat = devices::chat(number);
    let direct = number == 0 && world.random.one_in(4);
    let mut members = Vec::new();
    for other in 0..world.scene.users {
        let user = devices::user(other);
        // Not all from the start, so that somebody can be added.
        if user != owner && (members.is_empty() || (!direct && world.random.one_in(2))) {
            let role = if world.random.one_in(3) { v1::Role::Admin } else { v1::Role::Member };
            members.push(v1::Member { user: user.to_wire(), role: role.into() });
        }
    }
    let kind = if direct { v1::ChatKind::Direct } else { v1::ChatKind::Group };
    let create = v1::CreateChat { kind: kind.into(), members };
    devices::submit(world, creator, chat, command::Action::CreateChat(create));
}

/// Some user does something in some chat.
fn act(world: &mut World) {
    let device = world.random.index(world.scene.devices);
    let chat = devices::chat(world.random.index(world.scene.chats + usize::from(world.scene.imports)));
    let times = if world.scene.restless { 2 } else { 6 };
    let other = devices::user(world.random.index(world.scene.users));
    let action = if world.scene.governs && world.random.one_in(4) {
        govern(world, other)
    } else if world.scene.edits && world.random.one_in(3) {
        change(world, device, chat)
    } else if world.scene.opinions && world.random.one_in(2) {
        opinion(world, device, chat)
    } else if world.random.one_in(times) {
        match world.random.below(5) {
            0 | 1 => {
                let member = v1::Member { user: other.to_wire(), role: v1::Role::Member.into() };
                command::Action::AddMember(v1::AddMember { member: Some(member) })
            }
            2 | 3 => command::Action::RemoveMember(v1::RemoveMember { user: other.to_wire() }),
            _ => command::Action::LeaveChat(v1::LeaveChat {}),
        }
    } else {
        message(world, device, chat)
    };
    if world.random.one_in(8) {
        devices::ask_again(world, device);
    } else {
        devices::submit(world, device, chat, action);
    }
}

/// Somebody runs the chat, or would like to.
fn govern(world: &mut World, other: UserId) -> command::Action {
    let user = other.to_wire();
    match world.random.below(6) {
        0 => command::Action::TransferOwnership(v1::TransferOwnership { user }),
        1 | 2 => {
            let name = format!("{:04x}", world.random.below(1 << 16));
            command::Action::RenameChat(v1::RenameChat { name })
        }
        _ => {
            let roles = [v1::Role::Owner, v1::Role::Admin, v1::Role::Member, v1::Role::Reader];
            let role = roles[world.random.index(roles.len())].into();
            command::Action::SetRole(v1::SetRole { user, role })
        }
    }
}

/// Something that is no word of its own: of a message or not, by who may or not.
fn opinion(world: &mut World, device: usize, chat: ChatId) -> command::Action {
    let seq = some_seq(world, device, chat);
    match world.random.below(8) {
        0..=3 => {
            let reaction = ["", "+", "-", "?"][world.random.index(4)].to_owned();
            command::Action::React(v1::React { seq, reaction })
        }
        4 | 5 => command::Action::PinMessage(v1::PinMessage { seq, unpin: world.random.one_in(3) }),
        6 => command::Action::DeleteMessage(v1::DeleteMessage { seq }),
        _ => {
            let members_add = world.random.one_in(2).then(|| world.random.one_in(2));
            let slow_mode_s = world.random.one_in(2).then(|| [0, 0, 1, 3][world.random.index(4)]);
            command::Action::SetChatPolicy(v1::SetChatPolicy {
                change: Some(v1::ChatPolicy { members_add, slow_mode_s }),
            })
        }
    }
}

/// Another word in the place of something that the device knows, or none: its own or not, a message or not.
fn change(world: &mut World, device: usize, chat: ChatId) -> command::Action {
    let seq = some_seq(world, device, chat);
    if world.random.one_in(3) {
        return command::Action::DeleteMessage(v1::DeleteMessage { seq });
    }
    let body = Bytes::copy_from_slice(&world.random.next().to_be_bytes());
    command::Action::EditMessage(v1::EditMessage { seq, body })
}

/// The place of an own message more often than not, of another's, or of none.
fn some_seq(world: &mut World, device: usize, chat: ChatId) -> u64 {
    let (known, user) = (devices::known(world, device, chat), world.devices[device].user);
    let said = world.truth.chats().filter(|(id, _)| *id == chat).flat_map(|(_, entries)| entries);
    let said = said.map(|(_, row)| &row.entry).filter(|entry| entry.event.is_message() && entry.seq <= known);
    let (own, others): (Vec<_>, Vec<_>) = said.partition(|entry| entry.sender == user);
    let (own, others): (Vec<_>, Vec<_>) =
        (own.iter().map(|entry| entry.seq).collect(), others.iter().map(|entry| entry.seq).collect());
    match world.random.below(8) {
        0..=4 if !own.is_empty() => own[world.random.index(own.len())],
        5 | 6 if !others.is_empty() => others[world.random.index(others.len())],
        // One that there is not, or not yet, or that is no message.
        _ => 1 + world.random.below(known + 2),
    }
}

/// Something new, which may answer the last entry that its sender knows, and name somebody.
///
/// What it refers to follows from its body: one draw a message, as before there were references, so that a seed goes on
/// meaning the same.
fn message(world: &mut World, device: usize, chat: ChatId) -> command::Action {
    let number = world.random.next();
    let known = devices::known(world, device, chat);
    let other = usize::try_from(number % 4).unwrap_or_default();
    command::Action::SendMessage(v1::SendMessage {
        body: Bytes::copy_from_slice(&number.to_be_bytes()),
        reply_to: if number.is_multiple_of(3) { known } else { 0 },
        mentions: if number.is_multiple_of(5) { vec![devices::user(other).to_wire()] } else { Vec::new() },
        mention_all: number.is_multiple_of(7),
    })
}

/// One user writes more at once than an outbox may have on its way, and loses its socket meanwhile.
fn burst(world: &mut World, device: usize) {
    let chat: ChatId = devices::chat(world.random.index(world.scene.chats));
    for _ in 0..45 {
        let action = message(world, device, chat);
        devices::submit(world, device, chat, action);
    }
    let delay = world.random.between(1_000, 60_000);
    world.after(delay, move |world| devices::cut(world, device, 2_000_000));
}

fn break_something(world: &mut World) {
    if world.calm {
        return;
    }
    let place = world.random.index(2);
    let device = world.random.index(world.scene.devices);
    match world.random.below(15) {
        0 | 1 => pause_owner(world),
        2 => rival(world),
        3 | 4 => crash_owner(world),
        5 => {
            let process = world.places[place];
            stand_still(world, process);
        }
        6 => {
            let process = world.places[place];
            let name = world.name(process);
            world.say(|| format!("{name} is killed and starts again"));
            gateways::kill(world, process);
            gateways::start(world, place);
        }
        7 | 8 => devices::cut(world, device, 3_000_000),
        9 => devices::restart(world, device),
        10 => move_delivery(world),
        11 => {
            world.say(|| format!("delivery {place} is killed and starts again"));
            let process = world.workers[place].process;
            world.kill(process);
            world.tenancies.retain(|_, tenancy| tenancy.process != process);
            deliverers::start(world, place);
            if world.delivery_turn == place {
                deliverers::acquire(world, place);
            }
        }
        12 => {
            let old = world.projector;
            if world.random.one_in(2) {
                world.kill(old);
                world.projectors.retain(|_, projector| projector.process != old);
            }
            projectors::start(world);
        }
        13 => restart_broker(world),
        _ => cut_power(world),
    }
}

/// A process stands still and goes on later.
fn stand_still(world: &mut World, process: usize) {
    let name = world.name(process);
    world.say(|| format!("{name} stands still"));
    world.pause(process);
    let delay = world.random.between(50_000, 4_000_000);
    world.after(delay, move |world| {
        let name = world.name(process);
        world.say(|| format!("{name} goes on"));
        world.resume(process);
    });
}

fn pause_owner(world: &mut World) {
    let process = world.ingest[world.ingest_turn];
    stand_still(world, process);
    if !world.random.one_in(4) {
        rival(world);
    }
}

/// The other ingest process takes the partition while the first one lives.
fn rival(world: &mut World) {
    world.ingest_turn = 1 - world.ingest_turn;
    let process = world.ingest[world.ingest_turn];
    world.resume(process);
    owners::acquire(world, process);
}

fn crash_owner(world: &mut World) {
    let turn = world.ingest_turn;
    let process = world.ingest[turn];
    let name = world.name(process);
    world.say(|| format!("{name} is killed"));
    world.kill(process);
    world.owners.retain(|_, owner| owner.process != process);
    world.ingest[turn] = world.start(format!("ingest {turn}"));
    rival(world);
}

fn move_delivery(world: &mut World) {
    let old = world.workers[world.delivery_turn].process;
    if world.random.one_in(2) {
        stand_still(world, old);
    }
    if !world.random.one_in(4) {
        world.delivery_turn = 1 - world.delivery_turn;
    }
    let process = world.workers[world.delivery_turn].process;
    world.resume(process);
    deliverers::acquire(world, world.delivery_turn);
}

/// Every connection breaks: each tenure is lost and taken again (M6).
fn restart_broker(world: &mut World) {
    world.say(|| "the broker restarts".to_owned());
    world.broker.restarts += 1;
    if world.random.one_in(2) {
        world.broker.clock_ahead = world.broker.clock_ahead.saturating_sub(200_000);
    }
    if !world.switches.server.m6 {
        return;
    }
    for tenure in world.owners.keys().copied().collect::<Vec<_>>() {
        owners::step_down(world, tenure, "its connection is gone");
    }
    let turn = world.ingest[world.ingest_turn];
    owners::acquire(world, turn);
    world.tenancies.clear();
    deliverers::acquire(world, world.delivery_turn);
    let old = world.projector;
    world.projectors.clear();
    world.kill(old);
    projectors::start(world);
}

/// The machine goes dark: all processes end, and the store loses what it had not synced.
///
/// Unless the events lost their tail and it held what was handed over: that stood in the log once only, so the loss of its
/// last trace as well is more than is promised (docs/guarantees.md).
fn cut_power(world: &mut World) {
    if world.scene.hands_over && world.events_cut.is_some() {
        world.store.sync();
    }
    let kept = world.random.index(world.store.unsynced() + 1);
    let lost = world.store.unsynced() - kept;
    world.say(|| format!("the power is cut: the store loses its last {lost} writes"));
    world.store.lose_all_but(kept);
    forget_loss(world);
    restart_all(world);
}

/// The store may lose all that told of a tail that the events lost before. Then nothing can show that loss, and going
/// on is right: the commands stand, and are decided the same again (M4).
fn forget_loss(world: &mut World) {
    let Some(last) = world.events_cut.take() else { return };
    let read = [Reader::Delivery, Reader::Projections].map(|reader| world.store.checkpoint(reader).0);
    let appended = world.store.position().map_or(0, |position| position.events.sequence);
    if appended.max(read[0]).max(read[1]) > last {
        world.events_cut = Some(last);
    } else {
        world.say(|| "no trace of the lost event records is left".to_owned());
        world.expects_halt = false;
        world.truth.lost_above(last);
    }
}

fn restart_all(world: &mut World) {
    world.broker.restarts += 1;
    for place in 0..2 {
        let process = world.ingest[place];
        world.kill(process);
        world.ingest[place] = world.start(format!("ingest {place}"));
        let process = world.workers[place].process;
        world.kill(process);
        gateways::kill(world, world.places[place]);
    }
    world.owners.clear();
    world.tenancies.clear();
    world.projectors.clear();
    world.kill(world.projector);
    for place in 0..2 {
        gateways::start(world, place);
        deliverers::start(world, place);
    }
    owners::acquire(world, world.ingest[world.ingest_turn]);
    deliverers::acquire(world, world.delivery_turn);
    projectors::start(world);
}

/// The broker loses the end of its streams: a power cut with lazy sync, or an older disk that comes back.
fn lose_tail(world: &mut World) {
    if world.calm {
        return;
    }
    let Some(stored) = world.store.position() else { return };
    if world.scene.lazy {
        let (commands, events) = (world.random.index(6), world.random.index(6));
        let (commands, events) = (commands.min(world.broker.commands.len()), events.min(world.broker.events.len()));
        world.say(|| {
            format!("the power is cut under lazy sync: {commands} command and {events} event records are lost")
        });
        world.broker.lose_commands(commands);
        world.broker.events.lose(events);
        world.store.lose_all_but(0);
        // M7: the host's boot changed without a clean stop, so what the streams hold may not be all there was. `up`
        // starts nothing then; here the other roles serve until ingest takes over, so that devices meet a later epoch.
        if world.switches.server.m7 {
            world.broker.unclean = true;
            world.broker.epoch.0 += 1;
            world.must_halt();
        } else {
            world.may_halt = true;
        }
        restart_all(world);
        return;
    }
    let of_commands = world.random.one_in(2);
    let (last, folded) = if of_commands {
        (world.broker.commands.last(), stored.commands.sequence)
    } else {
        (world.broker.events.last(), stored.events.sequence)
    };
    if folded == 0 || folded > last {
        return;
    }
    let count = usize::try_from(last - folded).unwrap_or_default() + 1 + world.random.index(2);
    if of_commands {
        let count = count.min(world.broker.commands.len());
        world.say(|| format!("an older disk comes back: the last {count} command records are gone"));
        world.broker.lose_commands(count);
    } else {
        let count = count.min(world.broker.events.len());
        world.say(|| format!("an older disk comes back: the last {count} event records are gone"));
        world.broker.events.lose(count);
        world.events_cut = Some(world.broker.events.last());
    }
    world.must_halt();
    restart_broker(world);
}
