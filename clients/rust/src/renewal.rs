//! When the token of a live socket is renewed: well before it expires, and never in step with other clients.
//!
//! It only counts; the link asks for the token and sends it.

use std::time::Duration;

use proto::v1;
use tokio::time::Instant;

/// The request that renews; no other draws it.
pub(crate) const REQUEST: u64 = u64::MAX;
/// The part of the time left after which a new token is asked for, drawn between the two.
const EARLIEST: f64 = 0.7;
const LATEST: f64 = 0.9;
/// Until the next try where no token could be had.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// When the token of this socket is renewed.
#[derive(Debug)]
pub(crate) struct Renewal {
    at: Option<Instant>,
    /// The server's clock at some moment of ours.
    server_us: u64,
    then: Instant,
    expires_us: u64,
}

impl Renewal {
    /// For a socket that was just signed in.
    pub(crate) fn new(hello: &v1::Hello, welcome: &v1::Welcome) -> Self {
        let mut renewal = Self { at: None, server_us: hello.time_us, then: Instant::now(), expires_us: 0 };
        renewal.renewed(welcome.expires_us);
        renewal
    }

    /// When it is due; none: never.
    pub(crate) const fn at(&self) -> Option<Instant> {
        self.at
    }

    /// The server has a token that expires then, in µs since 1970 UTC by its clock.
    pub(crate) fn renewed(&mut self, expires_us: u64) {
        // The source has no newer one, or the server does not say: asking again would bring nothing.
        let is_longer = expires_us > self.expires_us;
        self.expires_us = expires_us;
        let left = Duration::from_micros(expires_us.saturating_sub(self.server_us)).saturating_sub(self.then.elapsed());
        let part = rand::random_range(EARLIEST..LATEST);
        self.at = is_longer.then(|| Instant::now() + left.mul_f64(part));
    }

    /// The frame is out; what follows is the server's to say.
    pub(crate) const fn asked(&mut self) {
        self.at = None;
    }

    /// No token could be had.
    pub(crate) fn failed(&mut self) {
        self.at = Some(Instant::now() + TRY_AGAIN);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn renewal(life: Duration) -> Renewal {
        let hello = v1::Hello { time_us: 5_000_000, ..v1::Hello::default() };
        let expires_us = 5_000_000 + u64::try_from(life.as_micros()).unwrap();
        Renewal::new(&hello, &v1::Welcome { expires_us, ..v1::Welcome::default() })
    }

    #[test]
    fn a_token_is_renewed_late_in_its_life_but_not_at_its_end() {
        let now = Instant::now();
        let at = renewal(Duration::from_secs(100)).at().unwrap();
        assert!((now + Duration::from_secs(69)..now + Duration::from_secs(91)).contains(&at));
    }

    #[test]
    fn a_source_without_a_newer_token_is_not_asked_again() {
        let mut renewal = renewal(Duration::from_secs(100));
        renewal.asked();
        assert_eq!(renewal.at(), None);
        renewal.renewed(renewal.expires_us);
        assert_eq!(renewal.at(), None);
        renewal.renewed(renewal.expires_us + 1);
        assert!(renewal.at().is_some());
    }

    #[test]
    fn a_server_that_does_not_say_is_not_asked() {
        assert_eq!(Renewal::new(&v1::Hello::default(), &v1::Welcome::default()).at(), None);
    }
}
