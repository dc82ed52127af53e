//! Runs seeds of the simulator on a few threads and prints what fails.

#![expect(clippy::print_stdout, reason = "a command-line program")]

use std::num::NonZero;
use std::process::ExitCode;
use std::thread;
use std::time::Instant;

use clap::Parser;
use simulator::{Outcome, Switches, run, sweep};

/// Runs seeds of the simulator.
#[derive(Debug, Parser)]
struct Arguments {
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// How many seeds.
    #[arg(long, default_value_t = 10_000)]
    seeds: u64,
    /// Leaves one rule out: m1 … m22.
    #[arg(long, value_name = "RULE")]
    without: Option<String>,
    /// Prints the steps of every seed in plain words; without it only those of the first that fails.
    #[arg(long)]
    verbose: bool,
    /// Goes on after a failing seed, and prints faults only.
    #[arg(long)]
    all: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let switches = match &arguments.without {
        None => Some(Switches::ALL),
        Some(rule) => Switches::without(rule),
    };
    let Some(switches) = switches else {
        println!("there is no such rule");
        return ExitCode::from(2);
    };
    // A panic is told as the fault of its seed.
    std::panic::set_hook(Box::new(|_| {}));
    let started = Instant::now();
    if arguments.verbose {
        for seed in arguments.from..arguments.from.saturating_add(arguments.seeds) {
            print(&run(seed, switches, true));
        }
    }
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    let done = sweep(arguments.from, arguments.seeds, switches, threads, arguments.all);
    for outcome in done.failed.iter().filter(|_| arguments.all) {
        print(outcome);
    }
    println!(
        "{} seeds from {}: {} entries in {} steps, {} stopped as they must, {} failed; {:.1} s",
        done.seeds,
        arguments.from,
        done.entries,
        done.happened,
        done.halted,
        done.failed.len(),
        started.elapsed().as_secs_f64()
    );
    let Some(first) = done.failed.first() else { return ExitCode::SUCCESS };
    if !arguments.all && !arguments.verbose {
        print(&run(first.seed, switches, true));
    }
    let without = arguments.without.map_or_else(String::new, |rule| format!(" --without {rule}"));
    println!("again: cargo xtask simulate --from {} --seeds 1 --verbose{without}", first.seed);
    ExitCode::FAILURE
}

fn print(outcome: &Outcome) {
    outcome.steps.iter().for_each(|step| println!("{step}"));
    println!("seed {}: {} faults", outcome.seed, outcome.faults.len());
    outcome.faults.iter().for_each(|fault| println!("  {fault}"));
}
