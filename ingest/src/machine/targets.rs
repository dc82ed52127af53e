//! What is known of a chat's messages that commands are about, beside what the batches on their way say.

use std::collections::BTreeMap;

use domain::{Rules, Seq, Target};

/// Most messages of a chat that stay known once the store can be asked of them.
const KEPT_MAX: usize = 1_024;
/// What one takes.
const TARGET_BYTES: usize = 64;

/// Messages by seq: what stands there, and the entry that made it so; 0: it was read.
#[derive(Debug, Default)]
pub(super) struct Targets(BTreeMap<Seq, (Target, Seq)>);

impl Targets {
    pub(super) fn get(&self, seq: Seq) -> Option<Target> {
        self.0.get(&seq).map(|(target, _)| *target)
    }

    /// What was read may be older than what is known (M1).
    pub(super) fn loaded(&mut self, seq: Seq, target: Target, rules: &Rules) {
        if !rules.m1 || !self.0.contains_key(&seq) {
            self.0.insert(seq, (target, 0));
        }
    }

    pub(super) fn changed(&mut self, seq: Seq, target: Target, by: Seq) {
        self.0.insert(seq, (target, by));
    }

    /// Beyond the bound all is forgotten that the store, which has the entries through this one, can be asked for.
    pub(super) fn appended(&mut self, through: Seq) {
        if self.0.len() > KEPT_MAX {
            self.0.retain(|_, (_, by)| *by > through);
        }
    }

    pub(super) fn weight(&self) -> usize {
        self.0.len() * TARGET_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_late_is_not_taken_for_what_became_of_it_since() {
        let mut targets = Targets::default();
        let said = Target::Said { by: domain::UserId::new([1; 16]), edited: 0 };
        targets.loaded(2, said, &Rules::ALL);
        targets.changed(2, Target::Deleted, 9);
        targets.loaded(2, said, &Rules::ALL);
        assert_eq!(targets.get(2), Some(Target::Deleted));
        targets.loaded(2, said, &Rules::without("m1").unwrap());
        assert_eq!(targets.get(2), Some(said), "the check can fail");
    }

    #[test]
    fn beyond_the_bound_only_what_the_store_may_lack_is_kept() {
        let mut targets = Targets::default();
        for seq in 1..=KEPT_MAX as u64 {
            targets.changed(seq, Target::Deleted, 5_000 + seq);
        }
        targets.appended(6_000);
        assert_eq!(targets.weight(), KEPT_MAX * TARGET_BYTES);
        targets.loaded(4_000, Target::Missing, &Rules::ALL);
        targets.appended(6_000);
        let left: Vec<_> =
            [1, 1_000, 1_001, 1_024, 4_000].into_iter().filter(|seq| targets.get(*seq).is_some()).collect();
        assert_eq!((left, targets.weight()), (vec![1_001, 1_024], 24 * TARGET_BYTES));
    }
}
