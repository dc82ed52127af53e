//! The porch: where connections wait and are opened, on threads that stand behind all others of the machine.
//!
//! Accepting a connection, TLS and the upgrade cost more than anything that a stranger may do afterwards, and strangers
//! come as often as they like. So this is done where nobody who is in loses a core to it. On a machine whose every core is
//! busy the porch would get next to nothing: then connections are taken inside, on the threads of all sockets, until the
//! porch moves again.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

/// How often the porch shows that it moves: what a connection may wait for is a few of them.
const BEAT: Duration = Duration::from_millis(50);
/// Without a beat for so long it starves.
const STARVED_AFTER: Duration = Duration::from_millis(150);
/// Then connections are taken inside for so long, before it is looked at again.
const INSIDE_FOR: Duration = Duration::from_secs(1);

/// Threads of their own, with what runs on them.
#[derive(Debug)]
pub(super) struct Porch {
    /// None once it is shut down.
    runtime: Option<Runtime>,
    started: Instant,
    beat_ms: Arc<AtomicU64>,
}

impl Porch {
    /// One of so many threads.
    pub(super) fn new(threads: usize) -> io::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(threads)
            .thread_name("porch")
            .on_thread_start(background::stand_behind)
            .enable_all()
            .build()?;
        let (started, beat_ms) = (Instant::now(), Arc::new(AtomicU64::new(0)));
        let beat = Arc::clone(&beat_ms);
        runtime.spawn(async move {
            let mut beats = interval(BEAT);
            beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                beats.tick().await;
                beat.store(since(started), Ordering::Relaxed);
            }
        });
        Ok(Self { runtime: Some(runtime), started, beat_ms })
    }

    /// Where tasks are put that run on the porch.
    pub(super) fn handle(&self) -> Handle {
        self.runtime.as_ref().map_or_else(Handle::current, |runtime| runtime.handle().clone())
    }

    /// Takes connections inside while the porch starves, until stopped.
    pub(super) async fn take_in<T: Future<Output = ()>>(
        &self,
        listener: &std::net::TcpListener,
        stop: &CancellationToken,
        accept: impl Fn(TcpListener) -> T,
    ) {
        let mut looks = interval(BEAT);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while stop.run_until_cancelled(looks.tick()).await.is_some() {
            let silent = since(self.started).saturating_sub(self.beat_ms.load(Ordering::Relaxed));
            if silent < STARVED_AFTER.as_millis() as u64 {
                continue;
            }
            metrics::counter!("gateway_porch_starved_total").increment(1);
            match here(listener) {
                Ok(listener) => {
                    let _over = stop.run_until_cancelled(timeout(INSIDE_FOR, accept(listener))).await;
                }
                Err(error) => tracing::warn!(%error, "connections cannot be taken inside"),
            }
        }
    }
}

impl Drop for Porch {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // It may be dropped where waiting is not allowed.
            runtime.shutdown_background();
        }
    }
}

/// The listener for the runtime that asks.
pub(super) fn here(listener: &std::net::TcpListener) -> io::Result<TcpListener> {
    TcpListener::from_std(listener.try_clone()?)
}

fn since(started: Instant) -> u64 {
    started.elapsed().as_millis() as u64
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;
    use std::sync::mpsc;

    use tokio::sync::oneshot;

    use super::*;

    /// How many of one who connects were taken inside within this time.
    async fn taken_inside(porch: &Porch, within: Duration) -> u64 {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (stop, taken) = (CancellationToken::new(), AtomicU64::new(0));
        let accept = async |listener: TcpListener| {
            let _accepted = listener.accept().await.unwrap();
            taken.fetch_add(1, Ordering::Relaxed);
            stop.cancel();
        };
        let _over = timeout(within, porch.take_in(&listener, &stop, accept)).await;
        taken.into_inner()
    }

    #[tokio::test]
    async fn connections_are_taken_inside_while_the_porch_does_not_move_and_only_then() {
        let porch = Porch::new(1).unwrap();
        // As if its thread got no core.
        let (is_stuck, stuck) = oneshot::channel();
        let (go_on, held) = mpsc::channel::<()>();
        let task = porch.handle().spawn(async move {
            is_stuck.send(()).unwrap();
            held.recv()
        });
        stuck.await.unwrap();
        porch.beat_ms.store(u64::MAX, Ordering::Relaxed);
        assert_eq!(taken_inside(&porch, STARVED_AFTER * 3).await, 0, "it has just moved");
        porch.beat_ms.store(0, Ordering::Relaxed);
        assert_eq!(taken_inside(&porch, Duration::from_secs(30)).await, 1);
        go_on.send(()).unwrap();
        task.await.unwrap().unwrap();
    }
}
