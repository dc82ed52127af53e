//! Makes a correct random history: a tiny chat server that is right by construction.
//!
//! Keeps membership and timelines in its own way, so that it cannot share a mistake with the checker.

use std::collections::{BTreeMap, BTreeSet};

use checker::{Answer, Chat, Client, Content, Hash, Line, Observation, SeenEntry, SendKey, User, Via};

const DIRECT: i32 = 1;
const CHANNEL: i32 = 3;
const ROLE_OWNER: i32 = 1;
const ROLE_ADMIN: i32 = 2;
const ROLE_MEMBER: i32 = 3;
const ROLE_READER: i32 = 4;

/// Splitmix64: small, and the same on every machine.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    pub(crate) fn one_in(&mut self, odds: usize) -> bool {
        self.below(odds) == 0
    }
}

struct Log {
    kind: i32,
    entries: Vec<SeenEntry>,
    /// Who gets the entry of each seq.
    audience: Vec<BTreeSet<User>>,
    roles: BTreeMap<User, i32>,
    ever: BTreeSet<User>,
    watermarks: BTreeMap<User, (u64, u64)>,
}

struct Device {
    client: Client,
    user: User,
    online: bool,
    known: BTreeMap<Chat, u64>,
    /// Chats in which no tick came since the partition was ready.
    late: BTreeSet<Chat>,
    /// The partitions' epochs that it knows.
    epochs: BTreeMap<u16, u64>,
    sent: BTreeMap<Chat, u64>,
}

struct World {
    dice: Dice,
    lines: Vec<Line>,
    logs: BTreeMap<Chat, Log>,
    devices: Vec<Device>,
    users: Vec<User>,
    clock: u64,
    /// Of both partitions.
    epoch: u64,
}

/// The history of a run with this seed and this many steps, in which nothing is wrong.
pub(crate) fn history(seed: u64, steps: usize) -> Vec<Line> {
    let mut world = World::new(seed);
    for _ in 0..steps {
        world.step();
    }
    world.end()
}

impl Log {
    fn allows(&self, role: i32, event: &Content) -> bool {
        let writers: &[i32] = if self.kind == CHANNEL { &[1, 2] } else { &[1, 2, 3] };
        match (event, role) {
            (Content::Message, _) => writers.contains(&role),
            _ if self.kind == DIRECT => false,
            (Content::MemberAdded { .. }, ROLE_OWNER) => true,
            (Content::MemberAdded { role: given, .. }, ROLE_ADMIN) => [ROLE_MEMBER, ROLE_READER].contains(given),
            (Content::MemberRemoved { user }, ROLE_OWNER) => self.roles[user] != ROLE_OWNER,
            (Content::MemberRemoved { user }, ROLE_ADMIN) => [ROLE_MEMBER, ROLE_READER].contains(&self.roles[user]),
            (Content::MemberLeft, ROLE_OWNER) => self.roles.values().filter(|role| **role == ROLE_OWNER).count() > 1,
            (Content::MemberLeft, _) => true,
            _ => false,
        }
    }
}

impl World {
    fn new(seed: u64) -> Self {
        let mut dice = Dice(seed);
        let users: Vec<_> = (0..3 + dice.below(4)).map(|number| User::from([number as u8 + 1; 16])).collect();
        let (lines, logs, devices) = (vec![], BTreeMap::new(), vec![]);
        let mut world = Self { dice, lines, logs, devices, users, clock: 1_000, epoch: 1 };
        for user in world.users.clone() {
            for device in 0..1 + world.dice.below(2) {
                let client = Client(world.devices.len() as u32 + 1);
                let (known, epochs, sent, late) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
                world.devices.push(Device { client, user, online: false, known, late, epochs, sent });
                world.saw(client, Observation::Started { user, device: format!("device-{device}") });
                world.connect(world.devices.len() - 1);
            }
        }
        for number in 0..1 + world.dice.below(3) {
            world.create(number as u8);
        }
        world
    }

    fn saw(&mut self, client: Client, saw: Observation) {
        self.lines.push(Line { index: self.lines.len() as u64, client, saw });
    }

    fn create(&mut self, number: u8) {
        let mut bytes = [number; 16];
        bytes[6] = 0x70;
        bytes[7] = number % 2;
        let chat = Chat::from(bytes);
        let creator = self.dice.below(self.devices.len());
        let Device { client, user: sender, .. } = self.devices[creator];
        let kind = DIRECT + self.dice.below(3) as i32;
        let mut members = vec![(sender, if kind == DIRECT { ROLE_MEMBER } else { ROLE_OWNER })];
        for user in self.users.clone() {
            if user == sender || kind == DIRECT && members.len() == 2 {
                continue;
            }
            if kind == DIRECT {
                members.push((user, ROLE_MEMBER));
            } else if !self.dice.one_in(3) {
                members.push((user, [ROLE_ADMIN, ROLE_MEMBER, ROLE_MEMBER, ROLE_READER][self.dice.below(4)]));
            }
        }
        let roles: BTreeMap<_, _> = members.iter().copied().collect();
        let ever = roles.keys().copied().collect();
        let log = Log { kind, entries: vec![], audience: vec![], roles, ever, watermarks: BTreeMap::new() };
        self.logs.insert(chat, log);
        let send = SendKey { chat, origin: 0, n: 0 };
        self.saw(client, Observation::Sent { send, content: None, at: self.clock });
        self.saw(client, Observation::Accepted { send });
        let answer = self.append(chat, sender, (0, 0), Content::ChatCreated { kind, members }, Hash::of(&bytes));
        self.saw(client, Observation::Outcome { send, answer });
    }

    fn step(&mut self) {
        let place = self.dice.below(self.devices.len());
        if self.dice.one_in(60) {
            self.epoch += 1;
        }
        match self.dice.below(10) {
            0 => self.disconnect(place),
            1 if !self.devices[place].online => self.connect(place),
            1 if self.dice.one_in(3) => self.restart(place),
            2 => self.watermark(place),
            _ if self.devices[place].online => self.command(place),
            _ => {}
        }
    }

    fn command(&mut self, place: usize) {
        let chats: Vec<_> = self.logs.keys().copied().collect();
        let chat = chats[self.dice.below(chats.len())];
        let Device { client, user, .. } = self.devices[place];
        let roles = &self.logs[&chat].roles;
        let role = roles.get(&user).copied();
        let other = self.users[self.dice.below(self.users.len())];
        let member = roles.contains_key(&other);
        let many = roles.len() > 2;
        let body = self.dice.next().to_be_bytes();
        let below = self.dice.below(4);
        let event = match self.dice.below(12) {
            0 if !member => Content::MemberAdded { user: other, role: ROLE_OWNER + below as i32 },
            1 if member && many && other != user => Content::MemberRemoved { user: other },
            2 if many => Content::MemberLeft,
            _ => Content::Message,
        };
        let allowed = role.is_some_and(|role| self.logs[&chat].allows(role, &event));
        let origin = 0xabc0 + u64::from(client.0);
        let n = self.devices[place].sent.get(&chat).copied().unwrap_or(0) + 1;
        self.devices[place].sent.insert(chat, n);
        let send = SendKey { chat, origin, n };
        self.saw(client, Observation::Sent { send, content: Some(Hash::of(&body)), at: self.clock });
        self.saw(client, Observation::Accepted { send });
        if !allowed {
            self.saw(client, Observation::Outcome { send, answer: Answer::Rejected { code: 17 } });
            return;
        }
        let answer = self.append(chat, user, (origin, n), event, Hash::of(&body));
        if self.dice.one_in(8) {
            // The answer is lost; the entry alone settles it.
            return;
        }
        for _ in 0..1 + usize::from(self.dice.one_in(6)) {
            self.saw(client, Observation::Outcome { send, answer });
            if self.dice.one_in(6) {
                self.saw(client, Observation::Sent { send, content: Some(Hash::of(&body)), at: self.clock });
                self.saw(client, Observation::Outcome { send, answer });
            }
        }
    }

    fn append(&mut self, chat: Chat, sender: User, (origin, n): (u64, u64), event: Content, content: Hash) -> Answer {
        self.clock += 1 + self.dice.below(5) as u64;
        let time = self.clock;
        let log = self.logs.get_mut(&chat).unwrap();
        let before: BTreeSet<User> = log.roles.keys().copied().collect();
        match &event {
            Content::MemberAdded { user, role } => {
                log.roles.insert(*user, *role);
            }
            Content::MemberRemoved { user } => {
                log.roles.remove(user);
            }
            Content::MemberLeft => {
                log.roles.remove(&sender);
            }
            Content::ImportEnded { members } => log.roles.extend(members.iter().copied()),
            Content::RoleSet { user, role } => {
                log.roles.insert(*user, *role);
            }
            Content::OwnershipTransferred { user } => {
                log.roles.insert(sender, ROLE_ADMIN);
                log.roles.insert(*user, ROLE_OWNER);
            }
            Content::ChatCreated { .. }
            | Content::ImportBegun { .. }
            | Content::ChatRenamed
            | Content::Edited { .. }
            | Content::Deleted { .. }
            | Content::Reacted { .. }
            | Content::PolicySet { .. }
            | Content::Pinned { .. }
            | Content::Message => {}
        }
        let after: BTreeSet<User> = log.roles.keys().copied().collect();
        log.ever.extend(&after);
        let seq = log.entries.len() as u64 + 1;
        let ordinal = log.entries.last().map_or(0, |last| last.ordinal) + u64::from(event == Content::Message);
        let hash = Hash::of(&[chat.to_string().as_bytes(), &seq.to_be_bytes(), &time.to_be_bytes()].concat());
        let entry = SeenEntry { chat, seq, ordinal, sender, origin, n, time, hash, content, changed: None, event };
        log.entries.push(entry.clone());
        log.audience.push(before.union(&after).copied().collect());
        for place in 0..self.devices.len() {
            if self.devices[place].online
                && self.logs[&chat].audience.last().unwrap().contains(&self.devices[place].user)
            {
                let (client, epoch) = (self.devices[place].client, self.epoch);
                for _ in 0..1 + usize::from(self.dice.one_in(10)) {
                    self.saw(client, Observation::Entry { via: Via::Push, epoch, entry: entry.clone() });
                }
                self.saw(client, Observation::Shown { chat, seq, replaces: false });
                self.devices[place].known.insert(chat, seq);
                self.devices[place].epochs.insert(chat.partition(), epoch);
            }
        }
        Answer::Stored { chat, seq, time }
    }

    fn watermark(&mut self, place: usize) {
        let (client, user) = (self.devices[place].client, self.devices[place].user);
        let chats: Vec<_> =
            self.logs.keys().copied().filter(|chat| self.logs[chat].roles.contains_key(&user)).collect();
        if chats.is_empty() || !self.devices[place].online {
            return;
        }
        let chat = chats[self.dice.below(chats.len())];
        let of = self.users[self.dice.below(self.users.len())];
        if of != user && self.devices[place].late.remove(&chat) && self.logs[&chat].watermarks.contains_key(&of) {
            // A new owner of the partition does not know of every tick.
            let (delivered, seen) = self.logs[&chat].watermarks[&of];
            let delivered = self.dice.below(delivered as usize + 1) as u64;
            self.saw(client, Observation::Watermark { chat, user: of, delivered, seen: seen.min(delivered) });
            return;
        }
        let log = self.logs.get_mut(&chat).unwrap();
        let mark = log.watermarks.entry(of).or_default();
        mark.0 += self.dice.below((log.entries.len() as u64 - mark.0 + 1) as usize) as u64;
        mark.1 += self.dice.below((mark.0 - mark.1 + 1) as usize) as u64;
        let (delivered, seen) = *mark;
        self.devices[place].late.remove(&chat);
        self.saw(client, Observation::Watermark { chat, user: of, delivered, seen });
    }

    fn disconnect(&mut self, place: usize) {
        if std::mem::replace(&mut self.devices[place].online, false) {
            self.saw(self.devices[place].client, Observation::Disconnected);
        }
    }

    /// Its program ends and goes on from what it kept, or from what it kept a while ago.
    fn restart(&mut self, place: usize) {
        self.disconnect(place);
        let client = self.devices[place].client;
        for (chat, known) in self.devices[place].known.clone() {
            let through = if self.dice.one_in(2) { known } else { self.dice.below(known as usize + 1) as u64 };
            let epoch = self.devices[place].epochs.get(&chat.partition()).copied().unwrap_or_default();
            self.devices[place].known.insert(chat, through);
            self.saw(client, Observation::Resumed { chat, through, epoch });
        }
        self.connect(place);
    }

    fn connect(&mut self, place: usize) {
        let (client, user) = (self.devices[place].client, self.devices[place].user);
        self.devices[place].online = true;
        self.saw(client, Observation::Connected);
        for partition in 0..2 {
            let epoch = self.epoch;
            self.saw(client, Observation::Ready { partition, epoch });
            let before = self.devices[place].epochs.insert(partition, epoch);
            let changed = before.is_some_and(|before| before < epoch);
            let chats: Vec<_> = self.logs.keys().copied().filter(|chat| chat.partition() == partition).collect();
            self.devices[place].late.extend(&chats);
            for chat in chats {
                let Some(head) = self.logs[&chat].audience.iter().rposition(|who| who.contains(&user)) else {
                    continue;
                };
                let head = head as u64 + 1;
                self.saw(client, Observation::HeadTold { chat, head });
                let known = self.devices[place].known.get(&chat).copied().unwrap_or(0);
                if changed && self.dice.one_in(2) {
                    // What it showed may be other now: it goes back to where both epochs agree.
                    let common = self.dice.below(known as usize + 1) as u64;
                    self.devices[place].known.insert(chat, common);
                }
                self.catch_up(place, chat, head, if changed { known } else { 0 });
            }
            self.saw(client, Observation::CaughtUp { partition });
        }
    }

    fn catch_up(&mut self, place: usize, chat: Chat, head: u64, replaced_to: u64) {
        let (client, user) = (self.devices[place].client, self.devices[place].user);
        let mut after = self.devices[place].known.get(&chat).copied().unwrap_or(0);
        while after < head {
            let through = (after + 1 + self.dice.below(9) as u64).min(head);
            let log = &self.logs[&chat];
            let shown: Vec<_> = (after..through)
                .map(|place| place as usize)
                .filter(|place| log.audience[*place].contains(&user))
                .map(|place| log.entries[place].clone())
                .collect();
            let seqs: Vec<_> = shown.iter().map(|entry| entry.seq).collect();
            let epoch = self.epoch;
            for entry in shown {
                self.saw(client, Observation::Entry { via: Via::History, epoch, entry });
            }
            self.saw(client, Observation::HistoryAnswer { chat, after, through, seqs: seqs.clone() });
            for seq in seqs {
                self.saw(client, Observation::Shown { chat, seq, replaces: seq <= replaced_to });
            }
            after = through;
        }
        self.devices[place].known.insert(chat, head);
    }

    fn end(mut self) -> Vec<Line> {
        for place in 0..self.devices.len() {
            if !self.devices[place].online {
                self.connect(place);
            }
        }
        for (chat, log) in std::mem::take(&mut self.logs) {
            for reader in log.ever {
                let shown = log.entries.iter().zip(&log.audience).filter(|(_, who)| who.contains(&reader));
                let entries = shown.map(|(entry, _)| entry.clone()).collect();
                let through = log.entries.len() as u64;
                self.saw(Client(0), Observation::FinalHistory { chat, reader, through, entries });
            }
        }
        self.lines
    }
}
