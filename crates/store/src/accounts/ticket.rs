//! A ticket: stands for the token that it was got with, for one socket, once and soon.

use std::fmt;

use domain::{Micros, UserId};

use super::check_text;
use crate::{DEVICE_BYTES_MAX, Error};

/// Most bytes of a sign-in's name, as in a token.
pub const SIGN_IN_BYTES_MAX: usize = 128;

/// A ticket: whoever takes it first has it.
#[derive(Clone, PartialEq, Eq)]
pub struct TicketRow {
    /// The ticket's hash.
    pub hash: [u8; 32],
    /// Whom it lets in.
    pub user: UserId,
    /// On which device; empty: any, as in a token.
    pub device: Box<str>,
    /// By which sign-in; may be empty, as in a token.
    pub sign_in: Box<str>,
    /// When the token was issued that it stands for, in seconds since 1970 UTC: what revokes that one covers this too.
    pub issued_s: u64,
    /// When that token expires, in seconds since 1970 UTC.
    pub token_expires_s: u64,
    /// From when on it is worth nothing, µs since 1970.
    pub expires_us: Micros,
}

impl fmt::Debug for TicketRow {
    // Without what no log may have: the ticket's hash.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TicketRow")
            .field("user", &self.user)
            .field("device", &self.device)
            .field("expires_us", &self.expires_us)
            .finish_non_exhaustive()
    }
}

impl TicketRow {
    pub(crate) fn check(&self) -> Result<(), Error> {
        check_text("a device", &self.device, DEVICE_BYTES_MAX)?;
        check_text("a sign-in", &self.sign_in, SIGN_IN_BYTES_MAX)
    }
}
