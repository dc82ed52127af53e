//! Who is to own a partition, as an operator wants it.

use serde_json::{Value, json};
use testkit::wait::until;

use super::probes::probed;
use crate::cast::SOON;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_sent_to_a_paused_partition_waits_and_is_stored_once_it_is_resumed() {
    let (mut up, probes) = probed().await;
    let (alice, _) = up.register("alice").await;
    let chat = alice.group(&[]).await;
    let shown = up.item(&["chats", "show", &chat]).await;
    let partition = shown["partition"].to_string();
    let other = until(SOON, "a chat of the other partition", async || {
        let other = alice.group(&[]).await;
        (up.item(&["chats", "show", &other]).await["partition"] != shown["partition"]).then_some(other)
    })
    .await;
    let paused = up.item(&["partition", "pause", &partition]).await;
    let expected =
        json!({ "partition": shown["partition"], "role": "ingest", "order": "pause", "owner": null, "followed": true });
    assert_eq!(paused, expected);
    assert!(up.text(&["partition", "pause", &partition]).await.contains("nobody has it"), "asked again");

    let waits = alice.say(&chat, "waits", "k1").await;
    assert_eq!(waits.status, 202, "{waits:?}");
    let status = up.items(&["partition", "status"]).await;
    let of_chat = status.iter().find(|status| status["partition"] == shown["partition"]).unwrap();
    assert_eq!(of_chat["orders"], json!([{ "role": "ingest", "order": "pause" }]));
    assert!(up.text(&["partition", "status"]).await.contains("- [paused]"));
    assert_eq!(alice.say(&other, "is stored", "k2").await.status, 201, "the control: its partition has an owner");
    assert_eq!(probes.get("/readyz").await.status, 200, "what is paused is nobody's to serve");
    let resumed = up.item(&["partition", "resume", &partition]).await;
    assert_eq!((&resumed["order"], &resumed["owner"]), (&Value::Null, &json!("alone")));
    until(SOON, "it is stored", async || alice.http.get("/v1/sends/k1").await.body["status"] == "stored").await;
    up.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_cannot_be_followed_is_refused() {
    let (mut up, probes) = probed().await;
    until(SOON, "all take part", async || probes.get("/readyz").await.status == 200).await;
    assert!(up.refused(&["partition", "pause", "2"]).await.contains("there are 2"));
    assert!(up.refused(&["partition", "pause", "0", "--role", "gateway"]).await.contains("owns no partitions"));
    assert!(up.refused(&["partition", "move", "0", "--to", "nobody"]).await.contains("no worker “nobody”"));
    let moved = up.item(&["partition", "move", "0", "--to", "alone", "--role", "delivery"]).await;
    assert_eq!((&moved["order"], &moved["followed"]), (&json!({ "move": { "to": "alone" } }), &json!(true)));
    assert!(up.text(&["partition", "status"]).await.contains("[to alone]"));
    let audited = std::fs::read_to_string(up.folder().join("audit.log")).unwrap();
    let lines: Vec<Value> = audited.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let said = |line: &Value| ["detail", "partition", "outcome"].map(|field| line[field].clone());
    let orders: Vec<_> = lines.iter().filter(|line| !line["partition"].is_null()).map(said).collect();
    let expected = [["partition.move", "ingest 0", "refused"], ["partition.move", "delivery 0", "ok"]];
    assert_eq!(json!(orders), json!(expected));
    up.stop().await;
}
