//! What a chat remembers of each sender's outbox, so that a repeated command is answered and never stored again.

use std::collections::{BTreeMap, VecDeque};

use bytes::{Bytes, BytesMut};
use proto::log;

use crate::{
    Entry, Error, Micros, Origin, Seq, UserId,
    limits::{ORIGIN_KEPT_US, ORIGINS_PER_CHAT_MAX, ORIGINS_PER_SENDER_MAX, OUTBOX_SPAN},
    version::{ANY, edits_of},
};

/// One stored command of an origin.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Remembered {
    pub(crate) n: u64,
    pub(crate) seq: Seq,
    pub(crate) time: Micros,
    pub(crate) hash: u128,
}

/// The recent stored commands of one origin, oldest first, never empty.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct OriginState {
    ring: VecDeque<Remembered>,
}

impl OriginState {
    /// The highest n stored.
    pub(crate) fn last_n(&self) -> u64 {
        self.ring.back().map_or(0, |last| last.n)
    }

    /// The stored command with this n, while it is among the recent ones.
    pub(crate) fn recent(&self, n: u64) -> Option<Remembered> {
        self.ring.iter().rev().find(|one| one.n == n).copied()
    }

    fn last(&self) -> Option<Remembered> {
        self.ring.back().copied()
    }
}

/// All origins of a chat, bounded by age, by sender and in total.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Origins {
    states: BTreeMap<(UserId, Origin), OriginState>,
    /// Last-use seq → origin: the least recently used first, which is also the oldest.
    by_use: BTreeMap<Seq, (UserId, Origin)>,
    /// The highest last-use seq of evicted ones (M14).
    evicted_through: Seq,
    /// Entries in all rings: asked for each entry by who weighs the chat.
    remembered: usize,
}

impl Origins {
    pub(crate) fn get(&self, sender: UserId, origin: Origin) -> Option<&OriginState> {
        self.states.get(&(sender, origin))
    }

    /// The time of the sender's last entry, as far as it is remembered.
    pub(crate) fn last_time_of(&self, sender: UserId) -> Option<Micros> {
        let own = self.states.range((sender, Origin(0))..=(sender, Origin(u64::MAX)));
        own.filter_map(|(_, state)| Some(state.last()?.time)).max()
    }

    pub(crate) const fn evicted_through(&self) -> Seq {
        self.evicted_through
    }

    pub(crate) const fn remembered(&self) -> usize {
        self.remembered
    }

    pub(crate) fn len(&self) -> usize {
        self.states.len()
    }

    /// Remembers a stored entry, then forgets what is over a bound. A function of the entries alone.
    pub(crate) fn remember(&mut self, entry: &Entry) {
        let key = (entry.sender, entry.origin);
        let state = self.states.entry(key).or_default();
        if let Some(last) = state.last() {
            self.by_use.remove(&last.seq);
        }
        state.ring.push_back(Remembered {
            n: entry.n,
            seq: entry.seq,
            time: entry.time,
            hash: entry.event.content_hash(),
        });
        if state.ring.len() as u64 > OUTBOX_SPAN {
            state.ring.pop_front();
        } else {
            self.remembered += 1;
        }
        self.by_use.insert(entry.seq, key);
        self.evict(entry.sender, entry.time);
    }

    /// A message is deleted: of it and of its edits no hash is left by which a text could be guessed.
    pub(crate) fn forget_content(&mut self, seq: Seq) {
        let edits = edits_of(seq);
        for one in self.states.values_mut().flat_map(|state| &mut state.ring) {
            if one.seq == seq || (one.hash >> 64) as u64 == edits {
                one.hash = ANY;
            }
        }
    }

    fn evict(&mut self, sender: UserId, now: Micros) {
        // A sender's own go first: one who draws origin after origin must not make those of others forgotten.
        let own = (sender, Origin(0))..=(sender, Origin(u64::MAX));
        if self.states.range(own.clone()).count() > ORIGINS_PER_SENDER_MAX {
            let oldest = self.states.range(own).filter_map(|(key, state)| Some((state.last()?.seq, *key))).min();
            if let Some((seq, key)) = oldest {
                self.forget(seq, key);
            }
        }
        while let Some((&seq, &key)) = self.by_use.first_key_value() {
            let old = self.states[&key].last().is_some_and(|last| last.time + ORIGIN_KEPT_US < now);
            if !old && self.states.len() <= ORIGINS_PER_CHAT_MAX {
                break;
            }
            self.forget(seq, key);
        }
    }

    fn forget(&mut self, seq: Seq, key: (UserId, Origin)) {
        self.by_use.remove(&seq);
        self.remembered -= self.states.remove(&key).map_or(0, |state| state.ring.len());
        self.evicted_through = self.evicted_through.max(seq);
    }

    pub(crate) fn to_wire(&self) -> Vec<log::OriginState> {
        let mut wire = Vec::with_capacity(self.states.len());
        for ((sender, origin), state) in &self.states {
            let Some(last) = state.last() else { continue };
            wire.push(log::OriginState {
                sender: sender.to_wire(),
                origin: origin.0,
                last_n: last.n,
                last_seq: last.seq,
                last_time_us: last.time,
                ring: encode_ring(state, last),
            });
        }
        wire
    }

    pub(crate) fn from_wire(wire: &[log::OriginState], evicted_through: Seq) -> Result<Self, Error> {
        let mut origins = Self { evicted_through, ..Self::default() };
        for one in wire {
            let key = (UserId::try_from(&one.sender[..])?, Origin(one.origin));
            origins.by_use.insert(one.last_seq, key);
            let state = decode_ring(one)?;
            origins.remembered += state.ring.len();
            origins.states.insert(key, state);
        }
        Ok(origins)
    }
}

/// Newest first; each as differences from the one before it (see `OriginState.ring` in `log.proto`).
fn encode_ring(state: &OriginState, last: Remembered) -> Bytes {
    let mut bytes = BytesMut::new();
    let mut before = last;
    for one in state.ring.iter().rev() {
        for difference in [before.n - one.n, before.seq - one.seq, before.time - one.time] {
            prost::encoding::encode_varint(difference, &mut bytes);
        }
        bytes.extend_from_slice(&one.hash.to_be_bytes());
        before = *one;
    }
    bytes.freeze()
}

fn decode_ring(wire: &log::OriginState) -> Result<OriginState, Error> {
    let mut bytes = wire.ring.clone();
    let mut ring = VecDeque::new();
    let (mut n, mut seq, mut time) = (wire.last_n, wire.last_seq, wire.last_time_us);
    while !bytes.is_empty() {
        for value in [&mut n, &mut seq, &mut time] {
            let difference = prost::encoding::decode_varint(&mut bytes).map_err(Error::Decode)?;
            *value = value.checked_sub(difference).ok_or(Error::Ring)?;
        }
        let hash = bytes.split_to_checked(16).ok_or(Error::Ring)?;
        let hash: [u8; 16] = hash[..].try_into().map_err(|_fault| Error::Ring)?;
        ring.push_front(Remembered { n, seq, time, hash: u128::from_be_bytes(hash) });
    }
    if ring.is_empty() || ring.len() as u64 > OUTBOX_SPAN {
        return Err(Error::Ring);
    }
    Ok(OriginState { ring })
}

/// `split_to` that does not panic on short input.
trait SplitToChecked {
    fn split_to_checked(&mut self, at: usize) -> Option<Bytes>;
}

impl SplitToChecked for Bytes {
    fn split_to_checked(&mut self, at: usize) -> Option<Bytes> {
        (self.len() >= at).then(|| self.split_to(at))
    }
}
