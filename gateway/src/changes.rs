//! Sessions that began or ended and are not announced yet.
//!
//! One entry a session, and one that came and went between two announcements leaves none: so no more than twice as
//! many wait as there may be sockets (N9), however long announcing takes.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::{Mutex, PoisonError};

use domain::{SessionId, UserId};
use tokio::sync::Notify;

/// What became of a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Change {
    Up(UserId),
    Down,
}

/// What waits to be announced.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    waiting: Mutex<BTreeMap<SessionId, Change>>,
    arrived: Notify,
}

impl Changes {
    pub(crate) fn up(&self, session: SessionId, user: UserId) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.insert(session, Change::Up(user));
        drop(waiting);
        self.arrived.notify_one();
    }

    pub(crate) fn down(&self, session: SessionId) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        match waiting.entry(session) {
            // Nobody was told that it began.
            Entry::Occupied(up) => {
                up.remove();
            }
            Entry::Vacant(none) => {
                none.insert(Change::Down);
            }
        }
        drop(waiting);
        self.arrived.notify_one();
    }

    /// Takes all that waits, once something does. Dropping the future loses nothing.
    pub(crate) async fn taken(&self) -> BTreeMap<SessionId, Change> {
        loop {
            let taken = std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
            if !taken.is_empty() {
                return taken;
            }
            self.arrived.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_session_that_came_and_went_leaves_nothing_to_announce() {
        let (changes, user) = (Changes::default(), UserId::new([1; 16]));
        for n in 0..10_000 {
            changes.up(SessionId(n), user);
            changes.down(SessionId(n));
        }
        changes.up(SessionId(20_000), user);
        changes.down(SessionId(20_001));
        let expected = [(SessionId(20_000), Change::Up(user)), (SessionId(20_001), Change::Down)];
        assert_eq!(changes.taken().await, BTreeMap::from(expected));
    }
}
