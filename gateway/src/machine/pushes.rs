//! The numbered pushes of one session, and the last of them at hand: what a lost socket may have taken with it.

use std::collections::VecDeque;

use domain::{Micros, Rules};

/// What is kept of a session's pushes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Kept {
    /// Most frames.
    pub frames: usize,
    /// Most bytes of them.
    pub bytes: usize,
}

/// The pushes of one session, numbered 1, 2, 3 … over all its sockets.
///
/// The latest are kept, within a bound: always an unbroken run up to the last one.
#[derive(Clone, Debug)]
pub struct Pushes<F> {
    last: u64,
    kept: VecDeque<(Micros, usize, F)>,
    bytes: usize,
}

impl<F> Default for Pushes<F> {
    fn default() -> Self {
        Self { last: 0, kept: VecDeque::new(), bytes: 0 }
    }
}

impl<F> Pushes<F> {
    /// The number of the last one.
    pub const fn last(&self) -> u64 {
        self.last
    }

    /// Numbers a frame of so many bytes; whether it is kept. One beyond the bound leaves nothing before it either.
    pub fn push(&mut self, now: Micros, frame: F, bytes: usize, bound: Kept) -> bool {
        if bytes > bound.bytes || bound.frames == 0 {
            self.skip();
            return false;
        }
        self.last += 1;
        self.bytes += bytes;
        self.kept.push_back((now, bytes, frame));
        while self.kept.len() > bound.frames || self.bytes > bound.bytes {
            self.drop_first();
        }
        true
    }

    /// Numbers a frame that nobody can be given: no session goes on over it.
    pub fn skip(&mut self) {
        self.last += 1;
        self.bytes = 0;
        self.kept = VecDeque::new();
    }

    /// Forgets those of before `then`, and gives their room back.
    pub fn forget_before(&mut self, then: Micros) {
        while self.kept.front().is_some_and(|(at, ..)| *at < then) {
            self.drop_first();
        }
        if self.kept.len() <= self.kept.capacity() / 4 {
            self.kept.shrink_to_fit();
        }
    }

    /// The frames above number `received`, in order.
    ///
    /// M24: none if one of them is gone, or was never sent: then the session cannot go on, and its client begins anew.
    pub fn since(&self, received: u64, rules: Rules) -> Option<impl Iterator<Item = &F>> {
        let missed = usize::try_from(self.last.checked_sub(received)?).ok()?;
        if missed > self.kept.len() && rules.m24 {
            return None;
        }
        let from = self.kept.len().saturating_sub(missed);
        Some(self.kept.range(from..).map(|(_, _, frame)| frame))
    }

    fn drop_first(&mut self) {
        if let Some((_, bytes, _)) = self.kept.pop_front() {
            self.bytes -= bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUND: Kept = Kept { frames: 4, bytes: 100 };

    fn since(pushes: &Pushes<u64>, received: u64) -> Option<Vec<u64>> {
        Some(pushes.since(received, Rules::ALL)?.copied().collect())
    }

    fn of(bytes: &[usize]) -> Pushes<u64> {
        let mut pushes = Pushes::default();
        for (number, bytes) in (1..).zip(bytes) {
            pushes.push(number, number, *bytes, BOUND);
        }
        pushes
    }

    #[test]
    fn those_above_the_number_come_in_order_and_only_all_of_them() {
        let pushes = of(&[10; 6]);
        assert_eq!(since(&pushes, 6), Some(vec![]));
        assert_eq!(since(&pushes, 4), Some(vec![5, 6]));
        assert_eq!(since(&pushes, 2), Some(vec![3, 4, 5, 6]));
        assert_eq!(since(&pushes, 1), None, "the second is gone");
        assert_eq!(since(&pushes, 7), None, "never sent");
        assert_eq!(since(&pushes, u64::MAX), None);
        let without = Rules::without("m24").unwrap();
        assert_eq!(pushes.since(1, without).map(Iterator::count), Some(4), "control: a hole that looks whole");
    }

    #[test]
    fn the_bound_holds_for_bytes_too_and_one_that_is_too_large_leaves_nothing() {
        let mut pushes = of(&[40, 40, 40]);
        assert_eq!(since(&pushes, 1), Some(vec![2, 3]));
        assert_eq!(since(&pushes, 0), None);
        assert!(!pushes.push(4, 4, 101, BOUND));
        assert_eq!((since(&pushes, 3), since(&pushes, 4)), (None, Some(vec![])));
        assert!(pushes.push(5, 5, 100, BOUND));
        assert_eq!((since(&pushes, 3), since(&pushes, 4)), (None, Some(vec![5])));
    }

    #[test]
    fn one_that_nobody_can_be_given_is_a_hole() {
        let mut pushes = of(&[10, 10]);
        pushes.skip();
        assert_eq!((since(&pushes, 2), since(&pushes, 3)), (None, Some(vec![])));
        pushes.push(4, 4, 10, BOUND);
        assert_eq!((since(&pushes, 2), since(&pushes, 3)), (None, Some(vec![4])));
    }

    #[test]
    fn old_ones_are_forgotten_and_hold_no_memory() {
        let mut pushes = of(&[10; 4]);
        pushes.forget_before(4);
        assert_eq!((since(&pushes, 3), since(&pushes, 2)), (Some(vec![4]), None));
        pushes.forget_before(5);
        assert_eq!((since(&pushes, 4), since(&pushes, 3)), (Some(vec![]), None));
        assert_eq!((pushes.kept.capacity(), pushes.bytes), (0, 0));
    }
}
