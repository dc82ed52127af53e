//! Who should own which partition: pure, and the same for whoever has seen the same entries.
//!
//! Each worker gets a fair share, and what moves is no more than that takes: a partition changes its worker only where
//! its own is gone, has more than its share, or an operator says so.

use std::collections::{BTreeMap, BTreeSet};

use domain::Partition;

use super::entry::Order;

/// The partitions that somebody should own, each with its worker's name.
///
/// `live` are the workers that take part; `owners` who has a partition now, whether it takes part or not.
pub(crate) fn targets<'a>(
    partitions: impl Iterator<Item = Partition>,
    live: &BTreeSet<&'a str>,
    owners: &BTreeMap<Partition, &str>,
    orders: &'a BTreeMap<Partition, Order>,
) -> BTreeMap<Partition, &'a str> {
    let mut targets = BTreeMap::new();
    let mut open = Vec::new();
    for partition in partitions {
        match orders.get(&partition) {
            Some(Order::Pause) => {}
            Some(Order::Move { to }) if live.contains(to.as_str()) => {
                targets.insert(partition, to.as_str());
            }
            // Whom an operator meant is not there: better anybody than nobody.
            Some(Order::Move { .. }) | None => open.push(partition),
        }
    }
    if live.is_empty() {
        return BTreeMap::new();
    }
    let mut room = shares(targets.len() + open.len(), live, &targets, owners);
    // Who has one keeps it, as far as its share goes.
    open.retain(|partition| {
        let owner = owners.get(partition).and_then(|owner| live.iter().copied().find(|worker| worker == owner));
        let kept = owner.filter(|owner| take(&mut room, owner));
        if let Some(owner) = kept {
            targets.insert(*partition, owner);
        }
        kept.is_none()
    });
    for partition in open {
        let Some(worker) = live.iter().copied().find(|worker| take(&mut room, worker)) else { break };
        targets.insert(partition, worker);
    }
    targets
}

/// How many more each worker may have, beyond what it was told to have.
///
/// The shares of what does not divide evenly go to those who have the most, so that nothing moves for them.
fn shares<'a>(
    count: usize,
    live: &BTreeSet<&'a str>,
    told: &BTreeMap<Partition, &str>,
    owners: &BTreeMap<Partition, &str>,
) -> BTreeMap<&'a str, usize> {
    let of = |of: &BTreeMap<Partition, &str>, worker: &str| of.values().filter(|owner| **owner == worker).count();
    // A worker that was told to have more than its share leaves less for the others, but not less than nothing.
    let mut room: BTreeMap<&str, usize> = live.iter().map(|worker| (*worker, 0)).collect();
    let mut by_most: Vec<&str> = live.iter().copied().collect();
    by_most.sort_by_key(|worker| std::cmp::Reverse(of(owners, worker)));
    let mut left = count - told.len();
    let mut level = 1;
    while left > 0 {
        for worker in &by_most {
            let has = of(told, worker) + room[worker];
            if left > 0 && has < level {
                *room.entry(worker).or_default() += 1;
                left -= 1;
            }
        }
        level += 1;
    }
    room
}

fn take(room: &mut BTreeMap<&str, usize>, worker: &str) -> bool {
    match room.get_mut(worker) {
        Some(left) if *left > 0 => {
            *left -= 1;
            true
        }
        Some(_) | None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partitions(count: u16) -> impl Iterator<Item = Partition> {
        (0..count).map(Partition)
    }

    fn counts(targets: &BTreeMap<Partition, &str>) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for worker in targets.values() {
            *counts.entry((*worker).to_owned()).or_default() += 1;
        }
        counts
    }

    fn moved(owners: &BTreeMap<Partition, &str>, targets: &BTreeMap<Partition, &str>) -> usize {
        owners.iter().filter(|(partition, owner)| targets.get(partition) != Some(owner)).count()
    }

    #[test]
    fn shares_are_fair_and_no_more_moves_than_that_takes() {
        let (none, names) = (BTreeMap::new(), ["a", "b", "c", "d", "e"]);
        for count in [1, 2, 7, 8, 64] {
            let mut owners: BTreeMap<Partition, &str> = BTreeMap::new();
            // Workers join one by one, then leave in the same order.
            let ups = (1..=names.len()).map(|end| 0..end);
            let downs = (1..names.len()).map(|start| start..names.len());
            for range in ups.chain(downs) {
                let live: BTreeSet<&str> = names[range].iter().copied().collect();
                let targets = targets(partitions(count), &live, &owners, &none);
                assert_eq!(targets.len(), usize::from(count), "all have one");
                let (least, most) = (usize::from(count) / live.len(), usize::from(count).div_ceil(live.len()));
                let counts = counts(&targets);
                assert!(counts.values().all(|of| *of <= most), "{counts:?}");
                assert!(live.iter().all(|worker| counts.get(*worker).copied().unwrap_or(0) >= least), "{counts:?}");
                let gone = owners.values().filter(|owner| !live.contains(**owner)).count();
                assert!(moved(&owners, &targets) <= gone.max(most), "{owners:?} {targets:?}");
                owners = targets;
            }
        }
    }

    #[test]
    fn nothing_moves_between_workers_that_have_their_shares() {
        let live = BTreeSet::from(["a", "b", "c"]);
        let owners: BTreeMap<Partition, &str> = partitions(8).zip(["c", "b", "a", "c", "b", "c", "a", "b"]).collect();
        assert_eq!(targets(partitions(8), &live, &owners, &BTreeMap::new()), owners);
    }

    #[test]
    fn an_operators_orders_come_first() {
        let live = BTreeSet::from(["a", "b"]);
        let to = |to: &str| Order::Move { to: to.to_owned() };
        let orders = BTreeMap::from([
            (Partition(0), to("b")),
            (Partition(1), to("b")),
            (Partition(2), Order::Pause),
            (Partition(3), to("nobody")),
        ]);
        let targets = targets(partitions(4), &live, &BTreeMap::new(), &orders);
        let wanted = [(Partition(0), "b"), (Partition(1), "b"), (Partition(3), "a")];
        assert_eq!(targets, BTreeMap::from(wanted));
    }

    #[test]
    fn nobody_has_any_where_nobody_takes_part() {
        let owners = BTreeMap::from([(Partition(0), "gone")]);
        assert!(targets(partitions(2), &BTreeSet::new(), &owners, &BTreeMap::new()).is_empty());
    }
}
