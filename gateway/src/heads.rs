//! Tells sessions where their chats stand, once at once and once as new as the session's own beginning.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use domain::{Epoch, Partition, Seq, SessionId, UserId};
use metrics::counter;
use proto::v1::server_frame::Frame;
use proto::v1::{Head, Heads};
use store::{Reader, Store};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::interval;
use tokio_util::sync::CancellationToken;

use crate::frames;
use crate::registry::Registry;
use crate::socket::{Class, CloseCode};

/// Heads of one frame: about 60 bytes each, so that a frame fits any queue.
const HEADS_PER_FRAME: usize = 500;

/// A session that became ready.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    pub(crate) session: SessionId,
    pub(crate) user: UserId,
    pub(crate) epoch: Epoch,
    pub(crate) as_of: Seq,
}

/// Serves one partition until shut down; the read model is asked only while someone waits.
pub(crate) async fn serve(
    partition: Partition,
    store: Store,
    registry: Arc<Registry>,
    reads: Arc<Semaphore>,
    mut wanted: mpsc::UnboundedReceiver<Wanted>,
    poll: Duration,
    shutdown: CancellationToken,
) {
    // One a session: who becomes ready again waits for its newer beginning, which covers the older one.
    let mut waiting: BTreeMap<SessionId, Wanted> = BTreeMap::new();
    let mut arrived = Vec::new();
    let mut telling = JoinSet::new();
    let mut polls = interval(poll);
    polls.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            count = wanted.recv_many(&mut arrived, HEADS_PER_FRAME) => if count == 0 { return },
            _ = polls.tick(), if !waiting.is_empty() => {}
            Some(_) = telling.join_next() => continue,
            () = shutdown.cancelled() => return,
        }
        let through = store.checkpoint(Reader::Projections, partition).await.ok().flatten();
        let is_current =
            |one: &Wanted| one.as_of == 0 || through.is_some_and(|at| at.epoch == one.epoch && at.events >= one.as_of);
        // What came just now is told at once, as old as the model is; who was told before waits for the rest.
        let mut tell: Vec<_> = waiting.extract_if(.., |_, one| is_current(one)).map(|(_, one)| (one, true)).collect();
        for one in arrived.drain(..) {
            let current = is_current(&one);
            tell.push((one, current));
            if !current {
                waiting.insert(one.session, one);
            }
        }
        waiting.retain(|session, _| registry.outbound(*session).is_some());
        for (one, current) in tell {
            let (store, registry, reads) = (store.clone(), Arc::clone(&registry), Arc::clone(&reads));
            telling.spawn(async move {
                let Ok(_read) = reads.acquire().await else { return };
                if tell_heads(partition, &store, &registry, one, current).await.is_err() {
                    counter!("gateway_heads_failed_total").increment(1);
                    registry.close(one.session, CloseCode::Resync);
                }
            });
        }
    }
}

async fn tell_heads(
    partition: Partition,
    store: &Store,
    registry: &Registry,
    Wanted { session, user, .. }: Wanted,
    current: bool,
) -> Result<(), store::Error> {
    let mut after = None;
    loop {
        let page = store.heads(user, partition, after, HEADS_PER_FRAME).await?;
        let last = page.len() < HEADS_PER_FRAME;
        after = page.last().map(|head| head.chat);
        let heads = page.into_iter().map(|head| Head {
            chat: head.chat.to_wire(),
            head: head.head,
            ordinal: head.ordinal,
            delivered: head.watermark.delivered,
            seen: head.watermark.seen,
            seen_ordinal: head.watermark.seen_ordinal,
            first_seq: head.first_seq,
        });
        let heads = Heads { partition: u32::from(partition.0), heads: heads.collect(), last, current };
        let frame = frames::frame(0, Frame::Heads(heads));
        registry.push([session], &frame, Class::Ordinary);
        if last {
            return Ok(());
        }
        // One frame at a time: a long list must not fill the queue of its own session.
        if let Some(outbound) = registry.outbound(session) {
            outbound.drained().await;
        }
    }
}
