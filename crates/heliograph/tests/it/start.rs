//! What stands in the way of a start, and two terminals that talk.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use client::Trust;
use event_log::{BrokerLogin, Log, LogConfig};
use heliograph::broker::{self, Access};
use heliograph::chat::{ChatArgs, run_on};
use heliograph::folder;
use nix::sys::signal::{Signal, kill};
use testkit::children::pause;
use testkit::wait::until;
use testkit::{Running, Scratch};
use tokens::TokenKeys;
use tokio::io::{AsyncWriteExt as _, BufReader, DuplexStream, duplex};

use crate::cast::{SOON, user};
use crate::kills::Talk;
use crate::process::Up;

const FAILS_WITHIN: Duration = Duration::from_secs(30);
/// Longer than roles are given once the broker is gone.
const ENDS_WITHIN: Duration = Duration::from_secs(60);
/// Longer than one try to reach a broker.
const ANSWERS_NOT_FOR: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_is_taken_is_an_error_that_names_the_flag() {
    let up = Up::new();
    let _taken = std::net::TcpListener::bind(&up.listen).unwrap();
    let mut second = Running::start("heliograph up", up.command()).unwrap();
    let status = second.wait_for_end(FAILS_WITHIN).await.unwrap();
    assert!(!status.success());
    second.wait_for_line(FAILS_WITHIN, "choose another address with --listen").await.unwrap();
    second.wait_for_line(FAILS_WITHIN, &up.listen).await.unwrap();
    assert_eq!(up.broker(), None, "the broker outlived a start that failed");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_orphan_that_syncs_otherwise_than_asked_is_replaced() {
    let mut up = Up::new();
    up.start().await;
    let mut talk = Talk::begin(up.cast(), 1).await;
    talk.goes_on(10, "the start").await;
    let orphan = up.broker().expect("a broker");
    up.kill();
    up.is_lazy = false;
    up.start().await;
    assert_ne!(up.broker(), Some(orphan), "a lazily synced broker was adopted");
    let config = fs::read_to_string(up.folder().join("broker/nats-server.conf")).unwrap();
    assert!(config.contains("sync_interval: \"always\""), "{config}");
    assert!(!up.folder().join("broker/lazy-boot").exists(), "what was written lazily is on disk now");
    talk.goes_on(10, "the second start").await;
    talk.end().await;
    talk.cast.verdict().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_broker_that_can_be_started_it_ends_and_says_so() {
    let mut up = Up::new();
    let (program, scratch) = (testkit::nats::find_binary().unwrap(), Scratch::new("broker").unwrap());
    let copy = scratch.join("nats-server");
    fs::copy(program, &copy).unwrap();
    let mut command = up.command();
    command.env("HELIOGRAPH_NATS_SERVER", &copy);
    up.start_with(command).await;
    let mut talk = Talk::begin(up.cast(), 1).await;
    talk.goes_on(10, "the start").await;
    fs::remove_file(&copy).unwrap();
    up.kill_broker();
    let mut running = up.running.take().unwrap();
    let status = running.wait_for_end(ENDS_WITHIN).await.unwrap();
    assert_eq!(status.code(), Some(1), "{}", running.tail());
    running.wait_for_line(FAILS_WITHIN, "cannot start").await.unwrap();
    // What was said is still there, for whoever starts it with a broker.
    up.start().await;
    talk.goes_on(10, "the second start").await;
    talk.end().await;
    talk.cast.verdict().await;
    up.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_orphan_that_does_not_answer_yet_is_waited_for() {
    let mut up = Up::new();
    up.start().await;
    let mut talk = Talk::begin(up.cast(), 1).await;
    talk.goes_on(10, "the start").await;
    let orphan = up.broker().expect("a broker");
    up.kill();
    // As one that still reads its streams, or on a machine that is busy.
    pause(orphan).unwrap();
    let mut starting = Running::start("heliograph up", up.command()).unwrap();
    assert!(starting.wait_for_line(ANSWERS_NOT_FOR, "listens on").await.is_err());
    kill(orphan, Signal::SIGCONT).unwrap();
    starting.wait_for_line(FAILS_WITHIN, "Heliograph listens on").await.unwrap();
    assert_eq!(up.broker(), Some(orphan), "a second broker was started on the same streams");
    up.running = Some(starting);
    talk.goes_on(10, "the second start").await;
    talk.end().await;
    talk.cast.verdict().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_up_on_the_same_folder_is_refused_and_the_first_goes_on() {
    let mut up = Up::new();
    up.start().await;
    let mut second = Running::start("a second heliograph up", up.command()).unwrap();
    let status = second.wait_for_end(FAILS_WITHIN).await.unwrap();
    assert!(!status.success());
    second.wait_for_line(FAILS_WITHIN, "in use by another").await.unwrap();
    let mut talk = Talk::begin(up.cast(), 1).await;
    talk.goes_on(10, "the refused start").await;
    talk.end().await;
    talk.cast.verdict().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_orderly_stop_takes_the_broker_along_and_keeps_what_was_said() {
    let mut up = Up::new();
    up.start().await;
    let mut talk = Talk::begin(up.cast(), 1).await;
    talk.goes_on(10, "the start").await;
    up.stop().await;
    assert_eq!(up.broker(), None, "the broker outlived an orderly stop");
    up.start().await;
    talk.goes_on(10, "the second start").await;
    let said = talk.end().await;
    let report = talk.cast.verdict().await;
    assert_eq!(report.counts.entries, said + 2, "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lazily_synced_broker_whose_host_went_down_is_not_gone_on_from() {
    let mut up = Up::new();
    let mark = up.folder().join("broker/lazy-boot");
    up.start().await;
    let mut talk = Talk::begin(up.cast(), 1).await;
    talk.goes_on(10, "the start").await;
    up.kill();
    // The same boot: nothing is lost with the process.
    up.start().await;
    talk.goes_on(10, "the kill").await;
    up.kill();
    up.kill_broker();
    fs::write(&mark, "another boot").unwrap();
    let mut second = Running::start("heliograph up after a power cut", up.command()).unwrap();
    let status = second.wait_for_end(FAILS_WITHIN).await.unwrap();
    assert!(!status.success());
    second.wait_for_line(FAILS_WITHIN, "the machine went down").await.unwrap();
    // Stopped in order, it may be started on any boot.
    fs::write(&mark, event_log::host_boot_id().unwrap()).unwrap();
    up.start().await;
    up.stop().await;
    assert!(!mark.exists(), "the mark outlived an orderly stop");
    up.start().await;
    talk.goes_on(10, "the orderly stop").await;
    talk.end().await;
    talk.cast.verdict().await;
}

/// One person at a terminal.
pub(crate) struct Person {
    keyboard: DuplexStream,
    screen: Screen,
}

#[derive(Clone, Default)]
struct Screen(Arc<Mutex<Vec<u8>>>);

impl Write for Screen {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn at_terminal(up: &Up, trust: Trust, name: &str, to: &str) -> ChatArgs {
    let key = TokenKeys::from_pem(&folder::token_key(up.folder()).unwrap()).unwrap();
    let token = key.mint(domain::UserId::new(user(name).0), Duration::from_secs(60)).unwrap();
    let address = folder::address(up.folder()).unwrap();
    let (name, to) = (Some(name.to_owned()), Some(to.to_owned()));
    ChatArgs { address, trust, token: token.into(), device: None, name, to }
}

impl Person {
    fn sit_down(up: &Up, name: &str, to: &str) -> Self {
        Self::sit_down_trusting(up, Trust::Platform, name, to)
    }

    pub(crate) fn sit_down_trusting(up: &Up, trust: Trust, name: &str, to: &str) -> Self {
        let args = at_terminal(up, trust, name, to);
        let (keyboard, input) = duplex(4_096);
        let screen = Screen::default();
        let output = screen.clone();
        tokio::spawn(async move { run_on(args, BufReader::new(input), output).await });
        Self { keyboard, screen }
    }

    pub(crate) async fn types(&mut self, line: &str) {
        self.keyboard.write_all(format!("{line}\n").as_bytes()).await.unwrap();
    }

    pub(crate) async fn reads(&self, text: &str) {
        until(SOON, &format!("`{text}` on a screen"), async || {
            String::from_utf8_lossy(&self.screen.0.lock().unwrap()).contains(text)
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_terminals_talk() {
    let mut up = Up::new();
    up.start().await;
    let mut alice = Person::sit_down(&up, "alice", "bob");
    let mut bob = Person::sit_down(&up, "bob", "alice");
    alice.reads("in the chat with bob").await;
    bob.reads("in the chat with alice").await;
    alice.types("hello bob").await;
    bob.reads("alice: hello bob").await;
    alice.reads("stored as #2").await;
    alice.reads("#2 seen by bob").await;
    bob.types("hello alice").await;
    alice.reads("bob: hello alice").await;
    bob.reads("#3 seen by alice").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_that_is_piped_in_is_stored_in_order_or_the_end_says_how_much_is_not() {
    // More than the outbox holds, and not all of it text.
    let mut input = b"caf\xe9\n".to_vec();
    (1..=1_500).for_each(|number| input.extend(format!("line {number}\n").bytes()));
    let mut up = Up::new();
    up.start().await;
    let (args, screen) = (at_terminal(&up, Trust::Platform, "alice", "bob"), Screen::default());
    run_on(args.clone(), input.as_slice(), screen.clone()).await.unwrap();
    let screen = String::from_utf8_lossy(&screen.0.lock().unwrap()).into_owned();
    assert!(!screen.contains('\u{2717}'), "{screen}");
    assert!(screen.contains("\u{201c}caf\u{fffd}\u{201d} stored as #2\n"), "{screen}");
    assert!(screen.contains("\u{201c}line 1500\u{201d} stored as #1502\n"), "{screen}");
    up.kill();
    let error = run_on(args, b"hello\n/quit\n".as_slice(), Screen::default()).await.unwrap_err();
    assert_eq!(error.to_string(), "1 line has no answer and may not have been sent");
}

#[tokio::test(flavor = "multi_thread")]
async fn other_users_of_the_machine_read_nothing_and_get_no_word_from_the_broker() {
    let mut up = Up::new();
    up.start().await;
    for closed in ["broker", "store"] {
        let mode = fs::metadata(up.folder().join(closed)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700, "{closed}: {mode:o}");
    }
    let Access { url, login } = broker::access_of(&folder::broker(up.folder())).unwrap();
    let connect = async |login| {
        let log = Log::connect(LogConfig { servers: vec![url.clone()], login, ..LogConfig::default() }).await?;
        log.open_streams().await.map(|_epochs| ())
    };
    assert!(connect(None).await.is_err());
    let wrong = BrokerLogin { password: "0".repeat(32), ..login.clone() };
    assert!(!format!("{wrong:?}").contains(&wrong.password));
    assert!(connect(Some(wrong)).await.is_err());
    // The control: who may read the folder is let in.
    let partitions =
        LogConfig { servers: vec![url.clone()], login: Some(login), partitions: 1, ..LogConfig::default() };
    Log::connect(partitions).await.unwrap();
    up.stop().await;
}
