//! What stands on the screen after events and lines; the client behind it never gets a socket.

use client::Options;
use client::machine::Identity;

use super::*;

fn chat() -> ChatId {
    ChatId::draw(0, 1_790_000_000_000, 5)
}

fn terminal(to: Option<&str>) -> Terminal<Vec<u8>> {
    // Port 9 of loopback: nobody listens, and the client only keeps trying.
    let (client, _events) = Client::connect(Options::new("ws://127.0.0.1:9/v1/socket", "", ""));
    Terminal::new(client, Vec::new(), "alice", to)
}

fn screen(terminal: &mut Terminal<Vec<u8>>) -> String {
    String::from_utf8(std::mem::take(&mut terminal.output)).unwrap()
}

fn entry(seq: u64, sender: &str, event: entry::Event) -> Event {
    let (chat, sender) = (chat().to_wire(), id_of(sender).to_wire());
    let entry = v1::Entry { chat, seq, sender, event: Some(event), ..v1::Entry::default() };
    Event::Entry { entry: Entry::new(entry).unwrap(), replaces: false }
}

fn message(text: &str) -> entry::Event {
    entry::Event::MessageSent(v1::MessageSent { body: text.to_owned().into() })
}

fn created() -> entry::Event {
    let member = |name, role: v1::Role| v1::Member { user: id_of(name).to_wire(), role: role.into() };
    let members = vec![member("alice", v1::Role::Owner), member("bob", v1::Role::Member)];
    entry::Event::ChatCreated(v1::ChatCreated { kind: v1::ChatKind::Direct.into(), members })
}

#[tokio::test]
async fn the_first_chat_that_speaks_is_opened_and_its_messages_are_printed() {
    let mut terminal = terminal(None);
    terminal.learn("bob");
    terminal.event(&entry(1, "bob", created())).unwrap();
    terminal.event(&entry(2, "bob", message("hi\u{1b}[2J there"))).unwrap();
    let screen = screen(&mut terminal);
    assert!(screen.contains("· in the chat with bob\n"), "{screen}");
    assert!(screen.contains("#2 bob: hi[2J there\n"), "no control character passes: {screen}");
}

#[tokio::test]
async fn ticks_go_from_accepted_over_stored_and_delivered_to_seen() {
    let mut terminal = terminal(None);
    terminal.learn("bob");
    terminal.event(&entry(1, "alice", created())).unwrap();
    screen(&mut terminal);
    terminal.line("hello").await.unwrap();
    assert!(!terminal.is_quiet());
    let id = *terminal.said.first_key_value().unwrap().0;
    terminal.event(&Event::Accepted { id }).unwrap();
    terminal.event(&entry(2, "alice", message("hello"))).unwrap();
    let settlement = Settlement::Stored { chat: chat(), seq: 2, time_us: 3 };
    let identity = Identity { chat: chat(), origin: 1, n: 1 };
    terminal.event(&Event::Settled { id, identity, settlement, corrected: false }).unwrap();
    let mark = |delivered, seen| Event::Watermark { chat: chat(), user: id_of("bob"), delivered, seen };
    for mark in [mark(2, 0), mark(2, 0), mark(2, 2), mark(1, 1)] {
        terminal.event(&mark).unwrap();
    }
    let expected = "  ✓ “hello” accepted\n#2 alice: hello\n  ✓✓ “hello” stored as #2\n  \
                    ✓✓ #2 delivered to bob\n  ✓✓ #2 seen by bob\n";
    assert_eq!(screen(&mut terminal), expected);
    assert!(terminal.is_quiet());
    terminal.line("/who").await.unwrap();
    let who = screen(&mut terminal);
    assert!(who.contains("bob (member), delivered #2, seen #2"), "{who}");
}

#[tokio::test]
async fn outside_a_chat_nothing_is_said() {
    let mut terminal = terminal(None);
    terminal.line("hello").await.unwrap();
    assert!(screen(&mut terminal).contains("not in a chat yet"));
    assert_eq!(terminal.line("/quit").await.unwrap(), Next::Quit);
}
