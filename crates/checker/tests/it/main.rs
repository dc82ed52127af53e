//! The checker against correct histories, which it must pass, and planted faults, which it must name.

#![expect(clippy::unwrap_used, reason = "a test that finds nothing there fails, as it should")]
#![expect(clippy::wildcard_enum_match_arm, reason = "a planted fault concerns one kind of line and leaves all others")]

mod faults;
mod histories;
mod rules;
mod versions;
mod world;
