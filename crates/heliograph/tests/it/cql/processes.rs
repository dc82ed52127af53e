//! `heliograph run`: the roles as processes of their own, killed, stopped and drained while people write.

use std::fs;
use std::process::Command;
use std::time::Duration;

use heliograph::{folder, key_file::KeyFile};
use proto::v1::ChatKind;
use testkit::{NatsOptions, NatsServer, Running, Scratch, cassandra};
use tokens::TokenKeys;

use crate::cast::{Cast, stored};
use crate::process::free_port;

const UP_WITHIN: Duration = Duration::from_secs(60);
const STOP_WITHIN: Duration = Duration::from_secs(30);
const ROUNDS: u64 = 12;

/// Processes over one broker and one keyspace, each with a folder of its own and the same keys.
struct Cluster {
    nats: NatsServer,
    store: String,
    keys: String,
    processes: Vec<Process>,
}

struct Process {
    name: &'static str,
    roles: &'static str,
    listen: String,
    running: Option<Running>,
    folder: Scratch,
}

impl Cluster {
    async fn start(keyspace: &str, layout: &[(&'static str, &'static str)]) -> Self {
        let store = super::keyspace(&cassandra::shared().await.unwrap(), keyspace).await;
        let store = format!("cql://{}/{}", store.nodes.join(","), store.keyspace);
        let scratch = Scratch::new("keys").unwrap();
        KeyFile::open(scratch.join("token-key.pem")).unwrap();
        let keys = folder::token_key(scratch.path()).unwrap();
        let nats = NatsServer::start(NatsOptions::default()).await.unwrap();
        let mut cluster = Self { nats, store, keys, processes: Vec::new() };
        for (name, roles) in layout {
            let folder = Scratch::new(name).unwrap();
            fs::write(folder.join("token-key.pem"), &cluster.keys).unwrap();
            let listen = format!("127.0.0.1:{}", free_port());
            cluster.processes.push(Process { name, roles, listen, running: None, folder });
        }
        for number in 0..layout.len() {
            cluster.go_on(number).await;
        }
        cluster
    }

    fn command(&self, number: usize) -> Command {
        let Process { name, roles, listen, folder, .. } = &self.processes[number];
        let mut command = Command::new(env!("CARGO_BIN_EXE_heliograph"));
        command.args(["run", "--role", roles, "--nats", self.nats.url(), "--store", &self.store, "--worker", name]);
        command.args(["--partitions", "4", "--lazy-sync", "--listen", listen, "--api", "127.0.0.1:0", "--data"]);
        command.arg(folder.path());
        command
    }

    /// Starts it, anew after a kill or a stop.
    async fn go_on(&mut self, number: usize) {
        let mut running = Running::start(self.processes[number].name, self.command(number)).unwrap();
        running.wait_for_line(UP_WITHIN, "Heliograph runs").await.unwrap();
        self.processes[number].running = Some(running);
    }

    fn kill(&mut self, number: usize) {
        self.processes[number].running.take().unwrap().kill().unwrap();
    }

    async fn stop(&mut self, number: usize) {
        let mut running = self.processes[number].running.take().unwrap();
        let status = running.stop(STOP_WITHIN).await.unwrap();
        assert!(status.success(), "{status}: {}", running.tail());
    }

    fn running(&self, number: usize) -> &Running {
        self.processes[number].running.as_ref().unwrap()
    }

    fn cast(&self) -> Cast {
        let gateways = self.processes.iter().filter(|process| process.roles.contains("gateway"));
        let urls = gateways.map(|process| format!("ws://{}/v1/socket", process.listen)).collect();
        Cast::new(urls, TokenKeys::from_pem(&self.keys).unwrap())
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Cassandra: `cargo xtask test cql`"]
async fn killed_stopped_and_frozen_workers_cost_no_message_and_no_order() {
    let layout = [
        ("gateway-1", "gateway"),
        ("gateway-2", "gateway"),
        ("worker-1", "ingest,delivery,projections"),
        ("worker-2", "ingest,delivery,projections"),
    ];
    let mut cluster = Cluster::start("processes", &layout).await;
    let cast = cluster.cast();
    let (alice, _) = cast.roaming("alice", "phone", 0);
    let (bob, _) = cast.roaming("bob", "phone", 1);
    let mut chats = Vec::new();
    // Over several partitions, so that each worker has some of them.
    for _ in 0..8 {
        chats.push(cast.chat(&alice, ChatKind::Group, &["bob"]).await);
    }
    for round in 0..ROUNDS {
        let sent: Vec<_> = chats
            .iter()
            .flat_map(|chat| [(&alice, *chat), (&bob, *chat)])
            .map(|(device, chat)| device.client.send(chat, format!("round {round}")).unwrap())
            .collect();
        match round {
            1 => cluster.kill(2),
            2 => cluster.go_on(2).await,
            3 => cluster.stop(3).await,
            4 => cluster.go_on(3).await,
            // For longer than the others wait for a sign of life.
            5 => cluster.running(2).pause().unwrap(),
            6 => cluster.running(2).resume().unwrap(),
            7 => cluster.kill(0),
            8 => cluster.go_on(0).await,
            9 => cluster.stop(1).await,
            10 => cluster.go_on(1).await,
            _ => {}
        }
        for sent in sent {
            stored(sent).await;
        }
    }
    for chat in &chats {
        for device in [&alice, &bob] {
            device.knows(*chat, 2 * ROUNDS + 1).await;
        }
    }
    let report = cast.verdict().await;
    assert_eq!(report.counts.entries, 8 * (2 * ROUNDS + 1), "{report}");
    for number in 0..layout.len() {
        cluster.stop(number).await;
    }
}
