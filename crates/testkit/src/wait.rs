//! Waits for a condition with a deadline, so that no test sleeps.
//!
//! The condition is asked again every few milliseconds; at the deadline the test panics and says what it waited for.

use std::future::Future;
use std::panic::Location;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

/// First pause between two questions; it doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(1);
/// Longest pause between two questions: short beside any deadline that a test uses.
const LONGEST_PAUSE: Duration = Duration::from_millis(25);

/// What a condition may answer: `bool`, or an `Option` whose value is handed on.
pub trait Answer {
    /// What the caller gets once the condition holds.
    type Value;
    /// The value if the condition holds now.
    fn ready(self) -> Option<Self::Value>;
}

impl Answer for bool {
    type Value = ();
    fn ready(self) -> Option<()> {
        self.then_some(())
    }
}

impl<T> Answer for Option<T> {
    type Value = T;
    fn ready(self) -> Option<T> {
        self
    }
}

/// Waits until `check` answers `true` or `Some`, and panics at the deadline.
///
/// The panic names `what` and the caller's line. A check that itself hangs is cut at the deadline.
#[track_caller]
pub fn until<A, F>(deadline: Duration, what: &str, mut check: F) -> impl Future<Output = A::Value>
where
    A: Answer,
    F: AsyncFnMut() -> A,
{
    let caller = Location::caller();
    async move {
        let end = Instant::now() + deadline;
        let mut pause = FIRST_PAUSE;
        let mut asked = 0_u32;
        loop {
            match timeout_at(end, check()).await {
                Ok(answer) => {
                    if let Some(value) = answer.ready() {
                        return value;
                    }
                }
                Err(_) => panic!("{caller}: check {} for `{what}` hung until the {deadline:?} were over", asked + 1),
            }
            asked += 1;
            assert!(Instant::now() < end, "{caller}: waited {deadline:?} for: {what} (asked {asked} times)");
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(30);

    #[tokio::test]
    async fn a_condition_that_comes_true_ends_the_wait() {
        let mut left = 3;
        until(Duration::from_secs(5), "three questions", async || {
            left -= 1;
            left == 0
        })
        .await;
        assert_eq!(left, 0);
    }

    #[tokio::test]
    async fn the_value_is_handed_on() {
        assert_eq!(until(SHORT, "a value", async || Some(7)).await, 7);
    }

    #[tokio::test]
    #[should_panic(expected = "for: what never comes")]
    async fn the_deadline_panics_with_what_was_awaited() {
        until(SHORT, "what never comes", async || false).await;
    }

    #[tokio::test]
    #[should_panic(expected = "for `a stuck check` hung")]
    async fn a_check_that_hangs_is_cut() {
        until(SHORT, "a stuck check", async || std::future::pending::<bool>().await).await;
    }
}
