//! A user, and the handle that others find one by.

use std::fmt;

use domain::{Micros, UserId};

use super::{check_key, check_text};
use crate::Error;

/// Most bytes of a handle: 32 characters of up to four bytes.
pub const HANDLE_BYTES_MAX: usize = 128;
/// Most bytes of a display name: 64 characters of up to four bytes.
pub const DISPLAY_NAME_BYTES_MAX: usize = 256;
/// Most bytes of what names an avatar: an address within what servers and proxies pass on.
pub const AVATAR_BYTES_MAX: usize = 1_024;
/// Most bytes of a password's PHC string; one of Argon2id with 64 bytes each of salt and hash has some 230.
pub const PASSWORD_BYTES_MAX: usize = 512;

/// Whether a user may sign in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum UserState {
    /// May.
    Active,
    /// May not, by decision of an operator.
    Banned,
    /// May not: the account is being deleted. [`crate::Store::leaving_users`] has those.
    Leaving,
    /// May not, and never will: the id is not given again.
    Deleted,
}

/// A user.
#[derive(Clone, PartialEq, Eq)]
pub struct UserRow {
    /// Who it is.
    pub user: UserId,
    /// What others find the user by; which user it belongs to says the table of handles.
    pub handle: Box<str>,
    /// What others see.
    pub display_name: Box<str>,
    /// What names the picture; empty: none.
    pub avatar: Box<str>,
    /// The password's hash as a PHC string; empty: none.
    pub password: Box<str>,
    /// When the account was made, µs since 1970.
    pub created_us: Micros,
    /// Whether the user may sign in.
    pub state: UserState,
    /// No sign-in that began by then goes on, µs since 1970; 0: none was ended so.
    pub signed_out_us: Micros,
    /// Which write of the row this is: 1, 2, 3 …
    pub version: u64,
}

impl fmt::Debug for UserRow {
    // Without what no log may have: the password's hash.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UserRow")
            .field("user", &self.user)
            .field("handle", &self.handle)
            .field("state", &self.state)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

impl UserRow {
    /// Ends every sign-in that has begun by `now_us`, in the write of the row that says why.
    ///
    /// Never back in time: what one clock has ended no other one lets go on.
    pub fn sign_out(&mut self, now_us: Micros) {
        self.signed_out_us = self.signed_out_us.max(now_us);
    }

    /// Whether a sign-in of `created_us` has been ended.
    pub fn has_signed_out(&self, created_us: Micros) -> bool {
        created_us <= self.signed_out_us
    }

    /// Marks it to be deleted, and every sign-in ended. It keeps its handle, which is given up last.
    pub fn leave(&mut self, now_us: Micros) {
        self.sign_out(now_us);
        self.state = UserState::Leaving;
        for text in [&mut self.display_name, &mut self.avatar, &mut self.password] {
            *text = "".into();
        }
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        // A deleted user may have none.
        check_text("a handle", &self.handle, HANDLE_BYTES_MAX)?;
        check_text("a display name", &self.display_name, DISPLAY_NAME_BYTES_MAX)?;
        check_text("an avatar", &self.avatar, AVATAR_BYTES_MAX)?;
        check_text("a password's hash", &self.password, PASSWORD_BYTES_MAX)
    }
}

/// Whether a handle may be claimed.
pub(crate) fn check_handle(handle: &str) -> Result<(), Error> {
    check_key("a handle", handle, HANDLE_BYTES_MAX)
}
