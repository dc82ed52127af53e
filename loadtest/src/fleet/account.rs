//! The account of every message, and its latencies.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Result, bail};
use bytes::Bytes;
use hdrhistogram::Histogram;

use super::{lock, nanos};

/// A direct chat in which one side writes and the other reads.
pub(super) struct Chat {
    pub(super) id: Bytes,
    pub(super) sender: usize,
    pub(super) recipient: usize,
    pub(super) account: Mutex<Account>,
}

/// What became of the messages of one chat.
#[derive(Default)]
pub(super) struct Account {
    /// When messages were due that do not fit the window yet, in ns.
    pub(super) backlog: VecDeque<u64>,
    /// When those were due that are sent and not stored.
    pub(super) under_way: VecDeque<u64>,
    pub(super) sent: u64,
    pub(super) stored: u64,
    pub(super) received: u64,
    /// The highest seq that the recipient was pushed; the next one is one above.
    pub(super) recipient_seq: u64,
    /// The chat's head as its sender knows it.
    pub(super) head: u64,
}

impl Chat {
    pub(super) fn new(id: Bytes, sender: usize, recipient: usize) -> Self {
        Self { id, sender, recipient, account: Mutex::default() }
    }
}

impl Account {
    /// Messages that are not done.
    pub(super) fn open(&self) -> u64 {
        self.sent - self.stored.min(self.received)
    }

    pub(super) fn check_settled(&self) -> Result<()> {
        // Seq 1 is the chat's creation.
        let seqs = [self.stored + 1, self.received + 1, self.recipient_seq, self.head];
        if seqs.iter().any(|seq| *seq != self.sent + 1) {
            bail!("a chat with {} messages ended with stored, received, pushed, head = {seqs:?}", self.sent);
        }
        Ok(())
    }
}

/// Latencies of one paced run, in ns.
#[derive(Debug)]
pub(crate) struct Latencies {
    /// From when it was due until its sender was told `accepted`.
    pub(crate) accepted: Histogram<u64>,
    /// From when it was due until its recipient had it.
    pub(crate) received: Histogram<u64>,
    /// From when it was due until its sender was told `stored`.
    pub(crate) stored: Histogram<u64>,
    /// How late the schedule was kept.
    pub(crate) lag: Histogram<u64>,
}

impl Latencies {
    /// p99 until recipients had what was sent, in µs.
    pub(crate) fn received_p99(&self) -> f64 {
        self.received.value_at_quantile(0.99) as f64 / 1e3
    }
}

/// Places of the histograms.
const ACCEPTED: usize = 0;
const STORED: usize = 1;
const RECEIVED: usize = 2;

/// Three digits, up to a minute.
pub(crate) fn histogram() -> Result<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(1, 60_000_000_000, 3)?)
}

/// Sums over all chats.
pub(super) struct Progress {
    opened: AtomicU64,
    sent: AtomicU64,
    stored: AtomicU64,
    received: AtomicU64,
    last_done_ns: AtomicU64,
    measure_from_ns: AtomicU64,
    histograms: Mutex<[Histogram<u64>; 3]>,
    failure: Mutex<Option<String>>,
}

impl Progress {
    pub(super) fn new() -> Result<Self> {
        Ok(Self {
            opened: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            stored: AtomicU64::new(0),
            received: AtomicU64::new(0),
            last_done_ns: AtomicU64::new(0),
            measure_from_ns: AtomicU64::new(u64::MAX),
            histograms: Mutex::new([histogram()?, histogram()?, histogram()?]),
            failure: Mutex::new(None),
        })
    }

    pub(super) fn opened(&self) -> u64 {
        self.opened.load(Ordering::Relaxed)
    }

    pub(super) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    pub(super) fn last_done_ns(&self) -> u64 {
        self.last_done_ns.load(Ordering::Relaxed)
    }

    pub(super) fn is_drained(&self) -> bool {
        let sent = self.sent();
        self.stored.load(Ordering::Relaxed) == sent && self.received.load(Ordering::Relaxed) == sent
    }

    pub(super) fn note_opened(&self) {
        self.opened.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn note_sent(&self) {
        self.sent.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn note_stored(&self, due_ns: u64, now_ns: u64) {
        self.stored.fetch_add(1, Ordering::Relaxed);
        self.last_done_ns.store(now_ns, Ordering::Relaxed);
        self.record(STORED, due_ns, now_ns);
    }

    pub(super) fn note_received(&self, due_ns: u64, now_ns: u64) {
        self.received.fetch_add(1, Ordering::Relaxed);
        self.last_done_ns.store(now_ns, Ordering::Relaxed);
        self.record(RECEIVED, due_ns, now_ns);
    }

    pub(super) fn note_accepted(&self, due_ns: u64, now_ns: u64) {
        self.record(ACCEPTED, due_ns, now_ns);
    }

    fn record(&self, at: usize, due_ns: u64, now_ns: u64) {
        if due_ns >= self.measure_from_ns.load(Ordering::Relaxed)
            && let Some(histogram) = lock(&self.histograms).get_mut(at)
        {
            histogram.saturating_record(now_ns.saturating_sub(due_ns));
        }
    }

    pub(super) fn measure_from(&self, since_birth: Duration) {
        self.measure_from_ns.store(nanos(since_birth), Ordering::Relaxed);
    }

    /// The latencies so far; nothing more is measured.
    pub(super) fn take_latencies(&self, lag: Histogram<u64>) -> Result<Latencies> {
        self.measure_from_ns.store(u64::MAX, Ordering::Relaxed);
        let fresh = [histogram()?, histogram()?, histogram()?];
        let [accepted, stored, received] = std::mem::replace(&mut *lock(&self.histograms), fresh);
        Ok(Latencies { accepted, stored, received, lag })
    }

    /// The first failure counts.
    pub(super) fn fail(&self, text: String) {
        lock(&self.failure).get_or_insert(text);
    }

    pub(super) fn check(&self) -> Result<()> {
        match &*lock(&self.failure) {
            Some(text) => bail!("{text}; {self}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        write!(f, "sent {}, stored {}, received {}", at(&self.sent), at(&self.stored), at(&self.received))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_or_doubled_message_is_not_settled() {
        let good = || Account { sent: 3, stored: 3, received: 3, recipient_seq: 4, head: 4, ..Account::default() };
        good().check_settled().unwrap();
        type Spoil = fn(&mut Account);
        let spoils: [Spoil; 4] =
            [|it| it.stored = 2, |it| it.received = 4, |it| it.recipient_seq = 3, |it| it.head = 5];
        for spoil in spoils {
            let mut account = good();
            spoil(&mut account);
            account.check_settled().unwrap_err();
        }
    }
}
