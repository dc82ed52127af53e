//! Issuers as they are: a real HTTP server that gives keys, is down, slow or wrong, and tokens signed by hand.
//!
//! ```text
//! source  the server of an issuer's keys
//! signer  signs whatever headers and claims, and publishes its public half
//! ```

#![expect(clippy::unwrap_used, reason = "what fails in a test ends it, and says where")]

mod keys;
mod signer;
mod source;
mod tokens_of_others;
