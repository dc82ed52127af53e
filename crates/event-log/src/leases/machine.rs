//! What one worker does about its role's partitions, told by the bucket's entries in their order.
//!
//! No clock is asked. A worker is gone once five of *our own* signs of life have come round through the bucket since its
//! last one: who stood still itself, or was cut off, sees both late and in order, and takes nobody for dead for that.
//! Nothing here is needed for safety (N6): an owner that is taken for dead too early is fenced.

use std::collections::{BTreeMap, BTreeSet};

use domain::Partition;

use super::entry::{Beat, Entry, Holder, Order};
use super::shares::targets;

/// Our signs of life after which another's silence means that it is gone.
const GONE_AFTER_BEATS: u64 = 5;
/// After which a worker that lives, but does not let go of what is another's, has it taken away: far above what an
/// orderly end takes.
const TAKEN_AFTER_BEATS: u64 = 20;
/// After which the entry of a worker that is gone is removed.
const FORGOTTEN_AFTER_BEATS: u64 = 600;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Input {
    /// An entry of the bucket; one that is older than what is known of its key changes nothing.
    Entry { revision: u64, entry: Entry },
    /// Give all back, take nothing more.
    Leave,
    /// What was granted was taken, with this revision.
    Took { partition: Partition, revision: u64 },
    /// What was taken was given back, with this revision.
    Released { partition: Partition, revision: u64 },
    /// Who had the grant is done with it, whatever became of it.
    Ended { partition: Partition },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// The partition is ours to take.
    Grant(Partition),
    /// What was granted is to be given back.
    Recall(Partition),
    /// This worker is gone for so long that its entry, with this revision, is of no use.
    Forget { worker: String, revision: u64 },
    /// A later run of the same worker is there.
    Superseded,
}

/// What became of a grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Grant {
    Open,
    Taken(u64),
    Recalled,
}

#[derive(Clone, Debug)]
struct Seen {
    beat: Beat,
    revision: u64,
    /// Our own beats when it was seen.
    at: u64,
    forgetting: bool,
}

#[derive(Clone, Debug)]
struct Owned {
    holder: Option<Holder>,
    revision: u64,
    /// Our own beats when it was seen.
    at: u64,
    /// Our own beats when it was first another's to have.
    unwanted_at: Option<u64>,
}

/// One worker's view of its role, and what it holds.
#[derive(Debug)]
pub(crate) struct Machine {
    me: Holder,
    /// There can be no other worker: whatever the bucket says of one is over.
    alone: bool,
    partitions: u16,
    workers: BTreeMap<String, Seen>,
    owned: BTreeMap<Partition, Owned>,
    orders: BTreeMap<Partition, (u64, Option<Order>)>,
    grants: BTreeMap<Partition, Grant>,
    /// Our own beats that have come round.
    beats: u64,
    leaving: bool,
}

impl Machine {
    pub(crate) const fn new(me: Holder, alone: bool, partitions: u16) -> Self {
        Self {
            me,
            alone,
            partitions,
            workers: BTreeMap::new(),
            owned: BTreeMap::new(),
            orders: BTreeMap::new(),
            grants: BTreeMap::new(),
            beats: 0,
            leaving: false,
        }
    }

    /// What this worker says of itself.
    pub(crate) const fn beat(&self) -> Beat {
        Beat { incarnation: self.me.incarnation, leaving: self.leaving }
    }

    pub(crate) const fn me(&self) -> &Holder {
        &self.me
    }

    /// The revision that the partition's entry has as far as is known; 0: there is none.
    pub(crate) fn revision(&self, partition: Partition) -> u64 {
        self.owned.get(&partition).map_or(0, |owned| owned.revision)
    }

    /// The revision of the partition's entry, if it says that this run of the worker has it.
    pub(crate) fn held(&self, partition: Partition) -> Option<u64> {
        let owned = self.owned.get(&partition)?;
        (owned.holder.as_ref() == Some(&self.me)).then_some(owned.revision)
    }

    /// The partitions that are this worker's to own; `None`: it has not seen yet what there is.
    pub(crate) fn granted(&self) -> Option<Vec<Partition>> {
        let granted = self.grants.iter().filter(|(_, grant)| **grant != Grant::Recalled);
        (self.beats > 0).then(|| granted.map(|(partition, _)| *partition).collect())
    }

    /// How many partitions this worker works on.
    pub(crate) fn taken(&self) -> usize {
        self.grants.values().filter(|grant| matches!(grant, Grant::Taken(_))).count()
    }

    pub(crate) fn handle(&mut self, input: Input, actions: &mut Vec<Action>) {
        match input {
            Input::Entry { revision, entry } => self.see(revision, entry, actions),
            Input::Leave => self.leaving = true,
            Input::Took { partition, revision } => {
                if let Some(grant @ Grant::Open) = self.grants.get_mut(&partition) {
                    *grant = Grant::Taken(revision);
                }
                self.hold(partition, revision, Some(self.me.clone()));
            }
            Input::Released { partition, revision } => self.hold(partition, revision, None),
            Input::Ended { partition } => {
                self.grants.remove(&partition);
            }
        }
        self.reconsider(actions);
    }

    fn see(&mut self, revision: u64, entry: Entry, actions: &mut Vec<Action>) {
        match entry {
            Entry::Worker { name, beat } if name == self.me.worker => self.see_ourselves(revision, beat, actions),
            Entry::Worker { name, beat: Some(beat) } => {
                let seen = Seen { beat, revision, at: self.beats, forgetting: false };
                let known = self.workers.entry(name).or_insert_with(|| seen.clone());
                if known.revision < revision {
                    *known = seen;
                }
            }
            Entry::Worker { name, beat: None } => {
                if self.workers.get(&name).is_some_and(|known| known.revision < revision) {
                    self.workers.remove(&name);
                }
            }
            Entry::Holder { partition, holder } => self.hold(partition, revision, holder),
            Entry::Order { partition, order } => {
                let known = self.orders.entry(partition).or_insert((0, None));
                if known.0 < revision {
                    *known = (revision, order);
                }
            }
        }
    }

    fn see_ourselves(&mut self, revision: u64, beat: Option<Beat>, actions: &mut Vec<Action>) {
        let Some(beat) = beat else { return };
        if beat.incarnation > self.me.incarnation && !self.alone {
            actions.push(Action::Superseded);
        }
        if beat.incarnation == self.me.incarnation {
            let seen = Seen { beat, revision, at: self.beats, forgetting: false };
            let known = self.workers.insert(self.me.worker.clone(), seen);
            if known.is_none_or(|known| known.revision < revision) {
                self.beats += 1;
            }
        }
    }

    fn hold(&mut self, partition: Partition, revision: u64, holder: Option<Holder>) {
        let owned = Owned { holder, revision, at: self.beats, unwanted_at: None };
        let known = self.owned.entry(partition).or_insert_with(|| owned.clone());
        if known.revision < revision {
            *known = owned;
        }
    }

    /// Whether its signs of life come.
    fn is_there(&self, worker: &str) -> bool {
        worker == self.me.worker
            || !self.alone
                && self.workers.get(worker).is_some_and(|seen| self.beats.saturating_sub(seen.at) < GONE_AFTER_BEATS)
    }

    fn takes_part(&self, worker: &str) -> bool {
        let leaves = if worker == self.me.worker {
            self.leaving
        } else {
            self.workers.get(worker).is_none_or(|seen| seen.beat.leaving)
        };
        !leaves && self.is_there(worker)
    }

    /// Whether nobody has the partition who could still give it back.
    fn is_free(&self, partition: Partition) -> bool {
        let Some(owned) = self.owned.get(&partition) else { return true };
        let Some(holder) = &owned.holder else { return true };
        // What an earlier run of ours had, or we ourselves and lost.
        holder.worker == self.me.worker
            || self.alone
            || !self.is_there(&holder.worker) && self.was_heard_of(holder, owned)
            || owned.unwanted_at.is_some_and(|since| self.beats - since >= TAKEN_AFTER_BEATS)
    }

    /// Whether an owner that is not there had the time to be seen: its last sign of life may come behind its entry.
    fn was_heard_of(&self, holder: &Holder, owned: &Owned) -> bool {
        self.workers.contains_key(&holder.worker) || self.beats.saturating_sub(owned.at) >= GONE_AFTER_BEATS
    }

    fn reconsider(&mut self, actions: &mut Vec<Action>) {
        // Not before all that was there has been seen: our own first sign of life came last.
        if self.beats == 0 {
            return;
        }
        let live: BTreeSet<&str> =
            self.workers.keys().map(String::as_str).filter(|name| self.takes_part(name)).collect();
        let owners = self.owned.iter().filter_map(|(p, owned)| Some((*p, owned.holder.as_ref()?.worker.as_str())));
        let orders = self.orders.iter().filter_map(|(p, (_, order))| Some((*p, order.clone()?))).collect();
        let targets = targets((0..self.partitions).map(Partition), &live, &owners.collect(), &orders);
        let ours: BTreeSet<Partition> =
            targets.iter().filter(|(_, worker)| **worker == self.me.worker).map(|(partition, _)| *partition).collect();
        let wanted: BTreeMap<Partition, String> =
            targets.into_iter().map(|(partition, worker)| (partition, worker.to_owned())).collect();
        for (partition, owned) in &mut self.owned {
            let is_unwanted = match (&owned.holder, wanted.get(partition)) {
                (Some(holder), Some(worker)) => holder.worker != *worker,
                (_, None) | (None, _) => false,
            };
            owned.unwanted_at = is_unwanted.then_some(owned.unwanted_at.unwrap_or(self.beats));
        }
        for partition in (0..self.partitions).map(Partition) {
            match self.grants.get(&partition) {
                None if ours.contains(&partition) && !self.leaving && self.is_free(partition) => {
                    self.grants.insert(partition, Grant::Open);
                    actions.push(Action::Grant(partition));
                }
                Some(Grant::Open | Grant::Taken(_))
                    if self.leaving || !ours.contains(&partition) || self.is_taken_away(partition) =>
                {
                    self.grants.insert(partition, Grant::Recalled);
                    actions.push(Action::Recall(partition));
                }
                None | Some(_) => {}
            }
        }
        self.forget(&live.iter().map(|name| (*name).to_owned()).collect(), actions);
    }

    /// Whether another has taken what we hold.
    fn is_taken_away(&self, partition: Partition) -> bool {
        let (Some(Grant::Taken(ours)), Some(owned)) = (self.grants.get(&partition), self.owned.get(&partition)) else {
            return false;
        };
        owned.revision > *ours && owned.holder.as_ref() != Some(&self.me)
    }

    /// The first of those that take part removes what others have left behind.
    fn forget(&mut self, live: &BTreeSet<String>, actions: &mut Vec<Action>) {
        if live.first() != Some(&self.me.worker) {
            return;
        }
        for (worker, seen) in &mut self.workers {
            let is_gone = *worker != self.me.worker && self.beats.saturating_sub(seen.at) >= FORGOTTEN_AFTER_BEATS;
            if is_gone && !seen.forgetting {
                seen.forgetting = true;
                actions.push(Action::Forget { worker: worker.clone(), revision: seen.revision });
            }
        }
    }
}

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
