//! `check-layers`: refuses a dependency or a name that the layers forbid.
//!
//! `proto` ← `domain` ← `event-log`, `store` ← roles ← the binary. Roles never import each other. What each package of
//! ours may depend on is one row of [`ALLOWED`]; a package without a row is refused until someone gives it one.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::{Result, process};

const ROLE: &[&str] = &["proto", "domain", "event-log", "store"];

/// Package → packages of ours that it may depend on outside tests.
const ALLOWED: &[(&str, &[&str])] = &[
    ("proto", &[]),
    ("domain", &["proto"]),
    ("event-log", &["proto", "domain"]),
    ("store", &["proto", "domain"]),
    ("telemetry", &[]),
    ("testkit", &[]),
    ("checker", &[]),
    ("client", &["proto"]),
    ("gateway", ROLE),
    ("ingest", ROLE),
    ("delivery", ROLE),
    ("projections", ROLE),
    ("xtask", &[]),
];

/// What tests may use besides.
const TESTS: &[&str] = &["testkit", "checker", "client"];

/// Library → the only packages that may name it outside tests.
const OWNERS: &[(&str, &[&str])] = &[
    ("async-nats", &["event-log", "testkit", "loadtest"]),
    ("scylla", &["store"]),
    ("fjall", &["store"]),
    ("fastwebsockets", &["gateway"]),
];

/// What a sans-IO state machine must not name: I/O, clocks, chance, and maps whose order differs from run to run.
const IMPURE: &[&str] =
    &["tokio", "event_log", "store::", "Instant::now", "SystemTime", "rand::", "HashMap", "HashSet"];

/// Checks the workspace as it is.
pub(crate) fn check() -> Result<()> {
    let mut faults = faults_of_edges(&process::metadata()?);
    for folder in ["gateway", "ingest", "delivery", "projections", "clients/rust"] {
        for file in rust_files(&process::workspace().join(folder).join("src/machine"))? {
            let text = fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?;
            faults.extend(faults_of_machine(&file.display().to_string(), &text));
        }
    }
    if faults.is_empty() { Ok(()) } else { Err(faults.join("\n")) }
}

fn faults_of_edges(metadata: &Value) -> Vec<String> {
    let packages: Vec<&Value> = metadata["packages"].as_array().into_iter().flatten().collect();
    let ours: Vec<&str> = packages.iter().filter_map(|package| package["name"].as_str()).collect();
    let mut faults = Vec::new();
    for package in packages {
        let name = package["name"].as_str().unwrap_or_default();
        let Some((_, allowed)) = ALLOWED.iter().find(|(row, _)| *row == name) else {
            faults.push(format!("`{name}` has no row in the table of layers"));
            continue;
        };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let on = dependency["name"].as_str().unwrap_or_default();
            let in_tests = dependency["kind"].as_str() == Some("dev");
            let is_ours = ours.contains(&on) || ALLOWED.iter().any(|(row, _)| *row == on);
            if is_ours && !allowed.contains(&on) && !(in_tests && TESTS.contains(&on)) {
                faults.push(format!("`{name}` must not depend on `{on}`"));
            }
            let owners = OWNERS.iter().find(|(library, _)| *library == on).map(|(_, owners)| owners);
            if owners.is_some_and(|owners| !in_tests && !owners.contains(&name)) {
                faults.push(format!("`{name}` must not name `{on}`"));
            }
        }
    }
    faults
}

fn faults_of_machine(file: &str, text: &str) -> Vec<String> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//"));
    lines
        .flat_map(|(at, line)| {
            let names = IMPURE.iter().filter(|name| line.contains(**name));
            names.map(move |name| format!("{file}:{}: a state machine must not name `{name}`", at + 1))
        })
        .collect()
}

/// All `.rs` files below a folder; none where there is no such folder.
fn rust_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = if folder.is_dir() { vec![folder.to_owned()] } else { Vec::new() };
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))? {
            let path = entry.map_err(|error| format!("{}: {error}", folder.display()))?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                files.push(path);
            }
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn package(name: &str, on: &str, kind: &Value) -> Value {
        json!({"packages": [{"name": name, "dependencies": [{"name": on, "kind": kind}]}]})
    }

    #[test]
    fn each_forbidden_edge_is_refused() {
        for (name, on) in [
            ("gateway", "ingest"),
            ("domain", "store"),
            ("client", "domain"),
            ("testkit", "gateway"),
            ("gateway", "async-nats"),
            ("ingest", "fjall"),
            ("delivery", "fastwebsockets"),
            ("unheard-of", "serde"),
        ] {
            assert_eq!(faults_of_edges(&package(name, on, &Value::Null)).len(), 1, "{name} → {on}");
        }
    }

    #[test]
    fn allowed_edges_and_those_of_tests_pass() {
        assert!(faults_of_edges(&package("gateway", "store", &Value::Null)).is_empty());
        assert!(faults_of_edges(&package("gateway", "testkit", &json!("dev"))).is_empty());
        assert_eq!(faults_of_edges(&package("gateway", "testkit", &Value::Null)).len(), 1);
    }

    #[test]
    fn an_impure_machine_is_refused() {
        assert_eq!(faults_of_machine("m.rs", "use tokio::time;\nlet now = Instant::now();").len(), 2);
        assert!(faults_of_machine("m.rs", "// tokio runs this\nlet x = BTreeMap::new();").is_empty());
    }
}
