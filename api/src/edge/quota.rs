//! What a request was counted by, as its answer says it (draft-ietf-httpapi-ratelimit-headers-11).
//!
//! Each limit is a policy: `q` is what may be taken at once after a pause and `w` the seconds in which that comes back;
//! of it `r` is left, and after `t` seconds all of it, or, where the request was refused, as much as it needs.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use limits::{Bucket, Limiter};

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// The limits that a request was counted by; clones are the same list.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally(Arc<Mutex<Vec<Counted>>>);

#[derive(Debug)]
struct Counted {
    name: &'static str,
    most: u32,
    window_s: u64,
    left: u32,
    back_in_s: u64,
}

impl Tally {
    /// Takes one out of a bucket, and remembers what is left.
    ///
    /// # Errors
    /// How long to wait for one.
    pub(super) fn take(&self, name: &'static str, limiter: &Limiter, bucket: &Bucket) -> Result<(), Duration> {
        let taken = limiter.take(bucket, 1);
        let left = limiter.left(bucket);
        let counted = Counted {
            name,
            most: limiter.most(),
            window_s: whole_s(limiter.fills_in()),
            left: if taken.is_ok() { left.count } else { 0 },
            back_in_s: whole_s(taken.err().unwrap_or(left.all_in)),
        };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(counted);
        taken
    }

    /// Says it in an answer; an answer to a request that no limit holds for says nothing.
    pub(super) fn put_into(&self, headers: &mut HeaderMap) {
        let counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut policies, mut limits) = (String::new(), String::new());
        for Counted { name, most, window_s, left, back_in_s } in &*counted {
            let comma = if policies.is_empty() { "" } else { ", " };
            // Writing to a String cannot fail.
            let _ = write!(policies, "{comma}\"{name}\";q={most};w={window_s}");
            let _ = write!(limits, "{comma}\"{name}\";r={left};t={back_in_s}");
        }
        for (name, value) in [(RATE_LIMIT_POLICY, policies), (RATE_LIMIT, limits)] {
            if let Ok(value) = HeaderValue::try_from(value)
                && !value.is_empty()
            {
                headers.insert(name, value);
            }
        }
    }
}

/// Rounded up: who waits as long as told is not early.
pub(super) fn whole_s(time: Duration) -> u64 {
    u64::try_from(time.as_nanos().div_ceil(1_000_000_000)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use limits::Rate;

    use super::*;

    #[test]
    fn an_answer_names_each_policy_once_with_what_is_left_of_it() {
        let (tally, mut headers) = (Tally::default(), HeaderMap::new());
        tally.put_into(&mut headers);
        assert!(headers.is_empty());
        let narrow = (Limiter::new(Rate { per_s: 1, burst: 1 }), Bucket::default());
        let wide = (Limiter::new(Rate { per_s: 100, burst: 1_000 }), Bucket::default());
        narrow.0.take(&narrow.1, 1).unwrap();
        assert!(tally.take("address", &wide.0, &wide.1).is_ok());
        let wait = tally.take("user", &narrow.0, &narrow.1).unwrap_err();
        assert!(wait <= Duration::from_secs(1));
        tally.put_into(&mut headers);
        assert_eq!(headers[RATE_LIMIT_POLICY], "\"address\";q=1000;w=10, \"user\";q=1;w=1");
        assert_eq!(headers[RATE_LIMIT], "\"address\";r=999;t=1, \"user\";r=0;t=1");
    }

    #[test]
    fn times_are_rounded_up() {
        let whole = |ms| whole_s(Duration::from_millis(ms));
        assert_eq!([whole(0), whole(1), whole(1_000), whole(1_001)], [0, 1, 1, 2]);
    }
}
