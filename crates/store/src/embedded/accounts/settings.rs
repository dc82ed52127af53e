//! `chat_settings`: user ▸ chat.

use bytes::BufMut;
use domain::{ChatId, UserId};

use super::{
    super::{
        batch::Batch,
        codec::{Fields, value},
        read::View,
        tables::Table,
    },
    next_version,
};
use crate::{ChatSetting, Error};

const TABLE: Table = Table::ChatSettings;

fn key_of(user: UserId, chat: ChatId) -> [u8; 32] {
    let mut key = [0; 32];
    key[..16].copy_from_slice(user.as_bytes());
    key[16..].copy_from_slice(chat.as_bytes());
    key
}

fn encode(row: &ChatSetting, version: u64) -> Vec<u8> {
    let mut value = value(18);
    value.put_u64(version);
    value.put_u64(row.muted_until_us);
    value.put_u8(row.pinned.into());
    value.put_u8(row.archived.into());
    value
}

fn decode(user: UserId, key: &[u8], bytes: &[u8]) -> Result<ChatSetting, Error> {
    let chat = key
        .get(16..)
        .and_then(|chat| ChatId::try_from(chat).ok())
        .ok_or_else(|| Error::corrupt(TABLE.name(), "its key has another length"))?;
    let mut fields = Fields::of(TABLE.name(), bytes)?;
    let row = ChatSetting {
        user,
        chat,
        version: fields.number()?,
        muted_until_us: fields.number()?,
        pinned: fields.flag()?,
        archived: fields.flag()?,
    };
    fields.end(row)
}

impl Batch<'_> {
    pub(super) fn put_chat_setting(&mut self, row: &ChatSetting, expected: u64) -> Result<bool, Error> {
        let key = key_of(row.user, row.chat);
        let stored = self.newest(TABLE, &key)?.map(|value| decode(row.user, &key, &value)).transpose()?;
        let Some(version) = next_version(stored.map(|stored| stored.version), expected) else { return Ok(false) };
        self.stage(TABLE, &key, encode(row, version));
        self.sync = true;
        Ok(true)
    }
}

impl View<'_> {
    pub(in super::super) fn chat_setting(&self, user: UserId, chat: ChatId) -> Result<Option<ChatSetting>, Error> {
        let key = key_of(user, chat);
        self.get(TABLE, &key)?.map(|value| decode(user, &key, &value)).transpose()
    }

    pub(super) fn chat_settings_of(
        &self,
        user: UserId,
        after: Option<ChatId>,
        limit: usize,
    ) -> Result<Vec<ChatSetting>, Error> {
        let after = after.map(|after| key_of(user, after));
        self.page(TABLE, user.as_bytes(), after.as_ref().map(|key| &key[..]))
            .take(limit)
            .map(|row| {
                let (key, value) = row?;
                decode(user, &key, &value)
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> ChatSetting {
        ChatSetting {
            user: UserId::new([7; 16]),
            chat: ChatId::new([8; 16]),
            muted_until_us: 5,
            pinned: true,
            archived: false,
            version: 2,
        }
    }

    #[test]
    fn the_bytes_are_these() {
        let (key, bytes) = (key_of(row().user, row().chat), encode(&row(), 2));
        assert_eq!(key[..], [[7; 16], [8; 16]].concat());
        assert_eq!(bytes, b"\x01\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\x05\x01\0");
        assert_eq!(decode(row().user, &key, &bytes).unwrap(), row());
    }

    #[test]
    fn damage_is_an_error() {
        let (key, mut bytes) = (key_of(row().user, row().chat), encode(&row(), 2));
        for length in 0..bytes.len() {
            assert!(decode(row().user, &key, &bytes[..length]).is_err(), "{length} bytes");
        }
        assert!(decode(row().user, &key[..31], &bytes).is_err());
        assert!(decode(row().user, &key, &[&bytes[..], &[0]].concat()).is_err());
        bytes[18] = 2;
        assert!(decode(row().user, &key, &bytes).is_err());
    }
}
