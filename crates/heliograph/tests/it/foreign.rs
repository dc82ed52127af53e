//! Clients of other makers talk over the JSON sub-protocol with `heliograph up`; the scripts are in `clients/foreign/`.
//!
//! `cargo xtask test foreign` gets what they need and says where it is.

mod proxy;
mod readme;
mod schemathesis;

use std::env;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::response::Html;
use axum::routing::get;
use domain::UserId;
use heliograph::{folder, identity};
use testkit::Running;
use tokens::TokenKeys;
use tokio::net::TcpListener;

use crate::process::Up;
use crate::tls::Secured;

const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../clients/foreign");
/// Beyond it the script's own deadlines have failed.
const ENDS_WITHIN: Duration = Duration::from_secs(240);

fn given(variable: &str) -> String {
    env::var(variable).unwrap_or_else(|_| panic!("{variable} is not set: run `cargo xtask test foreign`"))
}

/// Runs a script to its end: with the socket's URL and a token of Alice and of Bob, then with `more`.
async fn converse(up: &Up, program: &str, script: &str, more: &[&str]) {
    let url = format!("ws://{}/v1/socket", up.listen);
    succeeds(script, command(up, program, script, &url, more)).await;
}

fn command(up: &Up, program: &str, script: &str, url: &str, more: &[&str]) -> Command {
    let key = TokenKeys::from_pem(&folder::token_key(up.folder()).unwrap()).unwrap();
    let token = |name| key.mint(UserId::new(identity::user_id(name).into_bytes()), Duration::from_secs(600)).unwrap();
    let mut command = Command::new(program);
    command.arg(Path::new(SCRIPTS).join(script)).arg(url);
    command.args([token("alice"), token("bob")]).args(more);
    command
}

async fn succeeds(script: &str, command: Command) {
    let mut running = Running::start(script, command).unwrap();
    let status = running.wait_for_end(ENDS_WITHIN).await.unwrap();
    assert!(status.success(), "{script}: {status}\n{}", running.tail());
}

/// A page that does nothing by itself, and the script that it may load.
async fn serve_page() -> SocketAddr {
    let script = std::fs::read_to_string(Path::new(SCRIPTS).join("conversation.mjs")).unwrap();
    let page = get(async || Html("<!doctype html><title>Heliograph</title>"));
    let script = get(async || ([(CONTENT_TYPE, "text/javascript")], script));
    let routes = Router::new().route("/", page).route("/conversation.mjs", script);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, routes).await });
    address
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Python with `websockets`: `cargo xtask test foreign`"]
async fn the_websockets_package_of_python_is_served() {
    let mut up = Up::new();
    up.start().await;
    converse(&up, &given("HELIOGRAPH_FOREIGN_PYTHON"), "conversation.py", &[]).await;
    up.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Node.js with `ws`: `cargo xtask test foreign`"]
async fn the_ws_package_of_node_is_served() {
    let mut up = Up::new();
    up.start().await;
    converse(&up, "node", "node.mjs", &[]).await;
    up.stop().await;
}

/// Over TLS in the gateway itself: each of these takes from its environment whom to trust.
async fn is_served_over_tls(program: &str, script: &str, trusts_by: &str) {
    let mut secured = Secured::new();
    secured.start().await;
    let url = format!("wss://{}/v1/socket", secured.up.listen);
    let mut command = command(&secured.up, program, script, &url, &[]);
    command.env(trusts_by, secured.trusted());
    succeeds(script, command).await;
    secured.up.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Python with `websockets`: `cargo xtask test foreign`"]
async fn the_websockets_package_of_python_is_served_over_tls() {
    is_served_over_tls(&given("HELIOGRAPH_FOREIGN_PYTHON"), "conversation.py", "SSL_CERT_FILE").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Node.js with `ws`: `cargo xtask test foreign`"]
async fn the_ws_package_of_node_is_served_over_tls() {
    is_served_over_tls("node", "node.mjs", "NODE_EXTRA_CA_CERTS").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Chromium: `cargo xtask test foreign`"]
async fn chromium_is_served_on_pages_of_an_allowed_origin_and_on_no_other() {
    let page = serve_page().await;
    let (allowed, other) = (format!("http://{page}"), format!("http://localhost:{}", page.port()));
    let mut up = Up::new();
    let mut command = up.command();
    command.args(["--allow-origin", &allowed]);
    up.start_with(command).await;
    converse(&up, "node", "browser.mjs", &[&given("HELIOGRAPH_FOREIGN_CHROMIUM"), &allowed, &other]).await;
    up.stop().await;
}
