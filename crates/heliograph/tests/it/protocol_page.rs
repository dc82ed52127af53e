//! What `docs/protocol.md` says is so: its conversation is held with a whole server, its tables are the code's.

use std::collections::BTreeSet;
use std::time::{SystemTime, UNIX_EPOCH};

use client::ChatId;
use futures_util::{SinkExt as _, StreamExt as _};
use gateway::socket::CloseCode;
use proto::v1::{ErrorCode, Received};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_websockets::{ClientBuilder, MaybeTlsStream, Message, WebSocketStream};

use crate::cast::{SOON, user};
use crate::world::{PARTITIONS, World};

const PAGE: &str = include_str!("../../../../docs/protocol.md");
/// Stands for whatever differs each time.
const ANYTHING: &str = "…";

/// Whether it has all that is expected of it, and maybe more.
fn has(found: &Value, expected: &Value) -> bool {
    match (found, expected) {
        (_, Value::String(text)) if text == ANYTHING => true,
        (Value::Object(found), Value::Object(expected)) => {
            expected.iter().all(|(name, expected)| found.get(name).is_some_and(|found| has(found, expected)))
        }
        (Value::Array(found), Value::Array(expected)) => {
            found.len() >= expected.len() && found.iter().zip(expected).all(|(found, expected)| has(found, expected))
        }
        (found, expected) => found == expected,
    }
}

/// An id as the text sub-protocol writes bytes.
pub(crate) fn in_base64(id: [u8; 16]) -> String {
    let frame = serde_json::to_value(Received { chat: ChatId(id).to_wire(), through: 0 }).unwrap();
    frame["chat"].as_str().unwrap().to_owned()
}

/// A client that speaks the page's lines.
pub(crate) struct Speaker {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    /// Heard since it last said something, and not expected by a line yet: two answers may come in either order.
    passed_over: Vec<Value>,
    /// As the welcome names it.
    session: String,
    pushes: u64,
}

impl Speaker {
    pub(crate) async fn connect(url: &str) -> Self {
        let (name, value) = ("sec-websocket-protocol".parse().unwrap(), "heliograph.v1.json".parse().unwrap());
        let builder = ClientBuilder::new().uri(url).unwrap().add_header(name, value).unwrap();
        let (socket, _response) = timeout(SOON, builder.connect()).await.expect("a socket in time").unwrap();
        Self { socket, passed_over: Vec::new(), session: String::new(), pushes: 0 }
    }

    pub(crate) async fn say(&mut self, text: String) {
        // What was heard before is no answer to it.
        self.passed_over.clear();
        self.socket.send(Message::text(text)).await.unwrap();
    }

    /// Waits for a frame that has at least this.
    pub(crate) async fn hear(&mut self, expected: &Value) {
        if let Some(at) = self.passed_over.iter().position(|found| has(found, expected)) {
            self.passed_over.remove(at);
            return;
        }
        let heard = async {
            loop {
                let message = self.socket.next().await.expect("a socket that stays open").unwrap();
                let Some(text) = message.as_text() else {
                    let (closed, heard) = (message.as_close(), &self.passed_over);
                    assert!(closed.is_none(), "{closed:?} instead of {expected}, after {heard:#?}");
                    continue;
                };
                let found: Value = serde_json::from_str(text).unwrap();
                let is_push = ["ready", "heads", "pushed", "watermark"].iter().any(|kind| found.get(kind).is_some());
                self.pushes += u64::from(is_push);
                if let Some(session) = found["welcome"]["session"].as_str() {
                    self.session = session.to_owned();
                }
                if has(&found, expected) {
                    return;
                }
                self.passed_over.push(found);
            }
        };
        let in_time = timeout(SOON, heard).await.is_ok();
        assert!(in_time, "nothing like {expected} came, but {:#?}", self.passed_over);
    }

    /// Waits for the close frame; its code.
    pub(crate) async fn closed(&mut self) -> u16 {
        let closed = async {
            loop {
                let message = self.socket.next().await.expect("a close frame before the end").unwrap();
                if let Some((code, _)) = message.as_close() {
                    return u16::from(code);
                }
            }
        };
        timeout(SOON, closed).await.expect("it is closed in time")
    }

    /// Whether it is let in; else it is closed.
    pub(crate) async fn is_welcome(&mut self) -> bool {
        let answered = async {
            loop {
                let message = self.socket.next().await.expect("an answer before the end").unwrap();
                if let Some(text) = message.as_text() {
                    if serde_json::from_str::<Value>(text).unwrap().get("welcome").is_some() {
                        return true;
                    }
                } else if message.as_close().is_some() {
                    return false;
                }
            }
        };
        timeout(SOON, answered).await.expect("it is answered in time")
    }

    /// Says and hears what the lines say; how much of either.
    pub(crate) async fn hold(&mut self, lines: &str, placeholders: &[(&str, String)]) -> (usize, usize) {
        let filled = |line: &str| {
            // With their quotes: the names also stand within other words.
            let quoted = |text: &str| format!("\"{text}\"");
            placeholders.iter().fold(line.to_owned(), |line, (name, value)| line.replace(&quoted(name), &quoted(value)))
        };
        let (mut said, mut heard) = (0, 0);
        for line in lines.lines() {
            if let Some(frame) = line.strip_prefix("→ ") {
                self.say(filled(frame)).await;
                said += 1;
            } else {
                let frame = line.strip_prefix("← ").unwrap_or_else(|| panic!("neither → nor ←: {line}"));
                self.hear(&serde_json::from_str(&filled(frame)).unwrap()).await;
                heard += 1;
            }
        }
        (said, heard)
    }
}

/// The lines of the page's block of this name.
pub(crate) fn block(name: &str) -> &'static str {
    let (_, rest) = PAGE.split_once(&format!("```{name}\n")).unwrap_or_else(|| panic!("no block {name}"));
    rest.split_once("```").expect("the block's end").0
}

#[tokio::test(flavor = "multi_thread")]
async fn the_conversation_of_the_page_takes_place_as_written() {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
    // The last partition: one that the server does not have would be refused.
    let chat = ChatId::draw(PARTITIONS - 1, now, rand::random());
    let world = World::start().await;
    let placeholders =
        [("TOKEN", world.cast.token("alice")), ("CHAT", in_base64(chat.0)), ("OTHER", in_base64(user("bob").0))];
    let mut speaker = Speaker::connect(world.cast.url(0)).await;
    let (said, heard) = speaker.hold(block("transcript"), &placeholders).await;
    assert!(said >= 8 && heard >= 12, "{said} said, {heard} heard: part of the conversation is gone");
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_goes_on_as_the_page_says() {
    let world = World::start().await;
    let token = || ("TOKEN", world.cast.token("alice"));
    let mut speaker = Speaker::connect(world.cast.url(0)).await;
    let (first, _) = block("transcript").split_once("→ {\"id\":\"2\"").expect("the sign-in");
    speaker.hold(first, &[token()]).await;
    let (session, pushes) = (speaker.session.clone(), speaker.pushes.to_string());
    drop(speaker);
    let mut speaker = Speaker::connect(world.cast.url(0)).await;
    let placeholders = [token(), ("SESSION", session), ("PUSHES", pushes)];
    assert_eq!(speaker.hold(block("resume"), &placeholders).await, (1, 1));
    world.finish().await;
}

/// The cells of the rows below this head.
fn table(head: &str) -> Vec<Vec<&'static str>> {
    let (_, rows) = PAGE.split_once(head).unwrap_or_else(|| panic!("no table that begins with {head}"));
    let rows = rows.lines().skip(2).take_while(|line| line.starts_with('|'));
    rows.map(|row| row.trim_matches('|').split('|').map(str::trim).collect()).collect()
}

/// Number, name and what the code's yes or no is.
type Row = (i32, String, &'static str);

fn assert_same(on_page: Vec<Row>, in_code: Vec<Row>) {
    let (rows, page, code) = (on_page.len(), on_page.into_iter().collect(), in_code.into_iter().collect());
    let missing: Vec<_> = BTreeSet::difference(&code, &page).collect();
    let wrong: Vec<_> = BTreeSet::difference(&page, &code).collect();
    assert!(missing.is_empty() && wrong.is_empty(), "missing on the page: {missing:?}; only there: {wrong:?}");
    assert_eq!(rows, code.len(), "a row stands there twice");
}

const fn yes(answer: bool) -> &'static str {
    if answer { "yes" } else { "no" }
}

fn named(cell: &str) -> String {
    cell.trim_matches('`').to_owned()
}

#[test]
fn the_table_of_close_codes_has_each_code_and_whether_clients_come_back() {
    let rows = table("| close | name |").into_iter();
    let on_page = rows.map(|row| (row[0].parse().unwrap(), named(row[1]), *row.last().unwrap()));
    let all = CloseCode::ALL.iter();
    let in_code = all.map(|code| (i32::from(code.number()), code.name().to_owned(), yes(code.reconnect())));
    assert_same(on_page.collect(), in_code.collect());
}

#[test]
fn the_table_of_error_codes_has_each_code_and_whether_it_is_tried_again() {
    let rows = table("| code | number |").into_iter();
    let on_page = rows.map(|row| (row[1].parse().unwrap(), named(row[0]), row[4]));
    let all = (1..=i32::from(u16::MAX)).filter_map(|number| ErrorCode::try_from(number).ok());
    let in_code = all.map(|code| {
        let name = code.as_str_name().strip_prefix("ERROR_CODE_").unwrap().to_lowercase();
        // Decided, and yet not the end: the client puts right what they name and sends again.
        let is_mended = matches!(code, ErrorCode::PredecessorMissing | ErrorCode::OriginUnknown);
        (code.into(), name, yes(gateway::is_retryable(code) || is_mended))
    });
    assert_same(on_page.collect(), in_code.collect());
}
