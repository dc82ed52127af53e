//! `check-layers`: refuses what the layers forbid, before anybody reviews it.
//!
//! - [`edges`]: which crate may depend on which, and who alone may name an engine's library.
//! - [`machines`]: what a sans-IO state machine may not name.
//!
//! ```text
//! proto ◀ domain ◀ event-log, store ◀ roles ◀ heliograph ◀ loadtest
//!       ◀ client                            ◀ simulator
//! ```

mod edges;
mod machines;
mod tokens;

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::{Result, process};

/// Checks the whole workspace; the error lists every violation.
pub(crate) fn check() -> Result<()> {
    let metadata = process::metadata()?;
    let mut wrong = edges::violations(&metadata);
    wrong.extend(edges::forbidden_packages(&resolved()?));
    let mut machines = 0;
    for file in machine_files(&metadata)? {
        let text = fs::read_to_string(&file).map_err(|error| format!("cannot read {}: {error}", file.display()))?;
        let place = file.strip_prefix(process::workspace()).unwrap_or(&file).display().to_string();
        wrong.extend(machines::violations(&place, &text));
        machines += 1;
    }
    if wrong.is_empty() {
        println!("layers: dependencies and {machines} machine files are as they may be");
        Ok(())
    } else {
        Err(format!("{}\nlayers: {} violations", wrong.join("\n"), wrong.len()))
    }
}

/// All packages that are really built, one `name version` a line; the lock file also lists ones that no feature asks for.
fn resolved() -> Result<String> {
    let mut tree = process::cargo();
    tree.args(["tree", "--workspace", "--edges", "all", "--prefix", "none", "--format", "{p}"]);
    process::output(&mut tree)
}

fn machine_files(metadata: &Value) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let manifest = package["manifest_path"].as_str().ok_or("cargo metadata names no manifest")?;
        let source = Path::new(manifest).with_file_name("src");
        let file = source.join("machine.rs");
        if file.is_file() {
            files.push(file);
        }
        let folder = source.join("machine");
        if folder.is_dir() {
            collect(&folder, &mut files).map_err(|error| format!("cannot read {}: {error}", folder.display()))?;
        }
    }
    files.sort();
    Ok(files)
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_workspace_as_it_stands_passes() {
        check().unwrap();
    }
}
