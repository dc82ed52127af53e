//! A stand-in for a gateway: announces sessions, keeps all that it is sent, sends receipts.

use bytes::Bytes;
use domain::{ChatId, Entry, GatewayId, Seq, UserId};
use event_log::{Log, Received, Subject, Subscription};
use prost::Message as _;
use proto::relay::push::What;
use proto::relay::{
    Announcement, AnnouncementAck, PushBatch, Receipt, ReceiptBatch, SessionUp, Through, ToGateway, to_gateway,
};
use testkit::wait::until;

use crate::setup::{P0, SOON, user};

pub(crate) struct Gateway {
    id: u64,
    log: Log,
    version: u64,
    inbox: Subscription,
    pub(crate) batches: Vec<PushBatch>,
    pub(crate) acks: Vec<AnnouncementAck>,
    pub(crate) throughs: Vec<Through>,
}

impl Gateway {
    pub(crate) async fn start(log: &Log, id: u64) -> Self {
        let inbox = log.subscribe(Subject::Pushes(GatewayId(id))).await.unwrap();
        Self { id, log: log.clone(), version: 0, inbox, batches: vec![], acks: vec![], throughs: vec![] }
    }

    /// Announces that exactly these users are online, until partition 0 acknowledges it; session = user + 1000 × id.
    pub(crate) async fn online(&mut self, users: impl IntoIterator<Item = u8>) -> AnnouncementAck {
        let session = |n: u8| SessionUp { session: u64::from(n) + 1_000 * self.id, user: user(n).to_wire() };
        let up: Vec<SessionUp> = users.into_iter().map(session).collect();
        self.version += 1;
        let announcement =
            Announcement { gateway: self.id, version: self.version, snapshot: true, up, ..Announcement::default() };
        let (version, seen) = (self.version, self.acks.len());
        until(SOON, "an ack of the announcement", async || {
            // Again and again, as a gateway does whose ack does not come: delivery may not have started.
            self.log.send(&Subject::Announcements, announcement.encode_to_vec().into()).await.unwrap();
            self.receive();
            self.acks[seen..].iter().find(|ack| ack.version == version && ack.partition == 0).cloned()
        })
        .await
    }

    /// Takes what has come.
    pub(crate) fn receive(&mut self) {
        while let Some(received) = self.inbox.try_next() {
            // A reconnect counts as a loss; what the tests wait for shows whether it was one.
            let Received::Message(message) = received else { continue };
            match ToGateway::decode(message.payload).unwrap().what.unwrap() {
                to_gateway::What::Pushes(batch) => self.batches.push(batch),
                to_gateway::What::Ack(ack) => self.acks.push(ack),
                to_gateway::What::Through(through) if through.partition == 0 => self.throughs.push(through),
                to_gateway::What::Through(_) => {}
            }
        }
    }

    pub(crate) async fn until(&mut self, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        until(SOON, what, async || {
            self.receive();
            holds(self)
        })
        .await;
    }

    /// Seqs that a user's session got in a chat, in order, repeats too.
    pub(crate) fn seqs(&self, n: u8, chat: ChatId) -> Vec<Seq> {
        let session = u64::from(n) + 1_000 * self.id;
        let pushes = self.batches.iter().flat_map(|batch| &batch.pushes);
        let entries = pushes.filter(|push| push.sessions.contains(&session)).filter_map(|push| match &push.what {
            Some(What::Entry(bytes)) => Some(Entry::decode(bytes).unwrap()),
            Some(What::Watermark(_)) | None => None,
        });
        entries.filter(|entry| entry.chat == chat).map(|entry| entry.seq).collect()
    }

    /// (user, delivered, seen) of each watermark that a user's session got.
    pub(crate) fn watermarks(&self, n: u8) -> Vec<(UserId, Seq, Seq)> {
        let session = u64::from(n) + 1_000 * self.id;
        let pushes = self.batches.iter().flat_map(|batch| &batch.pushes);
        let marks = pushes.filter(|push| push.sessions.contains(&session)).filter_map(|push| match &push.what {
            Some(What::Watermark(mark)) => Some(mark),
            Some(What::Entry(_)) | None => None,
        });
        marks.map(|mark| (UserId::try_from(&mark.user[..]).unwrap(), mark.delivered, mark.seen)).collect()
    }

    pub(crate) fn numbers(&self) -> Vec<u64> {
        self.batches.iter().map(|batch| batch.number).collect()
    }

    pub(crate) async fn receipt(&self, chat: ChatId, n: u8, delivered: Seq, seen: Seq) {
        let receipt = Receipt { chat: chat.to_wire(), user: user(n).to_wire(), delivered, seen };
        let batch = ReceiptBatch { gateway: self.id, receipts: vec![receipt] };
        self.log.send(&Subject::Receipts(P0), Bytes::from(batch.encode_to_vec())).await.unwrap();
    }
}
