//! Streams that are lost, wholly or in part, and the new epoch that a deployment goes on in.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use testkit::{Running, Scratch};
use tokio::task::spawn_blocking;

use crate::cast::SOON;
use crate::kills::Talk;
use crate::process::Up;

/// A renewal that left out what only the events have was caught in every second run of four rounds.
const ROUNDS: usize = 12;

impl Up {
    fn streams(&self) -> PathBuf {
        self.folder().join("broker/streams/jetstream/$G/streams")
    }

    /// Removes the streams whose names begin so.
    fn lose(&self, name: &str) {
        let mut lost = 0;
        for stream in fs::read_dir(self.streams()).unwrap() {
            let stream = stream.unwrap();
            if stream.file_name().to_str().unwrap().starts_with(name) {
                fs::remove_dir_all(stream.path()).unwrap();
                lost += 1;
            }
        }
        assert_ne!(lost, 0, "there is no {name}");
    }

    async fn renewing(&self, point: Option<&str>) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_heliograph"));
        command.args(["epoch", "renew", "--json", "--data"]).arg(self.folder()).env_remove("RUST_BACKTRACE");
        command.env("HELIOGRAPH_NATS_SERVER", testkit::nats::find_binary().unwrap());
        command.env_remove("HELIOGRAPH_CRASH_POINT");
        if let Some(point) = point {
            command.env("HELIOGRAPH_CRASH_POINT", format!("{point}:1"));
        }
        spawn_blocking(move || command.output()).await.unwrap().unwrap()
    }

    /// Each partition's renewal, as it is printed.
    pub(crate) async fn renew(&self) -> Vec<Value> {
        let output = self.renewing(None).await;
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Starts it; it says so, and is stopped.
    async fn says(&mut self, text: &str) {
        let mut running = Running::start("heliograph up", self.command()).unwrap();
        running.wait_for_line(SOON, text).await.unwrap();
        running.stop(SOON).await.unwrap();
    }
}

fn sum(renewed: &[Value], field: &str) -> u64 {
    renewed.iter().map(|partition| partition[field].as_u64().unwrap()).sum()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// Nothing that was stored is lost, doubled or moved, and everybody has it.
async fn whole(mut talk: Talk) {
    let said = talk.end().await;
    let report = talk.cast.verdict().await;
    assert_eq!(report.counts.entries, said + 2, "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn all_streams_may_be_lost_and_the_talk_goes_on_from_the_store() {
    let mut up = Up::new();
    up.start().await;
    let talk = Talk::begin(up.cast(), 2).await;
    talk.goes_on(50, "the start").await;
    up.stop().await;
    up.lose("");
    up.says("epoch renew").await;
    let renewed = up.renew().await;
    assert_eq!(renewed.len(), 2, "{renewed:?}");
    up.start().await;
    talk.goes_on(50, "the new epoch").await;
    up.stop().await;
    // Again, and this time nothing is wrong with them.
    let again = up.renew().await;
    assert!(renewed.iter().zip(&again).all(|(before, after)| before["epoch"].as_u64() < after["epoch"].as_u64()));
    up.start().await;
    talk.goes_on(50, "a new epoch for no reason").await;
    whole(talk).await;
    up.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_the_events_have_survives_the_loss_of_the_commands() {
    let mut up = Up::new();
    // So that events may be ahead of the store, and commands of the events.
    up.hands_over = false;
    up.start().await;
    let talk = Talk::begin(up.cast(), 4).await;
    let (mut unappended, mut carried) = (0, 0);
    for round in 0..ROUNDS {
        let lost = ["COMMANDS", "STATUS"][round % 2];
        talk.goes_on(40, &format!("round {round}")).await;
        up.kill();
        up.kill_broker();
        up.lose(lost);
        let renewed = up.renew().await;
        unappended += sum(&renewed, "unappended");
        carried += sum(&renewed, "carried");
        up.start().await;
    }
    eprintln!("{unappended} records only the events had, {carried} records of commands were carried over");
    talk.goes_on(40, "the last round").await;
    whole(talk).await;
    up.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_from_an_old_backup_are_overruled_by_the_store() {
    let mut up = Up::new();
    up.start().await;
    let talk = Talk::begin(up.cast(), 2).await;
    talk.goes_on(50, "the start").await;
    up.stop().await;
    let backup = Scratch::new("backup").unwrap();
    copy(&up.streams(), backup.path());
    up.start().await;
    talk.goes_on(50, "the backup").await;
    up.stop().await;
    fs::remove_dir_all(up.streams()).unwrap();
    copy(backup.path(), &up.streams());
    up.says("epoch renew").await;
    up.renew().await;
    up.start().await;
    talk.goes_on(50, "the new epoch").await;
    whole(talk).await;
    up.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_that_dies_anywhere_is_gone_on_with_and_nobody_works_meanwhile() {
    let mut up = Up::new();
    up.start().await;
    let talk = Talk::begin(up.cast(), 2).await;
    for point in ["renew.sealed", "renew.reopened", "renew.placed"] {
        talk.goes_on(40, point).await;
        up.kill();
        up.kill_broker();
        let died = up.renewing(Some(point)).await;
        assert!(!died.status.success(), "{point}: {died:?}");
        up.says("is not whole").await;
        up.renew().await;
        up.start().await;
    }
    talk.goes_on(40, "the last renewal").await;
    whole(talk).await;
    up.stop().await;
}
