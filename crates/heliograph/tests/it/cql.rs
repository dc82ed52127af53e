//! The whole path over a real Cassandra: what holds over the embedded store holds here too.

mod processes;

use std::process::Command;
use std::time::Duration;

use proto::v1::ChatKind;
use store::{CqlConfig, KeyspaceOptions, StoreConfig, schema};
use testkit::{Cassandra, cassandra};
use tokio::time::sleep;

use crate::cast::stored;
use crate::world::{Role, Setup, World};

/// A keyspace of its own at a node, with the lag that positions have by default unless it is said.
async fn keyspace(node: &str, name: &str) -> CqlConfig {
    let config = CqlConfig::at(&format!("cql://{node}/heliograph_{name}_{}", std::process::id())).unwrap();
    let config = CqlConfig { request_timeout_ms: 20_000, retry_limit_ms: 30_000, ..config };
    let replicas = [("datacenter1".to_owned(), 1)].into();
    schema::apply(&config, &KeyspaceOptions { replicas, ..KeyspaceOptions::default() }).await.unwrap();
    config
}

async fn world(config: CqlConfig) -> World {
    World::with(Setup { store: Some(Box::new(StoreConfig::Cql(config))), ..Setup::default() }).await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Cassandra: `cargo xtask test cql`"]
async fn a_group_gets_every_message_in_one_order_while_owners_change() {
    const MESSAGES: u64 = 120;
    let mut world = world(keyspace(&cassandra::shared().await.unwrap(), "group").await).await;
    let names = ["alice", "bob", "carol", "dora", "emil"];
    let devices: Vec<_> =
        names.iter().enumerate().map(|(place, name)| world.cast.device(name, "phone", place % 2)).collect();
    for device in &devices {
        device.caught_up().await;
    }
    let chat = world.cast.chat(&devices[0], ChatKind::Group, &names[1..]).await;
    for device in &devices {
        device.knows(chat, 1).await;
    }
    for part in 0..4 {
        let mut sent = Vec::new();
        for number in 0..MESSAGES / 4 {
            let device = &devices[number as usize % devices.len()];
            sent.push(device.client.send(chat, format!("message {part} {number}")).unwrap());
        }
        // A new owner finds a position from before all of this, and appends the rest of the log once more.
        world.stop_role(Role::Ingest).await;
        world.start_role(Role::Ingest);
        for sent in sent {
            stored(sent).await;
        }
    }
    for device in &devices {
        device.knows(chat, MESSAGES + 1).await;
    }
    let report = world.finish().await;
    assert_eq!(report.counts.entries, MESSAGES + 1, "{report}");
    assert_eq!(report.counts.final_histories, names.len() as u64, "{report}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Cassandra: `cargo xtask test cql`"]
async fn while_the_cluster_is_away_messages_go_on_and_are_stored_when_it_is_back() {
    const MESSAGES: u64 = 60;
    let node = Cassandra::start().await.unwrap();
    let config = keyspace(node.address(), "away").await;
    let config = CqlConfig { request_timeout_ms: 1_000, retry_limit_ms: 1_000, ..config };
    let world = world(config).await;
    let watch = testkit::logs::watch();
    // The driver's control connection, each second that the node is away; and what cannot be written meanwhile.
    for text in ["scylla", "cannot be stored", "failed", "does not answer"] {
        watch.allow(text);
    }
    let (alice, bob) = (world.cast.device("alice", "phone", 0), world.cast.device("bob", "phone", 1));
    bob.caught_up().await;
    alice.caught_up().await;
    let chat = world.cast.chat(&alice, ChatKind::Direct, &["bob"]).await;
    bob.knows(chat, 1).await;
    node.kill().unwrap();
    let mut sent = Vec::new();
    for number in 0..MESSAGES {
        sent.push(alice.client.send(chat, format!("message {number}")).unwrap());
        sleep(Duration::from_millis(20)).await;
    }
    // Pushed before the rows are there: what is in the event log is final.
    bob.knows(chat, 2).await;
    node.restart().await.unwrap();
    for sent in sent {
        stored(sent).await;
    }
    bob.knows(chat, MESSAGES + 1).await;
    let report = world.finish().await;
    assert_eq!(report.counts.entries, MESSAGES + 1, "{report}");
}

#[tokio::test]
#[ignore = "needs Cassandra: `cargo xtask test cql`"]
async fn the_command_applies_a_schema_and_says_how_it_stands() {
    let node = cassandra::shared().await.unwrap();
    let store = format!("cql://{node}/heliograph_command_{}", std::process::id());
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_heliograph"));
        let output = command.arg("schema").args(arguments).args(["--store", &store, "--json"]).output().unwrap();
        let lines = String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect::<Vec<_>>();
        (output.status.success(), lines, String::from_utf8(output.stderr).unwrap())
    };
    let (is_whole, files, error) = run(&["status"]);
    let all = files.len();
    assert!(!is_whole && error.contains(&format!("{all} of {all} files")), "{error}");
    assert!(files.iter().all(|line| line.contains(r#""state":"pending""#)), "{files:?}");
    let (is_done, applied, error) = run(&["apply", "--replicas", "datacenter1=1"]);
    assert!(is_done && error.is_empty(), "{error}");
    assert_eq!((applied.len(), &*applied[0]), (all, r#"{"applied":"0001_chats"}"#));
    assert_eq!(run(&["apply"]), (true, vec![], String::new()));
    let (is_whole, files, _) = run(&["status"]);
    assert!(is_whole && files.len() == all, "{files:?}");
    let first: serde_json::Value = serde_json::from_str(&files[0]).unwrap();
    assert_eq!((&first["name"], &first["state"]), (&"0001_chats".into(), &"applied".into()));
}
