//! Rows of accounts: users and handles, devices, refresh families, blocks, settings, send claims, tickets and invites.
//!
//! Nothing replays these, so each write is on disk before it is answered. Rows with a `version` are written by compare
//! and set. Every text has a bound in bytes, since rows stand in queues and caches that are bounded too; a row beyond one
//! is [`Error::Length`] and nothing of it is stored. What a text may say is the caller's to judge.

mod claim;
mod device;
mod invite;
mod refresh;
mod setting;
mod ticket;
mod user;

pub use claim::{IDEMPOTENCY_KEY_BYTES_MAX, SEND_CLAIM_KEPT_US, SendClaim, SendOutcome};
pub use device::{DEVICE_BYTES_MAX, DEVICE_NAME_BYTES_MAX, DEVICES_MAX, DeviceRow};
pub use invite::{INVITE_KEPT_US, INVITE_USES_MAX, INVITES_MAX, InviteRow, InviteUse};
pub use refresh::{REFRESH_FAMILIES_MAX, RefreshFamily, SPENT_MAX, Spent};
pub use setting::ChatSetting;
pub use ticket::{SIGN_IN_BYTES_MAX, TicketRow};
pub use user::{AVATAR_BYTES_MAX, DISPLAY_NAME_BYTES_MAX, HANDLE_BYTES_MAX, PASSWORD_BYTES_MAX, UserRow, UserState};

pub(crate) use claim::check_idempotency_key;
pub(crate) use device::{check_device, check_device_name};
pub(crate) use user::check_handle;

use crate::Error;

/// Whether the text, which may be empty, is within its bound.
fn check_text(what: &'static str, text: &str, max: usize) -> Result<(), Error> {
    if text.len() <= max { Ok(()) } else { Err(Error::Length { what, length: text.len(), min: 0, max }) }
}

/// Whether the text, which is part of a key, is within its bound and not empty.
fn check_key(what: &'static str, text: &str, max: usize) -> Result<(), Error> {
    if text.is_empty() { Err(Error::Length { what, length: 0, min: 1, max }) } else { check_text(what, text, max) }
}
