//! When a message passed its stages, as the log tells it: nothing is written down for that.
//!
//! EVENTS-p tells when the entry was published and by when it was stored, STATUS-p when members' watermarks were lifted
//! over it; a member's own send lifts them too, by its event alone. Both keep a window only, and a look is bounded: what
//! is not found is not known, and what may not be the first is not told.

use std::collections::BTreeSet;
use std::time::Duration;

use domain::{ChatId, Entry, Event, Micros, Seq, UserId, limits};
use event_log::{Error, Log, Record, Scan, ScanBounds, Stream};
use metrics::counter;
use prost::Message as _;
use proto::log::{EventBatch, StatusBatch};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

/// What one look takes at most, of each of the two streams.
const RECORDS_MAX: usize = 16_384;
const BYTES_MAX: usize = 8 << 20;
/// How long both take, with the wait for a place among the others.
const LOOK_WITHIN: Duration = Duration::from_secs(2);
/// How far the clock that an entry's time is of may be ahead of the broker's: beyond it the entry is not found.
const CLOCKS_APART_NS: i64 = 2_000_000_000;
/// What was published later than this after it was accepted is found only where nothing younger stands before it.
const PUBLISHED_WITHIN_NS: i64 = 60_000_000_000;

/// The message that is sought.
#[derive(Debug)]
pub(super) struct Sought {
    pub(super) chat: ChatId,
    pub(super) seq: Seq,
    /// The entry's.
    pub(super) time: Micros,
    /// The members who have it, and those who have read it.
    pub(super) delivered: BTreeSet<UserId>,
    pub(super) seen: BTreeSet<UserId>,
}

/// When it passed its stages; none: not known.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Times {
    pub(super) published: Option<Micros>,
    pub(super) stored: Option<Micros>,
    pub(super) delivered: Option<Micros>,
    pub(super) seen: Option<Micros>,
}

/// Looks it up, if there is a place; whatever fails costs times only.
pub(super) async fn look(log: &Log, places: &Semaphore, sought: &Sought) -> Times {
    let until = Instant::now() + LOOK_WITHIN;
    let Ok(Ok(_place)) = timeout_at(until, places.acquire()).await else {
        ended("busy");
        return Times::default();
    };
    let mut times = Times::default();
    match look_through(log, sought, until, &mut times).await {
        Ok(()) if times.published.is_some() => ended("found"),
        Ok(()) => ended("not_found"),
        Err(error) => failed(&error),
    }
    times
}

fn ended(outcome: &'static str) {
    counter!("api_flights_looked_up_total", "outcome" => outcome).increment(1);
}

fn failed(error: &Error) {
    ended("failed");
    tracing::debug!(error = error as &dyn std::error::Error, "a flight is told without all its times");
}

async fn look_through(log: &Log, sought: &Sought, until: Instant, times: &mut Times) -> Result<(), Error> {
    let scan = async |stream, from_ns: i64| {
        let bounds = ScanBounds { records: RECORDS_MAX, bytes: BYTES_MAX, until };
        log.scan(stream, sought.chat.partition(), from_ns.saturating_sub(CLOCKS_APART_NS), bounds).await
    };
    let mut events = Reading::new(scan(Stream::Events, ns(sought.time)).await?);
    let mut told = Events::default();
    let (published_ns, epoch) = loop {
        if let Some(published) = &told.published {
            break (published.time_ns, published.epoch);
        }
        if !events.step(|record| told.read(sought, record)).await? {
            return Ok(());
        }
    };
    times.published = us(published_ns);
    let mut lifts = None;
    if !sought.delivered.is_empty() {
        // Before it was published nobody had it; not its own time, since another server may keep this stream.
        match scan(Stream::Statuses, published_ns).await {
            Ok(scan) if scan.is_whole() => lifts = Some(Lifts::read_all(sought, epoch, Reading::new(scan)).await),
            Ok(_) => {}
            Err(error) => failed(&error),
        }
    }
    let wanted = [(lifts.as_ref(), false), (lifts.as_ref().filter(|_| !sought.seen.is_empty()), true)];
    let unknown = |events: &Reading, told: &Events| {
        wanted.iter().any(|(lifts, seen)| lifts.is_some_and(|lifts| !lifts.is_settled(*seen, told, events.through_ns)))
    };
    while told.stored_ns.is_none() || unknown(&events, &told) {
        if !events.step(|record| told.read(sought, record)).await? {
            break;
        }
    }
    times.stored = told.stored_ns.and_then(us);
    let first = |seen| lifts.as_ref()?.first(seen, &told, events.through_ns).and_then(us);
    (times.delivered, times.seen) = (first(false), first(true));
    Ok(())
}

/// A stream that is looked through, and up to when all of it was understood.
struct Reading {
    scan: Scan,
    through_ns: i64,
}

impl Reading {
    const fn new(scan: Scan) -> Self {
        Self { through_ns: scan.through_ns(), scan }
    }

    /// Reads one record; false at the end, at a bound, and where what was read says that it leads no further.
    async fn step(&mut self, read: impl FnOnce(&Record) -> bool) -> Result<bool, Error> {
        let record = self.scan.next().await?;
        let goes_on = record.as_ref().is_some_and(read);
        if goes_on || record.is_none() {
            self.through_ns = self.scan.through_ns();
        }
        Ok(goes_on)
    }
}

/// The record that holds the entry.
#[derive(Debug)]
struct Published {
    sequence: Seq,
    time_ns: i64,
    epoch: u64,
}

/// What the records of EVENTS-p tell, from before the entry on.
#[derive(Default, Debug)]
struct Events {
    published: Option<Published>,
    stored_ns: Option<i64>,
    /// When first one of those who have it, or have read it, wrote in the chat behind it.
    delivered_ns: Option<i64>,
    seen_ns: Option<i64>,
}

impl Events {
    /// Reads the next record; false where nothing is to be found behind it, or nothing understood.
    fn read(&mut self, sought: &Sought, record: &Record) -> bool {
        let batch = EventBatch::decode(record.payload.clone()).ok().filter(|batch| batch.schema <= limits::SCHEMA);
        let Some(batch) = batch else { return false };
        let entries = batch.entries.iter().map(Entry::decode).collect::<Result<Vec<_>, _>>();
        let Ok(entries) = entries else { return false };
        match &self.published {
            Some(published) => {
                if batch.appended_through >= published.sequence {
                    self.stored_ns.get_or_insert(record.time_ns);
                }
            }
            None if entries.iter().any(|entry| (entry.chat, entry.seq) == (sought.chat, sought.seq)) => {
                // A new epoch emits again what was published before it began.
                if batch.epoch > sought.time {
                    return false;
                }
                self.published =
                    Some(Published { sequence: record.sequence, time_ns: record.time_ns, epoch: batch.epoch });
            }
            None => return !is_past(sought, record, &entries),
        }
        let behind = entries.iter().filter(|entry| entry.chat == sought.chat && entry.seq > sought.seq);
        for entry in behind.filter(|entry| matches!(entry.event, Event::MessageSent { .. })) {
            // As projections lift it: own sends are never unread.
            if sought.delivered.contains(&entry.sender) {
                self.delivered_ns.get_or_insert(record.time_ns);
            }
            if sought.seen.contains(&entry.sender) {
                self.seen_ns.get_or_insert(record.time_ns);
            }
        }
        true
    }
}

/// Whether the entry's own record has gone: what was accepted well behind it was published, and long after it.
fn is_past(sought: &Sought, record: &Record, entries: &[Entry]) -> bool {
    let behind_ns = ns(sought.time).saturating_add(CLOCKS_APART_NS);
    record.time_ns > ns(sought.time).saturating_add(PUBLISHED_WITHIN_NS)
        && entries.iter().any(|entry| !entry.is_imported_message() && ns(entry.time) > behind_ns)
}

/// What the records of STATUS-p tell, from before the entry was published on.
#[derive(Default, Debug)]
struct Lifts {
    delivered_ns: Option<i64>,
    seen_ns: Option<i64>,
    through_ns: i64,
}

impl Lifts {
    async fn read_all(sought: &Sought, epoch: u64, mut statuses: Reading) -> Self {
        let mut lifts = Self::default();
        let mut goes_on = true;
        while goes_on && (lifts.delivered_ns.is_none() || (lifts.seen_ns.is_none() && !sought.seen.is_empty())) {
            goes_on = statuses.step(|record| lifts.read(sought, epoch, record)).await.unwrap_or_else(|error| {
                failed(&error);
                false
            });
        }
        lifts.through_ns = statuses.through_ns;
        lifts
    }

    /// Reads the next record; false where it is not understood.
    fn read(&mut self, sought: &Sought, epoch: u64, record: &Record) -> bool {
        let batch = StatusBatch::decode(record.payload.clone()).ok();
        let batch = batch.filter(|batch| batch.schema <= limits::SCHEMA && batch.epoch == epoch);
        let Some(batch) = batch else { return false };
        for status in batch.statuses.iter().filter(|status| &status.chat[..] == sought.chat.as_bytes()) {
            let Ok(user) = UserId::try_from(&status.user[..]) else { continue };
            if status.delivered >= sought.seq && sought.delivered.contains(&user) {
                self.delivered_ns.get_or_insert(record.time_ns);
            }
            if status.seen >= sought.seq && sought.seen.contains(&user) {
                self.seen_ns.get_or_insert(record.time_ns);
            }
        }
        true
    }

    /// Whether more events would tell nothing more of this stage.
    fn is_settled(&self, seen: bool, told: &Events, events_through_ns: i64) -> bool {
        let (lifted, wrote) = self.both(seen, told);
        wrote.is_some() || events_through_ns >= lifted.unwrap_or(self.through_ns)
    }

    /// When the first one got there; none where an earlier one may stand in what was not read.
    fn first(&self, seen: bool, told: &Events, events_through_ns: i64) -> Option<i64> {
        let (lifted, wrote) = self.both(seen, told);
        let first = lifted.into_iter().chain(wrote).min();
        first.filter(|at| *at <= self.through_ns.min(events_through_ns))
    }

    const fn both(&self, seen: bool, told: &Events) -> (Option<i64>, Option<i64>) {
        if seen { (self.seen_ns, told.seen_ns) } else { (self.delivered_ns, told.delivered_ns) }
    }
}

fn ns(us: Micros) -> i64 {
    i64::try_from(us).unwrap_or(i64::MAX).saturating_mul(1_000)
}

fn us(ns: i64) -> Option<Micros> {
    Micros::try_from(ns / 1_000).ok()
}

#[cfg(test)]
mod tests {
    use domain::{Message, Origin, Partition};
    use proto::log::StatusAdvanced;

    use super::*;

    const EPOCH: u64 = 900;
    const SEQ: Seq = 7;

    fn user(n: u8) -> UserId {
        UserId::new([n; 16])
    }

    fn chat(n: u64) -> ChatId {
        ChatId::draw(Partition(0), 1, n << 8)
    }

    /// Sent by 1 at 1,000 µs; 2, 3 and 4 have it, 2 and 3 have read it.
    fn sought() -> Sought {
        Sought {
            chat: chat(0),
            seq: SEQ,
            time: 1_000,
            delivered: [2, 3, 4].map(user).into(),
            seen: [2, 3].map(user).into(),
        }
    }

    fn entry(chat: ChatId, seq: Seq, sender: u8, time: Micros) -> Entry {
        let event = Event::MessageSent(Message::plain("hello".to_owned()));
        Entry { chat, seq, ordinal: seq, sender: user(sender), origin: Origin(5), n: seq, time, event }
    }

    fn of_events(sequence: Seq, time_us: i64, appended_through: Seq, entries: &[Entry]) -> Record {
        let entries = entries.iter().map(Entry::encode).collect();
        let batch = EventBatch { schema: 1, epoch: EPOCH, appended_through, entries, ..EventBatch::default() };
        record(sequence, time_us, batch.encode_to_vec())
    }

    fn record(sequence: Seq, time_us: i64, payload: Vec<u8>) -> Record {
        Record { sequence, time_ns: time_us * 1_000, message_id: String::new(), payload: payload.into() }
    }

    fn of_statuses(time_us: i64, lifted: &[(ChatId, u8, Seq, Seq)]) -> Record {
        let status = |&(chat, n, delivered, seen): &(ChatId, u8, Seq, Seq)| StatusAdvanced {
            chat: chat.to_wire(),
            user: user(n).to_wire(),
            delivered,
            seen,
            seen_ordinal: seen,
        };
        let statuses = lifted.iter().map(status).collect();
        record(1, time_us, StatusBatch { schema: 1, epoch: EPOCH, statuses }.encode_to_vec())
    }

    /// What the records tell, and whether the last one leads further.
    fn events(records: &[Record]) -> (Events, bool) {
        let mut told = Events::default();
        let mut goes_on = true;
        for record in records {
            assert!(goes_on, "read on behind the end");
            goes_on = told.read(&sought(), record);
        }
        (told, goes_on)
    }

    fn lifts(records: &[Record], through_us: i64) -> Lifts {
        let mut lifts = Lifts { through_ns: through_us * 1_000, ..Lifts::default() };
        for record in records {
            assert!(lifts.read(&sought(), EPOCH, record));
        }
        lifts
    }

    fn published() -> Record {
        of_events(40, 1_200, 38, &[entry(chat(1), SEQ, 9, 900), entry(chat(0), SEQ, 1, 1_000)])
    }

    #[test]
    fn published_is_the_record_that_holds_it_and_stored_the_first_that_says_so() {
        let before = of_events(39, 1_100, 38, &[entry(chat(0), SEQ - 1, 1, 800), entry(chat(2), SEQ, 1, 850)]);
        let not_yet = of_events(41, 1_300, 39, &[entry(chat(0), SEQ + 1, 1, 1_100)]);
        let first = of_events(42, 1_400, 41, &[]);
        let later = of_events(43, 1_500, 42, &[]);
        let (told, goes_on) = events(&[before, published(), not_yet, first, later]);
        let found = told.published.map(|published| (published.sequence, published.time_ns, published.epoch));
        assert_eq!((found, told.stored_ns, goes_on), (Some((40, 1_200_000, EPOCH)), Some(1_400_000), true));
        assert_eq!((told.delivered_ns, told.seen_ns), (None, None), "its sender is nobody whom it is for");
    }

    #[test]
    fn a_record_that_says_exactly_that_one_says_that_it_is_stored() {
        let (told, _) = events(&[published(), of_events(41, 1_300, 40, &[])]);
        assert_eq!(told.stored_ns, Some(1_300_000));
    }

    #[test]
    fn what_a_new_epoch_emits_again_and_what_cannot_be_read_leads_no_further() {
        let again = EventBatch {
            schema: 1,
            epoch: 1_001,
            entries: vec![entry(chat(0), SEQ, 1, 1_000).encode()],
            ..EventBatch::default()
        };
        let newer = EventBatch { schema: limits::SCHEMA + 1, epoch: EPOCH, ..EventBatch::default() };
        let strange = EventBatch { schema: 1, entries: vec![b"\xff".to_vec().into()], ..EventBatch::default() };
        for payload in [again.encode_to_vec(), newer.encode_to_vec(), strange.encode_to_vec(), b"\xff".to_vec()] {
            let (told, goes_on) = events(&[record(9, 5_000, payload)]);
            assert!(told.published.is_none() && !goes_on);
        }
    }

    #[test]
    fn what_was_accepted_and_published_long_after_it_says_that_its_record_has_gone() {
        let minute = 60_000_000;
        let young = |time_us, accepted| events(&[of_events(50, time_us, 0, &[entry(chat(3), 4, 9, accepted)])]).1;
        assert!(young(1_000 + minute, 5_000_000), "perhaps it is published late");
        assert!(young(2_000 + minute, 2_001_000), "perhaps clocks differ");
        assert!(!young(2_000 + minute, 2_001_001));
        let imported = Entry { origin: Origin(0), ..entry(chat(3), 4, 9, 9_000_000) };
        assert!(events(&[of_events(50, 2_000 + minute, 0, &[imported])]).1, "its time is not when it was accepted");
    }

    #[test]
    fn the_first_of_those_who_have_it_counts() {
        let statuses = [
            // Of another chat, below it, of nobody who has it.
            of_statuses(1_300, &[(chat(1), 2, 9, 9), (chat(0), 2, SEQ - 1, SEQ - 1), (chat(0), 8, 9, 9)]),
            of_statuses(1_400, &[(chat(0), 3, SEQ, 2)]),
            of_statuses(1_500, &[(chat(0), 3, 9, 2), (chat(0), 4, 9, SEQ)]),
            of_statuses(1_600, &[(chat(0), 2, 9, SEQ)]),
            of_statuses(1_700, &[(chat(0), 2, 9, 9), (chat(0), 3, 9, 9)]),
        ];
        let (told, _) = events(&[published()]);
        let lifts = lifts(&statuses, 1_700);
        assert_eq!(lifts.first(false, &told, i64::MAX), Some(1_400_000));
        assert_eq!(lifts.first(true, &told, i64::MAX), Some(1_600_000), "4 has not read it, as the watermarks are");
    }

    #[test]
    fn who_writes_has_read_and_the_earlier_of_the_two_counts() {
        let own = |time_us, sender| of_events(41, time_us, 0, &[entry(chat(0), SEQ + 1, sender, 1_100)]);
        let both =
            |lifts: &Lifts, told: &Events| (lifts.first(false, told, 3_000_000), lifts.first(true, told, 3_000_000));
        let late = lifts(&[of_statuses(1_500, &[(chat(0), 3, SEQ, SEQ)])], 3_000);
        let (told, _) = events(&[published(), own(1_350, 2)]);
        assert_eq!(both(&late, &told), (Some(1_350_000), Some(1_350_000)));
        let (told, _) = events(&[published(), own(1_350, 4)]);
        assert_eq!(both(&late, &told), (Some(1_350_000), Some(1_500_000)), "4 is none of those who have read it");
        let (told, _) = events(&[published(), own(1_600, 2)]);
        assert_eq!(both(&late, &told), (Some(1_500_000), Some(1_500_000)));
        assert_eq!(both(&lifts(&[], 3_000), &told), (Some(1_600_000), Some(1_600_000)), "no receipt was ever needed");
        let elsewhere = of_events(41, 1_350, 0, &[entry(chat(1), SEQ + 1, 2, 1_100)]);
        assert_eq!(both(&late, &events(&[published(), elsewhere]).0), (Some(1_500_000), Some(1_500_000)));
    }

    #[test]
    fn what_may_not_be_the_first_is_not_told() {
        let lifted = lifts(&[of_statuses(1_500, &[(chat(0), 3, SEQ, SEQ)])], 1_500);
        let (told, _) = events(&[published()]);
        assert_eq!(
            lifted.first(false, &told, 1_499_999),
            None,
            "one may have written before, further on in the events"
        );
        assert!(!lifted.is_settled(false, &told, 1_499_999) && lifted.is_settled(false, &told, 1_500_000));
        assert_eq!(lifted.first(false, &told, 1_500_000), Some(1_500_000));
        let wrote = of_events(41, 1_600, 0, &[entry(chat(0), SEQ + 1, 2, 1_100)]);
        let (told, _) = events(&[published(), wrote]);
        let cut = lifts(&[], 1_550);
        assert_eq!(cut.first(false, &told, 3_000_000), None, "one may have been lifted further on in the statuses");
        assert!(cut.is_settled(false, &told, 1_200_000), "and no event would tell");
    }
}
