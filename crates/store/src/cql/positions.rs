//! Writes the partitions' positions, each some time after it was reached (M23).
//!
//! A cluster may lose the last seconds of a replica that was cut from power. Were the stored position as new as the rows,
//! it would stand for rows that are gone, and their seqs would be given again. So what is stored was appended a while
//! ago, and whoever takes the partition over appends the rest once more, which changes nothing.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use domain::{CommandPosition, Epoch, EventPosition, Partition, PartitionPosition, WriterId};
use tokio::time::{Instant, sleep};

use super::{
    Cql, Shared,
    numbers::{big, number, small},
    statements::Statement,
};
use crate::{Error, merge};

/// Places that a partition's trail has: a position is stored this part of the lag later than it could be.
const TRAIL_PARTS: u32 = 32;
const TICK_MIN: Duration = Duration::from_millis(20);
const TICK_MAX: Duration = Duration::from_secs(1);

/// A position and when it was reached; positions that follow closely share a place, which is as young as its last one.
#[derive(Clone, Debug)]
struct Reached {
    begun: Instant,
    at: Instant,
    position: PartitionPosition,
}

#[derive(Debug, Default)]
struct Trail {
    reached: VecDeque<Reached>,
    /// Old enough, and not known to be written.
    due: Option<PartitionPosition>,
    written: Option<PartitionPosition>,
}

/// Where the partitions are that this process appends to.
#[derive(Debug)]
pub(super) struct Positions {
    lag: Duration,
    trails: Mutex<HashMap<Partition, Trail>>,
}

impl Positions {
    pub(super) fn new(lag: Duration) -> Self {
        Self { lag, trails: Mutex::default() }
    }

    /// Rows and members through this position are in the cluster.
    pub(super) fn reached(&self, partition: Partition, position: PartitionPosition, now: Instant) {
        let mut trails = self.lock();
        let trail = trails.entry(partition).or_default();
        let newest = trail.reached.back().map(|last| &last.position).or(trail.due.as_ref()).or(trail.written.as_ref());
        if !merge::position(newest, &position) {
            return;
        }
        match trail.reached.back_mut() {
            Some(last) if now - last.begun < self.lag / TRAIL_PARTS => {
                last.at = now;
                last.position = position;
            }
            _ => trail.reached.push_back(Reached { begun: now, at: now, position }),
        }
    }

    /// The positions that may be written now.
    fn due(&self, now: Instant) -> Vec<(Partition, PartitionPosition)> {
        let mut due = Vec::new();
        for (partition, trail) in self.lock().iter_mut() {
            while let Some(first) = trail.reached.front()
                && first.at + self.lag <= now
            {
                trail.due = trail.reached.pop_front().map(|reached| reached.position);
            }
            due.extend(trail.due.clone().map(|position| (*partition, position)));
        }
        due
    }

    fn written(&self, partition: Partition, position: PartitionPosition) {
        if let Some(trail) = self.lock().get_mut(&partition) {
            if trail.due.as_ref() == Some(&position) {
                trail.due = None;
            }
            trail.written = Some(position);
        }
    }

    fn tick(&self) -> Duration {
        (self.lag / TRAIL_PARTS).clamp(TICK_MIN, TICK_MAX)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Partition, Trail>> {
        self.trails.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes positions as they come of age, until the engine is gone.
pub(super) async fn write_those_due(shared: Weak<Shared>) {
    let mut is_behind = false;
    loop {
        let Some(tick) = shared.upgrade().map(|shared| shared.positions.tick()) else { return };
        sleep(tick).await;
        let Some(shared) = shared.upgrade() else { return };
        // What was not written stays due: the log is kept until it is.
        let done = shared.write_due_positions().await;
        if let Err(error) = &done
            && !is_behind
        {
            tracing::warn!(%error, "positions cannot be stored");
        }
        is_behind = done.is_err();
    }
}

impl Shared {
    /// Writes the positions that are old enough.
    pub(super) async fn write_due_positions(&self) -> Result<(), Error> {
        for (partition, position) in self.positions.due(Instant::now()) {
            self.write_position(partition, &position).await?;
            self.positions.written(partition, position);
        }
        Ok(())
    }

    async fn write_position(&self, partition: Partition, position: &PartitionPosition) -> Result<(), Error> {
        let PartitionPosition { epoch, events, commands } = position;
        // One row an epoch, and of one epoch the higher event wins; every decided batch is an event record (M2), so two
        // positions with one event are one position.
        let values = (
            small(partition),
            big(epoch.0),
            big(events.sequence),
            big(events.writer.0),
            big(events.batch),
            big(commands.sequence),
            i64::from(commands.count),
            commands.time_ns,
            commands.message_id.as_str(),
            self.stamp(events.sequence),
        );
        self.cluster.write(Statement::PutPosition, values).await
    }
}

type Row = (i64, i64, i64, i64, i64, i64, i64, String);

impl Cql {
    /// What is stored: a while behind what was appended.
    pub(crate) async fn position(&self, partition: Partition) -> Result<Option<PartitionPosition>, Error> {
        let row = self.shared.cluster.row::<Row>(Statement::Position, (small(partition),)).await?;
        let Some((epoch, sequence, writer, batch, command, count, time_ns, message_id)) = row else { return Ok(None) };
        let count = u32::try_from(count).map_err(|error| Error::corrupt("partitions", error.to_string()))?;
        Ok(Some(PartitionPosition {
            epoch: Epoch(number(epoch)),
            events: EventPosition {
                sequence: number(sequence),
                writer: WriterId(number(writer)),
                batch: number(batch),
            },
            commands: CommandPosition { sequence: number(command), count, time_ns, message_id },
        }))
    }

    pub(crate) async fn sync(&self) -> Result<(), Error> {
        // What was answered is in the journals of a quorum.
        self.shared.write_due_positions().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(sequence: u64) -> PartitionPosition {
        PartitionPosition {
            epoch: Epoch(1),
            commands: CommandPosition::default(),
            events: EventPosition { sequence, writer: WriterId(1), batch: sequence },
        }
    }

    #[test]
    fn a_position_is_due_when_all_of_it_is_old_enough() {
        let (lag, partition, begun) = (Duration::from_secs(32), Partition(1), Instant::now());
        let positions = Positions::new(lag);
        let second = |second: u64, part: u64| begun + Duration::from_secs(second) + Duration::from_millis(part);
        positions.reached(partition, at(1), second(0, 0));
        // Close behind: it shares the place, which is now as young as this one.
        positions.reached(partition, at(2), second(0, 900));
        positions.reached(partition, at(3), second(5, 0));
        assert!(positions.due(second(32, 899)).is_empty());
        assert_eq!(positions.due(second(32, 900)), [(partition, at(2))]);
        assert_eq!(positions.due(second(33, 0)), [(partition, at(2))], "not written yet");
        positions.written(partition, at(2));
        assert!(positions.due(second(36, 999)).is_empty());
        assert_eq!(positions.due(second(37, 0)), [(partition, at(3))]);
    }

    #[test]
    fn a_position_never_goes_back_and_a_trail_is_short() {
        let (lag, partition, begun) = (Duration::from_secs(32), Partition(1), Instant::now());
        let positions = Positions::new(lag);
        for step in 0..10_000 {
            positions.reached(partition, at(step), begun + Duration::from_millis(3 * step));
            positions.reached(partition, at(step / 2), begun + Duration::from_millis(3 * step));
        }
        assert!(positions.lock()[&partition].reached.len() <= TRAIL_PARTS as usize + 1);
        positions.due(begun + Duration::from_secs(900));
        positions.written(partition, at(9_999));
        positions.reached(partition, at(5), begun + Duration::from_secs(901));
        assert!(positions.due(begun + Duration::from_secs(9_000)).is_empty());
    }
}
