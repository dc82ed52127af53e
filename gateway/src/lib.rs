//! Sockets on one side, the command log and pushes on the other.
//!
//! ```text
//! accept → handshake → session → inbound ; outbound, resume, drain, close (codes), frame_guard
//! ```

pub mod socket;
