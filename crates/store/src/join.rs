//! What engines make of rows that they have read, in one way.

use std::sync::Arc;

use bytes::Bytes;
use domain::{ChatId, Entry, LoggedEntry, Seq, Watermark};
use prost::Message;

use crate::{Error, Head, NameRow, SummaryRow, UserChatRow};

/// Head and first seq of a snapshot; the rest of its state is skipped unread.
#[derive(Clone, PartialEq, Message)]
struct SnapshotHead {
    #[prost(uint64, tag = "2")]
    head: u64,
    #[prost(uint64, tag = "4")]
    first_seq: u64,
}

/// Head and lowest kept seq that an encoded snapshot names, which is to be written.
pub(crate) fn snapshot_head(state: &[u8]) -> Result<(Seq, Seq), Error> {
    let head = SnapshotHead::decode(state)
        .map_err(|error| Error::corrupt("chat_snapshots", format!("what is to be written: {error}")))?;
    Ok((head.head, head.first_seq.max(1)))
}

/// A row of the chat log, which must say what its key says.
pub(crate) fn logged(chat: ChatId, seq: Seq, bytes: Bytes) -> Result<LoggedEntry, Error> {
    let entry = Entry::decode(&bytes).map_err(|error| Error::Entry { chat, source: Arc::new(error) })?;
    if (entry.chat, entry.seq) != (chat, seq) {
        return Err(Error::corrupt("chat_log", format!("under {chat} {seq} stands {} {}", entry.chat, entry.seq)));
    }
    Ok(LoggedEntry { entry, bytes })
}

/// What the chat is called, as far as this user may know: who has left does not learn of later names.
pub(crate) fn name(row: &UserChatRow, name: Option<NameRow>) -> Option<Box<str>> {
    let name = name.filter(|name| row.left_seq.is_none_or(|left_seq| name.seq <= left_seq))?;
    (!name.name.is_empty()).then_some(name.name)
}

/// The chat's head for one user, and what is shown of the chat: nothing from before or after the stay.
///
/// `leaving` is the entry that ended the stay, if it has ended and is stored.
pub(crate) fn head(
    row: &UserChatRow,
    mut summary: Option<SummaryRow>,
    leaving: Option<&Entry>,
    watermark: Watermark,
) -> (Head, Option<SummaryRow>) {
    // Without a summary yet the chat is there all the same, at least up to the joining: never left out silently.
    let (mut head, mut ordinal, first_seq) =
        summary.as_ref().map_or((row.joined_seq, 0, 1), |row| (row.head, row.ordinal, row.first_seq));
    if let Some(left_seq) = row.left_seq {
        // What came after the leaving is not this user's.
        head = left_seq;
        if let Some(leaving) = leaving {
            ordinal = leaving.ordinal;
            if let Some(summary) = &mut summary {
                summary.activity = leaving.time;
            }
        }
    }
    if let Some(summary) = &mut summary {
        summary.head = head;
        summary.ordinal = ordinal;
        summary.preview = summary.preview.take().filter(|last| (row.joined_seq..=head).contains(&last.seq));
    }
    let head = Head {
        chat: row.chat,
        head,
        ordinal,
        first_seq,
        joined_seq: row.joined_seq,
        left_seq: row.left_seq,
        watermark,
    };
    (head, summary)
}
