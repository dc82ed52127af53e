//! What the README says to type does what it says.

use std::process::Command;

use serde_json::Value;
use testkit::Scratch;
use testkit::wait::until;
use tokio::task::spawn_blocking;

use crate::api::http::Http;
use crate::cast::SOON;
use crate::process::Up;

const README: &str = include_str!("../../../../../README.md");

/// The README's block in this language behind this heading.
fn block(heading: &str, language: &str) -> &'static str {
    let (_, section) = README.split_once(&format!("\n## {heading}\n")).expect("the section");
    let (_, block) = section.split_once(&format!("```{language}\n")).expect("the block");
    block.split_once("```").expect("the block's end").0
}

/// Whether it has the same fields with values of the same kind, and says the same.
fn is_alike(said: &Value, printed: &Value) -> bool {
    match (said, printed) {
        (Value::Object(said), Value::Object(printed)) => {
            said.len() == printed.len()
                && said.iter().all(|(name, value)| printed.get(name).is_some_and(|printed| is_alike(value, printed)))
        }
        (Value::Array(said), Value::Array(printed)) => {
            said.len() == printed.len() && said.iter().zip(printed).all(|(said, printed)| is_alike(said, printed))
        }
        // Ids and times differ each time.
        (Value::String(said), Value::String(printed)) if said.starts_with("01") || said.ends_with('Z') => {
            said.len().abs_diff(printed.len()) < 8
        }
        (said, printed) => said == printed,
    }
}

/// A line of a terminal with each name of eight digits made the same.
fn without_ids(line: &str) -> String {
    let is_id = |word: &str| word.len() == 8 && word.chars().all(|c| c.is_ascii_hexdigit());
    let words = line.split_inclusive([' ', ',', ':']).map(|word| {
        let (name, rest) = word.split_at(word.trim_end_matches([' ', ',', ':']).len());
        if is_id(name) { format!("ID{rest}") } else { word.to_owned() }
    });
    words.collect()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs curl: `cargo xtask test foreign`"]
async fn the_commands_of_the_readme_print_what_it_says() {
    let mut up = Up::new();
    up.start().await;
    let folder = Scratch::new("readme").unwrap();
    let commands = block("Send one by HTTP", "sh").replace("localhost:7080", &up.http().address);
    let mut shell = Command::new("sh");
    shell.args(["-e", "-u", "-c", &commands]).current_dir(folder.path());
    let output = spawn_blocking(move || shell.output()).await.unwrap().unwrap();
    assert!(output.status.success(), "{output:?}");
    let printed = String::from_utf8(output.stdout).unwrap();
    let printed: Vec<Value> = serde_json::Deserializer::from_str(&printed).into_iter().map(Result::unwrap).collect();
    let said: Vec<Value> =
        block("Send one by HTTP", "json").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(said.len(), 2);
    assert!(is_alike(&Value::Array(said), &Value::Array(printed.clone())), "{printed:#?}");

    // The terminal shows what the list of chats has, which follows a moment behind.
    let signed_in: Value = serde_json::from_slice(&std::fs::read(folder.join("bob.json")).unwrap()).unwrap();
    let bob = Http { token: signed_in["access_token"].as_str().map(str::to_owned), ..up.http() };
    until(SOON, "bob's list of chats", async || bob.get("/v1/chats").await.body["chats"][0]["head"] == 2).await;
    // In the same folder: the token is in the file that the commands above wrote.
    let commands =
        block("Receive it on a socket", "sh").replace("target/release/heliograph", env!("CARGO_BIN_EXE_heliograph"));
    let mut shell = Command::new("sh");
    shell.args(["-e", "-u", "-c", &commands]).current_dir(folder.path()).env("HELIOGRAPH_DATA", up.folder());
    let output = spawn_blocking(move || shell.output()).await.unwrap().unwrap();
    assert!(output.status.success(), "{output:?}");
    let printed = String::from_utf8(output.stdout).unwrap();
    let said: Vec<_> = block("Receive it on a socket", "text").lines().map(without_ids).collect();
    assert_eq!(printed.lines().map(without_ids).collect::<Vec<_>>(), said, "{printed}");
    up.stop().await;
}
