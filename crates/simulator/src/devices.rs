//! The clients: the real endpoint of each device, its socket as a model, and what its user does.

use std::collections::BTreeMap;

use client::machine::{Bounds, Endpoint, EndpointAction, Resume, TimelineBounds};
use client::{Event, SendId, Settlement};
use domain::{ChatId, Micros, Partition, UserId};
use proto::v1::{self, command, server_frame};

use crate::gateways;
use crate::owners::short;
use crate::record::Eyes;
use crate::truth::Truth;
use crate::world::{ProcessId, World};

/// Bit of a frame id that names a copy which the endpoint does not know of.
const COPY: u64 = 1 << 61;

/// One device of a user.
#[derive(Debug)]
pub(crate) struct Device {
    pub(crate) process: ProcessId,
    pub(crate) user: UserId,
    pub(crate) endpoint: Endpoint,
    pub(crate) eyes: Eyes,
    gateway: ProcessId,
    /// The socket's session, once it is signed in.
    pub(crate) session: Option<u64>,
    /// Counts sockets: what belongs to an earlier one is over.
    attempt: u64,
    timer: Option<Micros>,
    /// Commands that are known to be stored, to be asked again.
    stored: Vec<(SendId, v1::Command)>,
    last_sent: BTreeMap<SendId, v1::Command>,
    /// How far the last `ready` reaches.
    as_of: u64,
}

/// Starts all devices; each user has one, some have two.
pub(crate) fn start(world: &mut World) {
    for number in 0..world.scene.devices {
        let user = user(number % world.scene.users);
        let process = world.start(format!("device {number} of user {}", short(user.as_bytes())));
        let recorder = world.recorder.client(checker::User::from(*user.as_bytes()), &number.to_string());
        let seed = world.random.next();
        let endpoint = Endpoint::new(world.switches.client, bounds(), Resume::default(), None, seed);
        world.devices.push(Device {
            process,
            user,
            endpoint,
            eyes: Eyes::new(recorder),
            gateway: 0,
            session: None,
            attempt: 0,
            timer: None,
            stored: Vec::new(),
            last_sent: BTreeMap::new(),
            as_of: 0,
        });
        connect(world, number, 0);
    }
}

pub(crate) fn user(number: usize) -> UserId {
    let mut bytes = [0xaa; 16];
    bytes[15] = u8::try_from(number + 1).unwrap_or(u8::MAX);
    UserId::new(bytes)
}

pub(crate) fn chat(number: usize) -> ChatId {
    let mut bytes = *ChatId::draw(Partition(0), 1_767_225_600_000, 0).as_bytes();
    bytes[15] = 0xc0 + u8::try_from(number).unwrap_or_default();
    ChatId::new(bytes)
}

fn bounds() -> (Bounds, TimelineBounds) {
    let outbox = Bounds { resend_us: 1_500_000, longest_us: 4_000_000, ..Bounds::default() };
    let timeline =
        TimelineBounds { held: 8, fetches: 2, fetch_us: 4_000_000, longest_us: 2_000_000, ..TimelineBounds::default() };
    (outbox, timeline)
}

fn connect(world: &mut World, number: usize, delay: Micros) {
    world.devices[number].attempt += 1;
    let attempt = world.devices[number].attempt;
    let own = world.devices[number].process;
    world.within(own, delay, move |world| {
        if world.devices[number].attempt != attempt || world.devices[number].session.is_some() {
            return;
        }
        let place = world.random.index(world.places.len());
        let gateway = world.places[place];
        let device = &mut world.devices[number];
        device.gateway = gateway;
        let user = device.user;
        world.link(own, gateway, move |world| {
            if world.devices[number].attempt == attempt {
                gateways::sign_in(world, gateway, number, user);
            }
        });
        // Nobody answered, or the socket broke before the welcome.
        world.within(own, 1_500_000, move |world| {
            let device = &world.devices[number];
            if device.attempt == attempt && device.session.is_none() {
                connect(world, number, 0);
            }
        });
    });
}

/// The socket of this session broke.
pub(crate) fn closed(world: &mut World, number: usize, session: u64) {
    if world.devices[number].session == Some(session) {
        cut(world, number, 300_000);
    }
}

/// Cuts a device's socket; it comes back within some time, through another gateway perhaps.
pub(crate) fn cut(world: &mut World, number: usize, back_within: Micros) {
    let now = world.now;
    let device = &mut world.devices[number];
    if let Some(session) = device.session.take() {
        let mut actions = Vec::new();
        device.endpoint.closed(now, None, &mut actions);
        let (own, gateway) = (device.process, device.gateway);
        let name = world.name(own);
        world.say(|| format!("the socket of {name} breaks"));
        // Half open: the gateway finds out later.
        let late = world.random.between(100, 1_000_000);
        world.within(gateway, late, move |world| gateways::sign_out(world, gateway, session));
        act(world, number, actions);
    }
    let delay = world.random.between(1_000, back_within.max(2_000));
    connect(world, number, delay);
}

/// A frame of the server.
pub(crate) fn frame(world: &mut World, number: usize, (gateway, session): (ProcessId, u64), frame: v1::ServerFrame) {
    let now = world.now;
    let device = &mut world.devices[number];
    let mut actions = Vec::new();
    if let Some(server_frame::Frame::Welcome(welcome)) = &frame.frame {
        // One that comes when the device tries elsewhere already is of a socket that it has given up.
        if device.session.is_none() && device.gateway == gateway {
            device.session = Some(session);
            device.endpoint.opened(now, welcome, &mut actions);
        }
    } else if device.session != Some(session) {
        return;
    } else if frame.id & COPY != 0 {
        device.eyes.copy_answered(frame.id & !COPY, &frame);
        return;
    } else {
        device.endpoint.frame(now, frame, &mut actions);
    }
    act(world, number, actions);
}

fn act(world: &mut World, number: usize, actions: Vec<EndpointAction>) {
    for action in actions {
        match action {
            EndpointAction::Transmit(frame) => transmit(world, number, frame),
            EndpointAction::Tell(event) => told(world, number, &event),
            EndpointAction::Answer(..) => {}
        }
    }
    wake(world, number);
}

fn transmit(world: &mut World, number: usize, frame: v1::ClientFrame) {
    let device = &world.devices[number];
    let (own, gateway, Some(session)) = (device.process, device.gateway, device.session) else { return };
    world.link(own, gateway, move |world| gateways::frame(world, gateway, session, frame));
}

fn wake(world: &mut World, number: usize) {
    let device = &mut world.devices[number];
    let Some(due) = device.endpoint.deadline() else { return };
    let due = due.max(world.now);
    if device.timer.is_some_and(|timer| timer <= due && timer >= world.now) {
        return;
    }
    device.timer = Some(due);
    let process = device.process;
    let delay = due - world.now;
    world.within(process, delay, move |world| {
        let now = world.now;
        let device = &mut world.devices[number];
        if device.timer != Some(due) {
            return;
        }
        device.timer = None;
        let mut actions = Vec::new();
        device.endpoint.tick(now, &mut actions);
        act(world, number, actions);
    });
}

fn told(world: &mut World, number: usize, event: &Event) {
    let now = world.now;
    let device = &mut world.devices[number];
    device.eyes.observe(now, event);
    match event {
        Event::Sent { id, command } => {
            device.last_sent.insert(*id, command.clone());
        }
        Event::Settled { id, settlement, .. } => {
            if let Settlement::Stored { .. } = settlement
                && let Some(command) = device.last_sent.get(id)
            {
                device.stored.push((*id, command.clone()));
            }
            let (process, id, settlement) = (device.process, *id, *settlement);
            if let Settlement::Rejected { code: v1::ErrorCode::Superseded, .. } = settlement {
                let name = world.name(process);
                world.fault(format!("M11: command {} of {name} is superseded while it waits for its answer", id.0));
            }
            let name = world.name(process);
            world.say(|| format!("{name} learns of its command {}: {settlement:?}", id.0));
        }
        Event::Ready(ready) => device.as_of = ready.as_of,
        Event::CaughtUp { .. } => caught_up(world, number),
        Event::Entry { entry, .. } => {
            let (chat, seq) = (entry.chat, entry.entry.seq);
            if world.random.one_in(2) {
                let process = world.devices[number].process;
                let delay = world.random.between(1_000, 400_000);
                world.within(process, delay, move |world| {
                    let now = world.now;
                    let mut actions = Vec::new();
                    world.devices[number].endpoint.seen(now, chat, seq, &mut actions);
                    act(world, number, actions);
                });
            }
        }
        Event::Connected { .. }
        | Event::Disconnected { .. }
        | Event::Heads(_)
        | Event::Accepted { .. }
        | Event::Answered { .. }
        | Event::Arrived { .. }
        | Event::History { .. }
        | Event::Watermark { .. }
        | Event::Error(_)
        | Event::Closing { .. }
        | Event::Unreachable { .. }
        | Event::Fatal { .. } => {}
    }
}

/// N4: who is caught up holds everything up to what its `ready` said.
fn caught_up(world: &mut World, number: usize) {
    let device = &world.devices[number];
    // Every gateway began anew with the power cut: what one of before still says counts other records.
    if world.truth.renumbered && !world.lives(device.gateway) {
        return;
    }
    let mut missing = None;
    for (chat, entries) in world.truth.chats() {
        let known = device.endpoint.timeline.known(client::ChatId(*chat.as_bytes()));
        let last = Truth::shown_to(entries, device.user).filter(|(record, _)| *record <= device.as_of).last();
        if let Some((_, logged)) = last.filter(|(_, logged)| logged.entry.seq > known) {
            missing = Some((chat, known, logged.entry.seq));
        }
    }
    if let Some((chat, known, seq)) = missing {
        let (name, as_of) = (world.name(device.process), device.as_of);
        let chat = short(chat.as_bytes());
        world.fault(format!(
            "N4: {name} is caught up as of event record {as_of} and knows chat {chat} through {known}, not {seq}"
        ));
    }
}

/// The user does something.
pub(crate) fn submit(world: &mut World, number: usize, chat: ChatId, action: command::Action) {
    let now = world.now;
    let device = &mut world.devices[number];
    let mut actions = Vec::new();
    let submitted = device.endpoint.submit(now, client::ChatId(*chat.as_bytes()), action.clone(), &mut actions);
    let name = world.name(world.devices[number].process);
    if let Ok((id, identity)) = submitted {
        world.say(|| {
            format!(
                "{name} gives command {} (n {}) for chat {}: {}",
                id.0,
                identity.n,
                short(chat.as_bytes()),
                what(&action)
            )
        });
    }
    act(world, number, actions);
}

fn what(action: &command::Action) -> String {
    let last = |bytes: &[u8]| bytes.last().map_or_else(String::new, |byte| format!("{byte:02x}"));
    match action {
        command::Action::CreateChat(create) => format!("create it with {} others", create.members.len()),
        command::Action::AddMember(add) => {
            format!("add {}", add.member.as_ref().map_or_else(String::new, |member| last(&member.user)))
        }
        command::Action::RemoveMember(remove) => format!("remove {}", last(&remove.user)),
        command::Action::LeaveChat(_) => "leave".to_owned(),
        command::Action::SendMessage(_) => "say something".to_owned(),
    }
}

/// Another copy of a command that is known to be stored goes out.
pub(crate) fn ask_again(world: &mut World, number: usize) {
    let device = &world.devices[number];
    if device.session.is_none() || device.stored.is_empty() {
        return;
    }
    // Only recent ones: older ones are rightly superseded.
    let len = device.stored.len();
    let recent = len.saturating_sub(8);
    let at = recent + world.random.index(len - recent);
    let device = &world.devices[number];
    let (id, command) = device.stored[at].clone();
    let name = world.name(device.process);
    world.say(|| format!("{name} sends another copy of its command {} (n {})", id.0, command.n));
    let now = world.now;
    let request = world.devices[number].eyes.copy_sent(now, &command);
    let frame = v1::ClientFrame { id: COPY | request, frame: Some(v1::client_frame::Frame::Command(command)) };
    transmit(world, number, frame);
}

/// The device's program ends and starts again from what it kept.
pub(crate) fn restart(world: &mut World, number: usize) {
    cut(world, number, 1_000_000);
    let seed = world.random.next();
    let rules = world.switches.client;
    let device = &mut world.devices[number];
    let (resume, kept) = (device.endpoint.timeline.resume(), device.endpoint.outbox.kept());
    device.eyes.resumed(&resume);
    device.endpoint = Endpoint::new(rules, bounds(), resume, Some(kept), seed);
    device.timer = None;
    let name = world.name(world.devices[number].process);
    world.say(|| format!("{name} starts again from what it kept"));
}
