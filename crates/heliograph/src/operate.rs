//! Operators' commands, as they are typed: each asks the `up` that runs on the folder, and prints what it says.
//!
//! ```text
//! cli ─▶ user │ chats │ device │ partition ─▶ ask (admin.sock) ─▶ print: JSON as it came, or a table
//! ```
//! It never opens the store: the running process has it.

mod ask;
mod chats;
mod device;
mod import;
mod partition;
mod print;
mod user;

pub(crate) use chats::ChatsArgs;
pub(crate) use device::DeviceArgs;
pub(crate) use partition::PartitionArgs;
pub(crate) use user::UserArgs;
