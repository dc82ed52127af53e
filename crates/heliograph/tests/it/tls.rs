//! `heliograph up` that speaks TLS itself: terminals over it, its certificate's change, and what operators see of it.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use client::Trust;
use nix::sys::signal::Signal;
use testkit::wait::until;
use testkit::{Authority, Issued, Running, Scratch};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::cast::SOON;
use crate::process::{Up, free_port};
use crate::start::Person;

const FAILS_WITHIN: Duration = Duration::from_secs(30);
const REFUSED: &str = "certificate not reloaded";

/// An `up` with a certificate.
pub(crate) struct Secured {
    pub(crate) up: Up,
    admin: SocketAddr,
    authority: Authority,
    shown: Issued,
    folder: Scratch,
}

impl Secured {
    pub(crate) fn new() -> Self {
        let authority = Authority::new("the authority of this test").unwrap();
        let shown = authority.issue().unwrap();
        let admin = ([127, 0, 0, 1], free_port()).into();
        let secured = Self { up: Up::new(), admin, authority, shown, folder: Scratch::new("tls").unwrap() };
        secured.write(&secured.shown.certificate, &secured.shown.key);
        fs::write(secured.trusted(), secured.authority.pem()).unwrap();
        secured
    }

    fn write(&self, certificate: &str, key: &str) {
        fs::write(self.folder.join("tls.crt"), certificate).unwrap();
        fs::write(self.folder.join("tls.key"), key).unwrap();
    }

    /// What its clients have to trust.
    pub(crate) fn trusted(&self) -> PathBuf {
        self.folder.join("authority.pem")
    }

    fn command(&self) -> Command {
        let mut command = self.up.command();
        command.arg("--tls-certificate").arg(self.folder.join("tls.crt"));
        command.arg("--tls-key").arg(self.folder.join("tls.key"));
        command.args(["--admin", &self.admin.to_string()]);
        command
    }

    pub(crate) async fn start(&mut self) {
        self.up.start_with(self.command()).await;
    }

    /// One line of the metrics, up to its value; 0 if there is none.
    async fn metric(&self, line: &str) -> f64 {
        let mut stream = TcpStream::connect(self.admin).await.unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut page = String::new();
        stream.read_to_string(&mut page).await.unwrap();
        let value = page.lines().find_map(|found| found.strip_prefix(line)?.trim().parse().ok());
        value.unwrap_or(0.0)
    }

    async fn until_metric(&self, line: &str, value: f64) {
        until(SOON, line, async || (self.metric(line).await == value).then_some(())).await;
    }

    /// All that it says to these bytes.
    async fn answer(&self, bytes: &[u8]) -> Vec<u8> {
        let mut stream = TcpStream::connect(&self.up.listen).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        answer
    }

    fn hang_up(&self) {
        self.up.running.as_ref().unwrap().signal(Signal::SIGHUP).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn terminals_talk_over_tls_while_the_certificate_changes() {
    let mut secured = Secured::new();
    secured.start().await;
    let expires = "gateway_tls_certificate_expires_seconds";
    secured.until_metric(expires, secured.shown.expires_s as f64).await;
    let sit_down = |name, to| Person::sit_down_trusting(&secured.up, Trust::File(secured.trusted()), name, to);
    let (mut alice, bob) = (sit_down("alice", "bob"), sit_down("bob", "alice"));
    alice.reads("in the chat with bob").await;
    bob.reads("in the chat with alice").await;
    alice.types("before").await;
    bob.reads("alice: before").await;

    // One that does not fit: told, counted, and nothing changes.
    let (new, other) = (secured.authority.issue().unwrap(), secured.authority.issue().unwrap());
    secured.write(&new.certificate, &other.key);
    for looks in [1.0, 2.0, 3.0] {
        secured.hang_up();
        secured.until_metric("gateway_tls_reloads_total{result=\"refused\"}", looks).await;
    }
    let running = secured.up.running.as_mut().unwrap();
    running.wait_for_line(SOON, REFUSED).await.unwrap();
    assert_eq!(running.lines().iter().filter(|line| line.contains(REFUSED)).count(), 1, "told once");
    assert!(running.lines().iter().all(|line| !line.contains(other.key.lines().nth(1).unwrap())));

    secured.write(&new.certificate, &new.key);
    secured.hang_up();
    secured.until_metric("gateway_tls_reloads_total{result=\"loaded\"}", 1.0).await;
    alice.types("after").await;
    bob.reads("alice: after").await;
    let mut carol = Person::sit_down_trusting(&secured.up, Trust::File(secured.trusted()), "carol", "alice");
    carol.reads("in the chat with alice").await;
    carol.types("with the new one").await;
    carol.reads("stored as #2").await;

    let http = String::from_utf8(secured.answer(b"GET /v1/socket HTTP/1.1\r\n\r\n").await).unwrap();
    assert!(http.contains("heliograph-error: tls_required"), "{http}");
    secured.answer(&[0x16, 3, 1, 0, 4, 9, 9, 9, 9]).await;
    for code in ["tls_required", "tls_malformed"] {
        secured.until_metric(&format!("gateway_handshakes_refused_total{{code=\"{code}\"}}"), 1.0).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_with_a_key_of_another_certificate_fails_and_names_both_files() {
    let secured = Secured::new();
    secured.write(&secured.shown.certificate, &secured.authority.issue().unwrap().key);
    let mut running = Running::start("heliograph up", secured.command()).unwrap();
    let status = running.wait_for_end(FAILS_WITHIN).await.unwrap();
    assert!(!status.success());
    running.wait_for_line(FAILS_WITHIN, "tls.key is not that of the certificate in").await.unwrap();
    assert!(!running.tail().contains("--listen"), "{}", running.tail());
    assert_eq!(secured.up.broker(), None, "the broker outlived a start that failed");
}
