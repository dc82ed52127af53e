//! Room for newcomers: so many at a time, and none of them may keep it from the next ones by doing nothing.
//!
//! When it is full, a newcomer takes the place of the one that has been in it longest, provided that this one has had
//! the time that anyone needs who means to go on. Else there are simply too many, and the newcomer is refused: sending
//! away those who are nearly through would let nobody through.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How long a place is safe. A handshake or an authentication takes a few round trips.
const SAFE_MS: u64 = 1_000;

/// Room for a bounded number of newcomers.
pub(super) struct Room<T> {
    most: usize,
    inside: Mutex<Inside<T>>,
}

struct Inside<T> {
    /// In the order in which they came: by a number that only grows.
    places: BTreeMap<u64, (u64, T)>,
    next: u64,
}

impl<T> Room<T> {
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, inside: Mutex::new(Inside { places: BTreeMap::new(), next: 0 }) })
    }

    /// A place, and who has to leave for it; none if all the others are too fresh.
    pub(super) fn enter(self: &Arc<Self>, now_ms: u64, newcomer: T) -> Option<(Place<T>, Option<T>)> {
        let mut inside = self.inside();
        let mut leaves = None;
        if inside.places.len() >= self.most {
            let oldest = inside.places.first_entry()?;
            if now_ms.saturating_sub(oldest.get().0) < SAFE_MS {
                return None;
            }
            leaves = Some(oldest.remove().1);
        }
        let number = inside.next;
        inside.next += 1;
        inside.places.insert(number, (now_ms, newcomer));
        drop(inside);
        Some((Place { room: Arc::clone(self), number }, leaves))
    }

    fn inside(&self) -> MutexGuard<'_, Inside<T>> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One place in the room, free again when dropped.
pub(super) struct Place<T> {
    room: Arc<Room<T>>,
    number: u64,
}

impl<T> fmt::Debug for Place<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Place").field(&self.number).finish()
    }
}

impl<T> Drop for Place<T> {
    fn drop(&mut self) {
        // What is taken out is dropped after the lock is given back: it may be a socket.
        let _gone = self.room.inside().places.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_leaves_makes_room() {
        let room = Room::new(2);
        let (first, _) = room.enter(0, 'a').unwrap();
        let _second = room.enter(0, 'b').unwrap();
        assert!(room.enter(0, 'c').is_none());
        drop(first);
        assert!(room.enter(0, 'd').is_some_and(|(_, leaves)| leaves.is_none()));
    }

    #[test]
    fn the_oldest_gives_way_but_not_before_its_time() {
        let room = Room::new(2);
        let (first, _) = room.enter(0, 'a').unwrap();
        let (_second, _) = room.enter(500, 'b').unwrap();
        assert!(room.enter(999, 'c').is_none());
        let (_third, leaves) = room.enter(1_000, 'd').unwrap();
        assert_eq!(leaves, Some('a'));
        // Its own leaving takes nobody else's place.
        drop(first);
        assert!(room.enter(1_000, 'e').is_none());
        assert_eq!(room.enter(1_500, 'f').unwrap().1, Some('b'));
    }
}
