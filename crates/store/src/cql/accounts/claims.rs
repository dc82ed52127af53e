//! `send_claims`: (user, key), and `send_claims_by_user`: user ▸ key, by which an erasure finds them.
//!
//! A claim holds for a day and its row lives for longer. Each write is of the whole row, so that all of it ends together.

use std::time::Duration;

use bytes::{Buf as _, BufMut as _};
use domain::{ChatId, UserId};

use super::super::{
    Cql, TRIES_MAX, kept_for,
    numbers::{array, big, chat as chat_of, number},
    statements::Statement,
};
use crate::{Error, SEND_CLAIM_KEPT_US, SendClaim, SendOutcome, accounts};

const TABLE: &str = "send_claims";
type Row = (Vec<u8>, i64, i64, i64, Vec<u8>, i64, Vec<u8>);

const UNKNOWN: u8 = 0;
const REJECTED: u8 = 1;
const STORED: u8 = 2;

fn kept() -> i32 {
    kept_for(Duration::from_micros(SEND_CLAIM_KEPT_US))
}

/// One value, so that a write can name the outcome that it was made over.
fn encode(outcome: SendOutcome) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(33);
    match outcome {
        SendOutcome::Unknown => bytes.put_u8(UNKNOWN),
        SendOutcome::Rejected { code } => {
            bytes.put_u8(REJECTED);
            bytes.put_u32(code);
        }
        SendOutcome::Stored { chat, seq, time } => {
            bytes.put_u8(STORED);
            bytes.put_slice(chat.as_bytes());
            bytes.put_u64(seq);
            bytes.put_u64(time);
        }
    }
    bytes
}

fn decode(mut bytes: &[u8]) -> Option<SendOutcome> {
    let outcome = match bytes.try_get_u8().ok()? {
        UNKNOWN => SendOutcome::Unknown,
        REJECTED => SendOutcome::Rejected { code: bytes.try_get_u32().ok()? },
        STORED => {
            let mut chat = [0; 16];
            bytes.try_copy_to_slice(&mut chat).ok()?;
            let chat = ChatId::new(chat);
            SendOutcome::Stored { chat, seq: bytes.try_get_u64().ok()?, time: bytes.try_get_u64().ok()? }
        }
        _ => return None,
    };
    bytes.is_empty().then_some(outcome)
}

fn claim_of(user: UserId, key: &str, row: Row) -> Result<SendClaim, Error> {
    let (chat, origin, n, basis, fingerprint, at_us, outcome) = row;
    Ok(SendClaim {
        user,
        key: key.into(),
        chat: chat_of(TABLE, &chat)?,
        origin: number(origin),
        n: number(n),
        basis: number(basis),
        fingerprint: u128::from_be_bytes(array(TABLE, &fingerprint)?),
        at_us: number(at_us),
        outcome: decode(&outcome).ok_or_else(|| Error::corrupt(TABLE, "its outcome is not known"))?,
    })
}

impl Cql {
    pub(crate) async fn send_claim(&self, user: UserId, key: &str) -> Result<Option<SendClaim>, Error> {
        accounts::check_idempotency_key(key)?;
        self.look_for_claim(Statement::Claim, user, key).await
    }

    async fn look_for_claim(&self, look: Statement, user: UserId, key: &str) -> Result<Option<SendClaim>, Error> {
        let row = self.shared.cluster.row::<Row>(look, (*user.as_bytes(), key)).await?;
        row.map(|row| claim_of(user, key, row)).transpose()
    }

    pub(crate) async fn claim_send(&self, claim: SendClaim) -> Result<SendClaim, Error> {
        claim.check()?;
        let (cluster, user) = (&self.shared.cluster, *claim.user.as_bytes());
        if let Some(held) = self.send_claim(claim.user, &claim.key).await?
            && held.holds_at(claim.at_us)
        {
            return Ok(held);
        }
        // Before the claim: an erasure may find a name too many, never one too few.
        cluster.write(Statement::PutClaimName, (user, &*claim.key, kept())).await?;
        let _turn = self.shared.turns.take(TABLE, &[&user[..], claim.key.as_bytes()].concat()).await;
        let mut doubt = None;
        for _ in 0..TRIES_MAX {
            let stored = self.look_for_claim(Statement::ClaimSerial, claim.user, &claim.key).await?;
            let written = match stored {
                Some(held) if held.holds_at(claim.at_us) => return Ok(held),
                Some(old) => self.change_claim(&old, &claim).await,
                None => self.add_claim(&claim).await,
            };
            match written {
                Ok(true) => return Ok(claim),
                Ok(false) => {}
                // What stands there is the answer, also if it is this one.
                Err(error @ Error::Stalled { .. }) if doubt.is_none() => doubt = Some(error),
                Err(error) => return Err(error),
            }
        }
        Err(doubt.unwrap_or(Error::Contended { table: TABLE }))
    }

    async fn add_claim(&self, claim: &SendClaim) -> Result<bool, Error> {
        let values = (
            *claim.chat.as_bytes(),
            big(claim.origin),
            big(claim.n),
            big(claim.basis),
            claim.fingerprint.to_be_bytes(),
            big(claim.at_us),
            encode(claim.outcome),
            *claim.user.as_bytes(),
            &*claim.key,
            kept(),
        );
        self.shared.cluster.write_if(Statement::AddClaim, values).await
    }

    /// Writes a claim over one that still is as it was seen.
    async fn change_claim(&self, seen: &SendClaim, claim: &SendClaim) -> Result<bool, Error> {
        let values = (
            kept(),
            *claim.chat.as_bytes(),
            big(claim.origin),
            big(claim.n),
            big(claim.basis),
            claim.fingerprint.to_be_bytes(),
            big(claim.at_us),
            encode(claim.outcome),
            *claim.user.as_bytes(),
            &*claim.key,
            big(seen.origin),
            big(seen.at_us),
            encode(seen.outcome),
        );
        self.shared.cluster.write_if(Statement::ChangeClaim, values).await
    }

    pub(crate) async fn settle_send(
        &self,
        user: UserId,
        key: &str,
        origin: u64,
        outcome: SendOutcome,
    ) -> Result<bool, Error> {
        accounts::check_idempotency_key(key)?;
        let _turn = self.shared.turns.take(TABLE, &[user.as_bytes(), key.as_bytes()].concat()).await;
        for _ in 0..TRIES_MAX {
            let stored = self.look_for_claim(Statement::ClaimSerial, user, key).await?;
            // One that took its place after a day is of another command.
            let Some(seen) = stored.filter(|stored| stored.origin == origin) else { return Ok(false) };
            if seen.outcome == outcome {
                return Ok(true);
            }
            // A first copy may be rejected and a later one stored, but not the other way round (M13).
            if outcome == SendOutcome::Unknown || matches!(seen.outcome, SendOutcome::Stored { .. }) {
                return Ok(false);
            }
            if self.change_claim(&seen, &SendClaim { outcome, ..seen.clone() }).await? {
                return Ok(true);
            }
        }
        Err(Error::Contended { table: TABLE })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_outcome_comes_back_and_damage_is_none() {
        let stored = SendOutcome::Stored { chat: ChatId::new([9; 16]), seq: 7, time: 9 };
        for outcome in [SendOutcome::Unknown, SendOutcome::Rejected { code: 22 }, stored] {
            let bytes = encode(outcome);
            assert_eq!(decode(&bytes), Some(outcome));
            assert_eq!(decode(&bytes[..bytes.len() - 1]), None);
            assert_eq!(decode(&[&bytes[..], &[0]].concat()), None);
        }
        assert_eq!(decode(&[3]), None);
    }
}
