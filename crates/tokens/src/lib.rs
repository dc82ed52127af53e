//! Tokens that sign users in, and which of them are no longer good.
//!
//! ```text
//! api, cli ─ mint ▶ TokenKeys ◀ check ─ gateway, api        CONTROL ▶ Control ▶ Revocations ◀ cover ─ gateway, api
//! ```
//! It knows nothing of passwords and sockets: who gets a token, and what a revocation closes, is decided elsewhere.

mod control;
mod error;
mod grant;
mod key;
mod revocations;
mod ring;
mod ticket;

pub use control::{Control, revoke, revoke_key};
pub use error::TokenError;
pub use grant::{Grant, KeyTag, LEEWAY_S, NAME_BYTES_MAX, SignedBy, TICKET_LASTS_S_MAX, VALID_MAX, now_s};
pub use key::{ISSUER, PublicKey, TokenKeys};
pub use revocations::Revocations;
pub use ring::{KEYS_MAX, KeyRing, KeyState, KnownKey, PUBLISHED_AHEAD, Rotation};
pub use ticket::Ticket;
