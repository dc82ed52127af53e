//! The clients: the real endpoint of each device, its socket as a model, and what its user does.

use std::collections::BTreeMap;

use client::machine::{Bounds, Endpoint, EndpointAction, Progress, TimelineBounds};
use client::{Event, SendId, Settlement};
use domain::{ChatId, Micros, Partition, Seq, UserId};
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
    /// The socket, once it is signed in.
    pub(crate) socket: Option<u64>,
    /// Counts sockets: what belongs to an earlier one is over.
    attempt: u64,
    timer: Option<Micros>,
    /// Commands that are known to be stored, to be asked again.
    stored: Vec<(SendId, v1::Command)>,
    last_sent: BTreeMap<SendId, v1::Command>,
    /// How far the last `ready` reaches.
    as_of: u64,
    /// What its session was pushed before it went on over this socket.
    owed: BTreeMap<ChatId, u64>,
}

/// Starts all devices; each user has one, some have two.
pub(crate) fn start(world: &mut World) {
    for number in 0..world.scene.devices {
        let user = user(number % world.scene.users);
        let process = world.start(format!("device {number} of user {}", short(user.as_bytes())));
        let recorder = world.recorder.client(checker::User::from(*user.as_bytes()), &number.to_string());
        let seed = world.random.next();
        let endpoint = Endpoint::new(world.switches.client, bounds(), Progress::default(), None, seed);
        world.devices.push(Device {
            process,
            user,
            endpoint,
            eyes: Eyes::new(recorder),
            gateway: 0,
            socket: None,
            attempt: 0,
            timer: None,
            stored: Vec::new(),
            last_sent: BTreeMap::new(),
            as_of: 0,
            owed: BTreeMap::new(),
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
        if world.devices[number].attempt != attempt || world.devices[number].socket.is_some() {
            return;
        }
        let place = world.random.index(world.places.len());
        let before = world.devices[number].gateway;
        // As a rule where its session is.
        let comes_back = world.gateways.contains_key(&before) && !world.random.one_in(3);
        let gateway = if comes_back { before } else { world.places[place] };
        let device = &mut world.devices[number];
        device.gateway = gateway;
        let (socket, resume) = (socket(number, attempt), device.endpoint.resume());
        world.link(own, gateway, move |world| {
            if world.devices[number].attempt == attempt {
                gateways::sign_in(world, gateway, number, socket, resume);
            }
        });
        // Nobody answered, or the socket broke before the welcome.
        world.within(own, 1_500_000, move |world| {
            let device = &world.devices[number];
            if device.attempt == attempt && device.socket.is_none() {
                world.link(own, gateway, move |world| gateways::sign_out(world, gateway, socket));
                connect(world, number, 0);
            }
        });
    });
}

/// Names the socket of a device's attempt.
fn socket(number: usize, attempt: u64) -> u64 {
    attempt << 8 | number as u64
}

/// This socket broke.
pub(crate) fn closed(world: &mut World, number: usize, socket: u64) {
    if world.devices[number].socket == Some(socket) {
        cut(world, number, 300_000);
    }
}

/// Cuts a device's socket; it comes back within some time, through another gateway perhaps.
pub(crate) fn cut(world: &mut World, number: usize, back_within: Micros) {
    let now = world.now;
    let device = &mut world.devices[number];
    if let Some(socket) = device.socket.take() {
        let mut actions = Vec::new();
        device.endpoint.closed(now, None, &mut actions);
        let (own, gateway) = (device.process, device.gateway);
        let name = world.name(own);
        world.say(|| format!("the socket of {name} breaks"));
        // Half open: the gateway finds out later.
        let late = world.random.between(100, 1_000_000);
        world.within(gateway, late, move |world| gateways::sign_out(world, gateway, socket));
        act(world, number, actions);
    }
    let delay = world.random.between(1_000, back_within.max(2_000));
    connect(world, number, delay);
}

/// A frame of the server.
pub(crate) fn frame(world: &mut World, number: usize, from: u64, frame: v1::ServerFrame) {
    let now = world.now;
    let device = &mut world.devices[number];
    let mut actions = Vec::new();
    if let Some(server_frame::Frame::Welcome(welcome)) = &frame.frame {
        // One that comes when the device tries again already is of a socket that it has given up.
        if device.socket.is_none() && from == socket(number, device.attempt) {
            device.socket = Some(from);
            device.endpoint.opened(now, welcome, &mut actions);
        }
    } else if device.socket != Some(from) {
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
    let (own, gateway, Some(socket)) = (device.process, device.gateway, device.socket) else { return };
    world.link(own, gateway, move |world| gateways::frame(world, gateway, socket, frame));
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
        Event::Ready(ready) => {
            device.as_of = ready.as_of;
            // It may be of another epoch, where seqs are others.
            device.owed.clear();
        }
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

/// A device goes on with a session that was pushed all this.
pub(crate) fn owed(world: &mut World, number: usize, pushed: BTreeMap<ChatId, u64>) {
    world.devices[number].owed = pushed;
}

/// N4: who is caught up holds everything up to what its `ready` said, and all that its session was pushed.
fn caught_up(world: &mut World, number: usize) {
    let device = &world.devices[number];
    // Every gateway began anew with the power cut: what one of before still says counts other records.
    if world.truth.renumbered && !world.lives(device.gateway) {
        return;
    }
    let mut missing = None;
    for (chat, entries) in world.truth.chats() {
        let known = device.endpoint.timeline.known(client::ChatId(*chat.as_bytes()));
        let last = Truth::shown_by(entries, device.user, device.as_of).last();
        if let Some((_, logged)) = last.filter(|(_, logged)| logged.entry.seq > known) {
            missing = Some((chat, known, logged.entry.seq));
        }
    }
    let known = |chat: &ChatId| device.endpoint.timeline.known(client::ChatId(*chat.as_bytes()));
    let owed = device.owed.iter().map(|(chat, seq)| (*chat, *seq, known(chat))).find(|(_, seq, known)| known < seq);
    let name = world.name(device.process);
    world.devices[number].owed.clear();
    if let Some((chat, seq, known)) = owed {
        let chat = short(chat.as_bytes());
        world.fault(format!("N4: the session of {name} was pushed seq {seq} of chat {chat}, it knows {known}"));
    }
    if let Some((chat, known, seq)) = missing {
        let as_of = world.devices[number].as_of;
        let chat = short(chat.as_bytes());
        world.fault(format!(
            "N4: {name} is caught up as of event record {as_of} and knows chat {chat} through {known}, not {seq}"
        ));
    }
}

/// How far the device knows the chat.
pub(crate) fn known(world: &World, number: usize, chat: ChatId) -> Seq {
    world.devices[number].endpoint.timeline.known(client::ChatId(*chat.as_bytes()))
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
        command::Action::SetRole(set) => format!("give {} the role {}", last(&set.user), set.role),
        command::Action::RenameChat(rename) => format!("call it {:?}", rename.name),
        command::Action::TransferOwnership(transfer) => format!("hand it to {}", last(&transfer.user)),
        command::Action::EditMessage(edit) => format!("say something else at {}", edit.seq),
        command::Action::DeleteMessage(delete) => format!("take {} back", delete.seq),
        command::Action::React(react) => format!("think {:?} of {}", react.reaction, react.seq),
        command::Action::SetChatPolicy(set) => format!("set {:?}", set.change.unwrap_or_default()),
        command::Action::PinMessage(pin) if pin.unpin => format!("unpin {}", pin.seq),
        command::Action::PinMessage(pin) => format!("pin {}", pin.seq),
    }
}

/// Another copy of a command that is known to be stored goes out.
pub(crate) fn ask_again(world: &mut World, number: usize) {
    let device = &world.devices[number];
    if device.socket.is_none() || device.stored.is_empty() {
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
    let (progress, kept) = (device.endpoint.timeline.progress(), device.endpoint.outbox.kept());
    device.eyes.resumed(&progress);
    device.endpoint = Endpoint::new(rules, bounds(), progress, Some(kept), seed);
    device.timer = None;
    let name = world.name(world.devices[number].process);
    world.say(|| format!("{name} starts again from what it kept"));
}
