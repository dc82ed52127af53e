//! The model broker: three streams of one partition, fenced publishes, dedupe by message id, trimming, lost tails.
//!
//! It is what `event-log` promises over a real server, no more. Messages on their way to it and from it, and the loss
//! of them, are the world's.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use domain::{Epoch, Micros, Seq};

/// One record of a stream.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) sequence: Seq,
    pub(crate) time_ns: i64,
    pub(crate) message_id: String,
    pub(crate) payload: Bytes,
}

/// One stream.
#[derive(Clone, Debug)]
pub(crate) struct Stream {
    pub(crate) first: Seq,
    records: VecDeque<Record>,
}

impl Stream {
    const fn new() -> Self {
        Self { first: 1, records: VecDeque::new() }
    }

    /// The highest sequence ever given, as far as the stream knows.
    pub(crate) fn last(&self) -> Seq {
        self.first + self.records.len() as u64 - 1
    }

    pub(crate) fn at(&self, sequence: Seq) -> Option<&Record> {
        let place = sequence.checked_sub(self.first)?;
        self.records.get(usize::try_from(place).ok()?)
    }

    /// The records from this one on, at most so many.
    pub(crate) fn from(&self, sequence: Seq, most: usize) -> impl Iterator<Item = &Record> {
        let skipped = usize::try_from(sequence.saturating_sub(self.first)).unwrap_or(usize::MAX);
        self.records.iter().skip(skipped).take(most)
    }

    fn push(&mut self, time_ns: i64, message_id: String, payload: Bytes) -> Seq {
        let sequence = self.last() + 1;
        self.records.push_back(Record { sequence, time_ns, message_id, payload });
        sequence
    }

    /// Drops what stands below.
    pub(crate) fn trim(&mut self, below: Seq) {
        while self.first < below && self.records.pop_front().is_some() {
            self.first += 1;
        }
    }

    /// Forgets the last records: a disk that lost them, or an older copy of it.
    pub(crate) fn lose(&mut self, count: usize) {
        self.records.truncate(self.records.len().saturating_sub(count));
    }

    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }
}

/// The broker of one partition.
#[derive(Debug)]
pub(crate) struct Broker {
    pub(crate) commands: Stream,
    pub(crate) events: Stream,
    pub(crate) statuses: Stream,
    pub(crate) epoch: Epoch,
    /// How often it was restarted: a connection of before is dead.
    pub(crate) restarts: u64,
    /// The machine went down while it synced lazily (M7): said by a mark that lies outside of streams and store.
    pub(crate) unclean: bool,
    /// What its clock is off.
    pub(crate) clock_ahead: Micros,
    /// How long a message id is remembered.
    window: Micros,
    seen: BTreeMap<String, (Micros, Seq)>,
    tenures: u64,
}

/// 2026, so that stamps look like stamps.
const BIRTH_US: Micros = 1_767_225_600_000_000;

impl Broker {
    pub(crate) const fn new(window: Micros) -> Self {
        Self {
            commands: Stream::new(),
            events: Stream::new(),
            statuses: Stream::new(),
            epoch: Epoch(1),
            restarts: 0,
            unclean: false,
            clock_ahead: 0,
            window,
            seen: BTreeMap::new(),
            tenures: 0,
        }
    }

    pub(crate) fn stamp(&self, now: Micros) -> i64 {
        i64::try_from((BIRTH_US + now + self.clock_ahead) * 1_000).unwrap_or(i64::MAX)
    }

    /// A new tenure's id: the revision of one key.
    pub(crate) const fn tenure(&mut self) -> u64 {
        self.tenures += 1;
        self.tenures
    }

    /// Many writers; a message id that is remembered names its first copy.
    pub(crate) fn publish_commands(&mut self, now: Micros, payload: Bytes, message_id: &str) -> Seq {
        let window = self.window;
        self.seen.retain(|_, (at, _)| now.saturating_sub(*at) < window);
        if let Some((_, sequence)) = self.seen.get(message_id) {
            return *sequence;
        }
        let sequence = self.commands.push(self.stamp(now), message_id.to_owned(), payload);
        self.seen.insert(message_id.to_owned(), (now, sequence));
        sequence
    }

    /// One fenced writer (M3).
    pub(crate) fn publish_events(&mut self, now: Micros, payload: Bytes, expected: Seq) -> Option<Seq> {
        (self.events.last() == expected).then(|| self.events.push(self.stamp(now), String::new(), payload))
    }

    pub(crate) fn publish_statuses(&mut self, now: Micros, payload: Bytes) -> Seq {
        self.statuses.push(self.stamp(now), String::new(), payload)
    }

    /// Message ids of lost records are forgotten with them.
    pub(crate) fn lose_commands(&mut self, count: usize) {
        self.commands.lose(count);
        let last = self.commands.last();
        self.seen.retain(|_, (_, sequence)| *sequence <= last);
    }
}
