//! The projections' state machine: records of one partition in, one write of the models out.
//!
//! No clock, no I/O: the shell and the simulator feed inputs and run actions.

mod facts;
mod fold;
mod models;
mod rows;

pub use fold::{Action, Fold, Input, Raw};
pub use models::Models;
pub use rows::{Fact, Name, PREVIEW_BYTES, Preview, Projected, Reaction, Stay, Summary};

#[cfg(test)]
mod tests;
