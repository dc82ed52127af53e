//! The chat as an aggregate, and the words that every role shares.
//!
//! `decide(chat, command) -> entry or rejection`, `apply(chat, entry) -> chat`: pure, no clock, no I/O.
//! Conversions between the wire types of `proto` and these types live here.

mod chat;
mod command;
mod crash;
mod entry;
mod error;
mod ids;
mod import;
pub mod limits;
mod message;
mod origins;
mod outcome;
mod policy;
mod position;
mod rules;
mod version;
mod watermark;

pub use chat::{Chat, Decision, MemberState, decide};
pub use command::{Action, Command, is_name, is_reaction};
pub use crash::crash_point;
pub use entry::{ChatKind, Entry, Event, EventKind, LoggedEntry, Member, Role};
pub use error::Error;
pub use ids::{
    ChatId, Epoch, GatewayId, ImportId, Micros, Ordinal, Origin, PARTITIONS_MAX, Partition, Seq, SessionId, TenureId,
    UserId, WriterId,
};
pub use import::{Import, Step, decide_import};
pub use message::Message;
pub use outcome::{Code, Outcome, text};
pub use policy::{Policy, PolicyChange};
pub use position::{CommandPosition, EventPosition, PartitionPosition};
pub use rules::Rules;
pub use version::{Edit, Target, Version};
pub use watermark::Watermark;
