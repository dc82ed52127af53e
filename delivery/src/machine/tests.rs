//! One partition's machine over a model store, each rule seen to hold.

use std::collections::BTreeMap;

use domain::{
    ChatId, ChatKind, Entry, Epoch, Event, GatewayId, LoggedEntry, Member, Origin, Partition, Role, Rules, Seq,
    TenureId, UserId,
};
use proto::log::StatusAdvanced;
use proto::relay::{Announcement, AnnouncementAck, PushBatch, Receipt, SessionUp, Through, push::What, to_gateway};

use super::*;

mod expansion;
mod receipts;

const P: Partition = Partition(3);
const EPOCH: Epoch = Epoch(77);
const G1: u64 = 1;
const G2: u64 = 2;

fn user(n: u8) -> UserId {
    UserId::new([n; 16])
}

fn chat(n: u64) -> ChatId {
    ChatId::draw(P, 1_000, n << 2)
}

fn member(n: u8) -> Member {
    Member { user: user(n), role: Role::Member }
}

/// A chat's log in the making.
struct Chat {
    id: ChatId,
    seq: Seq,
    ordinal: u64,
}

impl Chat {
    fn new(n: u64) -> Self {
        Self { id: chat(n), seq: 0, ordinal: 0 }
    }

    fn entry(&mut self, sender: u8, event: Event) -> LoggedEntry {
        self.seq += 1;
        self.ordinal += u64::from(event.is_message());
        LoggedEntry::encode(Entry {
            chat: self.id,
            seq: self.seq,
            ordinal: self.ordinal,
            sender: user(sender),
            origin: Origin(1),
            n: self.seq,
            time: self.seq,
            event,
        })
    }

    fn created(&mut self, members: &[u8]) -> LoggedEntry {
        let members: Vec<Member> = members.iter().map(|n| member(*n)).collect();
        self.entry(1, Event::ChatCreated { kind: ChatKind::Group, members })
    }

    /// A step of an import.
    fn imported(&mut self, sender: u8, event: Event) -> LoggedEntry {
        let LoggedEntry { entry, .. } = self.entry(sender, event);
        LoggedEntry::encode(Entry { origin: Origin(0), ..entry })
    }

    fn message(&mut self, sender: u8) -> LoggedEntry {
        self.entry(sender, Event::MessageSent(domain::Message::plain(format!("{}", self.seq + 1))))
    }
}

/// The machine, its mirror and a store that holds what was appended to it.
struct Rig {
    machine: Expansion,
    mirror: Mirror,
    rules: Rules,
    /// What the store holds, by chat.
    rows: BTreeMap<ChatId, Vec<LoggedEntry>>,
    /// The store answers loads at once.
    answers: bool,
    now: u64,
    sequence: Seq,
    status_sequence: Seq,
    publishes: bool,
    /// What came out and was not looked at yet.
    out: Vec<Action>,
}

impl Rig {
    fn new(rules: Rules) -> Self {
        Self::with(rules, Settings::default())
    }

    fn with(rules: Rules, settings: Settings) -> Self {
        let mut rig = Self {
            machine: Expansion::new(P, rules, settings),
            mirror: Mirror::new(),
            rules,
            rows: BTreeMap::new(),
            answers: true,
            now: 0,
            sequence: 0,
            status_sequence: 0,
            publishes: true,
            out: Vec::new(),
        };
        rig.feed(Input::Took { owner: TenureId(5), epoch: EPOCH, after: 0 });
        rig
    }

    /// Puts users online at a gateway, session = user's number + 100 × gateway.
    fn online(&mut self, gateway: u64, version: u64, users: &[u8]) {
        let up = users
            .iter()
            .map(|n| SessionUp { session: u64::from(*n) + 100 * gateway, user: user(*n).to_wire() })
            .collect();
        let announcement = Announcement { gateway, version, snapshot: true, up, ..Announcement::default() };
        let mut actions = Vec::new();
        self.mirror.handle(self.now, MirrorInput::Announced(announcement), &mut actions);
        for action in actions {
            if let MirrorAction::Held { gateway, version } = action {
                self.feed(Input::Announced { gateway, version });
            }
        }
    }

    fn append(&mut self, logged: &LoggedEntry) {
        self.rows.entry(logged.entry.chat).or_default().push(logged.clone());
    }

    /// A record of these entries, appended to the store first.
    fn record(&mut self, entries: &[LoggedEntry]) {
        for logged in entries {
            self.append(logged);
        }
        self.record_unappended(entries);
    }

    fn record_unappended(&mut self, entries: &[LoggedEntry]) {
        self.sequence += 1;
        self.feed(Input::Events(vec![EventRecord { sequence: self.sequence, entries: entries.to_vec() }]));
    }

    fn feed(&mut self, input: Input) {
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            let mut actions = Vec::new();
            self.machine.handle(self.now, input, &self.mirror, &mut actions);
            for action in actions {
                match action {
                    Action::LoadMembers { chat, at_least, patience } if self.answers => {
                        inputs.push(Input::Members { chat, at_least, patience, rows: self.members(chat, at_least) });
                    }
                    Action::ReadOrdinal { chat, seq } if self.answers => {
                        let row = self.rows.get(&chat).and_then(|rows| rows.iter().find(|row| row.entry.seq == seq));
                        inputs.push(Input::Ordinal { chat, seq, ordinal: row.map(|row| row.entry.ordinal) });
                    }
                    Action::PublishStatuses(batch) if self.publishes => {
                        self.status_sequence += 1;
                        inputs.push(Input::StatusesPublished(Some(self.status_sequence)));
                        self.out.push(Action::PublishStatuses(batch));
                    }
                    other @ (Action::Send { .. }
                    | Action::LoadMembers { .. }
                    | Action::ReadOrdinal { .. }
                    | Action::PublishStatuses(_)
                    | Action::Checkpoint { .. }
                    | Action::Dropped(_)) => self.out.push(other),
                }
            }
        }
    }

    /// As the store answers: all stays, once the row is there.
    fn members(&self, chat: ChatId, at_least: Seq) -> Option<Vec<Membership>> {
        let rows = self.rows.get(&chat).map_or(&[][..], Vec::as_slice);
        if at_least > 0 && !rows.iter().any(|row| row.entry.seq == at_least) {
            return None;
        }
        let mut stays: Vec<Membership> = Vec::new();
        let leave = |stays: &mut Vec<Membership>, user: UserId, seq: Seq| {
            for stay in stays.iter_mut().filter(|stay| stay.user == user && stay.left_seq.is_none()) {
                stay.left_seq = Some(seq);
            }
        };
        for row in rows {
            let entry = &row.entry;
            match &entry.event {
                Event::ChatCreated { members, .. } => stays.extend(members.iter().map(|m| Membership {
                    user: m.user,
                    joined_seq: entry.seq,
                    left_seq: None,
                })),
                Event::MemberAdded { member } => {
                    stays.push(Membership { user: member.user, joined_seq: entry.seq, left_seq: None });
                }
                Event::MemberRemoved { user } => leave(&mut stays, *user, entry.seq),
                Event::MemberLeft => leave(&mut stays, entry.sender, entry.seq),
                Event::ImportEnded { members } => {
                    stays.extend(members.iter().map(|m| Membership { user: m.user, joined_seq: 1, left_seq: None }))
                }
                Event::MessageSent { .. }
                | Event::RoleSet { .. }
                | Event::ChatRenamed { .. }
                | Event::OwnershipTransferred { .. }
                | Event::MessageEdited(_)
                | Event::MessageDeleted { .. }
                | Event::MessageReacted { .. }
                | Event::ChatPolicySet { .. }
                | Event::MessagePinned { .. }
                | Event::ImportBegun { .. } => {}
            }
        }
        Some(stays)
    }

    fn receipt(&mut self, chat: ChatId, n: u8, delivered: Seq, seen: Seq) {
        let receipt = Receipt { chat: chat.to_wire(), user: user(n).to_wire(), delivered, seen };
        self.feed(Input::Receipts(vec![receipt]));
    }

    fn written(&mut self) {
        self.feed(Input::Written { epoch: EPOCH, statuses: self.status_sequence });
    }

    fn take(&mut self) -> Seen {
        let mut seen = Seen::default();
        for action in std::mem::take(&mut self.out) {
            match action {
                Action::Send { gateway, message } => match message.what.expect("a message says something") {
                    to_gateway::What::Pushes(batch) => seen.batches.push((gateway, batch)),
                    to_gateway::What::Ack(ack) => seen.acks.push(ack),
                    to_gateway::What::Through(through) => seen.throughs.push((gateway, through)),
                },
                Action::PublishStatuses(batch) => seen.statuses.push(batch.statuses),
                Action::Checkpoint { events } => seen.checkpoints.push(events),
                Action::Dropped(what) => seen.dropped.push(what),
                Action::LoadMembers { chat, at_least, patience } => seen.loads.push((chat, at_least, patience)),
                Action::ReadOrdinal { chat, seq } => seen.ordinals.push((chat, seq)),
            }
        }
        seen
    }
}

#[derive(Default, Debug)]
struct Seen {
    batches: Vec<(GatewayId, PushBatch)>,
    acks: Vec<AnnouncementAck>,
    throughs: Vec<(GatewayId, Through)>,
    statuses: Vec<Vec<StatusAdvanced>>,
    checkpoints: Vec<Seq>,
    dropped: Vec<Dropped>,
    loads: Vec<(ChatId, Seq, Patience)>,
    ordinals: Vec<(ChatId, Seq)>,
}

impl Seen {
    /// Entries that each session got, in order.
    fn entries(&self) -> BTreeMap<u64, Vec<(ChatId, Seq)>> {
        let mut entries: BTreeMap<u64, Vec<(ChatId, Seq)>> = BTreeMap::new();
        for push in self.batches.iter().flat_map(|(_, batch)| &batch.pushes) {
            if let Some(What::Entry(bytes)) = &push.what {
                let entry = Entry::decode(bytes).unwrap();
                for session in &push.sessions {
                    entries.entry(*session).or_default().push((entry.chat, entry.seq));
                }
            }
        }
        entries
    }

    fn seqs(&self, session: u64) -> Vec<Seq> {
        self.entries().get(&session).map_or_else(Vec::new, |entries| entries.iter().map(|(_, seq)| *seq).collect())
    }

    /// (session, user, delivered, seen) of each watermark that went out.
    fn watermarks(&self) -> Vec<(u64, UserId, Seq, Seq)> {
        let mut marks = Vec::new();
        for push in self.batches.iter().flat_map(|(_, batch)| &batch.pushes) {
            if let Some(What::Watermark(mark)) = &push.what {
                let of = UserId::try_from(mark.user.as_ref()).unwrap();
                marks.extend(push.sessions.iter().map(|session| (*session, of, mark.delivered, mark.seen)));
            }
        }
        marks.sort();
        marks
    }

    fn numbers(&self, gateway: u64) -> Vec<u64> {
        self.batches.iter().filter(|(to, _)| to.0 == gateway).map(|(_, batch)| batch.number).collect()
    }
}
