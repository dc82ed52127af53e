//! What all sockets of one acceptor share: settings, clock, flusher, wheel and the count of running tasks.
//!
//! The wheel is also the register of open sockets: each stands in it once, from its upgrade to its end.

use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::close::CloseCode;
use super::config::Config;
use super::connection::Shared;
use super::flush::Flusher;
use super::heartbeat::Wheel;
use super::room::Room;
use super::tls::Tls;
use crate::limits::{Addresses, Admissions};

pub(super) struct Edge {
    pub(super) config: Config,
    pub(super) tls: Option<Arc<Tls>>,
    pub(super) flusher: Flusher,
    pub(super) tasks: TaskTracker,
    pub(super) addresses: Arc<Addresses>,
    pub(super) admissions: Admissions,
    /// Connections on their way to a socket; the token ends one.
    pub(super) handshakes: Arc<Room<CancellationToken>>,
    /// Sockets that are not authenticated.
    pub(super) unauthenticated: Arc<Room<Arc<Shared>>>,
    runtime: Handle,
    started: Instant,
    ids: AtomicU64,
    wheel: Mutex<Wheel<Watched>>,
    /// Set when the last sockets are closed: one that turns up later is closed at once.
    closing_all: AtomicBool,
}

/// A socket on the wheel.
enum Watched {
    /// Stands there as long as it is open.
    Open { socket: Arc<Shared>, next_ping_ms: u64 },
    /// Looked at once more, before it would come up again: within one heartbeat.
    Expiring(Arc<Shared>),
}

impl Edge {
    pub(super) fn new(config: Config, tls: Option<Arc<Tls>>) -> Self {
        let runtime = Handle::current();
        Self {
            tls,
            wheel: Mutex::new(Wheel::new(&config)),
            flusher: Flusher::new(runtime.metrics().num_workers()),
            tasks: TaskTracker::new(),
            admissions: Admissions::new(config.admissions),
            addresses: Arc::new(Addresses::new(config.limits.clone())),
            handshakes: Room::new(config.max_handshakes),
            unauthenticated: Room::new(config.max_unauthenticated),
            runtime,
            started: Instant::now(),
            ids: AtomicU64::new(1),
            closing_all: AtomicBool::new(false),
            config,
        }
    }

    pub(super) fn now_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    pub(super) fn next_id(&self) -> u64 {
        self.ids.fetch_add(1, Ordering::Relaxed)
    }

    /// Runs a task that the shutdown waits for.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn_on(task, &self.runtime);
    }

    /// Puts a new socket on the wheel. Its first ping comes after a random part of the interval, so that
    /// sockets which came together are not pinged together.
    pub(super) fn watch(&self, socket: &Arc<Shared>) {
        let now_ms = self.now_ms();
        let next_ping_ms = now_ms + rand::random_range(0..=self.config.heartbeat_interval_ms);
        let due_ms = next_ping_ms.min(now_ms + self.config.authenticate_timeout_ms);
        self.rewatch(Arc::clone(socket), next_ping_ms, due_ms);
    }

    /// Looks at an open socket at this time too.
    pub(super) fn look_at(&self, socket: &Arc<Shared>, due_ms: u64) {
        self.wheel().insert(due_ms, Watched::Expiring(Arc::clone(socket)));
    }

    fn rewatch(&self, socket: Arc<Shared>, next_ping_ms: u64, due_ms: u64) {
        let mut wheel = self.wheel();
        // Asked under the wheel's lock: the last sweep either sees the flag's effect here or the entry.
        if self.closing_all.load(Ordering::Acquire) {
            drop(wheel);
            socket.close(CloseCode::Draining);
        } else {
            wheel.insert(due_ms, Watched::Open { socket, next_ping_ms });
        }
    }

    /// Turns the wheel until stopped.
    pub(super) async fn turn_wheel(&self, stop: CancellationToken) {
        let mut ticks = interval(Duration::from_millis(self.wheel().tick_ms()));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            let now_ms = self.now_ms();
            let due = self.wheel().advance(now_ms);
            for watched in due {
                match watched {
                    Watched::Open { socket, next_ping_ms } => {
                        if let Some((next_ping_ms, due_ms)) = socket.beat(now_ms, next_ping_ms) {
                            self.rewatch(socket, next_ping_ms, due_ms);
                        }
                    }
                    Watched::Expiring(socket) => socket.look(now_ms),
                }
            }
        }
    }

    /// The sockets that are open now.
    pub(super) fn open_sockets(&self) -> Vec<Arc<Shared>> {
        let wheel = self.wheel();
        let watched = wheel.entries().filter_map(|watched| match watched {
            Watched::Open { socket, .. } => Some(socket),
            Watched::Expiring(_) => None,
        });
        watched.filter(|socket| socket.is_open()).cloned().collect()
    }

    /// Closes every socket, also those that are just being opened.
    pub(super) fn close_all(&self, code: CloseCode) {
        self.closing_all.store(true, Ordering::Release);
        for socket in self.open_sockets() {
            socket.close(code);
        }
    }

    /// Forgets all sockets: wheel and sockets would else hold each other.
    pub(super) fn forget_all(&self) {
        self.wheel().clear();
    }

    fn wheel(&self) -> MutexGuard<'_, Wheel<Watched>> {
        self.wheel.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
