//! The owner of one partition as a sans-IO state machine.
//!
//! ```text
//! takeover (plan) → replay of the tail → commands → decide → publish → append → answer ; trim
//! ```
//! Inputs are what happened, actions what the shell must do; nothing here waits, reads a clock or touches the network.
//! One publish is in flight; appends overlap the next publish and stand in its order. What is decided but not yet
//! appended stays in memory (M1); it all goes with the tenure.

mod appended;
mod asked;
mod batch;
mod chats;
mod owner;
mod takeover;
mod targets;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use domain::{
    Chat, ChatId, Code, CommandPosition, GatewayId, LoggedEntry, Micros, PartitionPosition, Seq, Target, WriterId,
};
use proto::relay::Answer;

pub use asked::Asked;
pub use batch::{ChatRows, NewRole, Stay};
pub use owner::{Owner, Settings};
pub use takeover::{CommandFacts, EventFacts, Facts, Halt, Plan, TailRecord, plan};

/// One command as it stood in a record, and where its outcome goes.
#[derive(Clone, Debug)]
pub struct Item {
    /// Where the outcome goes; none where the record did not say.
    pub route: Option<Route>,
    /// What is to be decided, or what is wrong with it.
    pub asked: Result<Asked, Refused>,
}

/// A command that cannot be decided.
#[derive(Clone, Debug)]
pub struct Refused {
    /// Why.
    pub code: Code,
    /// What the outcome names: chat, origin and n as they were sent.
    pub named: proto::v1::Outcome,
}

/// Where an outcome goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Route {
    /// The gateway that packed the command.
    pub gateway: GatewayId,
    /// Its session.
    pub session: u64,
    /// The client's number for the request.
    pub request: u64,
}

/// One record of COMMANDS-p.
#[derive(Clone, Debug)]
pub struct CommandRecord {
    /// Its sequence.
    pub sequence: Seq,
    /// The log's time for it, in ns since 1970.
    pub time_ns: i64,
    /// Its message id.
    pub message_id: String,
    /// What it holds, in order; nothing where it could not be decoded.
    pub items: Vec<Item>,
    /// About what it takes in memory.
    pub bytes: usize,
}

/// A record that a gateway of the same process handed over beside COMMANDS-p.
///
/// It moves no position: should it be lost with its owner, nobody was told that it was taken.
#[derive(Clone, Debug)]
pub struct HandedRecord {
    /// The shell's name for it.
    pub ticket: u64,
    /// When it was handed over; decided with, as with the log's time of a record (M4).
    pub stamp: Micros,
    /// What it holds, in order.
    pub items: Vec<Item>,
    /// About what it takes in memory.
    pub bytes: usize,
}

/// What happened.
#[derive(Debug)]
pub enum Input {
    /// Records that came, contiguous.
    Commands(Vec<CommandRecord>),
    /// A gateway handed this over.
    Handed(HandedRecord),
    /// A chat that was asked for; none: there is no such chat.
    Loaded(ChatId, Option<Box<Chat>>),
    /// A chat that could not be read: asked for again at the next tick.
    LoadFailed(ChatId),
    /// What stands at a seq that was asked for.
    TargetLoaded(ChatId, Seq, Target),
    /// A row that could not be read: asked for again at the next tick.
    TargetFailed(ChatId, Seq),
    /// The batch in flight stands in EVENTS-p.
    Published(Seq),
    /// Nobody knows whether the batch in flight landed.
    PublishInDoubt,
    /// The stream is full: again at the next tick.
    PublishFull,
    /// The expectation did not hold; who wrote the stream's last record, and where that stands.
    PublishRefused(Option<(WriterId, u64, Seq)>),
    /// The append in flight is done.
    Appended,
    /// The append in flight failed: again at the next tick.
    AppendFailed,
    /// This is on disk for sure, and the required readers need no event record below `events_needed`.
    Synced {
        /// The store's synced position.
        position: PartitionPosition,
        /// The lowest sequence in EVENTS-p that a required reader still needs.
        events_needed: Seq,
    },
    /// Some time went by.
    Tick,
}

/// What the shell must do.
#[derive(Debug)]
pub enum Action {
    /// Read this chat.
    Load(ChatId),
    /// Read this row: a command is judged by what it holds.
    LoadTarget(ChatId, Seq),
    /// Publish these bytes, fenced by the stream's last sequence.
    Publish {
        /// An encoded `EventBatch`.
        payload: Bytes,
        /// The sequence that must be the stream's last.
        expected: Seq,
    },
    /// Write these rows and this position, in one go where the engine can.
    Append {
        /// What is then folded and appended.
        position: PartitionPosition,
        /// A part a chat, in order of chat.
        chats: Vec<ChatRows>,
    },
    /// Tell who handed these over that their events stand in EVENTS-p.
    Taken(Vec<u64>),
    /// Tell this gateway.
    Answer(GatewayId, Vec<Answer>),
    /// Drop records below these sequences.
    Trim {
        /// In COMMANDS-p.
        commands_below: Seq,
        /// In EVENTS-p.
        events_below: Seq,
    },
    /// Another owner writes: give everything up and take over anew.
    StepDown,
    /// Stop this partition: a person must look.
    Halt(Halt),
}

/// The bytes of an entry beside its decoded form, in a tail record.
pub type Entries = Vec<LoggedEntry>;

/// The zero position of a partition in which nothing was folded.
pub(crate) fn unfolded() -> CommandPosition {
    CommandPosition::default()
}
