//! Workers over a model of the bucket: what is granted, taken, recalled, whatever the order and whoever stands still.

use std::collections::{BTreeMap, BTreeSet};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::*;

const PARTITIONS: u16 = 8;

/// The bucket: all that was ever put, in order. Each worker reads it at its own pace.
#[derive(Default)]
struct Bucket {
    entries: Vec<Entry>,
    holders: BTreeMap<Partition, u64>,
}

impl Bucket {
    fn put(&mut self, entry: Entry) -> u64 {
        self.entries.push(entry);
        self.entries.len() as u64
    }

    /// Only where the partition's last revision is the one that is expected.
    fn hold(&mut self, partition: Partition, holder: Option<Holder>, expected: u64) -> Option<u64> {
        if self.holders.get(&partition).copied().unwrap_or_default() != expected {
            return None;
        }
        let revision = self.put(Entry::Holder { partition, holder });
        self.holders.insert(partition, revision);
        Some(revision)
    }
}

struct Worker {
    machine: Machine,
    read: usize,
    stands_still: bool,
    /// Granted, and not taken yet.
    open: BTreeSet<Partition>,
    held: BTreeSet<Partition>,
    /// Recalled, and not given back yet.
    recalled: BTreeSet<Partition>,
    superseded: bool,
}

impl Worker {
    fn new(name: &str, incarnation: u64, bucket: &mut Bucket) -> Self {
        let me = Holder { worker: name.to_owned(), incarnation };
        let machine = Machine::new(me, false, PARTITIONS);
        let mut worker = Self {
            machine,
            read: 0,
            stands_still: false,
            open: BTreeSet::new(),
            held: BTreeSet::new(),
            recalled: BTreeSet::new(),
            superseded: false,
        };
        worker.beat(bucket);
        worker
    }

    fn beat(&mut self, bucket: &mut Bucket) {
        bucket.put(Entry::Worker { name: self.machine.me.worker.clone(), beat: Some(self.machine.beat()) });
    }

    fn handle(&mut self, input: Input) {
        let mut actions = Vec::new();
        self.machine.handle(input, &mut actions);
        for action in actions {
            match action {
                Action::Grant(partition) => {
                    assert!(!self.held.contains(&partition) && !self.recalled.contains(&partition));
                    assert!(self.open.insert(partition), "granted twice");
                }
                Action::Recall(partition) => {
                    assert!(self.open.remove(&partition) || self.held.remove(&partition), "recalled what it has not");
                    self.recalled.insert(partition);
                }
                Action::Superseded => self.superseded = true,
                Action::Forget { .. } => {}
            }
        }
    }

    fn read_one(&mut self, bucket: &Bucket) -> bool {
        let Some(entry) = bucket.entries.get(self.read) else { return false };
        self.read += 1;
        self.handle(Input::Entry { revision: self.read as u64, entry: entry.clone() });
        true
    }

    fn take_one(&mut self, bucket: &mut Bucket) -> bool {
        let Some(partition) = self.open.first().copied() else { return false };
        let expected = self.machine.revision(partition);
        self.open.remove(&partition);
        match bucket.hold(partition, Some(self.machine.me.clone()), expected) {
            Some(revision) => {
                self.held.insert(partition);
                self.handle(Input::Took { partition, revision });
            }
            None => self.handle(Input::Ended { partition }),
        }
        true
    }

    fn give_one_back(&mut self, bucket: &mut Bucket) -> bool {
        let Some(partition) = self.recalled.pop_first() else { return false };
        if let Some(revision) = self.machine.held(partition)
            && let Some(revision) = bucket.hold(partition, None, revision)
        {
            self.handle(Input::Released { partition, revision });
        }
        self.handle(Input::Ended { partition });
        true
    }

    fn lose_one(&mut self) {
        if let Some(partition) = self.held.pop_first() {
            self.handle(Input::Ended { partition });
        }
    }
}

#[derive(Default)]
struct World {
    bucket: Bucket,
    workers: BTreeMap<String, Worker>,
}

impl World {
    fn with(names: &[&str]) -> Self {
        let mut world = Self::default();
        for name in names {
            world.join(name, 1);
        }
        world
    }

    fn join(&mut self, name: &str, incarnation: u64) {
        self.workers.insert(name.to_owned(), Worker::new(name, incarnation, &mut self.bucket));
    }

    /// Lets everybody who does not stand still do all there is to do.
    fn settle(&mut self) {
        let mut busy = true;
        while busy {
            busy = false;
            for worker in self.workers.values_mut().filter(|worker| !worker.stands_still) {
                busy |= worker.read_one(&self.bucket)
                    | worker.take_one(&mut self.bucket)
                    | worker.give_one_back(&mut self.bucket);
            }
        }
    }

    /// Some rounds in which everybody who does not stand still says that it lives.
    fn rounds(&mut self, count: u64) {
        for _ in 0..count {
            for worker in self.workers.values_mut().filter(|worker| !worker.stands_still) {
                worker.beat(&mut self.bucket);
            }
            self.settle();
        }
    }

    fn held(&self) -> BTreeMap<String, usize> {
        self.workers.iter().map(|(name, worker)| (name.clone(), worker.held.len())).collect()
    }

    /// Each partition has one owner, of those that do not stand still, and each of them its share.
    fn check_settled(&self, context: &str) {
        let there = || self.workers.values().filter(|worker| !worker.stands_still);
        let all: Vec<Partition> = there().flat_map(|worker| worker.held.iter().copied()).collect();
        let each: BTreeSet<Partition> = all.iter().copied().collect();
        assert_eq!((all.len(), each.len()), (usize::from(PARTITIONS), usize::from(PARTITIONS)), "{context}: {all:?}");
        let share = usize::from(PARTITIONS) / there().count();
        assert!(there().all(|worker| (share..=share + 1).contains(&worker.held.len())), "{context}: {:?}", self.held());
    }
}

#[test]
fn the_first_has_all_and_gives_the_others_their_shares() {
    let mut world = World::with(&["a"]);
    world.settle();
    assert_eq!(world.workers["a"].held.len(), usize::from(PARTITIONS));
    world.join("b", 1);
    world.settle();
    world.check_settled("two");
    let (a, b) = (world.workers["a"].held.clone(), world.workers["b"].held.clone());
    world.rounds(20);
    assert_eq!((&world.workers["a"].held, &world.workers["b"].held), (&a, &b), "nothing moves without a reason");
}

#[test]
fn who_leaves_hands_over_without_a_wait() {
    let mut world = World::with(&["a", "b"]);
    world.settle();
    world.workers.get_mut("a").unwrap().handle(Input::Leave);
    world.workers.get_mut("a").unwrap().beat(&mut world.bucket);
    world.settle();
    assert_eq!(world.workers["a"].held.len(), 0);
    assert_eq!(world.workers["b"].held.len(), usize::from(PARTITIONS));
}

#[test]
fn who_is_killed_is_missed_after_five_of_our_own_signs_of_life() {
    let mut world = World::with(&["a", "b"]);
    world.settle();
    world.workers.remove("a");
    // One came behind the last that the other said.
    world.rounds(GONE_AFTER_BEATS - 2);
    assert_eq!(world.workers["b"].held.len(), usize::from(PARTITIONS) / 2, "not yet");
    world.rounds(1);
    assert_eq!(world.workers["b"].held.len(), usize::from(PARTITIONS));
}

#[test]
fn who_stood_still_takes_nobody_for_dead_and_gives_up_what_was_taken() {
    let mut world = World::with(&["a", "b"]);
    world.settle();
    world.workers.get_mut("a").unwrap().stands_still = true;
    world.rounds(2 * GONE_AFTER_BEATS);
    assert_eq!(world.workers["b"].held.len(), usize::from(PARTITIONS));
    let a = world.workers.get_mut("a").unwrap();
    a.stands_still = false;
    // As it wakes it believes that it still has its share, and learns of each loss from the bucket alone.
    assert_eq!(a.held.len(), usize::from(PARTITIONS) / 2);
    while a.read_one(&world.bucket) {}
    assert!(a.held.is_empty());
    assert!(a.open.is_empty(), "the other lives");
    world.rounds(2);
    world.check_settled("both again");
}

#[test]
fn a_later_run_takes_what_its_earlier_one_had_at_once_and_ends_it() {
    let mut world = World::with(&["a", "b"]);
    world.settle();
    let mut earlier = world.workers.remove("a").unwrap();
    world.join("a", 2);
    world.settle();
    world.check_settled("the later run");
    while earlier.read_one(&world.bucket) {}
    assert!(earlier.superseded && !world.workers["a"].superseded);
    earlier.beat(&mut world.bucket);
    world.rounds(2);
    world.check_settled("a sign of life of the earlier run");
    assert!(!world.workers["a"].superseded);
}

#[test]
fn who_does_not_let_go_has_it_taken_away() {
    let mut world = World::with(&["a"]);
    world.settle();
    world.join("b", 1);
    // It says that it lives, and does nothing else.
    for _ in 0..TAKEN_AFTER_BEATS + 2 {
        let (a, b) = world.workers.iter_mut().fold((None, None), |(a, b), (name, worker)| match name.as_str() {
            "a" => (Some(worker), b),
            _ => (a, Some(worker)),
        });
        let (a, b) = (a.unwrap(), b.unwrap());
        while a.read_one(&world.bucket) {}
        a.beat(&mut world.bucket);
        b.beat(&mut world.bucket);
        while b.read_one(&world.bucket) || b.take_one(&mut world.bucket) {}
    }
    assert_eq!(world.workers["b"].held.len(), usize::from(PARTITIONS) / 2);
}

#[test]
fn orders_are_followed_until_they_are_taken_back() {
    let mut world = World::with(&["a", "b"]);
    world.settle();
    let (paused, moved) = (Partition(0), *world.workers["a"].held.last().unwrap());
    world.bucket.put(Entry::Order { partition: paused, order: Some(Order::Pause) });
    world.bucket.put(Entry::Order { partition: moved, order: Some(Order::Move { to: "b".to_owned() }) });
    world.settle();
    assert!(world.workers.values().all(|worker| !worker.held.contains(&paused)));
    assert!(world.workers["b"].held.contains(&moved));
    for partition in [paused, moved] {
        world.bucket.put(Entry::Order { partition, order: None });
    }
    world.settle();
    world.check_settled("taken back");
}

#[test]
fn where_there_is_only_one_all_is_taken_at_once() {
    let mut bucket = Bucket::default();
    let gone = Holder { worker: "gone".to_owned(), incarnation: 9 };
    bucket.put(Entry::Worker { name: "gone".to_owned(), beat: Some(Beat { incarnation: 9, leaving: false }) });
    bucket.hold(Partition(3), Some(gone), 0);
    let mut alone = Worker::new("alone", 1, &mut bucket);
    alone.machine.alone = true;
    while alone.read_one(&bucket) || alone.take_one(&mut bucket) {}
    assert_eq!(alone.held.len(), usize::from(PARTITIONS));
}

#[test]
fn whatever_happens_it_settles_once_it_stops() {
    for seed in 0..200 {
        let mut rng = StdRng::seed_from_u64(seed);
        let names = ["a", "b", "c", "d"];
        let (mut world, mut incarnation) = (World::with(&names[..2]), 1);
        for _ in 0..400 {
            let name = names[rng.random_range(0..names.len())];
            match rng.random_range(0..100) {
                0 => drop(world.workers.remove(name)),
                1 | 2 => {
                    incarnation += 1;
                    world.join(name, incarnation);
                }
                3 => {
                    if let Some(worker) = world.workers.get_mut(name) {
                        worker.stands_still = !worker.stands_still;
                    }
                }
                4 => {
                    let partition = Partition(rng.random_range(0..PARTITIONS));
                    let to = names[rng.random_range(0..names.len())].to_owned();
                    let order = [None, Some(Order::Pause), Some(Order::Move { to })][rng.random_range(0..3)].clone();
                    world.bucket.put(Entry::Order { partition, order });
                }
                _ => {
                    let Some(worker) = world.workers.get_mut(name).filter(|worker| !worker.stands_still) else {
                        continue;
                    };
                    match rng.random_range(0..20) {
                        0..=2 => worker.beat(&mut world.bucket),
                        3 | 4 => drop(worker.take_one(&mut world.bucket)),
                        5 | 6 => drop(worker.give_one_back(&mut world.bucket)),
                        7 => worker.lose_one(),
                        _ => drop(worker.read_one(&world.bucket)),
                    }
                }
            }
        }
        for partition in (0..PARTITIONS).map(Partition) {
            world.bucket.put(Entry::Order { partition, order: None });
        }
        world.join("a", incarnation + 1);
        world.rounds(2 * TAKEN_AFTER_BEATS);
        world.check_settled(&format!("seed {seed}"));
    }
}

#[test]
fn what_was_taken_meanwhile_is_not_ours_although_it_is_to_be() {
    let mut world = World::with(&["a", "b"]);
    let moved = Partition(0);
    world.bucket.put(Entry::Order { partition: moved, order: Some(Order::Move { to: "a".to_owned() }) });
    world.settle();
    assert!(world.workers["a"].held.contains(&moved));
    world.workers.get_mut("a").unwrap().stands_still = true;
    world.rounds(2 * GONE_AFTER_BEATS);
    assert!(world.workers["b"].held.contains(&moved));
    let a = world.workers.get_mut("a").unwrap();
    a.stands_still = false;
    while a.read_one(&world.bucket) {}
    assert!(!a.held.contains(&moved), "its tenure is over, whoever is to have it next");
    world.rounds(2);
    assert!(world.workers["a"].held.contains(&moved));
    world.check_settled("as ordered");
}

#[test]
fn what_is_seen_again_changes_nothing() {
    let mut world = World::with(&["a"]);
    world.settle();
    world.join("b", 1);
    world.settle();
    let a = world.workers.get_mut("a").unwrap();
    let before = (a.held.clone(), a.machine.beats);
    a.read = 0;
    while a.read_one(&world.bucket) {
        assert!(a.open.is_empty() && a.recalled.is_empty(), "at revision {}", a.read);
    }
    assert_eq!((a.held.clone(), a.machine.beats), before);
}
