//! The keys of one issuer over time: which are used, when it is asked for them, and until when they last.
//!
//! It neither waits nor fetches, and knows no clock: each call says what time it is.

use std::sync::Arc;
use std::time::Duration;

use crate::jwks::{Key, Keys};

/// Keys that are older are asked for again.
const REFRESH_EVERY: Duration = Duration::from_hours(1);
/// However badly it goes, keys that are old are asked for once in this time; and so are names of keys that are not
/// known, whoever comes with them. The two are apart, so that a rotation right behind a refresh is found at once.
const ASK_EVERY: Duration = Duration::from_mins(1);

/// The keys of one issuer over time.
#[derive(Debug)]
pub(crate) struct Cache {
    lasts: Duration,
    held: Option<Held>,
    /// When it was asked because the keys were old.
    refreshed_at: Option<Duration>,
    /// When it was asked because a key was missed.
    missed_at: Option<Duration>,
    is_asking: bool,
    is_failing: bool,
}

#[derive(Debug)]
struct Held {
    keys: Keys,
    since: Duration,
}

/// What is known of a key.
#[derive(Debug)]
pub(crate) enum Found {
    /// This is it.
    Key(Arc<Key>),
    /// The issuer had none of this name.
    Unknown,
    /// The keys of the issuer are not known.
    NoKeys,
}

/// What somebody does who misses a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Missing {
    /// Asks the issuer.
    Ask,
    /// Waits for who asks already.
    Wait,
    /// Goes without: it was asked a moment ago.
    GoWithout,
}

impl Cache {
    /// Nothing is known yet; keys are used for so long after they were fetched.
    pub(crate) const fn new(lasts: Duration) -> Self {
        Self { lasts, held: None, refreshed_at: None, missed_at: None, is_asking: false, is_failing: false }
    }

    pub(crate) fn find(&self, kid: &str, now: Duration) -> Found {
        match &self.held {
            Some(held) if now.saturating_sub(held.since) < self.lasts => {
                held.keys.get(kid).cloned().map_or(Found::Unknown, Found::Key)
            }
            // A key that its owner took back a while ago would still let everybody in.
            Some(_) | None => Found::NoKeys,
        }
    }

    pub(crate) fn missing(&mut self, now: Duration) -> Missing {
        if self.is_asking {
            Missing::Wait
        } else if may_ask(self.missed_at, now) {
            (self.missed_at, self.is_asking) = (Some(now), true);
            Missing::Ask
        } else {
            Missing::GoWithout
        }
    }

    /// Whether the issuer is asked now because its keys are old or not known.
    pub(crate) fn is_due(&mut self, now: Duration) -> bool {
        let is_old = self.held.as_ref().is_none_or(|held| now.saturating_sub(held.since) >= REFRESH_EVERY);
        let is_due = is_old && !self.is_asking && may_ask(self.refreshed_at, now);
        if is_due {
            (self.refreshed_at, self.is_asking) = (Some(now), true);
        }
        is_due
    }

    /// Nobody asks any more.
    pub(crate) const fn ended(&mut self) {
        self.is_asking = false;
    }

    /// These are its keys now, all others are not; whether it could not be asked before.
    pub(crate) fn fetched(&mut self, keys: Keys, now: Duration) -> bool {
        self.held = Some(Held { keys, since: now });
        std::mem::take(&mut self.is_failing)
    }

    /// It could not be asked; whether it could before.
    pub(crate) const fn failed(&mut self) -> bool {
        !std::mem::replace(&mut self.is_failing, true)
    }
}

fn may_ask(asked_at: Option<Duration>, now: Duration) -> bool {
    asked_at.is_none_or(|asked| now.saturating_sub(asked) >= ASK_EVERY)
}
