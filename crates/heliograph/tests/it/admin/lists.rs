//! Who and what there is.

use serde_json::json;
use testkit::wait::until;

use crate::cast::SOON;
use crate::process::Up;

#[tokio::test(flavor = "multi_thread")]
async fn users_are_listed_by_handle_and_shown_without_what_signs_them_in() {
    let mut up = Up::new();
    up.start().await;
    assert_eq!(up.text(&["user", "list"]).await, "nobody\n");
    let (bob, signed_in) = up.register("bob").await;
    up.register("alice").await;
    up.register("alina").await;
    let handles = async |args: &[&str]| {
        let users = up.items(args).await;
        users.iter().map(|user| user["handle"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(handles(&["user", "list"]).await, ["alice", "alina", "bob"]);
    assert_eq!(handles(&["user", "list", "--prefix", "AL"]).await, ["alice", "alina"]);
    assert_eq!(handles(&["user", "list", "--prefix", "zz"]).await, [""; 0]);
    let table = up.text(&["user", "list"]).await;
    let rows: Vec<_> = table.lines().collect();
    assert!(rows[0].starts_with("HANDLE  STATE   ID ") && rows[1].starts_with("alice   active  "), "{table}");

    let shown = up.item(&["user", "show", "Bob"]).await;
    assert_eq!((&shown["id"], &shown["sign_ins"][0]["device"]), (&json!(bob.id), &json!("laptop")));
    assert_eq!(shown, up.item(&["user", "show", &bob.id]).await);
    let refresh = signed_in.text("refresh_token");
    for secret in ["argon2", "password", &refresh[..20]] {
        assert!(!shown.to_string().contains(secret), "{shown}");
    }
    for nobody in ["nobody", "../chats", "", &"x".repeat(200), "01a21c4d-5919-7678-b33c-b2a284f32f31"] {
        let said = up.refused(&["user", "show", nobody]).await;
        assert!(said.starts_with("Error: ") && said.lines().count() == 1, "{nobody:?}: {said}");
    }
    up.stop().await;
    let said = up.refused(&["user", "list"]).await;
    assert!(said.contains("`heliograph up` does not run"), "{said}");
    up.start().await;
    up.kill();
    let said = up.refused(&["user", "list"]).await;
    assert!(said.contains("`heliograph up` does not run"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn chats_are_listed_and_shown_with_their_members_and_never_with_what_is_said() {
    let mut up = Up::new();
    up.start().await;
    let (alice, _) = up.register("alice").await;
    let (bob, _) = up.register("bob").await;
    let (one, two) = (alice.group(&[&bob]).await, bob.group(&[]).await);
    assert_eq!(alice.say(&one, "SECRET", "1").await.status, 201);
    until(SOON, "the read models", async || {
        let chats = up.items(&["chats", "list"]).await;
        chats.iter().any(|chat| chat["chat"] == one.as_str() && chat["head"] == 2) && chats.len() == 2
    })
    .await;
    let of_alice = up.items(&["chats", "list", "--user", "alice"]).await;
    assert_eq!((of_alice.len(), &of_alice[0]["chat"], &of_alice[0]["messages"]), (1, &json!(one), &json!(1)));
    let shown = up.item(&["chats", "show", &one]).await;
    assert_eq!((&shown["stored"], &shown["summary"]["kind"]), (&json!(2), &json!("group")));
    let mut members: Vec<_> =
        shown["members"].as_array().unwrap().iter().map(|stay| (&stay["user"], &stay["role"])).collect();
    members.sort_by_key(|(user, _)| user.to_string());
    let (of_alice, of_bob) = (json!(alice.id), json!(bob.id));
    assert_eq!(members, [(&of_alice, &json!("owner")), (&of_bob, &json!("member"))]);
    let text = up.text(&["chats", "show", &one]).await;
    assert!(text.contains(&alice.id) && text.contains("owner") && !text.contains("SECRET"), "{text}");
    assert!(!shown.to_string().contains("SECRET"));
    assert!(up.text(&["chats", "list"]).await.contains(&two));
    assert!(up.refused(&["chats", "show", "x"]).await.contains("no id of a chat"));
    let unknown = two.replace(&two[30..], "000000");
    assert!(up.refused(&["chats", "show", &unknown]).await.contains("there is no chat"));
    up.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_say_how_far_each_position_is_and_who_moves_it() {
    let mut up = Up::new();
    // Through the broker, so that commands have positions too.
    up.hands_over = false;
    up.start().await;
    let (alice, _) = up.register("alice").await;
    let chat = alice.group(&[]).await;
    for n in 0..5 {
        assert_eq!(alice.say(&chat, "hello", &n.to_string()).await.status, 201);
    }
    let status = until(SOON, "nothing waits", async || {
        let partitions = up.items(&["partition", "status"]).await;
        let waits = |status: &serde_json::Value| {
            status["progress"].as_array().unwrap().iter().any(|progress| progress["lag"] != 0)
        };
        (!partitions.iter().any(waits)).then_some(partitions)
    })
    .await;
    assert_eq!(status.iter().map(|status| &status["partition"]).collect::<Vec<_>>(), [0, 1]);
    let of_chat = status.iter().find(|status| status["streams"][1]["last"] != 0).unwrap();
    let names = ["decided commands", "appended events", "delivered events", "projected events", "projected statuses"];
    let progress = of_chat["progress"].as_array().unwrap();
    let said = |progress: &serde_json::Value| {
        format!("{} {}", progress["done"].as_str().unwrap(), progress["stream"].as_str().unwrap())
    };
    assert_eq!(progress.iter().map(said).collect::<Vec<_>>(), names);
    for (progress, stream) in progress.iter().zip([0, 1, 1, 1, 2]) {
        assert_eq!(progress["position"], of_chat["streams"][stream]["last"], "{of_chat}");
        assert_eq!((&progress["same_epoch"], progress["oldest_age_s"].is_null()), (&json!(true), true));
    }
    assert!(of_chat["streams"][0]["last"].as_u64() >= Some(1) && of_chat["streams"][1]["records"].as_u64() >= Some(1));
    let owners: Vec<_> =
        of_chat["owners"].as_array().unwrap().iter().map(|owner| (&owner["role"], &owner["name"])).collect();
    let name = json!("alone");
    assert_eq!(owners, [(&json!("ingest"), &name), (&json!("delivery"), &name), (&json!("projections"), &name)]);
    let table = up.text(&["partition", "status"]).await;
    assert_eq!(table.lines().count(), 1 + 2 * names.len(), "{table}");
    assert!(table.contains("alone ("), "{table}");
    up.stop().await;
}
