//! Decides commands, publishes events, appends entries, answers senders.
//!
//! ```text
//! takeover ─▶ machine::Owner ◀─ COMMANDS-p: read
//!             load ─▶ decide ─▶ publish ─▶ append ─▶ answer ; trim        (one task a partition: partition)
//! ```
//! Only what stands in EVENTS-p is true; rows and answers follow from it. Nothing is answered before it is stored.

mod config;
mod error;
pub mod machine;
mod partition;
mod read;
mod takeover;

use std::sync::Arc;

use domain::Partition;
use event_log::Log;
use metrics::counter;
use store::Store;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use config::Config;
pub use error::Error;

/// What ingest works with.
#[derive(Clone, Debug)]
pub struct Dependencies {
    /// The log.
    pub log: Log,
    /// The store.
    pub store: Store,
}

/// Owns all partitions until shut down.
///
/// A partition that must not go on (a lost tail, an unreadable record) is logged at ERROR and counted; the others run
/// on.
///
/// # Errors
/// When the store takes nothing more; what else fails, fails one partition.
pub async fn run(config: Config, dependencies: Dependencies, shutdown: CancellationToken) -> Result<(), Error> {
    let config = Arc::new(config);
    let mut running = JoinSet::new();
    for partition in dependencies.log.partitions() {
        let owning = partition::own(partition, Arc::clone(&config), dependencies.clone(), shutdown.clone());
        running.spawn(async move { (partition, owning.await) });
    }
    while let Some(ended) = running.join_next().await {
        note_end(ended)?;
    }
    shutdown.cancelled().await;
    Ok(())
}

/// A clean end says nothing; anything else stops one partition, loudly.
fn note_end(ended: Result<(Partition, Result<(), Error>), tokio::task::JoinError>) -> Result<(), Error> {
    match ended {
        Ok((_, Ok(()))) => return Ok(()),
        // The store is one for all: none of them can go on before it is opened again.
        Ok((_, Err(Error::Store(error)))) if error.is_final() => return Err(error.into()),
        Ok((partition, Err(error))) => {
            tracing::error!(partition = partition.0, error = &error as &dyn std::error::Error, "ingest halted");
        }
        Err(error) => tracing::error!(%error, "ingest of a partition panicked"),
    }
    counter!("ingest_partitions_halted_total").increment(1);
    Ok(())
}
