//! What the load kit refuses before it starts anything, and what it lists.

#![expect(clippy::unwrap_used, reason = "a test's own functions may fail the test, as the tests do")]

use std::process::Command;

/// Exit code, output and errors of a call.
fn called(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_loadtest")).args(arguments).env_remove("CARGO").output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn a_wrong_call_is_refused_with_what_there_is() {
    for (arguments, names) in [
        (&["nothing"][..], "nothing"),
        (&["bench", "p0"], "p13"),
        (&["chaos", "--only", "earthquake"], "kill-broker"),
        (&["chaos", "--control", "luck"], "members-now"),
        (&["chaos", "--minutes", "soon"], "--minutes"),
    ] {
        let (code, output, errors) = called(arguments);
        assert_eq!((code, &*output), (Some(2), ""), "{arguments:?}: {errors}");
        assert!(errors.contains(names), "{arguments:?}: {errors}");
    }
}

#[test]
fn help_lists_every_command() {
    let (code, output, _) = called(&["--help"]);
    assert_eq!(code, Some(0));
    for command in ["bench", "chaos"] {
        assert!(
            output.lines().any(|line| line.trim_start().starts_with(&format!("{command} "))),
            "{command}: {output}"
        );
    }
}
