//! Encodes server frames. An entry's bytes go in as they are: nobody decodes or encodes them again.

use bytes::{BufMut as _, Bytes, BytesMut};
use domain::{ChatId, Code, Epoch, LoggedEntry, Seq, text};
use prost::Message as _;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};
use proto::v1;
use proto::v1::server_frame::Frame;

/// `ServerFrame.id`, `.history` and `.pushed`; `Pushed.epoch` and `.entry`; `History.entries`.
const ID: u32 = 1;
const HISTORY: u32 = 6;
const PUSHED: u32 = 18;
const PUSHED_EPOCH: u32 = 1;
const PUSHED_ENTRY: u32 = 2;
const HISTORY_ENTRIES: u32 = 3;
/// What a client may do about `busy` and its like, in ms.
const RETRY_AFTER_MS: u32 = 500;

/// A reply to request `id`, or a push with id 0.
pub(crate) fn frame(id: u64, frame: Frame) -> Bytes {
    v1::ServerFrame { id, frame: Some(frame) }.encode_to_vec().into()
}

/// A refusal of request `id`.
pub(crate) fn error(id: u64, code: Code) -> Bytes {
    error_after(id, code, RETRY_AFTER_MS)
}

/// A refusal of request `id`; if the code is one that passes, after this time.
pub(crate) fn error_after(id: u64, code: Code, retry_after_ms: u32) -> Bytes {
    let retryable = code as i32 >= Code::Busy as i32;
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

/// The push of an entry, made once for all who get it.
pub(crate) fn pushed(epoch: Epoch, entry: &Bytes) -> Bytes {
    let inner = key_len(PUSHED_EPOCH) + 8 + field_len(PUSHED_ENTRY, entry.len());
    let mut frame = BytesMut::with_capacity(field_len(PUSHED, inner));
    encode_key(PUSHED, WireType::LengthDelimited, &mut frame);
    encode_varint(inner as u64, &mut frame);
    encode_key(PUSHED_EPOCH, WireType::SixtyFourBit, &mut frame);
    frame.put_u64_le(epoch.0);
    put_field(PUSHED_ENTRY, entry, &mut frame);
    frame.freeze()
}

/// A history answer.
pub(crate) fn history(
    id: u64,
    chat: ChatId,
    epoch: Epoch,
    rows: &[&LoggedEntry],
    through: Seq,
    first_seq: Seq,
) -> Bytes {
    let head = v1::History { chat: chat.to_wire(), epoch: epoch.0, entries: Vec::new(), through, first_seq };
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
    use domain::{Entry, Event, Origin, UserId};

    fn row() -> LoggedEntry {
        LoggedEntry::encode(Entry {
            chat: ChatId::new([1; 16]),
            seq: 2,
            ordinal: 1,
            sender: UserId::new([2; 16]),
            origin: Origin(3),
            n: 4,
            time: 5,
            event: Event::MessageSent { body: vec![9; 300].into() },
        })
    }

    #[test]
    fn frames_made_of_encoded_entries_are_what_prost_would_make() {
        let row = row();
        let entry = v1::Entry::decode(row.bytes.clone()).unwrap();
        let whole = v1::Pushed { epoch: 7, entry: Some(entry.clone()) };
        assert_eq!(pushed(Epoch(7), &row.bytes), frame(0, Frame::Pushed(whole)));
        let whole = v1::History {
            chat: row.entry.chat.to_wire(),
            epoch: 7,
            entries: vec![entry.clone(), entry],
            through: 2,
            first_seq: 1,
        };
        let ours = history(300, row.entry.chat, Epoch(7), &[&row, &row], 2, 1);
        let ours = v1::ServerFrame::decode(ours).unwrap();
        assert_eq!(ours, v1::ServerFrame { id: 300, frame: Some(Frame::History(whole)) });
    }

    #[test]
    fn only_passing_refusals_are_retryable() {
        let decoded = |code| match v1::ServerFrame::decode(error(1, code)).unwrap().frame {
            Some(Frame::Error(error)) => error.retryable,
            other => panic!("{other:?}"),
        };
        assert!(decoded(Code::Busy) && decoded(Code::NotYet) && decoded(Code::Unavailable));
        assert!(!decoded(Code::BadRequest) && !decoded(Code::NotAMember));
    }
}
