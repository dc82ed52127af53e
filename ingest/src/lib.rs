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
use event_log::{Log, Role};
use metrics::counter;
use store::Store;
use tokio::task::JoinError;
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

/// Owns this worker's share of the partitions until shut down.
///
/// A partition that must not go on (a lost tail, an unreadable record) is logged at ERROR and counted; the others run
/// on.
///
/// # Errors
/// When the store takes nothing more; what else fails, fails one partition.
pub async fn run(config: Config, dependencies: Dependencies, shutdown: CancellationToken) -> Result<(), Error> {
    let config = Arc::new(config);
    let leases = dependencies.log.leases(Role::Ingest, &shutdown).await?;
    leases.each(|lease| partition::own(lease, Arc::clone(&config), dependencies.clone()), note_end).await
}

/// A clean end says nothing; anything else stops one partition, loudly.
fn note_end(partition: Partition, ended: Result<Result<(), Error>, JoinError>) -> Result<(), Error> {
    match ended {
        Ok(Ok(())) => return Ok(()),
        // The store is one for all: none of them can go on before it is opened again.
        Ok(Err(Error::Store(error))) if error.is_final() => return Err(error.into()),
        Ok(Err(error)) => {
            tracing::error!(partition = partition.0, error = &error as &dyn std::error::Error, "ingest halted");
        }
        Err(error) => tracing::error!(partition = partition.0, %error, "ingest of a partition panicked"),
    }
    counter!("ingest_partitions_halted_total").increment(1);
    Ok(())
}
