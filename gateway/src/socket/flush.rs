//! The flusher: writes the sockets that somebody pushed to, so that no socket needs a writer task.
//!
//! A push only lists its socket. The flusher runs after the pusher has let go of the worker, so a burst to one
//! socket leaves in one vectored write. Only a socket whose kernel buffer is full gets a task, until it has drained.
//!
//! A write costs more than all else that a frame does here, and its client a wake-up. So a frame that is in no hurry waits
//! for the next one; should none come, the late list is written a moment later.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::connection::Shared;

/// Sockets written before other tasks get the worker.
const WRITES_PER_TURN: usize = 32;

/// How long a frame without hurry waits at most: longer than an append takes, too short to be seen.
const LATE: Duration = Duration::from_millis(20);

/// One list per worker thread, and one of those that are written later.
pub(super) struct Flusher {
    lists: Box<[List]>,
    late: List,
}

#[derive(Default)]
struct List {
    sockets: Mutex<Vec<Arc<Shared>>>,
    listed: Notify,
}

impl Flusher {
    pub(super) fn new(workers: usize) -> Self {
        Self { lists: std::iter::repeat_with(List::default).take(workers.max(1)).collect(), late: List::default() }
    }

    pub(super) const fn workers(&self) -> usize {
        self.lists.len()
    }

    /// Has the socket written soon. Each socket is listed once at a time.
    pub(super) fn list(&self, socket: Arc<Shared>) {
        self.lists[socket.id as usize % self.lists.len()].push(socket);
    }

    /// Has the socket written in a moment, unless it is before. Each socket is listed once at a time.
    pub(super) fn list_late(&self, socket: Arc<Shared>) {
        self.late.push(socket);
    }

    /// Writes the sockets of one list until stopped.
    pub(super) async fn run(&self, worker: usize, stop: CancellationToken) {
        let list = &self.lists[worker];
        let mut turn = Vec::new();
        while stop.run_until_cancelled(list.listed.notified()).await.is_some() {
            list.write(&mut turn, Shared::flush).await;
        }
    }

    /// Writes the late list until stopped.
    pub(super) async fn run_late(&self, stop: CancellationToken) {
        let mut turn = Vec::new();
        let listed = async || {
            self.late.listed.notified().await;
            sleep(LATE).await;
        };
        while stop.run_until_cancelled(listed()).await.is_some() {
            self.late.write(&mut turn, Shared::flush_late).await;
        }
    }
}

impl List {
    fn push(&self, socket: Arc<Shared>) {
        let mut sockets = self.sockets.lock().unwrap_or_else(PoisonError::into_inner);
        sockets.push(socket);
        let first = sockets.len() == 1;
        drop(sockets);
        if first {
            self.listed.notify_one();
        }
    }

    /// Writes what is listed; `turn` is empty before and after, and kept so that lists are not made anew.
    async fn write(&self, turn: &mut Vec<Arc<Shared>>, flush: impl Fn(&Shared) -> bool) {
        std::mem::swap(turn, &mut *self.sockets.lock().unwrap_or_else(PoisonError::into_inner));
        for (count, socket) in turn.drain(..).enumerate() {
            if !flush(&socket) {
                Handle::current().spawn(async move { poll_fn(|cx| socket.poll_flush(cx)).await });
            }
            if count % WRITES_PER_TURN == WRITES_PER_TURN - 1 {
                tokio::task::yield_now().await;
            }
        }
    }
}
