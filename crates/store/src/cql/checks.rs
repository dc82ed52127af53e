//! Compares what is to be appended with what is stored, where that is not known to be less.
//!
//! Another entry under a stored seq can only come from a log that lost its end, and must not be written over what readers
//! have. It is found by a read; but rows of a chat come in seq order, so above a head that this process knows there is
//! nothing to read. Appends to chats that are loaded or hot cost no read.

use std::{
    collections::{BTreeMap, HashMap},
    ops::RangeInclusive,
    sync::{Mutex, MutexGuard, PoisonError},
};

use domain::{ChatId, Seq};

use super::{
    Shared,
    numbers::{BUCKET_ROWS, big, bound, bucket, number},
    statements::Statement,
};
use crate::Error;

/// Most chats whose head is remembered, some 3 MB; at the bound all are forgotten and looked up again as they come.
const HEADS_MAX: usize = 1 << 16;

/// The highest stored row of chats, as far as this process knows: it has read or written it.
#[derive(Debug, Default)]
pub(super) struct Heads {
    heads: Mutex<HashMap<ChatId, Seq>>,
}

impl Heads {
    /// The chat's highest row, if it is known.
    pub(super) fn get(&self, chat: ChatId) -> Option<Seq> {
        self.lock().get(&chat).copied()
    }

    /// No row stands above this one.
    pub(super) fn learn(&self, chat: ChatId, head: Seq) {
        let mut heads = self.lock();
        if heads.len() >= HEADS_MAX && !heads.contains_key(&chat) {
            heads.clear();
        }
        let known = heads.entry(chat).or_default();
        *known = (*known).max(head);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ChatId, Seq>> {
        self.heads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    /// The stored entries of these seqs that this process cannot rule out.
    pub(super) async fn stored(
        &self,
        chat: ChatId,
        seqs: RangeInclusive<Seq>,
    ) -> Result<BTreeMap<Seq, Vec<u8>>, Error> {
        let (first, last) = (*seqs.start(), *seqs.end());
        if self.heads.get(chat).is_some_and(|head| head < first) {
            return Ok(BTreeMap::new());
        }
        let mut stored = BTreeMap::new();
        for at in bucket(first)..=bucket(last) {
            let values = (*chat.as_bytes(), big(at), bound(first), bound(last));
            let rows = self.cluster.rows::<(i64, Vec<u8>)>(Statement::Entries, values, BUCKET_ROWS as usize).await?;
            stored.extend(rows.into_iter().map(|(seq, entry)| (number(seq), entry)));
        }
        if stored.is_empty() {
            self.heads.learn(chat, first.saturating_sub(1));
        }
        Ok(stored)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_never_goes_back_and_heads_are_bounded() {
        let heads = Heads::default();
        let chat = |number: u32| ChatId::new([number.to_be_bytes(); 4].concat().try_into().unwrap());
        heads.learn(chat(0), 5);
        heads.learn(chat(0), 3);
        assert_eq!(heads.get(chat(0)), Some(5));
        for number in 1..=HEADS_MAX as u32 {
            heads.learn(chat(number), 1);
        }
        assert_eq!((heads.get(chat(0)), heads.lock().len()), (None, 1));
    }
}
