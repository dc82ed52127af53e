//! Frames in both sub-protocols: decodes what clients send, encodes what they get.
//!
//! In a binary frame an entry's bytes go as they are: nobody decodes or encodes them again. JSON is made of them only
//! where a socket asks for it, and once for all that do.

use std::cell::OnceCell;

use bytes::{BufMut as _, Bytes, BytesMut};
use domain::{Code, Epoch, LoggedEntry, text};
use metrics::counter;
use prost::Message as _;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};
use proto::v1;
use proto::v1::server_frame::Frame;

use crate::json;
use crate::socket::{Class, CloseCode, Outbound, PushError, SubProtocol};

/// `ServerFrame.id`, `.history` and `.pushed`; `Pushed.epoch` and `.entry`; `History.entries`.
const ID: u32 = 1;
const HISTORY: u32 = 6;
const PUSHED: u32 = 18;
const PUSHED_EPOCH: u32 = 1;
const PUSHED_ENTRY: u32 = 2;
const HISTORY_ENTRIES: u32 = 3;
/// What a client may do about `busy` and its like, in ms.
const RETRY_AFTER_MS: u32 = 500;

/// The bytes are no frame of the protocol.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Undecodable;

/// The frame holds what this version has no JSON for: an enum's value of a newer one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Unencodable;

/// Reads one message of a client; its length was bounded before it came here.
///
/// # Errors
/// The client does not speak the sub-protocol.
pub(crate) fn decode(sub_protocol: SubProtocol, payload: Bytes) -> Result<v1::ClientFrame, Undecodable> {
    match sub_protocol {
        SubProtocol::Proto => v1::ClientFrame::decode(payload).map_err(|_fault| Undecodable),
        SubProtocol::Json => json::decode(&payload).ok_or(Undecodable),
    }
}

/// A frame for clients: encoded at most once in each sub-protocol, and only where a socket has it.
#[derive(Debug)]
pub(crate) struct ToClients {
    content: Content,
    proto: OnceCell<Bytes>,
    json: OnceCell<Result<Bytes, Unencodable>>,
}

#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "moved once on its way: a box would cost each frame an allocation")]
enum Content {
    Whole(v1::ServerFrame),
    /// An entry that is encoded already.
    Pushed(Epoch, Bytes),
}

impl ToClients {
    const fn new(content: Content) -> Self {
        Self { content, proto: OnceCell::new(), json: OnceCell::new() }
    }

    /// The frame's bytes; all calls share one encoding.
    ///
    /// # Errors
    /// It has no JSON.
    pub(crate) fn encoded(&self, sub_protocol: SubProtocol) -> Result<Bytes, Unencodable> {
        match sub_protocol {
            SubProtocol::Proto => Ok(self.proto.get_or_init(|| self.to_proto()).clone()),
            SubProtocol::Json => self.json.get_or_init(|| self.to_json()).clone(),
        }
    }

    /// Queues the frame as its socket wants it.
    ///
    /// # Errors
    /// As of [`Outbound::push`]; a socket that it cannot be encoded for is closed.
    pub(crate) fn push(&self, outbound: &Outbound, class: Class) -> Result<(), PushError> {
        match self.encoded(outbound.sub_protocol()) {
            Ok(bytes) => outbound.push(bytes, class),
            Err(Unencodable) => Err(give_up(outbound)),
        }
    }

    fn to_proto(&self) -> Bytes {
        match &self.content {
            Content::Whole(frame) => frame.encode_to_vec().into(),
            Content::Pushed(epoch, entry) => pushed_proto(*epoch, entry),
        }
    }

    fn to_json(&self) -> Result<Bytes, Unencodable> {
        match &self.content {
            Content::Whole(frame) => json::encode(frame),
            Content::Pushed(epoch, entry) => {
                let entry = v1::Entry::decode(entry.clone()).map_err(|_fault| Unencodable)?;
                let pushed = v1::Pushed { epoch: epoch.0, entry: Some(entry) };
                json::encode(&v1::ServerFrame { id: 0, frame: Some(Frame::Pushed(pushed)) })
            }
        }
    }
}

/// Closes a socket that cannot be told something: it must not go on as if there had been nothing.
pub(crate) fn give_up(outbound: &Outbound) -> PushError {
    counter!("gateway_frames_unencodable_total").increment(1);
    outbound.close(CloseCode::InternalError);
    PushError::Closed
}

/// A reply to request `id`, or a push with id 0.
pub(crate) const fn frame(id: u64, frame: Frame) -> ToClients {
    ToClients::new(Content::Whole(v1::ServerFrame { id, frame: Some(frame) }))
}

/// A refusal of request `id`.
pub(crate) fn error(id: u64, code: Code) -> ToClients {
    error_after(id, code, RETRY_AFTER_MS)
}

/// A refusal of request `id`; if the code is one that passes, after this time.
pub(crate) fn error_after(id: u64, code: Code, retry_after_ms: u32) -> ToClients {
    let retryable = is_retryable(code);
    frame(
        id,
        Frame::Error(v1::Error {
            code: code.into(),
            text: text(code).to_owned(),
            retryable,
            retry_after_ms: if retryable { retry_after_ms } else { 0 },
        }),
    )
}

/// Whether the same request may do better a little later.
#[must_use]
pub const fn is_retryable(code: Code) -> bool {
    code as i32 >= Code::Busy as i32
}

/// The push of an entry, made once for all who get it.
pub(crate) const fn pushed(epoch: Epoch, entry: Bytes) -> ToClients {
    ToClients::new(Content::Pushed(epoch, entry))
}

fn pushed_proto(epoch: Epoch, entry: &Bytes) -> Bytes {
    let inner = key_len(PUSHED_EPOCH) + 8 + field_len(PUSHED_ENTRY, entry.len());
    let mut frame = BytesMut::with_capacity(field_len(PUSHED, inner));
    encode_key(PUSHED, WireType::LengthDelimited, &mut frame);
    encode_varint(inner as u64, &mut frame);
    encode_key(PUSHED_EPOCH, WireType::SixtyFourBit, &mut frame);
    frame.put_u64_le(epoch.0);
    put_field(PUSHED_ENTRY, entry, &mut frame);
    frame.freeze()
}

/// A history answer to request `id`: `head` without its entries, and these.
///
/// # Errors
/// It has no JSON.
pub(crate) fn history(
    sub_protocol: SubProtocol,
    id: u64,
    head: v1::History,
    rows: &[&LoggedEntry],
) -> Result<Bytes, Unencodable> {
    match sub_protocol {
        SubProtocol::Proto => Ok(history_proto(id, &head, rows)),
        SubProtocol::Json => {
            let entries = rows.iter().map(|row| v1::Entry::decode(row.bytes.clone()));
            let entries = entries.collect::<Result<_, _>>().map_err(|_fault| Unencodable)?;
            json::encode(&v1::ServerFrame { id, frame: Some(Frame::History(v1::History { entries, ..head })) })
        }
    }
}

fn history_proto(id: u64, head: &v1::History, rows: &[&LoggedEntry]) -> Bytes {
    let entries: usize = rows.iter().map(|row| field_len(HISTORY_ENTRIES, row.bytes.len())).sum();
    let inner = head.encoded_len() + entries;
    let mut frame = BytesMut::with_capacity(field_len(HISTORY, inner) + 16);
    encode_key(ID, WireType::Varint, &mut frame);
    encode_varint(id, &mut frame);
    encode_key(HISTORY, WireType::LengthDelimited, &mut frame);
    encode_varint(inner as u64, &mut frame);
    head.encode_raw(&mut frame);
    for row in rows {
        put_field(HISTORY_ENTRIES, &row.bytes, &mut frame);
    }
    frame.freeze()
}

fn field_len(field: u32, bytes: usize) -> usize {
    key_len(field) + encoded_len_varint(bytes as u64) + bytes
}

fn put_field(field: u32, bytes: &Bytes, frame: &mut BytesMut) {
    encode_key(field, WireType::LengthDelimited, frame);
    encode_varint(bytes.len() as u64, frame);
    frame.put_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::{ChatId, ChatKind, Entry, Event, Member, Origin, Role, UserId};

    fn row(event: Event) -> LoggedEntry {
        LoggedEntry::encode(Entry {
            chat: ChatId::new([1; 16]),
            seq: 2,
            ordinal: 1,
            sender: UserId::new([2; 16]),
            origin: Origin(u64::MAX),
            n: 4,
            time: 1_790_000_000_000_000,
            event,
        })
    }

    fn message(bytes: usize) -> LoggedEntry {
        row(Event::MessageSent(domain::Message::plain(vec![9; bytes])))
    }

    fn of_json(bytes: &Bytes) -> v1::ServerFrame {
        serde_json::from_slice(bytes).unwrap()
    }

    #[test]
    fn frames_made_of_encoded_entries_are_what_prost_would_make() {
        let row = message(300);
        let entry = v1::Entry::decode(row.bytes.clone()).unwrap();
        let whole = v1::Pushed { epoch: 7, entry: Some(entry.clone()) };
        let (ours, whole) = (pushed(Epoch(7), row.bytes.clone()), frame(0, Frame::Pushed(whole)));
        assert_eq!(ours.encoded(SubProtocol::Proto), whole.encoded(SubProtocol::Proto));
        assert_eq!(ours.encoded(SubProtocol::Json), whole.encoded(SubProtocol::Json));
        let head =
            v1::History { chat: row.entry.chat.to_wire(), epoch: 7, entries: Vec::new(), through: 2, first_seq: 1 };
        let whole = v1::History { entries: vec![entry.clone(), entry], ..head.clone() };
        let whole = v1::ServerFrame { id: 300, frame: Some(Frame::History(whole)) };
        let binary = history(SubProtocol::Proto, 300, head.clone(), &[&row, &row]).unwrap();
        assert_eq!(v1::ServerFrame::decode(binary).unwrap(), whole);
        let text = history(SubProtocol::Json, 300, head, &[&row, &row]).unwrap();
        assert_eq!(of_json(&text), whole);
    }

    #[test]
    fn a_frame_is_encoded_once_a_sub_protocol_and_only_if_asked_for() {
        let push = pushed(Epoch(7), message(300).bytes);
        let binary = push.encoded(SubProtocol::Proto).unwrap();
        assert_eq!(push.encoded(SubProtocol::Proto).unwrap().as_ptr(), binary.as_ptr());
        assert!(push.json.get().is_none(), "nobody asked for JSON");
        let text = push.encoded(SubProtocol::Json).unwrap();
        assert_eq!(push.encoded(SubProtocol::Json).unwrap().as_ptr(), text.as_ptr());
    }

    #[test]
    fn what_a_newer_version_stored_has_no_json_here_but_its_binary_goes_on() {
        let later = v1::Member { user: Bytes::new(), role: 99 };
        let event = v1::entry::Event::MemberAdded(v1::MemberAdded { member: Some(later) });
        let entry = v1::Entry { event: Some(event), ..v1::Entry::default() };
        let push = pushed(Epoch(7), entry.encode_to_vec().into());
        assert_eq!(push.encoded(SubProtocol::Json), Err(Unencodable));
        assert!(push.encoded(SubProtocol::Proto).is_ok());
    }

    #[test]
    fn json_of_an_entry_takes_at_most_three_and_a_half_times_its_bytes() {
        let member = Member { user: UserId::new([3; 16]), role: Role::Reader };
        let members = vec![member; 300];
        let rows = [
            row(Event::ChatCreated { kind: ChatKind::Channel, members: members[..1].to_vec() }),
            row(Event::ChatCreated { kind: ChatKind::Channel, members }),
            row(Event::MemberAdded { member }),
            row(Event::MemberRemoved { user: member.user }),
            row(Event::MemberLeft),
            message(0),
            message(16 << 10),
        ];
        for row in rows {
            let entry = v1::Entry::decode(row.bytes.clone()).unwrap();
            let text = serde_json::to_vec(&entry).unwrap().len();
            assert!(2 * text <= 7 * row.bytes.len(), "{text} of {}: {entry:?}", row.bytes.len());
        }
    }

    #[test]
    fn only_passing_refusals_are_retryable() {
        let retryable = |code| match of_json(&error(1, code).encoded(SubProtocol::Json).unwrap()).frame {
            Some(Frame::Error(error)) => error.retryable,
            other => panic!("{other:?}"),
        };
        assert!(retryable(Code::Busy) && retryable(Code::NotYet) && retryable(Code::Unavailable));
        assert!(!retryable(Code::BadRequest) && !retryable(Code::NotAMember));
    }
}
