//! `send_claims`: user ▸ key, and `send_claims_by_time`: time ▸ user ▸ key, by which old ones are swept.
//!
//! A CQL table needs no such index: its rows go by a time to live.

use bytes::BufMut;
use domain::{ChatId, Micros, UserId};
use fjall::Slice;

use super::super::{
    batch::Batch,
    codec::{Fields, text_of, value},
    read::View,
    tables::Table,
};
use crate::{Error, SendClaim};

const TABLE: Table = Table::SendClaims;
const INDEX: Table = Table::SendClaimTimes;

fn key_of(user: UserId, key: &str) -> Vec<u8> {
    [user.as_bytes(), key.as_bytes()].concat()
}

fn index_key(at_us: Micros, key: &[u8]) -> Vec<u8> {
    [&at_us.to_be_bytes(), key].concat()
}

fn encode(claim: &SendClaim) -> Vec<u8> {
    let mut value = value(64);
    value.put_slice(claim.chat.as_bytes());
    value.put_u64(claim.origin);
    value.put_u64(claim.n);
    value.put_u64(claim.basis);
    value.put_u128(claim.fingerprint);
    value.put_u64(claim.at_us);
    value
}

fn decode(key: &[u8], bytes: &[u8]) -> Result<SendClaim, Error> {
    let short = || Error::corrupt(TABLE.name(), "its key is too short");
    let (user, text) = key.split_first_chunk().ok_or_else(short)?;
    let mut fields = Fields::of(TABLE.name(), bytes)?;
    let claim = SendClaim {
        user: UserId::new(*user),
        key: text_of(TABLE.name(), text)?,
        chat: ChatId::new(fields.array()?),
        origin: fields.number()?,
        n: fields.number()?,
        basis: fields.number()?,
        fingerprint: u128::from_be_bytes(fields.array()?),
        at_us: fields.number()?,
    };
    fields.end(claim)
}

impl Batch<'_> {
    pub(super) fn claim_send(&mut self, claim: &SendClaim) -> Result<SendClaim, Error> {
        let key = key_of(claim.user, &claim.key);
        if let Some(stored) = self.newest(TABLE, &key)? {
            let stored = decode(&key, &stored)?;
            if stored.holds_at(claim.at_us) {
                return Ok(stored);
            }
            self.remove(INDEX, &index_key(stored.at_us, &key));
        }
        self.stage(TABLE, &key, encode(claim));
        self.stage(INDEX, &index_key(claim.at_us, &key), value(0));
        self.sync = true;
        Ok(claim.clone())
    }

    /// Row and index row.
    pub(super) fn take_send_claim_out(&mut self, key: &[u8], value: &[u8]) -> Result<(), Error> {
        let stored = decode(key, value)?;
        self.remove(TABLE, key);
        self.remove(INDEX, &index_key(stored.at_us, key));
        Ok(())
    }

    /// Takes out the claims of these index rows, as far as they still stand; how many did.
    ///
    /// Not synced: what a power cut brings back is old still, and swept again.
    pub(super) fn forget_send_claims(&mut self, old: &[Slice]) -> Result<usize, Error> {
        let mut forgotten = 0;
        for index_key in old {
            // A claim that was replaced since it was looked for has another index row.
            if self.newest(INDEX, index_key)?.is_none() {
                continue;
            }
            let key = index_key.get(8..).ok_or_else(|| Error::corrupt(INDEX.name(), "its key is too short"))?;
            self.remove(TABLE, key);
            self.remove(INDEX, index_key);
            forgotten += 1;
        }
        Ok(forgotten)
    }
}

impl View<'_> {
    pub(super) fn send_claim(&self, user: UserId, key: &str) -> Result<Option<SendClaim>, Error> {
        let key = key_of(user, key);
        self.get(TABLE, &key)?.map(|value| decode(&key, &value)).transpose()
    }

    /// Index rows of claims from before a time, the oldest first.
    pub(super) fn send_claims_before(&self, before_us: Micros, limit: usize) -> Result<Vec<Slice>, Error> {
        self.keys_below(INDEX, &before_us.to_be_bytes(), limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim() -> SendClaim {
        SendClaim {
            user: UserId::new([7; 16]),
            key: "k1".into(),
            chat: ChatId::new([8; 16]),
            origin: 2,
            n: 3,
            basis: 4,
            fingerprint: 5,
            at_us: 6,
        }
    }

    #[test]
    fn the_bytes_are_these() {
        let (key, bytes) = (key_of(claim().user, "k1"), encode(&claim()));
        assert_eq!(key, [&[7; 16][..], b"k1"].concat());
        let numbers = b"\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0\x04";
        let rest = b"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x05\0\0\0\0\0\0\0\x06";
        assert_eq!(bytes, [&[1][..], &[8; 16], numbers, rest].concat());
        assert_eq!(decode(&key, &bytes).unwrap(), claim());
        assert_eq!(index_key(6, &key), [&b"\0\0\0\0\0\0\0\x06"[..], &[7; 16], b"k1"].concat());
    }

    #[test]
    fn damage_is_an_error() {
        let (key, bytes) = (key_of(claim().user, "k1"), encode(&claim()));
        for length in 0..bytes.len() {
            assert!(decode(&key, &bytes[..length]).is_err(), "{length} bytes");
        }
        assert!(decode(&key, &[&bytes[..], &[0]].concat()).is_err());
        assert!(decode(&key[..15], &bytes).is_err());
        assert!(decode(&[&key[..], &[0xff]].concat(), &bytes).is_err());
    }
}
