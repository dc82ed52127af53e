//! `refresh_families`: family; `refresh_families_by_user`: user ▸ family; and `refresh_families_by_time`: end ▸ family, by
//! which those that nobody uses any more are swept.
//!
//! A CQL table needs no index by time: its rows go by a time to live.

use bytes::BufMut;
use domain::{Micros, UserId};
use fjall::Slice;

use super::{
    super::{
        batch::Batch,
        codec::{Fields, put_text, value},
        read::View,
        tables::Table,
    },
    next_version,
};
use crate::{Error, REFRESH_FAMILIES_MAX, RefreshFamily, SPENT_MAX, Spent};

const TABLE: Table = Table::Families;
const INDEX: Table = Table::UserFamilies;
const TIMES: Table = Table::FamilyTimes;

fn index_key(user: UserId, family: [u8; 16]) -> [u8; 32] {
    let mut key = [0; 32];
    key[..16].copy_from_slice(user.as_bytes());
    key[16..].copy_from_slice(&family);
    key
}

fn time_key(expires_us: Micros, family: [u8; 16]) -> [u8; 24] {
    let mut key = [0; 24];
    key[..8].copy_from_slice(&expires_us.to_be_bytes());
    key[8..].copy_from_slice(&family);
    key
}

/// The family of an index row.
fn indexed(key: &[u8], bytes: &[u8]) -> Result<[u8; 16], Error> {
    Fields::of(INDEX.name(), bytes)?.end(())?;
    key.get(16..)
        .and_then(|family| family.try_into().ok())
        .ok_or_else(|| Error::corrupt(INDEX.name(), "its key has another length"))
}

fn encode(row: &RefreshFamily, version: u64) -> Vec<u8> {
    let mut value = value(76 + row.device.len() + row.spent.len() * 40);
    value.put_u64(version);
    value.put_slice(row.user.as_bytes());
    put_text(&mut value, &row.device);
    value.put_u64(row.created_us);
    value.put_u64(row.expires_us);
    value.put_slice(&row.live);
    value.put_u16(u16::try_from(row.spent.len()).unwrap_or(u16::MAX));
    for spent in &row.spent {
        value.put_slice(&spent.hash);
        value.put_u64(spent.at_us);
    }
    value
}

fn decode(family: [u8; 16], bytes: &[u8]) -> Result<RefreshFamily, Error> {
    let mut fields = Fields::of(TABLE.name(), bytes)?;
    let mut row = RefreshFamily {
        family,
        version: fields.number()?,
        user: UserId::new(fields.array()?),
        device: fields.text()?,
        created_us: fields.number()?,
        expires_us: fields.number()?,
        live: fields.array()?,
        spent: Vec::new(),
    };
    let spent = usize::from(u16::from_be_bytes(fields.array()?));
    if spent > SPENT_MAX {
        return Err(Error::corrupt(TABLE.name(), format!("it has {spent} spent tokens")));
    }
    for _ in 0..spent {
        row.spent.push(Spent { hash: fields.array()?, at_us: fields.number()? });
    }
    fields.end(row)
}

impl Batch<'_> {
    fn family(&self, family: [u8; 16]) -> Result<Option<RefreshFamily>, Error> {
        self.newest(TABLE, &family)?.map(|value| decode(family, &value)).transpose()
    }

    /// At most `limit` index rows of a user.
    pub(super) fn family_index(
        &self,
        user: UserId,
        limit: usize,
    ) -> Result<impl Iterator<Item = Result<[u8; 16], Error>> + use<>, Error> {
        let prefix = user.as_bytes();
        let rows = self.rows(INDEX, prefix, |key| key.starts_with(prefix), limit)?;
        Ok(rows.into_iter().map(|(key, value): (Slice, Slice)| indexed(&key, &value)))
    }

    pub(super) fn put_family(&mut self, row: &RefreshFamily, expected: u64) -> Result<bool, Error> {
        let stored = self.family(row.family)?;
        let version = next_version(stored.as_ref().map(|stored| stored.version), expected);
        let Some(version) = version else { return Ok(false) };
        match stored {
            // Whose sign-in it was does not change, and another one's family is nobody's to write.
            Some(stored) if stored.user != row.user => return Ok(false),
            Some(stored) => self.remove(TIMES, &time_key(stored.expires_us, row.family)),
            None => {
                if self.family_index(row.user, REFRESH_FAMILIES_MAX)?.count() == REFRESH_FAMILIES_MAX {
                    return Err(Error::Full { what: "refresh families", max: REFRESH_FAMILIES_MAX });
                }
                self.stage(INDEX, &index_key(row.user, row.family), value(0));
            }
        }
        self.stage(TABLE, &row.family, encode(row, version));
        self.stage(TIMES, &time_key(row.expires_us, row.family), value(0));
        self.sync = true;
        Ok(true)
    }

    pub(super) fn remove_family(&mut self, family: [u8; 16]) -> Result<Option<RefreshFamily>, Error> {
        let Some(stored) = self.family(family)? else { return Ok(None) };
        self.remove_rows(&stored);
        self.sync = true;
        Ok(Some(stored))
    }

    /// Takes out a family that a user's index names.
    pub(super) fn take_family_out(&mut self, user: UserId, family: [u8; 16]) -> Result<(), Error> {
        match self.family(family)? {
            Some(stored) => self.remove_rows(&stored),
            None => self.remove(INDEX, &index_key(user, family)),
        }
        Ok(())
    }

    /// Row and index rows.
    fn remove_rows(&mut self, stored: &RefreshFamily) {
        self.remove(TABLE, &stored.family);
        self.remove(INDEX, &index_key(stored.user, stored.family));
        self.remove(TIMES, &time_key(stored.expires_us, stored.family));
    }

    /// Takes out the families of these rows by time, as far as they still end then; how many did.
    ///
    /// Not synced: what a power cut brings back has ended still, and is swept again.
    pub(super) fn forget_families(&mut self, old: &[Slice]) -> Result<usize, Error> {
        let mut forgotten = 0;
        for time_key in old {
            // One that was used or ended since it was looked for has another row here, or none.
            if self.newest(TIMES, time_key)?.is_none() {
                continue;
            }
            let family = time_key.get(8..).and_then(|family| family.try_into().ok());
            let family = family.ok_or_else(|| Error::corrupt(TIMES.name(), "its key has another length"))?;
            match self.family(family)? {
                Some(stored) => self.remove_rows(&stored),
                None => self.remove(TIMES, time_key),
            }
            forgotten += 1;
        }
        Ok(forgotten)
    }
}

impl View<'_> {
    pub(super) fn family(&self, family: [u8; 16]) -> Result<Option<RefreshFamily>, Error> {
        self.get(TABLE, &family)?.map(|value| decode(family, &value)).transpose()
    }

    /// Rows by time of families that ended before, the first to end first.
    pub(super) fn families_before(&self, before_us: Micros, limit: usize) -> Result<Vec<Slice>, Error> {
        self.keys_below(TIMES, &before_us.to_be_bytes(), limit)
    }

    pub(super) fn families_of(&self, user: UserId) -> Result<Vec<RefreshFamily>, Error> {
        // Not cut to the bound: who ends all of them must get all of them.
        self.page(INDEX, user.as_bytes(), None)
            .map(|row| {
                let (key, value) = row?;
                let family = self.family(indexed(&key, &value)?)?;
                family.filter(|family| family.user == user).ok_or_else(|| {
                    Error::corrupt(INDEX.name(), format!("a row of user {user} names a family that is not there"))
                })
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> RefreshFamily {
        RefreshFamily {
            family: [6; 16],
            user: UserId::new([7; 16]),
            device: "d1".into(),
            live: [8; 32],
            spent: vec![Spent { hash: [9; 32], at_us: 5 }],
            created_us: 3,
            expires_us: 4,
            version: 2,
        }
    }

    #[test]
    fn the_bytes_are_these() {
        let bytes = encode(&row(), 2);
        let expected = [
            &b"\x01\0\0\0\0\0\0\0\x02"[..],
            &[7; 16],
            b"\0\x02d1\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0\x04",
            &[8; 32],
            b"\0\x01",
            &[9; 32],
            b"\0\0\0\0\0\0\0\x05",
        ];
        assert_eq!(bytes, expected.concat());
        assert_eq!(decode([6; 16], &bytes).unwrap(), row());
        let key = index_key(row().user, row().family);
        assert_eq!(key[..], [[7; 16], [6; 16]].concat());
        assert_eq!(indexed(&key, &value(0)).unwrap(), row().family);
        assert_eq!(time_key(4, row().family)[..], [&b"\0\0\0\0\0\0\0\x04"[..], &[6; 16]].concat());
    }

    #[test]
    fn damage_is_an_error() {
        let bytes = encode(&row(), 2);
        for length in 0..bytes.len() {
            assert!(decode([6; 16], &bytes[..length]).is_err(), "{length} bytes");
        }
        assert!(decode([6; 16], &[&bytes[..], &[0]].concat()).is_err());
        let many = RefreshFamily { spent: vec![row().spent[0]; SPENT_MAX + 1], ..row() };
        assert!(decode([6; 16], &encode(&many, 2)).is_err());
        assert!(indexed(&[7; 31], &value(0)).is_err());
        assert!(indexed(&[7; 32], &[]).is_err());
    }
}
