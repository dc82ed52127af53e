//! Wrong passwords for a handle: slowed down, without shutting its owner out.
//!
//! A handle has a count for each address, and one for all of them together. Who guesses from one address stops itself
//! there. Who guesses from many empties the common count; an address that the handle signed in from lately does not ask
//! that one, so its owner goes on as ever, and from elsewhere there is one guess to be had every few seconds. Only wrong
//! passwords count, and a handle that nobody has counts like any other.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use limits::{Bucket, Keys, Limiter, client_key};

use super::allowances::names;
use super::settings::ClientLimits;

/// All handles.
#[derive(Debug)]
pub(super) struct Guesses {
    pairs: Keys<Bucket>,
    handles: Keys<Bucket>,
    known: Keys<Known>,
    of_pair: Limiter,
    of_handle: Limiter,
    known_s: u64,
    start: Instant,
}

/// An address that a handle signed in from: its guesses depend on nobody else's.
#[derive(Debug, Default)]
struct Known {
    /// Seconds since the start at which that was last so, plus one; 0: never.
    last_s: AtomicU64,
    guesses: Bucket,
}

type Pair<'a> = (&'a str, (u8, u64));

/// One password that is looked at; given back when dropped, unless it was wrong.
#[derive(Debug)]
pub(crate) struct Guess<'a> {
    guesses: &'a Guesses,
    taken: Vec<(&'a Limiter, Bucket)>,
    /// None for a client that no limit holds for.
    pair: Option<(String, (u8, u64))>,
}

impl Guesses {
    pub(super) fn new(limits: &ClientLimits) -> Self {
        Self {
            pairs: Keys::new(names("handles_and_addresses"), limits.handles_max),
            handles: Keys::new(names("handles"), limits.handles_max),
            known: Keys::new(names("known_addresses"), limits.handles_max),
            of_pair: Limiter::per_hour(limits.guesses_per_hour),
            of_handle: Limiter::per_hour(limits.handle_guesses_per_hour),
            known_s: limits.address_known_s,
            start: Instant::now(),
        }
    }

    /// # Errors
    /// How long to wait for the next guess.
    pub(super) fn begin(&self, client: Option<IpAddr>, handle: &str) -> Result<Guess<'_>, Duration> {
        let mut guess = Guess { guesses: self, taken: Vec::new(), pair: None };
        let Some(client) = client else { return Ok(guess) };
        let handle = handle.to_ascii_lowercase();
        let pair: Pair<'_> = (&handle, client_key(client));
        if let Some(known) = self.known.find(pair).filter(|known| self.is_lately(known)) {
            guess.take(&self.of_pair, &known.guesses)?;
        } else {
            guess.take(&self.of_pair, &self.pairs.get(pair))?;
            // Dropped on the way out, the guess gives the first one back.
            guess.take(&self.of_handle, &self.handles.get(&handle))?;
        }
        guess.pair = Some((handle, client_key(client)));
        Ok(guess)
    }

    fn is_lately(&self, known: &Known) -> bool {
        let last_s = known.last_s.load(Ordering::Relaxed);
        last_s > 0 && self.now_s().saturating_sub(last_s) < self.known_s
    }

    fn now_s(&self) -> u64 {
        self.start.elapsed().as_secs() + 1
    }

    pub(super) fn sweep(&self) {
        self.pairs.sweep(|bucket| self.of_pair.is_restored(bucket));
        self.handles.sweep(|bucket| self.of_handle.is_restored(bucket));
        self.known.sweep(|known| !self.is_lately(known));
    }

    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.pairs.count() + self.handles.count()
    }
}

impl<'a> Guess<'a> {
    fn take(&mut self, limiter: &'a Limiter, bucket: &Bucket) -> Result<(), Duration> {
        limiter.take(bucket, 1)?;
        self.taken.push((limiter, bucket.clone()));
        Ok(())
    }

    /// It was wrong, and counts.
    pub(crate) fn wrong(mut self) {
        self.taken.clear();
    }

    /// It was right: its address is one that the handle signs in from.
    pub(crate) fn right(self) {
        let Some((handle, client)) = &self.pair else { return };
        // Where there is no room it is not remembered: never by an entry that others share.
        if let Some(known) = self.guesses.known.own((&**handle, *client)) {
            known.last_s.store(self.guesses.now_s(), Ordering::Relaxed);
        }
    }
}

impl Drop for Guess<'_> {
    fn drop(&mut self) {
        for (limiter, bucket) in &self.taken {
            limiter.give_back(bucket, 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guesses() -> Guesses {
        Guesses::new(&ClientLimits { guesses_per_hour: 3, handle_guesses_per_hour: 9, ..ClientLimits::default() })
    }

    fn from(n: u8) -> Option<IpAddr> {
        Some([192, 0, 2, n].into())
    }

    fn wrong(guesses: &Guesses, client: Option<IpAddr>, handle: &str) -> Result<(), Duration> {
        guesses.begin(client, handle).map(Guess::wrong)
    }

    #[test]
    fn x13_one_address_stops_itself_at_a_handle_and_nobody_else() {
        let guesses = guesses();
        assert!((0..3).all(|_| wrong(&guesses, from(1), "alice").is_ok()));
        let wait = wrong(&guesses, from(1), "ALICE").unwrap_err();
        assert!((1_100..=1_200).contains(&wait.as_secs()), "a third of an hour: {wait:?}");
        assert!(wrong(&guesses, from(1), "bob").is_ok() && wrong(&guesses, from(2), "alice").is_ok());
        // Refused ones took nothing of what all share: nine in all, of which four are gone.
        assert!((3..8).all(|n| wrong(&guesses, from(n), "alice").is_ok()));
        assert!(wrong(&guesses, from(8), "alice").is_err());
    }

    #[test]
    fn x13_many_addresses_are_slowed_down_and_the_owner_is_not_locked_out() {
        let guesses = guesses();
        guesses.begin(from(200), "alice").unwrap().right();
        for n in 0..9 {
            wrong(&guesses, from(n), "alice").unwrap();
        }
        let wait = wrong(&guesses, from(100), "alice").unwrap_err();
        assert!(wait.as_secs() <= 400, "as long as one of nine in an hour takes: {wait:?}");
        for _ in 0..20 {
            guesses.begin(from(200), "Alice").expect("the owner's own address").right();
        }
        assert!(wrong(&guesses, from(200), "bob").is_ok(), "known for one handle, not for another");
        // What the owner mistypes counts, there.
        assert!((0..3).all(|_| wrong(&guesses, from(200), "alice").is_ok()));
        assert!(wrong(&guesses, from(200), "alice").is_err());
    }

    #[test]
    fn right_passwords_and_those_that_were_never_looked_at_cost_nothing() {
        let guesses = guesses();
        for _ in 0..100 {
            guesses.begin(from(1), "alice").unwrap().right();
            drop(guesses.begin(from(2), "alice").unwrap());
            assert!(wrong(&guesses, None, "alice").is_ok(), "exempt");
        }
        assert!(wrong(&guesses, from(3), "alice").is_ok());
    }

    #[test]
    fn a_known_address_is_forgotten_after_its_time() {
        let limits = ClientLimits { address_known_s: 0, ..ClientLimits::default() };
        let guesses = Guesses::new(&limits);
        guesses.begin(from(1), "alice").unwrap().right();
        guesses.sweep();
        assert_eq!(guesses.known.count(), 0);
    }
}
