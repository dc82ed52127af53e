//! What the handles and the socket's task share under one lock: the endpoint and what it wants done.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use proto::v1;
use tokio::sync::oneshot;

use crate::ChatId;
use crate::client::{Answer, BODY_BYTES, Sent};
use crate::machine::{Endpoint, EndpointAction, Event, Identity, Progress, SendId, Settlement};
use crate::options::Observer;

struct Waiter {
    accepted: Option<oneshot::Sender<()>>,
    outcome: oneshot::Sender<Settlement>,
}

pub(crate) struct Shared {
    pub(crate) endpoint: Endpoint,
    /// Frames for the live socket.
    pub(crate) frames: VecDeque<v1::ClientFrame>,
    /// Events for the caller.
    pub(crate) events: VecDeque<Event>,
    /// No event will follow.
    pub(crate) ended: bool,
    // Whether the caller still listens; if not, the first entry of each chat that it did not take.
    listening: bool,
    untaken: BTreeMap<ChatId, u64>,
    pub(crate) signed_in: bool,
    pub(crate) cut: bool,
    pub(crate) body_bytes: usize,
    pub(crate) readers: BTreeMap<u64, oneshot::Sender<Result<v1::History, v1::Error>>>,
    waiters: BTreeMap<SendId, Waiter>,
    observer: Option<Arc<dyn Observer>>,
}

impl Shared {
    pub(crate) fn new(endpoint: Endpoint, observer: Option<Arc<dyn Observer>>) -> Self {
        Self {
            endpoint,
            frames: VecDeque::new(),
            events: VecDeque::new(),
            ended: false,
            listening: true,
            untaken: BTreeMap::new(),
            signed_in: false,
            cut: false,
            body_bytes: BODY_BYTES,
            readers: BTreeMap::new(),
            waiters: BTreeMap::new(),
            observer,
        }
    }

    pub(crate) fn wait_for(&mut self, id: SendId, identity: Identity) -> Sent {
        let (accepted, when_accepted) = oneshot::channel();
        let (outcome, when_settled) = oneshot::channel();
        self.waiters.insert(id, Waiter { accepted: Some(accepted), outcome });
        Sent { id, identity, accepted: Answer(when_accepted), outcome: Answer(when_settled) }
    }

    /// Where the caller stands: an entry that it has not taken is not known to it, whatever the timeline knows (N4).
    pub(crate) fn progress(&self) -> Progress {
        let mut progress = self.endpoint.timeline.progress();
        let mut lower = |chat, seq: u64| {
            let known = progress.known.entry(chat).or_default();
            *known = seq.saturating_sub(1).min(*known);
        };
        for event in &self.events {
            if let Event::Entry { entry, .. } = event {
                lower(entry.chat, entry.entry.seq);
            }
        }
        for (chat, seq) in &self.untaken {
            lower(*chat, *seq);
        }
        progress
    }

    /// Events are kept no longer.
    pub(crate) fn stop_listening(&mut self) {
        self.listening = false;
        for event in std::mem::take(&mut self.events) {
            self.leave(&event);
        }
    }

    fn leave(&mut self, event: &Event) {
        if let Event::Entry { entry, .. } = event {
            let first = self.untaken.entry(entry.chat).or_insert(entry.entry.seq);
            *first = entry.entry.seq.min(*first);
        }
    }

    /// Nobody will be answered any more.
    pub(crate) fn end(&mut self) {
        self.ended = true;
        self.waiters.clear();
        self.readers.clear();
        self.frames.clear();
    }

    pub(crate) fn act(&mut self, actions: Vec<EndpointAction>) {
        for action in actions {
            match action {
                EndpointAction::Transmit(frame) => self.frames.push_back(frame),
                EndpointAction::Answer(id, answer) => {
                    if let Some(reader) = self.readers.remove(&id) {
                        let _ = reader.send(answer);
                    }
                }
                EndpointAction::Tell(event) => self.tell(event),
            }
        }
    }

    pub(crate) fn tell(&mut self, event: Event) {
        if let Some(observer) = &self.observer {
            observer.observe(&event);
        }
        if let Event::Accepted { id } = &event {
            let accepted = self.waiters.get_mut(id).and_then(|waiter| waiter.accepted.take());
            accepted.map(|accepted| accepted.send(()));
        } else if let Event::Settled { id, settlement, .. } = &event
            && let Some(waiter) = self.waiters.remove(id)
        {
            waiter.accepted.map(|accepted| accepted.send(()));
            let _ = waiter.outcome.send(*settlement);
        }
        if event.is_raw() {
            return;
        }
        if self.listening {
            self.events.push_back(event);
        } else {
            self.leave(&event);
        }
    }
}
