//! The two kinds of connection to the broker: one that reconnects for ever, and one that never does.
//!
//! M6: the broker client sends what waits in its channel after it has reconnected, and a reader would not see a tail that
//! was lost meanwhile. So a tenure gets a connection of its own, whose first disconnect is its end.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_nats::connection::State;
use async_nats::{Client, ConnectOptions, Event, ReconnectToServer, ServerAddr};
use metrics::counter;
use rand::RngExt as _;
use rand::seq::SliceRandom as _;
use tokio::sync::{Notify, watch};

use crate::{BrokerLogin, Error, LogConfig};

/// A dead peer is noticed after the third unanswered ping.
const PING_INTERVAL: Duration = Duration::from_secs(5);
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// The longest pause between two tries to reconnect.
const RECONNECT_PAUSE_MAX: Duration = Duration::from_secs(1);
/// Messages that may wait in one reader's subscription: above what it asks for at a time.
const TENURE_SUBSCRIPTION_MESSAGES: usize = 4_096;

/// What a subscription is told by the connection that it lives on.
#[derive(Debug, Default)]
pub(crate) struct Lag {
    lagged: AtomicBool,
    changed: Notify,
}

impl Lag {
    pub(crate) fn raise(&self) {
        self.lagged.store(true, Ordering::Release);
        self.changed.notify_one();
    }

    /// Whether something was lost since the last call.
    pub(crate) fn take(&self) -> bool {
        self.lagged.swap(false, Ordering::AcqRel)
    }

    /// Returns once something was lost; it may have been taken since.
    pub(crate) async fn raised(&self) {
        self.changed.notified().await;
    }
}

/// All core subscriptions of the shared connection, by the broker client's number for them.
#[derive(Debug, Default)]
pub(crate) struct Lags {
    by_number: Mutex<HashMap<u64, Arc<Lag>>>,
    burst: Mutex<Burst>,
}

/// The broker client's queue of events holds 128 and drops what comes beyond, so that in a flood of drops the only one
/// that names some subscription may be missing. A burst of nearly that length therefore counts for all of them.
const BURST_EVENTS: u32 = 100;
const BURST_PAUSE: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
struct Burst {
    events: u32,
    last: Option<Instant>,
}

impl Lags {
    pub(crate) fn insert(&self, number: u64) -> Arc<Lag> {
        let lag = Arc::new(Lag::default());
        lock(&self.by_number).insert(number, Arc::clone(&lag));
        lag
    }

    pub(crate) fn remove(&self, number: u64) {
        lock(&self.by_number).remove(&number);
    }

    /// The broker client dropped a message of subscription `number`.
    fn dropped(&self, number: u64) {
        let lag = lock(&self.by_number).get(&number).cloned();
        match lag {
            Some(lag) => lag.raise(),
            // Not one that we know: better all resync than one misses its loss.
            None => self.all(),
        }
        if lock(&self.burst).grew(Instant::now()) {
            self.all();
        }
    }

    /// All subscriptions may have missed something.
    fn all(&self) {
        for lag in lock(&self.by_number).values() {
            lag.raise();
        }
    }
}

impl Burst {
    /// Counts an event; true each time that a burst has become long.
    fn grew(&mut self, now: Instant) -> bool {
        if self.last.is_none_or(|last| now.duration_since(last) > BURST_PAUSE) {
            self.events = 0;
        }
        self.last = Some(now);
        self.events += 1;
        if self.events >= BURST_EVENTS {
            self.events = 0;
            return true;
        }
        false
    }
}

/// The connection that all of a process share; it reconnects by itself.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) client: Client,
    pub(crate) lags: Arc<Lags>,
    /// How often the connection came up; an answer to what was sent before the last time will not come.
    pub(crate) connects: watch::Receiver<u64>,
}

impl Shared {
    pub(crate) async fn connect(config: &LogConfig) -> Result<Self, Error> {
        let lags = Arc::new(Lags::default());
        let (connected, connects) = watch::channel(0);
        let events = Arc::clone(&lags);
        let client = options(config)
            .subscription_capacity(config.subscription_messages_max)
            .reconnect_delay_callback(reconnect_pause)
            .event_callback(move |event| {
                on_shared(&event, &events, &connected);
                async {}
            })
            .connect(addresses(config)?)
            .await
            .map_err(Error::Connect)?;
        Ok(Self { client, lags, connects })
    }
}

fn on_shared(event: &Event, lags: &Lags, connected: &watch::Sender<u64>) {
    match event {
        Event::SlowConsumer(number) => {
            counter!("event_log_messages_dropped_total", "reason" => "slow_consumer").increment(1);
            lags.dropped(*number);
        }
        Event::Connected => {
            // The first time nothing was there to be lost.
            let again = connected.send_if_modified(|count| {
                *count += 1;
                *count > 1
            });
            // What was published while the connection was down is gone. Told now and not at the disconnect, so that
            // a resync that follows is sent behind the renewed subscriptions.
            if again {
                lags.all();
            }
        }
        Event::Disconnected => counter!("event_log_disconnects_total", "connection" => "shared").increment(1),
        Event::ServerError(_) | Event::ClientError(_) => {
            counter!("event_log_connection_errors_total", "connection" => "shared").increment(1);
        }
        Event::LameDuckMode | Event::Draining | Event::Closed => {}
    }
}

/// Full jitter below a doubling bound.
fn reconnect_pause(attempts: usize) -> Duration {
    if attempts <= 1 {
        return Duration::ZERO;
    }
    let doublings = u32::try_from(attempts.min(16)).unwrap_or(16);
    let bound = Duration::from_millis(10).saturating_mul(1 << doublings).min(RECONNECT_PAUSE_MAX);
    bound.mul_f64(rand::rng().random_range(0.1..=1.0))
}

/// The connection of a role's tenures; gone for good at its first disconnect, and they with it.
#[derive(Clone, Debug)]
pub(crate) struct Dedicated {
    pub(crate) client: Client,
    pub(crate) lost: watch::Receiver<bool>,
}

impl Dedicated {
    /// Whether a tenure may still begin on it.
    pub(crate) fn is_alive(&self) -> bool {
        !*self.lost.borrow() && self.client.connection_state() == State::Connected
    }

    pub(crate) async fn connect(config: &LogConfig, name: &str) -> Result<Self, Error> {
        let mut servers = addresses(config)?;
        servers.shuffle(&mut rand::rng());
        // Nothing listens on port 0, so a dial to it fails at once and on this host. The client is sent there after
        // a disconnect until its tries are used up; then its task ends with all that waits in its channel.
        let nowhere: ServerAddr =
            "nats://127.0.0.1:0".parse().map_err(|error| Error::Config(format!("no dead end: {error}")))?;
        servers.push(nowhere.clone());
        let (lose, lost) = watch::channel(false);
        let client = options(config)
            .name(name)
            .subscription_capacity(TENURE_SUBSCRIPTION_MESSAGES)
            .retain_servers_order()
            .ignore_discovered_servers()
            .max_reconnects(servers.len())
            .reconnect_to_server_callback(move |pool, _| {
                let dead = pool.iter().any(|server| server.did_connect);
                let end = dead.then(|| ReconnectToServer { addr: nowhere.clone(), delay: Some(Duration::ZERO) });
                async move { end }
            })
            .event_callback(move |event| {
                if matches!(event, Event::Disconnected | Event::Closed) && !lose.send_replace(true) {
                    counter!("event_log_disconnects_total", "connection" => "tenure").increment(1);
                }
                async {}
            })
            .connect(servers)
            .await
            .map_err(Error::Connect)?;
        Ok(Self { client, lost })
    }
}

fn options(config: &LogConfig) -> ConnectOptions {
    let options = ConnectOptions::new()
        .name("heliograph")
        .ping_interval(PING_INTERVAL)
        .connection_timeout(CONNECT_WITHIN)
        .request_timeout(Some(config.attempt_deadline()));
    match config.login.clone() {
        Some(BrokerLogin { user, password }) => options.user_and_password(user, password),
        None => options,
    }
}

fn addresses(config: &LogConfig) -> Result<Vec<ServerAddr>, Error> {
    let parse =
        |text: &String| text.parse::<ServerAddr>().map_err(|error| Error::Config(format!("`servers`: {error}")));
    config.servers.iter().map(parse).collect()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drop_is_told_to_its_subscription_alone() {
        let lags = Lags::default();
        let (one, two) = (lags.insert(1), lags.insert(2));
        lags.dropped(2);
        assert_eq!((one.take(), two.take(), two.take()), (false, true, false));
    }

    #[test]
    fn a_drop_of_an_unknown_subscription_is_told_to_all() {
        let lags = Lags::default();
        let (one, two) = (lags.insert(1), lags.insert(2));
        lags.dropped(9);
        assert_eq!((one.take(), two.take()), (true, true));
    }

    #[test]
    fn a_flood_of_drops_is_told_to_all() {
        let lags = Lags::default();
        let (one, two) = (lags.insert(1), lags.insert(2));
        for _ in 1..BURST_EVENTS {
            lags.dropped(2);
        }
        assert_eq!((one.take(), two.take()), (false, true));
        lags.dropped(2);
        assert_eq!((one.take(), two.take()), (true, true));
    }

    #[test]
    fn a_pause_ends_a_flood() {
        let mut burst = Burst::default();
        let start = Instant::now();
        for number in 0..10 * BURST_EVENTS {
            assert!(!burst.grew(start + number * (BURST_PAUSE + Duration::from_millis(1))));
        }
    }

    #[test]
    fn pauses_between_reconnects_stay_within_their_bound() {
        assert_eq!(reconnect_pause(1), Duration::ZERO);
        for attempts in 2..200 {
            let pause = reconnect_pause(attempts);
            assert!(pause > Duration::ZERO && pause <= RECONNECT_PAUSE_MAX, "{attempts}: {pause:?}");
        }
    }
}
