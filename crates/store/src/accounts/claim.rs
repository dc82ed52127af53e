//! What an HTTP `Idempotency-Key` was first used for.

use domain::{ChatId, Micros, Seq, UserId};

use super::check_key;
use crate::Error;

/// Most bytes of an `Idempotency-Key`: what HTTP services commonly take.
pub const IDEMPOTENCY_KEY_BYTES_MAX: usize = 255;
/// How long a claim holds: a day, after which no client repeats a request.
pub const SEND_CLAIM_KEPT_US: Micros = 24 * 60 * 60 * 1_000_000;

/// What is known of a command's end. What is stored stands above any rejection (M13).
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum SendOutcome {
    /// Nobody has noted it: not decided, or not heard of.
    #[default]
    Unknown,
    /// The chat decided against it.
    Rejected {
        /// The number of the protocol's table of errors.
        code: u32,
    },
    /// In the chat for good.
    Stored {
        /// The chat; of a direct one that was there already, another than the claim names.
        chat: ChatId,
        /// The entry's seq.
        seq: Seq,
        /// The entry's time.
        time: Micros,
    },
}

/// What an `Idempotency-Key` was first used for: the command that each repetition of the request becomes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SendClaim {
    /// Who sends.
    pub user: UserId,
    /// The `Idempotency-Key`, one of this user's.
    pub key: Box<str>,
    /// Where the message goes.
    pub chat: ChatId,
    /// The command's origin.
    pub origin: u64,
    /// Its number there.
    pub n: u64,
    /// Its basis.
    pub basis: Seq,
    /// Of the request's body: another body under one key is another request.
    pub fingerprint: u128,
    /// When the key was first used, µs since 1970.
    pub at_us: Micros,
    /// What became of it; noted by [`crate::Store::settle_send`] alone.
    pub outcome: SendOutcome,
}

impl SendClaim {
    pub(crate) fn check(&self) -> Result<(), Error> {
        check_idempotency_key(&self.key)
    }

    /// Whether the claim still holds at `now_us`. A clock that went back makes no claim old.
    pub fn holds_at(&self, now_us: Micros) -> bool {
        now_us.saturating_sub(self.at_us) <= SEND_CLAIM_KEPT_US
    }
}

/// Whether this may be an `Idempotency-Key`.
pub(crate) fn check_idempotency_key(key: &str) -> Result<(), Error> {
    check_key("an idempotency key", key, IDEMPOTENCY_KEY_BYTES_MAX)
}
