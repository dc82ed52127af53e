//! Reads what a new owner must know: the store's position, and what the streams hold around it.

use domain::{Partition, Rules, Seq};
use event_log::{Stream, Tenure};
use store::{Reader, Store};

use crate::machine::{CommandFacts, EventFacts, Facts, Plan, TailRecord, plan};
use crate::{Error, read};

/// A halt needs a person, so it is believed only if several readings say so: another owner that appends and trims
/// between two of our reads looks like a loss.
const READINGS: usize = 3;

/// Who must have read an event record before it is trimmed (M9).
pub(crate) const REQUIRED_READERS: [Reader; 2] = [Reader::Delivery, Reader::Projections];

/// Reads and judges.
pub(crate) async fn take_over(tenure: &Tenure, store: &Store, partition: Partition) -> Result<Plan, Error> {
    for _ in 1..READINGS {
        if let Ok(plan) = plan(facts(tenure, store, partition).await?, &Rules::ALL) {
            return Ok(plan);
        }
    }
    Ok(plan(facts(tenure, store, partition).await?, &Rules::ALL)?)
}

async fn facts(tenure: &Tenure, store: &Store, partition: Partition) -> Result<Facts, Error> {
    let stored = store.position(partition).await?;
    // Before the bounds: what was read by then is in the stream.
    let read = read_through(tenure, store, partition).await?;
    let events = tenure.bounds(Stream::Events).await?;
    let commands = tenure.bounds(Stream::Commands).await?;
    let appended = stored.as_ref().map_or(0, |stored| stored.events.sequence);
    let folded = stored.as_ref().map_or(0, |stored| stored.commands.sequence);
    let at_stored = match record(tenure, Stream::Events, appended).await? {
        Some(record) => Some(read::fingerprint(record)?),
        None => None,
    };
    let tail = tail(tenure, appended.max(events.first.saturating_sub(1)), events.last).await?;
    let named = tail.last().map_or(0, |last| last.commands.sequence);
    Ok(Facts {
        epoch: tenure.epoch(),
        commands: CommandFacts {
            first: commands.first,
            last: commands.last,
            at_stored: command(tenure, folded).await?,
            at_tail: command(tenure, named).await?,
        },
        events: EventFacts { first: events.first, last: events.last, read, at_stored, tail },
        stored,
    })
}

/// How far the required reader got that is the furthest.
async fn read_through(tenure: &Tenure, store: &Store, partition: Partition) -> Result<Seq, Error> {
    let mut through = 0;
    for reader in REQUIRED_READERS {
        let checkpoint = store.checkpoint(reader, partition).await?;
        through = checkpoint.filter(|at| at.epoch == tenure.epoch()).map_or(through, |at| through.max(at.events));
    }
    Ok(through)
}

/// The event records above `appended`: few, since an owner that is this far behind decides nothing new.
async fn tail(tenure: &Tenure, appended: u64, last: u64) -> Result<Vec<TailRecord>, Error> {
    let mut tail = Vec::new();
    if appended >= last {
        return Ok(tail);
    }
    let mut reader = tenure.reader(Stream::Events, appended + 1).await?;
    while tail.last().is_none_or(|record: &TailRecord| record.position.sequence < last) {
        for record in reader.next().await? {
            tail.push(read::events(record)?);
        }
    }
    tail.retain(|record| record.position.sequence <= last);
    Ok(tail)
}

async fn record(tenure: &Tenure, stream: Stream, sequence: u64) -> Result<Option<event_log::Record>, Error> {
    if sequence == 0 { Ok(None) } else { Ok(tenure.read(stream, sequence).await?) }
}

async fn command(tenure: &Tenure, sequence: u64) -> Result<Option<(i64, String)>, Error> {
    let record = record(tenure, Stream::Commands, sequence).await?;
    Ok(record.map(|record| (record.time_ns, record.message_id)))
}
