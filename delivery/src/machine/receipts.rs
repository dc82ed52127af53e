//! Merges receipts into watermarks: statuses to the log, ticks to senders at once, echoes once written (N8, M20).
//!
//! Everything here is memory only. What is lost with it, or dropped at a bound, comes again: a client asserts its
//! receipt until it is echoed, and an echo is sent only for what stands in the table.

use std::collections::{BTreeMap, BTreeSet};

use domain::{ChatId, Entry, Epoch, GatewayId, Micros, Ordinal, Partition, Rules, Seq, SessionId, UserId, Watermark};
use proto::log::{StatusAdvanced, StatusBatch};
use proto::relay::Receipt;
use proto::relay::push::What;

use super::hot::{HotChat, HotChats, Membership, Standing};
use super::lanes::Lanes;
use super::mirror::Mirror;
use super::{Action, Dropped, Patience, Settings};

/// Statuses of one record: about 80 bytes each stay below 256 KiB.
const STATUSES_PER_RECORD: usize = 2_000;
/// A status that does not reach the table in this time is published again when it is asserted again.
const REPUBLISH_US: Micros = 3_000_000;
/// In a chat of at most so many members all of them get a tick when the ring does not know the senders.
const TICK_ALL_MEMBERS_MAX: usize = 32;

/// What the receipts work on, lent by the expansion.
#[derive(Debug)]
pub(super) struct Desk<'a> {
    pub(super) now: Micros,
    pub(super) rules: &'a Rules,
    pub(super) mirror: &'a Mirror,
    pub(super) hot: &'a mut HotChats,
    pub(super) lanes: &'a mut Lanes,
    pub(super) actions: &'a mut Vec<Action>,
}

impl Desk<'_> {
    fn drop(&mut self, what: Dropped) {
        self.actions.push(Action::Dropped(what));
    }

    fn push_watermark(&mut self, chat: ChatId, user: UserId, mark: Watermark, to: impl IntoIterator<Item = UserId>) {
        let what = What::Watermark(proto::v1::Watermark {
            chat: chat.to_wire(),
            user: user.to_wire(),
            delivered: mark.delivered,
            seen: mark.seen,
        });
        let mirror = self.mirror;
        let sessions: Vec<(GatewayId, SessionId)> = to.into_iter().flat_map(|user| mirror.sessions_of(user)).collect();
        self.lanes.push(&what, sessions, []);
    }
}

type Key = (ChatId, UserId);

/// The receipts of one partition.
#[derive(Debug)]
pub struct Receipts {
    partition: Partition,
    settings: Settings,
    /// Statuses for the next record.
    waiting: BTreeMap<Key, Watermark>,
    in_flight: Option<BTreeMap<Key, Watermark>>,
    // Set by a failed publish: the next attempt waits for the tick.
    paused: bool,
    /// Published, not yet in the table: to be echoed.
    unwritten: BTreeMap<Seq, Vec<(Key, Watermark)>>,
    unwritten_count: usize,
    written: Seq,
    /// Receipts that wait for members of a chat that is not hot.
    loading: BTreeMap<ChatId, BTreeMap<UserId, Watermark>>,
    /// Claims that wait for the ordinal at their `seen`.
    reading: BTreeMap<(ChatId, Seq), BTreeMap<UserId, Watermark>>,
    parked: usize,
    /// Watermarks that moved in this step, with where they stood before it.
    moved: BTreeMap<Key, (Watermark, Watermark)>,
}

impl Receipts {
    pub(super) fn new(partition: Partition, settings: Settings) -> Self {
        Self {
            partition,
            settings,
            waiting: BTreeMap::new(),
            in_flight: None,
            paused: false,
            unwritten: BTreeMap::new(),
            unwritten_count: 0,
            written: 0,
            loading: BTreeMap::new(),
            reading: BTreeMap::new(),
            parked: 0,
            moved: BTreeMap::new(),
        }
    }

    /// Takes one receipt.
    pub(super) fn take(&mut self, receipt: &Receipt, desk: &mut Desk<'_>) {
        let (Ok(chat), Ok(user)) = (ChatId::try_from(receipt.chat.as_ref()), UserId::try_from(receipt.user.as_ref()))
        else {
            desk.drop(Dropped::BadReceipt);
            return;
        };
        if chat.partition() != self.partition {
            desk.drop(Dropped::BadReceipt);
            return;
        }
        // `seen` lifts `delivered` (M20).
        let delivered = receipt.delivered.max(receipt.seen);
        let claim = Watermark { delivered, seen: receipt.seen, seen_ordinal: 0 };
        let through = delivered.max(receipt.seen);
        match desk.hot.peek(chat) {
            // The head is exact, or covers the claim.
            Some(known) if known.live || through <= known.head => self.claim(chat, user, claim, desk),
            _ => self.load(chat, user, claim, desk),
        }
    }

    fn load(&mut self, chat: ChatId, user: UserId, claim: Watermark, desk: &mut Desk<'_>) {
        if self.parked >= self.settings.receipts_max {
            desk.drop(Dropped::Receipt);
            return;
        }
        let through = claim.delivered.max(claim.seen);
        let waiting = self.loading.entry(chat).or_default();
        if waiting.is_empty() {
            desk.actions.push(Action::LoadMembers { chat, at_least: through, patience: Patience::None });
        }
        if park(waiting, user, claim) {
            self.parked += 1;
        }
    }

    /// The members that [`load`](Self::load) asked for, or none if the store does not hold that seq yet.
    pub(super) fn members(&mut self, chat: ChatId, at_least: Seq, rows: Option<&[Membership]>, desk: &mut Desk<'_>) {
        let Some(waiting) = self.loading.remove(&chat) else { return };
        self.parked -= waiting.len();
        if let Some(rows) = rows {
            // What events taught meanwhile is newer, unless it knows less.
            if desk.hot.peek(chat).is_none_or(|known| !known.live && known.head < at_least) {
                desk.hot.put(chat, HotChat::as_of(at_least, rows));
            }
        }
        for (user, claim) in waiting {
            let through = claim.delivered.max(claim.seen);
            match desk.hot.peek(chat) {
                // Another one waited for a higher seq than was asked for.
                Some(known) if rows.is_some() && !known.live && through > known.head => {
                    self.load(chat, user, claim, desk);
                }
                Some(_) => self.claim(chat, user, claim, desk),
                None => desk.drop(Dropped::Receipt),
            }
        }
    }

    fn claim(&mut self, chat: ChatId, user: UserId, claim: Watermark, desk: &mut Desk<'_>) {
        enum Next {
            NotMember,
            Read(Seq, Watermark),
            Advance(Watermark),
        }
        let next = desk.hot.update(chat, |known| {
            let Some(bound) = known.bound_of(user) else { return Next::NotMember };
            if claim.delivered.max(claim.seen) > bound && known.is_member(user) {
                // Above the head: held until the head gets there, not refused.
                let held = known.held.entry(user).or_default();
                *held = held.merge(claim);
            }
            let mut wanted =
                Watermark { delivered: claim.delivered.min(bound), seen: claim.seen.min(bound), seen_ordinal: 0 };
            if wanted.seen > known.mark(user).merged.seen {
                match known.ordinal_at(wanted.seen) {
                    Some(ordinal) => wanted.seen_ordinal = ordinal,
                    None => return Next::Read(wanted.seen, wanted),
                }
            }
            Next::Advance(wanted)
        });
        match next {
            None => desk.drop(Dropped::Receipt),
            Some(Next::NotMember) => desk.drop(Dropped::NotMember),
            Some(Next::Advance(wanted)) => self.advance(chat, user, wanted, desk),
            Some(Next::Read(seq, wanted)) => {
                if self.parked >= self.settings.receipts_max {
                    desk.drop(Dropped::Receipt);
                    return;
                }
                let waiting = self.reading.entry((chat, seq)).or_default();
                if waiting.is_empty() {
                    desk.actions.push(Action::ReadOrdinal { chat, seq });
                }
                if park(waiting, user, wanted) {
                    self.parked += 1;
                }
            }
        }
    }

    /// The ordinal that [`claim`](Self::claim) asked for.
    pub(super) fn ordinal(&mut self, chat: ChatId, seq: Seq, ordinal: Option<Ordinal>, desk: &mut Desk<'_>) {
        let Some(waiting) = self.reading.remove(&(chat, seq)) else { return };
        self.parked -= waiting.len();
        for (user, wanted) in waiting {
            match ordinal {
                Some(ordinal) if desk.hot.peek(chat).is_some() => {
                    self.advance(chat, user, Watermark { seen_ordinal: ordinal, ..wanted }, desk);
                }
                _ => desk.drop(Dropped::Receipt),
            }
        }
    }

    fn advance(&mut self, chat: ChatId, user: UserId, wanted: Watermark, desk: &mut Desk<'_>) {
        let (now, written) = (desk.now, self.written);
        let full = self.waiting.len() >= self.settings.statuses_max && !self.waiting.contains_key(&(chat, user));
        enum Next {
            Nothing,
            Publish(Watermark),
            Echo(Watermark),
            Full,
        }
        let moved = desk.hot.update(chat, |known| {
            let mark = known.mark(user);
            let before = mark.merged;
            mark.merged = before.merge(wanted);
            let covered = mark.claimed.delivered >= wanted.delivered && mark.claimed.seen >= wanted.seen;
            let publish = match mark.standing {
                Standing::Unclaimed => true,
                Standing::Waiting => !covered,
                Standing::Published { sequence, at } => {
                    !covered || sequence > written && now.saturating_sub(at) >= REPUBLISH_US
                }
            };
            let next = match mark.standing {
                _ if publish && full => Next::Full,
                _ if publish => {
                    mark.claimed = mark.merged;
                    mark.standing = Standing::Waiting;
                    Next::Publish(mark.claimed)
                }
                // Asserted again although it stands in the table: the echo was lost.
                Standing::Published { sequence, .. } if sequence <= written => Next::Echo(mark.claimed),
                Standing::Unclaimed | Standing::Waiting | Standing::Published { .. } => Next::Nothing,
            };
            (before, mark.merged, next)
        });
        let Some((before, after, next)) = moved else { return };
        self.note_moved(chat, user, before, after);
        match next {
            Next::Nothing => {}
            Next::Full => desk.drop(Dropped::Receipt),
            Next::Publish(mark) => {
                self.waiting.insert((chat, user), mark);
                if !desk.rules.m20 {
                    desk.push_watermark(chat, user, mark, [user]);
                }
            }
            Next::Echo(mark) => desk.push_watermark(chat, user, mark, [user]),
        }
    }

    fn note_moved(&mut self, chat: ChatId, user: UserId, before: Watermark, after: Watermark) {
        if (before.delivered, before.seen) != (after.delivered, after.seen) {
            self.moved.entry((chat, user)).or_insert((before, after)).1 = after;
        }
    }

    /// An entry was folded: its sender has it, and held claims may be due.
    pub(super) fn folded(&mut self, entry: &Entry, desk: &mut Desk<'_>) {
        let is_send = entry.event.is_message() && !entry.is_imported_message();
        let step = desk.hot.update(entry.chat, |known| {
            let mut lifted = None;
            if is_send {
                let mark = known.mark(entry.sender);
                let before = mark.merged;
                mark.merged =
                    before.merge(Watermark { delivered: entry.seq, seen: entry.seq, seen_ordinal: entry.ordinal });
                lifted = Some((before, mark.merged));
            }
            let due: Vec<(UserId, Watermark)> = if known.held.is_empty() {
                Vec::new()
            } else {
                let head = known.head;
                let is_due = |held: &Watermark| held.delivered.max(held.seen) <= head;
                let due =
                    known.held.iter().filter(|(_, held)| is_due(held)).map(|(user, held)| (*user, *held)).collect();
                known.held.retain(|_, held| !is_due(held));
                due
            };
            (lifted, due)
        });
        let Some((lifted, due)) = step else { return };
        if let Some((before, after)) = lifted {
            self.note_moved(entry.chat, entry.sender, before, after);
        }
        for (user, claim) in due {
            self.claim(entry.chat, user, claim, desk);
        }
    }

    /// The statuses in flight are published at this sequence, or not at all.
    pub(super) fn published(&mut self, sequence: Option<Seq>, desk: &mut Desk<'_>) {
        let Some(batch) = self.in_flight.take() else { return };
        let Some(sequence) = sequence else {
            self.paused = true;
            for (key, mark) in batch {
                let waiting = self.waiting.entry(key).or_default();
                *waiting = waiting.merge(mark);
            }
            return;
        };
        for ((chat, user), mark) in &batch {
            let now = desk.now;
            desk.hot.update(*chat, |known| {
                if let Some(own) = known.known_mark(*user)
                    && own.claimed == *mark
                {
                    own.standing = Standing::Published { sequence, at: now };
                }
            });
        }
        while self.unwritten_count + batch.len() > self.settings.statuses_max
            && let Some((_, oldest)) = self.unwritten.pop_first()
        {
            // Not echoed; their clients assert again.
            self.unwritten_count -= oldest.len();
            for _ in oldest {
                desk.drop(Dropped::Echo);
            }
        }
        self.unwritten_count += batch.len();
        self.unwritten.entry(sequence).or_default().extend(batch);
        self.echo_written(desk);
    }

    /// Statuses up to this one stand in the table (M20).
    pub(super) fn written(&mut self, statuses: Seq, desk: &mut Desk<'_>) {
        self.written = self.written.max(statuses);
        self.echo_written(desk);
    }

    fn echo_written(&mut self, desk: &mut Desk<'_>) {
        while let Some(first) = self.unwritten.first_entry() {
            if *first.key() > self.written {
                return;
            }
            let echoes = first.remove();
            self.unwritten_count -= echoes.len();
            if desk.rules.m20 {
                for ((chat, user), mark) in echoes {
                    desk.push_watermark(chat, user, mark, [user]);
                }
            }
        }
    }

    /// Whether claims wait for an ordinal of this chat: without the chat they would be dropped, and again each time.
    pub(super) fn need(&self, chat: ChatId) -> bool {
        self.reading.range((chat, 0)..=(chat, Seq::MAX)).next().is_some()
    }

    pub(super) fn tick(&mut self, _desk: &mut Desk<'_>) {
        self.paused = false;
    }

    /// Ends a step: ticks of what moved, and the next record of statuses if none is in flight.
    pub(super) fn flush(&mut self, epoch: Epoch, desk: &mut Desk<'_>) {
        for ((chat, user), (before, after)) in std::mem::take(&mut self.moved) {
            let Some(known) = desk.hot.peek(chat) else { continue };
            let senders = newly_covered(known, user, before, after);
            desk.push_watermark(chat, user, after, senders);
        }
        if self.in_flight.is_some() || self.paused || self.waiting.is_empty() {
            return;
        }
        let batch: BTreeMap<Key, Watermark> = if self.waiting.len() <= STATUSES_PER_RECORD {
            std::mem::take(&mut self.waiting)
        } else {
            let mut some = BTreeMap::new();
            while some.len() < STATUSES_PER_RECORD
                && let Some((key, mark)) = self.waiting.pop_first()
            {
                some.insert(key, mark);
            }
            some
        };
        let statuses = batch.iter().map(|((chat, user), mark)| StatusAdvanced {
            chat: chat.to_wire(),
            user: user.to_wire(),
            delivered: mark.delivered,
            seen: mark.seen,
            seen_ordinal: mark.seen_ordinal,
        });
        let statuses = statuses.collect();
        desk.actions.push(Action::PublishStatuses(StatusBatch {
            schema: domain::limits::SCHEMA,
            epoch: epoch.0,
            statuses,
        }));
        self.in_flight = Some(batch);
    }
}

fn park(waiting: &mut BTreeMap<UserId, Watermark>, user: UserId, claim: Watermark) -> bool {
    let fresh = !waiting.contains_key(&user);
    let parked = waiting.entry(user).or_default();
    *parked = parked.merge(claim);
    fresh
}

/// The senders of the messages that the user's watermark newly covers.
fn newly_covered(known: &HotChat, user: UserId, before: Watermark, after: Watermark) -> BTreeSet<UserId> {
    let from = if after.seen > before.seen { before.seen.min(before.delivered) } else { before.delivered };
    let ring_reaches = known.ring_from().is_some_and(|first| first <= from + 1);
    let mut senders: BTreeSet<UserId> = if !ring_reaches && known.member_count() <= TICK_ALL_MEMBERS_MAX {
        known.members().collect()
    } else {
        let delivered = known.senders(before.delivered, after.delivered);
        delivered.chain(known.senders(before.seen, after.seen)).collect()
    };
    senders.remove(&user);
    senders
}
