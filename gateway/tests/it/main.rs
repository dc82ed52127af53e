//! What the gateway does, seen from outside.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod socket;
