//! Tickets: got over HTTP, taken by a socket.

use futures_util::future::join_all;
use serde_json::json;

use super::Person;
use super::accounts::is_revoked;
use super::http::Http;
use crate::process::Up;
use crate::protocol_page::{Speaker, block};

/// The close codes of a ticket that is spent and of one whose sign-in has ended.
const SPENT: u16 = 4502;
const REVOKED: u16 = 4505;

impl Person {
    pub(crate) async fn ticket(&self) -> String {
        let minted = self.http.post("/v1/tickets", json!({})).await;
        assert_eq!(minted.status, 201, "{minted:?}");
        minted.text("ticket")
    }
}

fn url(up: &Up) -> String {
    format!("ws://{}/v1/socket", up.listen)
}

/// Signs in with the ticket as the page says.
pub(crate) async fn comes_with(up: &Up, ticket: &str) -> Speaker {
    let mut speaker = Speaker::connect(&url(up)).await;
    assert_eq!(speaker.hold(block("ticket"), &[("TICKET", ticket.to_owned())]).await, (1, 1));
    speaker
}

/// Whether it lets a socket in.
pub(crate) async fn is_taken(up: &Up, ticket: &str) -> bool {
    let mut speaker = Speaker::connect(&url(up)).await;
    speaker.say(json!({ "id": "1", "authenticate": { "ticket": ticket, "device": "laptop" } }).to_string()).await;
    speaker.is_welcome().await
}

/// The code that a socket is closed with that comes with the ticket.
pub(crate) async fn refused(up: &Up, ticket: &str) -> u16 {
    let mut speaker = Speaker::connect(&url(up)).await;
    speaker.say(json!({ "id": "1", "authenticate": { "ticket": ticket, "device": "laptop" } }).to_string()).await;
    speaker.closed().await
}

#[tokio::test(flavor = "multi_thread")]
async fn x2_a_ticket_opens_one_socket_as_the_page_says_whatever_is_killed_in_between() {
    let mut up = Up::new();
    up.start().await;
    let (alice, _) = up.register("alice").await;
    let (first, second) = (alice.ticket().await, alice.ticket().await);
    assert_ne!(first, second);
    let taken = comes_with(&up, &first).await;
    assert_eq!(refused(&up, &first).await, SPENT);
    up.kill();
    up.start().await;
    assert_eq!(refused(&up, &first).await, SPENT, "what was taken stays so");
    comes_with(&up, &second).await;
    assert_eq!(refused(&up, &second).await, SPENT);
    drop(taken);
    up.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn x2_a_ticket_is_worth_nothing_over_http_nor_without_its_sign_in() {
    let mut up = Up::new();
    up.start().await;
    let (alice, _) = up.register("alice").await;
    let ticket = alice.ticket().await;
    let bearing = Http { token: Some(ticket.clone()), ..up.http() };
    assert_eq!(bearing.post("/v1/tickets", json!({})).await.problem(), "unauthenticated");
    let mut socket = comes_with(&up, &ticket).await;
    let ended = alice.ticket().await;
    assert_eq!(alice.http.delete("/v1/sign-ins/current").await.status, 204);
    assert_eq!(socket.closed().await, REVOKED, "the socket goes with the sign-in");
    assert_eq!(refused(&up, &ended).await, REVOKED);
    is_revoked(&alice.http).await;
    let many = join_all((0..4).map(|_| alice.http.post("/v1/tickets", json!({})))).await;
    assert!(many.iter().all(|answer| answer.problem() == "unauthenticated"), "{many:?}");
    up.stop().await;
}
