//! Connecting, coming back, sending, catching up.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use client::{Client, Error, Event, Events, Observer, Options, Settlement, Token};
use proto::v1::{self, ErrorCode, client_frame, server_frame};
use tokio::time::timeout;

use crate::scripted::{DEADLINE, ME, Server, chat, entry};

fn options(server: &Server) -> Result<Options> {
    let mut options = Options::new(server.url()?, "a token", "a device");
    options.back_off = Duration::from_millis(5);
    Ok(options)
}

async fn until(events: &mut Events, wanted: impl Fn(&Event) -> bool) -> Result<Event> {
    timeout(DEADLINE, async {
        loop {
            let event = events.next().await.context("the events ended")?;
            if wanted(&event) {
                return Ok(event);
            }
        }
    })
    .await
    .context("the event did not come")?
}

#[tokio::test]
async fn a_send_is_accepted_and_settles() -> Result<()> {
    let server = Server::start().await?;
    let (client, mut events) = Client::connect(options(&server)?);
    // Before there is a socket: it waits in the outbox.
    let sent = client.send(chat(), "hello")?;
    let mut peer = server.sign_in().await?;
    assert_eq!(peer.token, "a token");
    let (id, command) = peer.hear_command().await?;
    assert_eq!((command.n, command.after, command.origin), (1, 0, sent.identity.origin));
    peer.say(id, server_frame::Frame::Accepted(v1::Accepted {})).await?;
    timeout(DEADLINE, sent.accepted).await??;
    peer.store(id, &command, 4).await?;
    let settlement = timeout(DEADLINE, sent.outcome).await??;
    assert_eq!(settlement, Settlement::Stored { chat: chat(), seq: 4, time_us: 4 });
    until(&mut events, |event| matches!(event, Event::Settled { .. })).await?;
    assert_eq!(client.user(), Some(ME));
    peer.ping().await
}

#[tokio::test]
async fn what_is_unsettled_is_sent_again_on_the_next_socket_with_the_same_identity() -> Result<()> {
    let server = Server::start().await?;
    let (client, _events) = Client::connect(options(&server)?);
    let mut peer = server.sign_in().await?;
    let first = client.send(chat(), "one")?;
    let second = client.send(chat(), "two")?;
    let (_, one) = peer.hear_command().await?;
    let (_, two) = peer.hear_command().await?;
    assert_eq!((one.n, two.n, two.after), (1, 2, 1));
    peer.close(4000).await?;
    let mut peer = server.sign_in().await?;
    assert_eq!(peer.hear_command().await?.1, one);
    assert_eq!(peer.hear_command().await?.1, two);
    // The answer was lost, but one's own message comes by push.
    peer.push(entry(1, one.origin, 1)).await?;
    peer.push(entry(2, two.origin, 2)).await?;
    for (sent, seq) in [(first, 1), (second, 2)] {
        let settlement = timeout(DEADLINE, sent.outcome).await??;
        assert_eq!(settlement, Settlement::Stored { chat: chat(), seq, time_us: seq });
    }
    assert_eq!(client.unsettled(), 0);
    Ok(())
}

#[tokio::test]
async fn missed_messages_are_fetched_before_caught_up_is_said() -> Result<()> {
    let server = Server::start().await?;
    let (client, mut events) = Client::connect(options(&server)?);
    let mut peer = server.sign_in().await?;
    peer.ready(3).await?;
    // Pushed while history is fetched.
    peer.push(entry(4, 9, 4)).await?;
    let (id, read) = peer.hear_history().await?;
    assert_eq!(read.after, 0);
    let entries = (1..=3).map(|seq| entry(seq, 9, seq)).collect();
    let history = v1::History { chat: read.chat, epoch: 1, entries, through: 3, first_seq: 1 };
    peer.say(id, server_frame::Frame::History(history)).await?;
    for seq in 1..=4 {
        let event = until(&mut events, |event| !matches!(event, Event::Connected { .. } | Event::Heads(_))).await?;
        let Event::Entry { entry, replaces: false } = event else { panic!("{event:?} before {seq}") };
        assert_eq!(entry.entry.seq, seq);
    }
    let event = until(&mut events, |_| true).await?;
    assert!(matches!(event, Event::CaughtUp { partition: 0, all: true, .. }), "{event:?}");
    assert_eq!(client.known(chat()), 4);
    Ok(())
}

/// The next thing but a watermark, which says nothing here.
async fn next(events: &mut Events) -> Result<Event> {
    until(events, |event| !matches!(event, Event::Watermark { .. })).await
}

#[tokio::test]
async fn a_session_goes_on_and_is_caught_up_with_the_last_push_that_was_missed() -> Result<()> {
    let server = Server::start().await?;
    let (client, mut events) = Client::connect(options(&server)?);
    let mut peer = server.sign_in().await?;
    assert_eq!(peer.resume, None);
    peer.ready(0).await?;
    peer.push(entry(1, 9, 1)).await?;
    until(&mut events, |event| matches!(event, Event::Entry { .. })).await?;
    // An answer is no push.
    peer.say(77, server_frame::Frame::Accepted(v1::Accepted {})).await?;
    peer.ping().await?;
    drop(peer);
    until(&mut events, |event| matches!(event, Event::Disconnected { .. })).await?;

    let resumed = Some(v1::Resumed { pushes: 5 });
    let mut peer = server.welcome(v1::Welcome { session: 7, resumed, ..v1::Welcome::default() }).await?;
    assert_eq!(peer.resume, Some(v1::Resume { session: 7, pushes: 3 }));
    peer.push(entry(2, 9, 2)).await?;
    let event = next(&mut events).await?;
    assert!(matches!(event, Event::Connected { resumed: true, session: 7, .. }), "{event:?}");
    let event = next(&mut events).await?;
    assert!(matches!(event, Event::Entry { .. }), "{event:?}: one of the two is missing");
    peer.push(entry(3, 9, 3)).await?;
    let event = next(&mut events).await?;
    assert!(matches!(event, Event::Entry { .. }), "{event:?}");
    let event = next(&mut events).await?;
    assert!(matches!(event, Event::CaughtUp { all: true, .. }), "{event:?}");
    assert_eq!(client.known(chat()), 3);

    // Another session is another count, and nothing is ready in it.
    drop(peer);
    let mut peer = server.welcome(v1::Welcome { session: 8, ..v1::Welcome::default() }).await?;
    assert_eq!(peer.resume, Some(v1::Resume { session: 7, pushes: 5 }));
    peer.push(entry(4, 9, 4)).await?;
    let event = until(&mut events, |event| matches!(event, Event::Entry { .. } | Event::CaughtUp { .. })).await?;
    assert!(matches!(event, Event::Entry { .. }), "{event:?}");
    drop(peer);
    let peer = server.welcome(v1::Welcome { session: 9, ..v1::Welcome::default() }).await?;
    assert_eq!(peer.resume, Some(v1::Resume { session: 8, pushes: 1 }));
    Ok(())
}

#[tokio::test]
async fn a_code_of_the_upper_range_is_fatal() -> Result<()> {
    let server = Server::start().await?;
    let (client, mut events) = Client::connect(options(&server)?);
    let sent = client.send(chat(), "never")?;
    let mut peer = server.accept().await?;
    let (id, _) = peer.hear().await?;
    let error = v1::Error { code: ErrorCode::Unauthenticated.into(), ..v1::Error::default() };
    peer.say(id, server_frame::Frame::Error(error)).await?;
    peer.close(4501).await?;
    let event = until(&mut events, |event| matches!(event, Event::Fatal { .. })).await?;
    assert!(matches!(event, Event::Fatal { code: 4501 }));
    assert!(matches!(timeout(DEADLINE, sent.outcome).await?, Err(Error::Ended)));
    assert!(timeout(DEADLINE, events.next()).await?.is_none());
    assert!(matches!(client.send(chat(), "late"), Err(Error::Ended)));
    Ok(())
}

/// Tokens 1, 2, 3 …
fn counted() -> Token {
    let given = Arc::new(Mutex::new(0));
    Token::made_by(move || {
        let mut given = given.lock().unwrap_or_else(PoisonError::into_inner);
        *given += 1;
        Ok(format!("token {given}"))
    })
}

#[tokio::test]
async fn a_token_is_renewed_on_the_live_socket_before_it_expires() -> Result<()> {
    let server = Server::start().await?;
    let mut options = options(&server)?;
    options.token = counted();
    let (_client, _events) = Client::connect(options);
    // The server's clock said 1 µs in hello.
    let mut peer = server.sign_in_until(300_000).await?;
    for (token, life) in [("token 2", 300_000), ("token 3", 0)] {
        let (id, frame) = peer.hear().await?;
        let client_frame::Frame::Authenticate(renewal) = frame else { panic!("{frame:?}") };
        assert_eq!((&*renewal.token, &*renewal.device), (token, "a device"));
        let renewed = v1::Renewed { expires_us: 300_000 + life };
        peer.say(id, server_frame::Frame::Renewed(renewed)).await?;
    }
    // No later one: it is not asked for again, and the socket goes on.
    peer.ping().await
}

#[tokio::test]
async fn after_an_expired_token_a_client_comes_back_with_another_and_never_with_the_same() -> Result<()> {
    let server = Server::start().await?;
    let mut fresh = options(&server)?;
    fresh.token = counted();
    let (_client, _events) = Client::connect(fresh);
    let peer = server.sign_in().await?;
    let first = peer.token.clone();
    peer.close(4502).await?;
    assert_ne!(server.sign_in().await?.token, first);

    let server = Server::start().await?;
    let (_client, mut events) = Client::connect(options(&server)?);
    server.sign_in().await?.close(4502).await?;
    let event = until(&mut events, |event| matches!(event, Event::Fatal { .. })).await?;
    assert!(matches!(event, Event::Fatal { code: 4502 }));
    Ok(())
}

#[tokio::test]
async fn a_caller_reads_history_and_is_told_refusals_and_losses() -> Result<()> {
    let server = Server::start().await?;
    let (client, mut events) = Client::connect(options(&server)?);
    assert!(matches!(client.history(chat(), 0, 5, 0).await, Err(Error::Disconnected)));
    let mut peer = server.sign_in().await?;
    until(&mut events, |event| matches!(event, Event::Connected { .. })).await?;
    let (asked, (id, read)) = {
        let ask = tokio::spawn({
            let client = client.clone();
            async move { client.history(chat(), 2, 5, 0).await }
        });
        (ask, peer.hear_history().await?)
    };
    assert_eq!((read.after, read.limit), (2, 5));
    let error = v1::Error { code: ErrorCode::NotAMember.into(), ..v1::Error::default() };
    peer.say(id, server_frame::Frame::Error(error)).await?;
    assert!(matches!(asked.await?, Err(Error::Refused(error)) if error.code() == ErrorCode::NotAMember));
    let lost = tokio::spawn({
        let client = client.clone();
        async move { client.history(chat(), 2, 5, 0).await }
    });
    peer.hear_history().await?;
    drop(peer);
    assert!(matches!(timeout(DEADLINE, lost).await??, Err(Error::Disconnected)));
    Ok(())
}

#[tokio::test]
async fn a_restart_is_told_again_what_nobody_took() -> Result<()> {
    // Killed with the state of some moment, closed in order, and with the events thrown away.
    for end in ["kill", "close", "drop"] {
        let server = Server::start().await?;
        let (client, mut events) = Client::connect(options(&server)?);
        let mut peer = server.sign_in().await?;
        for seq in 1..=5 {
            peer.push(entry(seq, 9, seq)).await?;
        }
        timeout(DEADLINE, async {
            while client.known(chat()) < 5 {
                tokio::task::yield_now().await;
            }
        })
        .await?;
        let is_second = |event: &Event| matches!(event, Event::Entry { entry, .. } if entry.entry.seq == 2);
        until(&mut events, is_second).await?;
        match end {
            "drop" => drop(events),
            "close" => {
                client.close();
                // What was told before the end is there to be taken.
                let is_fourth = |event: &Event| matches!(event, Event::Entry { entry, .. } if entry.entry.seq == 4);
                until(&mut events, is_fourth).await?;
            }
            _ => {}
        }
        let (progress, _) = client.state();
        let taken = if end == "close" { 4 } else { 2 };
        assert_eq!(progress.known.get(&chat()), Some(&taken), "{end}: N4");
        assert_eq!(client.known(chat()), 5);
        let (_client, mut events) = Client::connect(Options { progress, ..options(&server)? });
        let mut peer = server.sign_in().await?;
        peer.ready(5).await?;
        let (id, read) = peer.hear_history().await?;
        assert_eq!(read.after, taken);
        let entries = (taken + 1..=5).map(|seq| entry(seq, 9, seq)).collect();
        let history = v1::History { chat: read.chat, epoch: 1, entries, through: 5, first_seq: 1 };
        peer.say(id, server_frame::Frame::History(history)).await?;
        let next = until(&mut events, |event| matches!(event, Event::Entry { .. })).await?;
        assert!(matches!(next, Event::Entry { entry, .. } if entry.entry.seq == taken + 1));
    }
    Ok(())
}

#[tokio::test]
async fn nothing_is_dropped_at_the_close_however_few_events_may_wait() -> Result<()> {
    let server = Server::start().await?;
    let (client, mut events) = Client::connect(Options { events: 2, ..options(&server)? });
    let mut peer = server.sign_in().await?;
    for seq in 1..=20 {
        peer.push(entry(seq, 9, seq)).await?;
    }
    let mut next = 1;
    let mut closed = false;
    while let Some(event) = timeout(DEADLINE, events.next()).await? {
        let Event::Entry { entry, .. } = event else { continue };
        assert_eq!(entry.entry.seq, next);
        next += 1;
        // All of it was read, some of it waits.
        if !closed && client.known(chat()) == 20 {
            client.close();
            closed = true;
        }
    }
    assert_eq!(next, 21);
    assert_eq!(client.state().0.known.get(&chat()), Some(&20));
    Ok(())
}

#[tokio::test]
async fn an_outage_is_told_once_and_each_connection_asks_for_a_token() -> Result<()> {
    let gone = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let server = Server::start().await?;
    let mut options = options(&server)?;
    options.urls.insert(0, format!("ws://{gone}/v1/socket"));
    let made = std::sync::atomic::AtomicU32::new(0);
    options.token = Token::made_by(move || {
        let number = made.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        if number < 5 { Err("no key".into()) } else { Ok(format!("token {number}")) }
    });
    let (_client, mut events) = Client::connect(options);
    let peer = server.sign_in().await?;
    assert_eq!(peer.token, "token 5");
    let mut told = Vec::new();
    until(&mut events, |event| matches!(event, Event::Connected { .. })).await?;
    drop(peer);
    while told.last().is_none_or(|last| last != "Connected") {
        let event = timeout(DEADLINE, events.next()).await?.context("the events ended")?;
        told.push(format!("{event:?}").split(' ').next().unwrap_or_default().to_owned());
        if told.len() == 1 {
            let peer = server.sign_in().await?;
            assert_ne!(peer.token, "token 5");
        }
    }
    assert_eq!(told, ["Disconnected", "Connected"], "one address of two answers: no outage");
    drop(server);
    until(&mut events, |event| matches!(event, Event::Unreachable { .. })).await?;
    assert!(timeout(Duration::from_millis(300), events.next()).await.is_err(), "told once");
    Ok(())
}

#[tokio::test]
async fn a_closing_server_is_left_and_returned_to_when_it_said() -> Result<()> {
    let server = Server::start().await?;
    let (_client, mut events) = Client::connect(options(&server)?);
    let mut peer = server.sign_in().await?;
    peer.say(0, server_frame::Frame::Closing(v1::Closing { reconnect_after_ms: 50 })).await?;
    server.sign_in().await?;
    until(&mut events, |event| matches!(event, Event::Disconnected { code: None })).await?;
    Ok(())
}

#[tokio::test]
async fn a_gateway_that_leaves_is_left_for_the_next_and_one_that_only_closed_is_returned_to() -> Result<()> {
    let (first, second) = (Server::start().await?, Server::start().await?);
    let both = Options { urls: [options(&first)?.urls, options(&second)?.urls].concat(), ..options(&first)? };
    let (_client, _events) = Client::connect(both);
    let mut peer = first.sign_in().await?;
    peer.say(0, server_frame::Frame::Closing(v1::Closing { reconnect_after_ms: 50 })).await?;
    // It may hear of the leaving by the close code alone.
    second.sign_in().await?.close(4002).await?;
    let mut peer = first.sign_in().await?;
    peer.say(0, server_frame::Frame::Ready(v1::Ready::default())).await?;
    peer.close(4000).await?;
    first.sign_in().await?;
    Ok(())
}

#[derive(Default)]
struct Notes(Mutex<Vec<String>>);

impl Observer for Notes {
    fn observe(&self, event: &Event) {
        let text = format!("{event:?}");
        let name = text.split([' ', '(']).next().unwrap_or_default().to_owned();
        self.0.lock().expect("no holder panics").push(name);
    }
}

#[tokio::test]
async fn an_observer_sees_the_raw_and_the_told_in_order() -> Result<()> {
    let server = Server::start().await?;
    let notes = Arc::new(Notes::default());
    let mut options = options(&server)?;
    options.observer = Some(Arc::clone(&notes) as Arc<dyn Observer>);
    let (client, events) = Client::connect(options);
    // Nobody listens: nothing is kept, nothing blocks.
    drop(events);
    let mut peer = server.sign_in().await?;
    let sent = client.send(chat(), "hello")?;
    let (_, command) = peer.hear_command().await?;
    peer.push(entry(1, command.origin, 1)).await?;
    timeout(DEADLINE, sent.outcome).await??;
    peer.push(entry(1, command.origin, 1)).await?;
    peer.ready(1).await?;
    peer.hear().await?;
    peer.ping().await?;
    let seen = notes.0.lock().unwrap().clone();
    let expected = ["Connected", "Sent", "Arrived", "Entry", "Settled", "Arrived", "Ready", "Heads", "CaughtUp"];
    assert_eq!(seen, expected);
    Ok(())
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_before_it_is_held() -> Result<()> {
    let server = Server::start().await?;
    let (client, mut events) = Client::connect(options(&server)?);
    let _peer = server.sign_in().await?;
    until(&mut events, |event| matches!(event, Event::Connected { .. })).await?;
    assert!(matches!(client.send(chat(), vec![0; 65]), Err(Error::BodyTooLarge { bytes: 65, limit: 64 })));
    assert_eq!(client.unsettled(), 0);
    Ok(())
}
