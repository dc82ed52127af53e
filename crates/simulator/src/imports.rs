//! An operator who brings in a chat's history: sends it in order, is killed, and begins again where the store ends.

use bytes::Bytes;
use domain::{ChatId, ChatKind, Code, Event, Import, ImportId, Member, Micros, Role, Seq, Step, UserId};
use proto::v1::outcome::Result as Decided;
use proto::v1::{Outcome, Rejected, Stored};

use crate::owners::short;
use crate::world::World;
use crate::{devices, gateways};

/// Whose answers go to the operator; no device has such a session.
pub(crate) const SESSION: u64 = u64::MAX;
/// Steps without an answer go out again after this long.
const AGAIN_US: Micros = 1_500_000;
/// How often the operator looks whether what was imported is still there.
const LOOK_US: Micros = 3_000_000;
/// When the first message was said.
const THEN_US: Micros = 1_300_000_000_000_000;

/// What is imported, and how far this run of the program is.
#[derive(Debug)]
pub(crate) struct Importer {
    pub(crate) chat: ChatId,
    steps: Vec<Import>,
    settled: usize,
    sent: usize,
    /// Counts what was sent at once: its timer belongs to it alone.
    window: u64,
}

/// Draws what is imported and begins.
pub(crate) fn plan(world: &mut World) {
    let chat = devices::chat(world.scene.chats);
    let users: Vec<UserId> = (0..world.scene.users).map(devices::user).collect();
    let mut members = Vec::new();
    for (number, user) in users.iter().enumerate() {
        if number == 0 || world.random.one_in(2) {
            let role = if number == 0 { Role::Owner } else { Role::Member };
            members.push(Member { user: *user, role });
        }
    }
    let import = ImportId::new([0x1a; 16]);
    let step = |seq: usize, sender, step| Import { chat, import, sender, seq: seq as Seq, step };
    let mut steps = vec![step(1, users[0], Step::Begin { kind: ChatKind::Group, time: THEN_US })];
    let mut time = THEN_US;
    for seq in 2..2 + 1 + world.random.index(24) {
        time += world.random.between(1, 90_000_000);
        // By members, and by those who are none any more.
        let sender = users[world.random.index(users.len())];
        let body = Bytes::copy_from_slice(&world.random.next().to_be_bytes());
        steps.push(step(seq, sender, Step::Message { time, body }));
    }
    // Some are given up.
    if !world.random.one_in(8) {
        steps.push(step(steps.len() + 1, users[0], Step::End { members }));
    }
    world.importer = Some(Importer { chat, steps, settled: 0, sent: 0, window: 0 });
    let at = world.random.between(0, world.scene.active / 2);
    world.after(at, run);
}

/// The program starts: it goes on behind what is stored.
fn run(world: &mut World) {
    let Some(chat) = world.importer.as_ref().map(|importer| importer.chat) else { return };
    let stored = match world.store.load_chat(chat) {
        Ok(chat) => chat.map_or(0, |chat| chat.head()),
        Err(error) => return world.fault(format!("the imported chat cannot be loaded: {error}")),
    };
    let back = world.random.index(4);
    let Some(importer) = &mut world.importer else { return };
    importer.settled = importer.steps.len().min(usize::try_from(stored).unwrap_or(usize::MAX));
    if importer.settled == importer.steps.len() {
        return world.after(LOOK_US, run);
    }
    // Steps of an earlier run may be on their way still, and come again.
    importer.settled = importer.settled.saturating_sub(back);
    importer.sent = importer.settled;
    send(world);
}

fn send(world: &mut World) {
    let (most, place) = (1 + world.random.index(6), world.random.index(world.places.len()));
    let Some(importer) = &mut world.importer else { return };
    let steps: Vec<Import> = importer.steps.iter().skip(importer.sent).take(most).cloned().collect();
    importer.sent += steps.len();
    importer.window += 1;
    let window = importer.window;
    let gateway = world.places[place];
    world.say(|| format!("the import sends {} steps", steps.len()));
    for step in steps {
        gateways::import(world, gateway, &step);
    }
    world.after(AGAIN_US, move |world| {
        if world.importer.as_ref().is_some_and(|importer| importer.window == window) {
            run(world);
        }
    });
}

/// What became of the step that makes this seq.
pub(crate) fn answered(world: &mut World, outcome: &Outcome) {
    let seq = outcome.n;
    let Some(importer) = &mut world.importer else { return };
    let place = usize::try_from(seq).unwrap_or_default();
    let Some(step) = place.checked_sub(1).and_then(|place| importer.steps.get(place)) else { return };
    let kept = match &step.step {
        Step::Begin { time, .. } | Step::Message { time, .. } => Some(*time),
        Step::End { .. } => None,
    };
    match &outcome.result {
        Some(Decided::Stored(Stored { seq: stored, time_us })) => {
            if *stored != seq || kept.is_some_and(|time| time != *time_us) {
                let what = format!("step {seq} of the import is said to be stored at {stored}, time {time_us}");
                return world.fault(what);
            }
            importer.settled = importer.settled.max(place);
            let (settled, sent, all) = (importer.settled, importer.sent, importer.steps.len());
            unseen(world);
            if settled < sent {
                return;
            }
            if settled < all && !world.random.one_in(6) {
                return send(world);
            }
            // Killed, or done.
            if let Some(importer) = &mut world.importer {
                importer.window += 1;
            }
            let delay = world.random.between(10_000, LOOK_US);
            world.after(delay, run);
        }
        Some(Decided::Rejected(Rejected { code, .. })) => match Code::try_from(*code) {
            // One before it was lost: both go out again.
            Ok(Code::PredecessorMissing | Code::Busy | Code::Unavailable) => {}
            code => world.fault(format!("step {seq} of the import is refused: {code:?}")),
        },
        None => {}
    }
}

/// Nobody is let in, and no list shows it, before its end is published.
fn unseen(world: &mut World) {
    let Some(importer) = &world.importer else { return };
    let chat = importer.chat;
    let ended =
        world.truth.chats().filter(|(id, _)| *id == chat).any(|(_, entries)| {
            entries.iter().any(|(_, logged)| matches!(logged.entry.event, Event::ImportEnded { .. }))
        });
    let is_in = world.store.members(chat, 0).is_some_and(|rows| !rows.is_empty());
    let is_listed = (0..world.scene.users).any(|number| world.store.stay(devices::user(number), chat).is_some());
    if !ended && (is_in || is_listed) {
        world.fault("the imported chat is seen before the import has ended".to_owned());
    }
}

/// What is not imported yet.
pub(crate) fn restless(world: &World) -> Option<String> {
    let importer = world.importer.as_ref()?;
    let stored = world.store.history(importer.chat, 0, usize::MAX).0.len();
    (stored < importer.steps.len()).then(|| {
        format!("{stored} of {} steps of the import of chat {} are stored", importer.steps.len(), name(importer))
    })
}

/// The log holds each step once, where and when the import says, and to its members all of it is read.
pub(crate) fn judge(world: &mut World) {
    let Some(importer) = &world.importer else { return };
    let rows = world.store.history(importer.chat, 0, usize::MAX).0;
    let mut wrong = Vec::new();
    for (step, row) in importer.steps.iter().zip(&rows) {
        let entry = &row.entry;
        let is_it = match (&step.step, &entry.event) {
            (Step::Begin { time, .. }, Event::ImportBegun { .. }) => *time == entry.time,
            (Step::Message { time, body }, Event::MessageSent(stored)) => {
                // As it was said first, whatever became of it since.
                let said = Event::MessageSent(domain::Message::plain(body.clone()));
                let is_said = stored.version.is_deleted() || entry.event.content_hash() == said.content_hash();
                *time == entry.time && is_said
            }
            (Step::End { members }, Event::ImportEnded { members: stored }) => members == stored,
            _ => false,
        };
        if !is_it || (entry.seq, entry.sender, entry.n) != (step.seq, step.sender, step.seq) {
            wrong.push(format!("seq {} of chat {} is not what was imported there", entry.seq, name(importer)));
        }
    }
    let end = importer.steps.iter().zip(&rows).find_map(|(step, row)| match &step.step {
        Step::End { members } => Some((members, row.entry.seq, row.entry.ordinal)),
        Step::Begin { .. } | Step::Message { .. } => None,
    });
    for (member, seq, ordinal) in
        end.into_iter().flat_map(|(members, seq, ordinal)| members.iter().map(move |member| (member, seq, ordinal)))
    {
        let mark = world.store.watermark(importer.chat, member.user);
        if mark.seen < seq || mark.seen_ordinal < ordinal {
            let user = short(member.user.as_bytes());
            wrong.push(format!("to user {user} some of what was imported into chat {} is unread", name(importer)));
        }
    }
    if end.is_none() && rows.len() > importer.steps.len() {
        wrong.push(format!("something happened in chat {}, whose import was given up", name(importer)));
    }
    wrong.into_iter().for_each(|what| world.fault(what));
    unseen(world);
}

fn name(importer: &Importer) -> String {
    short(importer.chat.as_bytes())
}
