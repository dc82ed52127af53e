//! Follows the CONTROL stream: what every gateway must learn, however late.
//!
//! What is published there also goes to every core subscriber of its subject; that is only the hint to look. What is
//! given out is read from the stream, in order, from the record that is due. A look each second finds what a lost hint or
//! a lost connection kept from us.

use std::time::Duration;

use async_nats::jetstream::Context;
use futures_util::{FutureExt as _, StreamExt as _, TryStreamExt as _, stream};
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::Error;
use crate::record::{self, Record};
use crate::streams;
use crate::subscription::Subscription;

/// How long a record stays unknown where its hint was lost.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A look that takes longer is one over a connection that is gone.
const LOOK_WITHIN: Duration = Duration::from_secs(2);
/// Records given out at a time, and how many of them are asked for at once.
const RECORDS_MAX: u64 = 1_024;
const ASKED_AT_ONCE: usize = 64;

/// Follows the CONTROL stream; made by [`Log::follow_control`](crate::Log::follow_control).
#[derive(Debug)]
pub struct ControlReader {
    context: Context,
    name: String,
    hints: Subscription,
    due: u64,
}

impl ControlReader {
    pub(crate) const fn new(context: Context, name: String, hints: Subscription) -> Self {
        Self { context, name, hints, due: 1 }
    }

    /// Waits for records and returns those that wait, at least one, at most 1,024, in order.
    ///
    /// Tries for ever where the broker does not answer. Loses nothing when it is dropped before it is ready.
    pub async fn next(&mut self) -> Vec<Record> {
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = looks.tick() => {}
                Some(_hint) = self.hints.next() => {}
            }
            match timeout(LOOK_WITHIN, self.waiting()).await {
                Ok(Ok(records)) if !records.is_empty() => return records,
                Ok(Ok(_)) => {}
                Ok(Err(error)) => tracing::debug!(%error, "cannot look at the control stream"),
                Err(_) => tracing::debug!("no answer about the control stream"),
            }
        }
    }

    /// The records that wait now; none: all that is stored was given out.
    ///
    /// # Errors
    /// The broker refused, or cannot be reached.
    pub async fn waiting(&mut self) -> Result<Vec<Record>, Error> {
        let bounds = streams::info(&self.context, &self.name).await?.state;
        // What is not there any more is over: it stays longer than any token is valid.
        let first = self.due.max(bounds.first_sequence);
        let last = bounds.last_sequence.min(first.saturating_add(RECORDS_MAX - 1));
        if first > last {
            return Ok(Vec::new());
        }
        let what = || format!("read records {first} to {last} of {}", self.name);
        let stream = self.context.get_stream_no_info(&self.name).await.map_err(|error| Error::broker(what(), error))?;
        let reads: Vec<_> = (first..=last).map(|sequence| record::read(&stream, sequence).boxed()).collect();
        let read = stream::iter(reads).buffered(ASKED_AT_ONCE).try_collect::<Vec<_>>().await;
        let records = read.map_err(|error| Error::broker(what(), error))?;
        self.due = last + 1;
        Ok(records.into_iter().flatten().collect())
    }
}
