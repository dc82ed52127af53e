//! `fuzz`: gets cargo-fuzz and runs the targets one after the other, each for a while.
//!
//! The targets and their corpus stand in `fuzz/`, a workspace of its own. New inputs go to `fuzz/found/TARGET`, which
//! nobody commits. What is worth keeping is merged into the corpus, which stays small, from `fuzz/`:
//! `cargo +nightly fuzz run TARGET corpus/TARGET found/TARGET -- -merge=1 -use_counters=0`.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Result, process};

/// The version that is installed if it is not there.
const CARGO_FUZZ: &str = "0.13.2";
const SECONDS: u32 = 600;
/// One input that takes longer is a finding.
const INPUT_SECONDS_MAX: u32 = 20;
/// Longest input: what a signed-in client may send, with room for its header and the input's own.
const INPUT_BYTES_MAX: u32 = 65_600;

/// Runs all targets or the named one.
pub(crate) fn fuzz(arguments: &[String]) -> Result<()> {
    let folder = process::workspace().join("fuzz");
    let wanted = wanted(arguments, &targets(&folder)?)?;
    let path = path_with(&installed()?)?;
    for target in &wanted.targets {
        println!("== {target}: {} s", wanted.seconds);
        let found = folder.join("found").join(target);
        fs::create_dir_all(&found).map_err(|error| format!("cannot make {}: {error}", found.display()))?;
        let mut cargo = cargo_fuzz(&folder, &path);
        // The first folder takes what is new, the second one is only read.
        cargo.args(["run", target]).arg(&found).arg(folder.join("corpus").join(target)).arg("--");
        cargo.arg(format!("-max_total_time={}", wanted.seconds));
        cargo.args([format!("-timeout={INPUT_SECONDS_MAX}"), format!("-max_len={INPUT_BYTES_MAX}")]);
        process::run(&mut cargo)?;
    }
    Ok(())
}

#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    targets: Vec<String>,
    seconds: u32,
}

fn wanted(arguments: &[String], all: &[String]) -> Result<Wanted> {
    let mut wanted = Wanted { targets: Vec::new(), seconds: SECONDS };
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--seconds" => {
                let seconds = arguments.next().and_then(|seconds| seconds.parse().ok()).filter(|seconds| *seconds > 0);
                wanted.seconds = seconds.ok_or("--seconds needs a number above 0")?;
            }
            option if option.starts_with('-') => return Err(format!("there is no option `{option}`")),
            target if all.iter().any(|known| known == target) => wanted.targets.push(target.to_owned()),
            target => return Err(format!("there is no target `{target}`, but {}", all.join(", "))),
        }
    }
    if wanted.targets.is_empty() {
        wanted.targets = all.to_vec();
    }
    Ok(wanted)
}

/// The targets are the files of `fuzz/fuzz_targets`.
fn targets(folder: &Path) -> Result<Vec<String>> {
    let folder = folder.join("fuzz_targets");
    let failed = |error| format!("cannot read {}: {error}", folder.display());
    let mut targets = Vec::new();
    for entry in fs::read_dir(&folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|extension| extension == "rs")
            && let Some(name) = path.file_stem().and_then(|name| name.to_str())
        {
            targets.push(name.to_owned());
        }
    }
    targets.sort();
    Ok(targets)
}

/// The folder with the cargo-fuzz binary, installed if it is not there.
fn installed() -> Result<PathBuf> {
    let root = process::workspace().join(".tools/cargo-fuzz").join(CARGO_FUZZ);
    let folder = root.join("bin");
    if !folder.join(format!("cargo-fuzz{}", env::consts::EXE_SUFFIX)).is_file() {
        let mut install = process::cargo();
        install.args(["install", "cargo-fuzz", "--version", CARGO_FUZZ, "--locked", "--root"]).arg(&root);
        process::run(&mut install)?;
    }
    Ok(folder)
}

fn path_with(folder: &Path) -> Result<std::ffi::OsString> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::join_paths(std::iter::once(folder.to_owned()).chain(env::split_paths(&path)))
        .map_err(|error| format!("cannot put {} on PATH: {error}", folder.display()))
}

/// `cargo +nightly fuzz`: rustup's cargo, not the one that runs us, since only that knows toolchains.
fn cargo_fuzz(folder: &Path, path: &std::ffi::OsStr) -> Command {
    let mut cargo = Command::new("cargo");
    cargo.args(["+nightly", "fuzz"]).current_dir(folder).env("PATH", path);
    for of_our_toolchain in ["CARGO", "RUSTC", "RUSTDOC", "RUSTUP_TOOLCHAIN"] {
        cargo.env_remove(of_our_toolchain);
    }
    cargo
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(arguments: &[&str]) -> Result<(Vec<String>, u32)> {
        let arguments: Vec<_> = arguments.iter().map(|&word| word.to_owned()).collect();
        let wanted = wanted(&arguments, &["a".to_owned(), "b".to_owned()])?;
        Ok((wanted.targets, wanted.seconds))
    }

    #[test]
    fn without_a_name_all_targets_run_for_ten_minutes() {
        assert_eq!(parsed(&[]).unwrap(), (vec!["a".to_owned(), "b".to_owned()], 600));
    }

    #[test]
    fn a_name_and_a_time_are_taken_in_any_order() {
        assert_eq!(parsed(&["--seconds", "5", "b"]).unwrap(), (vec!["b".to_owned()], 5));
        assert_eq!(parsed(&["b", "--seconds", "5"]).unwrap(), (vec!["b".to_owned()], 5));
    }

    #[test]
    fn a_wrong_call_is_refused() {
        assert!(parsed(&["c"]).unwrap_err().contains("no target `c`"));
        assert!(parsed(&["--fast"]).unwrap_err().contains("no option `--fast`"));
        assert!(parsed(&["--seconds", "0"]).is_err());
        assert!(parsed(&["--seconds"]).is_err());
    }

    #[test]
    fn each_target_has_its_body_and_its_corpus() {
        let folder = process::workspace().join("fuzz");
        let targets = targets(&folder).unwrap();
        assert!(!targets.is_empty());
        for target in targets {
            assert!(folder.join("bodies").join(format!("{target}.rs")).is_file(), "{target} has no body");
            assert!(folder.join("corpus").join(&target).is_dir(), "{target} has no corpus");
        }
    }
}
