//! A device that a user signed in on.

use domain::{Micros, UserId};

use super::{check_key, check_text};
use crate::Error;

/// Most bytes of a device's id, as in a token.
pub const DEVICE_BYTES_MAX: usize = 128;
/// Most bytes of a device's name: 64 characters of up to four bytes.
pub const DEVICE_NAME_BYTES_MAX: usize = 256;
/// Most devices of one user; a further one is [`Error::Full`]. As many as refresh families, so that each has its own.
pub const DEVICES_MAX: usize = 128;

/// A device that a user signed in on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DeviceRow {
    /// Whose it is.
    pub user: UserId,
    /// Its id, one of this user's.
    pub device: Box<str>,
    /// What the user sees.
    pub name: Box<str>,
    /// When it first signed in, µs since 1970.
    pub created_us: Micros,
    /// When it was last seen, µs since 1970.
    pub seen_us: Micros,
}

/// Whether this may be a device's name.
pub(crate) fn check_device_name(name: &str) -> Result<(), Error> {
    check_text("a device's name", name, DEVICE_NAME_BYTES_MAX)
}

/// Whether this may be a device's id.
pub(crate) fn check_device(device: &str) -> Result<(), Error> {
    check_key("a device", device, DEVICE_BYTES_MAX)
}
