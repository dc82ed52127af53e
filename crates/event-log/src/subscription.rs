//! Core messages of one subject, in order, with every loss on the way told.
//!
//! The broker client drops what does not fit into a subscription's queue and says so only as an event of the connection.
//! Here that event reaches the reader as [`Received::Lagged`]; a reconnect does too, since what was published meanwhile
//! is gone. What was sent within the process comes from a queue beside the broker's, under the same rules.

use std::future::pending;
use std::sync::Arc;

use async_nats::Subscriber;
use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _};
use metrics::counter;

use crate::connection::{Lag, Lags};
use crate::local::{Exit, Locals};
use crate::names::Names;
use crate::subject::Subject;

/// One core message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Where it was sent to.
    pub subject: Subject,
    /// What was sent.
    pub payload: Bytes,
}

/// What a subscription yields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received {
    /// The next message.
    Message(Message),
    /// Messages were lost since the last time that this was said: resync.
    ///
    /// Told before the messages that still wait, older and newer ones than what was lost.
    Lagged,
}

/// Core messages of one subject; dropping it ends it.
#[derive(Debug)]
pub struct Subscription {
    subject: Subject,
    subscriber: Subscriber,
    /// What is handed over within the process, if the subject allows that.
    local: Option<Exit>,
    lag: Arc<Lag>,
    ends: Ends,
    names: Names,
}

/// Where a subscription is known, and must no longer be when it is gone.
#[derive(Debug)]
pub(crate) struct Ends {
    pub(crate) number: u64,
    pub(crate) lags: Arc<Lags>,
    pub(crate) locals: Arc<Locals>,
}

impl Subscription {
    pub(crate) fn new(
        subject: Subject,
        subscriber: Subscriber,
        local: Option<Exit>,
        lag: Arc<Lag>,
        ends: Ends,
        names: Names,
    ) -> Self {
        Self { subject, subscriber, local, lag, ends, names }
    }

    /// The subject that it was made for.
    pub fn subject(&self) -> Subject {
        self.subject
    }

    /// Waits for the next message or loss; `None` when the connection is closed for good.
    ///
    /// Loses nothing when it is dropped before it is ready.
    pub async fn next(&mut self) -> Option<Received> {
        loop {
            if let Some(lagged) = self.lagged() {
                return Some(lagged);
            }
            let local = async {
                match &mut self.local {
                    Some(local) => local.next().await,
                    None => pending().await,
                }
            };
            // In no fixed order, so that neither source can starve the other; the order of a sender lies within one.
            tokio::select! {
                () = self.lag.raised() => {}
                payload = local => return Some(Received::Message(Message { subject: self.subject, payload })),
                message = self.subscriber.next() => {
                    if let Some(message) = self.read(message?) {
                        return Some(Received::Message(message));
                    }
                }
            }
        }
    }

    /// The next message or loss if one is there already.
    pub fn try_next(&mut self) -> Option<Received> {
        if let Some(lagged) = self.lagged() {
            return Some(lagged);
        }
        if let Some(payload) = self.local.as_mut().and_then(Exit::try_next) {
            return Some(Received::Message(Message { subject: self.subject, payload }));
        }
        loop {
            let message = self.subscriber.next().now_or_never()??;
            if let Some(message) = self.read(message) {
                return Some(Received::Message(message));
            }
        }
    }

    fn lagged(&self) -> Option<Received> {
        self.lag.take().then(|| {
            counter!("event_log_lagged_total", "subject" => self.subject.kind()).increment(1);
            Received::Lagged
        })
    }

    fn read(&self, message: async_nats::Message) -> Option<Message> {
        let Some(subject) = self.names.parse(&message.subject) else {
            counter!("event_log_messages_dropped_total", "reason" => "foreign_subject").increment(1);
            return None;
        };
        Some(Message { subject, payload: message.payload })
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.ends.lags.remove(self.ends.number);
        self.ends.locals.close(self.subject, self.ends.number);
    }
}
