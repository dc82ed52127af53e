//! A new epoch of a partition: its streams made anew, with what of the old ones nobody has decided yet.
//!
//! For when streams and store no longer fit: a tail was lost, a stream deleted or brought back from a backup. Nobody else
//! may work on the partition meanwhile. What must survive the old streams waits in one of its own, which is marked whole
//! before any of them goes; so each step can be cut, and whoever begins again goes on from there.
//!
//! ```text
//! renew ─▶ (read old streams, carry, seal) ─▶ reopen ─▶ emit ─▶ (position) ─▶ release
//! ```

use async_nats::jetstream::stream::Config;
use bytes::Bytes;
use domain::{Epoch, Partition};

use crate::publish::{Attempt, Mark, attempt};
use crate::record::{self, Bounds};
use crate::streams::{self, Stream};
use crate::{Error, Log, Record};

/// In the metadata of what waits, once that is whole: how many of its records are of events; those come first.
const WHOLE: &str = "heliograph.whole";

/// A partition on its way to a new epoch.
#[derive(Debug)]
pub struct Renewal {
    log: Log,
    partition: Partition,
    epoch: Epoch,
    /// Records of events that wait, once all that must survive the old streams does.
    sealed: Option<u64>,
}

impl Log {
    /// Begins a new epoch of a partition above the one that is named, whatever became of the clock; or goes on with one
    /// that was broken off.
    ///
    /// # Errors
    /// The broker refused, or cannot be reached.
    pub async fn renew(&self, partition: Partition, above: Option<Epoch>) -> Result<Renewal, Error> {
        let name = self.names().waiting(partition);
        if let Some(found) = streams::find(self.context(), &name).await? {
            if found.config.metadata.contains_key(WHOLE) {
                let (epoch, events) = (streams::epoch_of(&found)?, streams::metadata(&found, WHOLE)?);
                return Ok(Renewal { log: self.clone(), partition, epoch, sealed: Some(events) });
            }
            delete(self, &name).await?;
        }
        let epoch = streams::now().max(Epoch(above.map_or(0, |above| above.0.saturating_add(1))));
        let renewal = Renewal { log: self.clone(), partition, epoch, sealed: None };
        let settings = renewal.settings(None);
        let made = self.context().create_stream(settings).await;
        made.map_err(|error| Error::broker(format!("create stream {name}"), error))?;
        Ok(renewal)
    }
}

impl Renewal {
    /// The new epoch: above all that the partition had.
    pub const fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Whether all that must survive the old streams waits already: those may be gone.
    pub const fn is_sealed(&self) -> bool {
        self.sealed.is_some()
    }

    /// What an old stream holds; none: it is gone.
    ///
    /// # Errors
    /// The broker refused, or cannot be reached.
    pub async fn bounds(&self, stream: Stream) -> Result<Option<Bounds>, Error> {
        let name = self.log.names().stream(stream, self.partition);
        Ok(streams::find(self.log.context(), &name).await?.as_ref().map(Bounds::of))
    }

    /// The epoch that an old stream says; none: it is gone.
    ///
    /// # Errors
    /// The broker refused, or cannot be reached.
    pub async fn old_epoch(&self, stream: Stream) -> Result<Option<Epoch>, Error> {
        let name = self.log.names().stream(stream, self.partition);
        streams::find(self.log.context(), &name).await?.as_ref().map(streams::epoch_of).transpose()
    }

    /// One record of an old stream; none where there is none.
    ///
    /// # Errors
    /// The broker refused, or cannot be reached.
    pub async fn read(&self, stream: Stream, sequence: u64) -> Result<Option<Record>, Error> {
        // A position before the first record.
        if sequence == 0 {
            return Ok(None);
        }
        self.read_of(&self.log.names().stream(stream, self.partition), sequence).await
    }

    /// Keeps a record of events, or, behind all of those, one of commands.
    ///
    /// # Errors
    /// The broker refused, or cannot be reached.
    pub async fn carry(&self, payload: Bytes) -> Result<(), Error> {
        self.put(self.log.names().waiting_subject(self.partition), payload, Mark::None).await.map(drop)
    }

    /// All that must survive has been carried, so many records of events first; the old streams are not needed any more.
    ///
    /// # Errors
    /// The broker refused, or cannot be reached.
    pub async fn seal(&mut self, events: u64) -> Result<(), Error> {
        let name = self.log.names().waiting(self.partition);
        let updated = self.log.context().update_stream(self.settings(Some(events))).await;
        updated.map_err(|error| Error::broker(format!("update stream {name}"), error))?;
        self.sealed = Some(events);
        Ok(())
    }

    /// Makes the streams anew, those that are not of the new epoch yet; `afresh` names one that is made in any case.
    ///
    /// # Errors
    /// The broker refused, or cannot be reached.
    pub async fn reopen(&self, afresh: Option<Stream>) -> Result<(), Error> {
        for stream in [Stream::Commands, Stream::Events, Stream::Statuses] {
            let name = self.log.names().stream(stream, self.partition);
            let found = streams::find(self.log.context(), &name).await?;
            let is_new = found.as_ref().is_some_and(|found| streams::epoch_of(found).is_ok_and(|of| of == self.epoch));
            if found.is_some() && (!is_new || afresh == Some(stream)) {
                delete(&self.log, &name).await?;
            }
            let settings = streams::settings(stream, self.partition, self.epoch, self.log.config(), self.log.names());
            streams::ensure(self.log.context(), settings).await?;
        }
        Ok(())
    }

    /// Publishes a record of events behind the `last` one.
    ///
    /// # Errors
    /// The broker refused, or cannot be reached.
    pub async fn emit(&self, payload: Bytes, last: u64) -> Result<u64, Error> {
        let subject = self.log.names().subject(&Stream::Events.subject(self.partition));
        self.put(subject, payload, Mark::ExpectedLast(last)).await
    }

    /// Publishes the records of events that were carried behind the `last` one; the last one then.
    ///
    /// # Errors
    /// The broker refused, or cannot be reached.
    pub async fn emit_carried(&self, mut last: u64) -> Result<u64, Error> {
        let name = self.log.names().waiting(self.partition);
        for sequence in 1..=self.sealed.unwrap_or(0) {
            if let Some(record) = self.read_of(&name, sequence).await? {
                last = self.emit(record.payload, last).await?;
            }
        }
        Ok(last)
    }

    /// Publishes the records of commands that were carried to the new COMMANDS, in their order, and ends the renewal.
    ///
    /// Broken off and begun again it publishes some once more, which the fold knows. Returns how many they were.
    ///
    /// # Errors
    /// The broker refused, or cannot be reached.
    pub async fn release(self) -> Result<u64, Error> {
        let name = self.log.names().waiting(self.partition);
        let last = streams::find(self.log.context(), &name).await?.map_or(0, |found| Bounds::of(&found).last);
        let events = self.sealed.unwrap_or(0);
        for sequence in events + 1..=last {
            let Some(record) = self.read_of(&name, sequence).await? else { continue };
            let id = format!("renewed-{}-{sequence}", self.epoch.0);
            let subject = self.log.names().subject(&Stream::Commands.subject(self.partition));
            self.put(subject, record.payload, Mark::MessageId(&id)).await?;
        }
        delete(&self.log, &name).await?;
        Ok(last.saturating_sub(events))
    }

    async fn read_of(&self, name: &str, sequence: u64) -> Result<Option<Record>, Error> {
        record::read_named(self.log.context(), name, sequence).await
    }

    async fn put(&self, subject: String, payload: Bytes, mark: Mark<'_>) -> Result<u64, Error> {
        let what = format!("publish to {subject}");
        match attempt(self.log.client(), subject, payload, mark, self.log.config().attempt_deadline()).await {
            Attempt::Stored(sequence) => Ok(sequence),
            refused @ (Attempt::WrongLast(_) | Attempt::Full | Attempt::Unavailable(_) | Attempt::Unknown(_)) => {
                Err(Error::broker(what, format!("{refused:?}")))
            }
        }
    }

    fn settings(&self, whole: Option<u64>) -> Config {
        let mut settings =
            streams::settings(Stream::Commands, self.partition, self.epoch, self.log.config(), self.log.names());
        settings.name = self.log.names().waiting(self.partition);
        settings.subjects = vec![self.log.names().waiting_subject(self.partition)];
        settings.metadata.extend(whole.map(|events| (WHOLE.to_owned(), events.to_string())));
        settings
    }
}

async fn delete(log: &Log, name: &str) -> Result<(), Error> {
    let deleted = log.context().delete_stream(name).await;
    deleted.map(drop).map_err(|error| Error::broker(format!("delete stream {name}"), error))
}
