//! Turns at conditional writes: those of one row from this process go one after the other.
//!
//! Two at once cost each other rounds among the replicas, and one of them its try. Between processes the cluster decides.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::OwnedMutexGuard;

type Key = (&'static str, Box<[u8]>);
type Row = Arc<tokio::sync::Mutex<()>>;

/// Who writes to which row.
#[derive(Debug, Default)]
pub(super) struct Turns {
    rows: Mutex<HashMap<Key, (Row, usize)>>,
}

/// A place in the line of one row; the row is free when it goes.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    turns: &'a Turns,
    key: Key,
    held: Option<OwnedMutexGuard<()>>,
}

impl Turns {
    /// Waits until nobody else of this process writes to the row.
    pub(super) async fn take(&self, table: &'static str, key: &[u8]) -> Turn<'_> {
        let key: Key = (table, key.into());
        let row = {
            let mut rows = self.lock();
            let (row, count) = rows.entry(key.clone()).or_default();
            *count += 1;
            Arc::clone(row)
        };
        // Counted from here on, also if the wait is given up.
        let mut turn = Turn { turns: self, key, held: None };
        turn.held = Some(row.lock_owned().await);
        turn
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, (Row, usize)>> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.held = None;
        let mut rows = self.turns.lock();
        if let Some((_, count)) = rows.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                rows.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_row_is_one_at_a_time_and_forgotten_after() {
        let turns = Turns::default();
        let first = turns.take("t", b"a").await;
        let _other = turns.take("t", b"b").await;
        let mut second = Box::pin(turns.take("t", b"a"));
        assert!(futures_util::poll!(&mut second).is_pending());
        drop(first);
        let second = second.await;
        let mut given_up = Box::pin(turns.take("t", b"a"));
        assert!(futures_util::poll!(&mut given_up).is_pending());
        drop(given_up);
        drop(second);
        assert_eq!(turns.lock().len(), 1, "only the other row is held");
    }
}
