//! Spreads a role's partitions over the workers that there are.
//!
//! A worker is a process's part in one role. It says twice a second that it lives, follows what the others say, and holds
//! its share of the partitions; all is in the bucket of tenures. Who ends in order lets go of each partition as it is done
//! with it; who is gone is noticed within three seconds. Leases spread work; safety rests on the fence alone (N6).
//!
//! ```text
//! bucket ─▶ follow ─▶ machine: who is there → shares: who should have what ─▶ Lease::granted ─▶ Grant::acquire ─▶ Tenure
//!                                                                             Grant::recalled ─▶ Grant::release
//! ```

pub(crate) mod entry;
mod follow;
mod machine;
mod shares;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use domain::Partition;
use metrics::{counter, gauge};
use tokio::sync::{Notify, watch};
use tokio::task::{JoinError, JoinHandle, JoinSet};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

pub(crate) use entry::Holder;
pub use entry::Order;
use machine::{Action, Input, Machine};

use crate::publish::{Attempt, Mark, attempt};
use crate::tenure::Role;
use crate::{Error, Log, Tenure};

/// How long an orderly end waits for the broker to hear of it; the others notice by themselves what it does not.
const SAID_WITHIN: Duration = Duration::from_secs(1);

/// A worker's part in one role, for as long as it lives.
#[derive(Debug)]
pub struct Leases {
    shared: Arc<Shared>,
    following: JoinHandle<()>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    log: Log,
    role: Role,
    machine: Mutex<Machine>,
    /// What is granted of each partition; cancelled: it is to be given back.
    grants: BTreeMap<Partition, watch::Sender<Option<CancellationToken>>>,
    shutdown: CancellationToken,
    superseded: CancellationToken,
    /// Workers whose entries are to be removed, with the revisions that were seen.
    forgotten: Mutex<Vec<(String, u64)>>,
    to_forget: Notify,
}

impl Leases {
    /// Takes part in a role until `shutdown`; the worker's name is the log's. Waits for a broker that is away.
    ///
    /// # Errors
    /// What does not pass by itself.
    pub(crate) async fn join(log: &Log, role: Role, shutdown: CancellationToken) -> Result<Self, Error> {
        let me = follow::introduce(log, role, &shutdown).await?;
        let alone = log.config().worker.is_none();
        let shared = Arc::new(Shared {
            log: log.clone(),
            role,
            machine: Mutex::new(Machine::new(me, alone, log.config().partitions)),
            grants: log.partitions().map(|partition| (partition, watch::Sender::new(None))).collect(),
            shutdown,
            superseded: CancellationToken::new(),
            forgotten: Mutex::default(),
            to_forget: Notify::new(),
        });
        log.takes_part(role, Arc::downgrade(&shared));
        let following = tokio::spawn(follow::follow(Arc::clone(&shared), alone));
        Ok(Self { shared, following })
    }

    /// Runs one task for each partition of the log, which owns it whenever it is this worker's, until shut down.
    ///
    /// `ended` is told how each task ended; what it returns as an error ends all of them.
    ///
    /// # Errors
    /// That one; or a later run of the same worker is there.
    pub async fn each<F, E>(
        self,
        own: impl Fn(Lease) -> F,
        mut ended: impl FnMut(Partition, Result<Result<(), E>, JoinError>) -> Result<(), E>,
    ) -> Result<(), E>
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: From<Error> + Send + 'static,
    {
        let (mut running, mut partitions) = (JoinSet::new(), HashMap::new());
        for partition in self.shared.log.partitions() {
            let task = running.spawn(own(self.lease(partition)));
            partitions.insert(task.id(), partition);
        }
        let Shared { superseded, shutdown, .. } = &*self.shared;
        loop {
            let joined = tokio::select! {
                Some(joined) = running.join_next_with_id() => joined,
                () = superseded.cancelled() => return Err(Error::Superseded.into()),
                () = shutdown.cancelled(), if running.is_empty() => break,
            };
            let (task, result) = match joined {
                Ok((task, result)) => (task, Ok(result)),
                Err(error) => (error.id(), Err(error)),
            };
            if let Some(partition) = partitions.remove(&task) {
                ended(partition, result)?;
            }
        }
        self.leave().await;
        Ok(())
    }

    /// What a partition's task holds for as long as it runs.
    pub fn lease(&self, partition: Partition) -> Lease {
        Lease { shared: Arc::clone(&self.shared), partition }
    }

    /// Says that the worker is gone, once all its partitions are given back.
    async fn leave(self) {
        self.following.abort();
        let key = entry::worker_key(self.shared.role, &self.shared.machine().me().worker);
        if timeout(SAID_WITHIN, self.shared.put(&key, Bytes::new(), Mark::Delete(None))).await.is_err() {
            tracing::debug!(role = self.shared.role.name(), "left without a word");
        }
    }
}

impl Drop for Leases {
    fn drop(&mut self) {
        self.following.abort();
    }
}

/// One partition of a role, whether or not this worker is to own it now.
#[derive(Debug)]
pub struct Lease {
    shared: Arc<Shared>,
    partition: Partition,
}

impl Lease {
    /// The partition.
    pub const fn partition(&self) -> Partition {
        self.partition
    }

    /// Waits so long before a lost partition is taken again; no longer than the worker takes part.
    pub async fn rests(&self, pause: Duration) {
        let _shut_down = timeout(pause, self.shared.shutdown.cancelled()).await;
    }

    /// Waits until this worker is to own the partition; `None` once it shuts down.
    pub async fn granted(&self) -> Option<Grant> {
        let mut granted = self.shared.grants.get(&self.partition)?.subscribe();
        loop {
            let token = granted.borrow_and_update().clone();
            if self.shared.shutdown.is_cancelled() {
                return None;
            }
            if let Some(recalled) = token {
                let grant = Grant { shared: Arc::clone(&self.shared), partition: self.partition, recalled };
                if !grant.recalled.is_cancelled() {
                    return Some(grant);
                }
                // Recalled before it was taken; what an earlier tenure left of it must not be waited for.
                let _another_has_it = grant.release().await;
                continue;
            }
            tokio::select! {
                _ = granted.changed() => {}
                () = self.shared.shutdown.cancelled() => {}
            }
        }
    }
}

/// A partition that is this worker's to own until it is recalled; dropped without an [`end`](Self::end), it was lost.
#[derive(Debug)]
pub struct Grant {
    shared: Arc<Shared>,
    partition: Partition,
    recalled: CancellationToken,
}

impl Grant {
    /// The partition.
    pub const fn partition(&self) -> Partition {
        self.partition
    }

    /// Cancelled once the partition is another's, is paused, or the worker shuts down.
    pub const fn recalled(&self) -> &CancellationToken {
        &self.recalled
    }

    /// Takes the partition: a fresh tenure, unless somebody else took it meanwhile.
    ///
    /// # Errors
    /// It is another's, or the broker cannot be reached.
    pub async fn acquire(&self) -> Result<Tenure, Error> {
        let (me, expected) = {
            let machine = self.shared.machine();
            (machine.me().clone(), machine.revision(self.partition))
        };
        let tenure = self.shared.log.take(self.shared.role, self.partition, &me, Some(expected)).await?;
        let revision = tenure.id().0;
        self.shared.handle(Input::Took { partition: self.partition, revision });
        counter!("event_log_leases_taken_total", "role" => self.shared.role.name()).increment(1);
        Ok(tenure)
    }

    /// Ends the grant: after an orderly end the partition is given back, and whose it is now may take it at once.
    ///
    /// # Errors
    /// How the tenure failed; [`Error::Taken`] where another worker had taken the partition before it was given back.
    pub async fn end<E: From<Error>>(self, tenure: Result<(), E>) -> Result<(), E> {
        tenure?;
        Ok(self.release().await?)
    }

    async fn release(&self) -> Result<(), Error> {
        let revision = self.shared.machine().held(self.partition).ok_or(Error::Taken)?;
        let key = entry::holder_key(self.shared.role, self.partition);
        let said = timeout(SAID_WITHIN, self.shared.put(&key, Bytes::new(), Mark::Delete(Some(revision)))).await;
        match said {
            Ok(Attempt::Stored(revision)) => {
                self.shared.handle(Input::Released { partition: self.partition, revision });
                Ok(())
            }
            Ok(Attempt::WrongLast(_)) => Err(Error::Taken),
            // Unheard: the others see by themselves that it is not kept.
            Ok(Attempt::Full | Attempt::Unavailable(_) | Attempt::Unknown(_)) | Err(_) => Ok(()),
        }
    }
}

impl Drop for Grant {
    fn drop(&mut self) {
        self.shared.grant(self.partition, None);
        self.shared.handle(Input::Ended { partition: self.partition });
    }
}

impl Shared {
    fn machine(&self) -> MutexGuard<'_, Machine> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Feeds the machine and does what it wants, in its order.
    fn handle(&self, input: Input) {
        let mut machine = self.machine();
        let mut actions = Vec::new();
        machine.handle(input, &mut actions);
        for action in actions {
            match action {
                Action::Grant(partition) => self.grant(partition, Some(self.shutdown.child_token())),
                Action::Recall(partition) => {
                    counter!("event_log_leases_recalled_total", "role" => self.role.name()).increment(1);
                    // Sent again as it is: who waits for the grant has to see it too.
                    if let Some(grant) = self.grants.get(&partition) {
                        grant.send_modify(|granted| granted.iter().for_each(CancellationToken::cancel));
                    }
                }
                Action::Forget { worker, revision } => {
                    self.forgotten.lock().unwrap_or_else(PoisonError::into_inner).push((worker, revision));
                    self.to_forget.notify_one();
                }
                Action::Superseded => self.superseded.cancel(),
            }
        }
        gauge!("event_log_leases_held", "role" => self.role.name()).set(machine.taken() as f64);
    }

    fn grant(&self, partition: Partition, granted: Option<CancellationToken>) {
        if let Some(grant) = self.grants.get(&partition) {
            grant.send_replace(granted);
        }
    }

    async fn put(&self, key: &str, value: Bytes, mark: Mark<'_>) -> Attempt {
        let subject = self.log.names().tenure(key);
        attempt(self.log.client(), subject, value, mark, self.log.config().attempt_deadline()).await
    }
}

impl Log {
    /// Takes part in a role, as the worker that the configuration names, until `shutdown`.
    ///
    /// Waits for a broker that is away.
    ///
    /// # Errors
    /// What does not pass by itself.
    pub async fn leases(&self, role: Role, shutdown: &CancellationToken) -> Result<Leases, Error> {
        Leases::join(self, role, shutdown.clone()).await
    }

    /// The partitions that are this worker's to own in a role, and not served; `None`: it takes no part, or not yet.
    pub fn unserved(&self, role: Role) -> Option<Vec<Partition>> {
        let mut granted = self.joined(role)?.machine().granted()?;
        granted.retain(|partition| !self.serves(role, *partition));
        Some(granted)
    }

    /// Tells what a partition's owner is to be, whoever it is now; `None`: as the workers share it.
    ///
    /// # Errors
    /// The broker refused, or cannot be reached.
    pub async fn order(&self, role: Role, partition: Partition, order: Option<&Order>) -> Result<(), Error> {
        let subject = self.names().tenure(&entry::order_key(role, partition));
        let (value, mark) = match order {
            Some(order) => (entry::value(order), Mark::None),
            None => (Bytes::new(), Mark::Delete(None)),
        };
        let met = attempt(self.client(), subject, value, mark, self.config().attempt_deadline()).await;
        if matches!(met, Attempt::Stored(_)) {
            return Ok(());
        }
        Err(Error::broker(format!("order {} of partition {partition}", role.name()), format!("{met:?}")))
    }
}
