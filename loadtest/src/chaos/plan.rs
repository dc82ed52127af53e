//! The schedule of a run: a function of the seed, the time and what the deployment can suffer.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{RngExt as _, SeedableRng as _};

use super::fault::{Fault, Kind};

/// Between the end of a fault and the next one, in ms: sometimes at once, as a rule with time to recover.
const REST_MS: std::ops::Range<u64> = 0..3_000;

/// A fault and how long after the one before it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Planned {
    pub(crate) rest: Duration,
    pub(crate) fault: Fault,
}

/// Faults for this long at least. They are dealt from a deck, so that a short run meets every kind too.
pub(crate) fn draw(seed: u64, time: Duration, menu: &[Kind]) -> Vec<Planned> {
    let mut random = StdRng::seed_from_u64(seed);
    let (mut plan, mut deck, mut at) = (Vec::new(), Vec::new(), Duration::ZERO);
    while at < time && !menu.is_empty() {
        if deck.is_empty() {
            deck = menu.iter().flat_map(|kind| std::iter::repeat_n(*kind, kind.weight())).collect();
            deck.shuffle(&mut random);
        }
        let Some(kind) = deck.pop() else { break };
        let fault = Fault::draw(kind, &mut random);
        let rest = Duration::from_millis(random.random_range(REST_MS));
        at += rest + fault.time();
        plan.push(Planned { rest, fault });
    }
    plan
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_means_one_plan() {
        let menu: Vec<_> = Kind::all().collect();
        let plan = |seed| draw(seed, Duration::from_secs(600), &menu);
        assert_eq!(plan(7), plan(7));
        assert_ne!(plan(7), plan(8));
        assert!(Kind::all().all(|kind| plan(7).iter().any(|planned| planned.fault.kind == kind)));
    }

    #[test]
    fn what_cannot_be_is_not_drawn() {
        assert!(draw(7, Duration::from_secs(60), &[]).is_empty());
        let plan = draw(7, Duration::from_secs(60), &[Kind::CutLinks]);
        assert!(plan.iter().all(|planned| planned.fault.kind == Kind::CutLinks) && plan.len() > 10);
    }
}
