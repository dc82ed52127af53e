//! What operators ask of a whole `heliograph up`: commands as they are typed, probes as they come over TCP.

mod changes;
mod exports;
mod imports;
mod lists;
mod models;
mod orders;
pub(crate) mod probes;
mod rotation;
mod stolen_keys;

use std::process::{Command, Output};

use serde_json::Value;
use testkit::wait::until;
use tokio::task::spawn_blocking;

use crate::cast::SOON;
use crate::process::Up;

impl Up {
    /// An operator's command on this folder.
    async fn operate(&self, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_heliograph"));
        // What it says is for people, not for those who mend it.
        command.args(args).arg("--data").arg(self.folder()).env_remove("RUST_BACKTRACE");
        spawn_blocking(move || command.output()).await.unwrap().unwrap()
    }

    /// What it prints for people.
    async fn text(&self, args: &[&str]) -> String {
        let output = self.operate(args).await;
        assert!(output.status.success(), "{args:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// The documents that it prints for programs.
    async fn items(&self, args: &[&str]) -> Vec<Value> {
        let text = self.text(&[args, &["--json"]].concat()).await;
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The one document that it prints.
    async fn item(&self, args: &[&str]) -> Value {
        let mut items = self.items(args).await;
        assert_eq!(items.len(), 1, "{args:?}: {items:?}");
        items.remove(0)
    }

    /// A user, once nothing is left to be done of the erasure.
    async fn erased(&self, user: &str) -> Value {
        until(SOON, "the erasure is carried out", async || {
            Some(self.item(&["user", "show", user]).await).filter(|user| user["state"] == "erased")
        })
        .await
    }

    /// What it says on its way out with an error.
    async fn refused(&self, args: &[&str]) -> String {
        let output = self.operate(args).await;
        assert!(!output.status.success(), "{args:?}: {output:?}");
        assert!(output.stdout.is_empty(), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    }
}
