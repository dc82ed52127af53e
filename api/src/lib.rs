//! Accounts, chats and history over HTTP.
//!
//! ```text
//! serve (connections, deadlines) → edge (request id, limits, CORS) → router → caller (token) → accounts │ chats │ members │ invites │ messages → problem
//!   accounts ─ passwords (bounded pool) ─ refresh, tickets, deletion ▶ store, tokens        chats, members, messages ─ desk ▶ packer ▶ log
//! ```
//! What changes a chat goes through the command log like everything else: decided by the fold, answered with its seq.
//! This role keeps nothing of its own; any number of it may run.

#![expect(unused_qualifications, reason = "what the description is made with writes them")]

mod accounts;
mod caller;
mod chat_list;
mod chats;
mod config;
mod desk;
mod docs_page;
mod edge;
mod error;
mod governance;
mod invites;
mod members;
mod messages;
mod paging;
mod passwords;
mod policy;
mod problem;
mod refresh;
mod refusals;
mod router;
mod serve;
mod settings;
mod state;
mod tagged;
mod wire;

pub use accounts::endings::{EndError, end_sign_ins};
pub use config::Config;
pub use edge::ClientLimits;
pub use error::Error;
pub use router::openapi;
pub use serve::{Api, Dependencies};
pub use state::now_us;
pub use wire::{parse_time as from_rfc3339, time as rfc3339};
