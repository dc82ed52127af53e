//! Keeps a worker's view of its role: puts its signs of life, follows the bucket, starts anew where that stands still.

use std::sync::{Arc, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_nats::jetstream::kv::{Entry as Found, Store, Watch};
use bytes::Bytes;
use futures_util::StreamExt as _;
use metrics::counter;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::entry::{self, Beat, Entry, Holder};
use super::machine::Input;
use super::{SAID_WITHIN, Shared};
use crate::publish::{Attempt, Mark};
use crate::tenure::Role;
use crate::{Error, Log, streams};

/// Without a name it is the only process of its log.
const ALONE: &str = "alone";
/// Between two signs of life.
const BEAT_EVERY: Duration = Duration::from_millis(500);
/// A watch that shows none of our own signs of life for so long stands still.
const SILENT_AFTER: Duration = Duration::from_secs(5);
/// Between two tries to follow.
const AGAIN_AFTER: Duration = Duration::from_millis(200);

/// Who this worker is: a later run has a higher incarnation, whatever became of the clock.
///
/// Waits for a broker that is away, as everything behind it would, but no longer than until `shutdown`.
pub(super) async fn introduce(log: &Log, role: Role, shutdown: &CancellationToken) -> Result<Holder, Error> {
    let worker = log.config().worker.clone().unwrap_or_else(|| ALONE.to_owned());
    loop {
        let error = match try_introduce(log, role, worker.clone()).await {
            Err(error) if error.is_passing() => error,
            introduced => return introduced,
        };
        tracing::debug!(role = role.name(), %error, "cannot say who works");
        tokio::select! {
            () = sleep(AGAIN_AFTER) => {}
            // It takes nothing any more, so nobody will compare it.
            () = shutdown.cancelled() => return Ok(Holder { worker, incarnation: 0 }),
        }
    }
}

async fn try_introduce(log: &Log, role: Role, worker: String) -> Result<Holder, Error> {
    let bucket = bucket(log).await?;
    let key = entry::worker_key(role, &worker);
    let found = bucket.entry(&key).await.map_err(|error| Error::broker(format!("read {key}"), error))?;
    let before = found.and_then(|found| match read(role, &found) {
        Some(Entry::Worker { beat, .. }) => beat.map(|beat: Beat| beat.incarnation),
        Some(Entry::Holder { .. } | Entry::Order { .. }) | None => None,
    });
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
    let now = u64::try_from(now).unwrap_or(u64::MAX);
    Ok(Holder { worker, incarnation: now.max(before.unwrap_or_default().saturating_add(1)) })
}

async fn bucket(log: &Log) -> Result<Store, Error> {
    let name = log.names().tenures();
    log.context().get_key_value(&name).await.map_err(|error| Error::broker(format!("open bucket {name}"), error))
}

fn read(role: Role, found: &Found) -> Option<Entry> {
    let entry = Entry::parse(role, &found.key, found.operation, &found.value);
    if entry.is_none() {
        counter!("event_log_leases_unreadable_total").increment(1);
        tracing::debug!(key = found.key, "cannot be read");
    }
    entry
}

/// Follows for as long as it is polled.
pub(super) async fn follow(shared: Arc<Shared>, alone: bool) {
    loop {
        if let Err(error) = follow_once(&shared, alone).await {
            tracing::debug!(role = shared.role.name(), %error, "cannot follow who works");
        }
        sleep(AGAIN_AFTER).await;
    }
}

/// Returns where it cannot go on; all that is there is seen again then.
async fn follow_once(shared: &Shared, alone: bool) -> Result<(), Error> {
    // Put first: what comes before it in the watch is all that was there.
    let met = beat(shared).await;
    let Attempt::Stored(_) = met else {
        // Gone with its stream, perhaps.
        streams::tenures(shared.log.context(), shared.log.config(), shared.log.names()).await?;
        return Err(Error::broker("say that a worker lives", format!("{met:?}")));
    };
    let bucket = bucket(&shared.log).await?;
    let what = |error: &dyn ToString| Error::broker("follow who works", error.to_string());
    let mut watch: Watch =
        bucket.watch_many_with_history(entry::keys(shared.role)).await.map_err(|error| what(&error))?;
    let mut beats = interval(BEAT_EVERY);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut silent = Box::pin(sleep_until(Instant::now() + SILENT_AFTER));
    let mut said = None;
    loop {
        tokio::select! {
            found = watch.next() => {
                let found = found.ok_or_else(|| what(&"it ended"))?.map_err(|error| what(&error))?;
                let Some(entry) = read(shared.role, &found) else { continue };
                let is_ours = matches!(&entry, Entry::Worker { name, .. } if *name == shared.machine().me().worker);
                if is_ours {
                    silent.as_mut().reset(Instant::now() + SILENT_AFTER);
                }
                shared.handle(Input::Entry { revision: found.revision, entry });
            }
            // One at a time: late ones say no more than the next.
            _ = beats.tick(), if !alone && said.is_none() => said = Some(Box::pin(beat(shared))),
            Some(met) = async { Some(said.as_mut()?.await) }, if said.is_some() => {
                said = None;
                if !matches!(met, Attempt::Stored(_)) {
                    return Err(what(&format!("{met:?}")));
                }
            }
            () = &mut silent, if !alone => return Err(what(&"nothing is heard")),
            () = shared.to_forget.notified() => forget(shared).await,
            () = shared.shutdown.cancelled(), if !shared.machine().beat().leaving => {
                shared.handle(Input::Leave);
                said = (!alone).then(|| Box::pin(beat(shared)));
            }
        }
    }
}

async fn beat(shared: &Shared) -> Attempt {
    let (key, value) = {
        let machine = shared.machine();
        (entry::worker_key(shared.role, &machine.me().worker), entry::value(&machine.beat()))
    };
    shared.put(&key, value, Mark::None).await
}

async fn forget(shared: &Shared) {
    let forgotten = std::mem::take(&mut *shared.forgotten.lock().unwrap_or_else(PoisonError::into_inner));
    for (worker, revision) in forgotten {
        let key = entry::worker_key(shared.role, &worker);
        let removing = shared.put(&key, Bytes::new(), Mark::Delete(Some(revision)));
        if timeout(SAID_WITHIN, removing).await.is_err() {
            tracing::debug!(worker, "not forgotten yet");
        }
    }
}
