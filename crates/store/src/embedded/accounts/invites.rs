//! `invites`: hash; `invite_uses`: hash ▸ user; by chat, maker and end, `invites_by_chat`, `…_by_maker` and `…_by_time`.
//!
//! A use is counted in the commit that holds its row, so there are never more rows than the count says, nor fewer. In a
//! CQL table the count is a static column beside the uses, and needs no index by time: its rows go by a time to live.

use bytes::BufMut;
use domain::{ChatId, Micros, UserId};

use super::super::{
    batch::Batch,
    codec::{Fields, value},
    queue::Written,
    read::View,
    tables::Table,
};
use crate::{Error, INVITES_MAX, InviteRow, InviteUse};

const TABLE: Table = Table::Invites;
const USES: Table = Table::InviteUses;
const BY_CHAT: Table = Table::ChatInvites;
const BY_MAKER: Table = Table::MakerInvites;
const BY_TIME: Table = Table::InviteTimes;

fn use_key(hash: [u8; 32], user: UserId) -> [u8; 48] {
    let mut key = [0; 48];
    key[..32].copy_from_slice(&hash);
    key[32..].copy_from_slice(user.as_bytes());
    key
}

fn chat_key(chat: ChatId, hash: [u8; 32]) -> [u8; 48] {
    let mut key = [0; 48];
    key[..16].copy_from_slice(chat.as_bytes());
    key[16..].copy_from_slice(&hash);
    key
}

fn maker_key(maker: UserId, hash: [u8; 32]) -> [u8; 48] {
    let mut key = [0; 48];
    key[..16].copy_from_slice(maker.as_bytes());
    key[16..].copy_from_slice(&hash);
    key
}

fn time_key(expires_us: Micros, hash: [u8; 32]) -> [u8; 40] {
    let mut key = [0; 40];
    key[..8].copy_from_slice(&expires_us.to_be_bytes());
    key[8..].copy_from_slice(&hash);
    key
}

/// The hash that an index row's key ends with.
fn hash_of(table: Table, key: &[u8]) -> Result<[u8; 32], Error> {
    key.last_chunk().copied().ok_or_else(|| Error::corrupt(table.name(), "its key is too short"))
}

fn missing(index: Table) -> Error {
    Error::corrupt(index.name(), "it names an invite that is not there")
}

fn encode(row: &InviteRow) -> Vec<u8> {
    let mut value = value(56);
    value.put_slice(row.chat.as_bytes());
    value.put_slice(row.inviter.as_bytes());
    value.put_u64(row.created_us);
    value.put_u64(row.expires_us);
    value.put_u32(row.uses_max);
    value.put_u32(row.uses);
    value
}

fn decode(hash: [u8; 32], bytes: &[u8]) -> Result<InviteRow, Error> {
    let mut fields = Fields::of(TABLE.name(), bytes)?;
    let row = InviteRow {
        hash,
        chat: ChatId::new(fields.array()?),
        inviter: UserId::new(fields.array()?),
        created_us: fields.number()?,
        expires_us: fields.number()?,
        uses_max: fields.small()?,
        uses: fields.small()?,
    };
    fields.end(row)
}

fn encode_use(row: &InviteUse) -> Vec<u8> {
    let mut value = value(24);
    value.put_u64(row.origin);
    value.put_u64(row.basis);
    value.put_u64(row.at_us);
    value
}

fn decode_use(hash: [u8; 32], user: UserId, bytes: &[u8]) -> Result<InviteUse, Error> {
    let mut fields = Fields::of(USES.name(), bytes)?;
    let row = InviteUse { hash, user, origin: fields.number()?, basis: fields.number()?, at_us: fields.number()? };
    fields.end(row)
}

impl Batch<'_> {
    fn invite(&self, hash: [u8; 32]) -> Result<Option<InviteRow>, Error> {
        self.newest(TABLE, &hash)?.map(|value| decode(hash, &value)).transpose()
    }

    pub(super) fn put_invite(&mut self, row: &InviteRow) -> Result<bool, Error> {
        if self.invite(row.hash)?.is_some() {
            return Ok(false);
        }
        let prefix = row.chat.as_bytes();
        if self.rows(BY_CHAT, prefix, |key| key.starts_with(prefix), INVITES_MAX)?.len() >= INVITES_MAX {
            return Err(Error::Full { what: "invites", max: INVITES_MAX });
        }
        self.stage(TABLE, &row.hash, encode(row));
        self.stage(BY_CHAT, &chat_key(row.chat, row.hash), value(0));
        self.stage(BY_MAKER, &maker_key(row.inviter, row.hash), value(0));
        self.stage(BY_TIME, &time_key(row.expires_us, row.hash), value(0));
        self.sync = true;
        Ok(true)
    }

    /// The use of this user, counted once; none: the invite lets nobody in any more.
    pub(super) fn use_invite(&mut self, proposed: &InviteUse) -> Result<Option<InviteUse>, Error> {
        let InviteUse { hash, user, at_us, .. } = *proposed;
        let Some(invite) = self.invite(hash)? else { return Ok(None) };
        let key = use_key(hash, user);
        if let Some(stored) = self.newest(USES, &key)? {
            return decode_use(hash, user, &stored).map(Some);
        }
        if !invite.is_open_at(at_us) {
            return Ok(None);
        }
        self.stage(USES, &key, encode_use(proposed));
        self.stage(TABLE, &hash, encode(&InviteRow { uses: invite.uses + 1, ..invite }));
        self.sync = true;
        Ok(Some(*proposed))
    }

    /// The uses first, so that what one commit has no room for is still found from the invite by the next.
    pub(super) fn remove_invite(&mut self, hash: [u8; 32]) -> Result<Written, Error> {
        let Some(invite) = self.invite(hash)? else { return Ok(Written::Flag(false)) };
        let uses = self.rows(USES, &hash, |key| key.starts_with(&hash), self.removals_left)?;
        for key in uses.keys() {
            self.remove(USES, key);
        }
        self.removals_left -= uses.len();
        self.sync = true;
        if self.removals_left == 0 {
            return Ok(Written::Part);
        }
        self.remove(TABLE, &hash);
        self.remove(BY_CHAT, &chat_key(invite.chat, hash));
        self.remove(BY_MAKER, &maker_key(invite.inviter, hash));
        self.remove(BY_TIME, &time_key(invite.expires_us, hash));
        Ok(Written::Flag(true))
    }

    /// Takes out what the user made, as far as one commit has room; whether nothing is left.
    pub(super) fn remove_invites_by(&mut self, maker: UserId) -> Result<bool, Error> {
        let prefix = maker.as_bytes();
        while self.removals_left > 0 {
            let made = self.rows(BY_MAKER, prefix, |key| key.starts_with(prefix), 1)?;
            let Some(key) = made.keys().next() else { return Ok(true) };
            let hash = hash_of(BY_MAKER, key)?;
            let removed = self.remove_invite(hash)?;
            if matches!(removed, Written::Part) {
                return Ok(false);
            }
            if !matches!(removed, Written::Flag(true)) {
                return Err(missing(BY_MAKER));
            }
            self.removals_left -= 1;
        }
        Ok(false)
    }
}

impl View<'_> {
    pub(super) fn invite(&self, hash: [u8; 32]) -> Result<Option<InviteRow>, Error> {
        self.get(TABLE, &hash)?.map(|value| decode(hash, &value)).transpose()
    }

    pub(super) fn invite_use(&self, hash: [u8; 32], user: UserId) -> Result<Option<InviteUse>, Error> {
        let value = self.get(USES, &use_key(hash, user))?;
        value.map(|value| decode_use(hash, user, &value)).transpose()
    }

    pub(super) fn invites_of(&self, chat: ChatId) -> Result<Vec<InviteRow>, Error> {
        self.page(BY_CHAT, chat.as_bytes(), None)
            .map(|row| {
                let hash = hash_of(BY_CHAT, &row?.0)?;
                self.invite(hash)?.ok_or_else(|| missing(BY_CHAT))
            })
            .collect()
    }

    pub(super) fn invites_by(
        &self,
        maker: UserId,
        after: Option<[u8; 32]>,
        limit: usize,
    ) -> Result<Vec<InviteRow>, Error> {
        let after = after.map(|hash| maker_key(maker, hash));
        self.page(BY_MAKER, maker.as_bytes(), after.as_ref().map(|key| &key[..]))
            .take(limit)
            .map(|row| {
                let hash = hash_of(BY_MAKER, &row?.0)?;
                self.invite(hash)?.ok_or_else(|| missing(BY_MAKER))
            })
            .collect()
    }

    pub(super) fn invites_ended_before(&self, before_us: Micros, limit: usize) -> Result<Vec<[u8; 32]>, Error> {
        let keys = self.keys_below(BY_TIME, &before_us.to_be_bytes(), limit)?;
        keys.iter().map(|key| hash_of(BY_TIME, key)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> InviteRow {
        InviteRow {
            hash: [6; 32],
            chat: ChatId::new([8; 16]),
            inviter: UserId::new([7; 16]),
            created_us: 1,
            expires_us: 2,
            uses_max: 3,
            uses: 4,
        }
    }

    fn used() -> InviteUse {
        InviteUse { hash: [6; 32], user: UserId::new([7; 16]), origin: 1, basis: 2, at_us: 3 }
    }

    #[test]
    fn the_bytes_are_these() {
        let bytes = encode(&row());
        let numbers = b"\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x02\0\0\0\x03\0\0\0\x04";
        assert_eq!(bytes, [&[1][..], &[8; 16], &[7; 16], numbers].concat());
        assert_eq!(decode(row().hash, &bytes).unwrap(), row());
        let bytes = encode_use(&used());
        assert_eq!(bytes, b"\x01\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\x03");
        assert_eq!(decode_use(used().hash, used().user, &bytes).unwrap(), used());
        assert_eq!(use_key([6; 32], used().user)[..], [&[6; 32][..], &[7; 16]].concat());
        assert_eq!(chat_key(row().chat, [6; 32])[..], [&[8; 16][..], &[6; 32]].concat());
        assert_eq!(maker_key(row().inviter, [6; 32])[..], [&[7; 16][..], &[6; 32]].concat());
        assert_eq!(time_key(2, [6; 32])[..], [&b"\0\0\0\0\0\0\0\x02"[..], &[6; 32]].concat());
    }

    #[test]
    fn damage_is_an_error() {
        let (invite, used_bytes) = (encode(&row()), encode_use(&used()));
        for length in 0..invite.len() {
            assert!(decode(row().hash, &invite[..length]).is_err(), "{length} bytes");
        }
        for length in 0..used_bytes.len() {
            assert!(decode_use(used().hash, used().user, &used_bytes[..length]).is_err(), "{length} bytes");
        }
        assert!(decode(row().hash, &[&invite[..], &[0]].concat()).is_err());
        assert!(decode_use(used().hash, used().user, &[&used_bytes[..], &[0]].concat()).is_err());
        assert!(hash_of(BY_TIME, &[0; 31]).is_err());
    }
}
