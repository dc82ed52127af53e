//! How far chats were looked through for what keyed commands became, so that a poll reads what is new alone.
//!
//! A chat's rows are dense and final (N4, N5): what was not among them up to a seq never will be. What is forgotten here
//! costs a search from the claim's basis, nothing else.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use domain::{Seq, UserId};

use crate::desk::Place;

/// Commands of one generation; two are kept, of some 64 bytes each.
const GENERATION_MAX: usize = 16_384;

/// What a search came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Looked {
    /// Not there up to this seq.
    Through(Seq),
    /// There, for good.
    Found(Place),
}

/// Who sends a command, and its claim's origin, which is drawn for it alone.
type Named = (UserId, u64);

/// What was looked for lately.
#[derive(Debug, Default)]
pub(crate) struct Searched(Mutex<Generations>);

#[derive(Debug, Default)]
struct Generations {
    young: HashMap<Named, Looked>,
    old: HashMap<Named, Looked>,
}

impl Searched {
    /// What the last search for it came to, if that is still known.
    pub(crate) fn known(&self, named: Named) -> Option<Looked> {
        let generations = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        generations.young.get(&named).or_else(|| generations.old.get(&named)).copied()
    }

    /// Remembers what a search came to; what was not polled for a whole generation makes room.
    pub(crate) fn remember(&self, named: Named, looked: Looked) {
        let mut generations = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if generations.young.len() >= GENERATION_MAX && !generations.young.contains_key(&named) {
            generations.old = std::mem::take(&mut generations.young);
        }
        generations.young.insert(named, looked);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(n: u64) -> Named {
        (UserId::new([1; 16]), n)
    }

    #[test]
    fn what_is_polled_stays_and_what_is_not_makes_room() {
        let searched = Searched::default();
        let place = Looked::Found(Place { seq: 3, time: 5 });
        searched.remember(named(0), place);
        assert_eq!(searched.known((UserId::new([2; 16]), 0)), None);
        for n in 1..=4 * GENERATION_MAX as u64 {
            searched.remember(named(n), Looked::Through(n));
            if n % 1_000 == 0 {
                // As a poll does.
                let known = searched.known(named(0)).unwrap();
                searched.remember(named(0), known);
            }
            let generations = searched.0.lock().unwrap();
            assert!(generations.young.len() + generations.old.len() <= 2 * GENERATION_MAX);
        }
        assert_eq!(searched.known(named(0)), Some(place));
        assert_eq!(searched.known(named(1)), None);
    }
}
