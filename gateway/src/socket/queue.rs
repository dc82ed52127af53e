//! What waits to be written to one socket: whole frames in order, bounded in bytes and count.
//!
//! A frame is a header of 2–10 bytes and a payload that all its recipients share. This module never writes:
//! it says what to write next and is told how far a write got.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::Bytes;
use fastwebsockets::OpCode;

use super::frame_guard::CONTROL_BYTES;

/// Most frames in one vectored write: two slices each stay below the kernel's limit of 1,024.
const FRAMES_PER_WRITE: usize = 256;
/// Most pongs that wait: more than an honest peer asks for at once, and 2 kB of a peer that does not read.
pub(super) const PONGS_MAX: usize = 16;
/// What they take, headers included.
pub(super) const PONG_BYTES_MAX: usize = PONGS_MAX * (2 + CONTROL_BYTES);
/// Longest header of a server frame: two bytes and eight of length.
const HEAD_BYTES: usize = 10;

/// How a frame is treated when the queue is not empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Replies and pushes: never dropped; if there is no room, the socket is closed as `slow`.
    Ordinary,
    /// As ordinary ones, but what follows soon says more: it goes with that, or after a moment on its own.
    Unhurried,
    /// Typing and presence: dropped first.
    Ephemeral,
    /// A history reply: taken only by an empty queue, so that a reader sets the pace.
    History,
}

/// What became of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admitted {
    Queued,
    Dropped,
    NotEmpty,
    Full,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Data,
    Ephemeral,
    Ping,
    Pong,
    Close,
}

struct Waiting {
    payload: Bytes,
    head: [u8; HEAD_BYTES],
    head_len: u8,
    role: Role,
}

impl Waiting {
    fn new(opcode: OpCode, payload: Bytes, role: Role) -> Self {
        let mut head = [0; HEAD_BYTES];
        head[0] = 0x80 | opcode as u8;
        let head_len = match payload.len() {
            len @ 0..126 => {
                head[1] = len as u8;
                2
            }
            len @ 126..65_536 => {
                head[1] = 126;
                head[2..4].copy_from_slice(&(len as u16).to_be_bytes());
                4
            }
            len => {
                head[1] = 127;
                head[2..10].copy_from_slice(&(len as u64).to_be_bytes());
                10
            }
        };
        Self { payload, head, head_len, role }
    }

    fn len(&self) -> usize {
        usize::from(self.head_len) + self.payload.len()
    }

    fn head(&self) -> &[u8] {
        &self.head[..usize::from(self.head_len)]
    }
}

/// The bound of a queue.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bound {
    pub(super) bytes: usize,
    pub(super) frames: usize,
    /// Bytes that have left the queue and count as waiting still: TLS has them.
    pub(super) held: usize,
}

/// The frames that wait for one socket.
#[derive(Default)]
pub(super) struct Queue {
    frames: VecDeque<Waiting>,
    bytes: usize,
    /// How much of the first frame is written: it can no longer be dropped or passed.
    written: usize,
}

impl Queue {
    pub(super) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Bytes that wait, headers included.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn frames(&self) -> usize {
        self.frames.len()
    }

    /// Takes a frame if its class and the bound allow (N9).
    pub(super) fn admit(&mut self, opcode: OpCode, payload: Bytes, class: Class, bound: Bound) -> Admitted {
        match class {
            Class::Ephemeral => {
                // Half of the room is kept for what may not be dropped.
                if self.bytes + bound.held >= bound.bytes / 2 || self.frames.len() >= bound.frames / 2 {
                    return Admitted::Dropped;
                }
                self.push(Waiting::new(opcode, payload, Role::Ephemeral));
            }
            Class::History => {
                if !self.frames.is_empty() || bound.held > 0 {
                    return Admitted::NotEmpty;
                }
                self.push(Waiting::new(opcode, payload, Role::Data));
            }
            Class::Ordinary | Class::Unhurried => {
                if self.is_full(bound) {
                    self.drop_ephemeral();
                }
                if self.is_full(bound) {
                    return Admitted::Full;
                }
                self.push(Waiting::new(opcode, payload, Role::Data));
            }
        }
        Admitted::Queued
    }

    /// Queues a ping in front, but behind the pongs, unless one waits already.
    pub(super) fn ping(&mut self) {
        if !self.frames.iter().any(|waiting| waiting.role == Role::Ping) {
            self.insert(self.first_behind_pongs(), Waiting::new(OpCode::Ping, Bytes::new(), Role::Ping));
        }
    }

    /// Queues a pong in front, behind those that wait already, so that each ping is answered in order.
    ///
    /// Beyond [`PONGS_MAX`] it replaces the latest one: then only the latest ping need be answered (RFC 6455 §5.5.3).
    pub(super) fn pong(&mut self, payload: Bytes) {
        debug_assert!(payload.len() <= CONTROL_BYTES);
        let pong = Waiting::new(OpCode::Pong, payload, Role::Pong);
        let behind = self.first_behind_pongs();
        if behind - self.unwritten() < PONGS_MAX {
            self.insert(behind, pong);
        } else {
            let latest = &mut self.frames[behind - 1];
            self.bytes = self.bytes - latest.len() + pong.len();
            *latest = pong;
        }
    }

    /// Queues the close frame, the last one; with `at_once` all that is not partly written is dropped before it.
    pub(super) fn close(&mut self, payload: Bytes, at_once: bool) {
        if at_once {
            self.frames.truncate(usize::from(self.written > 0));
            self.bytes = self.frames.front().map_or(0, |first| first.len() - self.written);
        }
        self.push(Waiting::new(OpCode::Close, payload, Role::Close));
    }

    /// The bytes to write next, in order.
    pub(super) fn slices(&self) -> Vec<IoSlice<'_>> {
        let mut slices = Vec::with_capacity(2 * self.frames.len().min(FRAMES_PER_WRITE));
        let mut skip = self.written;
        for waiting in self.frames.iter().take(FRAMES_PER_WRITE) {
            let head = waiting.head();
            if skip < head.len() {
                slices.push(IoSlice::new(&head[skip..]));
            }
            let payload = &waiting.payload[skip.saturating_sub(head.len())..];
            if !payload.is_empty() {
                slices.push(IoSlice::new(payload));
            }
            skip = 0;
        }
        slices
    }

    /// Forgets the bytes that a write took.
    pub(super) fn advance(&mut self, written: usize) {
        self.bytes -= written;
        self.written += written;
        while let Some(first) = self.frames.front()
            && self.written >= first.len()
        {
            self.written -= first.len();
            self.frames.pop_front();
        }
        if self.frames.is_empty() {
            // An idle socket holds no buffer.
            *self = Self::default();
        }
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    fn is_full(&self, bound: Bound) -> bool {
        self.bytes + bound.held >= bound.bytes || self.frames.len() >= bound.frames
    }

    fn push(&mut self, waiting: Waiting) {
        self.bytes += waiting.len();
        self.frames.push_back(waiting);
    }

    fn insert(&mut self, at: usize, waiting: Waiting) {
        self.bytes += waiting.len();
        self.frames.insert(at, waiting);
    }

    /// Where the frames begin of which nothing is written yet.
    fn unwritten(&self) -> usize {
        usize::from(self.written > 0)
    }

    /// The pongs that wait are the first of those frames.
    fn first_behind_pongs(&self) -> usize {
        let unwritten = self.frames.iter().skip(self.unwritten());
        self.unwritten() + unwritten.take_while(|waiting| waiting.role == Role::Pong).count()
    }

    fn drop_ephemeral(&mut self) {
        let mut index = 0;
        let (mut dropped_bytes, mut dropped) = (0, 0_u64);
        let partly_written = self.written > 0;
        self.frames.retain(|waiting| {
            let keep = waiting.role != Role::Ephemeral || (index == 0 && partly_written);
            index += 1;
            if !keep {
                dropped_bytes += waiting.len();
                dropped += 1;
            }
            keep
        });
        self.bytes -= dropped_bytes;
        metrics::counter!("gateway_frames_dropped_total", "class" => "ephemeral").increment(dropped);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BOUND: Bound = Bound { bytes: 1_000, frames: 8, held: 0 };

    fn admit(queue: &mut Queue, len: usize, class: Class) -> Admitted {
        queue.admit(OpCode::Binary, vec![1; len].into(), class, BOUND)
    }

    fn drain(queue: &mut Queue) -> Vec<u8> {
        let mut out = Vec::new();
        while !queue.is_empty() {
            let before = out.len();
            for slice in queue.slices() {
                out.extend_from_slice(&slice);
            }
            queue.advance(out.len() - before);
        }
        out
    }

    #[test]
    fn a_frame_is_admitted_while_less_than_the_bound_waits() {
        let mut queue = Queue::default();
        assert_eq!(admit(&mut queue, 995, Class::Ordinary), Admitted::Queued);
        assert_eq!(queue.bytes(), 999);
        assert_eq!(admit(&mut queue, 5_000, Class::Ordinary), Admitted::Queued);
        assert_eq!(admit(&mut queue, 0, Class::Ordinary), Admitted::Full);
        let mut queue = Queue::default();
        for _ in 0..8 {
            assert_eq!(admit(&mut queue, 0, Class::Ordinary), Admitted::Queued);
        }
        assert_eq!(admit(&mut queue, 0, Class::Ordinary), Admitted::Full);
    }

    #[test]
    fn what_tls_holds_counts_as_waiting() {
        let held = |held, class| Queue::default().admit(OpCode::Binary, Bytes::new(), class, Bound { held, ..BOUND });
        assert_eq!(held(999, Class::Ordinary), Admitted::Queued);
        assert_eq!(held(1_000, Class::Ordinary), Admitted::Full);
        assert_eq!((held(499, Class::Ephemeral), held(500, Class::Ephemeral)), (Admitted::Queued, Admitted::Dropped));
        assert_eq!((held(0, Class::History), held(1, Class::History)), (Admitted::Queued, Admitted::NotEmpty));
    }

    #[test]
    fn ephemeral_frames_go_first() {
        let mut queue = Queue::default();
        for _ in 0..4 {
            assert_eq!(admit(&mut queue, 1, Class::Ephemeral), Admitted::Queued);
        }
        assert_eq!(admit(&mut queue, 1, Class::Ephemeral), Admitted::Dropped);
        for _ in 0..8 {
            assert_eq!(admit(&mut queue, 1, Class::Ordinary), Admitted::Queued);
        }
        assert_eq!((queue.frames(), queue.bytes()), (8, 24));
        assert_eq!(admit(&mut queue, 1, Class::Ordinary), Admitted::Full);
    }

    #[test]
    fn a_partly_written_ephemeral_frame_is_finished() {
        let mut queue = Queue::default();
        assert_eq!(admit(&mut queue, 10, Class::Ephemeral), Admitted::Queued);
        queue.advance(5);
        for _ in 0..7 {
            assert_eq!(admit(&mut queue, 1, Class::Ordinary), Admitted::Queued);
        }
        assert_eq!(admit(&mut queue, 1, Class::Ordinary), Admitted::Full);
        assert_eq!(queue.frames(), 8);
    }

    #[test]
    fn history_waits_for_an_empty_queue() {
        let mut queue = Queue::default();
        assert_eq!(admit(&mut queue, 1, Class::History), Admitted::Queued);
        assert_eq!(admit(&mut queue, 1, Class::History), Admitted::NotEmpty);
        queue.advance(3);
        assert_eq!(admit(&mut queue, 1, Class::History), Admitted::Queued);
    }

    #[test]
    fn pings_are_answered_in_order_and_never_inside_a_frame() {
        let mut queue = Queue::default();
        assert_eq!(admit(&mut queue, 2, Class::Ordinary), Admitted::Queued);
        queue.advance(3);
        queue.pong(Bytes::from_static(b"one"));
        queue.ping();
        queue.pong(Bytes::from_static(b"two"));
        queue.ping();
        assert_eq!(queue.bytes(), 1 + 5 + 5 + 2);
        assert_eq!(drain(&mut queue), [&[1, 0x8a, 3][..], b"one", &[0x8a, 3], b"two", &[0x89, 0]].concat());
        assert_eq!((queue.bytes(), queue.frames.capacity()), (0, 0));
    }

    #[test]
    fn of_more_pings_than_wait_to_be_answered_the_latest_is() {
        let mut queue = Queue::default();
        assert_eq!(admit(&mut queue, 2, Class::Ordinary), Admitted::Queued);
        for n in 0..100 {
            queue.pong(vec![n; 3].into());
        }
        assert_eq!((queue.frames(), queue.bytes()), (PONGS_MAX + 1, 5 * PONGS_MAX + 4));
        let pongs = drain(&mut queue);
        let answered: Vec<_> = pongs[..5 * PONGS_MAX].chunks(5).map(|pong| pong[2]).collect();
        let first = 0..PONGS_MAX as u8 - 1;
        assert_eq!(answered, first.chain([99]).collect::<Vec<_>>());
    }

    #[test]
    fn an_urgent_close_drops_what_waits_but_keeps_framing() {
        let mut queue = Queue::default();
        for _ in 0..3 {
            assert_eq!(admit(&mut queue, 2, Class::Ordinary), Admitted::Queued);
        }
        queue.advance(3);
        queue.close(Bytes::from_static(&[0x0f, 0xa0]), true);
        assert_eq!(drain(&mut queue), [1, 0x88, 2, 0x0f, 0xa0]);
    }

    #[test]
    fn each_length_has_its_shortest_header() {
        for (len, head) in [(0, 2), (125, 2), (126, 4), (65_535, 4), (65_536, 10)] {
            let waiting = Waiting::new(OpCode::Text, vec![0; len].into(), Role::Data);
            assert_eq!(waiting.len(), head + len);
        }
    }

    proptest! {
        #[test]
        fn partial_writes_of_any_size_keep_bytes_and_order(
            lens in prop::collection::vec(0..300_usize, 1..600),
            takes in prop::collection::vec(1..400_usize, 1..50),
        ) {
            let bound = Bound { bytes: usize::MAX, frames: usize::MAX, held: 0 };
            let mut queue = Queue::default();
            let mut expected = Vec::new();
            for (at, len) in lens.iter().enumerate() {
                let payload = vec![at as u8; *len];
                let waiting = Waiting::new(OpCode::Binary, payload.clone().into(), Role::Data);
                expected.extend_from_slice(waiting.head());
                expected.extend_from_slice(&payload);
                queue.admit(OpCode::Binary, payload.into(), Class::Ordinary, bound);
            }
            prop_assert_eq!(queue.bytes(), expected.len());
            let mut out = Vec::new();
            for take in takes.iter().cycle() {
                if queue.is_empty() {
                    break;
                }
                let slices = queue.slices();
                prop_assert!(slices.len() <= 1_024);
                let next: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).take(*take).collect();
                queue.advance(next.len());
                out.extend(next);
            }
            prop_assert_eq!(out, expected);
        }
    }
}
