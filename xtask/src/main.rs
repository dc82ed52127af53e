//! The project's own commands: all that a machine with cargo needs to build, test and try Heliograph.
//!
//! `cargo xtask help` lists them. Each command is a file of that name; nothing here is part of the product.

#![expect(clippy::print_stdout, reason = "a command-line program")]

mod broker;
mod buf;
mod cassandra;
mod chaos;
mod check_layers;
mod cluster;
mod foreign;
mod fuzz;
#[cfg(test)]
mod infra;
mod npm;
mod process;
mod simulate;
mod test;
mod up;

use std::process::{Command, ExitCode};

/// Errors are texts for the person who typed the command.
type Result<T> = std::result::Result<T, String>;

const HELP: &str = "\
cargo xtask COMMAND

  up [ARGS…]                     gets a nats-server, builds, and runs every role on this machine;
                                 ARGS go to `heliograph up`
  test [NAME] [--long]           gets what the tests need and runs all parts, or one
  simulate [ARGS…]               runs the real state machines over a model broker and store, seed by seed:
                                 --from N --seeds M, --without RULE, --verbose
  fuzz [TARGET] [--seconds N]    runs the fuzz targets, or one, for N seconds each (600); gets cargo-fuzz, needs the
                                 nightly toolchain
  cluster up|status|kill|down    three brokers, Cassandra, HAProxy and two processes of each role on this machine;
                                 docs/operating.md has how
  check-layers                   refuses a dependency or a name that the layers forbid
  golden                         writes the golden files of the wire formats and schemas/*.json anew
  baseline                       publishes the wire schema: later changes are checked against it
  help                           this text

HELIOGRAPH_NATS_SERVER names a nats-server to use instead of a fetched one.
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (command, rest) = match arguments.split_first() {
        Some((command, rest)) => (command.as_str(), rest),
        None => ("help", &[][..]),
    };
    let done = match command {
        "up" => up::up(rest),
        "test" => return test::test(rest),
        "simulate" => simulate::simulate(rest),
        "fuzz" => fuzz::fuzz(rest),
        "cluster" => cluster::cluster(rest),
        "check-layers" => check_layers::check(),
        "golden" => golden(),
        "baseline" => buf::publish(),
        "help" | "--help" | "-h" => {
            print!("{HELP}");
            Ok(())
        }
        other => {
            eprintln!("there is no command `{other}`\n\n{HELP}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// The golden tests rewrite their files when they are told to; the change is then reviewed like any other.
fn golden() -> Result<()> {
    let mut tests = process::cargo();
    tests.args(["test", "--workspace", "--test", "golden", "--test", "asyncapi"]).env("HELIOGRAPH_GOLDEN", "rewrite");
    process::run(&mut tests)?;
    let mut tests = process::cargo();
    tests.args(["test", "--workspace", "--test", "it", "api::description"]).env("HELIOGRAPH_GOLDEN", "rewrite");
    process::run(&mut tests)?;
    let mut changed = Command::new("git");
    changed.args(["status", "--short", "--", "proto", "schemas"]).current_dir(process::workspace());
    process::run(&mut changed)
}
