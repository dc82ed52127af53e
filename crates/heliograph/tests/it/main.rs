//! The whole path: real sockets, a real broker, the embedded store; what clients saw is judged by the checker.
//!
//! ```text
//! eyes     a client's observer → checker::Recorder
//! cast     devices of one run, their tokens, and the verdict at its end
//! world    every role in this process, two gateways over one log and store
//! process  `heliograph up` as a child process
//! ```

#![expect(clippy::unwrap_used, reason = "what fails in a test ends it, and says where")]

mod cast;
mod process;
mod world;

mod admin;
mod admission;
mod api;
mod broker;
mod cluster;
mod cql;
mod crash_points;
mod epochs;
mod external_issuers;
mod foreign;
mod full_disk;
mod given_tokens;
mod kills;
mod membership;
mod messages;
mod protocol_page;
mod resends;
mod revoke;
mod rivals;
mod rolling;
mod settings;
mod slow;
mod stale_owner;
mod start;
mod tls;
