//! Child processes: their lines, their signals, their end.

use std::process::Command;
use std::time::Duration;

use testkit::{Running, wait};

const SOON: Duration = Duration::from_secs(10);
const BRIEF: Duration = Duration::from_millis(50);

fn shell(script: &str) -> Running {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    Running::start("shell", command).expect("sh is there")
}

/// Whether a process of this id still exists, zombies not counted.
fn exists(pid: u32) -> bool {
    let state = Command::new("ps").args(["-o", "stat=", "-p", &pid.to_string()]).output().expect("ps is there");
    let state = String::from_utf8(state.stdout).expect("ps prints ASCII");
    !state.trim().is_empty() && !state.trim().starts_with('Z')
}

#[tokio::test]
async fn lines_of_both_outputs_are_awaited() {
    let mut child = shell("echo to-out; echo to-err >&2; read -r _");
    child.wait_for_line(SOON, "to-out").await.unwrap();
    child.wait_for_line(SOON, "to-err").await.unwrap();
}

#[tokio::test]
async fn the_last_line_of_a_child_that_ended_is_found() {
    let mut child = shell("echo last words");
    child.wait_for_end(SOON).await.unwrap();
    assert_eq!(child.wait_for_line(SOON, "last").await.unwrap(), "last words");
}

#[tokio::test]
async fn a_child_that_ends_early_fails_the_wait_with_its_lines() {
    let mut child = shell("echo broken; exit 3");
    let error = child.wait_for_line(SOON, "ready").await.unwrap_err().to_string();
    assert!(error.contains("broken") && error.contains('3'), "{error}");
}

#[tokio::test]
async fn a_line_that_never_comes_fails_at_the_deadline() {
    let mut child = shell("echo begun; sleep 60");
    let error = child.wait_for_line(BRIEF, "ready").await.unwrap_err().to_string();
    assert!(error.contains("did not print `ready`"), "{error}");
}

#[tokio::test]
async fn a_kill_leaves_no_process() {
    let mut child = shell("exec sleep 60");
    let pid = child.pid();
    assert!(!child.kill().unwrap().success());
    assert!(!exists(pid));
    assert!(child.pause().is_err(), "no signal may go to a pid that is no longer ours");
}

#[tokio::test]
async fn a_child_may_end_in_its_own_way_on_stop() {
    let mut child = shell("trap 'echo bye; exit 7' TERM; echo up; while :; do sleep 0.01; done");
    child.wait_for_line(SOON, "up").await.unwrap();
    assert_eq!(child.stop(SOON).await.unwrap().code(), Some(7));
    assert_eq!(child.wait_for_line(SOON, "bye").await.unwrap(), "bye");
}

/// The test binary runs itself: the inner run starts a child and is killed, and its leash must end that child.
#[tokio::test]
async fn a_killed_test_process_leaves_no_child() {
    const INNER: &str = "HELIOGRAPH_TESTKIT_INNER";
    if std::env::var_os(INNER).is_some() {
        let child = shell("exec sleep 60");
        eprintln!("\nchild {}", child.pid());
        std::future::pending::<()>().await;
    }
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--nocapture", "--exact", "children::a_killed_test_process_leaves_no_child"]).env(INNER, "1");
    let mut inner = Running::start("inner test run", command).unwrap();
    let line = inner.wait_for_line(SOON, "child ").await.unwrap();
    let pid: u32 = line.trim_start_matches("child ").parse().unwrap();
    assert!(exists(pid));
    inner.kill().unwrap();
    wait::until(SOON, "the leash to end the orphan", async || !exists(pid)).await;
}
