//! Tells sessions where their chats stand, once at once and once as new as the session's own beginning.
//!
//! Each session has one entry and one task at most, however often it becomes ready anew, so what waits is bounded by
//! the sockets (N9). A list that was begun for an older `ready` never goes on behind a newer one (M19).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use domain::{Epoch, Partition, Seq, SessionId, UserId};
use metrics::counter;
use proto::v1::server_frame::Frame;
use proto::v1::{Head, Heads as List, Ready};
use store::{Checkpoint, Reader, Store};
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;
use tokio::time::interval;
use tokio_util::sync::CancellationToken;

use crate::downlink::Pushed;
use crate::frames::{self, ToClients};
use crate::registry::Registry;
use crate::socket::{Class, CloseCode, SubProtocol};

/// Heads of one frame, so that it fits any queue.
const fn heads_per_frame(sub_protocol: SubProtocol) -> usize {
    match sub_protocol {
        // About 60 bytes each.
        SubProtocol::Proto => 500,
        // About 140 bytes each, 230 at most.
        SubProtocol::Json => 250,
    }
}

/// A list this short goes out behind whatever waits; longer ones wait for an empty queue, so that the lists of all
/// partitions together never fill the queue of a reader who is just slow.
const SHORT_LIST: usize = 50;

/// The sessions of one partition that wait for their heads.
#[derive(Debug)]
pub(crate) struct Heads {
    partition: Partition,
    listed: Mutex<Listed>,
    arrived: Notify,
}

#[derive(Debug, Default)]
struct Listed {
    sessions: HashMap<SessionId, Wanted>,
    /// How far the read models are known to be; only ever too old, which costs a poll.
    through: Option<Checkpoint>,
    round: u64,
}

#[derive(Clone, Copy, Debug)]
struct Wanted {
    user: UserId,
    epoch: Epoch,
    as_of: Seq,
    /// Number of the `ready` that it was told.
    round: u64,
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    New,
    /// A task tells it; that one also sees to a newer `ready`.
    Telling,
    /// Told once; waits for the read models.
    Behind,
}

impl Wanted {
    fn is_current(&self, through: Option<Checkpoint>) -> bool {
        self.as_of == 0 || through.is_some_and(|at| at.epoch == self.epoch && at.events >= self.as_of)
    }
}

impl Heads {
    pub(crate) fn new(partition: Partition) -> Self {
        Self { partition, listed: Mutex::default(), arrived: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Listed> {
        self.listed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells these sessions that they are ready as of `as_of`; their heads follow.
    pub(crate) fn ready(&self, registry: &Registry, sessions: &[(SessionId, UserId)], epoch: Epoch, as_of: Seq) {
        let ready = Ready { partition: u32::from(self.partition.0), epoch: epoch.0, as_of };
        let frame = frames::frame(0, Frame::Ready(ready));
        let mut listed = self.lock();
        // Under the lock: no frame of an older list comes behind this one.
        registry.push(sessions.iter().map(|(session, _)| *session), &frame, Class::Ordinary);
        listed.round += 1;
        let round = listed.round;
        for (session, user) in sessions {
            let wanted = Wanted { user: *user, epoch, as_of, round, stage: Stage::New };
            let entry = listed.sessions.entry(*session).or_insert(wanted);
            let stage = if entry.stage == Stage::Telling { Stage::Telling } else { Stage::New };
            *entry = Wanted { stage, ..wanted };
        }
        drop(listed);
        self.arrived.notify_one();
    }

    /// Serves until shut down; the read model is asked only while someone waits.
    pub(crate) async fn serve(
        self: Arc<Self>,
        store: Store,
        registry: Arc<Registry>,
        reads: Arc<Semaphore>,
        poll: Duration,
        shutdown: CancellationToken,
    ) {
        let mut telling = JoinSet::new();
        let mut polls = interval(poll);
        polls.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let someone_waits = !self.lock().sessions.is_empty();
            tokio::select! {
                () = self.arrived.notified() => {}
                _ = polls.tick(), if someone_waits => {}
                Some(_) = telling.join_next() => continue,
                () = shutdown.cancelled() => return,
            }
            // Read before the lists are: a list is at least as new as the checkpoint that it is judged by.
            let through = store.checkpoint(Reader::Projections, self.partition).await.ok().flatten();
            for session in self.due(&registry, through) {
                let (store, registry, reads) = (store.clone(), Arc::clone(&registry), Arc::clone(&reads));
                let heads = Arc::clone(&self);
                telling.spawn(async move { heads.tell(session, &store, &registry, &reads).await });
            }
        }
    }

    /// Who is to be told now: the new ones, and those that the read models have caught up with.
    fn due(&self, registry: &Registry, through: Option<Checkpoint>) -> Vec<SessionId> {
        let mut listed = self.lock();
        if through.is_some() {
            listed.through = through;
        }
        let through = listed.through;
        let mut due = Vec::new();
        listed.sessions.retain(|session, wanted| {
            let tell = match wanted.stage {
                Stage::New => true,
                Stage::Telling => false,
                Stage::Behind if !registry.holds(*session) => return false,
                Stage::Behind => wanted.is_current(through),
            };
            if tell {
                wanted.stage = Stage::Telling;
                due.push(*session);
            }
            true
        });
        due
    }

    async fn tell(&self, session: SessionId, store: &Store, registry: &Registry, reads: &Semaphore) {
        loop {
            let (wanted, current) = {
                let listed = self.lock();
                let Some(wanted) = listed.sessions.get(&session) else { return };
                (*wanted, wanted.is_current(listed.through))
            };
            if self.tell_list(session, wanted, current, store, registry, reads).await.is_err() {
                counter!("gateway_heads_failed_total").increment(1);
                registry.give_up(session, CloseCode::Resync);
            }
            let mut listed = self.lock();
            match listed.sessions.get_mut(&session) {
                // It became ready anew meanwhile.
                Some(newer) if newer.round != wanted.round && registry.holds(session) => {}
                Some(same) if !current && registry.holds(session) => {
                    same.stage = Stage::Behind;
                    return;
                }
                Some(_) | None => {
                    listed.sessions.remove(&session);
                    return;
                }
            }
        }
    }

    async fn tell_list(
        &self,
        session: SessionId,
        wanted: Wanted,
        current: bool,
        store: &Store,
        registry: &Registry,
        reads: &Semaphore,
    ) -> Result<(), store::Error> {
        let Some(sub_protocol) = registry.sub_protocol(session) else { return Ok(()) };
        let most = heads_per_frame(sub_protocol);
        let mut after = None;
        loop {
            let page = {
                // Held for the read alone: who does not read its socket keeps nobody else waiting.
                let Ok(_read) = reads.acquire().await else { return Ok(()) };
                counter!("gateway_heads_reads_total").increment(1);
                store.heads(wanted.user, self.partition, after, most).await?
            };
            let last = page.len() < most;
            after = page.last().map(|head| head.chat);
            let class = if page.len() <= SHORT_LIST { Class::Ordinary } else { Class::History };
            let heads = page.into_iter().map(|head| Head {
                chat: head.chat.to_wire(),
                head: head.head,
                ordinal: head.ordinal,
                delivered: head.watermark.delivered,
                seen: head.watermark.seen,
                seen_ordinal: head.watermark.seen_ordinal,
                first_seq: head.first_seq,
            });
            let list = List { partition: u32::from(self.partition.0), heads: heads.collect(), last, current };
            let frame = frames::frame(0, Frame::Heads(list));
            let is_told = self.put(session, wanted.round, frame, class, registry).await;
            if last || !is_told {
                return Ok(());
            }
        }
    }

    /// Queues one frame of a list; false: its session is gone or cannot go on, or became ready anew.
    async fn put(&self, session: SessionId, round: u64, frame: ToClients, class: Class, registry: &Registry) -> bool {
        loop {
            let pushed = {
                let listed = self.lock();
                if listed.sessions.get(&session).is_none_or(|wanted| wanted.round != round) {
                    return false;
                }
                registry.push_one(session, &frame, class)
            };
            match pushed {
                Some(Pushed::Taken) => return true,
                Some(Pushed::NotEmpty(outbound)) => outbound.drained().await,
                Some(Pushed::Missed) | None => return false,
            }
        }
    }
}
