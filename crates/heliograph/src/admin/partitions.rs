//! How far each partition is: what was accepted, published, appended, delivered and projected, and how old the rest is.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use api::rfc3339;
use axum::Json;
use axum::extract::State;
use domain::{Epoch, Partition};
use event_log::{Bounds, Log, Order, Stream};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde::Serialize;
use store::{Checkpoint, Reader, Store};

use super::Shared;
use super::orders::ROLES;
use super::refusal::Refusal;

/// Partitions that are looked at at once.
const AT_ONCE: usize = 8;
const STREAMS: [Stream; 3] = [Stream::Commands, Stream::Events, Stream::Statuses];

/// Who last took the partition for a role.
#[derive(Debug, Serialize)]
struct Owner {
    role: &'static str,
    tenure: u64,
    name: String,
    since: String,
}

/// What an operator wants of the owner.
#[derive(Debug, Serialize)]
struct Wanted {
    role: &'static str,
    order: Order,
}

/// What a stream holds.
#[derive(Debug, Serialize)]
struct Held {
    stream: &'static str,
    /// Sequence of the last record: what was accepted, published or claimed.
    last: u64,
    first: u64,
    records: u64,
    bytes: u64,
}

/// How far one reader of a stream is.
#[derive(Debug, Serialize)]
struct Progress {
    /// Past tense: `decided`, `appended`, `delivered`, `projected`.
    done: &'static str,
    stream: &'static str,
    position: u64,
    /// Records that wait; below 0 the stream has lost its tail.
    lag: i64,
    /// Age of the oldest record that waits, in s; none: nothing waits, or it is gone.
    oldest_age_s: Option<f64>,
    /// Whether the position belongs to these streams; one of another epoch is never trusted.
    same_epoch: bool,
}

/// A partition.
#[derive(Debug, Serialize)]
pub(super) struct Status {
    partition: u16,
    epoch: u64,
    owners: Vec<Owner>,
    orders: Vec<Wanted>,
    streams: Vec<Held>,
    progress: Vec<Progress>,
}

/// All partitions.
#[derive(Debug, Serialize)]
pub(super) struct Partitions {
    partitions: Vec<Status>,
}

pub(super) async fn status(State(shared): State<Arc<Shared>>) -> Result<Json<Partitions>, Refusal> {
    let shared = &shared;
    let looks = stream::iter(shared.log.partitions()).map(|partition| look(&shared.log, &shared.store, partition));
    let partitions = looks.buffered(AT_ONCE).try_collect().await?;
    Ok(Json(Partitions { partitions }))
}

/// A reader's position in one stream.
struct Position {
    done: &'static str,
    stream: Stream,
    // None: it has not begun.
    at: Option<(Epoch, u64)>,
}

impl Position {
    fn sequence(&self) -> u64 {
        self.at.map_or(0, |(_, at)| at)
    }

    /// But for the age of what waits.
    fn progress(&self, epoch: Epoch, bounds: Bounds) -> Progress {
        Progress {
            done: self.done,
            stream: label(self.stream),
            position: self.sequence(),
            lag: i64::try_from(bounds.last).unwrap_or(i64::MAX).saturating_sub_unsigned(self.sequence()),
            oldest_age_s: None,
            same_epoch: self.at.is_none_or(|(of, _)| of == epoch),
        }
    }

    /// The first record that waits; what was trimmed waits no more.
    fn oldest_waiting(&self, bounds: Bounds) -> Option<u64> {
        (self.sequence() < bounds.last).then(|| bounds.first.max(self.sequence() + 1))
    }
}

async fn look(log: &Log, store: &Store, partition: Partition) -> Result<Status, Refusal> {
    // Positions before the streams' ends: what comes in between counts as waiting, and nothing seems lost.
    let positions = positions(store, partition).await?;
    let epoch = log.epoch(partition).await?;
    let (mut owners, mut orders) = (Vec::new(), Vec::new());
    for role in ROLES {
        owners.extend(log.owner(role, partition).await?.map(|owner| Owner {
            role: role.name(),
            tenure: owner.tenure.0,
            name: owner.worker,
            since: rfc3339(us(owner.since_ns)),
        }));
        orders.extend(log.ordered(role, partition).await?.map(|order| Wanted { role: role.name(), order }));
    }
    let mut streams = Vec::new();
    let mut progress = Vec::new();
    for stream in STREAMS {
        let bounds = log.bounds(stream, partition).await?;
        for position in positions.iter().filter(|position| position.stream == stream) {
            let mut progress_of = position.progress(epoch, bounds);
            if let Some(oldest) = position.oldest_waiting(bounds) {
                progress_of.oldest_age_s = log.stored_at_ns(stream, partition, oldest).await?.map(age_s);
            }
            progress.push(progress_of);
        }
        let Bounds { first, last, records, bytes } = bounds;
        streams.push(Held { stream: label(stream), last, first, records, bytes });
    }
    Ok(Status { partition: partition.0, epoch: epoch.0, owners, orders, streams, progress })
}

async fn positions(store: &Store, partition: Partition) -> Result<Vec<Position>, Refusal> {
    let stored = store.position(partition).await?;
    let delivery = store.checkpoint(Reader::Delivery, partition).await?;
    let projections = store.checkpoint(Reader::Projections, partition).await?;
    let events = |checkpoint: Option<Checkpoint>| checkpoint.map(|at| (at.epoch, at.events));
    let commands = stored.as_ref().map(|at| (at.epoch, at.commands.sequence));
    let appended = stored.as_ref().map(|at| (at.epoch, at.events.sequence));
    let statuses = projections.map(|at| (at.epoch, at.statuses));
    let position = |done, stream, at| Position { done, stream, at };
    Ok(vec![
        position("decided", Stream::Commands, commands),
        position("appended", Stream::Events, appended),
        position("delivered", Stream::Events, events(delivery)),
        position("projected", Stream::Events, events(projections)),
        position("projected", Stream::Statuses, statuses),
    ])
}

const fn label(stream: Stream) -> &'static str {
    match stream {
        Stream::Commands => "commands",
        Stream::Events => "events",
        Stream::Statuses => "statuses",
    }
}

fn us(ns: i64) -> u64 {
    u64::try_from(ns / 1_000).unwrap_or_default()
}

/// By this machine's clock; a record from a clock that is ahead has no age.
fn age_s(stored_ns: i64) -> f64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now_ms = i64::try_from(now.as_millis()).unwrap_or(i64::MAX);
    now_ms.saturating_sub(stored_ns / 1_000_000).max(0) as f64 / 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(at: Option<(u64, u64)>) -> Position {
        Position { done: "appended", stream: Stream::Events, at: at.map(|(epoch, at)| (Epoch(epoch), at)) }
    }

    #[test]
    fn what_waits_is_what_lies_behind_the_position_and_is_still_there() {
        let bounds = Bounds { first: 11, last: 20, records: 10, bytes: 1_000 };
        for (position, lag, oldest, same_epoch) in [
            (at(None), 20, Some(11), true),
            (at(Some((7, 5))), 15, Some(11), true),
            (at(Some((7, 15))), 5, Some(16), true),
            (at(Some((7, 20))), 0, None, true),
            (at(Some((7, 23))), -3, None, true),
            (at(Some((6, 20))), 0, None, false),
        ] {
            let progress = position.progress(Epoch(7), bounds);
            assert_eq!((progress.lag, progress.same_epoch), (lag, same_epoch), "{:?}", position.at);
            assert_eq!(position.oldest_waiting(bounds), oldest, "{:?}", position.at);
        }
        assert!(age_s(0) > 1e9 && age_s(i64::MAX) == 0.0);
    }
}
