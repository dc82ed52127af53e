//! Receipts on their way to delivery: merged by maximum while they wait, sent after a short rest since the last ones.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use domain::{ChatId, GatewayId, Partition, Seq, UserId};
use event_log::{Log, Subject};
use metrics::counter;
use prost::Message as _;
use proto::relay::{Receipt, ReceiptBatch};
use tokio::sync::Notify;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// Receipts of one message, well below what a core message takes.
const RECEIPTS_PER_MESSAGE: usize = 4_096;

/// The receipts of one partition that wait.
#[derive(Debug)]
pub(crate) struct Receipts {
    partition: Partition,
    waiting: Mutex<HashMap<(ChatId, UserId), (Seq, Seq)>>,
    arrived: Notify,
    waiting_max: usize,
    rest: Duration,
}

impl Receipts {
    pub(crate) fn new(partition: Partition, waiting_max: usize, rest: Duration) -> Self {
        Self { partition, waiting: Mutex::default(), arrived: Notify::new(), waiting_max, rest }
    }

    /// Takes a receipt; at the bound it is dropped, since its client asserts it again.
    pub(crate) fn put(&self, chat: ChatId, user: UserId, delivered: Seq, seen: Seq) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() >= self.waiting_max && !waiting.contains_key(&(chat, user)) {
            counter!("gateway_receipts_dropped_total").increment(1);
            return;
        }
        let mark = waiting.entry((chat, user)).or_default();
        *mark = (mark.0.max(delivered), mark.1.max(seen));
        drop(waiting);
        self.arrived.notify_one();
    }

    /// Sends what waits, again and again, until shut down.
    pub(crate) async fn send(&self, gateway: GatewayId, log: Log, shutdown: CancellationToken) {
        let mut open = true;
        while open {
            tokio::select! {
                () = self.arrived.notified() => {}
                // What the last sockets gave goes too.
                () = shutdown.cancelled() => open = false,
            }
            let waiting = std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
            let receipts: Vec<_> = waiting
                .into_iter()
                .map(|((chat, user), (delivered, seen))| Receipt {
                    chat: chat.to_wire(),
                    user: user.to_wire(),
                    delivered,
                    seen,
                })
                .collect();
            for part in receipts.chunks(RECEIPTS_PER_MESSAGE) {
                let batch = ReceiptBatch { gateway: gateway.0, receipts: part.to_vec() };
                if log.send(&Subject::Receipts(self.partition), batch.encode_to_vec().into()).await.is_err() {
                    counter!("gateway_receipts_dropped_total").increment(part.len() as u64);
                }
            }
            tokio::select! {
                () = sleep(self.rest) => {}
                () = shutdown.cancelled() => {}
            }
        }
    }
}
