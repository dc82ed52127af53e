//! Pushes events to online sessions and merges receipts.
//!
//! ```text
//! announcements ─▶ machine::Mirror (one a worker) ──────────┐
//! EVENTS-p ─▶ partition: read ─▶ machine::Expansion ─▶ outgoing ─▶ gateways    (one task a partition)
//! receipts ─▶ machine::Receipts ─▶ STATUS-p ; ticks at once ; echoes once `written`
//! ```
//! It never writes what a client could lose: its checkpoint aside it keeps nothing, and what it drops is seen by the
//! gateway as a missing batch number.

mod announcements;
mod config;
mod error;
pub mod machine;
mod outgoing;
mod partition;
mod roster;

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use domain::Partition;
use event_log::{Log, Role, Subject};
use metrics::counter;
use store::Store;
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

pub use config::Config;
pub use error::Error;
use roster::Roster;

/// What delivery works with.
#[derive(Clone, Debug)]
pub struct Dependencies {
    /// The log.
    pub log: Log,
    /// The store.
    pub store: Store,
}

/// Delivers this worker's share of the partitions until shut down.
///
/// A partition that cannot go on is logged at ERROR and counted; the others run on.
///
/// # Errors
/// When the announcements of the gateways cannot be followed at all, or the store takes nothing more.
pub async fn run(config: Config, dependencies: Dependencies, shutdown: CancellationToken) -> Result<(), Error> {
    let log = &dependencies.log;
    let partitions: Vec<Partition> = log.partitions().collect();
    let roster = Arc::new(Roster::new(&partitions));
    let announced = log.subscribe(Subject::Announcements).await?;
    let mut mirroring = JoinSet::new();
    mirroring.spawn(announcements::follow(log.clone(), announced, Arc::clone(&roster), shutdown.clone()));
    // The gateways' answers come first, so that what is pushed again from the checkpoint finds its sessions.
    tokio::select! {
        () = tokio::time::sleep(Duration::from_millis(config.settle_ms)) => {}
        () = shutdown.cancelled() => {}
    }
    let config = Arc::new(config);
    let leases = log.leases(Role::Delivery, &shutdown).await?;
    let deliver =
        |lease| partition::deliver(lease, Arc::clone(&config), dependencies.clone(), Arc::clone(&roster), config.rules);
    let mut delivering = pin!(leases.each(deliver, note_end));
    loop {
        tokio::select! {
            ended = &mut delivering => return ended,
            Some(ended) = mirroring.join_next() => match ended {
                Ok(ended) => ended?,
                Err(error) => {
                    tracing::error!(%error, "the mirror of sessions stopped");
                    return Err(Error::MirrorStopped);
                }
            },
        }
    }
}

/// A clean end says nothing; anything else stops one partition, loudly.
fn note_end(partition: Partition, ended: Result<Result<(), Error>, JoinError>) -> Result<(), Error> {
    match ended {
        Ok(Ok(())) => return Ok(()),
        // The store is one for all: none of them can go on before it is opened again.
        Ok(Err(Error::Store(error))) if error.is_final() => return Err(error.into()),
        Ok(Err(error)) => {
            tracing::error!(partition = partition.0, error = &error as &dyn std::error::Error, "delivery halted");
        }
        Err(error) => tracing::error!(partition = partition.0, %error, "delivery of a partition panicked"),
    }
    counter!("delivery_partitions_halted_total").increment(1);
    Ok(())
}
