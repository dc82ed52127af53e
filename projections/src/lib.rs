//! Folds events and statuses into read models.
//!
//! ```text
//! EVENTS-p, STATUS-p ─▶ partition: read all that waits ─▶ machine::Fold ─▶ store.project ─▶ written   (one task a partition)
//! ```
//! Models are per-chat folds (N10): the chat list, summaries and watermarks. Each write holds its checkpoint beside its
//! rows, so a restart folds on where the rows stand. A partition whose events are trimmed above the checkpoint halts as
//! `needs_rebuild`: it never shows a model with a hole, and goes on once [`rebuild`] has written the models from the chat
//! logs. [`verify`] compares them with these while all goes on.

mod error;
pub mod machine;
mod partition;
pub mod rebuild;
mod rows;
pub mod verify;

use domain::Partition;
use event_log::{Log, Role};
use metrics::counter;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use store::Store;
use tokio::task::JoinError;
use tokio_util::sync::CancellationToken;

pub use error::Error;

/// Settings of projections.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Summaries of one partition kept in memory, by count; others are read from the store when needed.
    pub summaries_max: usize,
    /// Most records of one write of the models, events and statuses each.
    pub records_max: usize,
    /// How long a partition's models rest between two writes, in ms, so that a write carries what came meanwhile.
    ///
    /// Models stand beside a message's path, not on it: nobody waits for them but who signs in.
    pub rest_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self { summaries_max: 16_384, records_max: 1_024, rest_ms: 200 }
    }
}

impl Config {
    /// The first setting that cannot work, if there is one.
    pub fn fault(&self) -> Option<&'static str> {
        (self.summaries_max == 0 || self.records_max == 0).then_some("summaries_max and records_max must not be 0")
    }
}

/// What projections work with.
#[derive(Clone, Debug)]
pub struct Dependencies {
    /// The log.
    pub log: Log,
    /// The store.
    pub store: Store,
}

/// Folds this worker's share of the partitions until shut down.
///
/// A partition that cannot go on is logged at ERROR and counted; the others run on.
///
/// # Errors
/// When the store takes nothing more; else each partition stands for itself.
pub async fn run(config: Config, dependencies: Dependencies, shutdown: CancellationToken) -> Result<(), Error> {
    let leases = dependencies.log.leases(Role::Projections, &shutdown).await?;
    leases.each(|lease| partition::project(lease, config.clone(), dependencies.store.clone()), note_end).await
}

/// A clean end says nothing; anything else stops one partition, loudly.
fn note_end(partition: Partition, ended: Result<Result<(), Error>, JoinError>) -> Result<(), Error> {
    match ended {
        Ok(Ok(())) => return Ok(()),
        // The store is one for all: none of them can go on before it is opened again.
        Ok(Err(Error::Store(error))) if error.is_final() => return Err(error.into()),
        Ok(Err(error)) => {
            let error = &error as &dyn std::error::Error;
            tracing::error!(partition = partition.0, error, "projections halted");
        }
        Err(error) => tracing::error!(partition = partition.0, %error, "projections of a partition panicked"),
    }
    counter!("projections_partitions_halted_total").increment(1);
    Ok(())
}
