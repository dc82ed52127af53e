//! How fast a gateway lets anybody in, whoever it is.
//!
//! After an outage everybody comes at once. Whom there is no room for now is told to come again at a time of its own,
//! so that the crowd gets thinner with each round instead of coming back as it was.

use std::time::Duration;

use limits::{Bucket, Limiter, Rate};

/// Nobody is told to stay away for longer, in seconds.
const RETRY_AFTER_MAX_S: u32 = 60;

/// The one bucket of a gateway.
pub(crate) struct Admissions {
    limiter: Limiter,
    all: Bucket,
    spread_s: u32,
}

impl Admissions {
    pub(crate) fn new(rate: Rate) -> Self {
        Self { limiter: Limiter::new(rate), all: Bucket::default(), spread_s: spread_s(rate) }
    }

    /// Lets one connection in.
    ///
    /// # Errors
    /// In how many seconds it may come again, at least 1 and not more than a minute.
    pub(crate) fn take(&self) -> Result<(), u32> {
        let random_s = || rand::random_range(0..=self.spread_s);
        self.limiter.take(&self.all, 1).map_err(|wait| retry_after_s(wait, random_s()))
    }
}

/// Over so many seconds those are spread who come again: in that time the bucket lets as many in as it holds.
fn spread_s(rate: Rate) -> u32 {
    rate.burst.div_ceil(rate.per_s.max(1)).clamp(1, RETRY_AFTER_MAX_S - 1)
}

/// Rounded up: one who waits as long as told must not be early.
fn retry_after_s(wait: Duration, random_s: u32) -> u32 {
    let wait_s = u32::try_from(wait.as_millis().div_ceil(1_000)).unwrap_or(u32::MAX).max(1);
    wait_s.saturating_add(random_s).min(RETRY_AFTER_MAX_S)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_over_the_rate_are_spread_over_the_time_in_which_the_bucket_fills() {
        assert_eq!(spread_s(Rate { per_s: 5_000, burst: 20_000 }), 4);
        assert_eq!(spread_s(Rate { per_s: 100, burst: 1 }), 1, "never all at one time");
        assert_eq!(spread_s(Rate { per_s: 1, burst: u32::MAX }), 59);
    }

    #[test]
    fn nobody_is_told_to_be_early_or_to_stay_away_for_long() {
        assert_eq!(retry_after_s(Duration::from_micros(200), 0), 1);
        assert_eq!(retry_after_s(Duration::from_millis(1_001), 3), 5);
        assert_eq!(retry_after_s(Duration::MAX, 0), 60);
    }

    #[test]
    fn the_burst_is_let_in_and_the_others_hear_different_times() {
        let admissions = Admissions::new(Rate { per_s: 1, burst: 10 });
        let times: Vec<_> = (0..1_000).map(|_| admissions.take()).filter_map(Result::err).collect();
        // A machine may stand still for some seconds meanwhile.
        assert!((980..=990).contains(&times.len()), "{}", times.len());
        for time_s in 1..=11 {
            assert!(times.contains(&time_s), "nobody is told {time_s}");
        }
        assert!(times.iter().all(|time_s| (1..=11).contains(time_s)), "{times:?}");
    }
}
