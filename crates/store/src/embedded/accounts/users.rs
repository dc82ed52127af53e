//! `users`: user, and `leaving_users`: user, those whose accounts are being deleted.

use bytes::BufMut;
use domain::UserId;

use super::{
    super::{
        batch::Batch,
        codec::{Fields, put_text, value, value_of},
        read::View,
        tables::Table,
    },
    next_version,
};
use crate::{
    Error, UserRow, UserState,
    codes::{state_code, state_of},
};

const TABLE: Table = Table::Users;
const LEAVING: Table = Table::LeavingUsers;
/// Version byte of users: the ones before it do not say when they signed out everywhere.
const VERSION: u8 = 2;

fn encode(row: &UserRow, version: u64) -> Vec<u8> {
    let texts = [&row.handle, &row.display_name, &row.avatar, &row.password];
    let mut value = value_of(VERSION, 25 + texts.iter().map(|text| 2 + text.len()).sum::<usize>());
    value.put_u64(version);
    value.put_u8(state_code(row.state));
    value.put_u64(row.created_us);
    for text in texts {
        put_text(&mut value, text);
    }
    value.put_u64(row.signed_out_us);
    value
}

fn decode(user: UserId, bytes: &[u8]) -> Result<UserRow, Error> {
    let (format, mut fields) = Fields::up_to(VERSION, TABLE.name(), bytes)?;
    let version = fields.number()?;
    let state = state_of(TABLE.name(), fields.byte()?)?;
    let row = UserRow {
        user,
        version,
        state,
        created_us: fields.number()?,
        handle: fields.text()?,
        display_name: fields.text()?,
        avatar: fields.text()?,
        password: fields.text()?,
        signed_out_us: if format < VERSION { 0 } else { fields.number()? },
    };
    fields.end(row)
}

impl Batch<'_> {
    pub(super) fn put_user(&mut self, row: &UserRow, expected: u64) -> Result<bool, Error> {
        let key = row.user.as_bytes();
        let stored = self.newest(TABLE, key)?.map(|value| decode(row.user, &value)).transpose()?;
        let Some(version) = next_version(stored.map(|stored| stored.version), expected) else { return Ok(false) };
        self.stage(TABLE, key, encode(row, version));
        if row.state == UserState::Leaving {
            self.stage(LEAVING, key, value(0));
        } else if self.newest(LEAVING, key)?.is_some() {
            self.remove(LEAVING, key);
        }
        self.sync = true;
        Ok(true)
    }
}

impl View<'_> {
    pub(super) fn user(&self, user: UserId) -> Result<Option<UserRow>, Error> {
        self.get(TABLE, user.as_bytes())?.map(|value| decode(user, &value)).transpose()
    }

    pub(super) fn leaving_users(&self, limit: usize) -> Result<Vec<UserId>, Error> {
        let rows = self.page(LEAVING, &[], None).take(limit);
        rows.map(|row| {
            let (key, _) = row?;
            UserId::try_from(&key[..]).map_err(|_length| Error::corrupt(LEAVING.name(), "its key has another length"))
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> UserRow {
        UserRow {
            user: UserId::new([7; 16]),
            handle: "an".into(),
            display_name: "Ån".into(),
            avatar: "".into(),
            password: "$x".into(),
            created_us: 0x0102,
            state: UserState::Banned,
            signed_out_us: 0x0304,
            version: 3,
        }
    }

    #[test]
    fn the_bytes_are_these() {
        let bytes = encode(&row(), 3);
        let before = b"\0\0\0\0\0\0\0\x03\x02\0\0\0\0\0\0\x01\x02\0\x02an\0\x03\xc3\x85n\0\0\0\x02$x";
        assert_eq!(bytes, [&[2][..], before, b"\0\0\0\0\0\0\x03\x04"].concat());
        assert_eq!(decode(row().user, &bytes).unwrap(), row());
        // As it was written before it said when its user signed out.
        let old = [&[1][..], before].concat();
        assert_eq!(decode(row().user, &old).unwrap(), UserRow { signed_out_us: 0, ..row() });
        assert!(decode(row().user, &[&[3], &bytes[1..]].concat()).is_err());
    }

    #[test]
    fn damage_is_an_error() {
        let bytes = encode(&row(), 3);
        for length in 0..bytes.len() {
            assert!(decode(row().user, &bytes[..length]).is_err(), "{length} bytes");
        }
        assert!(decode(row().user, &[&bytes[..], &[0]].concat()).is_err());
        // Version, state, a byte of the display name's first character.
        for place in [0, 9, 24] {
            let mut bytes = bytes.clone();
            bytes[place] = 0xff;
            assert!(decode(row().user, &bytes).is_err(), "byte {place}");
        }
    }
}
