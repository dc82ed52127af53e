//! How much time has passed.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How much time has passed since some moment; it never goes back.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Duration + Send + Sync>);

impl Clock {
    /// What this function says.
    pub fn of(passed: impl Fn() -> Duration + Send + Sync + 'static) -> Self {
        Self(Arc::new(passed))
    }

    pub(crate) fn now(&self) -> Duration {
        (self.0)()
    }
}

impl Default for Clock {
    /// The system's.
    fn default() -> Self {
        let began = Instant::now();
        Self::of(move || began.elapsed())
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Clock").field(&self.now()).finish()
    }
}
