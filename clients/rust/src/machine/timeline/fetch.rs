//! Fills gaps from history: one request a chat at a time, a few at once, refusals waited out.

use proto::v1::ErrorCode;

use super::{Entry, Fetch, Timeline, TimelineAction, weight};
use crate::ChatId;
use crate::machine::{Micros, back_off};

impl Timeline {
    pub(super) fn ask(&mut self, now: Micros, chat: ChatId, actions: &mut Vec<TimelineAction>) {
        let Some(state) = self.chats.get_mut(&chat) else { return };
        state.fetch = Fetch::Idle;
        if !state.is_behind() {
            return;
        }
        let request = self.next_request;
        self.next_request += 1;
        let again = now + self.bounds.fetch_us;
        let after = state.known;
        // Through the entry beyond the gap, not just up to it: it may be the one that let this user in, and a push can
        // be faster than its row. What is asked for too early would be refused for good.
        let beyond = state.held.first_key_value().map(|(seq, _)| *seq);
        // A probe has no target of its own, unless the new epoch's heads or pushes have named one (M7).
        let at_least = if state.target > after { beyond.unwrap_or(state.target) } else { 0 };
        state.fetch = Fetch::Asked { request, after, target: state.target, again };
        self.asked.insert(request, chat);
        self.fetch_timers.insert((again, chat));
        actions.push(TimelineAction::Fetch { request, chat, after, at_least });
    }

    pub(super) fn history(
        &mut self,
        now: Micros,
        request: u64,
        epoch: u64,
        through: u64,
        entries: Vec<Entry>,
        actions: &mut Vec<TimelineAction>,
    ) {
        let Some(chat) = self.asked.remove(&request) else { return };
        if !self.enter(now, chat.partition(), epoch) {
            self.rest(chat, now + self.bounds.rest_us);
            return;
        }
        let Some(state) = self.chats.get_mut(&chat) else { return };
        let Fetch::Asked { request: asked, after, again, .. } = state.fetch else { return };
        if asked != request {
            return;
        }
        self.fetch_timers.remove(&(again, chat));
        state.fetch = Fetch::Idle;
        if state.known < after {
            self.follow(now, chat, actions);
            return;
        }
        // M22: whole through `through`, entries or not; what an answer shows above may have holes below.
        let through = if self.rules.m22 { through } else { entries.last().map_or(after, |entry| entry.entry.seq) };
        // M7: the oldest entry kept differs already: the common head lies further down than can be compared.
        let oldest = state.recent.front().copied();
        let differs = state.probe
            && oldest.is_some_and(|(seq, hash)| {
                seq > 1 && entries.iter().any(|entry| entry.entry.seq == seq && entry.hash != hash)
            });
        if differs && after > 0 {
            state.recent.clear();
            self.go_back(now, chat, Some(0));
            return;
        }
        let moved = through > after;
        let known = state.known;
        for entry in entries {
            let seq = entry.entry.seq;
            if seq > through {
                self.arrived(chat, entry, actions);
            } else if seq > self.known(chat) {
                self.show(chat, entry, actions);
            }
        }
        let Some(state) = self.chats.get_mut(&chat) else { return };
        state.known = state.known.max(through);
        state.target = state.target.max(state.known);
        if !moved {
            state.probe = false;
        }
        self.drain(chat, actions);
        let Some(state) = self.chats.get_mut(&chat) else { return };
        if moved || state.known > known {
            state.refusals = 0;
        } else if state.is_behind() {
            state.refusals += 1;
            let wait = back_off(self.bounds.rest_us * 2, state.refusals, self.bounds.longest_us, now);
            self.rest(chat, now + wait);
        }
        self.follow(now, chat, actions);
    }

    pub(super) fn refused(
        &mut self,
        now: Micros,
        request: u64,
        code: ErrorCode,
        retryable: bool,
        retry_after_us: Micros,
        actions: &mut Vec<TimelineAction>,
    ) {
        let Some(chat) = self.asked.remove(&request) else { return };
        let Some(state) = self.chats.get_mut(&chat) else { return };
        let Fetch::Asked { request: asked, target, again, .. } = state.fetch else { return };
        if asked != request {
            return;
        }
        self.fetch_timers.remove(&(again, chat));
        state.fetch = Fetch::Idle;
        if retryable {
            let wait = back_off(self.bounds.rest_us * 2, state.refusals, self.bounds.longest_us, now ^ request);
            state.refusals += 1;
            self.rest(chat, now + wait.max(retry_after_us));
        } else if state.target > target {
            // Refused as of then; since then more is said to exist, and with it perhaps what lets this user in.
            self.follow(now, chat, actions);
        } else {
            // Not for this user, or gone: there is nothing to wait for.
            state.target = state.known;
            state.probe = false;
            state.receipts.over();
            let held = std::mem::take(&mut state.held);
            self.held -= held.len();
            self.held_bytes -= held.values().map(weight).sum::<usize>();
            actions.push(TimelineAction::Unreadable { chat, code });
            self.follow(now, chat, actions);
        }
    }

    /// Asks again at `until`, not before.
    pub(super) fn rest(&mut self, chat: ChatId, until: Micros) {
        let Some(state) = self.chats.get_mut(&chat) else { return };
        if let Fetch::Asked { again, request, .. } = state.fetch {
            self.fetch_timers.remove(&(again, chat));
            self.asked.remove(&request);
        } else if let Fetch::Resting(at) = state.fetch {
            self.fetch_timers.remove(&(at, chat));
        } else if state.fetch == Fetch::Queued {
            return;
        }
        state.fetch = Fetch::Resting(until);
        self.fetch_timers.insert((until, chat));
        if state.is_behind() {
            self.partitions.entry(chat.partition()).or_default().behind.insert(chat);
        }
    }
}
