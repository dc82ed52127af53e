//! `simulate`: builds the simulator and runs seeds of it; what it can be told stands in `crates/simulator/src/main.rs`.

use crate::{Result, process};

/// Runs the simulator with these arguments.
///
/// Built as the tests are: optimised, but an overflow or a broken assertion still ends the seed.
pub(crate) fn simulate(arguments: &[String]) -> Result<()> {
    let mut simulator = process::cargo();
    simulator.args(["run", "--quiet", "--package", "simulator", "--"]).args(arguments);
    process::run(&mut simulator)
}
