//! `blocks`: user ▸ whom the user blocks.

use domain::UserId;

use super::super::{
    batch::Batch,
    codec::{Fields, value},
    read::View,
    tables::Table,
};
use crate::Error;

const TABLE: Table = Table::Blocks;

fn key_of(user: UserId, other: UserId) -> [u8; 32] {
    let mut key = [0; 32];
    key[..16].copy_from_slice(user.as_bytes());
    key[16..].copy_from_slice(other.as_bytes());
    key
}

fn decode(key: &[u8], bytes: &[u8]) -> Result<UserId, Error> {
    Fields::of(TABLE.name(), bytes)?.end(())?;
    key.get(16..)
        .and_then(|other| UserId::try_from(other).ok())
        .ok_or_else(|| Error::corrupt(TABLE.name(), "its key has another length"))
}

impl Batch<'_> {
    pub(super) fn set_block(&mut self, user: UserId, other: UserId, is_blocked: bool) -> Result<(), Error> {
        let key = key_of(user, other);
        if self.newest(TABLE, &key)?.is_some() == is_blocked {
            return Ok(());
        }
        if is_blocked {
            self.stage(TABLE, &key, value(0));
        } else {
            self.remove(TABLE, &key);
        }
        self.sync = true;
        Ok(())
    }
}

impl View<'_> {
    pub(super) fn is_blocked(&self, user: UserId, other: UserId) -> Result<bool, Error> {
        let key = key_of(user, other);
        Ok(self.get(TABLE, &key)?.map(|value| decode(&key, &value)).transpose()?.is_some())
    }

    pub(super) fn blocks_of(&self, user: UserId, after: Option<UserId>, limit: usize) -> Result<Vec<UserId>, Error> {
        let after = after.map(|after| key_of(user, after));
        self.page(TABLE, user.as_bytes(), after.as_ref().map(|key| &key[..]))
            .take(limit)
            .map(|row| {
                let (key, value) = row?;
                decode(&key, &value)
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_are_these() {
        let (user, other) = (UserId::new([7; 16]), UserId::new([8; 16]));
        let key = key_of(user, other);
        assert_eq!(key[..], [[7; 16], [8; 16]].concat());
        assert_eq!(decode(&key, &value(0)).unwrap(), other);
        assert_eq!(value(0), [1]);
        assert!(decode(&key[..31], &value(0)).is_err());
        assert!(decode(&key, &[]).is_err());
        assert!(decode(&key, &[1, 0]).is_err());
    }
}
