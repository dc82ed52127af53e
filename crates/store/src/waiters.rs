//! Readers that wait for a row which is not stored yet.
//!
//! A waiter stands here before it looks, so no append falls between its look and its wait.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use domain::ChatId;
use tokio::sync::Notify;

use crate::{Error, WAITING_MAX};

#[derive(Debug, Default)]
struct Waited {
    chats: HashMap<ChatId, (Arc<Notify>, usize)>,
    readers: usize,
}

/// Who waits, by chat.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    waited: Mutex<Waited>,
}

/// One reader's place; gives it up when it goes.
#[derive(Debug)]
pub(crate) struct Place<'a> {
    waiters: &'a Waiters,
    chat: ChatId,
    pub(crate) appended: Arc<Notify>,
}

impl Waiters {
    /// Takes a place among those who wait for the chat, or refuses at the bound (N9).
    pub(crate) fn enter(&self, chat: ChatId) -> Result<Place<'_>, Error> {
        let mut waited = self.lock();
        if waited.readers >= WAITING_MAX {
            metrics::counter!("store_waiting_refused_total").increment(1);
            return Err(Error::Busy);
        }
        waited.readers += 1;
        let (appended, readers) = waited.chats.entry(chat).or_default();
        *readers += 1;
        let appended = Arc::clone(appended);
        Ok(Place { waiters: self, chat, appended })
    }

    /// Wakes those who wait for one of these chats.
    pub(crate) fn wake(&self, chats: impl IntoIterator<Item = ChatId>) {
        let waited = self.lock();
        if waited.readers == 0 {
            return;
        }
        for chat in chats {
            if let Some((appended, _)) = waited.chats.get(&chat) {
                appended.notify_waiters();
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waited> {
        self.waited.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut waited = self.waiters.lock();
        waited.readers -= 1;
        if let Some((_, readers)) = waited.chats.get_mut(&self.chat) {
            *readers -= 1;
            if *readers == 0 {
                waited.chats.remove(&self.chat);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use domain::Partition;

    use super::*;

    #[test]
    fn places_are_bounded_and_given_back() {
        let waiters = Waiters::default();
        let chat = ChatId::draw(Partition(1), 1, 1);
        let places: Vec<_> = (0..WAITING_MAX).map(|_| waiters.enter(chat).unwrap()).collect();
        assert!(matches!(waiters.enter(chat), Err(Error::Busy)));
        drop(places);
        assert!(waiters.enter(chat).is_ok());
        assert!(waiters.lock().chats.is_empty());
    }
}
