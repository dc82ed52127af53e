//! The end of a run: waits until all is quiet, reads everything, and judges.

use checker::{Chat, Options, User};
use client::Settlement;
use domain::{ChatId, Entry, Event, LoggedEntry, Micros, Seq, UserId};
use prost::Message as _;
use proto::v1;
use witness::seen_entry;

use crate::owners::short;
use crate::store::Reader;
use crate::truth::Truth;
use crate::world::World;
use crate::{deliverers, imports, owners, projectors, scene};

/// How long after the last fault everything must have come to rest.
const QUIET_WITHIN_US: Micros = 420_000_000;

/// How soon after the last loss a device has to notice what it lacks: a few of the owner's ticks.
const SOON_US: Micros = 8_000_000;
/// How old an entry is that nobody may lack then.
const OLD_US: Micros = 6_000_000;

/// Ends all faults, waits for quiet and judges.
pub(crate) fn finish(world: &mut World) {
    calm(world);
    let until = world.now + SOON_US;
    world.run_until(until);
    if world.halted.is_none() {
        unaware(world);
    }
    let deadline = world.now + QUIET_WITHIN_US;
    while world.halted.is_none() {
        let restless = restless(world);
        let Some(restless) = restless.or_else(|| world.expects_halt.then(|| "it has to stop".to_owned())) else {
            break;
        };
        // A partition that has to stop does so at its next takeover.
        if world.now >= deadline || (world.expects_halt && world.now > deadline - QUIET_WITHIN_US + 20_000_000) {
            if !world.expects_halt {
                world.fault(format!("the run does not come to rest: {restless}"));
            }
            break;
        }
        let until = world.now + 500_000;
        world.run_until(until);
    }
    if let Some(halt) = world.halted
        && !(world.expects_halt || world.may_halt)
    {
        world.fault(format!("the partition stops without a reason: {halt}"));
    }
    if world.halted.is_none() && world.expects_halt {
        world.fault("the log lost its tail and the partition goes on".to_owned());
    }
    // One cause, many symptoms: what is at rest is judged whole, what is not is judged by what was seen.
    let at_rest = world.faults.is_empty() && world.halted.is_none();
    record_logs(world);
    let ticks_kept = world.scene.hot_bytes as u64 >= scene::HOT_BYTES_FOR_ALL;
    // An echo says what this owner was told, not what the table says: see docs/gaps.md.
    let options = Options { quiet_end: at_rest, ticks_kept, echoes_kept: false, ..Options::default() };
    let report = checker::check_with(&world.recorder.history(), options);
    for fault in report.faults.iter().take(6) {
        let evidence = fault.evidence.join("\n      ");
        world.fault(format!("{:?}: {}\n      {evidence}", fault.invariant, fault.what));
    }
    if at_rest {
        beliefs(world);
        receipts(world);
        models(world);
        imports::judge(world);
    }
}

fn calm(world: &mut World) {
    world.calm = true;
    for process in 0..world.processes.len() {
        world.resume(process);
    }
    if !world.owners.values().any(|owner| owner.process == world.ingest[world.ingest_turn]) {
        owners::acquire(world, world.ingest[world.ingest_turn]);
    }
    let worker = world.workers[world.delivery_turn].process;
    if !world.tenancies.values().any(|tenancy| tenancy.process == worker) {
        deliverers::acquire(world, world.delivery_turn);
    }
    if world.projectors.is_empty() {
        projectors::start(world);
    }
}

/// M16: nobody is caught up for seconds and lacks something.
fn unaware(world: &mut World) {
    let mut wrong = Vec::new();
    let old = world.truth.last_at(world.now.saturating_sub(OLD_US));
    for device in world.devices.iter().filter(|device| device.endpoint.timeline.is_caught_up(0)) {
        for (chat, entries) in world.truth.chats() {
            let known = device.endpoint.timeline.known(client::ChatId(*chat.as_bytes()));
            let last = Truth::shown_by(entries, device.user, old).last().map_or(0, |(_, row)| row.entry.seq);
            if known < last {
                let (name, chat) = (world.name(device.process), short(chat.as_bytes()));
                wrong
                    .push(format!("N4: {name} is caught up, knows chat {chat} through {known} and not through {last}"));
            }
        }
    }
    wrong.into_iter().for_each(|what| world.fault(what));
}

/// What still moves, or moves no more although it should.
fn restless(world: &World) -> Option<String> {
    for device in &world.devices {
        let name = world.name(device.process);
        if !device.endpoint.outbox.is_empty() {
            return Some(format!("{name} has {} commands without an answer", device.endpoint.outbox.len()));
        }
        if device.socket.is_none() || !device.endpoint.timeline.is_caught_up(0) {
            return Some(format!("{name} is not caught up"));
        }
    }
    let last = world.broker.events.last();
    if world.store.position().map_or(0, |position| position.events.sequence) < last {
        return Some("published events are not appended".to_owned());
    }
    if world.store.checkpoint(Reader::Projections).0 < last {
        return Some("published events are not projected".to_owned());
    }
    let folded = world.store.position().map_or(0, |position| position.commands.sequence);
    if folded < world.broker.commands.last() {
        return Some("commands are not folded".to_owned());
    }
    if let Some(restless) = imports::restless(world) {
        return Some(restless);
    }
    for device in &world.devices {
        for (chat, entries) in world.truth.chats() {
            let known = device.endpoint.timeline.known(client::ChatId(*chat.as_bytes()));
            let (name, short) = (world.name(device.process), short(chat.as_bytes()));
            let last = Truth::shown_to(entries, device.user).last().map_or(0, |(_, row)| row.entry.seq);
            if known < last {
                return Some(format!("{name} knows chat {short} through {known}, not through {last}"));
            }
            let table = world.store.watermark(chat, device.user).delivered;
            if Truth::is_member(entries, device.user) && table < known {
                return Some(format!("{name} knows chat {short} through {known}, the table says {table}"));
            }
        }
    }
    None
}

/// Final histories: from the store, or of a stopped partition from all that was ever published.
fn record_logs(world: &mut World) {
    let halted = world.halted.is_some();
    world.devices.iter().for_each(|device| device.eyes.end(halted));
    let mut chats: Vec<ChatId> = world.store.chats().collect();
    chats.extend(world.truth.chats().map(|(chat, _)| chat));
    chats.sort_unstable();
    chats.dedup();
    for chat in chats {
        let published = || world.truth.chats().find(|(id, _)| *id == chat).map(|(_, entries)| entries.to_vec());
        let stored = || world.store.history(chat, 0, usize::MAX).0.into_iter().map(|row| (0, row)).collect::<Vec<_>>();
        let entries: Vec<(Seq, LoggedEntry)> = if halted { published().unwrap_or_default() } else { stored() };
        for reader in Truth::ever_members(&entries) {
            let shown = Truth::shown_to(&entries, reader);
            let seen = shown.filter_map(|(_, row)| {
                seen_entry(&client::machine::Entry::new(v1::Entry::decode(row.bytes.clone()).ok()?)?)
            });
            let through = entries.last().map_or(0, |(_, row)| row.entry.seq);
            world.recorder.final_history(of(chat), User::from(*reader.as_bytes()), through, seen.collect());
        }
    }
}

fn of(chat: ChatId) -> Chat {
    Chat::from(*chat.as_bytes())
}

/// M2, M13: nobody goes on believing that a stored send was rejected.
fn beliefs(world: &mut World) {
    let mut wrong = Vec::new();
    for device in &world.devices {
        for (key, settlement) in &device.eyes.believed {
            let Settlement::Rejected { code, .. } = settlement else { continue };
            let found = world.truth.chats().find(|(chat, _)| of(*chat) == key.chat).and_then(|(_, entries)| {
                entries.iter().find(|(_, row)| {
                    let entry = &row.entry;
                    entry.sender == device.user && entry.origin.0 == key.origin && entry.n == key.n
                })
            });
            let Some((_, row)) = found else { continue };
            let name = world.name(device.process);
            wrong.push(format!("M13: {name} believes that {key} was rejected ({code:?}); it is seq {}", row.entry.seq));
        }
    }
    wrong.into_iter().for_each(|what| world.fault(what));
}

/// M20: what was echoed stands in the table.
fn receipts(world: &mut World) {
    let mut wrong = Vec::new();
    for device in &world.devices {
        for (chat, _) in world.truth.chats() {
            let (delivered, seen) = device.eyes.mark(of(chat), User::from(*device.user.as_bytes()));
            let table = world.store.watermark(chat, device.user);
            if delivered > table.delivered || seen > table.seen {
                let name = world.name(device.process);
                wrong.push(format!(
                    "M20: {name} was told that its receipts for chat {} reach {delivered} and {seen}; the table says \
                     {} and {}",
                    short(chat.as_bytes()),
                    table.delivered,
                    table.seen
                ));
            }
        }
    }
    wrong.into_iter().for_each(|what| world.fault(what));
}

/// What there is of a message; none: it is deleted.
fn said(entry: &Entry) -> Option<bytes::Bytes> {
    let Event::MessageSent(message) = &entry.event else { return None };
    (!message.version.is_deleted()).then(|| message.body.clone())
}

/// The chat that these entries come to.
fn fold(entries: &[(Seq, LoggedEntry)]) -> Option<domain::Chat> {
    let (first, later) = entries.split_first()?;
    let mut chat = domain::Chat::create(&first.1.entry)?;
    later.iter().for_each(|(_, row)| chat.apply(&row.entry));
    Some(chat)
}

/// N10 in part: the models are the fold of the log.
fn models(world: &mut World) {
    let mut wrong = Vec::new();
    for (chat, entries) in world.truth.chats() {
        let head = entries.last().map_or(0, |(_, row)| row.entry.seq);
        let told = world.store.summary(chat).map_or(0, |summary| summary.head);
        if told != head {
            wrong.push(format!("N10: the summary of chat {} says {told}, its log {head}", short(chat.as_bytes())));
        }
        let name = world.store.name(chat);
        if name.as_ref().map(|name| (name.seq, &*name.text)) != Truth::name(entries) {
            let (called, short) = (Truth::name(entries), short(chat.as_bytes()));
            wrong.push(format!("N10: the name of chat {short} is {name:?}, in its log {called:?}"));
        }
        let rows = Truth::rows(entries);
        let stored = world.store.history(chat, 0, usize::MAX).0;
        if let Some((row, stored)) = rows.iter().zip(&stored).find(|(row, stored)| row != stored) {
            let (short, seq) = (short(chat.as_bytes()), row.entry.seq);
            wrong.push(format!(
                "N10: seq {seq} of chat {short} is stored as {:?}, by its log it is {:?}",
                stored.entry, row.entry
            ));
        }
        let last = rows.iter().rev().find(|row| row.entry.event.is_message());
        let last = last.map(|row| (row.entry.seq, said(&row.entry)));
        let preview = world.store.summary(chat).and_then(|summary| summary.preview);
        let preview = preview.map(|shown| (shown.seq, (!shown.deleted).then_some(shown.body)));
        if preview != last {
            wrong.push(format!(
                "N10: of chat {} is shown {preview:?}, its last message is {last:?}",
                short(chat.as_bytes())
            ));
        }
        let folded = fold(entries);
        let told: Vec<_> = world.store.reactions(chat).collect();
        let reactions = Truth::reactions(entries);
        if !reactions.iter().map(|((seq, user), reaction)| (*seq, *user, *reaction)).eq(told.iter().copied()) {
            let short = short(chat.as_bytes());
            wrong.push(format!("N10: the reactions in chat {short} are {told:?}, by its log {reactions:?}"));
        }
        // The model learns of a pin that went with its message at the next pin only; its readers pass it over.
        let is_said = |seq: &&Seq| rows.get(**seq as usize - 1).is_some_and(|row| said(&row.entry).is_some());
        let told = (world.store.policy(chat), world.store.pins(chat).iter().filter(is_said).collect::<Vec<_>>());
        let holds = folded.as_ref().map(|chat| (chat.policy(), chat.pins().iter().collect()));
        if holds.as_ref().is_some_and(|holds| *holds != told) {
            let short = short(chat.as_bytes());
            wrong.push(format!("N10: in chat {short} it is said to hold {told:?}, by its log {holds:?}"));
        }
        let loaded = world.store.load_chat(chat).ok().flatten();
        if loaded.as_deref() != folded.as_ref() {
            wrong.push(format!("M18: chat {} as it is loaded is not the fold of its log", short(chat.as_bytes())));
        }
        for user in Truth::ever_members(entries) {
            let user: UserId = user;
            let listed = world.store.stay(user, chat).is_some_and(|stay| stay.left_seq.is_none());
            if listed != Truth::is_member(entries, user) {
                wrong.push(format!(
                    "N10: the list of user {} is wrong about chat {}",
                    short(user.as_bytes()),
                    short(chat.as_bytes())
                ));
            }
        }
    }
    wrong.into_iter().for_each(|what| world.fault(what));
}
