//! `send_claims`: user ▸ key, and `send_claims_by_time`: time ▸ user ▸ key, by which old ones are swept.
//!
//! A CQL table needs no such index: its rows go by a time to live.

use bytes::BufMut;
use domain::{ChatId, Micros, UserId};
use fjall::Slice;

use super::super::{
    batch::Batch,
    codec::{Fields, text_of, value, value_of},
    read::View,
    tables::Table,
};
use crate::{Error, SendClaim, SendOutcome};

const TABLE: Table = Table::SendClaims;
const INDEX: Table = Table::SendClaimTimes;
/// The values of version 1 end before the outcome.
const VERSION: u8 = 2;

fn key_of(user: UserId, key: &str) -> Vec<u8> {
    [user.as_bytes(), key.as_bytes()].concat()
}

fn index_key(at_us: Micros, key: &[u8]) -> Vec<u8> {
    [&at_us.to_be_bytes(), key].concat()
}

fn encode(claim: &SendClaim) -> Vec<u8> {
    let mut value = value_of(VERSION, 97);
    value.put_slice(claim.chat.as_bytes());
    value.put_u64(claim.origin);
    value.put_u64(claim.n);
    value.put_u64(claim.basis);
    value.put_u128(claim.fingerprint);
    value.put_u64(claim.at_us);
    match claim.outcome {
        SendOutcome::Unknown => value.put_u8(0),
        SendOutcome::Rejected { code } => {
            value.put_u8(1);
            value.put_u32(code);
        }
        SendOutcome::Stored { chat, seq, time } => {
            value.put_u8(2);
            value.put_slice(chat.as_bytes());
            value.put_u64(seq);
            value.put_u64(time);
        }
    }
    value
}

fn outcome(fields: &mut Fields<'_>) -> Result<SendOutcome, Error> {
    match fields.byte()? {
        0 => Ok(SendOutcome::Unknown),
        1 => Ok(SendOutcome::Rejected { code: fields.small()? }),
        2 => Ok(SendOutcome::Stored {
            chat: ChatId::new(fields.array()?),
            seq: fields.number()?,
            time: fields.number()?,
        }),
        other => Err(Error::corrupt(TABLE.name(), format!("outcome {other} is not known"))),
    }
}

fn decode(key: &[u8], bytes: &[u8]) -> Result<SendClaim, Error> {
    let short = || Error::corrupt(TABLE.name(), "its key is too short");
    let (user, text) = key.split_first_chunk().ok_or_else(short)?;
    let (version, mut fields) = Fields::up_to(VERSION, TABLE.name(), bytes)?;
    let mut claim = SendClaim {
        user: UserId::new(*user),
        key: text_of(TABLE.name(), text)?,
        chat: ChatId::new(fields.array()?),
        origin: fields.number()?,
        n: fields.number()?,
        basis: fields.number()?,
        fingerprint: u128::from_be_bytes(fields.array()?),
        at_us: fields.number()?,
        outcome: SendOutcome::Unknown,
    };
    if version == VERSION {
        claim.outcome = outcome(&mut fields)?;
    }
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

    /// Whether the claim stands and has this outcome now.
    pub(super) fn settle_send(
        &mut self,
        user: UserId,
        key: &str,
        origin: u64,
        outcome: SendOutcome,
    ) -> Result<bool, Error> {
        let key = key_of(user, key);
        let Some(stored) = self.newest(TABLE, &key)? else { return Ok(false) };
        let stored = decode(&key, &stored)?;
        // One that took its place after a day is of another command.
        if stored.origin != origin {
            return Ok(false);
        }
        if stored.outcome == outcome {
            return Ok(true);
        }
        // A first copy may be rejected and a later one stored, but not the other way round (M13).
        if outcome == SendOutcome::Unknown || matches!(stored.outcome, SendOutcome::Stored { .. }) {
            return Ok(false);
        }
        self.stage(TABLE, &key, encode(&SendClaim { outcome, ..stored }));
        self.sync = true;
        Ok(true)
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
            outcome: SendOutcome::Unknown,
        }
    }

    #[test]
    fn the_bytes_are_these() {
        let (key, bytes) = (key_of(claim().user, "k1"), encode(&claim()));
        assert_eq!(key, [&[7; 16][..], b"k1"].concat());
        let numbers = b"\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0\x04";
        let rest = b"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x05\0\0\0\0\0\0\0\x06";
        assert_eq!(bytes, [&[2][..], &[8; 16], numbers, rest, &[0]].concat());
        assert_eq!(decode(&key, &bytes).unwrap(), claim());
        let of_before_outcomes = [&[1][..], &[8; 16], numbers, rest].concat();
        assert_eq!(decode(&key, &of_before_outcomes).unwrap(), claim());
        let rejected = SendClaim { outcome: SendOutcome::Rejected { code: 22 }, ..claim() };
        assert_eq!(encode(&rejected)[65..], *b"\x01\0\0\0\x16");
        let outcome = SendOutcome::Stored { chat: ChatId::new([9; 16]), seq: 7, time: 9 };
        let stored = SendClaim { outcome, ..claim() };
        assert_eq!(encode(&stored)[65..], [&[2][..], &[9; 16], b"\0\0\0\0\0\0\0\x07\0\0\0\0\0\0\0\x09"].concat());
        for claim in [rejected, stored] {
            assert_eq!(decode(&key, &encode(&claim)).unwrap(), claim);
        }
        assert_eq!(index_key(6, &key), [&b"\0\0\0\0\0\0\0\x06"[..], &[7; 16], b"k1"].concat());
    }

    #[test]
    fn damage_is_an_error() {
        let (key, bytes) = (key_of(claim().user, "k1"), encode(&claim()));
        for length in 0..bytes.len() {
            assert!(decode(&key, &bytes[..length]).is_err(), "{length} bytes");
        }
        assert!(decode(&key, &[&bytes[..], &[0]].concat()).is_err());
        for (at, byte) in [(0, 3), (65, 3)] {
            let mut damaged = bytes.clone();
            damaged[at] = byte;
            assert!(decode(&key, &damaged).is_err(), "{byte} at {at}");
        }
        assert!(decode(&key[..15], &bytes).is_err());
        assert!(decode(&[&key[..], &[0xff]].concat(), &bytes).is_err());
    }
}
