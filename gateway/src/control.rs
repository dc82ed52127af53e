//! Follows CONTROL: what is revoked signs nobody in any more, and the sockets that it signed in are closed.
//!
//! Read whole before the first socket is accepted. A socket that signs in meanwhile is found either here, since it stands
//! in the registry first, or by its own look at the revocations behind that.

use std::sync::Arc;
use std::time::Duration;

use event_log::{ControlReader, Record};
use metrics::counter;
use prost::Message as _;
use proto::log;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::registry::Registry;
use crate::revocations::Revocations;
use crate::socket::CloseCode;
use crate::token::now_s;

/// Between two looks for what has expired by itself.
const FORGET_EVERY: Duration = Duration::from_mins(10);

/// Applies what every gateway must learn.
pub(crate) struct Control {
    reader: ControlReader,
    revocations: Arc<Revocations>,
    registry: Arc<Registry>,
}

impl Control {
    /// Reads all that stands there.
    pub(crate) async fn open(
        mut reader: ControlReader,
        revocations: Arc<Revocations>,
        registry: Arc<Registry>,
    ) -> Result<Self, event_log::Error> {
        loop {
            let records = reader.waiting().await?;
            if records.is_empty() {
                return Ok(Self { reader, revocations, registry });
            }
            learn(&revocations, &records);
        }
    }

    /// Follows until shut down.
    pub(crate) async fn follow(mut self, shutdown: CancellationToken) {
        let mut forgets = interval(FORGET_EVERY);
        forgets.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                records = self.reader.next() => {
                    learn(&self.revocations, &records);
                    let revocations = &self.revocations;
                    let closed = self.registry.close_those(|grant| revocations.cover(grant), CloseCode::Revoked);
                    tracing::info!(records = records.len(), closed, "tokens were revoked");
                }
                _ = forgets.tick() => self.revocations.forget(now_s()),
                () = shutdown.cancelled() => return,
            }
        }
    }
}

fn learn(revocations: &Revocations, records: &[Record]) {
    let now_s = now_s();
    for record in records {
        let is_learnt = match log::Control::decode(record.payload.clone()) {
            Ok(log::Control { what: Some(log::control::What::Revocation(revocation)), .. }) => {
                revocations.learn(revocation, now_s)
            }
            Ok(log::Control { what: None, .. }) | Err(_) => false,
        };
        if !is_learnt {
            // A newer build's, or damaged: somebody has to look, for it may have been meant to close sockets.
            counter!("gateway_control_undecodable_total").increment(1);
            tracing::error!(sequence = record.sequence, "a control record cannot be read and is passed over");
        }
    }
}
