//! The gateway's protocols as sans-IO state machines.
//!
//! [`Tracker`] keeps what the delivery owners know of this gateway's sessions, and notices every push that it missed; [`Pushes`] numbers what one
//! session is pushed, so that it can go on over another socket.

mod pushes;
mod tracker;

pub use pushes::{Kept, Pushes};
pub use tracker::{Tracker, TrackerAction, TrackerInput};
