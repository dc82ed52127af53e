//! Commands that a gateway hands to an owner beside the command stream, and what becomes of them.
//!
//! In the product both live in one process. Here any gateway meets any owner, a replaced one too, and each stops on its
//! own: that is worse than what can happen, and the fold has to bear it.

use std::collections::BTreeMap;

use bytes::Bytes;
use domain::{Micros, Seq};
use ingest::machine::{HandedRecord, Input};
use packer::PackerInput;
use prost::Message as _;
use proto::log;

use crate::gateways;
use crate::owners;
use crate::world::{ProcessId, World};

/// A gateway waits no longer for an owner.
const PATIENCE_US: Micros = 2_000_000;
/// How soon a gateway learns that its owner is gone.
const LOOK_US: Micros = 20_000;

/// A record that its owner has, and its gateway waits for.
#[derive(Debug)]
pub(crate) struct Waiting {
    gateway: ProcessId,
    payload: Bytes,
    message_id: String,
    since: Micros,
}

/// Names a record at its owner.
type Ticket = (u64, u64);

/// All records that are handed over and not told of.
#[derive(Debug, Default)]
pub(crate) struct Handing {
    waiting: BTreeMap<Ticket, Waiting>,
    tickets: u64,
}

/// Hands a record over, unless no owner takes it; `after` is the gateway's last record in the command stream.
pub(crate) fn hand_over(world: &mut World, gateway: ProcessId, payload: &Bytes, message_id: &str, after: Seq) -> bool {
    if !world.scene.hands_over || !world.lives(gateway) || world.owners.is_empty() {
        return false;
    }
    let tenure = world.random.index(world.owners.len());
    let Some(tenure) = world.owners.keys().copied().nth(tenure) else { return false };
    let batch = log::CommandBatch::decode(payload.clone()).unwrap_or_default();
    world.handing.tickets += 1;
    let ticket = world.handing.tickets;
    // Each owner's clock goes a little wrong.
    let skew = tenure % 3 * 150_000;
    let record = HandedRecord {
        ticket,
        stamp: u64::try_from(world.broker.stamp(world.now) / 1_000).unwrap_or_default() + skew,
        bytes: payload.len(),
        items: batch.commands.into_iter().map(owners::item).collect(),
    };
    if !owners::may_take(world, tenure, &record, after) {
        return false;
    }
    let name = world.name(gateway);
    world.say(|| format!("{name} hands record {message_id} to tenure {tenure}"));
    let waiting = Waiting { gateway, payload: payload.clone(), message_id: message_id.to_owned(), since: world.now };
    world.handing.waiting.insert((tenure, ticket), waiting);
    look(world, gateway, (tenure, ticket));
    owners::give(world, tenure, Input::Handed(record));
    true
}

/// The events of these records stand.
pub(crate) fn taken(world: &mut World, tenure: u64, tickets: Vec<u64>) {
    for ticket in tickets {
        if let Some(Waiting { gateway, .. }) = world.handing.waiting.remove(&(tenure, ticket)) {
            let back = world.latency();
            world.within(gateway, back, move |world| {
                gateways::record_answered(world, gateway, PackerInput::Acknowledged)
            });
        }
    }
}

/// A record whose owner is gone, or takes too long, goes into the stream.
fn look(world: &mut World, gateway: ProcessId, ticket: Ticket) {
    world.within(gateway, LOOK_US, move |world| {
        let Some(waiting) = world.handing.waiting.get(&ticket) else { return };
        if world.owners.contains_key(&ticket.0) && world.now - waiting.since < PATIENCE_US {
            look(world, gateway, ticket);
        } else if let Some(Waiting { payload, message_id, .. }) = world.handing.waiting.remove(&ticket) {
            gateways::publish(world, gateway, payload, &message_id);
        }
    });
}
