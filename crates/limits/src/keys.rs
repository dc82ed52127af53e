//! From a client's key to what is counted for it: bounded, whatever keys come.
//!
//! Keys are kept as 64-bit hashes under a seed of this process: a long name costs no more than a short one, and nobody
//! can choose names that meet. When the table is full, further keys share a fixed number of entries: they are counted
//! together, so limits get tighter for them, never void.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Locks of the table; one is held for a lookup or for the sweep of its part.
const SHARDS: usize = 16;
/// Entries that are shared by the keys for which there is no room.
const SHARED: usize = 64;

/// What is counted for each key.
pub struct Keys<T> {
    seed: RandomState,
    shards: [Mutex<HashMap<u64, Arc<T>>>; SHARDS],
    keys_per_shard: usize,
    shared: Box<[Arc<T>]>,
    names: Names,
}

/// How a table is called in metrics.
#[derive(Clone, Copy, Debug)]
pub struct Names {
    /// The gauge of keys with an entry of their own.
    pub keys: &'static str,
    /// The counter of lookups that found no room.
    pub shared: &'static str,
    /// What is counted, as the label `of` of both.
    pub of: &'static str,
}

impl<T: Default> Keys<T> {
    /// A table for at most about `most` keys.
    #[must_use]
    pub fn new(names: Names, most: usize) -> Self {
        Self {
            seed: RandomState::new(),
            shards: std::array::from_fn(|_| Mutex::default()),
            keys_per_shard: most.div_ceil(SHARDS),
            shared: std::iter::repeat_with(Arc::default).take(SHARED).collect(),
            names,
        }
    }

    /// The hash that keys are kept by.
    pub fn hash(&self, key: impl Hash) -> u64 {
        self.seed.hash_one(key)
    }

    /// The key's entry, or one that it shares while the table is full.
    pub fn get(&self, key: impl Hash) -> Arc<T> {
        let hash = self.hash(key);
        let mut shard = lock(&self.shards[hash as usize % SHARDS]);
        if let Some(entry) = shard.get(&hash) {
            return Arc::clone(entry);
        }
        if shard.len() >= self.keys_per_shard {
            drop(shard);
            metrics::counter!(self.names.shared, "of" => self.names.of).increment(1);
            return Arc::clone(&self.shared[(hash >> 32) as usize % SHARED]);
        }
        let entry = Arc::<T>::default();
        shard.insert(hash, Arc::clone(&entry));
        entry
    }

    /// The key's own entry, if there is one.
    pub fn find(&self, key: impl Hash) -> Option<Arc<T>> {
        let hash = self.hash(key);
        lock(&self.shards[hash as usize % SHARDS]).get(&hash).map(Arc::clone)
    }

    /// The key's own entry, made if there is room for it; never one that it shares.
    pub fn own(&self, key: impl Hash) -> Option<Arc<T>> {
        let hash = self.hash(key);
        let mut shard = lock(&self.shards[hash as usize % SHARDS]);
        if shard.len() >= self.keys_per_shard && !shard.contains_key(&hash) {
            return None;
        }
        Some(Arc::clone(shard.entry(hash).or_default()))
    }

    /// Forgets the keys that nobody holds and whose entry might as well be a new one.
    pub fn sweep(&self, as_new: impl Fn(&T) -> bool) {
        for shard in &self.shards {
            let mut shard = lock(shard);
            // Counted under the lock, without which nobody gets hold of another one.
            shard.retain(|_, entry| Arc::strong_count(entry) > 1 || !as_new(entry));
            if shard.len() < shard.capacity() / 4 {
                shard.shrink_to_fit();
            }
        }
        metrics::gauge!(self.names.keys, "of" => self.names.of).set(self.count() as f64);
    }

    /// Keys with an entry of their own.
    pub fn count(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).len()).sum()
    }
}

impl<T> std::fmt::Debug for Keys<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keys").field("of", &self.names.of).finish_non_exhaustive()
    }
}

fn lock<T>(shard: &Mutex<HashMap<u64, Arc<T>>>) -> MutexGuard<'_, HashMap<u64, Arc<T>>> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    const NAMES: Names = Names { keys: "test_keys", shared: "test_keys_shared_total", of: "test" };
    const ORDER: Ordering = Ordering::Relaxed;

    #[test]
    fn a_key_keeps_its_entry_while_it_is_held_or_has_something_to_tell() {
        let keys: Keys<AtomicU32> = Keys::new(NAMES, 1_000);
        let held = keys.get("held");
        keys.get("spent").store(1, ORDER);
        keys.get("as new");
        keys.sweep(|entry| entry.load(ORDER) == 0);
        assert_eq!(keys.count(), 2);
        held.store(7, ORDER);
        assert_eq!(keys.get("held").load(ORDER), 7);
        assert_eq!(keys.get("spent").load(ORDER), 1);
        drop(held);
        keys.sweep(|_| true);
        assert_eq!(keys.count(), 0);
    }

    #[test]
    fn a_key_is_found_only_where_it_has_an_entry_of_its_own() {
        let keys: Keys<AtomicU32> = Keys::new(NAMES, SHARDS);
        assert!(keys.find("nobody").is_none() && keys.count() == 0);
        let made = (0..1_000).filter_map(|key| keys.own(key)).count();
        assert_eq!((made, keys.count()), (SHARDS, SHARDS), "no entry is shared");
        let kept = (0..1_000).find(|key| keys.find(key).is_some()).unwrap();
        keys.own(kept).unwrap().store(7, ORDER);
        assert_eq!(keys.find(kept).unwrap().load(ORDER), 7);
    }

    #[test]
    fn x13_more_keys_than_the_table_holds_share_entries_and_none_is_let_off() {
        let keys: Keys<AtomicU32> = Keys::new(NAMES, 1_024);
        for key in 0..200_000_u32 {
            keys.get(key).fetch_add(1, ORDER);
        }
        let of_their_own = keys.count();
        assert!((1_000..=1_024 + SHARDS).contains(&of_their_own), "{of_their_own}");
        let counted: u32 = keys.shared.iter().map(|entry| entry.load(ORDER)).sum();
        assert_eq!(counted as usize + of_their_own, 200_000, "each is counted somewhere");
        assert!(keys.shared.iter().all(|entry| entry.load(ORDER) > 1_000), "evenly, or one attacks through another");
        let unbounded: Keys<AtomicU32> = Keys::new(NAMES, usize::MAX);
        for key in 0..200_000_u32 {
            unbounded.get(key);
        }
        assert_eq!(unbounded.count(), 200_000, "control: without a bound it grows with every key that comes");
        // Room comes back, and with it entries of one's own.
        keys.sweep(|_| true);
        assert_eq!(keys.get("newcomer").load(ORDER), 0);
    }
}
