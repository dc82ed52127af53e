//! Pings, silence, the authentication deadline and the end of the token of all sockets, on one timing wheel.
//!
//! A parked socket costs one wheel entry: no timer and no task. `check` is the whole rule, free of clocks
//! and sockets; the wheel only says when to ask it again.

use super::close::CloseCode;
use super::config::Config;

/// Slots of the wheel; with a tick of 1/128 of the timeout it reaches two timeouts ahead.
const SLOTS: usize = 256;
const TICKS_PER_TIMEOUT: u64 = 128;

/// What is known of a socket when it is looked at; times in ms on one clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts {
    pub(super) now_ms: u64,
    pub(super) last_read_ms: u64,
    pub(super) next_ping_ms: u64,
    /// When it must be authenticated; none once it is.
    pub(super) authenticate_by_ms: Option<u64>,
    /// When its token no longer holds; `u64::MAX` before it has one.
    pub(super) expires_ms: u64,
}

/// What to do with a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Close(CloseCode),
    /// Look again at `due_ms`, after a ping if one is due.
    Keep {
        ping: bool,
        next_ping_ms: u64,
        due_ms: u64,
    },
}

/// Decides by the facts alone.
pub(super) fn check(config: &Config, facts: Facts) -> Verdict {
    let silent_at_ms = facts.last_read_ms + config.heartbeat_timeout_ms;
    if facts.now_ms >= silent_at_ms {
        return Verdict::Close(CloseCode::HeartbeatTimeout);
    }
    if facts.authenticate_by_ms.is_some_and(|by_ms| facts.now_ms >= by_ms) {
        return Verdict::Close(CloseCode::AuthenticateTimeout);
    }
    if facts.now_ms >= facts.expires_ms {
        return Verdict::Close(CloseCode::TokenExpired);
    }
    let ping = facts.now_ms >= facts.next_ping_ms;
    let next_ping_ms = if ping { facts.now_ms + config.heartbeat_interval_ms } else { facts.next_ping_ms };
    let authenticate_by_ms = facts.authenticate_by_ms.unwrap_or(u64::MAX);
    let due_ms = next_ping_ms.min(silent_at_ms).min(authenticate_by_ms).min(facts.expires_ms);
    Verdict::Keep { ping, next_ping_ms, due_ms }
}

/// Entries by the tick at which they are due; due times beyond its reach come early, never late by over a tick.
pub(super) struct Wheel<T> {
    tick_ms: u64,
    /// The last tick that was taken.
    tick: u64,
    slots: Vec<Vec<T>>,
}

impl<T> Wheel<T> {
    pub(super) fn new(config: &Config) -> Self {
        let tick_ms = (config.heartbeat_timeout_ms / TICKS_PER_TIMEOUT).max(1);
        Self { tick_ms, tick: 0, slots: std::iter::repeat_with(Vec::new).take(SLOTS).collect() }
    }

    pub(super) const fn tick_ms(&self) -> u64 {
        self.tick_ms
    }

    pub(super) fn insert(&mut self, due_ms: u64, entry: T) {
        let tick = due_ms.div_ceil(self.tick_ms).clamp(self.tick + 1, self.tick + SLOTS as u64 - 1);
        self.slots[tick as usize % SLOTS].push(entry);
    }

    /// Takes all that is due.
    pub(super) fn advance(&mut self, now_ms: u64) -> Vec<T> {
        let until = now_ms / self.tick_ms;
        let first = self.tick.max(until.saturating_sub(SLOTS as u64));
        let mut due = Vec::new();
        for tick in first..until {
            due.append(&mut std::mem::take(&mut self.slots[(tick + 1) as usize % SLOTS]));
        }
        self.tick = self.tick.max(until);
        due
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = &T> {
        self.slots.iter().flatten()
    }

    pub(super) fn clear(&mut self) {
        self.slots.iter_mut().for_each(|slot| *slot = Vec::new());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(now_ms: u64) -> Facts {
        Facts { now_ms, last_read_ms: 0, next_ping_ms: 10_000, authenticate_by_ms: None, expires_ms: u64::MAX }
    }

    #[test]
    fn a_silent_socket_is_pinged_then_closed() {
        let config = Config::default();
        assert_eq!(check(&config, facts(9_999)), Verdict::Keep { ping: false, next_ping_ms: 10_000, due_ms: 10_000 });
        assert_eq!(check(&config, facts(10_000)), Verdict::Keep { ping: true, next_ping_ms: 35_000, due_ms: 35_000 });
        assert_eq!(check(&config, facts(35_000)), Verdict::Close(CloseCode::HeartbeatTimeout));
    }

    #[test]
    fn any_byte_moves_the_end() {
        let config = Config::default();
        let read = Facts { last_read_ms: 30_000, next_ping_ms: 50_000, ..facts(35_000) };
        assert_eq!(check(&config, read), Verdict::Keep { ping: false, next_ping_ms: 50_000, due_ms: 50_000 });
    }

    #[test]
    fn an_unauthenticated_socket_is_closed_at_its_deadline() {
        let config = Config::default();
        let waiting = |now_ms| Facts { authenticate_by_ms: Some(9_000), last_read_ms: now_ms, ..facts(now_ms) };
        assert!(matches!(check(&config, waiting(8_999)), Verdict::Keep { due_ms: 9_000, .. }));
        assert_eq!(check(&config, waiting(9_000)), Verdict::Close(CloseCode::AuthenticateTimeout));
    }

    #[test]
    fn a_socket_ends_with_its_token() {
        let config = Config::default();
        let expiring = |now_ms| Facts { expires_ms: 9_000, ..facts(now_ms) };
        assert!(matches!(check(&config, expiring(8_999)), Verdict::Keep { due_ms: 9_000, .. }));
        assert_eq!(check(&config, expiring(9_000)), Verdict::Close(CloseCode::TokenExpired));
    }

    #[test]
    fn the_wheel_gives_each_entry_once_within_a_tick_of_its_time() {
        let config = Config { heartbeat_timeout_ms: 1_280, ..Config::default() };
        let mut wheel = Wheel::new(&config);
        let dues = [0, 1, 9, 10, 11, 95, 640, 1_280, 2_500];
        for due in dues {
            wheel.insert(due, due);
        }
        assert_eq!(wheel.entries().count(), dues.len());
        let mut seen = Vec::new();
        for now in (0..=2_600).step_by(7) {
            for due in wheel.advance(now) {
                assert!(due <= now && now < due + 10 + 7, "{due} came at {now}");
                seen.push(due);
            }
        }
        seen.sort_unstable();
        assert_eq!(seen, dues);
    }

    #[test]
    fn a_wheel_that_was_held_up_loses_nothing() {
        let config = Config { heartbeat_timeout_ms: 1_280, ..Config::default() };
        let mut wheel = Wheel::new(&config);
        wheel.insert(5, 'a');
        wheel.insert(999_999, 'b');
        let mut due = wheel.advance(1_000_000);
        due.sort_unstable();
        assert_eq!(due, ['a', 'b']);
        wheel.insert(0, 'c');
        assert_eq!(wheel.advance(1_000_010), ['c']);
    }
}
