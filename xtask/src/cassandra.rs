//! Gets the Cassandra that tests of the CQL engine run, at the pinned version: its jars, and a Java to run them.
//!
//! Order: what was fetched before into `.tools`; else Maven brings the jars that the pins beside this crate in
//! `cassandra/` name: `pom.xml` with the version, `jars.sha256` with each file's hash. What does not match its hash, or
//! is not in the list, is refused. Java and Maven are not pinned: they come from the system.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{self, Command, Stdio};
use std::{env, io};

use crate::Result;
use crate::foreign::program;
use crate::process::{run, workspace};

/// Names the folder of jars for the tests.
const VARIABLE: &str = "HELIOGRAPH_CASSANDRA";
/// Names a cluster that is there instead, for the tests that break nothing.
const CLUSTER_VARIABLE: &str = "HELIOGRAPH_TEST_CQL";
/// The version that the pins name.
const VERSION: &str = "5.0.9";

/// The tests' environment. Cassandra is brought also beside a given cluster: some tests kill their node.
pub(crate) fn prepare() -> Result<Vec<(&'static str, PathBuf)>> {
    let jars = jars_and_java()?;
    if let Some(cluster) = env::var_os(CLUSTER_VARIABLE) {
        println!("on the cluster at {}", cluster.display());
    }
    Ok(vec![(VARIABLE, jars)])
}

/// The folder of jars, for a Java that is on PATH.
pub(crate) fn jars_and_java() -> Result<PathBuf> {
    program("default-jre-headless", &["java"])?;
    if let Some(given) = env::var_os(VARIABLE) {
        let given = PathBuf::from(given);
        return verify(&given).map(|()| given);
    }
    jars()
}

fn jars() -> Result<PathBuf> {
    let tools = workspace().join(".tools/cassandra");
    let fetched = tools.join(VERSION).join("lib");
    if verify(&fetched).is_ok() {
        return Ok(fetched);
    }
    let failed = |error: io::Error| format!("cannot prepare {}: {error}", tools.display());
    fs::create_dir_all(&tools).map_err(failed)?;
    // Two runs at once: the second waits here and finds what the first has fetched.
    let lock = File::create(tools.join("lock")).map_err(failed)?;
    lock.lock().map_err(failed)?;
    if verify(&fetched).is_ok() {
        return Ok(fetched);
    }
    let scratch = tools.join(format!("fetching-{}", process::id()));
    let result = fetch_into(&scratch.join("lib")).and_then(|()| {
        // Moved only when it is whole: a broken fetch leaves nothing that looks done.
        let _ = fs::remove_dir_all(tools.join(VERSION));
        fs::rename(&scratch, tools.join(VERSION)).map_err(failed)
    });
    let _ = fs::remove_dir_all(&scratch);
    result.map(|()| fetched)
}

fn fetch_into(folder: &Path) -> Result<()> {
    let maven = program("maven", &["mvn"])?;
    eprintln!("Cassandra {VERSION}: taking its jars from Maven");
    let mut maven = Command::new(maven);
    maven.args(["--quiet", "--batch-mode", "--strict-checksums", "--file"]).arg(pins().join("pom.xml"));
    maven.args(["dependency:copy-dependencies", "-DincludeScope=runtime"]);
    run(maven.arg(format!("-DoutputDirectory={}", folder.display())))?;
    verify(folder)
}

/// Whether the folder holds all jars of the list, each as it was pinned, and no other file.
fn verify(folder: &Path) -> Result<()> {
    let list = pins().join("jars.sha256");
    let pinned = fs::read_to_string(&list).map_err(|error| format!("{}: {error}", list.display()))?;
    let files = fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let names = |name: &str| pinned.lines().any(|line| line.split_once("  ").is_some_and(|(_, pinned)| pinned == name));
    if let Some(stranger) = files.flatten().find(|file| !names(&file.file_name().to_string_lossy())) {
        return Err(format!("{} is not in {}", stranger.path().display(), list.display()));
    }
    let mut sums = Command::new("sha256sum");
    sums.args(["--check", "--strict", "--quiet"]).arg(&list).current_dir(folder).stderr(Stdio::null());
    let differs = |error| format!("{} does not match {}: {error}", folder.display(), list.display());
    run(sums.stdout(Stdio::null())).map_err(differs)
}

fn pins() -> PathBuf {
    workspace().join("xtask/cassandra")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_pins_name_one_version() {
        let read = |name: &str| fs::read_to_string(pins().join(name)).unwrap();
        assert!(read("pom.xml").contains(&format!("<version>{VERSION}</version>")));
        let list = read("jars.sha256");
        assert!(list.contains(&format!("  cassandra-all-{VERSION}.jar\n")));
        assert!(list.lines().all(|line| line.split_once("  ").is_some_and(|(hash, _)| hash.len() == 64)));
    }

    #[test]
    fn jars_that_are_not_those_of_the_list_are_refused() {
        let folder = workspace().join("target/xtask-cassandra-jars");
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        assert!(verify(&folder).unwrap_err().contains("does not match"), "none is there");
        fs::write(folder.join("stranger.jar"), "x").unwrap();
        assert!(verify(&folder).unwrap_err().contains("is not in"));
        fs::remove_dir_all(&folder).unwrap();
    }
}
