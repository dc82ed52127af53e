//! `tickets`: hash, and `tickets_by_time`: end ▸ hash, by which those that nobody took are swept.
//!
//! A CQL table needs no such index: its rows go by a time to live.

use bytes::BufMut;
use domain::{Micros, UserId};
use fjall::Slice;

use super::super::{
    batch::Batch,
    codec::{Fields, put_text, value},
    read::View,
    tables::Table,
};
use crate::{Error, TicketRow};

const TABLE: Table = Table::Tickets;
const INDEX: Table = Table::TicketTimes;

fn index_key(row: &TicketRow) -> [u8; 40] {
    let mut key = [0; 40];
    key[..8].copy_from_slice(&row.expires_us.to_be_bytes());
    key[8..].copy_from_slice(&row.hash);
    key
}

fn encode(row: &TicketRow) -> Vec<u8> {
    let mut value = value(44 + row.device.len() + row.sign_in.len());
    value.put_slice(row.user.as_bytes());
    value.put_u64(row.expires_us);
    value.put_u64(row.issued_s);
    value.put_u64(row.token_expires_s);
    put_text(&mut value, &row.device);
    put_text(&mut value, &row.sign_in);
    value
}

fn decode(hash: [u8; 32], bytes: &[u8]) -> Result<TicketRow, Error> {
    let mut fields = Fields::of(TABLE.name(), bytes)?;
    let row = TicketRow {
        hash,
        user: UserId::new(fields.array()?),
        expires_us: fields.number()?,
        issued_s: fields.number()?,
        token_expires_s: fields.number()?,
        device: fields.text()?,
        sign_in: fields.text()?,
    };
    fields.end(row)
}

impl Batch<'_> {
    fn ticket(&self, hash: [u8; 32]) -> Result<Option<TicketRow>, Error> {
        self.newest(TABLE, &hash)?.map(|value| decode(hash, &value)).transpose()
    }

    pub(super) fn put_ticket(&mut self, row: &TicketRow) -> Result<(), Error> {
        if let Some(stored) = self.ticket(row.hash)? {
            self.remove(INDEX, &index_key(&stored));
        }
        self.stage(TABLE, &row.hash, encode(row));
        self.stage(INDEX, &index_key(row), value(0));
        self.sync = true;
        Ok(())
    }

    pub(super) fn take_ticket(&mut self, hash: [u8; 32], now_us: Micros) -> Result<Option<TicketRow>, Error> {
        let Some(row) = self.ticket(hash)? else { return Ok(None) };
        self.remove(TABLE, &hash);
        self.remove(INDEX, &index_key(&row));
        self.sync = true;
        Ok((now_us < row.expires_us).then_some(row))
    }

    /// Takes out the tickets of these index rows, as far as they still stand; how many did.
    ///
    /// Not synced: what a power cut brings back is swept again.
    pub(super) fn forget_tickets(&mut self, old: &[Slice]) -> Result<usize, Error> {
        let mut forgotten = 0;
        for index_key in old {
            if self.newest(INDEX, index_key)?.is_none() {
                continue;
            }
            let hash = index_key.get(8..).ok_or_else(|| Error::corrupt(INDEX.name(), "its key is too short"))?;
            self.remove(TABLE, hash);
            self.remove(INDEX, index_key);
            forgotten += 1;
        }
        Ok(forgotten)
    }
}

impl View<'_> {
    pub(super) fn has_ticket(&self, hash: [u8; 32]) -> Result<bool, Error> {
        Ok(self.get(TABLE, &hash)?.is_some())
    }

    /// Index rows of tickets that ended before a time, the oldest first.
    pub(super) fn tickets_before(&self, before_us: Micros, limit: usize) -> Result<Vec<Slice>, Error> {
        self.keys_below(INDEX, &before_us.to_be_bytes(), limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> TicketRow {
        TicketRow {
            hash: [6; 32],
            user: UserId::new([7; 16]),
            device: "d1".into(),
            sign_in: "s".into(),
            issued_s: 3,
            token_expires_s: 4,
            expires_us: 5,
        }
    }

    #[test]
    fn the_bytes_are_these() {
        let bytes = encode(&row());
        let numbers = b"\0\0\0\0\0\0\0\x05\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0\x04";
        assert_eq!(bytes, [&[1][..], &[7; 16], numbers, b"\0\x02d1\0\x01s"].concat());
        assert_eq!(decode(row().hash, &bytes).unwrap(), row());
        assert_eq!(index_key(&row())[..], [&b"\0\0\0\0\0\0\0\x05"[..], &[6; 32]].concat());
    }

    #[test]
    fn damage_is_an_error() {
        let bytes = encode(&row());
        for length in 0..bytes.len() {
            assert!(decode(row().hash, &bytes[..length]).is_err(), "{length} bytes");
        }
        assert!(decode(row().hash, &[&bytes[..], &[0]].concat()).is_err());
    }
}
