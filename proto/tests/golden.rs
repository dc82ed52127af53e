//! Wire formats change on purpose only: each message's bytes stand in a file.
//!
//! `tests/golden/v1/` holds one canonical value a message, and one more for each further arm of a `oneof`, as
//! hexadecimal, and what clients see also as JSON; the folder is the schema version. `HELIOGRAPH_GOLDEN=rewrite` writes the files anew. A new schema
//! version gets a new folder and table; the old ones stay, for old bytes must keep their meaning.

#![expect(clippy::unwrap_used, reason = "a file that cannot be read fails the test, as it should")]

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    fmt::Debug,
    fmt::Write as _,
    fs,
    path::PathBuf,
};

use bytes::Bytes;
use prost::Message;
use proto::{log, relay, v1};
use serde_json::Value;

type Means = Box<dyn Fn(&[u8]) -> Result<(), String>>;

/// A canonical value under its message's full name, with a suffix where a message has several.
struct Case {
    name: &'static str,
    bytes: Vec<u8>,
    /// Whether these bytes mean the canonical value.
    means: Means,
    json: Option<Json>,
}

/// The same value as clients of the text sub-protocol see it.
struct Json {
    text: String,
    /// Whether this JSON means the canonical value.
    means: Means,
}

fn case<M: Message + Default + PartialEq + Debug + 'static>(name: &'static str, value: M) -> Case {
    let bytes = value.encode_to_vec();
    let means = Box::new(move |bytes: &[u8]| match M::decode(bytes) {
        Ok(decoded) if decoded == value => Ok(()),
        Ok(decoded) => Err(format!("means {decoded:?}, not {value:?}")),
        Err(error) => Err(format!("cannot be decoded: {error}")),
    });
    Case { name, bytes, means, json: None }
}

/// A value that clients see, so in JSON too.
fn seen_by_clients<M>(name: &'static str, value: M) -> Case
where
    M: Message + Default + Clone + PartialEq + Debug + serde::Serialize + serde::de::DeserializeOwned + 'static,
{
    let text = serde_json::to_string_pretty(&value).unwrap() + "\n";
    let case = case(name, value.clone());
    let means = Box::new(move |json: &[u8]| match serde_json::from_slice::<M>(json) {
        Ok(decoded) if decoded == value => Ok(()),
        Ok(decoded) => Err(format!("means {decoded:?}, not {value:?}")),
        Err(error) => Err(format!("cannot be decoded: {error}")),
    });
    Case { json: Some(Json { text, means }), ..case }
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v1")
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::new();
    for line in bytes.chunks(32) {
        line.iter().for_each(|byte| write!(text, "{byte:02x}").unwrap());
        text.push('\n');
    }
    text
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<_> = text.chars().filter(|digit| !digit.is_whitespace()).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(&pair.iter().collect::<String>(), 16).unwrap()).collect()
}

fn is_rewrite() -> bool {
    env::var("HELIOGRAPH_GOLDEN").is_ok_and(|value| value == "rewrite")
}

fn compare(file: &str, text: &str, wrong: &mut Vec<String>) {
    let path = folder().join(file);
    if is_rewrite() {
        fs::create_dir_all(folder()).unwrap();
        fs::write(path, text).unwrap();
        return;
    }
    match fs::read_to_string(path) {
        Ok(kept) if kept == text => {}
        Ok(kept) => wrong.push(format!("{file} was\n{kept}and is now\n{text}")),
        Err(error) => wrong.push(format!("{file}: {error}")),
    }
}

#[test]
fn each_message_encodes_to_its_golden_bytes_and_they_keep_their_meaning() {
    let mut wrong = Vec::new();
    let mut files = BTreeSet::from(["enums.txt".to_owned()]);
    for case in cases() {
        let file = format!("{}.hex", case.name);
        compare(&file, &hex(&case.bytes), &mut wrong);
        let kept = unhex(&fs::read_to_string(folder().join(&file)).unwrap_or_default());
        if let Err(error) = (case.means)(&kept) {
            wrong.push(format!("{file} {error}"));
        }
        assert!(files.insert(file), "{} stands in the table twice", case.name);
        let Some(json) = case.json else { continue };
        let file = format!("{}.json", case.name);
        compare(&file, &json.text, &mut wrong);
        if let Err(error) = (json.means)(&fs::read(folder().join(&file)).unwrap_or_default()) {
            wrong.push(format!("{file} {error}"));
        }
        files.insert(file);
    }
    for entry in fs::read_dir(folder()).unwrap() {
        let file = entry.unwrap().file_name().into_string().unwrap();
        if !files.contains(&file) {
            wrong.push(format!("{file} belongs to no message"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The canonical JSON of each value that has one, rewritten, must still mean the value.
fn assert_means_the_same(rewrite: impl Fn(&mut Value)) {
    let mut wrong = Vec::new();
    for (name, json) in cases().into_iter().filter_map(|case| Some((case.name, case.json?))) {
        let mut value = serde_json::from_str(&json.text).unwrap();
        rewrite(&mut value);
        if let Err(error) = (json.means)(value.to_string().as_bytes()) {
            wrong.push(format!("{name} {error}\n{value}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Each object, inside out.
fn in_each_object(value: &mut Value, change: &impl Fn(&mut serde_json::Map<String, Value>)) {
    match value {
        Value::Object(members) => {
            members.values_mut().for_each(|member| in_each_object(member, change));
            change(members);
        }
        Value::Array(items) => items.iter_mut().for_each(|item| in_each_object(item, change)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[test]
fn json_also_takes_the_names_of_the_proto_files() {
    assert_means_the_same(|value| {
        in_each_object(value, &|members| {
            let named = std::mem::take(members).into_iter().map(|(name, member)| {
                let letters = name.chars().flat_map(|letter| {
                    let upper = letter.is_ascii_uppercase();
                    upper.then_some('_').into_iter().chain([letter.to_ascii_lowercase()])
                });
                (letters.collect(), member)
            });
            *members = named.collect();
        });
    });
}

#[test]
fn json_also_takes_numbers_without_quotes() {
    assert_means_the_same(|value| {
        in_each_object(value, &|members| {
            for member in members.values_mut() {
                if let Some(number) = member.as_str().and_then(|text| text.parse::<u64>().ok()) {
                    *member = number.into();
                }
            }
        });
    });
}

#[test]
fn json_of_a_newer_client_is_read_without_what_it_adds() {
    assert_means_the_same(|value| {
        in_each_object(value, &|members| {
            members.insert("later".to_owned(), serde_json::json!({ "deep": [1, { "deeper": null }] }));
        });
    });
    let newer: v1::Member = serde_json::from_str(r#"{"role":"ROLE_LATER"}"#).unwrap();
    assert_eq!(newer.role(), v1::Role::Unspecified);
}

#[test]
fn each_enum_value_keeps_its_number() {
    let mut text = String::new();
    for number in 0..=255 {
        let names = [
            v1::ErrorCode::try_from(number).map(|value| value.as_str_name()),
            v1::ChatKind::try_from(number).map(|value| value.as_str_name()),
            v1::Role::try_from(number).map(|value| value.as_str_name()),
        ];
        names.iter().flatten().for_each(|name| writeln!(text, "{name} = {number}").unwrap());
    }
    let mut wrong = Vec::new();
    compare("enums.txt", &text, &mut wrong);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_golden_values_cover_every_field_of_every_message() {
    let mut covered: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
    for case in cases() {
        let mut parts = case.name.splitn(2, '-');
        covered.entry(parts.next().unwrap().to_owned()).or_default().extend(fields(&case.bytes));
    }
    let mut lacking = Vec::new();
    for (name, declared) in declared() {
        match covered.remove(&name) {
            None => lacking.push(format!("{name} has no golden value")),
            Some(set) if set != declared => lacking.push(format!("{name} declares {declared:?}, golden set {set:?}")),
            Some(_) => {}
        }
    }
    lacking.extend(covered.into_keys().map(|name| format!("{name} is declared nowhere")));
    assert!(lacking.is_empty(), "{}", lacking.join("\n"));
}

/// The field numbers of each message, read out of the `.proto` files.
fn declared() -> BTreeMap<String, BTreeSet<u64>> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("heliograph");
    let mut declared = BTreeMap::new();
    for package in ["v1", "log/v1", "relay/v1"] {
        for file in fs::read_dir(root.join(package)).unwrap() {
            let text = fs::read_to_string(file.unwrap().path()).unwrap();
            let mut message = None;
            for line in text.lines().map(|line| line.split("//").next().unwrap().trim()) {
                if let Some(name) = line.strip_prefix("message ") {
                    let name = name.split(' ').next().unwrap();
                    let name = format!("heliograph.{}.{name}", package.replace('/', "."));
                    declared.insert(name.clone(), BTreeSet::new());
                    message = Some(name);
                } else if line.starts_with("enum ") {
                    message = None;
                } else if let (Some(name), Some((_, number))) = (&message, line.split_once(" = ")) {
                    let number = number.trim_end_matches(';').parse().unwrap();
                    declared.get_mut(name).unwrap().insert(number);
                }
            }
        }
    }
    declared
}

/// The field numbers that stand at the top of an encoded message.
fn fields(mut bytes: &[u8]) -> BTreeSet<u64> {
    let mut numbers = BTreeSet::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        numbers.insert(key >> 3);
        let length = match key & 7 {
            0 => {
                varint(&mut bytes);
                0
            }
            1 => 8,
            2 => varint(&mut bytes) as usize,
            5 => 4,
            other => panic!("wire type {other} is not in use"),
        };
        bytes = &bytes[length..];
    }
    numbers
}

fn varint(bytes: &mut &[u8]) -> u64 {
    prost::decode_length_delimiter(&mut *bytes).unwrap() as u64
}

fn id(byte: u8) -> Bytes {
    Bytes::from(vec![byte; 16])
}

const EPOCH: u64 = 0x0006_5d2b_0102_0304;
const TIME_US: u64 = 1_790_000_000_000_001;
const GATEWAY: u64 = 0x1111_2222_3333_4444;
const SESSION: u64 = 0x5555_6666_7777_8888;
const ORIGIN: u64 = 0x9999_aaaa_bbbb_cccc;

fn member() -> v1::Member {
    v1::Member { user: id(3), role: v1::Role::Admin.into() }
}

fn policy() -> v1::ChatPolicy {
    v1::ChatPolicy { members_add: Some(true), slow_mode_s: Some(30) }
}

fn chat_created() -> v1::ChatCreated {
    let owner = v1::Member { user: id(2), role: v1::Role::Owner.into() };
    v1::ChatCreated { kind: v1::ChatKind::Group.into(), members: vec![owner, member()] }
}

fn import_begun() -> v1::ImportBegun {
    v1::ImportBegun { kind: v1::ChatKind::Channel.into(), import: id(8) }
}

fn import_ended() -> v1::ImportEnded {
    v1::ImportEnded { members: vec![member()] }
}

fn message_sent() -> v1::MessageSent {
    v1::MessageSent { body: Bytes::from_static(b"good morning"), ..v1::MessageSent::default() }
}

fn referring() -> v1::MessageSent {
    v1::MessageSent { reply_to: 298, mentions: vec![id(3), id(4)], mention_all: true, ..message_sent() }
}

fn set_role() -> v1::SetRole {
    v1::SetRole { user: id(3), role: v1::Role::Reader.into() }
}

fn role_set() -> v1::RoleSet {
    v1::RoleSet { user: id(3), role: v1::Role::Reader.into() }
}

fn rename() -> v1::RenameChat {
    v1::RenameChat { name: "climbing, \u{1f9d7} on tuesdays".to_owned() }
}

fn renamed() -> v1::ChatRenamed {
    v1::ChatRenamed { name: rename().name }
}

fn entry(event: v1::entry::Event) -> v1::Entry {
    v1::Entry {
        chat: id(1),
        seq: 300,
        ordinal: 290,
        sender: id(2),
        origin: ORIGIN,
        n: 7,
        time_us: TIME_US,
        schema: 1,
        event: Some(event),
    }
}

fn sent_entry() -> v1::Entry {
    entry(v1::entry::Event::MessageSent(message_sent()))
}

fn create_chat() -> v1::CreateChat {
    v1::CreateChat { kind: v1::ChatKind::Channel.into(), members: vec![member()] }
}

fn send_message() -> v1::SendMessage {
    v1::SendMessage { body: Bytes::from_static(b"good morning"), ..v1::SendMessage::default() }
}

fn send_referring() -> v1::SendMessage {
    v1::SendMessage { reply_to: 298, mentions: vec![id(3), id(4)], mention_all: true, ..send_message() }
}

fn command(action: v1::command::Action) -> v1::Command {
    v1::Command { chat: id(1), origin: ORIGIN, n: 7, after: 6, basis: 299, action: Some(action) }
}

fn sent_command() -> v1::Command {
    command(v1::command::Action::SendMessage(send_message()))
}

fn stored() -> v1::Stored {
    v1::Stored { seq: 300, time_us: TIME_US }
}

fn rejected() -> v1::Rejected {
    v1::Rejected { code: v1::ErrorCode::NotAMember.into(), text: "not a member".to_owned(), head: 299 }
}

fn outcome(result: v1::outcome::Result) -> v1::Outcome {
    v1::Outcome { chat: id(1), origin: ORIGIN, n: 7, result: Some(result) }
}

fn stored_outcome() -> v1::Outcome {
    outcome(v1::outcome::Result::Stored(stored()))
}

fn authenticate() -> v1::Authenticate {
    v1::Authenticate { token: "token".to_owned(), device: "phone".to_owned(), ..v1::Authenticate::default() }
}

fn limits() -> v1::Limits {
    v1::Limits {
        frame_bytes: 65_536,
        body_bytes: 16_384,
        history_entries: 500,
        outbox_span: 32,
        authenticate_within_ms: 10_000,
    }
}

fn hello() -> v1::Hello {
    v1::Hello { heartbeat_ms: 25_000, time_us: TIME_US, limits: Some(limits()) }
}

const fn resume() -> v1::Resume {
    v1::Resume { session: SESSION, pushes: 41 }
}

const fn resumed() -> v1::Resumed {
    v1::Resumed { pushes: 43 }
}

fn welcome() -> v1::Welcome {
    v1::Welcome { session: SESSION, user: id(2), partitions: 8, expires_us: TIME_US + 900_000_000, resumed: None }
}

fn renewed() -> v1::Renewed {
    v1::Renewed { expires_us: TIME_US + 1_800_000_000 }
}

fn error() -> v1::Error {
    v1::Error {
        code: v1::ErrorCode::Busy.into(),
        text: "partition is full".to_owned(),
        retryable: true,
        retry_after_ms: 500,
    }
}

fn ready() -> v1::Ready {
    v1::Ready { partition: 5, epoch: EPOCH, as_of: 1_000 }
}

fn head() -> v1::Head {
    v1::Head { chat: id(1), head: 300, ordinal: 290, delivered: 280, seen: 270, seen_ordinal: 265, first_seq: 1 }
}

fn heads() -> v1::Heads {
    v1::Heads { partition: 5, heads: vec![head()], last: true, current: true }
}

fn pushed() -> v1::Pushed {
    v1::Pushed { epoch: EPOCH, entry: Some(sent_entry()) }
}

fn watermark() -> v1::Watermark {
    v1::Watermark { chat: id(1), user: id(3), delivered: 280, seen: 270 }
}

fn received() -> v1::Received {
    v1::Received { chat: id(1), through: 280 }
}

fn seen() -> v1::Seen {
    v1::Seen { chat: id(1), through: 270 }
}

fn read_history() -> v1::ReadHistory {
    v1::ReadHistory { chat: id(1), after: 200, limit: 50, at_least: 300 }
}

fn history() -> v1::History {
    v1::History { chat: id(1), epoch: EPOCH, entries: vec![sent_entry()], through: 300, first_seq: 1 }
}

fn closing() -> v1::Closing {
    v1::Closing { reconnect_after_ms: 1_500 }
}

fn cases() -> Vec<Case> {
    let mut cases = v1_cases();
    cases.extend(frame_cases());
    cases.extend(log_cases());
    cases.extend(relay_cases());
    cases
}

fn v1_cases() -> Vec<Case> {
    use v1::{command::Action, entry::Event, outcome::Result};
    let added = || v1::MemberAdded { member: Some(member()) };
    let removed = || v1::MemberRemoved { user: id(3) };
    let add = || v1::AddMember { member: Some(member()) };
    let remove = || v1::RemoveMember { user: id(3) };
    let transfer = || v1::TransferOwnership { user: id(3) };
    let edit = || v1::EditMessage { seq: 298, body: Bytes::from_static(b"good evening") };
    let delete = || v1::DeleteMessage { seq: 298 };
    let edited = || v1::MessageEdited { seq: 298, body: edit().body, previous: 299, erased: false };
    let erased = || v1::MessageEdited { seq: 298, body: Bytes::new(), previous: 299, erased: true };
    let deleted = || v1::MessageDeleted { seq: 298 };
    let react = || v1::React { seq: 298, reaction: "👍🏽".to_owned() };
    let reacted = || v1::MessageReacted { seq: 298, reaction: react().reaction };
    let change = || v1::ChatPolicy { members_add: None, slow_mode_s: Some(30) };
    let policy_set = || v1::ChatPolicySet { policy: Some(policy()), change: Some(change()) };
    let set_policy = || v1::SetChatPolicy { change: Some(change()) };
    let pin = || v1::PinMessage { seq: 298, unpin: false };
    let pinned = || v1::MessagePinned { seq: 298, unpinned: false, pins: vec![200, 298] };
    let unpinned = || v1::MessagePinned { seq: 298, unpinned: true, pins: vec![200] };
    let version =
        || v1::MessageSent { body: edit().body, edited_seq: 300, first_hash: id(9), reply_to: 298, ..message_sent() };
    let gone = || v1::MessageSent { deleted_seq: 301, ..v1::MessageSent::default() };
    let transferred = || v1::OwnershipTransferred { user: id(3) };
    vec![
        seen_by_clients("heliograph.v1.Entry-chat_created", entry(Event::ChatCreated(chat_created()))),
        seen_by_clients("heliograph.v1.Entry-member_added", entry(Event::MemberAdded(added()))),
        seen_by_clients("heliograph.v1.Entry-member_removed", entry(Event::MemberRemoved(removed()))),
        seen_by_clients("heliograph.v1.Entry-member_left", entry(Event::MemberLeft(v1::MemberLeft {}))),
        seen_by_clients("heliograph.v1.Entry-message_sent", sent_entry()),
        seen_by_clients("heliograph.v1.Entry-role_set", entry(Event::RoleSet(role_set()))),
        seen_by_clients("heliograph.v1.Entry-chat_renamed", entry(Event::ChatRenamed(renamed()))),
        seen_by_clients("heliograph.v1.Entry-ownership_transferred", entry(Event::OwnershipTransferred(transferred()))),
        seen_by_clients("heliograph.v1.Entry-import_begun", entry(Event::ImportBegun(import_begun()))),
        seen_by_clients("heliograph.v1.Entry-import_ended", entry(Event::ImportEnded(import_ended()))),
        seen_by_clients("heliograph.v1.ChatCreated", chat_created()),
        seen_by_clients("heliograph.v1.Member", member()),
        seen_by_clients("heliograph.v1.MemberAdded", added()),
        seen_by_clients("heliograph.v1.MemberRemoved", removed()),
        seen_by_clients("heliograph.v1.MemberLeft", v1::MemberLeft {}),
        seen_by_clients("heliograph.v1.MessageSent", message_sent()),
        seen_by_clients("heliograph.v1.MessageSent-referring", referring()),
        seen_by_clients("heliograph.v1.RoleSet", role_set()),
        seen_by_clients("heliograph.v1.ChatRenamed", renamed()),
        seen_by_clients("heliograph.v1.OwnershipTransferred", transferred()),
        seen_by_clients("heliograph.v1.Entry-message_edited", entry(Event::MessageEdited(edited()))),
        seen_by_clients("heliograph.v1.Entry-message_deleted", entry(Event::MessageDeleted(deleted()))),
        seen_by_clients("heliograph.v1.MessageEdited", edited()),
        seen_by_clients("heliograph.v1.MessageEdited-erased", erased()),
        seen_by_clients("heliograph.v1.MessageDeleted", deleted()),
        seen_by_clients("heliograph.v1.Entry-message_reacted", entry(Event::MessageReacted(reacted()))),
        seen_by_clients("heliograph.v1.MessageReacted", reacted()),
        seen_by_clients("heliograph.v1.Entry-chat_policy_set", entry(Event::ChatPolicySet(policy_set()))),
        seen_by_clients("heliograph.v1.ChatPolicySet", policy_set()),
        seen_by_clients("heliograph.v1.ChatPolicy", policy()),
        seen_by_clients("heliograph.v1.Entry-message_pinned", entry(Event::MessagePinned(pinned()))),
        seen_by_clients("heliograph.v1.MessagePinned", pinned()),
        seen_by_clients("heliograph.v1.MessagePinned-unpinned", unpinned()),
        seen_by_clients("heliograph.v1.MessageSent-edited", version()),
        seen_by_clients("heliograph.v1.MessageSent-deleted", gone()),
        seen_by_clients("heliograph.v1.ImportBegun", import_begun()),
        seen_by_clients("heliograph.v1.ImportEnded", import_ended()),
        seen_by_clients("heliograph.v1.Command-create_chat", command(Action::CreateChat(create_chat()))),
        seen_by_clients("heliograph.v1.Command-add_member", command(Action::AddMember(add()))),
        seen_by_clients("heliograph.v1.Command-remove_member", command(Action::RemoveMember(remove()))),
        seen_by_clients("heliograph.v1.Command-leave_chat", command(Action::LeaveChat(v1::LeaveChat {}))),
        seen_by_clients("heliograph.v1.Command-send_message", sent_command()),
        seen_by_clients("heliograph.v1.Command-set_role", command(Action::SetRole(set_role()))),
        seen_by_clients("heliograph.v1.Command-rename_chat", command(Action::RenameChat(rename()))),
        seen_by_clients("heliograph.v1.Command-transfer_ownership", command(Action::TransferOwnership(transfer()))),
        seen_by_clients("heliograph.v1.SetRole", set_role()),
        seen_by_clients("heliograph.v1.RenameChat", rename()),
        seen_by_clients("heliograph.v1.TransferOwnership", transfer()),
        seen_by_clients("heliograph.v1.Command-edit_message", command(Action::EditMessage(edit()))),
        seen_by_clients("heliograph.v1.Command-delete_message", command(Action::DeleteMessage(delete()))),
        seen_by_clients("heliograph.v1.EditMessage", edit()),
        seen_by_clients("heliograph.v1.DeleteMessage", delete()),
        seen_by_clients("heliograph.v1.Command-react", command(Action::React(react()))),
        seen_by_clients("heliograph.v1.Command-set_chat_policy", command(Action::SetChatPolicy(set_policy()))),
        seen_by_clients("heliograph.v1.Command-pin_message", command(Action::PinMessage(pin()))),
        seen_by_clients("heliograph.v1.React", react()),
        seen_by_clients("heliograph.v1.SetChatPolicy", set_policy()),
        seen_by_clients("heliograph.v1.PinMessage", pin()),
        seen_by_clients("heliograph.v1.PinMessage-unpin", v1::PinMessage { unpin: true, ..pin() }),
        seen_by_clients("heliograph.v1.CreateChat", create_chat()),
        seen_by_clients("heliograph.v1.AddMember", add()),
        seen_by_clients("heliograph.v1.RemoveMember", remove()),
        seen_by_clients("heliograph.v1.LeaveChat", v1::LeaveChat {}),
        seen_by_clients("heliograph.v1.SendMessage", send_message()),
        seen_by_clients("heliograph.v1.SendMessage-referring", send_referring()),
        seen_by_clients("heliograph.v1.Outcome-stored", stored_outcome()),
        seen_by_clients("heliograph.v1.Outcome-rejected", outcome(Result::Rejected(rejected()))),
        seen_by_clients("heliograph.v1.Stored", stored()),
        seen_by_clients("heliograph.v1.Rejected", rejected()),
    ]
}

fn frame_cases() -> Vec<Case> {
    use v1::{client_frame::Frame as Client, server_frame::Frame as Server};
    let client = |frame| v1::ClientFrame { id: 9, frame: Some(frame) };
    // A push has id 0, which is not on the wire.
    let reply = |frame| v1::ServerFrame { id: 9, frame: Some(frame) };
    let push = |frame| v1::ServerFrame { id: 0, frame: Some(frame) };
    vec![
        seen_by_clients("heliograph.v1.ClientFrame-authenticate", client(Client::Authenticate(authenticate()))),
        seen_by_clients("heliograph.v1.ClientFrame-command", client(Client::Command(sent_command()))),
        seen_by_clients("heliograph.v1.ClientFrame-read_history", client(Client::ReadHistory(read_history()))),
        seen_by_clients("heliograph.v1.ClientFrame-received", client(Client::Received(received()))),
        seen_by_clients("heliograph.v1.ClientFrame-seen", client(Client::Seen(seen()))),
        seen_by_clients("heliograph.v1.ServerFrame-hello", push(Server::Hello(hello()))),
        seen_by_clients("heliograph.v1.ServerFrame-welcome", reply(Server::Welcome(welcome()))),
        seen_by_clients("heliograph.v1.ServerFrame-accepted", reply(Server::Accepted(v1::Accepted {}))),
        seen_by_clients("heliograph.v1.ServerFrame-outcome", reply(Server::Outcome(stored_outcome()))),
        seen_by_clients("heliograph.v1.ServerFrame-history", reply(Server::History(history()))),
        seen_by_clients("heliograph.v1.ServerFrame-error", reply(Server::Error(error()))),
        seen_by_clients("heliograph.v1.ServerFrame-renewed", reply(Server::Renewed(renewed()))),
        seen_by_clients("heliograph.v1.ServerFrame-ready", push(Server::Ready(ready()))),
        seen_by_clients("heliograph.v1.ServerFrame-heads", push(Server::Heads(heads()))),
        seen_by_clients("heliograph.v1.ServerFrame-pushed", push(Server::Pushed(pushed()))),
        seen_by_clients("heliograph.v1.ServerFrame-watermark", push(Server::Watermark(watermark()))),
        seen_by_clients("heliograph.v1.ServerFrame-closing", push(Server::Closing(closing()))),
        seen_by_clients("heliograph.v1.Hello", hello()),
        seen_by_clients("heliograph.v1.Limits", limits()),
        seen_by_clients("heliograph.v1.Authenticate", authenticate()),
        seen_by_clients(
            "heliograph.v1.Authenticate-resume",
            v1::Authenticate { resume: Some(resume()), ..authenticate() },
        ),
        seen_by_clients(
            "heliograph.v1.Authenticate-ticket",
            v1::Authenticate { token: String::new(), ticket: "ticket".to_owned(), ..authenticate() },
        ),
        seen_by_clients("heliograph.v1.Resume", resume()),
        seen_by_clients("heliograph.v1.Welcome", welcome()),
        seen_by_clients("heliograph.v1.Welcome-resumed", v1::Welcome { resumed: Some(resumed()), ..welcome() }),
        seen_by_clients("heliograph.v1.Resumed", resumed()),
        seen_by_clients("heliograph.v1.Accepted", v1::Accepted {}),
        seen_by_clients("heliograph.v1.Error", error()),
        seen_by_clients("heliograph.v1.Ready", ready()),
        seen_by_clients("heliograph.v1.Heads", heads()),
        seen_by_clients("heliograph.v1.Head", head()),
        seen_by_clients("heliograph.v1.Pushed", pushed()),
        seen_by_clients("heliograph.v1.Watermark", watermark()),
        seen_by_clients("heliograph.v1.Renewed", renewed()),
        seen_by_clients("heliograph.v1.Received", received()),
        seen_by_clients("heliograph.v1.Seen", seen()),
        seen_by_clients("heliograph.v1.ReadHistory", read_history()),
        seen_by_clients("heliograph.v1.History", history()),
        seen_by_clients("heliograph.v1.Closing", closing()),
    ]
}

fn log_cases() -> Vec<Case> {
    use log::import::Step;
    let route = || log::Route { gateway: GATEWAY, session: SESSION, request: 9 };
    let command = || log::Command { route: Some(route()), sender: id(2), command: Some(sent_command()), import: None };
    let step = |step| log::Import { chat: id(1), import: id(8), seq: 300, step: Some(step) };
    let begin = || log::BeginImport { kind: v1::ChatKind::Channel.into(), time_us: TIME_US };
    let said = || log::ImportMessage { time_us: TIME_US, body: Bytes::from_static(b"good morning") };
    let end = || log::EndImport { members: vec![member()] };
    let position = || log::CommandPosition {
        sequence: 400,
        count: 3,
        time_ns: 1_790_000_000_000_001_002,
        message_id: "1111222233334444-12".to_owned(),
    };
    let advanced = || log::StatusAdvanced { chat: id(1), user: id(3), delivered: 280, seen: 270, seen_ordinal: 265 };
    let revocation = || log::Revocation {
        user: id(2),
        issued_through_s: TIME_US / 1_000_000,
        device: "phone".to_owned(),
        sign_in: "a1b2".to_owned(),
        forget_after_s: TIME_US / 1_000_000 + 900,
    };
    let control = || log::Control { schema: 1, what: Some(log::control::What::Revocation(revocation())) };
    let key_revocation = || log::KeyRevocation {
        kid: "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k".to_owned(),
        at_s: TIME_US / 1_000_000,
        forget_after_s: TIME_US / 1_000_000 + 900,
    };
    let key_control = || log::Control { schema: 1, what: Some(log::control::What::KeyRevocation(key_revocation())) };
    let origin = || log::OriginState {
        sender: id(2),
        origin: ORIGIN,
        last_n: 7,
        last_seq: 300,
        last_time_us: TIME_US,
        ring: Bytes::from_static(b"\x00\x00\x000123456789abcdef"),
    };
    let events = log::EventBatch {
        schema: 1,
        epoch: EPOCH,
        writer: 0xdddd_eeee_ffff_0001,
        batch: 12,
        commands_through: Some(position()),
        entries: vec![sent_entry().encode_to_vec().into()],
        appended_through: 511,
    };
    let snapshot = log::ChatSnapshot {
        schema: 1,
        head: 300,
        ordinal: 290,
        first_seq: 1,
        last_time_us: TIME_US,
        kind: v1::ChatKind::Direct.into(),
        creator: id(2),
        creation_hash: id(9),
        creation_time_us: TIME_US - 1,
        evicted_through: 150,
        origins: vec![origin()],
        import: Bytes::new(),
        import_end_seq: 0,
        import_end_time_us: 0,
        policy: None,
        pins: Vec::new(),
    };
    let governed = log::ChatSnapshot { policy: Some(policy()), pins: vec![200, 298], ..snapshot.clone() };
    let imported =
        log::ChatSnapshot { import: id(8), import_end_seq: 200, import_end_time_us: TIME_US - 2, ..snapshot.clone() };
    vec![
        case("heliograph.log.v1.CommandBatch", log::CommandBatch { schema: 1, commands: vec![command()], epoch: 7 }),
        case("heliograph.log.v1.Command", command()),
        case(
            "heliograph.log.v1.Command-import",
            log::Command { command: None, import: Some(step(Step::Message(said()))), ..command() },
        ),
        case("heliograph.log.v1.Import-begin", step(Step::Begin(begin()))),
        case("heliograph.log.v1.Import-message", step(Step::Message(said()))),
        case("heliograph.log.v1.Import-end", step(Step::End(end()))),
        case("heliograph.log.v1.BeginImport", begin()),
        case("heliograph.log.v1.ImportMessage", said()),
        case("heliograph.log.v1.EndImport", end()),
        case("heliograph.log.v1.Route", route()),
        case("heliograph.log.v1.EventBatch", events),
        case("heliograph.log.v1.CommandPosition", position()),
        case("heliograph.log.v1.StatusBatch", log::StatusBatch { schema: 1, epoch: EPOCH, statuses: vec![advanced()] }),
        case("heliograph.log.v1.StatusAdvanced", advanced()),
        case("heliograph.log.v1.ChatSnapshot", snapshot),
        case("heliograph.log.v1.ChatSnapshot-imported", imported),
        case("heliograph.log.v1.ChatSnapshot-governed", governed),
        case("heliograph.log.v1.ChatPins", log::ChatPins { pins: vec![200, 298] }),
        case("heliograph.log.v1.OriginState", origin()),
        case("heliograph.log.v1.Control", control()),
        case("heliograph.log.v1.Revocation", revocation()),
        case("heliograph.log.v1.Control-key_revocation", key_control()),
        case("heliograph.log.v1.KeyRevocation", key_revocation()),
    ]
}

fn relay_cases() -> Vec<Case> {
    use relay::{push::What as Pushed, to_gateway::What};
    let answer = || relay::Answer { session: SESSION, request: 9, outcome: Some(stored_outcome()) };
    let up = || relay::SessionUp { session: SESSION, user: id(2) };
    let announcement = relay::Announcement {
        gateway: GATEWAY,
        version: 4,
        snapshot: true,
        up: vec![up()],
        down: vec![SESSION + 1, SESSION + 2],
        leaving: true,
        part: 1,
        parts: 2,
    };
    let ack = || relay::AnnouncementAck {
        gateway: GATEWAY,
        version: 4,
        partition: 5,
        epoch: EPOCH,
        owner: 6,
        as_of: 1_000,
        last_batch: 11,
    };
    let push = |what| relay::Push { what: Some(what), sessions: vec![SESSION, SESSION + 1], own: 1 };
    let entry = || push(Pushed::Entry(sent_entry().encode_to_vec().into()));
    let batch = || relay::PushBatch { partition: 5, epoch: EPOCH, owner: 6, number: 12, pushes: vec![entry()] };
    let through = || relay::Through { partition: 5, epoch: EPOCH, owner: 6, last_batch: 12, events: 1_001 };
    let receipt = || relay::Receipt { chat: id(1), user: id(3), delivered: 280, seen: 270 };
    let to_gateway = |what| relay::ToGateway { what: Some(what) };
    vec![
        case("heliograph.relay.v1.AnswerBatch", relay::AnswerBatch { partition: 5, answers: vec![answer()] }),
        case("heliograph.relay.v1.Answer", answer()),
        case("heliograph.relay.v1.Announcement", announcement),
        case("heliograph.relay.v1.SessionUp", up()),
        case("heliograph.relay.v1.ToGateway-pushes", to_gateway(What::Pushes(batch()))),
        case("heliograph.relay.v1.ToGateway-through", to_gateway(What::Through(through()))),
        case("heliograph.relay.v1.ToGateway-ack", to_gateway(What::Ack(ack()))),
        case("heliograph.relay.v1.AnnouncementAck", ack()),
        case("heliograph.relay.v1.AnnounceRequest", relay::AnnounceRequest { gateway: GATEWAY }),
        case("heliograph.relay.v1.PushBatch", batch()),
        case("heliograph.relay.v1.Push-entry", entry()),
        case("heliograph.relay.v1.Push-watermark", push(Pushed::Watermark(watermark()))),
        case("heliograph.relay.v1.Through", through()),
        case("heliograph.relay.v1.ReceiptBatch", relay::ReceiptBatch { gateway: GATEWAY, receipts: vec![receipt()] }),
        case("heliograph.relay.v1.Receipt", receipt()),
        case("heliograph.relay.v1.Written", relay::Written { partition: 5, epoch: EPOCH, statuses: 77 }),
    ]
}
