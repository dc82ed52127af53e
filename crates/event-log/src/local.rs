//! Hands messages over within the process, where the one that they are addressed to lives here too.
//!
//! Only exclusive subjects: one gateway's own, which it subscribes to before anybody learns its id. So no earlier message
//! of the same sender can be under way through the broker, and order holds. What a subscription's queue does not take is
//! dropped, counted and told, as it is with what comes from the broker.

use std::collections::HashMap;
use std::future::pending;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use metrics::counter;
use tokio::sync::mpsc;

use crate::connection::Lag;
use crate::subject::Subject;

/// The subscriptions of this process that messages are handed to.
#[derive(Debug)]
pub(crate) struct Locals {
    by_subject: RwLock<HashMap<Subject, Vec<Entrance>>>,
    messages_max: usize,
    bytes_max: usize,
}

/// Where messages of one subscription go in.
#[derive(Debug)]
struct Entrance {
    number: u64,
    queue: mpsc::Sender<Bytes>,
    bytes: Arc<AtomicUsize>,
    lag: Arc<Lag>,
}

/// Where its reader takes them out.
#[derive(Debug)]
pub(crate) struct Exit {
    queue: mpsc::Receiver<Bytes>,
    bytes: Arc<AtomicUsize>,
}

impl Locals {
    /// Bounds hold for each subscription.
    pub(crate) fn new(messages_max: usize, bytes_max: usize) -> Self {
        Self { by_subject: RwLock::default(), messages_max, bytes_max }
    }

    /// Opens a queue for subscription `number`, unless its subject may have readers elsewhere.
    pub(crate) fn open(&self, subject: Subject, number: u64, lag: Arc<Lag>) -> Option<Exit> {
        if !subject.is_exclusive() {
            return None;
        }
        let (queue, waiting) = mpsc::channel(self.messages_max);
        let bytes = Arc::new(AtomicUsize::new(0));
        let entrance = Entrance { number, queue, bytes: Arc::clone(&bytes), lag };
        let mut by_subject = self.by_subject.write().unwrap_or_else(PoisonError::into_inner);
        by_subject.entry(subject).or_default().push(entrance);
        Some(Exit { queue: waiting, bytes })
    }

    pub(crate) fn close(&self, subject: Subject, number: u64) {
        if !subject.is_exclusive() {
            return;
        }
        let mut by_subject = self.by_subject.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(entrances) = by_subject.get_mut(&subject) {
            entrances.retain(|entrance| entrance.number != number);
            if entrances.is_empty() {
                by_subject.remove(&subject);
            }
        }
    }

    /// Hands a message over; false: nobody here reads that subject, it has to go through the broker.
    pub(crate) fn hand_over(&self, subject: &Subject, payload: &Bytes) -> bool {
        if !subject.is_exclusive() {
            return false;
        }
        let by_subject = self.by_subject.read().unwrap_or_else(PoisonError::into_inner);
        let Some(entrances) = by_subject.get(subject) else { return false };
        for entrance in entrances {
            entrance.put(payload.clone(), self.bytes_max);
        }
        true
    }
}

impl Entrance {
    fn put(&self, payload: Bytes, bytes_max: usize) {
        let size = payload.len();
        let had_room = self.bytes.fetch_add(size, Ordering::Relaxed) + size <= bytes_max;
        if !had_room || self.queue.try_send(payload).is_err() {
            self.bytes.fetch_sub(size, Ordering::Relaxed);
            counter!("event_log_messages_dropped_total", "reason" => "slow_consumer").increment(1);
            self.lag.raise();
        }
    }
}

impl Exit {
    /// Waits for the next message; loses nothing when it is dropped before.
    pub(crate) async fn next(&mut self) -> Bytes {
        match self.queue.recv().await {
            Some(payload) => self.took(payload),
            // Closed only with the subscription that this belongs to.
            None => pending().await,
        }
    }

    /// The next message if one waits.
    pub(crate) fn try_next(&mut self) -> Option<Bytes> {
        self.queue.try_recv().ok().map(|payload| self.took(payload))
    }

    fn took(&self, payload: Bytes) -> Bytes {
        self.bytes.fetch_sub(payload.len(), Ordering::Relaxed);
        payload
    }
}

#[cfg(test)]
mod tests {
    use domain::{GatewayId, Partition};

    use super::*;

    const GATEWAY: Subject = Subject::Answers(GatewayId(7));

    #[test]
    fn what_others_may_read_too_is_not_kept_from_them() {
        let locals = Locals::new(10, 1_000);
        for subject in [Subject::Receipts(Partition(0)), Subject::Written(Partition(0)), Subject::Announcements] {
            assert!(locals.open(subject, 1, Arc::default()).is_none());
            assert!(!locals.hand_over(&subject, &Bytes::from_static(b"x")));
        }
    }

    #[test]
    fn a_queue_takes_up_to_its_bytes_and_goes_on_when_they_are_read() {
        let locals = Locals::new(10, 100);
        let lag = Arc::new(Lag::default());
        let mut exit = locals.open(GATEWAY, 1, Arc::clone(&lag)).unwrap();
        let part = Bytes::from(vec![7; 60]);
        assert!(locals.hand_over(&GATEWAY, &part));
        assert!(!lag.take());
        assert!(locals.hand_over(&GATEWAY, &part));
        assert!(lag.take());
        assert_eq!((exit.try_next(), exit.try_next()), (Some(part.clone()), None));
        assert!(locals.hand_over(&GATEWAY, &part));
        assert_eq!((exit.try_next(), lag.take()), (Some(part), false));
    }

    #[test]
    fn a_closed_queue_leaves_the_subject_to_the_broker() {
        let locals = Locals::new(10, 100);
        let _exit = locals.open(GATEWAY, 1, Arc::default()).unwrap();
        locals.close(GATEWAY, 2);
        assert!(locals.hand_over(&GATEWAY, &Bytes::new()));
        locals.close(GATEWAY, 1);
        assert!(!locals.hand_over(&GATEWAY, &Bytes::new()));
    }
}
