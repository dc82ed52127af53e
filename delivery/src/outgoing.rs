//! What waits to be sent to gateways: one bounded queue a partition and tenure, in order.
//!
//! At the bound a message is dropped and counted. A batch that is dropped leaves its number out, and a `through` or an
//! ack that is dropped comes again, so each loss is seen by its gateway. Sent over the tenure's own connection, nothing
//! of an earlier owner is sent late (M6). A gateway of this process is handed its messages at once; it is one from its
//! first message to its last, so none of them can overtake another through the queue.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use domain::{GatewayId, crash_point};
use event_log::{Subject, Tenure};
use metrics::counter;
use prost::Message as _;
use proto::relay::{ToGateway, to_gateway};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

struct Waiting {
    gateway: GatewayId,
    payload: Bytes,
    is_push: bool,
}

/// The sending end; dropping it stops the sends.
#[derive(Debug)]
pub(crate) struct Outgoing {
    tenure: Tenure,
    queue: mpsc::Sender<Waiting>,
    bytes: Arc<AtomicUsize>,
    bytes_max: usize,
    sending: AbortHandle,
}

impl Outgoing {
    pub(crate) fn open(tenure: Tenure, messages_max: usize, bytes_max: usize) -> Self {
        let (queue, mut waiting) = mpsc::channel::<Waiting>(messages_max.max(1));
        let bytes = Arc::new(AtomicUsize::new(0));
        let left = Arc::clone(&bytes);
        let own = tenure.clone();
        let sending = tokio::spawn(async move {
            while let Some(Waiting { gateway, payload, is_push }) = waiting.recv().await {
                let size = payload.len();
                if tenure.send(&Subject::Pushes(gateway), payload).await.is_err() {
                    dropped("unsent");
                }
                left.fetch_sub(size, Ordering::Relaxed);
                pushed(is_push);
            }
        });
        Self { tenure: own, queue, bytes, bytes_max, sending: sending.abort_handle() }
    }

    pub(crate) fn send(&self, gateway: GatewayId, message: &ToGateway) {
        let payload = Bytes::from(message.encode_to_vec());
        let size = payload.len();
        let is_push = matches!(message.what, Some(to_gateway::What::Pushes(_)));
        if self.tenure.hand_over(&Subject::Pushes(gateway), &payload) {
            pushed(is_push);
            return;
        }
        if self.bytes.load(Ordering::Relaxed) + size > self.bytes_max {
            dropped("bytes");
            return;
        }
        self.bytes.fetch_add(size, Ordering::Relaxed);
        if self.queue.try_send(Waiting { gateway, payload, is_push }).is_err() {
            self.bytes.fetch_sub(size, Ordering::Relaxed);
            dropped("count");
        }
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        self.sending.abort();
    }
}

fn pushed(is_push: bool) {
    if is_push {
        crash_point("delivery.pushed");
    }
}

fn dropped(reason: &'static str) {
    counter!("delivery_sends_dropped_total", "reason" => reason).increment(1);
}
