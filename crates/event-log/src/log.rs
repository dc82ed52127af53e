//! The process's way to the log: streams, command publishes and core messages, over one connection that reconnects.
//!
//! What must not outlive a disconnect goes through a [`Tenure`] and its role's connection instead.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, PoisonError, Weak};
use std::time::Duration;

use async_nats::Client;
use async_nats::connection::State;
use async_nats::jetstream::{self, Context};
use bytes::Bytes;
use domain::{Epoch, Partition};
use metrics::counter;
use rand::RngExt as _;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, timeout};

use crate::connection::{Dedicated, Shared};
use crate::control::ControlReader;
use crate::inlet::Entrance;
use crate::leases::{Holder, Shared as Shares};
use crate::local::Locals;
use crate::names::Names;
use crate::publish::{Attempt, Mark, attempt};
use crate::scan::Counted;
use crate::streams::{self, Stream};
use crate::subject::Subject;
use crate::subscription::{Ends, Subscription};
use crate::tap::Tap;
use crate::tenure::{Role, Serving, Tenure, Within};
use crate::{Error, LogConfig, MESSAGE_BYTES_MAX, PublishError, RECORD_BYTES_MAX, SendError};

/// Between two attempts of a publish; a random part of it, doubled up to the longest.
const RETRY_PAUSE: Duration = Duration::from_millis(10);
const RETRY_PAUSE_MAX: Duration = Duration::from_millis(500);

/// The process's way to the log; cheap to clone.
#[derive(Clone)]
pub struct Log {
    inner: Arc<Inner>,
}

struct Inner {
    config: LogConfig,
    names: Names,
    shared: Shared,
    locals: Arc<Locals>,
    taps: BTreeMap<Partition, Arc<Tap>>,
    entrances: BTreeMap<Partition, Arc<Entrance>>,
    context: Context,
    // The broker client numbers its subscriptions 1, 2, 3 …; only `subscribe` and `counted` make any on this connection.
    subscriptions: Mutex<u64>,
    tenures: Mutex<BTreeMap<Role, Dedicated>>,
    serving: Arc<Serving>,
    /// This process's part in each role that it takes part in.
    leases: std::sync::Mutex<BTreeMap<Role, Weak<Shares>>>,
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log").field("config", &self.inner.config).finish_non_exhaustive()
    }
}

impl Log {
    /// Connects; fails when no broker answers now.
    pub async fn connect(config: LogConfig) -> Result<Self, Error> {
        config.check()?;
        let shared = Shared::connect(&config).await?;
        let context = jetstream::new(shared.client.clone());
        let names = Names::new(&config.prefix);
        let locals = Locals::new(config.subscription_messages_max, config.subscription_bytes_max);
        let tap = |partition| (Partition(partition), Arc::new(Tap::new(config.tap_records_max, config.tap_bytes_max)));
        let taps = (0..config.partitions).map(tap).collect();
        let entrances = (0..config.partitions).map(|partition| (Partition(partition), Arc::default())).collect();
        Ok(Self {
            inner: Arc::new(Inner {
                config,
                names,
                shared,
                locals: Arc::new(locals),
                taps,
                entrances,
                context,
                subscriptions: Mutex::new(0),
                tenures: Mutex::default(),
                serving: Arc::default(),
                leases: std::sync::Mutex::default(),
            }),
        })
    }

    /// The configuration that it was connected with.
    pub fn config(&self) -> &LogConfig {
        &self.inner.config
    }

    pub(crate) fn takes_part(&self, role: Role, leases: Weak<Shares>) {
        self.inner.leases.lock().unwrap_or_else(PoisonError::into_inner).insert(role, leases);
    }

    pub(crate) fn joined(&self, role: Role) -> Option<Arc<Shares>> {
        self.inner.leases.lock().unwrap_or_else(PoisonError::into_inner).get(&role)?.upgrade()
    }

    pub(crate) fn client(&self) -> &Client {
        &self.inner.shared.client
    }

    pub(crate) fn context(&self) -> &Context {
        &self.inner.context
    }

    pub(crate) fn names(&self) -> &Names {
        &self.inner.names
    }

    /// All partitions of the log.
    pub fn partitions(&self) -> impl Iterator<Item = Partition> + use<> {
        (0..self.inner.config.partitions).map(Partition)
    }

    /// Creates the streams that are missing, and returns each partition's epoch.
    ///
    /// Refuses another number of partitions than that of the first start, and streams that were set up otherwise.
    pub async fn open_streams(&self) -> Result<Vec<Epoch>, Error> {
        streams::open(&self.inner.context, &self.inner.config, &self.inner.names).await
    }

    /// Whether the shared connection is up now.
    pub fn is_connected(&self) -> bool {
        self.inner.shared.client.connection_state() == State::Connected
    }

    /// Stores a packed record of commands, and returns its sequence.
    ///
    /// Tries again with the same message id until the deadline, over elections and reconnects; it is stored once. An
    /// error other than `Full` and `TooLarge` leaves open whether it is stored, and so does dropping the future.
    pub async fn publish_commands(
        &self,
        partition: Partition,
        payload: Bytes,
        message_id: &str,
    ) -> Result<u64, PublishError> {
        self.publish(Stream::Commands.name(), &Subject::Commands(partition), payload, message_id).await
    }

    /// Stores what every gateway must learn, and returns its sequence.
    ///
    /// As [`publish_commands`](Self::publish_commands).
    pub async fn publish_control(&self, payload: Bytes, message_id: &str) -> Result<u64, PublishError> {
        self.publish(streams::CONTROL, &Subject::Control, payload, message_id).await
    }

    /// Follows what every gateway must learn, from the first record that is still there.
    pub async fn follow_control(&self) -> Result<ControlReader, Error> {
        let hints = self.subscribe(Subject::Control).await?;
        Ok(ControlReader::new(self.inner.context.clone(), self.inner.names.control(), hints))
    }

    async fn publish(
        &self,
        stream: &'static str,
        subject: &Subject,
        payload: Bytes,
        message_id: &str,
    ) -> Result<u64, PublishError> {
        if payload.len() > RECORD_BYTES_MAX {
            refused("too_large", stream);
            return Err(PublishError::TooLarge { bytes: payload.len() });
        }
        let subject = self.inner.names.subject(subject);
        let end = Instant::now() + self.inner.config.publish_deadline();
        let mut pause = RETRY_PAUSE;
        let mut connects = self.inner.shared.connects.clone();
        loop {
            connects.mark_unchanged();
            let left = end.saturating_duration_since(Instant::now());
            let deadline = self.inner.config.attempt_deadline().min(left);
            let mark = Mark::MessageId(message_id);
            let trying = attempt(&self.inner.shared.client, subject.clone(), payload.clone(), mark, deadline);
            let met = tokio::select! {
                met = trying => met,
                // The answer would have come over the connection that is gone.
                Ok(()) = connects.changed() => Attempt::Unknown("the connection was lost".to_owned()),
            };
            let last = match met {
                Attempt::Stored(sequence) => return Ok(sequence),
                Attempt::Full => {
                    refused("full", stream);
                    return Err(PublishError::Full);
                }
                Attempt::Unavailable(last) | Attempt::Unknown(last) => last,
                Attempt::WrongLast(_) => "refused for a sequence that was not expected".to_owned(),
            };
            counter!("event_log_publish_retries_total", "stream" => stream).increment(1);
            let wait = pause.mul_f64(rand::rng().random_range(0.5..=1.0));
            if Instant::now() + wait >= end {
                refused("timeout", stream);
                return Err(PublishError::Timeout { last });
            }
            sleep(wait).await;
            pause = (pause * 2).min(RETRY_PAUSE_MAX);
        }
    }

    /// Hands a record of commands to the partition's owner, where that is in this process.
    ///
    /// `after` is the caller's last record in the partition's COMMANDS; this one is decided behind it. True once its
    /// events are in the log. False leaves open whether they are: the same bytes then go to
    /// [`publish_commands`](Self::publish_commands), and the fold knows what it has seen.
    pub async fn hand_over_commands(&self, partition: Partition, payload: Bytes, after: u64) -> bool {
        if !self.inner.config.hand_over_commands || payload.len() > RECORD_BYTES_MAX {
            return false;
        }
        let Some(entrance) = self.inner.entrances.get(&partition) else { return false };
        let Some(told) = entrance.hand_over(payload, after) else { return false };
        let taken = matches!(timeout(self.inner.config.attempt_deadline(), told).await, Ok(Ok(())));
        if !taken {
            counter!("event_log_hand_overs_failed_total").increment(1);
        }
        taken
    }

    /// Takes a partition for a role: a fresh tenure, on the role's connection while it lasts.
    ///
    /// Takes it from whoever had it; that one is kept from harm by the fence and by its lower id.
    pub async fn acquire(&self, role: Role, partition: Partition) -> Result<Tenure, Error> {
        let holder = Holder { worker: format!("process-{}", std::process::id()), incarnation: 0 };
        self.take(role, partition, &holder, None).await
    }

    /// Takes a partition, if its entry still has the revision that is expected, where one is.
    pub(crate) async fn take(
        &self,
        role: Role,
        partition: Partition,
        holder: &Holder,
        expected: Option<u64>,
    ) -> Result<Tenure, Error> {
        let connection = self.tenures_connection(role).await?;
        let Inner { config, names, locals, taps, entrances, serving, .. } = &*self.inner;
        let (Some(tap), Some(entrance)) = (taps.get(&partition), entrances.get(&partition)) else {
            return Err(Error::broker(format!("take {} of partition {partition}", role.name()), "there is none"));
        };
        let within = Within {
            locals: Arc::clone(locals),
            tap: Arc::clone(tap),
            entrance: Arc::clone(entrance),
            serving: Arc::clone(serving),
        };
        Tenure::acquire(config, names, within, connection, (role, partition), holder, expected).await
    }

    /// Whether this process does the work of a role in a partition now: [`Tenure::serves`] was said, and it goes on.
    pub fn serves(&self, role: Role, partition: Partition) -> bool {
        self.inner.serving.has(role, partition)
    }

    /// The connection on which this role's tenures live; a new one once the last is lost (M6).
    async fn tenures_connection(&self, role: Role) -> Result<Dedicated, Error> {
        let mut connections = self.inner.tenures.lock().await;
        if let Some(connection) = connections.get(&role).filter(|connection| connection.is_alive()) {
            return Ok(connection.clone());
        }
        let connection = Dedicated::connect(&self.inner.config, &format!("heliograph {}", role.name())).await?;
        connections.insert(role, connection.clone());
        Ok(connection)
    }

    /// Sends a core message; nothing tells whether it arrives.
    ///
    /// Refuses while there is no connection, rather than send it late. What goes to one gateway alone is handed over
    /// where that gateway is in this process.
    pub async fn send(&self, subject: &Subject, payload: Bytes) -> Result<(), SendError> {
        if payload.len() > MESSAGE_BYTES_MAX {
            dropped("too_large");
            return Err(SendError::TooLarge { bytes: payload.len() });
        }
        if !self.is_connected() {
            dropped("disconnected");
            return Err(SendError::Disconnected);
        }
        if self.inner.locals.hand_over(subject, &payload) {
            return Ok(());
        }
        let subject = self.inner.names.subject(subject);
        if self.inner.shared.client.publish(subject, payload).await.is_err() {
            dropped("disconnected");
            return Err(SendError::Disconnected);
        }
        Ok(())
    }

    /// Receives the core messages of a subject from now on.
    ///
    /// Its queues are bounded by `subscription_messages_max`, what is handed over within the process by
    /// `subscription_bytes_max` too; what is dropped at a bound is told.
    pub async fn subscribe(&self, subject: Subject) -> Result<Subscription, Error> {
        let text = self.inner.names.subject(&subject);
        let shared = &self.inner.shared;
        let mut subscriptions = self.inner.subscriptions.lock().await;
        let number = *subscriptions + 1;
        // Known before the first message can be dropped.
        let lag = shared.lags.insert(number);
        let subscriber = match shared.client.subscribe(text).await {
            Ok(subscriber) => subscriber,
            Err(error) => {
                shared.lags.remove(number);
                return Err(Error::broker(format!("subscribe to {subject}"), error));
            }
        };
        *subscriptions = number;
        let local = self.inner.locals.open(subject, number, Arc::clone(&lag));
        let ends = Ends { number, lags: Arc::clone(&shared.lags), locals: Arc::clone(&self.inner.locals) };
        let subscription = Subscription::new(subject, subscriber, local, lag, ends, self.inner.names.clone());
        drop(subscriptions);
        shared.client.flush().await.map_err(|error| Error::broker(format!("subscribe to {subject}"), error))?;
        Ok(subscription)
    }

    /// Makes what is one subscription of the broker client, and counts it. Not to be given up half-way.
    pub(crate) async fn counted<T, E>(&self, making: impl Future<Output = Result<T, E>>) -> Result<(T, Counted), E> {
        let mut subscriptions = self.inner.subscriptions.lock().await;
        let (number, lags) = (*subscriptions + 1, &self.inner.shared.lags);
        // What is dropped of it is no loss of any other; whoever reads it sees the hole.
        let _unread = lags.insert(number);
        let counted = Counted { number, lags: Arc::clone(lags) };
        let made = making.await?;
        *subscriptions = number;
        Ok((made, counted))
    }
}

/// Counts a record that was not stored.
pub(crate) fn refused(reason: &'static str, stream: &'static str) {
    counter!("event_log_publish_refused_total", "reason" => reason, "stream" => stream).increment(1);
}

/// Counts a core message that was not sent.
pub(crate) fn dropped(reason: &'static str) {
    counter!("event_log_sends_dropped_total", "reason" => reason).increment(1);
}
