//! Leases: shares among workers that join, leave, are killed, or lose their broker.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use domain::{Partition, TenureId};
use event_log::{Error, Lease, Log, LogConfig, Order, Role};
use testkit::wait::until;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::broker::{Broker, SOON, open};

const PARTITIONS: u16 = 4;
/// Ours to keep: who is killed has its partitions taken over by then.
const REBALANCED_WITHIN: Duration = Duration::from_secs(5);
const HANDED_OVER_WITHIN: Duration = Duration::from_secs(2);

type Tenures = Arc<Mutex<BTreeMap<Partition, TenureId>>>;

/// A worker that owns what is granted, and does nothing with it.
struct Worker {
    log: Log,
    holds: Tenures,
    shutdown: CancellationToken,
    running: JoinHandle<Result<(), Error>>,
}

impl Worker {
    async fn join(broker: &Broker, name: Option<&str>) -> Self {
        let worker = name.map(str::to_owned);
        let log = open(LogConfig { worker, partitions: PARTITIONS, ..broker.config() }).await;
        let (holds, shutdown) = (Tenures::default(), CancellationToken::new());
        let leases = log.leases(Role::Ingest, &shutdown).await.unwrap();
        let theirs = Arc::clone(&holds);
        let running = tokio::spawn(leases.each(
            move |lease| own(lease, Arc::clone(&theirs)),
            |partition, ended| {
                assert!(matches!(ended, Ok(Ok(()))), "partition {partition}: {ended:?}");
                Ok(())
            },
        ));
        Self { log, holds, shutdown, running }
    }

    fn count(&self) -> usize {
        self.holds.lock().unwrap().len()
    }

    fn holds(&self, partition: u16) -> bool {
        self.holds.lock().unwrap().contains_key(&Partition(partition))
    }

    /// As by SIGKILL: nothing is said, and no task goes on.
    async fn kill(self) {
        self.running.abort();
        assert!(self.running.await.unwrap_err().is_cancelled());
    }

    async fn leave(self) {
        self.shutdown.cancel();
        self.running.await.unwrap().unwrap();
    }
}

async fn own(lease: Lease, holds: Tenures) -> Result<(), Error> {
    while let Some(grant) = lease.granted().await {
        let tenure = match grant.acquire().await {
            Ok(tenure) => tenure,
            Err(error) if error.is_passing() => {
                drop(grant);
                lease.rests(Duration::from_millis(20)).await;
                continue;
            }
            Err(error) => return Err(error),
        };
        let before = holds.lock().unwrap().insert(lease.partition(), tenure.id());
        assert!(before.is_none(), "held already");
        let recalled = tokio::select! {
            () = grant.recalled().cancelled() => true,
            () = tenure.lost() => false,
        };
        holds.lock().unwrap().remove(&lease.partition());
        if recalled && let Err(error) = grant.end(Ok::<(), Error>(())).await {
            assert!(matches!(error, Error::Taken), "{error}");
        }
    }
    Ok(())
}

async fn shares(workers: &[(&Worker, usize)], what: &str) {
    until(SOON, what, async || workers.iter().all(|(worker, share)| worker.count() == *share)).await;
}

#[tokio::test]
async fn workers_share_what_there_is_and_hand_over_as_they_leave() {
    let broker = Broker::start().await;
    let a = Worker::join(&broker, Some("a")).await;
    shares(&[(&a, 4)], "the first to have all").await;
    let b = Worker::join(&broker, Some("b")).await;
    shares(&[(&a, 2), (&b, 2)], "two to share").await;
    let one = *b.holds.lock().unwrap().keys().next().unwrap();
    let owner = b.log.owner(Role::Ingest, one).await.unwrap().unwrap();
    assert_eq!(owner.worker, "b");
    let leaving = Instant::now();
    a.leave().await;
    shares(&[(&b, 4)], "the last to have all").await;
    assert!(leaving.elapsed() < HANDED_OVER_WITHIN, "{:?}", leaving.elapsed());
    b.leave().await;
    let c = Worker::join(&broker, Some("c")).await;
    shares(&[(&c, 4)], "all that was left behind").await;
    c.leave().await;
}

#[tokio::test]
async fn what_a_killed_worker_had_is_taken_over_within_five_seconds() {
    let broker = Broker::start().await;
    let (a, b) = (Worker::join(&broker, Some("a")).await, Worker::join(&broker, Some("b")).await);
    shares(&[(&a, 2), (&b, 2)], "two to share").await;
    let before: BTreeMap<_, _> = a.holds.lock().unwrap().clone();
    let killed = Instant::now();
    a.kill().await;
    shares(&[(&b, 4)], "the other to have all").await;
    assert!(killed.elapsed() < REBALANCED_WITHIN, "{:?}", killed.elapsed());
    let after = b.holds.lock().unwrap().clone();
    assert!(before.iter().all(|(partition, tenure)| after[partition] > *tenure), "M15: {before:?}, {after:?}");
    // Back under its name it has its share at once, whatever is still to be seen of its earlier run.
    let a = Worker::join(&broker, Some("a")).await;
    shares(&[(&a, 2), (&b, 2)], "two to share again").await;
    a.leave().await;
    b.leave().await;
}

#[tokio::test]
async fn a_restarted_broker_takes_nobodys_share() {
    let broker = Broker::start().await;
    let (a, b) = (Worker::join(&broker, Some("a")).await, Worker::join(&broker, Some("b")).await);
    shares(&[(&a, 2), (&b, 2)], "two to share").await;
    let before = (a.holds.lock().unwrap().clone(), b.holds.lock().unwrap().clone());
    broker.server.restart().await.unwrap();
    let anew = |worker: &Worker, before: &BTreeMap<Partition, TenureId>| {
        let after = worker.holds.lock().unwrap();
        after.len() == before.len()
            && after.iter().all(|(partition, tenure)| before.get(partition).is_some_and(|id| id < tenure))
    };
    until(SOON, "each to have its own anew", async || anew(&a, &before.0) && anew(&b, &before.1)).await;
    a.leave().await;
    b.leave().await;
}

#[tokio::test]
async fn a_later_run_of_a_worker_ends_the_earlier_one() {
    let broker = Broker::start().await;
    let first = Worker::join(&broker, Some("a")).await;
    shares(&[(&first, 4)], "the first run to have all").await;
    let second = Worker::join(&broker, Some("a")).await;
    let ended = tokio::time::timeout(SOON, first.running).await.unwrap().unwrap();
    assert!(matches!(ended, Err(Error::Superseded)), "{ended:?}");
    shares(&[(&second, 4)], "the second run to have all").await;
    second.leave().await;
}

#[tokio::test]
async fn who_is_alone_has_all_at_once_whatever_was_there_before() {
    let broker = Broker::start().await;
    let a = Worker::join(&broker, Some("a")).await;
    shares(&[(&a, 4)], "all").await;
    a.kill().await;
    let started = Instant::now();
    let alone = Worker::join(&broker, None).await;
    shares(&[(&alone, 4)], "all").await;
    assert!(started.elapsed() < Duration::from_secs(2), "no wait for who is gone: {:?}", started.elapsed());
    alone.kill().await;
    let alone = Worker::join(&broker, None).await;
    shares(&[(&alone, 4)], "all, after a kill").await;
    alone.leave().await;
}

#[tokio::test]
async fn operators_pause_and_move_partitions() {
    let broker = Broker::start().await;
    let (a, b) = (Worker::join(&broker, Some("a")).await, Worker::join(&broker, Some("b")).await);
    shares(&[(&a, 2), (&b, 2)], "two to share").await;
    let order = async |partition, order: Option<&Order>| {
        a.log.order(Role::Ingest, Partition(partition), order).await.unwrap();
    };
    order(0, Some(&Order::Pause)).await;
    until(SOON, "nobody to have it", async || !a.holds(0) && !b.holds(0)).await;
    order(0, Some(&Order::Move { to: "b".to_owned() })).await;
    until(SOON, "whom it was moved to", async || b.holds(0) && a.count() == 2).await;
    order(0, Some(&Order::Move { to: "a".to_owned() })).await;
    until(SOON, "whom it was moved to", async || a.holds(0) && b.count() == 2).await;
    order(0, None).await;
    shares(&[(&a, 2), (&b, 2)], "two to share").await;
    a.leave().await;
    b.leave().await;
}

#[tokio::test]
async fn a_bucket_that_is_gone_is_made_again() {
    let broker = Broker::start().await;
    let a = Worker::join(&broker, Some("a")).await;
    shares(&[(&a, 4)], "all").await;
    let highest = *a.holds.lock().unwrap().values().max().unwrap();
    broker.beside().await.delete_key_value("own").await.unwrap();
    let b = Worker::join(&broker, Some("b")).await;
    shares(&[(&a, 2), (&b, 2)], "two to share").await;
    assert!(
        b.holds.lock().unwrap().values().all(|tenure| *tenure > highest),
        "M15: ids grow over the loss of the bucket"
    );
    a.leave().await;
    b.leave().await;
}

#[tokio::test]
async fn who_joins_while_the_broker_stands_still_waits_for_it() {
    let broker = Broker::start().await;
    let log = open(LogConfig { partitions: PARTITIONS, ..broker.config() }).await;
    broker.stand_still().await;
    let shutdown = CancellationToken::new();
    let mut joining = tokio::spawn({
        let (log, shutdown) = (log.clone(), shutdown.clone());
        async move { log.leases(Role::Ingest, &shutdown).await }
    });
    // Longer than the broker client waits for an answer.
    assert!(tokio::time::timeout(Duration::from_secs(7), &mut joining).await.is_err());
    broker.server.resume().unwrap();
    tokio::time::timeout(SOON, joining).await.unwrap().unwrap().unwrap();
    // And who is to end meanwhile does.
    broker.stand_still().await;
    shutdown.cancel();
    tokio::time::timeout(SOON, log.leases(Role::Delivery, &shutdown)).await.unwrap().unwrap();
    broker.server.resume().unwrap();
}

#[test]
fn a_workers_name_is_one_that_a_key_holds() {
    for name in ["", "a.b", "a b", "a>", &"a".repeat(65)] {
        let config = LogConfig { worker: Some(name.to_owned()), ..LogConfig::default() };
        assert!(matches!(config.check(), Err(Error::Config(_))), "{name}");
    }
}
