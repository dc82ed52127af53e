//! `test`: gets what the tests need and runs the parts in order, each with its time; the first failure stops the run.
//!
//! A part is one row of [`PARTS`]. CI runs all of them without `--long`.

use std::env;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use crate::{Result, broker, buf, cassandra, chaos, check_layers, cluster, foreign, process};

/// Tells tests that time is no matter.
const LONG_VARIABLE: &str = "HELIOGRAPH_TEST_LONG";
/// Property tests run this many cases in the long tier instead of their own default.
const PROPERTY_CASES_LONG: &str = "4096";

/// One part of the tests.
struct Part {
    name: &'static str,
    /// What it covers, for the list that a wrong name prints.
    about: &'static str,
    /// Whether a run without a name has it; false for a part that another one covers.
    in_all: bool,
    /// Whether its tests start a nats-server.
    needs_broker: bool,
    run: fn(&Tier) -> Result<()>,
}

/// How long the parts may take, and what they share.
struct Tier {
    long: bool,
    broker: Option<std::path::PathBuf>,
}

const PARTS: &[Part] = &[
    Part {
        name: "fmt",
        about: "the format of every file",
        in_all: true,
        needs_broker: false,
        run: |tier| process::run(tier.cargo().args(["fmt", "--all", "--check"])),
    },
    Part {
        name: "layers",
        about: "which crate may name which",
        in_all: true,
        needs_broker: false,
        run: |_| check_layers::check(),
    },
    Part {
        name: "buf",
        about: "the style of the `.proto` files, and that they break nobody who speaks the published ones",
        in_all: true,
        needs_broker: false,
        run: |_| buf::check(),
    },
    Part {
        name: "clippy",
        about: "lints, as errors",
        in_all: true,
        needs_broker: false,
        run: |tier| {
            process::run(tier.cargo().args(["clippy", "--workspace", "--all-targets", "--", "--deny", "warnings"]))
        },
    },
    Part {
        name: "unit",
        about: "all tests of all crates, those of the whole path too",
        in_all: true,
        needs_broker: true,
        run: |tier| process::run(tier.cargo().args(["test", "--workspace"])),
    },
    Part {
        name: "foreign",
        about: "clients of other makers against `heliograph up`: Python, Node.js, Chromium, and HAProxy between",
        in_all: true,
        needs_broker: true,
        run: foreign_clients,
    },
    Part {
        name: "cql",
        about: "the store's suite and what only its CQL engine promises, on a real Cassandra",
        in_all: true,
        needs_broker: true,
        // Those of one package after the other: each test binary runs a node of its own.
        run: |tier| process::run(tier.ignored("cql::").envs(cassandra::prepare()?)),
    },
    Part {
        name: "chaos",
        about: "a minute of kills, pauses and cuts, and two controls that must be caught",
        in_all: true,
        needs_broker: true,
        run: |tier| chaos::run(tier.broker.as_deref()),
    },
    Part {
        name: "cluster",
        about: "terminals over a whole cluster of separate roles behind HAProxy, some of them killed; takes 3 GB",
        in_all: false,
        needs_broker: true,
        run: |tier| {
            let folder = process::target_folder()?.join("cluster");
            let cluster = |words: &[&str]| cluster::cluster(&words.iter().map(ToString::to_string).collect::<Vec<_>>());
            let talk = || process::run(tier.ignored("cluster::").env("HELIOGRAPH_CLUSTER", &folder));
            let tried = cluster(&["up", "--debug"]).and_then(|()| {
                talk()?;
                for name in ["ingest-1", "gateway-2", "nats-2"] {
                    cluster(&["kill", name])?;
                }
                talk()?;
                cluster(&["up", "--debug"])?;
                talk()
            });
            // What was started is ended, whatever came of it.
            let ended = cluster(if tried.is_ok() { &["down"] } else { &["down", "--keep"] });
            tried.and(ended)
        },
    },
    Part {
        name: "edge",
        about: "the gateway, then clients of other makers (`unit` and `foreign` have it)",
        in_all: false,
        needs_broker: true,
        run: |tier| {
            // First by itself, so that its table of cases is seen.
            process::run(tier.cargo().args([
                "test",
                "--package",
                "gateway",
                "--test",
                "it",
                "rfc6455",
                "--",
                "--nocapture",
            ]))?;
            process::run(tier.cargo().args(["test", "--package", "gateway", "--", "--skip", "rfc6455"]))?;
            foreign_clients(tier)
        },
    },
    Part {
        name: "api",
        about: "the HTTP API, alone and over a whole `heliograph up` (`unit` has it)",
        in_all: false,
        needs_broker: true,
        run: |tier| {
            process::run(tier.cargo().args(["test", "--package", "api", "--package", "tokens", "--package", "store"]))?;
            process::run(tier.cargo().args(["test", "--package", "heliograph", "--test", "it", "api::"]))
        },
    },
    Part {
        name: "simulate",
        about: "the state machines of all roles over a model broker and store (`unit` has it)",
        in_all: false,
        needs_broker: false,
        run: |tier| process::run(tier.cargo().args(["test", "--package", "simulator"])),
    },
    Part {
        name: "golden",
        about: "the wire formats against their golden files (`unit` has it)",
        in_all: false,
        needs_broker: false,
        run: |tier| process::run(tier.cargo().args(["test", "--package", "proto"])),
    },
];

fn foreign_clients(tier: &Tier) -> Result<()> {
    process::run(tier.ignored("foreign::").envs(foreign::prepare()?))
}

impl Tier {
    /// The ignored tests under this name. Over the whole workspace, though few packages have any: with some of them named,
    /// features of dependencies differ, and nearly all that `unit` has built is built once more.
    fn ignored(&self, name: &str) -> Command {
        let mut command = self.cargo();
        command.args(["test", "--workspace", "--test", "it", name, "--", "--ignored"]);
        command
    }

    fn cargo(&self) -> Command {
        let mut command = process::cargo();
        // Said by `golden` alone: a check that rewrites what it checks would never fail.
        command.env_remove("HELIOGRAPH_GOLDEN");
        if let Some(broker) = &self.broker {
            command.env(broker::VARIABLE, broker);
        }
        if self.long {
            command.env(LONG_VARIABLE, "1");
            if env::var_os("PROPTEST_CASES").is_none() {
                command.env("PROPTEST_CASES", PROPERTY_CASES_LONG);
            }
        }
        command
    }
}

/// Runs all parts or the named one; exit code 2 for a wrong call.
pub(crate) fn test(arguments: &[String]) -> ExitCode {
    let wanted = match wanted(arguments) {
        Ok(wanted) => wanted,
        Err(error) => {
            eprintln!("{error}\n\ncargo xtask test [NAME] [--long]\n");
            for part in PARTS {
                eprintln!("  {:10} {}", part.name, part.about);
            }
            return ExitCode::from(2);
        }
    };
    let begun = Instant::now();
    match run_parts(&wanted.parts, wanted.long) {
        Ok(()) => {
            println!("parts: {} passed, 0 failed in {}", wanted.parts.len(), seconds(begun.elapsed()));
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

struct Wanted {
    parts: Vec<&'static Part>,
    long: bool,
}

fn wanted(arguments: &[String]) -> Result<Wanted> {
    let mut name = None;
    let mut long = false;
    for argument in arguments {
        match argument.as_str() {
            "--long" => long = true,
            option if option.starts_with('-') => return Err(format!("there is no option `{option}`")),
            word if name.is_none() => name = Some(word),
            word => return Err(format!("one part at a time; `{word}` is one too many")),
        }
    }
    let parts: Vec<_> = PARTS.iter().filter(|part| name.map_or(part.in_all, |name| part.name == name)).collect();
    match name {
        Some(name) if parts.is_empty() => Err(format!("there is no part `{name}`")),
        _ => Ok(Wanted { parts, long }),
    }
}

fn run_parts(parts: &[&Part], long: bool) -> Result<()> {
    let broker = if parts.iter().any(|part| part.needs_broker) { Some(broker::get()?) } else { None };
    let tier = Tier { long, broker };
    for (done, part) in parts.iter().enumerate() {
        println!("== {}: {}", part.name, part.about);
        let begun = Instant::now();
        (part.run)(&tier).map_err(|error| {
            format!("== {} FAILED after {}, {done} passed before it: {error}", part.name, seconds(begun.elapsed()))
        })?;
        println!("== {} passed in {}", part.name, seconds(begun.elapsed()));
    }
    Ok(())
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(arguments: &[&str]) -> Result<(Vec<&'static str>, bool)> {
        let arguments: Vec<_> = arguments.iter().map(|&word| word.to_owned()).collect();
        let wanted = wanted(&arguments)?;
        Ok((wanted.parts.iter().map(|part| part.name).collect(), wanted.long))
    }

    #[test]
    fn without_a_name_all_parts_run() {
        assert_eq!(
            names(&[]).unwrap(),
            (vec!["fmt", "layers", "buf", "clippy", "unit", "foreign", "cql", "chaos"], false)
        );
    }

    #[test]
    fn a_name_picks_one_part() {
        assert_eq!(names(&["golden"]).unwrap(), (vec!["golden"], false));
        assert_eq!(names(&["--long", "unit"]).unwrap(), (vec!["unit"], true));
    }

    #[test]
    fn a_wrong_call_is_refused() {
        assert!(names(&["nothing"]).unwrap_err().contains("no part `nothing`"));
        assert!(names(&["--fast"]).unwrap_err().contains("no option `--fast`"));
        assert!(names(&["fmt", "unit"]).unwrap_err().contains("one too many"));
    }

    #[test]
    fn a_failing_part_is_named_and_stops_the_run() {
        let part = |name, run| Part { name, about: "", in_all: true, needs_broker: false, run };
        let first = part("first", |_| Ok(()));
        let second = part("second", |_| Err("planted".to_owned()));
        let third = part("third", |_| panic!("must not run"));
        let error = run_parts(&[&first, &second, &third], false).unwrap_err();
        assert!(error.contains("second FAILED") && error.contains("1 passed") && error.contains("planted"), "{error}");
    }
}
