//! Where a partition's fold stands, with the fingerprints that prove it (M5).

use crate::{Epoch, Seq, WriterId};

/// The last command folded, and its record's fingerprint.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct CommandPosition {
    /// Sequence in COMMANDS-p; 0: before the first.
    pub sequence: Seq,
    /// How many commands of that record are folded.
    pub count: u32,
    /// The log's time for the record, in ns since 1970.
    pub time_ns: i64,
    /// The record's message id.
    pub message_id: String,
}

/// The last event record appended, and its fingerprint.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EventPosition {
    /// Sequence in EVENTS-p; 0: before the first.
    pub sequence: Seq,
    /// Who wrote the record.
    pub writer: WriterId,
    /// That writer's number for it.
    pub batch: u64,
}

/// What the store keeps beside the rows, in the same atomic write.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PartitionPosition {
    /// A position of another epoch is never trusted.
    pub epoch: Epoch,
    /// Commands folded so far.
    pub commands: CommandPosition,
    /// Events appended so far.
    pub events: EventPosition,
}
