//! Values of the embedded engine: a version byte, then fixed fields, big endian.
//!
//! Log rows have none of this: their value is the entry's own bytes, which carry their schema version.

use bytes::{Buf, BufMut, Bytes};
use domain::{ChatId, CommandPosition, Epoch, EventPosition, PartitionPosition, Seq, UserId, Watermark, WriterId};

use super::keys;
use crate::{
    Checkpoint, Error, MemberRow, NameRow, Preview, ReactionRow, SummaryRow, UserChatRow,
    codes::{kind_code, kind_of, role_code, role_of},
};

/// Version byte of the values that still are as they were at first.
const VERSION: u8 = 1;
/// Version byte of stays whose role was changed: the entry that did it follows. One that was not is as it was at first.
const CHANGED_STAY_VERSION: u8 = 2;
/// Version byte of summaries: the ones before it had the last message's first bytes, and nothing else of it.
const SUMMARY_VERSION: u8 = 2;

/// Reads the fields of one value; any lack or surplus is an error that names the table.
pub(super) struct Fields<'a> {
    table: &'static str,
    bytes: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(super) fn of(table: &'static str, bytes: &'a [u8]) -> Result<Self, Error> {
        Self::up_to(VERSION, table, bytes).map(|(_, fields)| fields)
    }

    /// The value's version, which is at most `newest`, and its fields.
    pub(super) fn up_to(newest: u8, table: &'static str, bytes: &'a [u8]) -> Result<(u8, Self), Error> {
        let mut fields = Self { table, bytes };
        match fields.byte()? {
            version if (VERSION..=newest).contains(&version) => Ok((version, fields)),
            other => Err(Error::corrupt(table, format!("version {other} is not known"))),
        }
    }

    fn short(&self) -> Error {
        Error::corrupt(self.table, "it is too short")
    }

    pub(super) fn byte(&mut self) -> Result<u8, Error> {
        self.bytes.try_get_u8().map_err(|_short| self.short())
    }

    pub(super) fn small(&mut self) -> Result<u32, Error> {
        self.bytes.try_get_u32().map_err(|_short| self.short())
    }

    pub(super) fn number(&mut self) -> Result<u64, Error> {
        self.bytes.try_get_u64().map_err(|_short| self.short())
    }

    fn option(&mut self) -> Result<Option<u64>, Error> {
        let there = self.byte()?;
        let number = self.number()?;
        Ok((there != 0).then_some(number))
    }

    fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.bytes)
    }

    pub(super) fn flag(&mut self) -> Result<bool, Error> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(Error::corrupt(self.table, format!("{other} is neither yes nor no"))),
        }
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let mut array = [0; N];
        self.bytes.try_copy_to_slice(&mut array).map_err(|_short| self.short())?;
        Ok(array)
    }

    pub(super) fn text(&mut self) -> Result<Box<str>, Error> {
        let length = usize::from(self.bytes.try_get_u16().map_err(|_short| self.short())?);
        let (text, rest) = self.bytes.split_at_checked(length).ok_or_else(|| self.short())?;
        self.bytes = rest;
        text_of(self.table, text)
    }

    pub(super) fn end<T>(self, value: T) -> Result<T, Error> {
        if self.bytes.is_empty() { Ok(value) } else { Err(Error::corrupt(self.table, "it is too long")) }
    }
}

pub(super) fn value(capacity: usize) -> Vec<u8> {
    value_of(VERSION, capacity)
}

pub(super) fn value_of(version: u8, capacity: usize) -> Vec<u8> {
    let mut value = Vec::with_capacity(1 + capacity);
    value.put_u8(version);
    value
}

/// Text of a key or a value.
pub(super) fn text_of(table: &'static str, bytes: &[u8]) -> Result<Box<str>, Error> {
    str::from_utf8(bytes).map(Into::into).map_err(|error| Error::corrupt(table, error.to_string()))
}

/// A text after its length in two bytes; the caller has checked it against a bound far below 64 KiB.
pub(super) fn put_text(value: &mut Vec<u8>, text: &str) {
    debug_assert!(u16::try_from(text.len()).is_ok(), "a text of {} bytes", text.len());
    value.put_u16(u16::try_from(text.len()).unwrap_or(u16::MAX));
    value.put_slice(text.as_bytes());
}

fn put_option(value: &mut Vec<u8>, number: Option<u64>) {
    value.put_u8(number.is_some().into());
    value.put_u64(number.unwrap_or_default());
}

/// A stay, and the entry that gave its role.
pub(super) fn put_member(row: &MemberRow, role_seq: Seq) -> Vec<u8> {
    let is_changed = role_seq != row.joined_seq;
    let mut value = value_of(if is_changed { CHANGED_STAY_VERSION } else { VERSION }, 18);
    value.put_u8(role_code(row.role));
    put_option(&mut value, row.left_seq);
    if is_changed {
        value.put_u64(role_seq);
    }
    value
}

/// A stay, and the entry that gave its role.
pub(super) fn member(chat: ChatId, user: UserId, joined_seq: Seq, bytes: &[u8]) -> Result<(MemberRow, Seq), Error> {
    const TABLE: &str = "chat_members";
    let (version, mut fields) = Fields::up_to(CHANGED_STAY_VERSION, TABLE, bytes)?;
    let role = role_of(TABLE, fields.byte()?)?;
    let left_seq = fields.option()?;
    let role_seq = if version == CHANGED_STAY_VERSION { fields.number()? } else { joined_seq };
    fields.end((MemberRow { chat, user, joined_seq, role, left_seq }, role_seq))
}

pub(super) fn put_name(row: &NameRow) -> Vec<u8> {
    let mut value = value(8 + row.name.len());
    value.put_u64(row.seq);
    value.put_slice(row.name.as_bytes());
    value
}

pub(super) fn name(chat: ChatId, bytes: &[u8]) -> Result<NameRow, Error> {
    const TABLE: &str = "chat_names";
    let mut fields = Fields::of(TABLE, bytes)?;
    let seq = fields.number()?;
    Ok(NameRow { chat, seq, name: text_of(TABLE, fields.rest())? })
}

/// A fact's seq and bytes, under a key that says its kind.
pub(super) fn put_fact(seq: Seq, bytes: &[u8]) -> Vec<u8> {
    let mut value = value(8 + bytes.len());
    value.put_u64(seq);
    value.put_slice(bytes);
    value
}

pub(super) fn fact(bytes: &[u8]) -> Result<(Seq, &[u8]), Error> {
    let mut fields = Fields::of("chat_facts", bytes)?;
    Ok((fields.number()?, fields.rest()))
}

pub(super) fn put_reaction(row: &ReactionRow) -> Vec<u8> {
    let mut value = value(8 + row.reaction.len());
    value.put_u64(row.by);
    value.put_slice(row.reaction.as_bytes());
    value
}

pub(super) fn reaction(chat: ChatId, (seq, user): (Seq, UserId), bytes: &[u8]) -> Result<ReactionRow, Error> {
    const TABLE: &str = "reactions";
    let mut fields = Fields::of(TABLE, bytes)?;
    let by = fields.number()?;
    Ok(ReactionRow { chat, seq, user, reaction: text_of(TABLE, fields.rest())?, by })
}

pub(super) fn put_user_chat(row: &UserChatRow) -> Vec<u8> {
    let mut value = value(17);
    value.put_u64(row.joined_seq);
    put_option(&mut value, row.left_seq);
    value
}

pub(super) fn user_chat(user: UserId, chat: ChatId, bytes: &[u8]) -> Result<UserChatRow, Error> {
    let mut fields = Fields::of("chats_by_user", bytes)?;
    let joined_seq = fields.number()?;
    let left_seq = fields.option()?;
    fields.end(UserChatRow { user, chat, joined_seq, left_seq })
}

pub(super) fn put_summary(row: &SummaryRow) -> Vec<u8> {
    let mut value = value_of(SUMMARY_VERSION, 70 + row.preview.as_ref().map_or(0, |preview| preview.body.len()));
    value.put_u8(kind_code(row.kind));
    value.put_u64(row.head);
    value.put_u64(row.ordinal);
    value.put_u64(row.first_seq);
    value.put_u64(row.activity);
    value.put_u8(row.preview.is_some().into());
    if let Some(preview) = &row.preview {
        value.put_u64(preview.seq);
        value.put_slice(preview.sender.as_bytes());
        value.put_u64(preview.time);
        let (length, body) = preview.put();
        value.put_u32(length);
        value.put_slice(body);
    }
    value
}

pub(super) fn summary(chat: ChatId, bytes: &[u8]) -> Result<SummaryRow, Error> {
    const TABLE: &str = "chat_summaries";
    let (version, mut fields) = Fields::up_to(SUMMARY_VERSION, TABLE, bytes)?;
    let kind = kind_of(TABLE, fields.byte()?)?;
    let mut row = SummaryRow {
        chat,
        head: fields.number()?,
        ordinal: fields.number()?,
        first_seq: fields.number()?,
        activity: fields.number()?,
        preview: None,
        kind,
    };
    if version < SUMMARY_VERSION {
        // Bytes that nobody is named for: none is shown until the next message.
        return Ok(row);
    }
    if !fields.flag()? {
        return fields.end(row);
    }
    let (seq, sender, time) = (fields.number()?, UserId::new(fields.array()?), fields.number()?);
    let length = fields.small()?;
    row.preview = Some(Preview::of(seq, sender, time, length, Bytes::copy_from_slice(fields.rest())));
    Ok(row)
}

pub(super) fn put_watermark(watermark: &Watermark) -> Vec<u8> {
    let mut value = value(24);
    value.put_u64(watermark.delivered);
    value.put_u64(watermark.seen);
    value.put_u64(watermark.seen_ordinal);
    value
}

pub(super) fn watermark(bytes: &[u8]) -> Result<Watermark, Error> {
    let mut fields = Fields::of("watermarks", bytes)?;
    let watermark = Watermark { delivered: fields.number()?, seen: fields.number()?, seen_ordinal: fields.number()? };
    fields.end(watermark)
}

pub(super) fn put_checkpoint(checkpoint: &Checkpoint) -> Vec<u8> {
    let mut value = value(24);
    value.put_u64(checkpoint.epoch.0);
    value.put_u64(checkpoint.events);
    value.put_u64(checkpoint.statuses);
    value
}

pub(super) fn checkpoint(bytes: &[u8]) -> Result<Checkpoint, Error> {
    let mut fields = Fields::of("checkpoints", bytes)?;
    let checkpoint =
        Checkpoint { epoch: Epoch(fields.number()?), events: fields.number()?, statuses: fields.number()? };
    fields.end(checkpoint)
}

pub(super) fn put_position(position: &PartitionPosition) -> Vec<u8> {
    let mut value = value(56 + position.commands.message_id.len());
    value.put_u64(position.epoch.0);
    value.put_u64(position.events.sequence);
    value.put_u64(position.events.writer.0);
    value.put_u64(position.events.batch);
    value.put_u64(position.commands.sequence);
    value.put_u64(position.commands.count.into());
    value.put_i64(position.commands.time_ns);
    value.put_slice(position.commands.message_id.as_bytes());
    value
}

pub(super) fn position(bytes: &[u8]) -> Result<PartitionPosition, Error> {
    const TABLE: &str = "partitions";
    let mut fields = Fields::of(TABLE, bytes)?;
    let epoch = Epoch(fields.number()?);
    let events =
        EventPosition { sequence: fields.number()?, writer: WriterId(fields.number()?), batch: fields.number()? };
    let sequence = fields.number()?;
    let count = u32::try_from(fields.number()?).map_err(|error| Error::corrupt(TABLE, error.to_string()))?;
    let time_ns = fields.number()?.cast_signed();
    let message_id =
        String::from_utf8(fields.rest().to_vec()).map_err(|error| Error::corrupt(TABLE, error.to_string()))?;
    Ok(PartitionPosition { epoch, events, commands: CommandPosition { sequence, count, time_ns, message_id } })
}

/// What of a snapshot row is asked without reading its state: columns of their own in CQL.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct SnapshotColumns {
    pub(super) head: Seq,
    pub(super) first_seq: Seq,
}

pub(super) fn put_snapshot(columns: SnapshotColumns, state: &[u8]) -> Vec<u8> {
    let mut value = value(16 + state.len());
    value.put_u64(columns.head);
    value.put_u64(columns.first_seq);
    value.put_slice(state);
    value
}

pub(super) fn snapshot(bytes: &[u8]) -> Result<(SnapshotColumns, &[u8]), Error> {
    let mut fields = Fields::of("chat_snapshots", bytes)?;
    let columns = SnapshotColumns { head: fields.number()?, first_seq: fields.number()? };
    Ok((columns, fields.rest()))
}

pub(super) fn direct(bytes: &[u8]) -> Result<ChatId, Error> {
    ChatId::try_from(bytes).map_err(|error| Error::corrupt("direct_chats", error.to_string()))
}

/// A row of `chat_members` from its whole pair.
pub(super) fn member_of(chat: ChatId, key: &[u8], bytes: &[u8]) -> Result<MemberRow, Error> {
    let (user, joined_seq) =
        keys::member_parts(key).ok_or_else(|| Error::corrupt("chat_members", "its key has another length"))?;
    member(chat, user, joined_seq, bytes).map(|(row, _)| row)
}

#[cfg(test)]
mod tests {
    use domain::{ChatKind, Partition, Role};

    use super::*;

    #[test]
    fn every_value_comes_back() {
        let chat = ChatId::draw(Partition(3), 1, 1);
        let user = UserId::new([7; 16]);
        for left_seq in [None, Some(0), Some(9)] {
            let row = MemberRow { chat, user, joined_seq: 4, role: Role::Admin, left_seq };
            for role_seq in [4, 7] {
                assert_eq!(member(chat, user, 4, &put_member(&row, role_seq)).unwrap(), (row, role_seq));
            }
            assert_eq!(put_member(&row, 4)[0], VERSION, "as before there were changes");
            let row = UserChatRow { user, chat, joined_seq: 4, left_seq };
            assert_eq!(user_chat(user, chat, &put_user_chat(&row)).unwrap(), row);
        }
        let preview = |length, body| Preview::of(8, user, 76, length, Bytes::from_static(body));
        let deleted = Preview { deleted: true, ..preview(0, b"") };
        for preview in [Some(preview(300, b"hi")), Some(preview(0, b"")), Some(preview(1, &[0])), Some(deleted), None] {
            let row =
                SummaryRow { chat, head: 9, ordinal: 5, first_seq: 1, preview, activity: 77, kind: ChatKind::Channel };
            assert_eq!(summary(chat, &put_summary(&row)).unwrap(), row);
        }
        for text in ["", "the café"] {
            let row = NameRow { chat, seq: 6, name: text.into() };
            assert_eq!(name(chat, &put_name(&row)).unwrap(), row);
        }
        let row = PartitionPosition {
            epoch: Epoch(3),
            commands: CommandPosition { sequence: 9, count: 2, time_ns: -5, message_id: "a-1".into() },
            events: EventPosition { sequence: 4, writer: WriterId(8), batch: 6 },
        };
        assert_eq!(position(&put_position(&row)).unwrap(), row);
        let row = Checkpoint { epoch: Epoch(3), events: 4, statuses: 5 };
        assert_eq!(checkpoint(&put_checkpoint(&row)).unwrap(), row);
        let columns = SnapshotColumns { head: 8, first_seq: 2 };
        assert_eq!(snapshot(&put_snapshot(columns, b"state")).unwrap(), (columns, &b"state"[..]));
    }

    #[test]
    fn a_summary_of_before_previews_had_a_sender_has_none() {
        let chat = ChatId::draw(Partition(3), 1, 1);
        let numbers = [9u64, 5, 1, 77].map(u64::to_be_bytes).concat();
        let row = summary(chat, &[&[1, 2][..], &numbers, b"hi"].concat()).unwrap();
        assert_eq!((row.head, row.ordinal, row.first_seq, row.activity, row.preview), (9, 5, 1, 77, None));
        assert!(summary(chat, &[&[SUMMARY_VERSION + 1, 2][..], &numbers, &[0]].concat()).is_err());
        assert!(summary(chat, &[&[SUMMARY_VERSION, 2][..], &numbers, &[0, 0]].concat()).is_err());
    }

    #[test]
    fn a_short_long_or_newer_value_is_refused() {
        let whole = put_watermark(&Watermark { delivered: 3, seen: 2, seen_ordinal: 1 });
        assert!(watermark(&whole).is_ok());
        assert!(watermark(&whole[..whole.len() - 1]).is_err());
        assert!(watermark(&[&whole[..], &[0]].concat()).is_err());
        assert!(watermark(&[&[VERSION + 1], &whole[1..]].concat()).is_err());
        assert!(watermark(&[]).is_err());
    }
}
