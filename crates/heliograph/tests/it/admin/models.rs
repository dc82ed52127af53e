//! Read models as operators look at them, over a whole `up`.

use serde_json::{Value, json};
use testkit::wait::until;

use crate::cast::SOON;
use crate::process::Up;

/// Chats with all that makes models differ from one another; their ids.
async fn lived_in(up: &Up) -> Vec<String> {
    let (alice, _) = up.register("alice").await;
    let (bob, _) = up.register("bob").await;
    let mut chats = Vec::new();
    for name in ["climbing", "cooking", "chess"] {
        let chat = alice.group(&[&bob]).await;
        let at = |path: &str| format!("/v1/chats/{chat}{path}");
        for at in 1..4 {
            assert_eq!(alice.say(&chat, "hello", &format!("{name}-{at}")).await.status, 201);
        }
        let done = [
            alice.http.ask("PATCH", &at(""), &[], Some(json!({ "name": name }).to_string())).await,
            bob.http.ask("PUT", &at("/messages/2/reaction"), &[], Some(json!({ "reaction": "+" }).to_string())).await,
            bob.http.ask("PUT", &at("/messages/3/reaction"), &[], Some(json!({ "reaction": "+" }).to_string())).await,
            alice.http.ask("PUT", &at("/pins/3"), &[], None).await,
            alice.http.delete(&at("/messages/3")).await,
            alice.http.ask("PATCH", &at("/policy"), &[], Some(json!({ "slow_mode_s": 5 }).to_string())).await,
            alice.http.ask("PUT", &at("/pins/4"), &[], None).await,
        ];
        assert!(done.iter().all(|answer| answer.status == 201), "{done:?}");
        chats.push(chat);
    }
    let last = chats.last().unwrap();
    assert_eq!(bob.http.delete(&format!("/v1/chats/{last}/members/{}", bob.id)).await.status, 201);
    chats
}

#[tokio::test(flavor = "multi_thread")]
async fn models_are_what_the_logs_say_also_rebuilt_and_after_a_kill() {
    let mut up = Up::new();
    up.start().await;
    let chats = lived_in(&up).await;
    let verified = async |up: &Up, args: &[&str]| {
        let items = up.items(&[&["projections", "verify"], args].concat()).await;
        assert!(items.iter().all(|one| one["changing"] == json!([])), "{items:?}");
        items.iter().map(|one| one["equal"].as_u64().unwrap()).sum::<u64>()
    };
    assert_eq!(verified(&up, &[]).await, chats.len() as u64);
    assert_eq!(verified(&up, &["reactions"]).await, chats.len() as u64);
    let status = up.items(&["projections", "status"]).await;
    assert_eq!(status.len(), 4, "two streams of two partitions: {status:?}");
    assert!(status.iter().all(|row| row["needs_rebuild"] == false), "{status:?}");
    let rebuilt = up.items(&["projections", "rebuild"]).await;
    assert_eq!(rebuilt.iter().map(|one| one["chats"].as_u64().unwrap()).sum::<u64>(), chats.len() as u64);
    assert_eq!(verified(&up, &[]).await, chats.len() as u64);
    up.kill();
    up.start().await;
    assert_eq!(verified(&up, &["--partition", "0"]).await + verified(&up, &["--partition", "1"]).await, 3);
    assert!(up.text(&["projections", "verify"]).await.contains("are what their logs say"));
    // Refusals, and what is kept of it all.
    assert!(
        up.refused(&["projections", "verify", "rumours"]).await.contains("there are chat_summaries, chats_by_user")
    );
    assert!(up.refused(&["projections", "verify", "--partition", "2"]).await.contains("there are 2"));
    assert!(up.refused(&["projections", "rebuild", "--partition", "2"]).await.contains("there are 2"));
    let expected = json!([["projections 0", "ok"], ["projections 1", "ok"], ["projections 2", "refused"]]);
    // Nobody waits for the log's lines: the last may come a moment later.
    until(SOON, "what operators did is kept", async || {
        let audited = std::fs::read_to_string(up.folder().join("audit.log")).unwrap();
        let lines = audited.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let kept = lines.filter(|line| line["detail"] == "projections.rebuild");
        kept.map(|line| json!([line["partition"], line["outcome"]])).collect::<Value>() == expected
    })
    .await;
    up.stop().await;
}
