//! What the gateway does, seen from outside.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![expect(clippy::wildcard_enum_match_arm, reason = "a test picks the frames that it looks at")]

mod abuse;
mod corpus;
mod rfc6455;
mod sessions;
mod socket;
mod tls;
