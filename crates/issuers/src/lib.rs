//! Tokens of issuers outside this deployment: their keys, fetched and kept, and what their tokens grant.
//!
//! ```text
//! file ▶ Config        https ▶ fetch ▶ jwks ▶ machine::Cache ◀ token ◀ Issuers::check ─ gateway, api
//! ```
//! Which issuer's keys check a token follows from its `iss` and nothing else. A token whose key is known is checked
//! without waiting for anything; it never fetches where a token says.

mod clock;
mod config;
mod error;
mod fetch;
mod issuer;
mod issuers;
mod jwks;
mod machine;
mod token;

pub use clock::Clock;
pub use config::{Algorithm, Config, ISSUERS_MAX, IssuerConfig};
pub use error::Error;
pub use issuers::{Issuers, Setup};
pub use token::user_id;
