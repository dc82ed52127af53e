//! The wall clock, for what clients are told and tokens say.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Time since 1970 UTC.
pub(crate) fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
