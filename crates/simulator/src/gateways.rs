//! A gateway's shell as a model: sessions, packing, pushes, heads, history, receipts over the real machines.

use std::collections::BTreeMap;

use domain::{ChatId, Code, Command, Epoch, GatewayId, Import, Partition, Seq, SessionId, TenureId, UserId, text};
use gateway::machine::{Pushes, Tracker, TrackerAction, TrackerInput};
use packer::{Packer, PackerAction, PackerInput, Waiting};
use prost::Message as _;
use proto::relay::push::What;
use proto::relay::{Announcement, Answer, PushBatch, Receipt, ToGateway, to_gateway};
use proto::v1::client_frame::Frame as Asked;
use proto::v1::server_frame::Frame;
use proto::{log, v1};

use crate::owners::short;
use crate::store::Reader;
use crate::world::{ProcessId, World};
use crate::{deliverers, imports};

/// The only partition.
pub(crate) const PARTITION: Partition = Partition(0);
/// How often a gateway's tracker ticks.
const TICK_US: u64 = 250_000;
/// How often the model's checkpoint is asked for while a session waits for its heads.
const POLL_US: u64 = 50_000;
/// How long a history answer waits for a row.
const HISTORY_WAIT_US: u64 = 2_000_000;
/// How old a push is at least when it is forgotten.
const PUSH_US: u64 = 2_000_000;
/// A publish without an answer is in doubt after this long.
const DOUBT_US: u64 = 400_000;

/// One run of a gateway.
#[derive(Debug)]
pub(crate) struct Gateway {
    pub(crate) id: GatewayId,
    packer: Packer,
    /// Its last record in the command stream.
    stored: Seq,
    go_soon: bool,
    tracker: Tracker,
    sessions: BTreeMap<u64, Session>,
    /// Which session each socket carries.
    sockets: BTreeMap<u64, u64>,
    waiting: BTreeMap<u64, Wanted>,
    /// How often each session became ready: heads of before say nothing of now (M19).
    readies: BTreeMap<u64, u64>,
    polls: bool,
    receipts: BTreeMap<(ChatId, UserId), (Seq, Seq)>,
}

/// A session, with a socket or for a while without.
#[derive(Debug)]
struct Session {
    device: usize,
    user: UserId,
    socket: Option<u64>,
    pushes: Pushes<Frame>,
    /// The last entry of each chat that it was pushed, kept or not.
    pushed: BTreeMap<ChatId, Seq>,
}

impl Session {
    fn new(device: usize, user: UserId, socket: u64) -> Self {
        Self { device, user, socket: Some(socket), pushes: Pushes::default(), pushed: BTreeMap::new() }
    }
}

#[derive(Clone, Copy, Debug)]
struct Wanted {
    session: u64,
    user: UserId,
    epoch: Epoch,
    as_of: Seq,
    ready: u64,
}

/// Starts a gateway at a place; a restarted one has another id.
pub(crate) fn start(world: &mut World, place: usize) {
    let id = GatewayId(world.random.next());
    let process = world.start(format!("gateway {place}"));
    let gateway = Gateway {
        id,
        packer: Packer::new(world.broker.epoch),
        stored: 0,
        go_soon: false,
        tracker: Tracker::new(id, [PARTITION], world.switches.server),
        sessions: BTreeMap::new(),
        sockets: BTreeMap::new(),
        waiting: BTreeMap::new(),
        readies: BTreeMap::new(),
        polls: false,
        receipts: BTreeMap::new(),
    };
    world.gateways.insert(process, gateway);
    if place < world.places.len() {
        world.places[place] = process;
    } else {
        world.places.push(process);
    }
    track(world, process, TrackerInput::Asked);
    tick(world, process);
}

/// Kills a gateway; its sockets break.
pub(crate) fn kill(world: &mut World, process: ProcessId) {
    world.kill(process);
    let Some(gateway) = world.gateways.remove(&process) else { return };
    for (socket, session) in gateway.sockets {
        let device = gateway.sessions[&session].device;
        let to = world.devices[device].process;
        world.link(process, to, move |world| crate::devices::closed(world, device, socket));
    }
}

fn tick(world: &mut World, process: ProcessId) {
    world.within(process, TICK_US, move |world| {
        track(world, process, TrackerInput::Tick);
        let then = world.now.saturating_sub(PUSH_US);
        if let Some(gateway) = world.gateways.get_mut(&process) {
            gateway.sessions.values_mut().for_each(|session| session.pushes.forget_before(then));
        }
        tick(world, process);
    });
}

/// A device signs in over a socket: it goes on with its session, or is welcomed first and announced then.
pub(crate) fn sign_in(world: &mut World, process: ProcessId, device: usize, socket: u64, resume: Option<v1::Resume>) {
    let user = world.devices[device].user;
    if resume.is_some_and(|resume| go_on(world, process, device, socket, resume)) {
        return;
    }
    let session = world.random.next();
    let Some(gateway) = world.gateways.get_mut(&process) else { return };
    gateway.sessions.insert(session, Session::new(device, user, socket));
    gateway.sockets.insert(socket, session);
    welcome(world, process, session, None);
    track(world, process, TrackerInput::Up(SessionId(session), user));
    go(world, process);
}

fn go_on(world: &mut World, process: ProcessId, device: usize, socket: u64, resume: v1::Resume) -> bool {
    let v1::Resume { session, pushes: received } = resume;
    let rules = world.switches.server;
    let Some(gateway) = world.gateways.get_mut(&process) else { return false };
    let Some(own) = gateway.sessions.get_mut(&session).filter(|own| own.device == device) else { return false };
    let last = own.pushes.last();
    let Some(missed) = own.pushes.since(received, rules) else { return false };
    let missed: Vec<_> = missed.cloned().collect();
    let pushed = own.pushed.clone();
    if let Some(before) = own.socket.replace(socket) {
        gateway.sockets.remove(&before);
    }
    gateway.sockets.insert(socket, session);
    crate::devices::owed(world, device, pushed);
    let name = world.name(process);
    world.say(|| format!("{name} goes on with a session from push {received} of {last}"));
    welcome(world, process, session, Some(v1::Resumed { pushes: last }));
    for frame in missed {
        transmit(world, process, session, 0, frame);
    }
    true
}

fn welcome(world: &mut World, process: ProcessId, session: u64, resumed: Option<v1::Resumed>) {
    let Some(own) = world.gateways.get(&process).and_then(|gateway| gateway.sessions.get(&session)) else { return };
    let user = own.user.to_wire();
    let welcome = v1::Welcome { session, user, partitions: 1, resumed, ..v1::Welcome::default() };
    transmit(world, process, session, 0, Frame::Welcome(welcome));
}

/// A socket is gone; its session stays for a while.
pub(crate) fn sign_out(world: &mut World, process: ProcessId, socket: u64) {
    let Some(gateway) = world.gateways.get_mut(&process) else { return };
    let Some(session) = gateway.sockets.remove(&socket) else { return };
    if let Some(own) = gateway.sessions.get_mut(&session) {
        own.socket = None;
    }
    let stay = if world.random.one_in(8) { 0 } else { world.random.between(100_000, 8_000_000) };
    world.within(process, stay, move |world| end(world, process, session));
}

/// A session ends, if it has no socket.
fn end(world: &mut World, process: ProcessId, session: u64) {
    let Some(gateway) = world.gateways.get_mut(&process) else { return };
    if gateway.sessions.get(&session).is_some_and(|own| own.socket.is_none()) {
        gateway.sessions.remove(&session);
        track(world, process, TrackerInput::Down(SessionId(session)));
        go(world, process);
    }
}

/// What changed is announced in a moment, all of it at once.
fn go(world: &mut World, process: ProcessId) {
    let delay = world.random.between(0, 2_000);
    world.within(process, delay, move |world| track(world, process, TrackerInput::Go));
}

fn track(world: &mut World, process: ProcessId, input: TrackerInput) {
    let now = world.now;
    let Some(gateway) = world.gateways.get_mut(&process) else { return };
    let mut actions = Vec::new();
    gateway.tracker.handle(now, input, &mut actions);
    tracked(world, process, actions);
}

fn tracked(world: &mut World, process: ProcessId, actions: Vec<TrackerAction>) {
    for action in actions {
        match action {
            TrackerAction::Announce(announcement) => announce(world, process, &announcement),
            TrackerAction::Ready { epoch, as_of, sessions, .. } => {
                let name = world.name(process);
                world.say(|| format!("{name} is ready as of event record {as_of} for {} sessions", sessions.len()));
                for (session, user) in sessions {
                    let ready = v1::Ready { partition: 0, epoch: epoch.0, as_of };
                    push(world, process, session.0, Frame::Ready(ready));
                    let Some(gateway) = world.gateways.get_mut(&process) else { return };
                    let number = gateway.readies.entry(session.0).or_default();
                    *number += 1;
                    let wanted = Wanted { session: session.0, user, epoch, as_of, ready: *number };
                    let delay = world.random.between(0, 500);
                    world.within(process, delay, move |world| want_heads(world, process, wanted));
                }
            }
            TrackerAction::Resync(_) => {
                let name = world.name(process);
                world.say(|| format!("{name} may have missed pushes and resyncs"));
            }
        }
    }
}

fn announce(world: &mut World, process: ProcessId, announcement: &Announcement) {
    for worker in 0..world.workers.len() {
        let to = world.workers[worker].process;
        let announcement = announcement.clone();
        world.core(process, to, move |world| deliverers::announced(world, worker, announcement));
    }
}

/// A delivery worker asks for a snapshot.
pub(crate) fn asked(world: &mut World, process: ProcessId, gateway: Option<GatewayId>) {
    if world.gateways.get(&process).is_some_and(|own| gateway.is_none_or(|id| id == own.id)) {
        track(world, process, TrackerInput::Asked);
    }
}

/// Pushes may have been missed, and the subscription says so.
pub(crate) fn lagged(world: &mut World, process: ProcessId) {
    track(world, process, TrackerInput::Lagged);
}

/// A delivery owner's message.
pub(crate) fn told(world: &mut World, process: ProcessId, message: ToGateway) {
    match message.what {
        Some(to_gateway::What::Pushes(batch)) => {
            let now = world.now;
            let Some(gateway) = world.gateways.get_mut(&process) else { return };
            let mut actions = Vec::new();
            let taken = gateway.tracker.batch(now, PARTITION, TenureId(batch.owner), batch.number, &mut actions);
            if taken {
                deliver(world, process, batch);
            }
            tracked(world, process, actions);
        }
        Some(to_gateway::What::Through(through)) => {
            let (owner, last_batch) = (TenureId(through.owner), through.last_batch);
            track(world, process, TrackerInput::Through { partition: PARTITION, owner, last_batch });
        }
        Some(to_gateway::What::Ack(ack)) => track(world, process, TrackerInput::Acknowledged(ack)),
        None => {}
    }
}

fn deliver(world: &mut World, process: ProcessId, batch: PushBatch) {
    for one in batch.pushes {
        let frame = match one.what {
            Some(What::Entry(bytes)) => Frame::Pushed(v1::Pushed { epoch: batch.epoch, entry: decoded(world, &bytes) }),
            Some(What::Watermark(mark)) => Frame::Watermark(mark),
            None => continue,
        };
        for session in one.sessions {
            push(world, process, session, frame.clone());
        }
    }
}

/// N3: the entry of these bytes. A device hashes it encoded anew, so those must be the same bytes.
fn decoded(world: &mut World, bytes: &bytes::Bytes) -> Option<v1::Entry> {
    let entry = v1::Entry::decode(bytes.clone()).ok()?;
    if entry.encode_to_vec() != *bytes {
        world.fault(format!("N3: the bytes of seq {} are not what its entry encodes to", entry.seq));
    }
    Some(entry)
}

/// Counts a push of a session, keeps it and puts it into its socket.
fn push(world: &mut World, process: ProcessId, session: u64, frame: Frame) {
    let (now, bound) = (world.now, world.scene.kept);
    let Some(gateway) = world.gateways.get_mut(&process) else { return };
    let Some(own) = gateway.sessions.get_mut(&session) else { return };
    if let Frame::Pushed(v1::Pushed { entry: Some(entry), .. }) = &frame
        && let Ok(chat) = ChatId::try_from(&entry.chat[..])
    {
        let last = own.pushed.entry(chat).or_default();
        *last = entry.seq.max(*last);
    }
    own.pushes.push(now, frame.clone(), frame.encoded_len(), bound);
    transmit(world, process, session, 0, frame);
}

/// Puts a frame into a session's socket, if it has one.
fn transmit(world: &mut World, process: ProcessId, session: u64, id: u64, frame: Frame) {
    let Some(own) = world.gateways.get(&process).and_then(|gateway| gateway.sessions.get(&session)) else { return };
    let (device, Some(socket)) = (own.device, own.socket) else { return };
    let to = world.devices[device].process;
    let frame = v1::ServerFrame { id, frame: Some(frame) };
    world.link(process, to, move |world| crate::devices::frame(world, device, socket, frame));
}

fn refuse(world: &mut World, process: ProcessId, session: u64, id: u64, code: Code) {
    let retryable = code as i32 >= Code::Busy as i32;
    let error = v1::Error {
        code: code.into(),
        text: text(code).to_owned(),
        retryable,
        retry_after_ms: if retryable { 500 } else { 0 },
    };
    transmit(world, process, session, id, Frame::Error(error));
}

/// Outcomes of commands.
pub(crate) fn answered(world: &mut World, process: ProcessId, answers: Vec<Answer>) {
    for answer in answers {
        if let (imports::SESSION, Some(outcome)) = (answer.session, &answer.outcome) {
            imports::answered(world, outcome);
        } else if let Some(outcome) = answer.outcome {
            transmit(world, process, answer.session, answer.request, Frame::Outcome(outcome));
        }
    }
}

/// A client's frame.
pub(crate) fn frame(world: &mut World, process: ProcessId, socket: u64, frame: v1::ClientFrame) {
    let Some(gateway) = world.gateways.get(&process) else { return };
    let Some(session) = gateway.sockets.get(&socket).copied() else { return };
    let user = gateway.sessions[&session].user;
    let id = frame.id;
    match frame.frame {
        Some(Asked::Command(wire)) => match Command::from_wire(user, wire.clone()) {
            Ok(_) => command(world, process, session, id, user, wire),
            Err(code) => refuse(world, process, session, id, code),
        },
        Some(Asked::ReadHistory(request)) => {
            let deadline = world.now + HISTORY_WAIT_US;
            history(world, process, (session, id, user), request, deadline);
        }
        Some(Asked::Received(receipt)) => receipt_of(world, process, user, &receipt.chat, receipt.through, 0),
        Some(Asked::Seen(receipt)) => {
            receipt_of(world, process, user, &receipt.chat, receipt.through, receipt.through);
        }
        Some(Asked::Authenticate(_)) | None => {}
    }
}

fn command(world: &mut World, process: ProcessId, session: u64, id: u64, user: UserId, wire: v1::Command) {
    let packed = log::Command { sender: user.to_wire(), command: Some(wire), ..log::Command::default() };
    send(world, process, session, id, packed);
}

/// A step of an import, from the operator's side of this process.
pub(crate) fn import(world: &mut World, process: ProcessId, import: &Import) {
    let (sender, wire) = (import.sender.to_wire(), import.to_wire());
    let packed = log::Command { sender, import: Some(wire), ..log::Command::default() };
    send(world, process, imports::SESSION, import.seq, packed);
}

fn send(world: &mut World, process: ProcessId, session: u64, id: u64, command: log::Command) {
    let Some(gateway) = world.gateways.get_mut(&process) else { return };
    let packed = log::Command { route: Some(log::Route { gateway: gateway.id.0, session, request: id }), ..command };
    let waiting = Waiting { session, request: id, bytes: packed.encode_to_vec().into() };
    pack(world, process, PackerInput::Command(waiting));
    let Some(gateway) = world.gateways.get_mut(&process) else { return };
    if !std::mem::replace(&mut gateway.go_soon, true) {
        let delay = world.random.between(0, 2_000);
        world.within(process, delay, move |world| {
            if let Some(gateway) = world.gateways.get_mut(&process) {
                gateway.go_soon = false;
            }
            pack(world, process, PackerInput::Go);
        });
    }
}

fn pack(world: &mut World, process: ProcessId, input: PackerInput) {
    let Some(gateway) = world.gateways.get_mut(&process) else { return };
    let id = gateway.id;
    let mut actions = Vec::new();
    gateway.packer.handle(input, &mut actions);
    for action in actions {
        match action {
            PackerAction::Publish { number, payload } => {
                let way = world.latency();
                let message_id = format!("{id}-0-{number}");
                let cuts = world.store.cuts;
                world.after(way, move |world| {
                    let after = world.gateways.get(&process).map_or(0, |gateway| gateway.stored);
                    let lives = cuts == world.store.cuts;
                    if lives && !crate::handing::hand_over(world, process, &payload, &message_id, after) {
                        publish(world, process, payload, &message_id);
                    }
                });
            }
            PackerAction::Accepted(asked) => {
                for (session, request) in asked {
                    transmit(world, process, session, request, Frame::Accepted(v1::Accepted {}));
                }
            }
            PackerAction::Busy(asked) => {
                for (session, request) in asked {
                    refuse(world, process, session, request, Code::Busy);
                }
            }
        }
    }
}

pub(crate) fn publish(world: &mut World, process: ProcessId, payload: bytes::Bytes, message_id: &str) {
    if !world.lives(process) && world.random.one_in(2) {
        return;
    }
    let name = world.name(process);
    if !world.calm && world.random.one_in(80) {
        world.say(|| format!("{name} is refused its command record {message_id}: the stream is full"));
        let back = world.latency();
        world.within(process, back, move |world| record_answered(world, process, PackerInput::Refused));
        return;
    }
    let before = world.broker.commands.last();
    let sequence = world.broker.publish_commands(world.now, payload, message_id);
    world.say(|| {
        let again = if sequence <= before { " again" } else { "" };
        format!("{name} publishes{again} command record {sequence} ({message_id})")
    });
    crate::owners::commands_came(world);
    if world.lost() {
        world.within(process, DOUBT_US, move |world| pack(world, process, PackerInput::InDoubt));
    } else {
        let back = world.latency();
        world.within(process, back, move |world| {
            if let Some(gateway) = world.gateways.get_mut(&process) {
                gateway.stored = sequence;
            }
            record_answered(world, process, PackerInput::Acknowledged);
        });
    }
}

/// With one partition an answer ends the round.
pub(crate) fn record_answered(world: &mut World, process: ProcessId, input: PackerInput) {
    pack(world, process, input);
    pack(world, process, PackerInput::Go);
}

/// Answers what the reader's membership shows, and through where it is whole (M22).
fn history(
    world: &mut World,
    process: ProcessId,
    (session, id, user): (u64, u64, UserId),
    request: v1::ReadHistory,
    deadline: u64,
) {
    let Ok(chat) = ChatId::try_from(&request.chat[..]) else { return };
    if request.at_least > 0 && world.store.row(chat, request.at_least).is_none() {
        if world.now >= deadline {
            return refuse(world, process, session, id, Code::NotYet);
        }
        return world.within(process, 20_000, move |world| {
            history(world, process, (session, id, user), request, deadline);
        });
    }
    let members = world.store.members(chat, 0).unwrap_or_default();
    if members.is_empty() {
        return refuse(world, process, session, id, Code::UnknownChat);
    }
    if members.iter().all(|row| row.user != user) {
        return refuse(world, process, session, id, Code::NotAMember);
    }
    let most = world.scene.page;
    let (rows, through) = world.store.history(chat, request.after, most);
    if request.after > through {
        return refuse(world, process, session, id, Code::OutOfRange);
    }
    // Read after the page: the page may hold the entry that lets the reader in, or out.
    let delay = world.random.between(0, 1_000);
    world.within(process, delay, move |world| {
        let members = world.store.members(chat, 0).unwrap_or_default();
        let shown = |seq: Seq| {
            let own = members.iter().filter(|row| row.user == user);
            own.into_iter().any(|row| row.joined_seq <= seq && row.left_seq.is_none_or(|left| seq <= left))
        };
        let entries =
            rows.iter().filter(|row| shown(row.entry.seq)).filter_map(|row| decoded(world, &row.bytes)).collect();
        let epoch = world.broker.epoch.0;
        let answer = v1::History { chat: chat.to_wire(), epoch, entries, through, first_seq: 1 };
        transmit(world, process, session, id, Frame::History(answer));
    });
}

fn receipt_of(world: &mut World, process: ProcessId, user: UserId, chat: &[u8], delivered: Seq, seen: Seq) {
    let (Ok(chat), Some(gateway)) = (ChatId::try_from(chat), world.gateways.get_mut(&process)) else { return };
    let first = gateway.receipts.is_empty();
    let (one, of) = (short(user.as_bytes()), short(chat.as_bytes()));
    let mark = gateway.receipts.entry((chat, user)).or_default();
    *mark = (mark.0.max(delivered), mark.1.max(seen));
    world.say(|| format!("user {one} reports chat {of}: received {delivered}, seen {seen}"));
    if first {
        let delay = world.random.between(0, 2_000);
        world.within(process, delay, move |world| send_receipts(world, process));
    }
}

fn send_receipts(world: &mut World, process: ProcessId) {
    let Some(gateway) = world.gateways.get_mut(&process) else { return };
    let waiting = std::mem::take(&mut gateway.receipts);
    let receipts: Vec<_> = waiting
        .into_iter()
        .map(|((chat, user), (delivered, seen))| Receipt {
            chat: chat.to_wire(),
            user: user.to_wire(),
            delivered,
            seen,
        })
        .collect();
    for tenure in world.tenancies.keys().copied().collect::<Vec<_>>() {
        let to = world.tenancies[&tenure].process;
        let receipts = receipts.clone();
        world.core(process, to, move |world| deliverers::receipts(world, tenure, receipts));
    }
}

/// Heads are told at once, as old as the model is, and again once it has passed `as_of`.
fn want_heads(world: &mut World, process: ProcessId, wanted: Wanted) {
    let current = is_current(world, &wanted);
    tell_heads(world, process, wanted, current);
    if current {
        return;
    }
    let Some(gateway) = world.gateways.get_mut(&process) else { return };
    // The last `ready` is the one that counts.
    if gateway.waiting.get(&wanted.session).is_none_or(|other| other.ready < wanted.ready) {
        gateway.waiting.insert(wanted.session, wanted);
    }
    if !std::mem::replace(&mut gateway.polls, true) {
        world.within(process, POLL_US, move |world| poll_heads(world, process));
    }
}

fn poll_heads(world: &mut World, process: ProcessId) {
    let Some(gateway) = world.gateways.get(&process) else { return };
    let waiting: Vec<_> = gateway.waiting.values().copied().collect();
    for wanted in waiting {
        let gone = !world.gateways[&process].sessions.contains_key(&wanted.session);
        let current = is_current(world, &wanted);
        if !gone && !current {
            continue;
        }
        if let Some(gateway) = world.gateways.get_mut(&process) {
            gateway.waiting.remove(&wanted.session);
        }
        if !gone {
            tell_heads(world, process, wanted, true);
        }
    }
    let Some(gateway) = world.gateways.get_mut(&process) else { return };
    gateway.polls = !gateway.waiting.is_empty();
    if gateway.polls {
        world.within(process, POLL_US, move |world| poll_heads(world, process));
    }
}

fn is_current(world: &World, wanted: &Wanted) -> bool {
    let through = world.store.checkpoint(Reader::Projections).0;
    wanted.as_of == 0 || (wanted.epoch == world.broker.epoch && through >= wanted.as_of)
}

fn tell_heads(world: &mut World, process: ProcessId, wanted: Wanted, current: bool) {
    let delay = world.latency();
    world.within(process, delay, move |world| {
        let heads = world.store.heads(wanted.user);
        let delay = world.random.between(0, 500);
        world.within(process, delay, move |world| {
            let Some(gateway) = world.gateways.get(&process) else { return };
            let current = current && gateway.readies.get(&wanted.session) == Some(&wanted.ready);
            let name = world.name(process);
            world.say(|| format!("{name} tells user {} its heads, current: {current}", short(wanted.user.as_bytes())));
            let heads = v1::Heads { partition: 0, heads, last: true, current };
            push(world, process, wanted.session, Frame::Heads(heads));
        });
    });
}
