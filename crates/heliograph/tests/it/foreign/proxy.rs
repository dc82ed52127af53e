//! `HAProxy` between, with the very file that operators get: TLS ends there, and the gateway still knows who is who.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use heliograph::folder;
use testkit::wait::until;
use testkit::{Running, Scratch};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use super::{command, given, succeeds};
use crate::process::{Up, free_port};

const CONFIG: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../infra/haproxy.cfg");
/// Two health checks at the most, and a start.
const UP_WITHIN: Duration = Duration::from_secs(30);
const STOP_WITHIN: Duration = Duration::from_secs(30);

/// A running `HAProxy` in front of one gateway.
struct Proxy {
    url: String,
    /// What its clients have to trust.
    certificate: PathBuf,
    running: Running,
    // Declared last: its process ends first.
    _scratch: Scratch,
}

impl Proxy {
    /// Starts it before this gateway, and waits until it found that one well.
    async fn start(up: &Up, admin_port: u16) -> Self {
        let scratch = Scratch::new("proxy").unwrap();
        let (certificate, key) = (scratch.join("certificate.pem"), scratch.join("key.pem"));
        let mut openssl = Command::new("openssl");
        openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]);
        openssl.args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout"]);
        let made =
            openssl.arg(&key).arg("-out").arg(&certificate).output().expect("openssl, of the package of that name");
        assert!(made.status.success(), "{made:?}");
        let certificates = scratch.join("certificates");
        fs::create_dir(&certificates).unwrap();
        let both = [fs::read(&certificate).unwrap(), fs::read(&key).unwrap()].concat();
        fs::write(certificates.join("localhost.pem"), both).unwrap();

        let (port, control) = (free_port(), scratch.join("control"));
        let mut haproxy = Command::new(given("HELIOGRAPH_FOREIGN_HAPROXY"));
        // In the foreground, where its end is ours.
        haproxy.args(["-db", "-f", CONFIG]);
        haproxy.env("HELIOGRAPH_PROXY_LISTEN", format!("127.0.0.1:{port}")).env("HELIOGRAPH_PROXY_CERTS", certificates);
        haproxy.env("HELIOGRAPH_PROXY_CONTROL", &control).env("HELIOGRAPH_GATEWAY", &up.listen);
        haproxy.env("HELIOGRAPH_GATEWAY_ADMIN", admin_port.to_string());
        haproxy.env("HELIOGRAPH_API", folder::api(up.folder()).unwrap());
        haproxy.env("HELIOGRAPH_API_ADMIN", admin_port.to_string());
        let mut running = Running::start("haproxy", haproxy).unwrap();
        until(UP_WITHIN, "HAProxy to find gateway and API well", async || {
            let ended = running.try_status().unwrap();
            assert!(ended.is_none(), "HAProxy ended: {}", running.tail());
            let mut socket = UnixStream::connect(&control).await.ok()?;
            socket.write_all(b"show stat\n").await.ok()?;
            let mut stat = String::new();
            socket.read_to_string(&mut stat).await.ok()?;
            // The admin listener's answer over HTTP, not the mere start as up.
            let is_well = |server| stat.lines().any(|line| line.starts_with(server) && line.contains(",L7OK,"));
            (is_well("gateways,gateway-1,") && is_well("apis,api-1,")).then_some(())
        })
        .await;
        let url = format!("wss://127.0.0.1:{port}/v1/socket");
        Self { url, certificate, running, _scratch: scratch }
    }

    /// Runs a script of Node.js through it.
    async fn converse(&self, up: &Up, script: &str, more: &[&str]) {
        let mut command = command(up, "node", script, &self.url, more);
        command.env("NODE_EXTRA_CA_CERTS", &self.certificate);
        succeeds(script, command).await;
    }

    /// What curl gets of a path: the status, and a field of the head.
    async fn gets(&self, path: &str, field: &str) -> String {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--output", "/dev/null", "--write-out", &format!("%{{http_code}} %header{{{field}}}")]);
        curl.arg("--cacert")
            .arg(&self.certificate)
            .arg(self.url.replace("wss://", "https://").replace("/v1/socket", path));
        let got = tokio::task::spawn_blocking(move || curl.output()).await.unwrap().unwrap();
        assert!(got.status.success(), "{got:?}");
        String::from_utf8(got.stdout).unwrap()
    }

    async fn stop(mut self) {
        // At once: SIGTERM is what it takes as that.
        self.running.stop(STOP_WITHIN).await.unwrap();
        let loud = |line: &String| ["[WARNING]", "[ALERT]"].iter().any(|level| line.contains(level));
        let loud: Vec<_> = self.running.lines().into_iter().filter(loud).collect();
        assert!(loud.is_empty(), "{loud:#?}");
    }
}

/// A gateway that this network's proxies tell who its clients are, and `HAProxy` before it.
async fn behind_haproxy(trusted: &str) -> (Up, Proxy) {
    let (mut up, admin_port) = (Up::new(), free_port());
    let mut command = up.command();
    command.args(["--admin", &format!("127.0.0.1:{admin_port}"), "--trusted-proxy", trusted]);
    up.start_with(command).await;
    let proxy = Proxy::start(&up, admin_port).await;
    (up, proxy)
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs HAProxy and Node.js with `ws`: `cargo xtask test foreign`"]
async fn messages_go_over_tls_through_haproxy() {
    let (mut up, proxy) = behind_haproxy("127.0.0.1/32").await;
    proxy.converse(&up, "node.mjs", &[]).await;
    proxy.stop().await;
    up.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs HAProxy and Node.js with `ws`: `cargo xtask test foreign`"]
async fn behind_a_trusted_haproxy_each_client_is_its_own_address() {
    let (mut up, proxy) = behind_haproxy("127.0.0.1/32").await;
    proxy.converse(&up, "addresses.mjs", &["101"]).await;
    proxy.stop().await;
    up.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs HAProxy and Node.js with `ws`: `cargo xtask test foreign`"]
async fn behind_an_unlisted_haproxy_all_clients_are_one_address() {
    let (mut up, proxy) = behind_haproxy("192.0.2.0/24").await;
    proxy.converse(&up, "addresses.mjs", &["429"]).await;
    proxy.stop().await;
    up.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs HAProxy and curl: `cargo xtask test foreign`"]
async fn the_api_is_behind_haproxy_too_and_counts_each_client() {
    let (mut up, proxy) = behind_haproxy("127.0.0.1/32").await;
    let counted = proxy.gets("/v1/openapi.json", "ratelimit-policy").await;
    assert!(counted.starts_with("200 \"address\""), "{counted}");
    assert!(proxy.gets("/docs", "content-type").await.starts_with("200 text/html"));
    assert!(proxy.gets("/.well-known/jwks.json", "content-type").await.starts_with("200"));
    // What is for operators is not there.
    for path in ["/metrics", "/livez", "/admin/v1/users", "/v2"] {
        assert!(proxy.gets(path, "date").await.starts_with("404"), "{path}");
    }
    proxy.stop().await;
    up.stop().await;
}
