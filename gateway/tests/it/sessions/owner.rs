//! A scripted owner of delivery partition 0: mirrors announcements, acknowledges and pushes when told to.

use std::collections::BTreeMap;

use domain::{Epoch, GatewayId};
use event_log::{Log, Received, Subject, Subscription};
use prost::Message as _;
use proto::relay::{
    AnnounceRequest, Announcement, AnnouncementAck, Push, PushBatch, Through, ToGateway, push, to_gateway,
};
use testkit::wait::until;

use super::setup::SOON;

pub(crate) struct Owner {
    log: Log,
    epoch: Epoch,
    pub(crate) id: u64,
    announcements: Subscription,
    gateway: u64,
    pub(crate) version: u64,
    pub(crate) sessions: BTreeMap<u64, [u8; 16]>,
    pub(crate) left: bool,
    number: u64,
}

impl Owner {
    pub(crate) async fn start(log: &Log, epoch: Epoch, id: u64) -> Self {
        let announcements = log.subscribe(Subject::Announcements).await.unwrap();
        let owner = Self {
            log: log.clone(),
            epoch,
            id,
            announcements,
            gateway: 0,
            version: 0,
            sessions: BTreeMap::new(),
            left: false,
            number: 0,
        };
        owner.ask().await;
        owner
    }

    async fn ask(&self) {
        let ask = AnnounceRequest { gateway: 0 }.encode_to_vec();
        self.log.send(&Subject::AnnounceRequests, ask.into()).await.unwrap();
    }

    /// Takes what has come; asks for everything when a version is missing, as delivery does.
    async fn receive(&mut self) {
        while let Some(received) = self.announcements.try_next() {
            let Received::Message(message) = received else { continue };
            let it = Announcement::decode(message.payload).unwrap();
            self.gateway = it.gateway;
            self.left |= it.leaving;
            if it.snapshot {
                assert!(it.parts <= 1, "no test here has that many sessions");
                self.sessions.clear();
            } else if it.version != self.version + 1 {
                if it.version > self.version + 1 {
                    self.ask().await;
                }
                continue;
            }
            self.version = it.version;
            self.sessions.extend(it.up.iter().map(|up| (up.session, up.user[..].try_into().unwrap())));
            self.sessions.retain(|session, _| !it.down.contains(session));
        }
    }

    pub(crate) async fn until(&mut self, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        until(SOON, what, async || {
            self.receive().await;
            holds(self)
        })
        .await;
    }

    /// Waits until exactly these sessions are announced.
    pub(crate) async fn mirrors(&mut self, sessions: &[u64]) {
        self.until("the sessions to be announced", |owner| {
            owner.sessions.len() == sessions.len() && sessions.iter().all(|it| owner.sessions.contains_key(it))
        })
        .await;
    }

    async fn say(&self, what: to_gateway::What) {
        let message = ToGateway { what: Some(what) }.encode_to_vec();
        self.log.send(&Subject::Pushes(GatewayId(self.gateway)), message.into()).await.unwrap();
    }

    pub(crate) async fn ack(&self, version: u64, as_of: u64) {
        let ack = AnnouncementAck {
            gateway: self.gateway,
            version,
            partition: 0,
            epoch: self.epoch.0,
            owner: self.id,
            as_of,
            last_batch: self.number,
        };
        self.say(to_gateway::What::Ack(ack)).await;
    }

    pub(crate) async fn push(&mut self, pushes: Vec<(push::What, Vec<u64>)>) {
        self.number += 1;
        let pushes = pushes.into_iter().map(|(what, sessions)| Push { what: Some(what), sessions, own: 0 }).collect();
        let (owner, number) = (self.id, self.number);
        let batch = PushBatch { partition: 0, epoch: self.epoch.0, owner, number, pushes };
        self.say(to_gateway::What::Pushes(batch)).await;
    }

    /// Numbers a batch that never arrives.
    pub(crate) const fn lose_a_batch(&mut self) {
        self.number += 1;
    }

    pub(crate) async fn through(&self) {
        let through = Through { partition: 0, epoch: self.epoch.0, owner: self.id, last_batch: self.number, events: 0 };
        self.say(to_gateway::What::Through(through)).await;
    }
}
