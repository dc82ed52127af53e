//! A cluster that runs already, of separate roles behind `HAProxy`: `cargo xtask test cluster` brings it.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use testkit::wait::until;

/// Also while the owner of a partition was killed a moment ago, beside a build.
const SOON: Duration = Duration::from_secs(60);

/// The folder of `cargo xtask cluster`.
fn cluster() -> PathBuf {
    std::env::var_os("HELIOGRAPH_CLUSTER").expect("HELIOGRAPH_CLUSTER names the cluster's folder").into()
}

/// `heliograph chat` as a person has it, but for the screen.
struct Terminal {
    child: Child,
    keyboard: ChildStdin,
    screen: Arc<Mutex<Vec<String>>>,
}

impl Terminal {
    fn of(name: &str, other: &str) -> Self {
        let cluster = cluster();
        let state: Value = serde_json::from_slice(&std::fs::read(cluster.join("state.json")).unwrap()).unwrap();
        let port = &state["haproxy"]["ports"]["listen"];
        let mut chat = Command::new(env!("CARGO_BIN_EXE_heliograph"));
        chat.args(["chat", "--as", name, "--to", other, "--address", &format!("wss://127.0.0.1:{port}")]);
        chat.arg("--trusted-authority").arg(cluster.join("haproxy/authority.pem"));
        chat.arg("--data").arg(cluster.join("gateway-1"));
        chat.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = chat.spawn().unwrap();
        let (keyboard, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let screen = Arc::<Mutex<Vec<String>>>::default();
        let shown = Arc::clone(&screen);
        // Ends with the child.
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                shown.lock().unwrap().push(line);
            }
        });
        Self { child, keyboard, screen }
    }

    async fn reads(&self, text: &str) {
        until(SOON, &format!("`{text}` on a screen"), async || {
            self.screen.lock().unwrap().iter().any(|line| line.contains(text))
        })
        .await;
    }

    fn types(&mut self, text: &str) {
        writeln!(self.keyboard, "{text}").unwrap();
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: `cargo xtask test cluster`"]
async fn two_terminals_talk_through_the_proxy() {
    let (mut alice, mut bob) = (Terminal::of("alice", "bob"), Terminal::of("bob", "alice"));
    alice.reads("in the chat with bob").await;
    bob.reads("in the chat with alice").await;
    // The same two may have talked before.
    let [hello, answer] = ["hello bob", "hello alice"].map(|text| format!("{text} {:08x}", rand::random::<u32>()));
    alice.types(&hello);
    bob.reads(&format!("alice: {hello}")).await;
    bob.types(&answer);
    alice.reads(&format!("bob: {answer}")).await;
    alice.reads("seen by bob").await;
}
