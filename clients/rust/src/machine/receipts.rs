//! How far this device got in one chat, claimed until the server echoes it (M20).
//!
//! Claims are coalesced: at most one report a chat and interval. This module never decides what was received.

use super::{Micros, back_off};

/// Shortest time between two reports of one chat.
const INTERVAL_US: Micros = 200_000;
/// Time without an echo after which a claim is made again; doubles from there.
const ASSERT_US: Micros = 5_000_000;
/// Longest time between two assertions of the same claim.
const ASSERT_LONGEST_US: Micros = 120_000_000;

/// One chat's claims and echoes; neither ever moves back.
#[derive(Clone, Copy, Default, Debug)]
pub struct Receipts {
    received: u64,
    seen: u64,
    echoed_received: u64,
    echoed_seen: u64,
    asserted: (u64, u64),
    last: Option<Micros>,
    tries: u32,
    over: bool,
}

impl Receipts {
    /// Claims that everything up to `through` has reached this device.
    pub fn received(&mut self, through: u64) {
        self.received = self.received.max(through);
    }

    /// Claims that everything up to `through` was read.
    pub fn seen(&mut self, through: u64) {
        self.seen = self.seen.max(through);
        self.received(through);
    }

    /// The server says what stands in its table.
    pub fn echoed(&mut self, delivered: u64, seen: u64) {
        self.echoed_seen = self.echoed_seen.max(seen);
        self.echoed_received = self.echoed_received.max(delivered).max(seen);
    }

    /// The user is no longer in the chat: nobody will echo.
    pub fn over(&mut self) {
        self.over = true;
    }

    /// The user is in the chat again.
    pub fn resumed(&mut self) {
        self.over = false;
    }

    /// A new socket: nothing was asserted on it.
    pub fn reopened(&mut self) {
        self.asserted = (self.echoed_received, self.echoed_seen);
        self.tries = 0;
    }

    /// When the next report is due; none if all is echoed.
    ///
    /// Without `assert_again` (M20 off) a claim is made once.
    pub fn due(&self, now: Micros, assert_again: bool) -> Option<Micros> {
        if self.over || (self.received <= self.echoed_received && self.seen <= self.echoed_seen) {
            return None;
        }
        let Some(last) = self.last else { return Some(now) };
        if self.asserted.0 < self.received || self.asserted.1 < self.seen {
            return Some(now.max(last + INTERVAL_US));
        }
        assert_again.then(|| last + back_off(ASSERT_US * 2, self.tries.saturating_sub(1), ASSERT_LONGEST_US, last))
    }

    /// The report to make now: (received, seen), each only where it is not echoed.
    pub fn report(&mut self, now: Micros) -> (Option<u64>, Option<u64>) {
        self.tries = if self.asserted == (self.received, self.seen) { self.tries + 1 } else { 1 };
        self.asserted = (self.received, self.seen);
        self.last = Some(now);
        let seen = (self.seen > self.echoed_seen).then_some(self.seen);
        // `seen` lifts `delivered`, so one report is enough where they are equal.
        let received =
            (self.received > self.echoed_received && self.received > seen.unwrap_or(0)).then_some(self.received);
        (received, seen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_is_made_at_once_then_coalesced_then_asserted_until_echoed() {
        let mut receipts = Receipts::default();
        receipts.received(3);
        assert_eq!(receipts.due(10, true), Some(10));
        assert_eq!(receipts.report(10), (Some(3), None));
        receipts.received(4);
        receipts.received(9);
        assert_eq!(receipts.due(20, true), Some(10 + INTERVAL_US));
        assert_eq!(receipts.report(10 + INTERVAL_US), (Some(9), None));
        let again = receipts.due(10 + INTERVAL_US, true).unwrap();
        assert!(again >= 10 + INTERVAL_US + ASSERT_US);
        assert_eq!(receipts.due(10 + INTERVAL_US, false), None, "M20 off: said once");
        assert_eq!(receipts.report(again), (Some(9), None));
        receipts.echoed(9, 0);
        assert_eq!(receipts.due(again, true), None);
    }

    #[test]
    fn seen_stands_for_received_too_and_neither_moves_back() {
        let mut receipts = Receipts::default();
        receipts.seen(5);
        receipts.received(2);
        assert_eq!(receipts.report(0), (None, Some(5)));
        receipts.echoed(5, 5);
        receipts.seen(4);
        assert_eq!(receipts.due(1, true), None);
    }
}
