//! Sends over the HTTP API under idempotency keys, repeated until they are answered, and what must have become of them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use client::ChatId;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::cast::Cast;

/// Who sends over HTTP.
pub(crate) const SENDER: &str = "hal";
/// An outcome is waited for ten seconds by the server.
const ANSWERS_WITHIN: Duration = Duration::from_secs(15);
const REST: Duration = Duration::from_millis(150);
const AGAIN_AFTER: Duration = Duration::from_millis(50);
/// Every so many stored ones is asked for once more under its key.
const REPEATED: u64 = 5;
const STORED: u16 = 201;

/// One send that was answered.
#[derive(Clone, Debug)]
pub(crate) struct Answered {
    pub(crate) text: String,
    pub(crate) key: String,
    pub(crate) seq: u64,
}

/// All that were answered, and what was wrong with answers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answers {
    pub(crate) stored: Vec<Answered>,
    /// Requests that were made, repeats too.
    pub(crate) requests: u64,
    /// One of these is as wrong as a lost message.
    pub(crate) wrong: Vec<String>,
    /// The last one had no answer when the run ended.
    pub(crate) open: Option<String>,
}

/// Sends one after the other until told to stop, then until the last one is answered or the second token ends it.
pub(crate) async fn send(
    cast: Arc<Cast>,
    api: SocketAddr,
    chat: ChatId,
    stop: CancellationToken,
    give_up: CancellationToken,
) -> Answers {
    let mut answers = Answers::default();
    let path = format!("/v1/chats/{chat}/messages");
    for number in 0_u64.. {
        if stop.is_cancelled() {
            break;
        }
        let (key, text) = (format!("{:032x}", rand::random::<u128>()), format!("{number} over HTTP"));
        let body = json!({ "text": text }).to_string();
        let mut first = None;
        let repeats = u64::from(number % REPEATED == 0);
        for _ in 0..=repeats {
            let seq = loop {
                answers.requests += 1;
                let asked = post(&cast, api, &path, &key, &body);
                let met = tokio::select! {
                    met = asked => met,
                    () = give_up.cancelled() => {
                        answers.open = Some(text);
                        return answers;
                    }
                };
                match met {
                    Ok((STORED, answer)) => match number_of(&answer["seq"]) {
                        Some(seq) => break seq,
                        None => answers.wrong.push(format!("{text}: stored, without a seq: {answer}")),
                    },
                    // Not there, busy, slow or still open: the same request again.
                    Ok((202 | 429 | 500..=599, _)) | Err(_) => {}
                    Ok((status, answer)) => answers.wrong.push(format!("{text}: refused with {status}: {answer}")),
                }
                sleep(AGAIN_AFTER).await;
            };
            match first {
                Some(first) if first != seq => {
                    answers.wrong.push(format!("{text}: stored at seq {first}, and at {seq} when asked for again"));
                }
                _ => first = Some(seq),
            }
        }
        answers.stored.push(Answered { text, key, seq: first.unwrap_or_default() });
        sleep(REST).await;
    }
    answers
}

async fn post(cast: &Cast, api: SocketAddr, path: &str, key: &str, body: &str) -> Result<(u16, Value)> {
    ask(cast, api, SENDER, "POST", path, &format!("idempotency-key: {key}\r\n"), body).await
}

/// A number as the API writes it: a string.
pub(crate) fn number_of(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

/// Reads something as somebody.
pub(crate) async fn get(cast: &Cast, api: SocketAddr, name: &str, path: &str) -> Result<Value> {
    match ask(cast, api, name, "GET", path, "", "").await? {
        (200, answer) => Ok(answer),
        (status, answer) => bail!("{path} is refused with {status}: {answer}"),
    }
}

async fn ask(
    cast: &Cast,
    api: SocketAddr,
    name: &str,
    method: &str,
    path: &str,
    headers: &str,
    body: &str,
) -> Result<(u16, Value)> {
    let token = cast.entry().token(name)?;
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: {api}\r\nconnection: close\r\nauthorization: Bearer {token}\r\n\
         content-type: application/json\r\n{headers}content-length: {}\r\n\r\n{body}",
        body.len()
    );
    let asked = async {
        let mut stream = TcpStream::connect(api).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        Ok::<_, anyhow::Error>(String::from_utf8(answer)?)
    };
    let answer = timeout(ANSWERS_WITHIN, asked).await.context("no answer in time")??;
    let (head, body) = answer.split_once("\r\n\r\n").context("half an answer")?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).context("no status")?;
    // Cut off in the middle it is no answer, whatever its status says.
    Ok((status, serde_json::from_str(body).context("half an answer")?))
}
