//! Command records → items; event records → what takeover needs. What cannot be read is said, never skipped silently.

use bytes::Bytes;
use domain::{ChatId, Code, CommandPosition, Epoch, EventPosition, GatewayId, LoggedEntry, Micros, WriterId, limits};
use event_log::Record;
use metrics::counter;
use prost::Message as _;
use proto::log;

use crate::Error;
use crate::machine::{Asked, CommandRecord, HandedRecord, Item, Refused, Route, TailRecord};

/// Decodes a command record. One that is none is passed over, loudly: its commands are nobody's.
///
/// What was packed for another epoch than `epoch` is not decided: its senders are told to ask again.
///
/// # Errors
/// [`Error::Schema`] for a newer version's: this build must not decide what it does not know.
pub(crate) fn commands(record: Record, epoch: Epoch) -> Result<CommandRecord, Error> {
    let Record { sequence, time_ns, message_id, payload } = record;
    // Decoded, a command's body is a slice of the payload.
    let bytes = payload.len();
    let items = match log::CommandBatch::decode(payload) {
        Ok(batch) if batch.schema > limits::SCHEMA => {
            return Err(Error::Schema { sequence, schema: batch.schema });
        }
        Ok(batch) => items(batch, epoch),
        Err(error) => {
            counter!("ingest_records_undecodable_total").increment(1);
            tracing::error!(sequence, %error, "a command record is undecodable and passed over");
            Vec::new()
        }
    };
    let bytes = bytes + items.len() * size_of::<Item>();
    Ok(CommandRecord { sequence, time_ns, message_id, items, bytes })
}

/// Decodes what a gateway handed over; none: it goes into the log, which says what is wrong with it.
pub(crate) fn handed(payload: Bytes, epoch: Epoch, ticket: u64, stamp: Micros) -> Option<HandedRecord> {
    let bytes = payload.len();
    let batch = log::CommandBatch::decode(payload).ok().filter(|batch| batch.schema <= limits::SCHEMA)?;
    let items = items(batch, epoch);
    let bytes = bytes + items.len() * size_of::<Item>();
    Some(HandedRecord { ticket, stamp, items, bytes })
}

fn items(batch: log::CommandBatch, epoch: Epoch) -> Vec<Item> {
    let fits = batch.epoch == epoch.0;
    batch.commands.into_iter().map(|wire| item(wire, fits)).collect()
}

fn item(wire: log::Command, of_this_epoch: bool) -> Item {
    let route = wire.route.map(|route| Route {
        gateway: GatewayId(route.gateway),
        session: route.session,
        request: route.request,
    });
    let asked = Asked::from_wire(&wire.sender, wire.command, wire.import);
    let asked = asked.and_then(|asked| match asked {
        asked if of_this_epoch => Ok(asked),
        asked => Err(Refused { code: Code::Unavailable, named: asked.named() }),
    });
    let asked = asked.inspect_err(|_refused| counter!("ingest_commands_refused_total").increment(1));
    Item { route, asked }
}

/// Decodes an event record of the tail.
///
/// # Errors
/// [`Error::Record`]: rows that are published must be appended, so nothing goes on without it.
pub(crate) fn events(record: Record) -> Result<TailRecord, Error> {
    let sequence = record.sequence;
    let unreadable = |reason: String| Error::Record { sequence, reason };
    let batch = log::EventBatch::decode(record.payload).map_err(|error| unreadable(error.to_string()))?;
    if batch.schema > limits::SCHEMA {
        return Err(unreadable(format!("its schema {} is newer than this version", batch.schema)));
    }
    let commands = batch.commands_through.ok_or_else(|| unreadable("it names no command".to_owned()))?;
    let entries = batch.entries.into_iter().map(LoggedEntry::decode).collect::<Result<_, _>>();
    Ok(TailRecord {
        position: EventPosition { sequence, writer: WriterId(batch.writer), batch: batch.batch },
        epoch: Epoch(batch.epoch),
        commands: CommandPosition {
            sequence: commands.sequence,
            count: commands.count,
            time_ns: commands.time_ns,
            message_id: commands.message_id,
        },
        entries: entries.map_err(|error| unreadable(error.to_string()))?,
    })
}

/// The writer and batch number of an event record.
///
/// # Errors
/// As [`events`].
pub(crate) fn fingerprint(record: Record) -> Result<(WriterId, u64), Error> {
    let position = events(record)?.position;
    Ok((position.writer, position.batch))
}

/// Which partition a chat belongs to is part of its id; a command that came by another is refused.
pub(crate) fn refuse_strangers(items: &mut [Item], is_ours: impl Fn(ChatId) -> bool) {
    for item in items {
        if let Ok(asked) = &item.asked
            && !is_ours(asked.chat())
        {
            counter!("ingest_commands_refused_total").increment(1);
            item.asked = Err(Refused { code: Code::BadRequest, named: asked.named() });
        }
    }
}
