//! Rates: one governor for a limit, one bucket for each client that it holds for.
//!
//! A bucket is eight bytes, the moment at which its client has paid for all that it took (GCRA's theoretical arrival
//! time). Taking is one compare-and-swap on it: no lock, no table.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use governor::clock::{Clock, QuantaClock, Reference as _};
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::StateStore;
use governor::{Quota, RateLimiter};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How much of something, in a second and at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// How much comes back in a second.
    pub per_s: u32,
    /// How much may be taken at once after a pause.
    pub burst: u32,
}

impl Rate {
    /// Nothing that a machine does comes near it.
    pub const MAX: Self = Self { per_s: u32::MAX, burst: u32::MAX };

    /// Whether it lets anything through.
    #[must_use]
    pub const fn is_valid(self) -> bool {
        self.per_s > 0 && self.burst > 0
    }
}

/// What one client has taken of one limit; clones are the same bucket.
#[derive(Clone, Debug, Default)]
pub struct Bucket(Arc<AtomicU64>);

impl Bucket {
    fn address(&self) -> usize {
        Arc::as_ptr(&self.0).addr()
    }
}

impl PartialEq for Bucket {
    fn eq(&self, other: &Self) -> bool {
        self.address() == other.address()
    }
}

impl Eq for Bucket {}

impl Hash for Bucket {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.address().hash(state);
    }
}

/// Keeps each state in the bucket that is asked for.
struct InBuckets;

impl StateStore for InBuckets {
    type Key = Bucket;

    fn measure_and_replace<T, F, E>(&self, Bucket(cell): &Bucket, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let mut seen = cell.load(Ordering::Acquire);
        loop {
            let (taken, paid_at) = decide((seen != 0).then(|| seen.into()))?;
            match cell.compare_exchange_weak(seen, paid_at.into(), Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Ok(taken),
                Err(newer) => seen = newer,
            }
        }
    }
}

/// What a bucket still holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Left {
    /// So much could be taken now.
    pub count: u32,
    /// After so long it is full.
    pub all_in: Duration,
}

/// One limit, for all the buckets that it is asked about.
pub struct Limiter<C: Clock = QuantaClock> {
    governor: RateLimiter<Bucket, InBuckets, C, NoOpMiddleware<C::Instant>>,
    quota: Quota,
    /// Just before the governor's own start, which it keeps to itself.
    start: C::Instant,
}

impl Limiter {
    /// A limiter of this rate; one that lets nothing through counts as one that lets one through.
    #[must_use]
    pub fn new(rate: Rate) -> Self {
        Self::with_clock(rate, QuantaClock::default())
    }

    /// So many in an hour, all of them at once if need be.
    #[must_use]
    pub fn per_hour(most: u32) -> Self {
        Self::of(Quota::per_hour(at_least_one(most)), QuantaClock::default())
    }
}

impl<C: Clock> Limiter<C> {
    /// As [`Limiter::new`], by this clock.
    pub fn with_clock(rate: Rate, clock: C) -> Self {
        Self::of(Quota::per_second(at_least_one(rate.per_s)).allow_burst(at_least_one(rate.burst)), clock)
    }

    fn of(quota: Quota, clock: C) -> Self {
        let start = clock.now();
        Self { governor: RateLimiter::new(quota, InBuckets, clock), quota, start }
    }

    /// Takes `count` out of the bucket, or nothing.
    ///
    /// # Errors
    /// How long to wait until as much could be had.
    pub fn take(&self, bucket: &Bucket, count: u32) -> Result<(), Duration> {
        let Some(count) = NonZeroU32::new(count) else { return Ok(()) };
        match self.governor.check_key_n(bucket, count) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(not_until)) => Err(not_until.wait_time_from(self.governor.clock().now())),
            // Settings that let no whole message through are refused before; nothing is let through here either.
            Err(_never) => Err(Duration::MAX),
        }
    }

    /// Puts back what was taken for something that does not count after all.
    pub fn give_back(&self, bucket: &Bucket, count: u32) {
        let back = self.each().saturating_mul(u64::from(count));
        let lower = |paid_at: u64| Some(paid_at.saturating_sub(back));
        // It never says that it cannot.
        let _ = bucket.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, lower);
    }

    /// What could be taken now.
    #[must_use]
    pub fn left(&self, bucket: &Bucket) -> Left {
        let owed = bucket.0.load(Ordering::Relaxed).saturating_sub(self.now());
        let taken = u32::try_from(owed.div_ceil(self.each().max(1))).unwrap_or(u32::MAX);
        Left { count: self.most().saturating_sub(taken), all_in: Duration::from_nanos(owed) }
    }

    /// How much there is after a pause.
    #[must_use]
    pub const fn most(&self) -> u32 {
        self.quota.burst_size().get()
    }

    /// How long an empty bucket takes to fill.
    #[must_use]
    pub fn fills_in(&self) -> Duration {
        Duration::from_nanos(self.each().saturating_mul(u64::from(self.most())))
    }

    /// Whether the bucket could as well be a new one.
    pub fn is_restored(&self, bucket: &Bucket) -> bool {
        bucket.0.load(Ordering::Relaxed) <= self.now()
    }

    fn now(&self) -> u64 {
        self.governor.clock().now().duration_since(self.start).into()
    }

    /// ns in which one comes back.
    fn each(&self) -> u64 {
        u64::try_from(self.quota.replenish_interval().as_nanos()).unwrap_or(u64::MAX)
    }
}

impl<C: Clock> fmt::Debug for Limiter<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limiter").finish_non_exhaustive()
    }
}

const fn at_least_one(count: u32) -> NonZeroU32 {
    match NonZeroU32::new(count) {
        Some(count) => count,
        None => NonZeroU32::MIN,
    }
}

#[cfg(test)]
mod tests {
    use governor::clock::FakeRelativeClock;

    use super::*;

    #[test]
    fn a_burst_goes_through_then_the_rate() {
        let clock = FakeRelativeClock::default();
        let limiter = Limiter::with_clock(Rate { per_s: 10, burst: 3 }, clock.clone());
        let (ours, other) = (Bucket::default(), Bucket::default());
        clock.advance(Duration::from_secs(1));
        for _ in 0..3 {
            assert_eq!(limiter.take(&ours, 1), Ok(()));
        }
        assert_eq!(limiter.take(&ours, 1), Err(Duration::from_millis(100)));
        assert_eq!(limiter.take(&other, 3), Ok(()), "another client's bucket is its own");
        clock.advance(Duration::from_millis(100));
        assert_eq!(limiter.take(&ours, 2), Err(Duration::from_millis(100)), "all or nothing");
        assert_eq!(limiter.take(&ours, 1), Ok(()));
        assert_eq!(limiter.take(&ours, 0), Ok(()));
        assert_eq!(limiter.take(&ours, 4), Err(Duration::MAX));
    }

    #[test]
    fn a_bucket_is_restored_once_its_whole_burst_could_be_had_again() {
        let clock = FakeRelativeClock::default();
        let limiter = Limiter::with_clock(Rate { per_s: 10, burst: 3 }, clock.clone());
        let bucket = Bucket::default();
        assert!(limiter.is_restored(&bucket));
        limiter.take(&bucket, 2).unwrap();
        clock.advance(Duration::from_millis(199));
        assert!(!limiter.is_restored(&bucket));
        clock.advance(Duration::from_millis(1));
        assert!(limiter.is_restored(&bucket));
        assert_eq!(limiter.take(&bucket, 3), Ok(()));
    }

    #[test]
    fn what_is_left_is_what_can_be_taken_and_what_is_given_back_can_be_taken_again() {
        let clock = FakeRelativeClock::default();
        let limiter = Limiter::with_clock(Rate { per_s: 10, burst: 5 }, clock.clone());
        let bucket = Bucket::default();
        assert_eq!((limiter.most(), limiter.fills_in()), (5, Duration::from_millis(500)));
        assert_eq!(limiter.left(&bucket), Left { count: 5, all_in: Duration::ZERO });
        limiter.take(&bucket, 4).unwrap();
        assert_eq!(limiter.left(&bucket), Left { count: 1, all_in: Duration::from_millis(400) });
        clock.advance(Duration::from_millis(150));
        assert_eq!(limiter.left(&bucket), Left { count: 2, all_in: Duration::from_millis(250) });
        assert!(limiter.take(&bucket, 3).is_err());
        limiter.give_back(&bucket, 1);
        assert_eq!(limiter.left(&bucket).count, 3);
        assert_eq!(limiter.take(&bucket, 3), Ok(()));
        clock.advance(Duration::from_secs(60));
        limiter.give_back(&bucket, 4);
        assert_eq!(limiter.left(&bucket).count, 5, "never more than there is after a pause");
        assert!(limiter.take(&bucket, 6).is_err());
        limiter.give_back(&Bucket::default(), 1);
    }

    #[test]
    fn clones_share_a_bucket_and_threads_take_no_more_than_there_is() {
        let limiter = Limiter::with_clock(Rate { per_s: 1, burst: 1_000 }, FakeRelativeClock::default());
        let bucket = Bucket::default();
        let taken: usize = std::thread::scope(|scope| {
            let take = || {
                let bucket = bucket.clone();
                (0..1_000).filter(|_| limiter.take(&bucket, 1).is_ok()).count()
            };
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(take)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(taken, 1_000);
    }
}
