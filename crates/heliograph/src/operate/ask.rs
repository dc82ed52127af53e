//! One request to the running `up`, over its socket.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::time::timeout;

use crate::admin::Said;
use crate::folder;

/// Longer than `up` takes for any answer.
const ANSWERS_WITHIN: Duration = Duration::from_secs(60);
/// A chat with all its members is the longest answer.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// Asks the `up` that runs on a folder.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    folder: PathBuf,
}

impl Ask {
    pub(super) fn of(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    pub(super) async fn get(&self, path: &str) -> Result<Value> {
        self.ask(Method::GET, path, None).await
    }

    pub(super) async fn post(&self, path: &str, body: Option<Value>) -> Result<Value> {
        self.ask(Method::POST, path, body).await
    }

    /// All items of a list that comes in pages, one after the other.
    pub(super) async fn each(
        &self,
        path: &str,
        (list, cursor): (&str, &str),
        mut item: impl FnMut(&Value) -> Result<()>,
    ) -> Result<()> {
        let mut from = String::new();
        loop {
            let joined = if path.contains('?') { '&' } else { '?' };
            let page = match &*from {
                "" => self.get(path).await?,
                from => self.get(&format!("{path}{joined}{cursor}={from}")).await?,
            };
            let items = page[list].as_array().with_context(|| format!("an answer without `{list}`"))?;
            items.iter().try_for_each(&mut item)?;
            let Some(next) = page["next"].as_str() else { return Ok(()) };
            from = encoded(next);
        }
    }

    async fn ask(&self, method: Method, path: &str, body: Option<Value>) -> Result<Value> {
        match timeout(ANSWERS_WITHIN, self.exchange(method, path, body)).await {
            Ok(answer) => answer,
            Err(_late) => bail!("`heliograph up` gave no answer within {ANSWERS_WITHIN:?}; whether it did it is open"),
        }
    }

    async fn exchange(&self, method: Method, path: &str, body: Option<Value>) -> Result<Value> {
        let stream = folder::ask_up(&self.folder).await?;
        let lost = "the connection to `heliograph up` broke; whether it did it is open: ask again";
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.context(lost)?;
        // Ends with the answer; what goes wrong on it shows there.
        tokio::spawn(connection);
        let body = body.map_or_else(Bytes::new, |body| Bytes::from(body.to_string()));
        let request = Request::builder()
            .method(method)
            .uri(format!("/admin/v1{path}"))
            .header(HOST, "admin.sock")
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(body))?;
        let (head, body) = sender.send_request(request).await.context(lost)?.into_parts();
        let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|error| anyhow::anyhow!("{lost} ({error})"))?.to_bytes();
        if !head.status.is_success() {
            match serde_json::from_slice(&body) {
                Ok(Said { error }) => bail!("{error}"),
                Err(_other) => bail!("`heliograph up` says {}", head.status),
            }
        }
        serde_json::from_slice(&body).context("an answer that is no JSON")
    }
}

/// As a part of a path or query (RFC 3986 §2.3): all but the unreserved is percent-encoded.
pub(super) fn encoded(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    // A part of a path that is dots alone would lead elsewhere.
    if text.bytes().all(|byte| byte == b'.') { "%2E".repeat(text.len()) } else { text.bytes().map(byte).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_typed_stays_one_part_of_the_path() {
        assert_eq!(encoded("alice.b-1_x"), "alice.b-1_x");
        assert_eq!(encoded("a/b?c d%ü"), "a%2Fb%3Fc%20d%25%C3%BC");
        assert_eq!(encoded(".."), "%2E%2E");
    }
}
