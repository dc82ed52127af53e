//! The newest event records of one partition, as this process published them: for its own readers, beside the broker.
//!
//! Only what the broker acknowledged is in it, so what is read here is in the log (N5). It is a shortcut and never a
//! source of its own: a reader joins at a record that the broker gave it and that is the same here, as Raft matches the
//! previous entry, and goes back to the broker whenever the tap was begun anew, has moved past what is due, or stands
//! still while the stream goes on. A tail that was lost and written otherwise therefore never passes for the old one.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use domain::TenureId;
use tokio::sync::watch;

/// A partition's tap.
#[derive(Debug)]
pub(crate) struct Tap {
    ring: Mutex<Ring>,
    changed: watch::Sender<()>,
    records_max: usize,
    bytes_max: usize,
}

/// A run of records without a hole, all of one writer.
#[derive(Debug, Default)]
struct Ring {
    records: VecDeque<Bytes>,
    bytes: usize,
    /// Sequence of the first record in it.
    first: u64,
    /// Who writes it; none: nobody here, or what was published last is not known.
    writer: Option<TenureId>,
    /// How often it was begun anew.
    run: Run,
}

/// Names one unbroken run of a tap's records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Run(u64);

/// What a tap has for a reader.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// Records from the one that is due on.
    Records(Vec<Bytes>),
    /// What is due is published next.
    End,
    /// Only the broker can tell.
    Apart,
}

/// A publish under way: unless it is known how it ended, the tap is closed.
#[derive(Debug)]
pub(crate) struct Publishing<'a> {
    tap: &'a Tap,
    writer: TenureId,
    is_known: bool,
}

impl Tap {
    pub(crate) fn new(records_max: usize, bytes_max: usize) -> Self {
        Self { ring: Mutex::default(), changed: watch::Sender::new(()), records_max, bytes_max }
    }

    /// Must be called before a publish, so that one whose end is never learned does not go unnoticed.
    pub(crate) fn publishing(&self, writer: TenureId) -> Publishing<'_> {
        Publishing { tap: self, writer, is_known: false }
    }

    /// Ends the run of this writer, if it is his; its readers go to the broker.
    pub(crate) fn leave(&self, writer: TenureId) {
        if self.lock().writer == Some(writer) {
            self.close();
        }
    }

    /// Ends the run.
    pub(crate) fn close(&self) {
        self.lock().begin(None, 0);
        self.changed.send_replace(());
    }

    /// The run that holds this very record.
    pub(crate) fn run_with(&self, sequence: u64, payload: &Bytes) -> Option<Run> {
        let ring = self.lock();
        let at = usize::try_from(sequence.checked_sub(ring.first)?).ok()?;
        (ring.writer.is_some() && ring.records.get(at)? == payload).then_some(ring.run)
    }

    /// What it has from `due` on, as long as it is still that run.
    pub(crate) fn look(&self, run: Run, due: u64, records_max: usize, bytes_max: usize) -> Look {
        let ring = self.lock();
        let Some(at) = due.checked_sub(ring.first).and_then(|at| usize::try_from(at).ok()) else { return Look::Apart };
        if ring.run != run || at > ring.records.len() {
            return Look::Apart;
        }
        let mut bytes = 0;
        let mut fits = |payload: &&Bytes| {
            let had_room = bytes < bytes_max;
            bytes += payload.len();
            had_room
        };
        let records: Vec<Bytes> =
            ring.records.range(at..).take(records_max).take_while(|payload| fits(payload)).cloned().collect();
        if records.is_empty() { Look::End } else { Look::Records(records) }
    }

    /// Told of every change from now on.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    fn put(&self, writer: TenureId, sequence: u64, payload: Bytes) {
        let mut ring = self.lock();
        if ring.writer != Some(writer) || ring.first + ring.records.len() as u64 != sequence {
            ring.begin(Some(writer), sequence);
        }
        ring.bytes += payload.len();
        ring.records.push_back(payload);
        while ring.records.len() > self.records_max || ring.bytes > self.bytes_max {
            let Some(oldest) = ring.records.pop_front() else { break };
            ring.bytes -= oldest.len();
            ring.first += 1;
        }
        drop(ring);
        self.changed.send_replace(());
    }

    fn lock(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ring {
    fn begin(&mut self, writer: Option<TenureId>, first: u64) {
        let run = Run(self.run.0 + 1);
        *self = Self { first, writer, run, ..Self::default() };
    }
}

impl Publishing<'_> {
    /// The broker acknowledged it.
    pub(crate) fn stored(mut self, sequence: u64, payload: Bytes) {
        self.is_known = true;
        self.tap.put(self.writer, sequence, payload);
    }

    /// It is surely not in the stream, and nothing else is known to be.
    pub(crate) fn not_stored(mut self) {
        self.is_known = true;
    }
}

impl Drop for Publishing<'_> {
    fn drop(&mut self) {
        // Whoever writes the run: the record may be in the stream behind its end.
        if !self.is_known {
            self.tap.close();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: TenureId = TenureId(1);
    const TWO: TenureId = TenureId(2);

    fn payload(text: &str) -> Bytes {
        Bytes::copy_from_slice(text.as_bytes())
    }

    fn tap(texts: &[&str]) -> Tap {
        let tap = Tap::new(4, 100);
        for (at, text) in texts.iter().enumerate() {
            tap.publishing(ONE).stored(at as u64 + 1, payload(text));
        }
        tap
    }

    fn look(tap: &Tap, run: Run, due: u64) -> Look {
        tap.look(run, due, 10, 1_000)
    }

    #[test]
    fn a_reader_joins_at_a_record_that_is_the_same_and_reads_on() {
        let tap = tap(&["a", "b", "c"]);
        let run = tap.run_with(1, &payload("a")).unwrap();
        assert_eq!(look(&tap, run, 2), Look::Records(vec![payload("b"), payload("c")]));
        assert_eq!(look(&tap, run, 4), Look::End);
        assert_eq!(look(&tap, run, 5), Look::Apart);
        assert_eq!(tap.run_with(4, &payload("d")), None);
    }

    #[test]
    fn a_reader_of_another_tail_does_not_join() {
        assert_eq!(tap(&["a", "b"]).run_with(2, &payload("b of another life")), None);
    }

    #[test]
    fn what_is_pushed_out_is_left_to_the_broker() {
        let tap = tap(&["a", "b", "c", "d", "e"]);
        let run = tap.run_with(5, &payload("e")).unwrap();
        assert_eq!(look(&tap, run, 1), Look::Apart);
        assert!(matches!(look(&tap, run, 2), Look::Records(records) if records.len() == 4));
        // By bytes as well, and a record above them all leaves the place of the next.
        tap.publishing(ONE).stored(6, Bytes::from(vec![7; 99]));
        assert_eq!(look(&tap, run, 5), Look::Records(vec![payload("e"), Bytes::from(vec![7; 99])]));
        tap.publishing(ONE).stored(7, Bytes::from(vec![7; 101]));
        assert_eq!((look(&tap, run, 7), look(&tap, run, 8)), (Look::Apart, Look::End));
    }

    #[test]
    fn a_look_is_bounded_but_never_empty_while_something_is_there() {
        let tap = tap(&["aaaa", "bbbb", "cccc"]);
        let run = tap.run_with(1, &payload("aaaa")).unwrap();
        assert_eq!(tap.look(run, 1, 2, 100), Look::Records(vec![payload("aaaa"), payload("bbbb")]));
        assert_eq!(tap.look(run, 1, 10, 1), Look::Records(vec![payload("aaaa")]));
    }

    #[test]
    fn whatever_breaks_a_run_sends_its_readers_away() {
        type Break = fn(&Tap);
        let breaks: [Break; 6] = [
            // In doubt, refused, or given up.
            |tap| drop(tap.publishing(ONE)),
            |tap| drop(tap.publishing(TWO)),
            |tap| tap.leave(ONE),
            Tap::close,
            // Another writer, and the same one behind a record that is not its own.
            |tap| tap.publishing(TWO).stored(3, payload("c")),
            |tap| tap.publishing(ONE).stored(4, payload("d")),
        ];
        for (number, breaks) in breaks.into_iter().enumerate() {
            let tap = tap(&["a", "b"]);
            let run = tap.run_with(2, &payload("b")).unwrap();
            let mut changes = tap.changes();
            breaks(&tap);
            assert_eq!(look(&tap, run, 3), Look::Apart, "break {number}");
            assert_eq!(tap.run_with(2, &payload("b")), None, "break {number}");
            assert!(changes.has_changed().unwrap(), "break {number}");
            changes.mark_unchanged();
        }
    }

    #[test]
    fn what_tells_nothing_of_the_run_leaves_it() {
        let tap = tap(&["a"]);
        let run = tap.run_with(1, &payload("a")).unwrap();
        tap.publishing(ONE).not_stored();
        tap.leave(TWO);
        assert_eq!(look(&tap, run, 2), Look::End);
    }
}
