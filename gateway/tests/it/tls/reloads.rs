//! A new certificate: for the handshakes that come, and for no socket that lives.

use std::fs;
use std::os::unix::fs::symlink;

use gateway::socket::{Config, TlsConfig};
use rustls::HandshakeKind;
use testkit::{Issued, logs};

use super::files::{self, Files};
use super::peer::{Client, Secured};
use crate::socket::peer::{Behaviour, config, frame, within};

const REFUSED: &str = "certificate not reloaded";
/// Never by itself, within a test.
const AN_HOUR_MS: u64 = 3_600_000;

impl Secured {
    /// The certificate that a new handshake shows.
    async fn shown(&self) -> Vec<u8> {
        let client = self.connect().await;
        client.stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
    }

    async fn until_shown(&self, issued: &Issued) {
        within(async { while self.shown().await != issued.der {} }).await;
    }

    fn ask_to_reload(&self) {
        self.gateway.reload.as_ref().unwrap().ask();
    }
}

/// One whose files are looked at this often.
fn start(reload_interval_ms: u64) -> (Secured, Issued) {
    let authority = files::authority();
    let issued = authority.issue().unwrap();
    let files = Files::of(&issued);
    let tls = TlsConfig { reload_interval_ms, ..files.config() };
    (Secured::of(Config { tls: Some(tls), ..config() }, authority, files, Behaviour::Echo), issued)
}

async fn still_lives(client: &mut Client) {
    client.send_record(&frame(0x82, b"still here")).await;
    assert_eq!(client.frame().await.unwrap().payload, "still here");
}

#[tokio::test]
async fn new_sockets_get_the_new_certificate_and_old_ones_live() {
    let (mut secured, old) = start(AN_HOUR_MS);
    let (mut client, _opened) = secured.open().await;
    still_lives(&mut client).await;
    let new = secured.authority.issue().unwrap();
    secured.files.write(&new.certificate, &new.key);
    assert_eq!(secured.shown().await, old.der, "control: nobody has looked");
    secured.ask_to_reload();
    secured.until_shown(&new).await;
    still_lives(&mut client).await;
    // Who comes back shows what it has of the old one, and it is worth nothing.
    let (client, _opened) = secured.open().await;
    assert_eq!(client.stream.get_ref().1.peer_certificates().unwrap()[0].to_vec(), new.der);
    assert_ne!(client.stream.get_ref().1.handshake_kind(), None);
}

#[tokio::test]
async fn nobody_resumes_by_a_certificate_that_was_replaced() {
    let (mut secured, _old) = start(AN_HOUR_MS);
    let mut kinds = Vec::new();
    for round in 0..3 {
        if round == 2 {
            let new = secured.authority.issue().unwrap();
            secured.files.write(&new.certificate, &new.key);
            secured.ask_to_reload();
            // With tickets of its own, so that it uses up none.
            let client =
                std::mem::replace(&mut secured.client, std::sync::Arc::new(super::peer::trusting(&secured.authority)));
            secured.until_shown(&new).await;
            secured.client = client;
        }
        let (mut client, _opened) = secured.open().await;
        still_lives(&mut client).await;
        kinds.push(client.stream.get_ref().1.handshake_kind());
    }
    assert_eq!(kinds, [Some(HandshakeKind::Full), Some(HandshakeKind::Resumed), Some(HandshakeKind::Full)]);
}

#[tokio::test]
async fn a_symlink_that_is_swapped_is_seen_by_itself() {
    let authority = files::authority();
    let (old, new) = (authority.issue().unwrap(), authority.issue().unwrap());
    let files = Files::of(&old);
    let folder = files.folder();
    for (name, issued) in [("..1", &old), ("..2", &new)] {
        fs::create_dir(folder.join(name)).unwrap();
        fs::write(folder.join(name).join("tls.crt"), &issued.certificate).unwrap();
        fs::write(folder.join(name).join("tls.key"), &issued.key).unwrap();
    }
    // As a secret is mounted: the files are links into a folder that is a link itself, and only that one changes.
    symlink("..1", folder.join("..data")).unwrap();
    for file in ["tls.crt", "tls.key"] {
        fs::remove_file(folder.join(file)).unwrap();
        symlink(format!("..data/{file}"), folder.join(file)).unwrap();
    }
    let tls = TlsConfig { reload_interval_ms: 20, ..files.config() };
    let mut secured = Secured::of(Config { tls: Some(tls), ..config() }, authority, files, Behaviour::Echo);
    let (mut client, _opened) = secured.open().await;
    assert_eq!(secured.shown().await, old.der);
    let folder = secured.files.folder();
    symlink("..2", folder.join("..data_new")).unwrap();
    fs::rename(folder.join("..data_new"), folder.join("..data")).unwrap();
    secured.until_shown(&new).await;
    still_lives(&mut client).await;
}

#[tokio::test]
async fn a_pair_that_cannot_be_used_changes_nothing() {
    let watch = logs::watch();
    watch.allow(REFUSED);
    let (mut secured, old) = start(20);
    let (mut client, _opened) = secured.open().await;
    let (new, other) = (secured.authority.issue().unwrap(), secured.authority.issue().unwrap());
    let folder = secured.files.folder().display().to_string();
    let told = || watch.lines().iter().filter(|line| line.contains(REFUSED) && line.contains(&folder)).count();
    let bad = [("nonsense", new.key.as_str()), (&new.certificate, "nonsense"), (&new.certificate, &other.key)];
    for (number, (certificate, key)) in bad.into_iter().enumerate() {
        secured.files.write(certificate, key);
        // A look may fall between the two files, and finds another bad pair then.
        within(async {
            while told() <= number {
                tokio::task::yield_now().await;
            }
        })
        .await;
        for _ in 0..5 {
            assert_eq!(secured.shown().await, old.der);
        }
    }
    assert!(watch.lines().iter().all(|line| !line.contains(new.key.lines().nth(1).unwrap())), "the key was logged");
    still_lives(&mut client).await;
    secured.files.write(&new.certificate, &new.key);
    secured.until_shown(&new).await;
    still_lives(&mut client).await;
}
