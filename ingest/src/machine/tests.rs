//! The owner over a model of log and store: whatever is lost, repeated or taken over, one log comes out.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use domain::{
    Action as Ask, Chat, ChatId, ChatKind, Command, Epoch, Event, Import, LoggedEntry, Member, Origin, Partition,
    PartitionPosition, Role, Rules, Step, UserId, WriterId,
};
use proptest::prelude::*;
use prost::Message as _;

use super::*;

mod appended;
mod changes;

const EPOCH: Epoch = Epoch(1);

fn user(n: u8) -> UserId {
    UserId::new([n; 16])
}

fn chat(n: u64) -> ChatId {
    ChatId::draw(Partition(0), 1, n << 8)
}

fn create(id: ChatId) -> Command {
    let members = vec![Member { user: user(2), role: Role::Member }];
    let action = Ask::CreateChat { kind: ChatKind::Group, members };
    Command { chat: id, sender: user(1), origin: Origin(0), n: 0, after: 0, basis: 0, action }
}

fn send(id: ChatId, n: u64) -> Command {
    let action = Ask::SendMessage(domain::Message::plain(format!("message {n}")));
    Command { chat: id, sender: user(1), origin: Origin(9), n, after: n - 1, basis: 1, action }
}

fn record(sequence: Seq, commands: &[Command]) -> CommandRecord {
    record_of(sequence, commands.iter().cloned().map(Asked::Command))
}

fn record_of(sequence: Seq, asked: impl Iterator<Item = Asked>) -> CommandRecord {
    let route = Some(Route { gateway: GatewayId(1), session: 1, request: sequence });
    let items = asked.map(|asked| Item { route, asked: Ok(asked) }).collect();
    CommandRecord {
        sequence,
        time_ns: sequence as i64 * 1_000_000,
        message_id: format!("m{sequence}"),
        items,
        bytes: 100,
    }
}

/// Log and store as they stand, whoever writes.
#[derive(Default)]
struct World {
    commands: Vec<CommandRecord>,
    events: Vec<Bytes>,
    position: Option<PartitionPosition>,
    rows: BTreeMap<ChatId, BTreeMap<Seq, Bytes>>,
    outcomes: Vec<proto::v1::Outcome>,
    stays: Vec<Stay>,
}

fn tail_record(sequence: Seq, payload: &Bytes) -> TailRecord {
    let batch = proto::log::EventBatch::decode(payload.clone()).unwrap();
    let commands = batch.commands_through.unwrap();
    TailRecord {
        position: domain::EventPosition { sequence, writer: WriterId(batch.writer), batch: batch.batch },
        epoch: Epoch(batch.epoch),
        commands: CommandPosition {
            sequence: commands.sequence,
            count: commands.count,
            time_ns: commands.time_ns,
            message_id: commands.message_id,
        },
        entries: batch.entries.into_iter().map(|bytes| LoggedEntry::decode(bytes).unwrap()).collect(),
    }
}

impl World {
    fn command(&self, sequence: Seq) -> Option<(i64, String)> {
        let at = usize::try_from(sequence).unwrap().checked_sub(1)?;
        self.commands.get(at).map(|record| (record.time_ns, record.message_id.clone()))
    }

    fn facts(&self) -> Facts {
        let appended = self.position.as_ref().map_or(0, |position| position.events.sequence);
        let tail: Vec<_> = (appended + 1..=self.events.len() as u64)
            .map(|at| tail_record(at, &self.events[at as usize - 1]))
            .collect();
        let at_stored = appended.checked_sub(1).map(|at| {
            let position = tail_record(appended, &self.events[at as usize]).position;
            (position.writer, position.batch)
        });
        let folded = self.position.as_ref().map_or(0, |position| position.commands.sequence);
        let named = tail.last().map_or(0, |record| record.commands.sequence);
        Facts {
            epoch: EPOCH,
            stored: self.position.clone(),
            commands: CommandFacts {
                first: 1,
                last: self.commands.len() as u64,
                at_stored: self.command(folded),
                at_tail: self.command(named),
            },
            events: EventFacts { first: 1, last: self.events.len() as u64, read: 0, at_stored, tail },
        }
    }

    /// What a record says is appended is in the store as it is published.
    fn check_appended(&self, payload: &Bytes) {
        let said = proto::log::EventBatch::decode(payload.clone()).unwrap().appended_through;
        let appended = self.position.as_ref().map_or(0, |position| position.events.sequence);
        assert!(said <= appended, "a record says that all through {said} is appended, and it is through {appended}");
    }

    fn load(&self, id: ChatId) -> Option<Box<Chat>> {
        let mut rows = self.rows.get(&id)?.values().map(|bytes| LoggedEntry::decode(bytes.clone()).unwrap().entry);
        let mut chat = Chat::create(&rows.next()?)?;
        rows.for_each(|entry| chat.apply(&entry));
        Some(Box::new(chat))
    }

    fn target(&self, id: ChatId, seq: Seq) -> Target {
        let row = self.rows.get(&id).and_then(|rows| rows.get(&seq));
        row.map_or(Target::Missing, |bytes| Target::of(&LoggedEntry::decode(bytes.clone()).unwrap().entry))
    }

    fn append(&mut self, position: PartitionPosition, chats: Vec<ChatRows>) {
        for rows in chats {
            self.stays.extend(rows.stays);
            for row in rows.rows {
                let rows = self.rows.entry(rows.chat).or_default();
                let stored = rows.entry(row.entry.seq).or_insert_with(|| row.bytes.clone());
                let stored = LoggedEntry::decode(stored.clone()).unwrap();
                assert!(stored.entry.is_version_of(&row.entry), "a row was overwritten with another");
                for bytes in rows.values_mut().filter(|_| row.entry.changes().is_some()) {
                    let entry = LoggedEntry::decode(bytes.clone()).unwrap().entry;
                    *bytes = entry.changed_by(&row.entry).map_or_else(|| bytes.clone(), |changed| changed.encode());
                }
            }
        }
        if self.position.as_ref().is_none_or(|old| old.events.sequence <= position.events.sequence) {
            self.position = Some(position);
        }
    }
}

/// One owner with what it asked for and has not got yet.
struct Running {
    owner: Owner,
    asked: Vec<Action>,
    /// Tickets that it said are taken.
    taken: Vec<u64>,
    read: usize,
    dead: bool,
}

impl Running {
    fn take_over(world: &World, writer: u64, rules: Rules) -> Self {
        let plan = plan(world.facts(), &rules).unwrap();
        let read = plan.read_from as usize - 1;
        let settings = Settings { chats_bytes_max: 2_000, batch_max: 3, snapshot_entries: 2, ..Settings::default() };
        let mut running = Self {
            owner: Owner::new(plan, WriterId(writer), settings, rules),
            asked: vec![],
            taken: vec![],
            read,
            dead: false,
        };
        running.input(Input::Tick);
        running
    }

    fn input(&mut self, input: Input) {
        self.owner.handle(input, &mut self.asked);
    }

    /// Does one thing that it asked for; `chance` says what goes wrong.
    fn step(&mut self, world: &mut World, chance: u8) {
        if self.asked.is_empty() || chance.is_multiple_of(7) {
            if let Some(record) = world.commands.get(self.read) {
                self.read += 1;
                self.input(Input::Commands(vec![record.clone()]));
            } else {
                self.input(Input::Tick);
            }
            return;
        }
        match self.asked.remove(0) {
            Action::Load(id) if chance % 5 == 1 => self.input(Input::LoadFailed(id)),
            Action::Load(id) => self.input(Input::Loaded(id, world.load(id))),
            Action::LoadTarget(id, seq) if chance % 5 == 1 => self.input(Input::TargetFailed(id, seq)),
            Action::LoadTarget(id, seq) => self.input(Input::TargetLoaded(id, seq, world.target(id, seq))),
            Action::Publish { payload, expected } => {
                let lands = expected == world.events.len() as u64;
                if lands && chance % 3 != 1 {
                    world.check_appended(&payload);
                    world.events.push(payload);
                    let answered = chance.is_multiple_of(3);
                    let sequence = world.events.len() as u64;
                    self.input(if answered { Input::Published(sequence) } else { Input::PublishInDoubt });
                } else if lands {
                    self.input(if chance.is_multiple_of(2) { Input::PublishFull } else { Input::PublishInDoubt });
                } else {
                    let last = world.events.len() as u64;
                    let tail = world.events.last().map(|bytes| tail_record(last, bytes).position);
                    self.input(Input::PublishRefused(tail.map(|at| (at.writer, at.batch, last))));
                }
            }
            Action::Append { position, chats } => {
                if chance % 5 == 2 {
                    self.input(Input::AppendFailed);
                } else {
                    world.append(position, chats);
                    self.input(Input::Appended);
                }
            }
            Action::Answer(_, answers) => {
                world.outcomes.extend(answers.into_iter().filter_map(|answer| answer.outcome))
            }
            Action::Taken(tickets) => self.taken.extend(tickets),
            Action::Trim { .. } => {}
            Action::StepDown => self.dead = true,
            Action::Halt(halt) => panic!("halted: {halt}"),
        }
    }
}

/// A gateway with one record under way, which it hands over where it can.
struct Handing {
    records: VecDeque<Vec<Command>>,
    under_way: Option<(u64, Vec<Command>)>,
    tickets: u64,
    /// Its last record in COMMANDS-p.
    stored: u64,
    taken: usize,
}

impl Handing {
    fn new(records: &[Vec<Command>]) -> Self {
        Self { records: records.iter().cloned().collect(), under_way: None, tickets: 0, stored: 0, taken: 0 }
    }

    /// As the shells of gateway and ingest do it; `gave_up`: the gateway waits no longer.
    ///
    /// `patient`: the owner has time to read what went into the stream.
    fn step(&mut self, world: &mut World, owner: &mut Running, gave_up: bool, patient: bool) {
        if let Some((ticket, commands)) = self.under_way.take() {
            if owner.taken.contains(&ticket) {
                self.taken += 1;
            } else if owner.dead || gave_up {
                self.publish(world, &commands);
            } else {
                self.under_way = Some((ticket, commands));
            }
        }
        if self.under_way.is_some() || (patient && self.stored > owner.read as u64) {
            return;
        }
        let Some(commands) = self.records.pop_front() else { return };
        self.tickets += 1;
        let CommandRecord { items, bytes, time_ns, .. } = record(100 + self.tickets, &commands);
        let handed = HandedRecord { ticket: self.tickets, stamp: time_ns as u64 / 1_000, items, bytes };
        if self.stored <= owner.read as u64 && owner.owner.may_take(&handed) {
            self.under_way = Some((self.tickets, commands));
            owner.input(Input::Handed(handed));
        } else {
            self.publish(world, &commands);
        }
    }

    fn publish(&mut self, world: &mut World, commands: &[Command]) {
        self.stored = world.commands.len() as u64 + 1;
        world.commands.push(record(self.stored, commands));
    }
}

fn run(commands: &[Vec<Command>], chances: &[u8], rules: Rules) -> World {
    let mut world = World::default();
    for (at, commands) in commands.iter().enumerate() {
        world.commands.push(record(at as u64 + 1, commands));
    }
    go(&mut world, None, chances, rules);
    world
}

/// As [`run`], but each record is handed over where it can be; how many were taken.
fn run_handed(commands: &[Vec<Command>], chances: &[u8], rules: Rules) -> (World, usize) {
    let mut world = World::default();
    let taken = go(&mut world, Some(Handing::new(commands)), chances, rules);
    (world, taken)
}

fn go(world: &mut World, mut handing: Option<Handing>, chances: &[u8], rules: Rules) -> usize {
    let mut writer = 1;
    let mut owner = Running::take_over(world, writer, rules);
    let mut zombie: Option<Running> = None;
    let quiet = std::iter::repeat_n(3, 4_000);
    for chance in chances.iter().copied().chain(quiet) {
        if owner.dead || chance == 255 || chance == 254 {
            writer += 1;
            let next = Running::take_over(world, writer, rules);
            let mut old = std::mem::replace(&mut owner, next);
            if let Some(handing) = &mut handing {
                // What the old owner was handed and did not tell of goes into the stream, and it may have it all the same.
                old.dead |= chance != 254;
                handing.step(world, &mut old, true, false);
            }
            // A stale owner goes on beside the new one until it is refused.
            zombie = (chance == 254).then_some(old);
        }
        if let Some(stale) = &mut zombie
            && !stale.dead
        {
            stale.step(world, chance.wrapping_mul(31) | 1);
        }
        owner.step(world, chance);
        if let Some(handing) = &mut handing {
            handing.step(world, &mut owner, chance == 9, chance.is_multiple_of(3));
        }
    }
    handing.map_or(0, |handing| handing.taken)
}

fn workload(chats: u64, sends: u64) -> Vec<Vec<Command>> {
    let mut records: Vec<Vec<Command>> = vec![(0..chats).map(|at| create(chat(at))).collect()];
    for n in 1..=sends {
        records.push((0..chats).flat_map(|at| [send(chat(at), n), send(chat(at), n)]).collect());
        records.push((0..chats).map(|at| send(chat(at), n)).collect());
    }
    records
}

/// Three chats, each with its creation and four messages, in order and once; and one answer to each command.
fn check_one_log(world: &World) -> Result<(), TestCaseError> {
    for at in 0..3 {
        let rows = &world.rows[&chat(at)];
        prop_assert_eq!(rows.keys().copied().collect::<Vec<_>>(), (1..=5).collect::<Vec<_>>());
        for (n, bytes) in rows.values().skip(1).enumerate() {
            let entry = LoggedEntry::decode(bytes.clone()).unwrap().entry;
            prop_assert_eq!(entry.n, n as u64 + 1);
            let body = Bytes::from(format!("message {}", n + 1));
            prop_assert_eq!(entry.event, Event::MessageSent(domain::Message::plain(body)));
        }
    }
    // Every event record stands in the store, in order, each entry once.
    let published: usize = world.events.iter().map(|bytes| tail_record(1, bytes).entries.len()).sum();
    prop_assert_eq!(published, 15);
    // One answer a command and sequence, always the same.
    let mut answers: BTreeMap<(Bytes, u64), proto::v1::Outcome> = BTreeMap::new();
    for outcome in &world.outcomes {
        let first = answers.entry((outcome.chat.clone(), outcome.n)).or_insert_with(|| outcome.clone());
        prop_assert_eq!(&*first, outcome);
    }
    Ok(())
}

proptest! {
    #[test]
    fn one_log_comes_out_whatever_is_lost_or_taken_over(chances in prop::collection::vec(any::<u8>(), 0..400)) {
        check_one_log(&run(&workload(3, 4), &chances, Rules::ALL))?;
    }

    #[test]
    fn one_log_comes_out_of_what_is_handed_over(chances in prop::collection::vec(any::<u8>(), 0..400)) {
        check_one_log(&run_handed(&workload(3, 4), &chances, Rules::ALL).0)?;
    }
}

#[test]
fn what_is_not_taken_stands_in_the_stream_and_nothing_stands_there_twice() {
    let (world, taken) = run_handed(&workload(3, 4), &[], Rules::ALL);
    check_one_log(&world).unwrap();
    // Most chats are evicted before their next command: the cache of these owners is small.
    assert!(taken >= 1 && world.commands.len() + taken == 9, "{taken} taken, {} in the stream", world.commands.len());
}

#[test]
fn what_is_handed_over_is_taken_only_once_it_is_published() {
    let mut world = World::default();
    world.commands.push(record(1, &[create(chat(0))]));
    let mut owner = Running::take_over(&world, 1, Rules::ALL);
    while !owner.owner.may_take(&handed(1)) || !owner.asked.is_empty() {
        owner.step(&mut world, 3);
    }
    let published = world.events.len();
    owner.input(Input::Handed(handed(1)));
    for _ in 0..9 {
        assert!(owner.taken.is_empty() || world.events.len() > published, "taken before it is published");
        owner.step(&mut world, 3);
    }
    assert_eq!((owner.taken, world.events.len()), (vec![1], published + 1));
}

#[test]
fn steps_of_an_import_make_their_entries_once_and_let_the_members_in_with_its_end() {
    let members = vec![Member { user: user(1), role: Role::Owner }, Member { user: user(2), role: Role::Reader }];
    let said = |time| Step::Message { time, body: Bytes::from_static(b"long ago") };
    let all = [Step::Begin { kind: ChatKind::Group, time: 5 }, said(7), said(9), Step::End { members }];
    let step = |(step, seq): (Step, Seq)| {
        let import = domain::ImportId::new([8; 16]);
        Asked::Import(Import { chat: chat(0), import, sender: user(1), seq, step })
    };
    let steps: Vec<Asked> = all.into_iter().zip(1..).map(step).collect();
    let mut world = World::default();
    // In the middle, then all of it, then all of it again; the third is one too far at first.
    for (at, part) in [&steps[..1], &steps[2..3], &steps[..2], &steps[..], &steps[..]].into_iter().enumerate() {
        world.commands.push(record_of(at as u64 + 1, part.iter().cloned()));
    }
    go(&mut world, None, &[], Rules::ALL);
    let rows: Vec<_> = world.rows[&chat(0)].values().map(|bytes| LoggedEntry::decode(bytes.clone()).unwrap()).collect();
    let times: Vec<_> = rows.iter().map(|row| row.entry.time).collect();
    assert_eq!((rows.len(), &times[..3]), (4, &[5, 7, 9][..]));
    let stay = |n, role| Stay { user: user(n), joined_seq: 1, role, left_seq: None };
    assert_eq!(world.stays, [stay(1, Role::Owner), stay(2, Role::Reader)], "once, from the first entry on");
    let stored = world.outcomes.iter().filter_map(|outcome| match &outcome.result {
        Some(proto::v1::outcome::Result::Stored(stored)) => Some((outcome.n, stored.seq, stored.time_us)),
        _ => None,
    });
    let stored: Vec<_> = stored.collect();
    let end = times[3];
    let twice = [(1, 1, 5), (2, 2, 7), (3, 3, 9), (4, 4, end), (1, 1, 5), (2, 2, 7), (3, 3, 9), (4, 4, end)];
    assert_eq!((stored.len(), &stored[..3], &stored[3..]), (11, &[(1, 1, 5), (1, 1, 5), (2, 2, 7)][..], &twice[..]));
}

fn handed(ticket: u64) -> HandedRecord {
    let CommandRecord { items, bytes, .. } = record(9, &[send(chat(0), 1)]);
    HandedRecord { ticket, stamp: 5, items, bytes }
}

#[test]
fn a_batch_without_events_is_published_before_its_answers() {
    let mut world = World::default();
    world.commands.push(record(1, &[send(chat(1), 1)]));
    let mut owner = Running::take_over(&world, 1, Rules::ALL);
    owner.step(&mut world, 3);
    for _ in 0..20 {
        let answered = !world.outcomes.is_empty();
        assert!(!answered || !world.events.is_empty(), "answered before it was published");
        owner.step(&mut world, 3);
    }
    assert_eq!((world.events.len(), world.outcomes.len()), (1, 1));
}

#[test]
fn without_dedupe_of_a_landed_batch_something_goes_wrong() {
    // The check above can fail: with M3 off a batch that never landed is taken for landed.
    let broken = Rules::without("m3").unwrap();
    let chances: Vec<u8> = (0..200).map(|at| if at % 4 == 1 { 1 } else { 3 }).collect();
    let result = std::panic::catch_unwind(|| run(&workload(3, 4), &chances, broken));
    let whole =
        result.is_ok_and(|world| (0..3).all(|at| world.rows.get(&chat(at)).is_some_and(|rows| rows.len() == 5)));
    assert!(!whole);
}
