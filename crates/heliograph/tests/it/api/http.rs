//! One HTTP request after the other, each over a connection of its own.

use std::collections::BTreeMap;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::cast::SOON;

/// An answer.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: BTreeMap<String, String>,
    /// What is no JSON is a string.
    pub(crate) body: Value,
}

impl Answer {
    /// The last part of a problem's type.
    pub(crate) fn problem(&self) -> &str {
        assert_eq!(self.headers["content-type"], "application/problem+json", "{self:?}");
        assert_eq!(self.body["status"], self.status, "{self:?}");
        self.body["type"].as_str().and_then(|name| name.strip_prefix("/problems/")).unwrap()
    }

    /// A field of the body that is a string.
    pub(crate) fn text(&self, field: &str) -> String {
        self.body[field].as_str().unwrap_or_else(|| panic!("no {field} in {self:?}")).to_owned()
    }
}

/// Who asks, where.
#[derive(Clone, Debug)]
pub(crate) struct Http {
    pub(crate) address: String,
    pub(crate) token: Option<String>,
}

impl Http {
    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[], None).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.ask("DELETE", path, &[], None).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        self.ask("POST", path, &[], Some(body.to_string())).await
    }

    pub(crate) async fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: Option<String>) -> Answer {
        self.try_ask(method, path, headers, body).await.expect("a whole answer")
    }

    /// None: the server went away before it had answered.
    pub(crate) async fn try_ask(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<String>,
    ) -> Option<Answer> {
        let mut head = format!("{method} {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n", self.address);
        let bearer = self.token.as_ref().map(|token| format!("Bearer {token}"));
        let authorization = bearer.as_ref().map(|bearer| ("authorization", &**bearer));
        let content_type = body.as_ref().map(|_| ("content-type", "application/json"));
        // Given ones come first and stand for those that would be added.
        let added = authorization.into_iter().chain(content_type);
        let added = added.filter(|(name, _)| !headers.iter().any(|(given, _)| given == name));
        for (name, value) in headers.iter().copied().chain(added) {
            head += &format!("{name}: {value}\r\n");
        }
        let body = body.unwrap_or_default();
        head += &format!("content-length: {}\r\n\r\n{body}", body.len());
        let asked = async {
            let mut stream = TcpStream::connect(&self.address).await.ok()?;
            stream.write_all(head.as_bytes()).await.ok()?;
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await.ok()?;
            Some(String::from_utf8(answer).unwrap())
        };
        let answer = timeout(SOON, asked).await.expect("an answer in time")?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        let mut lines = head.lines();
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers = lines.filter_map(|line| line.split_once(": "));
        let headers = headers.map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect();
        let body = serde_json::from_str(body).unwrap_or_else(|_| Value::String(body.to_owned()));
        Some(Answer { status, headers, body })
    }
}
