//! The flusher: writes the sockets that somebody pushed to, so that no socket needs a writer task.
//!
//! A push only lists its socket. The flusher runs after the pusher has let go of the worker, so a burst to one
//! socket leaves in one vectored write. Only a socket whose kernel buffer is full gets a task, until it has drained.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::connection::Shared;

/// Sockets written before other tasks get the worker.
const WRITES_PER_TURN: usize = 32;

/// One list per worker thread.
pub(super) struct Flusher {
    lists: Box<[List]>,
}

#[derive(Default)]
struct List {
    sockets: Mutex<Vec<Arc<Shared>>>,
    listed: Notify,
}

impl Flusher {
    pub(super) fn new(workers: usize) -> Self {
        Self { lists: std::iter::repeat_with(List::default).take(workers.max(1)).collect() }
    }

    pub(super) const fn workers(&self) -> usize {
        self.lists.len()
    }

    /// Has the socket written soon. Each socket is listed once at a time.
    pub(super) fn list(&self, socket: Arc<Shared>) {
        let list = &self.lists[socket.id as usize % self.lists.len()];
        let mut sockets = list.sockets.lock().unwrap_or_else(PoisonError::into_inner);
        sockets.push(socket);
        let first = sockets.len() == 1;
        drop(sockets);
        if first {
            list.listed.notify_one();
        }
    }

    /// Writes the sockets of one list until stopped.
    pub(super) async fn run(&self, worker: usize, stop: CancellationToken) {
        let list = &self.lists[worker];
        let mut turn = Vec::new();
        while stop.run_until_cancelled(list.listed.notified()).await.is_some() {
            std::mem::swap(&mut turn, &mut *list.sockets.lock().unwrap_or_else(PoisonError::into_inner));
            for (count, socket) in turn.drain(..).enumerate() {
                if !socket.flush() {
                    Handle::current().spawn(async move { poll_fn(|cx| socket.poll_flush(cx)).await });
                }
                if count % WRITES_PER_TURN == WRITES_PER_TURN - 1 {
                    tokio::task::yield_now().await;
                }
            }
        }
    }
}
