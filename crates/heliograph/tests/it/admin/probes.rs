//! Probes over TCP.

use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use serde_json::{Value, json};
use testkit::children::pause;
use testkit::wait::until;

use crate::api::http::{Answer, Http};
use crate::cast::SOON;
use crate::process::{Up, free_port};

/// Before a connection that says nothing is given up: that takes three pings of five seconds.
const NOT_READY_WITHIN: Duration = Duration::from_secs(8);

/// The same for a tenure: three pings of five seconds, and the probe's own wait.
const TENURES_LOST_WITHIN: Duration = Duration::from_secs(40);

/// An `up` that is probed.
pub(crate) async fn probed() -> (Up, Http) {
    let mut up = Up::new();
    let address = format!("127.0.0.1:{}", free_port());
    let mut command = up.command();
    command.args(["--admin", &address]);
    up.start_with(command).await;
    (up, Http { address, token: None })
}

fn not_ready(answer: &Answer) -> Vec<&Value> {
    let parts = answer.body["parts"].as_array().unwrap();
    parts.iter().filter(|part| part["ready"] != true).map(|part| &part["part"]).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn probes_are_answered_over_tcp_and_nothing_can_be_changed_there() {
    let (mut up, http) = probed().await;
    up.register("alice").await;
    assert_eq!(http.get("/livez").await.body, json!("ok"));
    let ready = until(SOON, "it is ready", async || {
        let ready = http.get("/readyz").await;
        (ready.status == 200).then_some(ready)
    })
    .await;
    assert_eq!((ready.status, &ready.body["ready"], not_ready(&ready).len()), (200, &json!(true), 0), "{ready:?}");
    let parts: Vec<_> = ready.body["parts"].as_array().unwrap().iter().map(|part| &part["part"]).collect();
    assert_eq!(parts, ["process", "api", "delivery", "gateway", "ingest", "projections", "store", "log"]);
    let version = http.get("/version").await.body;
    assert_eq!(version["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(version["protocols"], json!(["heliograph.v1.proto", "heliograph.v1.json"]));
    let metrics = http.get("/metrics").await;
    assert_eq!(metrics.headers["content-type"], "text/plain; version=0.0.4");
    assert!(metrics.body.as_str().unwrap().contains("store_commits_total"));
    for path in ["/nothing", "/admin/v1/users", "/admin/v1/users/alice"] {
        assert_eq!(http.get(path).await.status, 404, "{path}");
    }
    assert_eq!(http.post("/admin/v1/users/alice/ban", json!({})).await.status, 404);
    assert_eq!(up.item(&["user", "show", "alice"]).await["state"], "active");
    up.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_answer_from_the_broker_it_lives_but_is_not_ready() {
    let (mut up, http) = probed().await;
    let (alice, _) = up.register("alice").await;
    alice.group(&[]).await;
    // All roles are past their beginning.
    until(SOON, "the read models", async || !up.items(&["chats", "list"]).await.is_empty()).await;
    until(SOON, "it is ready", async || http.get("/readyz").await.status == 200).await;
    let broker = up.broker().unwrap();
    pause(broker).unwrap();
    let said = until(NOT_READY_WITHIN, "it is not ready", async || {
        let said = http.get("/readyz").await;
        (said.status != 200).then_some(said)
    })
    .await;
    let lives = http.get("/livez").await;
    kill(broker, Signal::SIGCONT).unwrap();
    assert_eq!((said.status, &said.body["ready"]), (503, &json!(false)), "{said:?}");
    assert_eq!(not_ready(&said), ["log"], "{said:?}");
    assert_eq!(lives.status, 200);
    until(SOON, "it is ready again", async || http.get("/readyz").await.status == 200).await;
    up.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_are_not_ready_without_their_partitions() {
    let (mut up, http) = probed().await;
    until(SOON, "it is ready", async || http.get("/readyz").await.status == 200).await;
    let broker = up.broker().unwrap();
    pause(broker).unwrap();
    // Until its connections are given up the roles still have what they own.
    let said = until(TENURES_LOST_WITHIN, "the tenures are lost", async || {
        let said = http.get("/readyz").await;
        (not_ready(&said).len() > 1).then_some(said)
    })
    .await;
    kill(broker, Signal::SIGCONT).unwrap();
    let roles = ["delivery", "ingest", "projections"];
    assert!(not_ready(&said).iter().any(|part| roles.iter().any(|role| *part == role)), "{said:?}");
    assert!(said.body.to_string().contains("is not served"), "{said:?}");
    until(SOON, "they took over again", async || http.get("/readyz").await.status == 200).await;
    up.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_its_way_out_it_is_not_ready_while_it_finishes_what_is_under_way() {
    let (mut up, http) = probed().await;
    let (alice, _) = up.register("alice").await;
    let chat = alice.group(&[]).await;
    let pid = nix::unistd::Pid::from_raw(i32::try_from(up.running.as_ref().unwrap().pid()).unwrap());
    // Each waits two seconds for an entry that does not come.
    let waits = async || alice.read(&chat, "at_least=99").await;
    let (answer, said) = tokio::join!(waits(), async {
        until(SOON, "the request is under way", async || {
            let metrics = http.get("/metrics").await;
            metrics.body.as_str().unwrap().contains("api_requests_total 3")
        })
        .await;
        kill(pid, Signal::SIGTERM).unwrap();
        until(SOON, "it says so", async || {
            let said = http.get("/readyz").await;
            (said.status == 503).then_some(said)
        })
        .await
    });
    assert_eq!(answer.problem(), "not-yet");
    assert!(not_ready(&said).contains(&&json!("process")), "{said:?}");
    up.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn x24_each_action_is_logged_and_counted_with_who_did_it_and_reads_are_not() {
    let mut up = Up::new();
    let address = format!("127.0.0.1:{}", free_port());
    let mut command = up.command();
    command.args(["--admin", &address, "--log", "warn,audit=info"]);
    up.start_with(command).await;
    let http = Http { address, token: None };
    let (alice, _) = up.register("alice").await;
    for read in [&["user", "list"][..], &["user", "show", "alice"], &["device", "list", "alice"], &["chats", "list"]] {
        up.text(read).await;
    }
    up.text(&["device", "revoke", "alice", "a\nfake line"]).await;
    up.text(&["user", "export", "alice"]).await;
    up.text(&["user", "erase", "alice", "--yes"]).await;
    up.refused(&["user", "ban", &alice.id]).await;
    let running = up.running.as_ref().unwrap();
    let logged = || running.lines().into_iter().filter(|line| line.contains(" audit: ")).collect::<Vec<_>>();
    let lines = until(SOON, "the lines", async || Some(logged()).filter(|lines| lines.len() >= 4)).await;
    let uid = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(up.folder()).unwrap());
    let expected =
        [("device.revoke", "done"), ("user.export", "done"), ("user.erase", "done"), ("user.ban", "conflict")];
    for (line, (action, outcome)) in lines.iter().zip(expected) {
        for part in [action, outcome, &*alice.id, &format!("by.uid=Some({uid})")] {
            assert!(line.contains(part), "{part} in {line}");
        }
    }
    assert_eq!(lines.len(), 4, "{lines:?}");
    assert!(lines[0].contains(r"a\nfake line"), "{lines:?}");
    let metrics = http.get("/metrics").await;
    for (action, outcome) in expected {
        let counted = format!("admin_actions_total{{action=\"{action}\",outcome=\"{outcome}\"}} 1");
        assert!(metrics.body.as_str().unwrap().contains(&counted), "{counted}: {metrics:?}");
    }
    up.stop().await;
    let audit = std::fs::read_to_string(up.folder().join("audit.log")).unwrap();
    let kept: Vec<Value> = audit.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let kept: Vec<_> = kept.iter().filter(|line| line["action"] == "admin").collect();
    assert_eq!(kept.len(), 4, "{audit}");
    for (line, (action, outcome)) in kept.iter().zip(expected) {
        let outcome = if outcome == "done" { "ok" } else { "refused" };
        assert_eq!((&line["detail"], &line["outcome"]), (&json!(action), &json!(outcome)), "{line}");
        assert_eq!((&line["subject"], &line["operator"]), (&json!(alice.id), &json!(uid)), "{line}");
    }
    assert_eq!(kept[0]["device"], "a\nfake line");
}
