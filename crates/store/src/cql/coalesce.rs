//! Equal reads that come together are made once.
//!
//! Who comes while one is on its way does not share it, but the next: that one begins after all of them asked, so nobody
//! misses what was written before. A crowd that asks for one chat costs two reads at a time, however large it is.

use std::{
    collections::HashMap,
    future::Future,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures_util::{
    FutureExt as _,
    future::{BoxFuture, Shared},
};

use crate::Error;

type Reading<V> = Shared<BoxFuture<'static, Result<V, Error>>>;

struct Slot<V: Clone> {
    callers: usize,
    /// The one on its way, if it has not ended.
    running: Option<Reading<V>>,
    /// The one that begins when it has.
    next: Option<Reading<V>>,
}

type Slots<K, V> = Arc<Mutex<HashMap<K, Slot<V>>>>;

/// Reads of one kind that are on their way, by what is asked.
pub(super) struct Coalesced<K, V: Clone> {
    slots: Slots<K, V>,
}

impl<K, V: Clone> Default for Coalesced<K, V> {
    fn default() -> Self {
        Self { slots: Arc::default() }
    }
}

impl<K, V> Coalesced<K, V>
where
    K: Clone + Eq + Hash + Send + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// What `read` says; one that began after this call, whoever began it.
    pub(super) async fn read<F>(&self, key: K, read: F) -> Result<V, Error>
    where
        F: Future<Output = Result<V, Error>> + Send + 'static,
    {
        let reading = {
            let mut slots = lock(&self.slots);
            let slot = slots.entry(key.clone()).or_insert(Slot { callers: 0, running: None, next: None });
            slot.callers += 1;
            match (&slot.running, &slot.next) {
                (Some(_), Some(next)) => next.clone(),
                (Some(running), None) => {
                    let reading = self.reading(key.clone(), Some(running.clone()), read);
                    slot.next = Some(reading.clone());
                    reading
                }
                (None, _) => {
                    let reading = self.reading(key.clone(), None, read);
                    slot.running = Some(reading.clone());
                    reading
                }
            }
        };
        let _caller = Caller { slots: &self.slots, key };
        reading.await
    }

    fn reading<F>(&self, key: K, before: Option<Reading<V>>, read: F) -> Reading<V>
    where
        F: Future<Output = Result<V, Error>> + Send + 'static,
    {
        let slots = Arc::downgrade(&self.slots);
        async move {
            if let Some(before) = before {
                // Drives it too, should all of its own callers be gone.
                let _ = before.await;
            }
            let answer = read.await;
            if let Some(slots) = slots.upgrade()
                && let Some(slot) = lock(&slots).get_mut(&key)
            {
                slot.running = slot.next.take();
            }
            answer
        }
        .boxed()
        .shared()
    }
}

/// One who waits; the last one takes the slot away.
struct Caller<'a, K: Eq + Hash, V: Clone> {
    slots: &'a Slots<K, V>,
    key: K,
}

impl<K: Eq + Hash, V: Clone> Drop for Caller<'_, K, V> {
    fn drop(&mut self) {
        let mut slots = lock(self.slots);
        if let Some(slot) = slots.get_mut(&self.key) {
            slot.callers -= 1;
            if slot.callers == 0 {
                let slot = slots.remove(&self.key);
                // A reading that nobody waits for ends here, without the lock: its end may look for the slot.
                drop(slots);
                drop(slot);
            }
        }
    }
}

fn lock<K, V: Clone>(slots: &Slots<K, V>) -> MutexGuard<'_, HashMap<K, Slot<V>>> {
    slots.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use tokio::sync::Semaphore;

    use super::*;

    /// A read of what was written last, which waits for a permit.
    fn read(
        gate: &Arc<Semaphore>,
        value: &Arc<AtomicU64>,
        reads: &Arc<AtomicU64>,
    ) -> impl Future<Output = Result<u64, Error>> + Send + 'static {
        let (gate, value, reads) = (Arc::clone(gate), Arc::clone(value), Arc::clone(reads));
        async move {
            let read = value.load(Ordering::SeqCst);
            reads.fetch_add(1, Ordering::SeqCst);
            gate.acquire().await.unwrap().forget();
            Ok(read)
        }
    }

    #[tokio::test]
    async fn a_crowd_costs_two_reads_and_misses_no_write_before_it() {
        let reads = Coalesced::default();
        let (gate, value, count) =
            (Arc::new(Semaphore::new(0)), Arc::new(AtomicU64::new(1)), Arc::new(AtomicU64::new(0)));
        let mut first = Box::pin(reads.read(7, read(&gate, &value, &count)));
        assert!(futures_util::poll!(&mut first).is_pending());
        value.store(2, Ordering::SeqCst);
        let mut crowd: Vec<_> = (0..50).map(|_| Box::pin(reads.read(7, read(&gate, &value, &count)))).collect();
        for one in &mut crowd {
            assert!(futures_util::poll!(one).is_pending());
        }
        gate.add_permits(2);
        assert_eq!(first.await.unwrap(), 1);
        for one in crowd {
            assert_eq!(one.await.unwrap(), 2, "it began after the write");
        }
        assert_eq!(count.load(Ordering::SeqCst), 2);
        assert!(lock(&reads.slots).is_empty());
    }

    #[tokio::test]
    async fn a_read_whose_caller_is_gone_holds_nobody_up() {
        let reads = Coalesced::default();
        let (gate, value, count) =
            (Arc::new(Semaphore::new(0)), Arc::new(AtomicU64::new(1)), Arc::new(AtomicU64::new(0)));
        let mut first = Box::pin(reads.read(7, read(&gate, &value, &count)));
        assert!(futures_util::poll!(&mut first).is_pending());
        let mut second = Box::pin(reads.read(7, read(&gate, &value, &count)));
        assert!(futures_util::poll!(&mut second).is_pending());
        drop(first);
        gate.add_permits(2);
        assert_eq!(second.await.unwrap(), 1);
        drop(Box::pin(reads.read(7, read(&gate, &value, &count))));
        assert!(lock(&reads.slots).is_empty());
    }
}
