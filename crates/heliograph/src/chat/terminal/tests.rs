//! What stands on the screen after events and lines; the client behind it never gets a socket.

use client::machine::{Bounds, Entry, Identity};
use client::{Event, Options, Settlement};
use proto::v1::{self, ErrorCode, entry};

use super::*;

fn chat() -> ChatId {
    ChatId::draw(0, 1_790_000_000_000, 5)
}

fn with(frank: &str) -> ChatId {
    assert_eq!(frank, "frank");
    ChatId::draw(0, 1_790_000_000_000, 999)
}

fn id_of(name: &str) -> UserId {
    Names::default().learn(name)
}

fn terminal_with(outbox: usize, to: Option<&str>) -> Terminal<Vec<u8>> {
    // Port 9 of loopback: nobody listens, and the client only keeps trying.
    let mut options = Options::new("ws://127.0.0.1:9/v1/socket", "", "");
    options.outbox = Bounds { count: outbox, ..Bounds::default() };
    let (client, _events) = Client::connect(options);
    Terminal::new(client, Vec::new(), ("127.0.0.1:9", Some("alice"), to))
}

/// A terminal that is connected, its one partition caught up.
async fn terminal() -> Terminal<Vec<u8>> {
    let mut terminal = terminal_with(8, None);
    connect(&mut terminal).await;
    see(&mut terminal, caught_up()).await;
    screen(&mut terminal);
    terminal
}

async fn connect(terminal: &mut Terminal<Vec<u8>>) {
    see(terminal, Event::Connected { session: 1, user: id_of("alice"), partitions: 1, resumed: false }).await;
}

fn caught_up() -> Event {
    Event::CaughtUp { partition: 0, epoch: 1, all: true }
}

async fn see(terminal: &mut Terminal<Vec<u8>>, event: Event) {
    assert_eq!(terminal.event(&event).await.unwrap(), Next::Stay);
}

fn screen(terminal: &mut Terminal<Vec<u8>>) -> String {
    String::from_utf8(std::mem::take(&mut terminal.output)).unwrap()
}

fn entry_of(chat: ChatId, seq: u64, sender: &str, event: entry::Event) -> Event {
    let (chat, sender) = (chat.to_wire(), id_of(sender).to_wire());
    let entry = v1::Entry { chat, seq, sender, time_us: seq, event: Some(event), ..v1::Entry::default() };
    Event::Entry { entry: Entry::new(entry).unwrap(), replaces: false }
}

fn entry(seq: u64, sender: &str, event: entry::Event) -> Event {
    entry_of(chat(), seq, sender, event)
}

fn message(text: &str) -> entry::Event {
    entry::Event::MessageSent(v1::MessageSent { body: text.to_owned().into(), ..v1::MessageSent::default() })
}

fn created_with(name: &str) -> entry::Event {
    let member = |name, role: v1::Role| v1::Member { user: id_of(name).to_wire(), role: role.into() };
    let members = vec![member("alice", v1::Role::Owner), member(name, v1::Role::Member)];
    entry::Event::ChatCreated(v1::ChatCreated { kind: v1::ChatKind::Direct.into(), members })
}

fn created() -> entry::Event {
    created_with("bob")
}

fn settled(id: SendId, settlement: Settlement) -> Event {
    let identity = Identity { chat: chat(), origin: 1, n: 1 };
    Event::Settled { id, identity, settlement, corrected: false }
}

fn stored(chat: ChatId, seq: u64) -> Settlement {
    Settlement::Stored { chat, seq, time_us: seq }
}

fn rejected(code: ErrorCode) -> Settlement {
    Settlement::Rejected { code, head: 0 }
}

/// The chats that the unsettled sends are for, in order.
fn sent(terminal: &Terminal<Vec<u8>>) -> Vec<(ChatId, String)> {
    let kept = terminal.client.state().1;
    let mut sends: Vec<_> =
        kept.lanes.iter().flat_map(|lane| lane.sends.iter().map(|send| (send.id, lane.chat, &send.action))).collect();
    sends.sort_by_key(|(id, ..)| *id);
    let said = sends.into_iter().filter_map(|(_, chat, action)| {
        let v1::command::Action::SendMessage(send) = action else { return None };
        Some((chat, String::from_utf8_lossy(&send.body).into_owned()))
    });
    said.collect()
}

/// As if the server had been asked to create the chat: without a welcome, the client draws no ids.
fn open(terminal: &mut Terminal<Vec<u8>>, chat: ChatId, name: &str) -> SendId {
    let members = vec![terminal.names.member(name)];
    let id = terminal.client.create_chat_as(chat, v1::ChatKind::Direct, members).unwrap().id;
    (terminal.opening, terminal.opens_first) = (Some((id, format!("the chat with {name}"))), false);
    id
}

#[tokio::test]
async fn the_first_chat_that_speaks_is_opened_and_its_messages_are_printed() {
    let mut terminal = terminal().await;
    terminal.names.learn("bob");
    see(&mut terminal, entry(1, "bob", created())).await;
    see(&mut terminal, entry(2, "bob", message("hi\u{1b}[2J there"))).await;
    let screen = screen(&mut terminal);
    assert!(screen.contains("· in the chat with bob\n"), "{screen}");
    assert!(screen.contains("#2 bob: hi[2J there\n"), "no control character passes: {screen}");
}

#[tokio::test]
async fn ticks_go_from_accepted_over_stored_and_delivered_to_seen() {
    let mut terminal = terminal().await;
    terminal.names.learn("bob");
    see(&mut terminal, entry(1, "alice", created())).await;
    screen(&mut terminal);
    terminal.line("hello").await.unwrap();
    assert_eq!(terminal.unsettled(), 1);
    let id = *terminal.said.first_key_value().unwrap().0;
    see(&mut terminal, Event::Accepted { id }).await;
    see(&mut terminal, entry(2, "alice", message("hello"))).await;
    see(&mut terminal, settled(id, stored(chat(), 2))).await;
    let mark = |delivered, seen| Event::Watermark { chat: chat(), user: id_of("bob"), delivered, seen };
    for mark in [mark(2, 0), mark(2, 0), mark(2, 2), mark(1, 1)] {
        see(&mut terminal, mark).await;
    }
    let expected = "  ✓ “hello” accepted\n#2 alice: hello\n  ✓✓ “hello” stored as #2\n  \
                    ✓✓ #2 delivered to bob\n  ✓✓ #2 seen by bob\n";
    assert_eq!(screen(&mut terminal), expected);
    assert_eq!(terminal.unsettled(), 0);
    terminal.line("/who").await.unwrap();
    let who = screen(&mut terminal);
    assert!(who.contains("bob (member), delivered #2, seen #2"), "{who}");
}

/// Replies and mentions of the sends that are not settled.
fn references(terminal: &Terminal<Vec<u8>>) -> Vec<(u64, Vec<UserId>, bool)> {
    let sends = terminal.client.state().1.lanes.into_iter().flat_map(|lane| lane.sends);
    let said = sends.filter_map(|send| {
        let v1::command::Action::SendMessage(send) = send.action else { return None };
        let mentions = send.mentions.iter().filter_map(|user| UserId::from_wire(user)).collect();
        Some((send.reply_to, mentions, send.mention_all))
    });
    said.collect()
}

#[tokio::test]
async fn a_line_answers_an_entry_and_names_members_only() {
    let mut terminal = terminal().await;
    terminal.names.learn("bob");
    terminal.names.learn("eve");
    see(&mut terminal, entry(1, "bob", created())).await;
    for line in ["/reply 1 @bob, hello", "@eve is not here", "@all: come", "mail bob@all"] {
        terminal.line(line).await.unwrap();
    }
    let bob = id_of("bob");
    let expected = [(1, vec![bob], false), (0, vec![], false), (0, vec![], true), (0, vec![], false)];
    assert_eq!(references(&terminal), expected);
    assert_eq!(sent(&terminal)[0].1, "@bob, hello", "the text goes as it was typed");
    screen(&mut terminal);
    let answer = v1::MessageSent { body: "yes".into(), reply_to: 1, ..v1::MessageSent::default() };
    see(&mut terminal, entry(2, "bob", entry::Event::MessageSent(answer))).await;
    assert_eq!(screen(&mut terminal), "#2 bob, to #1: yes\n");
    // In another chat it is told whom it is for.
    see(&mut terminal, entry_of(with("frank"), 1, "frank", created_with("frank"))).await;
    screen(&mut terminal);
    let named = v1::MessageSent { mentions: vec![id_of("alice").to_wire()], ..v1::MessageSent::default() };
    see(&mut terminal, entry_of(with("frank"), 2, "frank", entry::Event::MessageSent(named))).await;
    assert!(screen(&mut terminal).contains(", for you: /open 2)\n"));
    see(&mut terminal, entry_of(with("frank"), 3, "frank", message("to nobody"))).await;
    assert!(!screen(&mut terminal).contains("for you"));
}

#[tokio::test]
async fn what_was_said_is_edited_and_deleted_from_the_terminal() {
    let mut terminal = terminal().await;
    terminal.names.learn("bob");
    see(&mut terminal, entry(1, "bob", created())).await;
    for line in ["/edit #2 see you at nine", "/delete 2"] {
        terminal.line(line).await.unwrap();
    }
    let asked: Vec<_> = terminal.said.values().cloned().collect();
    assert_eq!(asked, ["“see you at nine” in the place of #2", "taking #2 back"]);
    screen(&mut terminal);
    let edited = v1::MessageEdited { seq: 2, body: "at\u{1b} ten".into(), ..v1::MessageEdited::default() };
    let version = v1::MessageSent { body: "ten".into(), edited_seq: 3, reply_to: 1, ..v1::MessageSent::default() };
    let events = [
        entry::Event::MessageEdited(edited),
        entry::Event::MessageDeleted(v1::MessageDeleted { seq: 2 }),
        entry::Event::MessageSent(version),
        entry::Event::MessageSent(v1::MessageSent { deleted_seq: 4, ..v1::MessageSent::default() }),
        entry::Event::MessageEdited(v1::MessageEdited { seq: 2, erased: true, ..v1::MessageEdited::default() }),
    ];
    for (seq, event) in (2..).zip(events) {
        see(&mut terminal, entry(seq, "bob", event)).await;
    }
    let expected = "#2 · bob edited #2: at ten\n#3 · bob deleted #2\n#4 bob, to #1: ten (edited)\n#5 bob: deleted\n\
                    #6 · bob edited #2, since deleted\n";
    assert_eq!(screen(&mut terminal), expected);
}

#[tokio::test]
async fn reactions_pins_and_policies_from_the_terminal() {
    let mut terminal = terminal().await;
    terminal.names.learn("bob");
    see(&mut terminal, entry(1, "alice", created())).await;
    for line in ["/react 2 👍", "/react #2", "/pin 2", "/unpin 2", "/slow 30", "/adding members"] {
        terminal.line(line).await.unwrap();
    }
    let asked: Vec<_> = terminal.said.values().cloned().collect();
    let expected = ["“👍” to #2", "no reaction to #2", "pinning #2", "unpinning #2", "slow mode of 30 s", "who adds"];
    assert_eq!(asked, expected);
    screen(&mut terminal);
    let reacted =
        |reaction: &str| entry::Event::MessageReacted(v1::MessageReacted { seq: 1, reaction: reaction.to_owned() });
    let pinned = |unpinned| entry::Event::MessagePinned(v1::MessagePinned { seq: 1, unpinned, pins: Vec::new() });
    let set = |members_add, slow_mode_s| {
        let policy = Some(v1::ChatPolicy { members_add: Some(members_add), slow_mode_s: Some(slow_mode_s) });
        entry::Event::ChatPolicySet(v1::ChatPolicySet { policy, change: None })
    };
    let events = [reacted("\u{1b}👍"), reacted(""), pinned(false), pinned(true), set(true, 30), set(false, 0)];
    for (seq, event) in (2..).zip(events) {
        see(&mut terminal, entry(seq, "bob", event)).await;
    }
    let expected = "#2 · bob to #1: “👍”\n#3 · bob has no reaction to #1 any more\n#4 · bob pinned #1\n\
                    #5 · bob unpinned #1\n#6 · bob set the chat: members add; one entry in 30 s\n\
                    #7 · bob set the chat: owners and admins add; no slow mode\n";
    assert_eq!(screen(&mut terminal), expected);
}

#[tokio::test]
async fn a_group_is_run_from_the_terminal() {
    let mut terminal = terminal().await;
    terminal.names.learn("bob");
    see(&mut terminal, entry(1, "alice", created())).await;
    for line in ["/name on tuesdays", "/role bob admin", "/transfer bob"] {
        terminal.line(line).await.unwrap();
    }
    let asked: Vec<_> = terminal.said.values().cloned().collect();
    assert_eq!(asked, ["the name “on tuesdays”", "making bob an admin", "making bob the owner"]);
    screen(&mut terminal);
    let bob = || id_of("bob").to_wire();
    let events = [
        entry::Event::ChatRenamed(v1::ChatRenamed { name: "on\u{1b} tuesdays".to_owned() }),
        entry::Event::RoleSet(v1::RoleSet { user: bob(), role: v1::Role::Reader.into() }),
        entry::Event::OwnershipTransferred(v1::OwnershipTransferred { user: bob() }),
    ];
    for (seq, event) in (2..).zip(events) {
        see(&mut terminal, entry(seq, "alice", event)).await;
    }
    let expected = "#2 · alice calls the chat “on tuesdays”\n#3 · alice made bob a reader\n\
                    #4 · alice made bob the owner\n";
    assert_eq!(screen(&mut terminal), expected);
    terminal.line("/who").await.unwrap();
    let who = screen(&mut terminal);
    assert!(who.contains("bob (owner), ") && who.contains("alice (admin), you"), "{who}");
    terminal.line("/chats").await.unwrap();
    assert!(screen(&mut terminal).contains("“on tuesdays” (#"));
    see(&mut terminal, entry(5, "alice", entry::Event::ChatRenamed(v1::ChatRenamed::default()))).await;
    assert_eq!(screen(&mut terminal), "#5 · alice took the chat's name away\n");
}

#[tokio::test]
async fn outside_a_chat_nothing_is_said() {
    let mut terminal = terminal().await;
    terminal.line("hello").await.unwrap();
    assert!(screen(&mut terminal).contains("not sent, for you are in no chat: /to NAME, /new NAME…\n"));
    assert_eq!(terminal.line("/quit").await.unwrap(), Next::Quit);
}

#[tokio::test]
async fn what_is_said_while_a_chat_is_being_opened_goes_there_and_in_order() {
    let mut terminal = terminal().await;
    see(&mut terminal, entry(1, "alice", created())).await;
    let id = open(&mut terminal, with("frank"), "frank");
    terminal.line("SECRET").await.unwrap();
    terminal.line("and more").await.unwrap();
    assert_eq!(sent(&terminal), [], "not to bob");
    assert!(screen(&mut terminal).contains("“SECRET” waits until the chat with frank is open\n"));
    // What bob says meanwhile changes nothing.
    see(&mut terminal, entry(2, "bob", message("hi"))).await;
    see(&mut terminal, settled(id, stored(with("frank"), 1))).await;
    let expected = [(with("frank"), "SECRET".to_owned()), (with("frank"), "and more".to_owned())];
    assert_eq!(sent(&terminal), expected);
    screen(&mut terminal);
    see(&mut terminal, entry_of(with("frank"), 1, "alice", created_with("frank"))).await;
    assert!(screen(&mut terminal).starts_with("· in the chat with frank\n"));
}

#[tokio::test]
async fn what_was_meant_for_a_chat_that_will_not_be_is_named_and_goes_nowhere() {
    let mut terminal = terminal().await;
    see(&mut terminal, entry(1, "alice", created())).await;
    let id = open(&mut terminal, with("frank"), "frank");
    for line in ["SECRET", "/who", "/open 1", "for bob"] {
        terminal.line(line).await.unwrap();
    }
    screen(&mut terminal);
    see(&mut terminal, settled(id, rejected(ErrorCode::Forbidden))).await;
    let screen = screen(&mut terminal);
    assert!(screen.contains("✗ opening the chat with frank: you may not do that here\n"), "{screen}");
    assert!(screen.contains("✗ not sent: “SECRET”, “/who”\n"), "{screen}");
    assert_eq!(sent(&terminal), [(chat(), "for bob".to_owned())]);
    // Without a word about where to go, nobody hears what comes next.
    let id = open(&mut terminal, with("frank"), "frank");
    see(&mut terminal, settled(id, rejected(ErrorCode::Forbidden))).await;
    see(&mut terminal, entry(2, "bob", message("hi"))).await;
    terminal.line("a late SECRET").await.unwrap();
    assert_eq!(sent(&terminal).len(), 1);
}

#[tokio::test]
async fn lines_wait_for_the_first_connection_and_for_the_chat_that_was_asked_for() {
    let mut terminal = terminal_with(8, Some("bob"));
    terminal.line("hello").await.unwrap();
    assert_eq!(screen(&mut terminal), "  “hello” waits until the chat with bob is open\n");
    see(&mut terminal, Event::Unreachable { error: "refused".to_owned() }).await;
    assert!(screen(&mut terminal).contains("· cannot reach 127.0.0.1:9, trying again; is `heliograph up` running?\n"));
    assert_eq!((terminal.unsettled(), terminal.takes_lines()), (2, true));
    terminal.want = None;
    connect(&mut terminal).await;
    let id = open(&mut terminal, chat(), "bob");
    terminal.line("again").await.unwrap();
    see(&mut terminal, settled(id, stored(chat(), 1))).await;
    assert_eq!(sent(&terminal).pop(), Some((chat(), "again".to_owned())));
    // Each has its bound; what is beyond it stays in the input.
    let mut terminal = terminal_with(8, Some("bob"));
    while terminal.takes_lines() {
        terminal.line("hello").await.unwrap();
    }
    assert_eq!(terminal.waiting.len(), 256);
}

#[tokio::test]
async fn a_full_outbox_stops_the_input_and_refuses_nothing() {
    let mut terminal = terminal_with(2, None);
    connect(&mut terminal).await;
    see(&mut terminal, caught_up()).await;
    see(&mut terminal, entry(1, "alice", created())).await;
    for line in ["one", "two", "three"] {
        assert!(terminal.takes_lines());
        terminal.line(line).await.unwrap();
    }
    assert!(!terminal.takes_lines());
    assert_eq!((sent(&terminal).len(), terminal.unsettled()), (2, 3));
    assert!(!screen(&mut terminal).contains('✗'));
    // One settles; here only the screen is told, so the outbox still refuses, and the line waits on.
    let id = *terminal.said.first_key_value().unwrap().0;
    see(&mut terminal, settled(id, stored(chat(), 2))).await;
    assert_eq!((terminal.takes_lines(), terminal.waiting.len()), (false, 1));
}

#[tokio::test]
async fn what_streams_in_before_a_partition_is_caught_up_is_one_short_block() {
    let mut terminal = terminal_with(8, None);
    connect(&mut terminal).await;
    see(&mut terminal, entry(1, "alice", created())).await;
    for seq in 2..=500 {
        see(&mut terminal, entry(seq, "bob", message("old"))).await;
    }
    assert_eq!(screen(&mut terminal), "· connected as alice\n");
    see(&mut terminal, caught_up()).await;
    let block = screen(&mut terminal);
    assert_eq!(block.lines().count(), 1 + SHOWN_AT_OPEN, "{block}");
    assert!(block.contains("#491 ") && block.contains("#500 "), "{block}");
    // Over an outage, too, and only what is new.
    see(&mut terminal, Event::Disconnected { code: None }).await;
    for seq in 501..=503 {
        see(&mut terminal, entry(seq, "bob", message("new"))).await;
    }
    screen(&mut terminal);
    see(&mut terminal, caught_up()).await;
    let block = screen(&mut terminal);
    assert_eq!(block.lines().map(|line| &line[..5]).collect::<Vec<_>>(), ["#501 ", "#502 ", "#503 "]);
}

#[tokio::test]
async fn a_mark_before_the_first_entry_leaves_the_list_whole() {
    let mut terminal = terminal().await;
    terminal.names.learn("frank");
    see(&mut terminal, entry(1, "alice", created())).await;
    let mark = Event::Watermark { chat: with("frank"), user: id_of("frank"), delivered: 1, seen: 0 };
    see(&mut terminal, mark).await;
    screen(&mut terminal);
    see(&mut terminal, entry_of(with("frank"), 1, "frank", created_with("frank"))).await;
    assert_eq!(screen(&mut terminal), "  (in chat 2, the chat with frank: /open 2)\n");
    terminal.line("/chats").await.unwrap();
    let list = screen(&mut terminal);
    assert!(list.lines().count() == 2 && list.contains("   2 the chat with frank"), "{list}");
}

#[tokio::test]
async fn refusals_and_endings_are_told_in_words() {
    let mut terminal = terminal().await;
    see(&mut terminal, entry(1, "alice", created())).await;
    terminal.line("/leave").await.unwrap();
    let id = *terminal.said.first_key_value().unwrap().0;
    screen(&mut terminal);
    see(&mut terminal, settled(id, rejected(ErrorCode::LastOwner))).await;
    let expected = "  ✗ leaving: you are the only owner, and a chat is never without one\n";
    assert_eq!(screen(&mut terminal), expected);
    terminal.line("/to Alice").await.unwrap();
    assert!(screen(&mut terminal).contains("that is you"));
    let next = terminal.event(&Event::Fatal { code: 4502 }).await.unwrap();
    assert_eq!(next, Next::Ended("the token has expired"));
}
