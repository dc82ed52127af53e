//! The tracker against owners that follow each other over links that lose: whoever stays learns every event.
//!
//! Seeded and without a clock. What a session knows is what was pushed to it, and all up to the `as_of` of its last
//! `ready`, since its heads are as new as that.

use std::collections::VecDeque;

use proto::relay::AnnounceRequest;

use super::*;

const P0: Partition = Partition(0);
const STEPS: u32 = 120;

/// xorshift64*, so that a seed is a run for ever.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound
    }
}

enum Said {
    Batch { number: u64, event: Seq, sessions: Vec<SessionId> },
    Ack(AnnouncementAck),
    Through(u64),
}

/// An owner as delivery is one: mirrors what it hears, expands what it reads.
struct Owner {
    id: u64,
    expanded: Seq,
    number: u64,
    version: u64,
    whole: bool,
    sessions: BTreeSet<SessionId>,
    hears: VecDeque<Announcement>,
    says: VecDeque<Said>,
}

impl Owner {
    fn new(id: u64, expanded: Seq) -> Self {
        Self {
            id,
            expanded,
            number: 0,
            version: 0,
            whole: false,
            sessions: BTreeSet::new(),
            hears: VecDeque::new(),
            says: VecDeque::new(),
        }
    }

    fn expand(&mut self, events: Seq) {
        if self.expanded == events {
            return;
        }
        self.expanded += 1;
        if !self.sessions.is_empty() {
            self.number += 1;
            let sessions = self.sessions.iter().copied().collect();
            self.says.push_back(Said::Batch { number: self.number, event: self.expanded, sessions });
        }
    }

    /// Hears the next announcement; whether it asks for everything.
    fn hear(&mut self) -> Option<AnnounceRequest> {
        let it = self.hears.pop_front()?;
        let up = it.up.iter().map(|up| SessionId(up.session));
        if it.snapshot {
            if self.whole && it.version < self.version {
                return None;
            }
            self.sessions = up.collect();
            (self.version, self.whole) = (it.version, true);
        } else if self.whole && it.version == self.version + 1 {
            self.sessions.retain(|session| !it.down.contains(&session.0));
            self.sessions.extend(up);
            self.version = it.version;
        } else if !(self.whole && it.version <= self.version) {
            self.whole = false;
            return Some(AnnounceRequest::default());
        }
        let ack = AnnouncementAck {
            version: self.version,
            owner: self.id,
            as_of: self.expanded,
            last_batch: self.number,
            ..AnnouncementAck::default()
        };
        self.says.push_back(Said::Ack(ack));
        None
    }
}

#[derive(Default)]
struct Knows {
    ready: bool,
    as_of: Seq,
    pushed: BTreeSet<Seq>,
}

struct World {
    dice: Dice,
    now: Micros,
    tracker: Tracker,
    owners: Vec<Owner>,
    events: Seq,
    sessions: BTreeMap<SessionId, Knows>,
    next_session: u64,
}

impl World {
    fn new(seed: u64, rules: Rules) -> Self {
        Self {
            dice: Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1),
            now: 0,
            tracker: Tracker::new(GatewayId(1), [P0], rules),
            owners: vec![Owner::new(1, 0)],
            events: 0,
            sessions: BTreeMap::new(),
            next_session: 1,
        }
    }

    fn tell(&mut self, input: TrackerInput) {
        let mut actions = Vec::new();
        self.tracker.handle(self.now, input, &mut actions);
        self.run(actions);
    }

    fn run(&mut self, actions: Vec<TrackerAction>) {
        for action in actions {
            match action {
                TrackerAction::Announce(it) => self.owners.iter_mut().for_each(|o| o.hears.push_back(it.clone())),
                TrackerAction::Ready { as_of, sessions, .. } => {
                    for (session, _) in sessions {
                        let Some(knows) = self.sessions.get_mut(&session) else { continue };
                        knows.ready = true;
                        knows.as_of = knows.as_of.max(as_of);
                    }
                }
                TrackerAction::Resync(_) => {}
            }
        }
    }

    fn owner(&mut self) -> usize {
        // Mostly the newest.
        let (last, any) = (self.owners.len() - 1, self.dice.below(self.owners.len() as u64) as usize);
        if self.dice.below(4) == 0 { any } else { last }
    }

    fn hear(&mut self, at: usize) {
        if self.owners[at].hear().is_some() {
            self.tell(TrackerInput::Asked);
        }
    }

    fn receive(&mut self, at: usize) {
        let owner = TenureId(self.owners[at].id);
        match self.owners[at].says.pop_front() {
            Some(Said::Batch { number, event, sessions }) => {
                let mut actions = Vec::new();
                let taken = self.tracker.batch(self.now, P0, owner, number, &mut actions);
                for session in sessions.iter().filter(|_| taken) {
                    if let Some(knows) = self.sessions.get_mut(session) {
                        knows.pushed.insert(event);
                    }
                }
                self.run(actions);
            }
            Some(Said::Ack(ack)) => self.tell(TrackerInput::Acknowledged(ack)),
            Some(Said::Through(last_batch)) => self.tell(TrackerInput::Through { partition: P0, owner, last_batch }),
            None => {}
        }
    }

    fn through(&mut self, at: usize) {
        let owner = &mut self.owners[at];
        owner.says.push_back(Said::Through(owner.number));
    }

    fn step(&mut self) {
        let at = self.owner();
        match self.dice.below(34) {
            0..=2 if self.sessions.len() < 5 => {
                let session = SessionId(self.next_session);
                self.next_session += 1;
                self.sessions.insert(session, Knows::default());
                self.tell(TrackerInput::Up(session, UserId::new([1; 16])));
                self.tell(TrackerInput::Go);
            }
            3 => {
                let gone = self.dice.below(self.next_session) + 1;
                if self.sessions.remove(&SessionId(gone)).is_some() {
                    self.tell(TrackerInput::Down(SessionId(gone)));
                    self.tell(TrackerInput::Go);
                }
            }
            4..=6 => self.events += 1,
            7..=12 => self.owners[at].expand(self.events),
            13..=17 => self.hear(at),
            18..=26 => self.receive(at),
            27 => drop(self.owners[at].hears.pop_front()),
            28 => drop(self.owners[at].says.pop_front()),
            29 => self.through(at),
            30 => {
                self.now += 600_000;
                self.tell(TrackerInput::Tick);
            }
            31 if self.owners.len() < 4 => {
                // From its checkpoint, a little behind; it knows of nobody.
                let from = self.owners[self.owners.len() - 1].expanded;
                let from = from.saturating_sub(self.dice.below(3));
                self.owners.push(Owner::new(self.owners.len() as u64 + 1, from));
                self.tell(TrackerInput::Asked);
            }
            32 => {
                self.owners[at].says.clear();
                self.tell(TrackerInput::Lagged);
            }
            _ => {}
        }
    }

    /// Only the newest owner speaks from here on, and nothing more is lost.
    fn settle(&mut self) {
        let last = self.owners.len() - 1;
        for _ in 0..20 {
            while self.owners[last].expanded < self.events {
                self.owners[last].expand(self.events);
            }
            self.through(last);
            while !self.owners[last].hears.is_empty() || !self.owners[last].says.is_empty() {
                self.hear(last);
                self.receive(last);
            }
            self.now += 2_000_000;
            self.tell(TrackerInput::Tick);
        }
    }

    fn holes(&self) -> Vec<String> {
        let missing = |knows: &Knows| (knows.as_of + 1..=self.events).find(|event| !knows.pushed.contains(event));
        self.sessions
            .iter()
            .filter_map(|(session, knows)| match missing(knows) {
                _ if !knows.ready => Some(format!("{session} is not ready")),
                Some(event) => Some(format!("{session} misses {event} of {}", self.events)),
                None => None,
            })
            .collect()
    }
}

fn run(seed: u64, rules: Rules) -> Vec<String> {
    let mut world = World::new(seed, rules);
    for _ in 0..STEPS {
        world.step();
    }
    world.settle();
    world.holes()
}

#[test]
fn whoever_stays_learns_every_event_whatever_was_lost_and_whoever_owned() {
    for seed in 0..20_000 {
        let holes = run(seed, Rules::ALL);
        assert!(holes.is_empty(), "seed {seed}: {holes:?}");
    }
}

#[test]
fn each_rule_left_out_leaves_a_hole() {
    for name in ["m15", "m16", "m17", "m19"] {
        let rules = Rules::without(name).unwrap();
        let seed = (0..20_000).find(|seed| !run(*seed, rules).is_empty());
        assert!(seed.is_some(), "{name} is never missed");
    }
}
