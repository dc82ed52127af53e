//! The store's port and its engines: the one crate that names fjall and scylla.
//!
//! ```text
//! ingest ──append──▶ chat_log, chat_members, chat_snapshots, partitions ──▶ history, members, load_chat, position
//! projections ──project──▶ chats_by_user, chat_summaries, chat_names, watermarks, checkpoints ──▶ chats_of, summaries, all_summaries, heads
//! projections ──project──▶ chat_facts, reactions ──▶ chat_facts, reactions
//! gateway, api ──claim_direct──▶ direct_chats
//! api ──put_user, claim_handle──▶ users, leaving_users, handles ──▶ user, leaving_users, user_of_handle, handles
//! api ──put_refresh_family──▶ refresh_families and two indices ──▶ refresh_family, refresh_families_of, forget_refresh_families
//! api ──see_device, block, put_chat_setting──▶ devices, blocks, chat_settings ──▶ devices_of, is_blocked, chat_settings_of
//! api ──claim_send, settle_send──▶ send_claims, send_claims_by_time ──forget_send_claims──▶ ∅
//! api ──put_ticket──▶ tickets, tickets_by_time ──▶ take_ticket, forget_tickets
//! api ──put_invite, use_invite──▶ invites and three indices, invite_uses ──▶ invite, invites_of, invites_by
//! api ──erase_user──▶ devices, refresh_families, blocks, chat_settings, send_claims, invites
//! ```
//! [`Store`] is the port: purposeful operations, each of which a CQL table with the same key could serve too. Rows,
//! positions, checkpoints and watermarks only move forward (M8), so a write that comes late or twice changes nothing. Rows
//! of accounts are claimed, or compared and set, and are on disk before the answer.
//! The store never looks into a message body, and never decides anything about a chat.

mod accounts;
mod codes;
mod config;
mod cql;
mod embedded;
mod error;
mod join;
mod load;
mod merge;
mod page;
mod rewrite;
mod rows;
mod store;
mod waiters;

pub use accounts::{
    AVATAR_BYTES_MAX, ChatSetting, DEVICE_BYTES_MAX, DEVICE_NAME_BYTES_MAX, DEVICES_MAX, DISPLAY_NAME_BYTES_MAX,
    DeviceRow, HANDLE_BYTES_MAX, IDEMPOTENCY_KEY_BYTES_MAX, INVITE_KEPT_US, INVITE_USES_MAX, INVITES_MAX, InviteRow,
    InviteUse, PASSWORD_BYTES_MAX, REFRESH_FAMILIES_MAX, RefreshFamily, SEND_CLAIM_KEPT_US, SIGN_IN_BYTES_MAX,
    SPENT_MAX, SendClaim, SendOutcome, Spent, TicketRow, UserRow, UserState,
};
pub use config::{Config, StoreConfig};
pub use cql::{AddressError, Cql, CqlConfig, Dialect, KeyspaceOptions, SchemaError, SchemaFile, SchemaState, schema};
pub use embedded::Embedded;
pub use error::{Cause, Error};
pub use rows::{
    Append, ChatAppend, ChatFacts, ChatLine, Checkpoint, Fact, FactRow, Head, HistoryPage, MemberRow, NameRow, Preview,
    Projection, ReactionRow, Reactions, Reader, Receipt, RoleRow, SummaryRow, UserChatRow,
};
pub use store::{Asked, ReadError, Store};

/// A chat in a user's list, as it is read.
pub type UserChat = UserChatRow;
/// What a list shows of a chat, as it is read.
pub type Summary = SummaryRow;

/// Most rows of one history page; a larger limit is cut to it (N9).
pub const HISTORY_ROWS_MAX: usize = 1_024;
/// Most bytes of one history page that has more than one row; a larger limit is cut to it (N9).
pub const HISTORY_BYTES_MAX: usize = 1 << 20;
/// Most seqs that one page of reactions covers; a higher end is cut to it (N9).
pub const REACTION_SEQS_MAX: u64 = 1_024;
/// Most rows of one page of a user's chats; a larger limit is cut to it (N9).
pub const LIST_ROWS_MAX: usize = 1_024;
/// Most readers that may wait for rows at one time (N9); further ones get [`Error::Busy`].
pub const WAITING_MAX: usize = 65_536;
