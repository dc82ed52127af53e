//! What delivery and ingest send to this gateway, and what it tells them of its sessions.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use domain::{Epoch, GatewayId, Micros, Partition, Rules, SessionId, TenureId};
use event_log::{Log, Received, Subject, Subscription};
use metrics::counter;
use prost::Message as _;
use proto::relay::push::What;
use proto::relay::{AnnounceRequest, Announcement, AnswerBatch, PushBatch, ToGateway, to_gateway};
use proto::v1::server_frame::Frame;
use tokio::time::interval;
use tokio_util::sync::CancellationToken;

use crate::changes::{Change, Changes};
use crate::heads::Heads;
use crate::machine::{Tracker, TrackerAction, TrackerInput};
use crate::registry::Registry;
use crate::socket::Class;
use crate::{Error, frames};

/// Outcomes to the sockets that asked. A lost one costs nothing: the client asks again.
pub(crate) async fn answers(
    mut answers: Subscription,
    registry: Arc<Registry>,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    loop {
        let received = tokio::select! {
            received = answers.next() => received,
            () = shutdown.cancelled() => return Ok(()),
        };
        match received {
            Some(Received::Message(message)) => {
                let Ok(batch) = AnswerBatch::decode(message.payload) else {
                    counter!("gateway_relay_undecodable_total").increment(1);
                    continue;
                };
                for answer in batch.answers {
                    if let Some(outcome) = answer.outcome {
                        let frame = frames::frame(answer.request, Frame::Outcome(outcome));
                        registry.reply(SessionId(answer.session), &frame, Class::Ordinary);
                    }
                }
            }
            Some(Received::Lagged) => counter!("gateway_answers_lagged_total").increment(1),
            None => return Err(Error::Stopped("the subscription of answers")),
        }
    }
}

/// Pushes to the sessions, announcements to the owners: one task, so that one order holds for both.
pub(crate) struct Relay {
    pub(crate) gateway: GatewayId,
    pub(crate) log: Log,
    pub(crate) registry: Arc<Registry>,
    pub(crate) heads: BTreeMap<Partition, Arc<Heads>>,
    pub(crate) pushes: Subscription,
    pub(crate) asked: Subscription,
    pub(crate) changes: Arc<Changes>,
    /// The tracker measures spans, which no change of the host's clock may stretch.
    pub(crate) started: Instant,
}

impl Relay {
    pub(crate) async fn serve(mut self, shutdown: CancellationToken) -> Result<(), Error> {
        let mut tracker = Tracker::new(self.gateway, self.log.partitions(), Rules::ALL);
        let mut ticks = interval(Duration::from_millis(250));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut actions = Vec::new();
        // Owners that know an earlier run of nobody must learn that there is a gateway.
        tracker.handle(self.now(), TrackerInput::Asked, &mut actions);
        loop {
            self.run(std::mem::take(&mut actions)).await;
            tokio::select! {
                received = self.pushes.next() => match received {
                    Some(Received::Message(message)) => self.pushed(&mut tracker, message.payload, &mut actions),
                    Some(Received::Lagged) => tracker.handle(self.now(), TrackerInput::Lagged, &mut actions),
                    None => return Err(Error::Stopped("the subscription of pushes")),
                },
                changed = self.changes.taken() => {
                    for (session, change) in changed {
                        let input = match change {
                            Change::Up(user) => TrackerInput::Up(session, user),
                            Change::Down => TrackerInput::Down(session),
                        };
                        tracker.handle(self.now(), input, &mut actions);
                    }
                    tracker.handle(self.now(), TrackerInput::Go, &mut actions);
                }
                received = self.asked.next() => {
                    let for_us = match received {
                        Some(Received::Message(message)) => AnnounceRequest::decode(message.payload)
                            .is_ok_and(|request| request.gateway == 0 || request.gateway == self.gateway.0),
                        Some(Received::Lagged) => true,
                        None => return Err(Error::Stopped("the subscription of requests")),
                    };
                    if for_us {
                        tracker.handle(self.now(), TrackerInput::Asked, &mut actions);
                    }
                }
                _ = ticks.tick() => tracker.handle(self.now(), TrackerInput::Tick, &mut actions),
                () = shutdown.cancelled() => return self.leave().await,
            }
        }
    }

    fn now(&self) -> Micros {
        Micros::try_from(self.started.elapsed().as_micros()).unwrap_or(Micros::MAX)
    }

    async fn leave(self) -> Result<(), Error> {
        let leaving = Announcement { gateway: self.gateway.0, leaving: true, ..Announcement::default() };
        self.announce(&leaving).await;
        Ok(())
    }

    fn pushed(&self, tracker: &mut Tracker, payload: Bytes, actions: &mut Vec<TrackerAction>) {
        let Ok(ToGateway { what: Some(what) }) = ToGateway::decode(payload) else {
            counter!("gateway_relay_undecodable_total").increment(1);
            // What it held is unknown: it may have been pushes.
            tracker.handle(self.now(), TrackerInput::Lagged, actions);
            return;
        };
        match what {
            to_gateway::What::Pushes(batch) => {
                let Some(partition) = partition(batch.partition) else { return };
                if tracker.batch(self.now(), partition, TenureId(batch.owner), batch.number, actions) {
                    self.deliver(batch);
                }
            }
            to_gateway::What::Through(through) => {
                let Some(partition) = partition(through.partition) else { return };
                let input =
                    TrackerInput::Through { partition, owner: TenureId(through.owner), last_batch: through.last_batch };
                tracker.handle(self.now(), input, actions);
            }
            to_gateway::What::Ack(ack) => tracker.handle(self.now(), TrackerInput::Acknowledged(ack), actions),
        }
    }

    fn deliver(&self, batch: PushBatch) {
        for push in batch.pushes {
            let (frame, unhurried) = match push.what {
                Some(What::Entry(entry)) => (frames::pushed(Epoch(batch.epoch), entry), push.own as usize),
                Some(What::Watermark(mark)) => (frames::frame(0, Frame::Watermark(mark)), push.sessions.len()),
                None => continue,
            };
            let (others, own) = push.sessions.split_at(push.sessions.len().saturating_sub(unhurried));
            self.registry.push(others.iter().copied().map(SessionId), &frame, Class::Ordinary);
            self.registry.push(own.iter().copied().map(SessionId), &frame, Class::Unhurried);
        }
    }

    async fn run(&self, actions: Vec<TrackerAction>) {
        for action in actions {
            match action {
                TrackerAction::Announce(announcement) => self.announce(&announcement).await,
                TrackerAction::Ready { partition, epoch, as_of, sessions } => {
                    if let Some(heads) = self.heads.get(&partition) {
                        heads.ready(&self.registry, &sessions, epoch, as_of);
                    }
                }
                TrackerAction::Resync(partition) => {
                    counter!("gateway_resyncs_total").increment(1);
                    tracing::info!(partition = partition.0, "pushes may be missing; sessions are told anew");
                }
            }
        }
    }

    async fn announce(&self, announcement: &Announcement) {
        // One that is lost is made again when its ack does not come.
        if self.log.send(&Subject::Announcements, announcement.encode_to_vec().into()).await.is_err() {
            counter!("gateway_announcements_dropped_total").increment(1);
        }
    }
}

fn partition(number: u32) -> Option<Partition> {
    u16::try_from(number).ok().map(Partition)
}
