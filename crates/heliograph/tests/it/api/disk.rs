//! A disk that takes nothing more, under accounts and messages that come over HTTP.

use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt as _;
use std::process::Command;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;
use testkit::wait::until;

use super::PASSWORD;
use super::accounts::sign_in;
use super::http::Answer;
use crate::cast::SOON;
use crate::process::Up;

/// Who registers at a time, and who speaks.
const AT_A_TIME: usize = 4;
const ENDS_WITHIN: Duration = Duration::from_secs(60);

impl Up {
    /// The command such that a write beyond the limit of a file's size fails, where it would end the process by a signal.
    fn command_on_a_failing_disk(&self) -> Command {
        let command = self.command();
        let mut shell = Command::new("sh");
        shell.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""]).arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => shell.env(name, value),
                None => shell.env_remove(name),
            };
        }
        shell
    }

    /// From now on no write of the process to any file succeeds; its broker's do.
    fn fail_the_disk(&self) {
        let pid = self.running.as_ref().unwrap().pid().to_string();
        let status = Command::new("prlimit").args(["--pid", &pid, "--fsize=0:0"]).status().unwrap();
        assert!(status.success(), "{status}");
    }
}

/// Answers of one who asks again and again until nobody answers.
async fn until_nobody_answers<F: Future<Output = Option<Answer>>>(
    ask: impl Fn(usize) -> F,
) -> Vec<(usize, Option<Answer>)> {
    let mut answers = Vec::new();
    for n in 0.. {
        let answer = ask(n).await;
        let is_last = answer.is_none();
        answers.push((n, answer));
        if is_last {
            break;
        }
    }
    answers
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_fails_leaves_no_half_made_account_and_loses_nothing_that_was_confirmed() {
    let mut up = Up::new();
    up.start_with(up.command_on_a_failing_disk()).await;
    let (alice, _) = up.register("alice").await;
    let chat = alice.group(&[]).await;
    let handle = |who: usize, n: usize| format!("user{who}-{n}");
    let registering = join_all((0..AT_A_TIME).map(|who| {
        let http = up.http();
        until_nobody_answers(move |n| {
            let account = json!({ "handle": handle(who, n), "password": PASSWORD, "device": "laptop" });
            let http = http.clone();
            async move { http.try_ask("POST", "/v1/accounts", &[], Some(account.to_string())).await }
        })
    }));
    let speaking = join_all((0..AT_A_TIME).map(|who| {
        let (http, path) = (alice.http.clone(), format!("/v1/chats/{chat}/messages"));
        until_nobody_answers(move |n| {
            let (http, path) = (http.clone(), path.clone());
            async move {
                let (key, text) = (format!("{who}-{n}"), json!({ "text": format!("{who}-{n}") }).to_string());
                http.try_ask("POST", &path, &[("idempotency-key", &key)], Some(text)).await
            }
        })
    }));
    let failing = async {
        // Once all are in the middle of it.
        until(SOON, "the crowd", async || {
            let users = alice.http.get("/v1/users?prefix=user").await;
            let page = alice.read(&chat, "after=20").await;
            let count = |answer: &Answer, of: &str| answer.body[of].as_array().map_or(0, Vec::len);
            count(&users, "users") >= AT_A_TIME && count(&page, "entries") > 0
        })
        .await;
        up.fail_the_disk();
    };
    let (accounts, messages, ()) = tokio::join!(registering, speaking, failing);

    // The engine takes nothing more until it is opened again, so the process ends, and says so.
    let mut running = up.running.take().unwrap();
    let status = running.wait_for_end(ENDS_WITHIN).await.unwrap();
    assert!(!status.success() && status.signal().is_none(), "{status}: {}", running.tail());
    let all = accounts.iter().chain(&messages).flatten().filter_map(|(_, answer)| answer.as_ref());
    for answer in all.filter(|answer| answer.status >= 500) {
        assert_eq!((answer.status, answer.problem()), (503, "unavailable"), "{answer:?}");
        assert!(answer.headers["retry-after"].parse::<u32>().unwrap() > 0, "{answer:?}");
    }
    up.start().await;
    for (who, asked) in accounts.iter().enumerate() {
        for (n, answer) in asked {
            let handle = handle(who, *n);
            let is_whole = sign_in(&up, &handle, PASSWORD).await.status == 201;
            if answer.as_ref().is_some_and(|answer| answer.status == 201) {
                assert!(is_whole, "{handle} was made, and is not there");
            } else if !is_whole {
                up.register(&handle).await;
            }
        }
    }
    let alice = up.again(&alice);
    let mut stored = BTreeSet::new();
    let mut after = 0;
    loop {
        let page = alice.read(&chat, &format!("after={after}")).await;
        let entries = page.body["entries"].as_array().unwrap();
        let Some(last) = entries.last() else { break };
        after = last["seq"].as_u64().unwrap();
        let texts =
            entries.iter().filter_map(|entry| Some((entry["text"].as_str()?.to_owned(), entry["seq"].as_u64()?)));
        stored.extend(texts);
    }
    for (who, asked) in messages.iter().enumerate() {
        for (n, answer) in asked {
            if let Some(answer) = answer.as_ref().filter(|answer| answer.status == 201) {
                let said = (format!("{who}-{n}"), answer.body["seq"].as_u64().unwrap());
                assert!(stored.contains(&said), "{said:?} was stored, and is not there");
            }
        }
    }
    up.stop().await;
}
