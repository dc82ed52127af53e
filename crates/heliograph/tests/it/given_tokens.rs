//! The terminal client with a token that somebody was given.

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use serde_json::json;
use testkit::wait::until;
use tokio::task::spawn_blocking;

use crate::cast::SOON;
use crate::process::{Up, free_port};

/// A terminal that reads this input to its end.
async fn terminal(up: &Up, args: &[&str], token: Option<&str>, input: String) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_heliograph"));
    command.arg("chat").arg("--data").arg(up.folder()).args(args);
    command.env_remove("HELIOGRAPH_TOKEN_FILE").env_remove("HELIOGRAPH_TOKEN");
    command.envs(token.map(|token| ("HELIOGRAPH_TOKEN", token)));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let run = move || {
        let mut child = command.spawn().unwrap();
        // One that ends at once reads nothing.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        child.wait_with_output().unwrap()
    };
    spawn_blocking(run).await.unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_hears_and_answers_in_a_terminal_with_its_access_token() {
    let mut up = Up::new();
    up.start().await;
    let (alice, _) = up.register("alice").await;
    let (bob, signed_in) = up.register("bob").await;
    let chat = json!({ "kind": "direct", "members": [{ "user": bob.id }] });
    let chat = alice.http.post("/v1/chats", chat).await.text("chat");
    assert_eq!(alice.say(&chat, "good morning", "1").await.status, 201);
    // The terminal shows as far as the list of chats goes, which follows a moment behind.
    until(SOON, "the list of chats", async || bob.http.get("/v1/chats").await.body["chats"][0]["head"] == 2).await;
    let token = signed_in.text("access_token");

    // With nothing to say it hears what there is.
    let heard = terminal(&up, &[], Some(&token), String::new()).await;
    assert!(heard.status.success(), "{heard:?}");
    assert!(text(&heard.stdout).contains(": good morning\n"), "{heard:?}");
    // From a file, and then from the input itself, with a word to somebody who has an id only.
    let file = up.folder().join("token");
    std::fs::write(&file, &token).unwrap();
    let file = file.to_str().unwrap();
    for (n, args, input) in
        [(3, ["--token-file", file], String::new()), (4, ["--token-file", "-"], format!("{token}\n"))]
    {
        let said = terminal(&up, &[&args[..], &["--to", &alice.id]].concat(), None, format!("{input}line {n}\n")).await;
        assert!(said.status.success() && text(&said.stdout).contains(&format!("stored as #{n}\n")), "{said:?}");
        let page = alice.read(&chat, &format!("after={}", n - 1)).await;
        assert_eq!(page.body["entries"][0]["text"], format!("line {n}"), "{page:?}");
    }

    // Not the last character of its signature, of which two bits count.
    let (head, tail) = token.split_at(token.len() - 20);
    let forged = format!("{head}{}{}", if tail.starts_with('A') { 'B' } else { 'A' }, &tail[1..]);
    let refused = terminal(&up, &[], Some(&forged), String::new()).await;
    assert!(!refused.status.success() && text(&refused.stderr).contains("the token is not valid here"), "{refused:?}");
    let nobody = terminal(&up, &[], None, String::new()).await;
    assert!(!nobody.status.success() && text(&nobody.stderr).contains("--token-file FILE"), "{nobody:?}");
    let nowhere = format!("127.0.0.1:{}", free_port());
    let unheard = terminal(&up, &["--address", &nowhere], Some(&token), String::new()).await;
    assert!(!unheard.status.success() && text(&unheard.stderr).contains("nothing was heard"), "{unheard:?}");
    up.stop().await;
}
