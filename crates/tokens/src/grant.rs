//! What a token grants.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use domain::UserId;

/// The longest that a token may be valid: revocations are kept as long.
pub const VALID_MAX: Duration = Duration::from_hours(30 * 24);
/// Of the names of a device and of a sign-in.
pub const NAME_BYTES_MAX: usize = 128;

/// Clocks of two machines may differ this much, in seconds.
pub const LEEWAY_S: u64 = 5;
/// The longest that a ticket may be taken, in seconds.
pub const TICKET_LASTS_S_MAX: u64 = 30;

/// Stands for a key's name: the first bytes of the thumbprint that the name is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KeyTag(u64);

impl KeyTag {
    /// Of a `kid`; none: no key of a deployment has such a name.
    pub fn of(kid: &str) -> Option<Self> {
        let thumbprint: [u8; 32] = URL_SAFE_NO_PAD.decode(kid).ok()?.try_into().ok()?;
        thumbprint.first_chunk().copied().map(u64::from_be_bytes).map(Self)
    }
}

/// Whose signature a grant comes from, as far as the revocation of a key tells them apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SignedBy {
    /// A key of this deployment.
    Own(KeyTag),
    /// A key of another issuer.
    Other,
    /// Not known: a ticket stood for the token, which lasts until this second since 1970 UTC.
    Ticket(u64),
}

/// What a token grants: whom it signs in, and what its revocation may name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Grant {
    /// Who is signed in.
    pub user: UserId,
    /// The device that it is for; empty: any.
    pub device: Box<str>,
    /// The sign-in that it comes from; empty: not known.
    pub sign_in: Box<str>,
    /// When it was issued, in seconds since 1970 UTC.
    pub issued_s: u64,
    /// When it expires, in seconds since 1970 UTC.
    pub expires_s: u64,
    /// Whose signature it comes from.
    pub signed_by: SignedBy,
}

impl Grant {
    /// Whether a revocation can name it and outlives it.
    ///
    /// Revocations name tokens by when they were issued, and are forgotten once all of them have expired: one that comes
    /// from the future or stays for ever would slip through.
    pub fn is_revocable(&self) -> bool {
        self.issued_s <= now_s() + LEEWAY_S
            && self.expires_s.saturating_sub(self.issued_s) <= VALID_MAX.as_secs()
            && self.device.len() <= NAME_BYTES_MAX
            && self.sign_in.len() <= NAME_BYTES_MAX
    }
}

/// Seconds since 1970 UTC.
pub fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
