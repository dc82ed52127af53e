//! Core messages of one subject, in order, with every loss on the way told.
//!
//! The broker client drops what does not fit into a subscription's queue and says so only as an event of the connection.
//! Here that event reaches the reader as [`Received::Lagged`]; a reconnect does too, since what was published meanwhile
//! is gone.

use std::sync::Arc;

use async_nats::Subscriber;
use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _};
use metrics::counter;

use crate::connection::{Lag, Lags};
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
    number: u64,
    lag: Arc<Lag>,
    lags: Arc<Lags>,
    names: Names,
}

impl Subscription {
    pub(crate) fn new(
        subject: Subject,
        subscriber: Subscriber,
        number: u64,
        lag: Arc<Lag>,
        lags: Arc<Lags>,
        names: Names,
    ) -> Self {
        Self { subject, subscriber, number, lag, lags, names }
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
            tokio::select! {
                biased;
                () = self.lag.raised() => {}
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
        self.lags.remove(self.number);
    }
}
