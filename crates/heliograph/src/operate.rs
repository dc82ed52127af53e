//! Operators' commands, as they are typed: each asks the `up` that runs on the folder, and prints what it says.
//!
//! ```text
//! cli ─▶ user │ chats │ device │ partition │ projections │ token ─▶ ask (admin.sock) ─▶ print: JSON as it came, or a table
//! ```
//! It never opens the store: the running process has it. Only `token issue` asks nobody: it signs with the folder's keys.

mod ask;
mod chats;
mod config;
mod device;
mod import;
mod partition;
mod print;
mod projections;
mod token;
mod up;
mod user;

pub(crate) use chats::ChatsArgs;
pub(crate) use config::ConfigArgs;
pub(crate) use device::DeviceArgs;
pub(crate) use partition::PartitionArgs;
pub(crate) use projections::ProjectionsArgs;
pub(crate) use token::{Mint, TokenArgs};
pub(crate) use up::UpArgs;
pub(crate) use user::UserArgs;
