//! `loadtest`: runs benchmarks and prints what they say.

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
    /// Serves as a control of `bench`, until it is killed.
    #[command(hide = true)]
    Bare { kind: loadtest::bare::Kind },
    /// Besets a running `heliograph up` for `bench`, for a while.
    #[command(hide = true)]
    Hostile(loadtest::hostile::Options),
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Bench(options) => loadtest::bench::run(&options),
        Command::Bare { kind } => loadtest::bare::serve(kind),
        Command::Hostile(options) => loadtest::hostile::serve(&options),
    }
}
