//! What the caller takes, in order: nothing in it is lost, and what was not taken is not counted as known.

use std::sync::Arc;

use crate::client::Desk;
use crate::machine::Event;

/// The events of a client, in order. Dropped, they are no longer kept.
///
/// What [`Events::next`] returned counts as taken in [`Client::state`](crate::Client::state): be done with an event
/// before the state is kept.
#[derive(Debug)]
pub struct Events(pub(crate) Arc<Desk>);

impl Events {
    /// The next event; none once the client has ended and all were taken. May be dropped while it waits.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            let told = self.0.told.notified();
            match self.take() {
                Ok(event) => return Some(event),
                Err(ended) if ended => return None,
                Err(_waits) => told.await,
            }
        }
    }

    /// An event that waits already.
    pub fn try_next(&mut self) -> Option<Event> {
        self.take().ok()
    }

    /// The first that waits, or whether there will be none.
    fn take(&self) -> Result<Event, bool> {
        let mut shared = self.0.lock();
        let event = shared.events.pop_front().ok_or(shared.ended)?;
        if shared.events.len() < self.0.options.events.max(1) {
            self.0.room.notify_one();
        }
        Ok(event)
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.0.lock().stop_listening();
        self.0.room.notify_one();
    }
}
