//! Named points at which a test may end the process as a kill -9 would.

use std::{
    env, process,
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    },
};

/// `name` or `name:countdown`, e.g. `ingest.published:3` dies the third time that the point is passed.
const VARIABLE: &str = "HELIOGRAPH_CRASH_POINT";

static ARMED: LazyLock<Option<(String, AtomicU64)>> = LazyLock::new(|| {
    let value = env::var(VARIABLE).ok()?;
    let (name, countdown) = value.split_once(':').unwrap_or((&value, "1"));
    Some((name.to_owned(), AtomicU64::new(countdown.parse().unwrap_or(1))))
});

/// Aborts the process if this point is the armed one and its countdown has run out.
pub fn crash_point(name: &str) {
    if let Some((armed, countdown)) = &*ARMED
        && armed == name
        && countdown.fetch_sub(1, Ordering::Relaxed) == 1
    {
        process::abort();
    }
}
