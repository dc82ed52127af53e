//! A device that a user signed in on.

/// Most bytes of a device's id, as in a token.
pub const DEVICE_BYTES_MAX: usize = 128;
