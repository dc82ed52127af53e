//! A refresh family: all refresh tokens that follow from one sign-in.

use std::fmt;

use domain::{Micros, UserId};

use super::check_key;
use crate::{DEVICE_BYTES_MAX, Error};

/// Most spent tokens that a family names; the caller lets the oldest go.
///
/// A family names its tokens, so one that is neither live nor named here is still known to be spent or forged.
pub const SPENT_MAX: usize = 32;
/// Most families of one user; a further one is [`Error::Full`], and the caller ends an old one first.
///
/// Several for each of the sockets that a gateway lets a user have, and few enough to be listed and ended at once.
pub const REFRESH_FAMILIES_MAX: usize = 128;

/// A refresh token that was used, and may not be used again.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Spent {
    /// The token's hash.
    pub hash: [u8; 32],
    /// When it was used, µs since 1970.
    pub at_us: Micros,
}

impl fmt::Debug for Spent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spent").field("at_us", &self.at_us).finish_non_exhaustive()
    }
}

/// All refresh tokens that follow from one sign-in: one is live, the ones before it are spent.
#[derive(Clone, PartialEq, Eq)]
pub struct RefreshFamily {
    /// Names the family; part of each of its tokens.
    pub family: [u8; 16],
    /// Who signed in. Stays the same for as long as the family lives.
    pub user: UserId,
    /// On which device.
    pub device: Box<str>,
    /// The live token's hash.
    pub live: [u8; 32],
    /// The tokens before it, at most [`SPENT_MAX`].
    pub spent: Vec<Spent>,
    /// When the sign-in was, µs since 1970.
    pub created_us: Micros,
    /// When the live token ends, µs since 1970; the store keeps the family until it is removed or swept.
    pub expires_us: Micros,
    /// Which write of the row this is: 1, 2, 3 …
    pub version: u64,
}

impl fmt::Debug for RefreshFamily {
    // Without what no log may have: the tokens' hashes, and the family's name, which is part of a token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RefreshFamily")
            .field("user", &self.user)
            .field("device", &self.device)
            .field("spent", &self.spent.len())
            .field("expires_us", &self.expires_us)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

impl RefreshFamily {
    pub(crate) fn check(&self) -> Result<(), Error> {
        check_key("a device", &self.device, DEVICE_BYTES_MAX)?;
        if self.spent.len() > SPENT_MAX {
            let what = "a refresh family's list of spent tokens";
            return Err(Error::Length { what, length: self.spent.len(), min: 0, max: SPENT_MAX });
        }
        Ok(())
    }
}
