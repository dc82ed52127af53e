//! The HTTP API of a whole `heliograph up`.

pub(crate) mod accounts;
mod blocks;
mod chats;
mod deletion;
mod description;
mod devices;
mod disk;
mod edge;
mod endings;
mod following;
mod governance;
pub(crate) mod http;
mod invites;
mod listing;
mod opinions;
mod references;
mod refusals;
pub(crate) mod tickets;
mod versions;

use serde_json::json;

use self::http::{Answer, Http};
use crate::process::Up;

pub(crate) const PASSWORD: &str = "correct horse battery staple";

impl Up {
    /// Somebody who has not said who it is.
    pub(crate) fn http(&self) -> Http {
        let address = std::fs::read_to_string(self.folder().join("api")).unwrap();
        Http { address, token: None }
    }

    /// A new account and its first device.
    pub(crate) async fn register(&self, handle: &str) -> (Person, Answer) {
        let account = json!({ "handle": handle, "password": PASSWORD, "device": "laptop" });
        let answer = self.http().post("/v1/accounts", account).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        let id = answer.body["user"]["id"].as_str().unwrap().to_owned();
        let http = Http { token: Some(answer.text("access_token")), ..self.http() };
        (Person { id, http }, answer)
    }
}

/// Somebody with an account.
#[derive(Clone, Debug)]
pub(crate) struct Person {
    pub(crate) id: String,
    pub(crate) http: Http,
}

impl Person {
    /// The same one, after a restart that moved the API.
    fn at(&self, up: &Up) -> Self {
        Self { id: self.id.clone(), http: Http { token: self.http.token.clone(), ..up.http() } }
    }

    /// The id of a new group with these others.
    pub(crate) async fn group(&self, others: &[&Self]) -> String {
        let members: Vec<_> = others.iter().map(|other| json!({ "user": other.id })).collect();
        let answer = self.http.post("/v1/chats", json!({ "kind": "group", "members": members })).await;
        assert_eq!((answer.status, &answer.body["seq"]), (201, &json!(1)), "{answer:?}");
        answer.text("chat")
    }

    pub(crate) async fn say(&self, chat: &str, text: &str, key: &str) -> Answer {
        let path = format!("/v1/chats/{chat}/messages");
        self.http.ask("POST", &path, &[("idempotency-key", key)], Some(json!({ "text": text }).to_string())).await
    }

    pub(crate) async fn read(&self, chat: &str, query: &str) -> Answer {
        self.http.get(&format!("/v1/chats/{chat}/messages?{query}")).await
    }
}
