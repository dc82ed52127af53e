//! Hands command records to the partition's owner in this process, beside COMMANDS-p.
//!
//! Of the two records that a command costs the broker this spares the first. The owner decides what it is handed as it
//! decides what it reads, and says that it was taken once the events stand in EVENTS-p. Until then nobody was promised
//! anything: a record that the owner does not take, or takes and loses, goes into COMMANDS-p, and the fold knows repeats.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use domain::TenureId;
use tokio::sync::{mpsc, oneshot};

/// Records that wait for the owner; a gateway has one under way for each partition.
const WAITING_MAX: usize = 16;

/// A command record that a gateway of this process hands over.
#[derive(Debug)]
pub struct Handed {
    /// As it would stand in COMMANDS-p.
    pub payload: Bytes,
    /// The gateway's last record in COMMANDS-p: this one must not be decided before it.
    pub after: u64,
    taken: oneshot::Sender<()>,
}

impl Handed {
    /// Its events stand in EVENTS-p. Dropped without this, it goes into COMMANDS-p.
    pub fn taken(self) {
        // A gateway that waits no longer has published it.
        let _ = self.taken.send(());
    }
}

/// Where gateways find the partition's owner, if it is in this process.
#[derive(Debug, Default)]
pub(crate) struct Entrance {
    owner: Mutex<Option<(TenureId, mpsc::Sender<Handed>)>>,
}

/// The owner's end; gone with it.
#[derive(Debug)]
pub struct Inlet {
    owner: TenureId,
    entrance: Arc<Entrance>,
    records: mpsc::Receiver<Handed>,
}

impl Entrance {
    /// Opens it for this owner, in the place of an earlier one.
    pub(crate) fn open(entrance: &Arc<Self>, owner: TenureId) -> Inlet {
        let (sender, records) = mpsc::channel(WAITING_MAX);
        *entrance.lock() = Some((owner, sender));
        Inlet { owner, entrance: Arc::clone(entrance), records }
    }

    /// Hands a record over; none: no owner here has room for it. The receiver fails if it is not taken after all.
    pub(crate) fn hand_over(&self, payload: Bytes, after: u64) -> Option<oneshot::Receiver<()>> {
        let (taken, told) = oneshot::channel();
        let owner = self.lock();
        let (_, sender) = owner.as_ref()?;
        sender.try_send(Handed { payload, after, taken }).ok()?;
        Some(told)
    }

    fn lock(&self) -> MutexGuard<'_, Option<(TenureId, mpsc::Sender<Handed>)>> {
        self.owner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inlet {
    /// Waits for records and returns all that wait; loses nothing when it is dropped before.
    pub async fn next(&mut self) -> Vec<Handed> {
        let mut waiting = Vec::new();
        if self.records.recv_many(&mut waiting, WAITING_MAX).await == 0 {
            // A later owner of this process has the entrance.
            std::future::pending::<()>().await;
        }
        waiting
    }
}

impl Drop for Inlet {
    fn drop(&mut self) {
        let mut owner = self.entrance.lock();
        if owner.as_ref().is_some_and(|(owner, _)| *owner == self.owner) {
            *owner = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Bytes {
        Bytes::from_static(b"record")
    }

    #[tokio::test]
    async fn what_is_taken_is_told_and_what_is_dropped_too() {
        let entrance = Arc::new(Entrance::default());
        let mut inlet = Entrance::open(&entrance, TenureId(1));
        let (one, two) = (entrance.hand_over(record(), 7).unwrap(), entrance.hand_over(record(), 8).unwrap());
        let mut records = inlet.next().await.into_iter();
        let first = records.next().unwrap();
        assert_eq!((&first.payload, first.after), (&record(), 7));
        first.taken();
        drop(records);
        assert_eq!((one.await.is_ok(), two.await.is_ok()), (true, false));
    }

    #[tokio::test]
    async fn without_an_owner_or_room_nothing_is_handed_over() {
        let entrance = Arc::new(Entrance::default());
        assert!(entrance.hand_over(record(), 0).is_none());
        let inlet = Entrance::open(&entrance, TenureId(1));
        let told: Vec<_> = (0..WAITING_MAX).map(|_| entrance.hand_over(record(), 0).unwrap()).collect();
        assert!(entrance.hand_over(record(), 0).is_none());
        drop(inlet);
        assert!(entrance.hand_over(record(), 0).is_none());
        for told in told {
            told.await.unwrap_err();
        }
    }

    #[test]
    fn an_earlier_owner_that_goes_leaves_the_entrance_to_the_later_one() {
        let entrance = Arc::new(Entrance::default());
        let earlier = Entrance::open(&entrance, TenureId(1));
        let _later = Entrance::open(&entrance, TenureId(2));
        drop(earlier);
        assert!(entrance.hand_over(record(), 0).is_some());
    }
}
