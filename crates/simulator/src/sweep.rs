//! Many seeds on a few threads, and what they came to.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use crate::{Outcome, Switches, run};

/// What many seeds came to.
#[derive(Debug, Default)]
pub struct Sweep {
    /// Those that failed, by seed, without their steps.
    pub failed: Vec<Outcome>,
    /// Seeds run.
    pub seeds: u64,
    /// Tasks run.
    pub happened: u64,
    /// Entries published.
    pub entries: u64,
    /// Seeds whose partition stopped, as it must after a lost tail.
    pub halted: u64,
}

impl Sweep {
    fn add(&mut self, outcome: Outcome) {
        self.seeds += 1;
        self.happened += outcome.happened;
        self.entries += outcome.entries;
        self.halted += u64::from(outcome.halted);
        if !outcome.faults.is_empty() {
            self.failed.push(outcome);
        }
    }
}

/// Runs `seeds` seeds from `from` on; ends early at the first one that fails unless `go_on`.
pub fn sweep(from: u64, seeds: u64, switches: Switches, threads: usize, go_on: bool) -> Sweep {
    let end = from.saturating_add(seeds);
    let next = AtomicU64::new(from);
    let all = Mutex::new(Sweep::default());
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= end {
                return;
            }
            let outcome = run(seed, switches, false);
            if !outcome.faults.is_empty() && !go_on {
                next.store(end, Ordering::Relaxed);
            }
            all.lock().unwrap_or_else(PoisonError::into_inner).add(outcome);
        }
    };
    thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(work);
        }
    });
    let mut all = all.into_inner().unwrap_or_else(PoisonError::into_inner);
    all.failed.sort_by_key(|outcome| outcome.seed);
    all
}
