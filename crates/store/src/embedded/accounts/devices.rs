//! `devices`: user ▸ device.

use bytes::BufMut;
use domain::{Micros, UserId};

use super::super::{
    batch::Batch,
    codec::{Fields, put_text, text_of, value},
    read::View,
    tables::Table,
};
use crate::{DEVICES_MAX, DeviceRow, Error};

const TABLE: Table = Table::Devices;

fn key_of(user: UserId, device: &str) -> Vec<u8> {
    [user.as_bytes(), device.as_bytes()].concat()
}

fn encode(row: &DeviceRow) -> Vec<u8> {
    let mut value = value(18 + row.name.len());
    value.put_u64(row.created_us);
    value.put_u64(row.seen_us);
    put_text(&mut value, &row.name);
    value
}

fn decode(user: UserId, key: &[u8], bytes: &[u8]) -> Result<DeviceRow, Error> {
    let device = key.get(16..).ok_or_else(|| Error::corrupt(TABLE.name(), "its key is too short"))?;
    let device = text_of(TABLE.name(), device)?;
    let mut fields = Fields::of(TABLE.name(), bytes)?;
    let row = DeviceRow { user, device, created_us: fields.number()?, seen_us: fields.number()?, name: fields.text()? };
    fields.end(row)
}

impl Batch<'_> {
    fn device(&self, user: UserId, key: &[u8]) -> Result<Option<DeviceRow>, Error> {
        self.newest(TABLE, key)?.map(|value| decode(user, key, &value)).transpose()
    }

    pub(super) fn see_device(&mut self, user: UserId, device: &str, now_us: Micros) -> Result<(), Error> {
        let key = key_of(user, device);
        let row = match self.device(user, &key)? {
            Some(row) if row.seen_us >= now_us => return Ok(()),
            Some(row) => DeviceRow { seen_us: now_us, ..row },
            None => {
                let prefix = user.as_bytes();
                if self.rows(TABLE, prefix, |key| key.starts_with(prefix), DEVICES_MAX)?.len() == DEVICES_MAX {
                    return Err(Error::Full { what: "devices", max: DEVICES_MAX });
                }
                let name = device.into();
                DeviceRow { user, device: device.into(), name, created_us: now_us, seen_us: now_us }
            }
        };
        self.stage(TABLE, &key, encode(&row));
        self.sync = true;
        Ok(())
    }

    pub(super) fn name_device(&mut self, user: UserId, device: &str, name: &str) -> Result<bool, Error> {
        let key = key_of(user, device);
        let Some(row) = self.device(user, &key)? else { return Ok(false) };
        if *row.name != *name {
            self.stage(TABLE, &key, encode(&DeviceRow { name: name.into(), ..row }));
            self.sync = true;
        }
        Ok(true)
    }

    pub(super) fn remove_device(&mut self, user: UserId, device: &str) -> Result<bool, Error> {
        let key = key_of(user, device);
        if self.newest(TABLE, &key)?.is_none() {
            return Ok(false);
        }
        self.remove(TABLE, &key);
        self.sync = true;
        Ok(true)
    }
}

impl View<'_> {
    pub(super) fn devices_of(&self, user: UserId) -> Result<Vec<DeviceRow>, Error> {
        self.page(TABLE, user.as_bytes(), None)
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

    fn row() -> DeviceRow {
        DeviceRow { user: UserId::new([7; 16]), device: "d1".into(), name: "Å".into(), created_us: 1, seen_us: 2 }
    }

    #[test]
    fn the_bytes_are_these() {
        let (key, bytes) = (key_of(row().user, "d1"), encode(&row()));
        assert_eq!(key, [&[7; 16][..], b"d1"].concat());
        assert_eq!(bytes, b"\x01\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x02\0\x02\xc3\x85");
        assert_eq!(decode(row().user, &key, &bytes).unwrap(), row());
    }

    #[test]
    fn damage_is_an_error() {
        let (key, bytes) = (key_of(row().user, "d1"), encode(&row()));
        for length in 0..bytes.len() {
            assert!(decode(row().user, &key, &bytes[..length]).is_err(), "{length} bytes");
        }
        assert!(decode(row().user, &key, &[&bytes[..], &[0]].concat()).is_err());
        assert!(decode(row().user, &[&key[..], &[0xff]].concat(), &bytes).is_err());
    }
}
