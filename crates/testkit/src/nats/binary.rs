//! Finds the nats-server binary that the tests run.
//!
//! Order: `HELIOGRAPH_NATS_SERVER`, what `cargo xtask` fetched into `.tools`, then a new enough one on PATH.
//! Nothing is fetched from here.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::{env, fs};

use anyhow::{Result, bail};

const VARIABLE: &str = "HELIOGRAPH_NATS_SERVER";
/// The oldest server that the log's stream settings are tested on.
const OLDEST: (u32, u32) = (2, 15);

/// The path of a nats-server of 2.15 or newer.
pub fn find() -> Result<PathBuf> {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    if let Some(path) = FOUND.get() {
        return Ok(path.clone());
    }
    let path = search()?;
    Ok(FOUND.get_or_init(|| path).clone())
}

fn search() -> Result<PathBuf> {
    if let Some(given) = env::var_os(VARIABLE) {
        let path = PathBuf::from(given);
        if version_of(&path).is_none() {
            bail!("{VARIABLE} is {}, which does not run as a nats-server", path.display());
        }
        return Ok(path);
    }
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let fetched = fetched(&workspace.join(".tools/nats-server"));
    let on_path = env::var_os("PATH")
        .into_iter()
        .flat_map(|paths| env::split_paths(&paths).collect::<Vec<_>>())
        .map(|folder| folder.join("nats-server"));
    let found = fetched.into_iter().chain(on_path).find(|path| new_enough(path));
    match found {
        Some(path) => Ok(path),
        None => bail!(
            "no nats-server {}.{} or newer: not in .tools, not on PATH, and {VARIABLE} is not set; `cargo xtask test` \
             fetches one",
            OLDEST.0,
            OLDEST.1
        ),
    }
}

/// What lies in the tools folder, one sub-folder a version, newest first.
fn fetched(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut found: Vec<_> = entries
        .flatten()
        .filter_map(|entry| Some((numbers(entry.file_name().to_str()?)?, entry.path().join("nats-server"))))
        .collect();
    found.sort_by(|a, b| b.cmp(a));
    found.into_iter().map(|(_, path)| path).collect()
}

fn new_enough(path: &Path) -> bool {
    path.is_file() && version_of(path).is_some_and(|(major, minor, _)| (major, minor) >= OLDEST)
}

fn version_of(path: &Path) -> Option<(u32, u32, u32)> {
    let output = Command::new(path).arg("--version").output().ok()?;
    // Printed as `nats-server: v2.15.1`.
    numbers(String::from_utf8(output.stdout).ok()?.trim().strip_prefix("nats-server: v")?)
}

/// `2.15.1` or `2.15.1-RC.1` as numbers.
fn numbers(text: &str) -> Option<(u32, u32, u32)> {
    let mut parts = text.split('-').next()?.split('.').map(|part| part.parse().ok());
    Some((parts.next()??, parts.next()??, parts.next()??))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_numbers() {
        assert_eq!(numbers("2.15.1"), Some((2, 15, 1)));
        assert_eq!(numbers("2.15.1-RC.1"), Some((2, 15, 1)));
        assert_eq!(numbers("tmp"), None);
        assert!(numbers("2.9.10") < numbers("2.15.0"));
    }
}
