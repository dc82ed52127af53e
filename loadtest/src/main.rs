//! `loadtest`: runs benchmarks and prints what they say.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Load and benchmarks.
#[derive(Debug, Parser)]
#[command(name = "loadtest", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Measures the figures of the design, each as a ratio to its control.
    Bench(loadtest::bench::Options),
    /// Kills, stops, cuts and fills while people write, and judges what they saw.
    Chaos(loadtest::chaos::Options),
    /// Serves as a deployment of `chaos`, with a rule left out or not.
    #[command(hide = true)]
    Roles(loadtest::chaos::roles::Options),
    /// Serves as a control of `bench`, until it is killed.
    #[command(hide = true)]
    Bare { kind: loadtest::bare::Kind },
    /// Besets a running `heliograph up` for `bench`, for a while.
    #[command(hide = true)]
    Hostile(loadtest::hostile::Options),
}

fn main() -> anyhow::Result<ExitCode> {
    match Cli::parse().command {
        Command::Bench(options) => loadtest::bench::run(&options)?,
        Command::Chaos(options) => return loadtest::chaos::run(&options),
        Command::Roles(options) => loadtest::chaos::roles::serve(&options)?,
        Command::Bare { kind } => loadtest::bare::serve(kind)?,
        Command::Hostile(options) => loadtest::hostile::serve(&options)?,
    }
    Ok(ExitCode::SUCCESS)
}
