//! Whether the process is ready: its roles run and serve their partitions, the store and the log answer, and it is not on
//! its way out.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use event_log::{Log, Role};
use futures_util::future::try_join_all;
use serde::Serialize;
use store::Store;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// A probe that waits longer is answered with what did not answer.
const ANSWERS_WITHIN: Duration = Duration::from_secs(2);

/// What the roles tell of themselves; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Health {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    is_stopping: AtomicBool,
    roles: Mutex<BTreeMap<&'static str, State>>,
}

#[derive(Clone, Debug)]
enum State {
    Away,
    /// Cancelled once it does its work.
    Runs(CancellationToken),
}

/// A role that runs while this value lives.
#[derive(Debug)]
pub struct RunningRole {
    health: Health,
    role: &'static str,
}

impl RunningRole {
    /// The role's name.
    pub const fn name(&self) -> &'static str {
        self.role
    }
}

impl Drop for RunningRole {
    fn drop(&mut self) {
        self.health.roles().insert(self.role, State::Away);
    }
}

/// One part of the process.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(super) struct Part {
    part: &'static str,
    ready: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
}

/// What `/readyz` says.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(super) struct Readiness {
    pub(super) ready: bool,
    parts: Vec<Part>,
}

impl Health {
    /// Names the roles that are to run; none runs yet.
    pub fn of(roles: &[&'static str]) -> Self {
        let health = Self::default();
        health.roles().extend(roles.iter().map(|role| (*role, State::Away)));
        health
    }

    /// Says that the role runs, until what is returned goes; `begun` is cancelled once it does its work.
    pub fn runs(&self, role: &'static str, begun: CancellationToken) -> RunningRole {
        self.roles().insert(role, State::Runs(begun));
        RunningRole { health: self.clone(), role }
    }

    /// Says that the process is on its way out: nobody is to be sent to it any more.
    pub fn stops(&self) {
        self.inner.is_stopping.store(true, Ordering::Relaxed);
    }

    fn roles(&self) -> MutexGuard<'_, BTreeMap<&'static str, State>> {
        self.inner.roles.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The process itself and its roles.
    fn own_parts(&self) -> Vec<Part> {
        let is_stopping = self.inner.is_stopping.load(Ordering::Relaxed);
        let process = part("process", if is_stopping { Err("it is shutting down".to_owned()) } else { Ok(()) });
        let role = |(role, state): (&&'static str, &State)| {
            let is_ready = match state {
                State::Away => Err("it does not run".to_owned()),
                State::Runs(begun) if !begun.is_cancelled() => Err("it has not begun".to_owned()),
                State::Runs(_) => Ok(()),
            };
            part(role, is_ready)
        };
        std::iter::once(process).chain(self.roles().iter().map(role)).collect()
    }

    pub(super) async fn readiness(&self, store: &Store, log: &Log) -> Readiness {
        let (store, streams) = tokio::join!(store_answers(store), log_answers(log));
        let mut parts = self.own_parts();
        for (role, name) in OWNERS.map(|role| (role, role.name())) {
            for own in parts.iter_mut().filter(|part| part.part == name && part.ready) {
                *own = part(name, serves_all(log, role));
            }
        }
        parts.extend([part("store", store), part("log", streams)]);
        Readiness { ready: parts.iter().all(|part| part.ready), parts }
    }
}

fn part(part: &'static str, is_ready: Result<(), String>) -> Part {
    Part { part, ready: is_ready.is_ok(), why: is_ready.err() }
}

/// Roles that own partitions.
const OWNERS: [Role; 3] = [Role::Ingest, Role::Delivery, Role::Projections];

/// What is this process's to own, whatever others have.
fn serves_all(log: &Log, role: Role) -> Result<(), String> {
    let away = log.unserved(role).ok_or("it does not know yet who works")?;
    match away.first() {
        None => Ok(()),
        Some(first) => Err(format!("partition {first} is not served, nor are {} others", away.len() - 1)),
    }
}

/// Through the writer, but with nothing to write after the first time: an engine that stands still shows.
async fn store_answers(store: &Store) -> Result<(), String> {
    let asked = store.claim_meta("probe", Bytes::new());
    match timeout(ANSWERS_WITHIN, asked).await {
        Ok(Ok(_same)) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_late) => Err(format!("no answer within {ANSWERS_WITHIN:?}")),
    }
}

async fn log_answers(log: &Log) -> Result<(), String> {
    if !log.is_connected() {
        return Err("no connection to the broker".to_owned());
    }
    let streams = try_join_all(log.partitions().map(|partition| log.epoch(partition)));
    match timeout(ANSWERS_WITHIN, streams).await {
        Ok(Ok(_epochs)) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_late) => Err(format!("no answer from the broker within {ANSWERS_WITHIN:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_is_ready_from_its_beginning_to_its_end_and_the_process_until_it_stops() {
        let health = Health::of(&["gateway"]);
        let not_ready = || health.own_parts().into_iter().filter(|part| !part.ready).map(|part| part.part);
        assert!(not_ready().eq(["gateway"]));
        let begun = CancellationToken::new();
        let running = health.runs("gateway", begun.clone());
        assert!(not_ready().eq(["gateway"]));
        begun.cancel();
        assert!(not_ready().next().is_none());
        health.stops();
        assert!(not_ready().eq(["process"]));
        drop(running);
        assert!(not_ready().eq(["process", "gateway"]));
    }
}
