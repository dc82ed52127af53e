//! One lane per gateway: pushes gathered into batches numbered 1, 2, 3 … per (partition, owner, gateway).
//!
//! A number that is skipped is how a gateway learns that something for it was dropped.

use std::collections::BTreeMap;

use domain::{Epoch, GatewayId, Partition, SessionId, TenureId};
use proto::relay::{Push, PushBatch, ToGateway, push::What, to_gateway};

use super::Action;

/// A batch is cut at this size: half of what one core message may carry, so that its last push fits too.
const BATCH_BYTES: usize = 256 * 1024;
/// A push is cut at this many sessions, 64 KiB of them.
const SESSIONS_MAX: usize = 8 * 1024;
/// Gateways that went and whose number is still known, should they come back.
const GONE_MAX: usize = 1_024;

/// What stands in everything that an owner says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stamp {
    pub(super) partition: Partition,
    pub(super) epoch: Epoch,
    pub(super) owner: TenureId,
}

#[derive(Debug, Default)]
struct Lane {
    number: u64,
    gone: bool,
    waiting: Vec<Vec<Push>>,
    waiting_bytes: usize,
}

#[derive(Debug, Default)]
pub(super) struct Lanes {
    lanes: BTreeMap<GatewayId, Lane>,
    gone: usize,
}

impl Lanes {
    /// Adds one thing for the given sessions and for those of who made it; its bytes are shared by all of them.
    pub(super) fn push(
        &mut self,
        what: &What,
        others: impl IntoIterator<Item = (GatewayId, SessionId)>,
        own: impl IntoIterator<Item = (GatewayId, SessionId)>,
    ) {
        // Sessions by gateway, and how many of them are of others.
        let mut by_gateway: BTreeMap<GatewayId, (Vec<u64>, usize)> = BTreeMap::new();
        for (gateway, session) in others {
            let (sessions, others) = by_gateway.entry(gateway).or_default();
            sessions.push(session.0);
            *others += 1;
        }
        for (gateway, session) in own {
            by_gateway.entry(gateway).or_default().0.push(session.0);
        }
        let body = match what {
            What::Entry(bytes) => bytes.len(),
            What::Watermark(_) => 64,
        };
        for (gateway, (sessions, mut others)) in by_gateway {
            let lane = self.lanes.entry(gateway).or_default();
            for some in sessions.chunks(SESSIONS_MAX) {
                let own = some.len().saturating_sub(others);
                others = others.saturating_sub(some.len());
                let bytes = body + 8 * some.len() + 16;
                if lane.waiting.is_empty() || lane.waiting_bytes + bytes > BATCH_BYTES {
                    lane.waiting.push(Vec::new());
                    lane.waiting_bytes = 0;
                }
                lane.waiting_bytes += bytes;
                if let Some(batch) = lane.waiting.last_mut() {
                    let own = u32::try_from(own).unwrap_or(u32::MAX);
                    batch.push(Push { what: Some(what.clone()), sessions: some.to_vec(), own });
                }
            }
        }
    }

    /// Numbers what waits and hands it out.
    pub(super) fn flush(&mut self, stamp: &Stamp, actions: &mut Vec<Action>) {
        for (gateway, lane) in &mut self.lanes {
            for pushes in lane.waiting.drain(..) {
                lane.number += 1;
                let batch = PushBatch {
                    partition: u32::from(stamp.partition.0),
                    epoch: stamp.epoch.0,
                    owner: stamp.owner.0,
                    number: lane.number,
                    pushes,
                };
                let message = ToGateway { what: Some(to_gateway::What::Pushes(batch)) };
                actions.push(Action::Send { gateway: *gateway, message });
            }
            lane.waiting_bytes = 0;
        }
    }

    /// The number of the last batch for this gateway.
    pub(super) fn last_batch(&self, gateway: GatewayId) -> u64 {
        self.lanes.get(&gateway).map_or(0, |lane| lane.number)
    }

    /// The gateway is back, or new.
    pub(super) fn heard(&mut self, gateway: GatewayId) {
        let lane = self.lanes.entry(gateway).or_default();
        if std::mem::take(&mut lane.gone) {
            self.gone -= 1;
        }
    }

    /// Skips a number: while the gateway was not mirrored, its sessions got nothing.
    pub(super) fn forgotten(&mut self, gateway: GatewayId) {
        if let Some(lane) = self.lanes.get_mut(&gateway) {
            lane.number += 1;
            lane.waiting.clear();
            if !lane.gone {
                lane.gone = true;
                self.gone += 1;
            }
        }
        if self.gone > GONE_MAX
            && let Some(oldest) = self.lanes.iter().find(|(_, lane)| lane.gone).map(|(id, _)| *id)
        {
            self.lanes.remove(&oldest);
            self.gone -= 1;
        }
    }
}
