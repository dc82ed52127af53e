//! X28: the description of the HTTP API, put to the test by `schemathesis` with all its checks.
//!
//! It sends what the description allows and what it does not, without and with false tokens, and in sequences; it
//! judges statuses, media types, headers and bodies by the description. `clients/foreign/schemathesis/` says who asks.

use std::path::Path;
use std::process::Command;

use heliograph::folder;

use super::{SCRIPTS, given, succeeds};
use crate::process::Up;

/// What ends the sign-in that asks for it; each of these requests has an account of its own.
const ENDS_SIGN_INS: &str = "sign-ins(/current)?$|/me/password$";
/// Cases of each operation, beside those that follow from the description alone.
const CASES: &str = "30";

/// Puts the operations to the test that `arguments` name.
async fn check(arguments: &[&str], each_its_own_account: bool) {
    let mut up = Up::new();
    let mut command = up.command();
    // Each account is made from an address of its own: limits are judged elsewhere.
    command.args(["--trusted-proxy", "127.0.0.1/32"]);
    up.start_with(command).await;
    let api = format!("http://{}", folder::api(up.folder()).unwrap());

    let mut schemathesis = Command::new(Path::new(&given("HELIOGRAPH_FOREIGN_PYTHON")).with_file_name("schemathesis"));
    let scripts = format!("{SCRIPTS}/schemathesis");
    // Where it leaves what it found.
    schemathesis.current_dir(up.folder());
    schemathesis.args(["--config-file", &format!("{scripts}/schemathesis.toml"), "run"]);
    schemathesis.arg(format!("{api}/v1/openapi.json")).args(["--checks", "all", "--max-examples", CASES]);
    // The same cases each time: what is found is found again.
    schemathesis.args(["--seed", "1"]).args(arguments).env("NO_COLOR", "1");
    schemathesis.env("SCHEMATHESIS_HOOKS", "accounts").env("PYTHONPATH", &scripts).env("HELIOGRAPH_API", &api);
    schemathesis.env("PYTHONDONTWRITEBYTECODE", "1").env_remove("EACH_ITS_OWN");
    if each_its_own_account {
        schemathesis.env("EACH_ITS_OWN", "1");
    }
    succeeds("schemathesis", schemathesis).await;
    up.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Python with `schemathesis`: `cargo xtask test foreign`"]
async fn x28_schemathesis_finds_no_fault() {
    check(&["--exclude-path-regex", ENDS_SIGN_INS], false).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Python with `schemathesis`: `cargo xtask test foreign`"]
async fn x28_schemathesis_finds_no_fault_in_what_ends_sign_ins() {
    check(&["--include-path-regex", ENDS_SIGN_INS], true).await;
}
