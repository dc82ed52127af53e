//! The fold over a model of the stored rows.

use std::collections::BTreeMap;

use bytes::Bytes;
use domain::{
    ChatId, ChatKind, Edit, Entry, Epoch, Event, LoggedEntry, Member, Origin, Partition, Policy, PolicyChange, Role,
    Seq, UserId, Watermark,
};
use proptest::prelude::*;
use prost::Message as _;
use proto::log::{EventBatch, StatusAdvanced, StatusBatch};

use super::*;
use crate::error::FoldError;

const EPOCH: Epoch = Epoch(7);

fn user(n: u8) -> UserId {
    UserId::new([n; 16])
}

fn chat(n: u64) -> ChatId {
    ChatId::draw(Partition(0), 1, n << 2)
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
            time: 1_000 + self.seq,
            event,
        })
    }

    fn created(&mut self, members: &[u8]) -> LoggedEntry {
        let members = members.iter().map(|n| Member { user: user(*n), role: Role::Member }).collect();
        self.entry(1, Event::ChatCreated { kind: ChatKind::Group, members })
    }

    fn message(&mut self, sender: u8, body: &str) -> LoggedEntry {
        self.entry(sender, Event::MessageSent(domain::Message::plain(Bytes::copy_from_slice(body.as_bytes()))))
    }
}

fn event_record(sequence: Seq, entries: &[LoggedEntry]) -> Raw {
    let batch = EventBatch {
        schema: 1,
        epoch: EPOCH.0,
        entries: entries.iter().map(|logged| logged.bytes.clone()).collect(),
        ..EventBatch::default()
    };
    Raw { sequence, payload: batch.encode_to_vec().into() }
}

fn status_record(sequence: Seq, statuses: &[(u64, u8, Watermark)]) -> Raw {
    let statuses = statuses.iter().map(|(chat_number, n, mark)| StatusAdvanced {
        chat: chat(*chat_number).to_wire(),
        user: user(*n).to_wire(),
        delivered: mark.delivered,
        seen: mark.seen,
        seen_ordinal: mark.seen_ordinal,
    });
    let batch = StatusBatch { schema: 1, epoch: EPOCH.0, statuses: statuses.collect() };
    Raw { sequence, payload: batch.encode_to_vec().into() }
}

/// The stored rows, merged as the store merges them.
#[derive(Default, Clone, PartialEq, Debug)]
struct Rows {
    stays: BTreeMap<(UserId, ChatId), Stay>,
    summaries: BTreeMap<ChatId, Summary>,
    names: BTreeMap<ChatId, Name>,
    policies: BTreeMap<ChatId, Fact<Policy>>,
    pins: BTreeMap<ChatId, Fact<Vec<Seq>>>,
    reactions: BTreeMap<(ChatId, Seq, UserId), Reaction>,
    marks: BTreeMap<(ChatId, UserId), Watermark>,
    events: Seq,
    statuses: Seq,
}

impl Rows {
    fn write(&mut self, projected: Projected) {
        for (user, chat, stay) in projected.stays {
            let stored = self.stays.entry((user, chat)).or_insert(stay);
            if (stored.joined_seq, stored.left_seq) < (stay.joined_seq, stay.left_seq) {
                *stored = stay;
            }
        }
        for (chat, summary) in projected.summaries {
            if self.summaries.get(&chat).is_none_or(|stored| stored.head < summary.head) {
                self.summaries.insert(chat, summary);
            }
        }
        for (chat, name) in projected.names {
            if self.names.get(&chat).is_none_or(|stored| stored.seq < name.seq) {
                self.names.insert(chat, name);
            }
        }
        for (chat, fact) in projected.policies {
            if self.policies.get(&chat).is_none_or(|stored| stored.seq < fact.seq) {
                self.policies.insert(chat, fact);
            }
        }
        for (chat, fact) in projected.pins {
            if self.pins.get(&chat).is_none_or(|stored| stored.seq < fact.seq) {
                self.pins.insert(chat, fact);
            }
        }
        for (place, reaction) in projected.reactions {
            if self.reactions.get(&place).is_none_or(|stored| stored.by < reaction.by) {
                self.reactions.insert(place, reaction);
            }
        }
        for (chat, seq, _) in projected.deleted {
            self.reactions.retain(|(of, at, _), _| (*of, *at) != (chat, seq));
        }
        for (chat, user, mark) in projected.watermarks {
            let stored = self.marks.entry((chat, user)).or_default();
            *stored = stored.merge(mark);
        }
        self.events = self.events.max(projected.events);
        self.statuses = self.statuses.max(projected.statuses);
    }
}

struct Rig {
    fold: Fold,
    rows: Rows,
    written: Vec<Seq>,
    skipped: usize,
}

impl Rig {
    fn new() -> Self {
        Self::over(Rows::default(), 100)
    }

    /// A fold that starts from the checkpoint of stored rows.
    fn over(rows: Rows, summaries_max: usize) -> Self {
        let mut fold = Fold::new(summaries_max);
        let took = Input::Took { epoch: EPOCH, events: rows.events, statuses: rows.statuses };
        fold.handle(took, &mut Vec::new());
        Self { fold, rows, written: Vec::new(), skipped: 0 }
    }

    fn read(&mut self, events: Vec<Raw>, statuses: Vec<Raw>) -> Result<(), FoldError> {
        let mut next = Some(Input::Read { events, statuses });
        while let Some(input) = next.take() {
            let mut actions = Vec::new();
            self.fold.handle(input, &mut actions);
            for action in actions {
                match action {
                    Action::Load { summaries, stays } => {
                        let stored = |chat: ChatId| self.rows.summaries.get(&chat).map(|row| (chat, row.clone()));
                        let summaries = summaries.into_iter().filter_map(stored).collect();
                        let stored = |key| self.rows.stays.get(&key).map(|stay| (key, *stay));
                        let stays = stays.into_iter().filter_map(stored).collect();
                        next = Some(Input::Loaded { summaries, stays });
                    }
                    Action::Project(projected) => {
                        self.rows.write(projected);
                        next = Some(Input::Stored);
                    }
                    Action::Written { epoch, statuses } => {
                        assert_eq!(epoch, EPOCH);
                        self.written.push(statuses);
                    }
                    Action::StatusesSkipped => self.skipped += 1,
                    Action::Halt(error) => return Err(error),
                }
            }
        }
        Ok(())
    }
}

fn mark(delivered: Seq, seen: Seq, seen_ordinal: u64) -> Watermark {
    Watermark { delivered, seen, seen_ordinal }
}

#[test]
fn lists_summaries_and_watermarks_follow_the_events() {
    let mut rig = Rig::new();
    let mut chat = Chat::new(1);
    let entries = [
        chat.created(&[1, 2]),
        chat.message(1, "hello"),
        chat.entry(1, Event::MemberAdded { member: Member { user: user(3), role: Role::Member } }),
        chat.entry(1, Event::MemberRemoved { user: user(2) }),
    ];
    rig.read(vec![event_record(1, &entries)], vec![]).unwrap();
    let rows = &rig.rows;
    assert_eq!(rows.stays[&(user(1), chat.id)], Stay { joined_seq: 1, left_seq: None });
    assert_eq!(rows.stays[&(user(2), chat.id)], Stay { joined_seq: 1, left_seq: Some(4) });
    assert_eq!(rows.stays[&(user(3), chat.id)], Stay { joined_seq: 3, left_seq: None });
    let summary = &rows.summaries[&chat.id];
    assert_eq!((summary.head, summary.ordinal, summary.first_seq, summary.activity), (4, 1, 1, 1_004));
    let last = summary.preview.as_ref().unwrap();
    assert_eq!((last.seq, last.sender, last.time, last.length), (2, user(1), 1_002, 5));
    assert_eq!(last.body, "hello", "the last message stays in the list when a member goes");
    assert_eq!(rows.marks[&(chat.id, user(1))], mark(2, 2, 1), "an own send is never unread");
    assert_eq!(rows.marks[&(chat.id, user(2))], mark(1, 1, 0));
    assert_eq!(rows.marks[&(chat.id, user(3))], mark(3, 3, 1), "old history is never unread");
}

#[test]
fn an_imported_chat_is_in_no_list_before_its_end_and_is_read_then() {
    let mut rig = Rig::new();
    let mut chat = Chat::new(1);
    let mut imported = |sender, event| {
        let LoggedEntry { entry, .. } = chat.entry(sender, event);
        LoggedEntry::encode(Entry { origin: Origin(0), ..entry })
    };
    let begun = Event::ImportBegun { kind: ChatKind::Group, import: domain::ImportId::new([8; 16]) };
    let said = || Event::MessageSent(domain::Message::plain(&b"long ago"[..]));
    let members = vec![Member { user: user(1), role: Role::Owner }, Member { user: user(2), role: Role::Member }];
    let entries = [imported(1, begun), imported(2, said()), imported(9, said())];
    let end = imported(1, Event::ImportEnded { members });
    let id = chat.id;
    rig.read(vec![event_record(1, &entries)], vec![]).unwrap();
    assert_eq!((rig.rows.stays.len(), rig.rows.marks.len()), (0, 0), "nobody knows of it");
    assert_eq!((rig.rows.summaries[&id].head, rig.rows.summaries[&id].activity), (3, 1_003));
    rig.read(vec![event_record(2, &[end])], vec![]).unwrap();
    for n in [1, 2] {
        assert_eq!(rig.rows.stays[&(user(n), id)], Stay { joined_seq: 1, left_seq: None }, "what is before is theirs");
        assert_eq!(rig.rows.marks[&(id, user(n))], mark(4, 4, 2), "and none of it is unread");
    }
    assert_eq!(rig.rows.stays.len(), 2, "who wrote and is in it no more has no place in it");
    assert_eq!(rig.rows.summaries[&id].preview.as_ref().map(|last| last.seq), Some(3));
}

fn edited(seq: Seq, body: &'static str, previous: Seq) -> Event {
    Event::MessageEdited(Edit { seq, body: body.into(), previous, erased: false })
}

#[test]
fn a_preview_follows_the_edits_and_the_deletion_of_its_message_and_no_other() {
    let mut chat = Chat::new(1);
    let entries = [
        chat.created(&[1, 2]),
        chat.message(1, "first"),
        chat.message(1, "last"),
        chat.entry(1, edited(2, "not the last", 0)),
        chat.entry(1, edited(3, "the last, edited", 0)),
        chat.entry(1, Event::MessageDeleted { seq: 2 }),
        chat.entry(1, Event::MessageDeleted { seq: 3 }),
        chat.message(2, "another"),
    ];
    let expected = ["last", "last", "the last, edited", "the last, edited", "", "another"];
    let mut rig = Rig::over(Rows::default(), 0);
    rig.read(vec![event_record(1, &entries[..2])], vec![]).unwrap();
    for (sequence, (entry, expected)) in (2..).zip(entries[2..].iter().zip(expected)) {
        rig.read(vec![event_record(sequence, std::slice::from_ref(entry))], vec![]).unwrap();
        let summary = &rig.rows.summaries[&chat.id];
        let last = summary.preview.as_ref().unwrap();
        assert_eq!((&last.body[..], last.length as usize), (expected.as_bytes(), expected.len()));
        assert_eq!(last.deleted, expected.is_empty());
    }
    let summary = &rig.rows.summaries[&chat.id];
    assert_eq!((summary.head, summary.ordinal), (8, 3), "what is deleted stays counted");
    assert_eq!(rig.rows.marks[&(chat.id, user(1))], mark(3, 3, 2), "a change reads nothing");
}

fn reacted(seq: Seq, reaction: &str) -> Event {
    Event::MessageReacted { seq, reaction: reaction.into() }
}

fn slowed(slow_mode_s: u32) -> Event {
    let change = PolicyChange { slow_mode_s: Some(slow_mode_s), ..PolicyChange::default() };
    Event::ChatPolicySet { policy: Policy::default().with(change), change }
}

#[test]
fn opinions_and_facts_are_the_latest_however_the_records_are_cut() {
    let mut chat = Chat::new(1);
    let pinned = |seq, pins: &[Seq]| Event::MessagePinned { seq, unpinned: false, pins: pins.to_vec() };
    let entries = [
        chat.created(&[1, 2]),
        chat.message(1, "one"),
        chat.message(2, "two"),
        chat.entry(2, reacted(2, "+")),
        chat.entry(1, reacted(3, "-")),
        chat.entry(2, reacted(2, "?")),
        chat.entry(1, slowed(5)),
        chat.entry(1, pinned(2, &[2])),
        chat.entry(1, reacted(2, "+")),
        chat.entry(1, Event::MessageDeleted { seq: 3 }),
        chat.entry(2, reacted(2, "")),
        chat.entry(1, slowed(0)),
        chat.message(2, "three"),
        chat.entry(2, reacted(13, "!")),
    ];
    let reaction = |text: &str, by| Reaction { text: text.into(), by };
    let expected = BTreeMap::from([
        ((chat.id, 2, user(1)), reaction("+", 9)),
        ((chat.id, 2, user(2)), reaction("", 11)),
        ((chat.id, 13, user(2)), reaction("!", 14)),
    ]);
    for cut in 1..=entries.len() {
        let mut rig = Rig::new();
        for (sequence, entries) in (1..).zip(entries.chunks(cut)) {
            rig.read(vec![event_record(sequence, entries)], vec![]).unwrap();
        }
        assert_eq!(rig.rows.reactions, expected, "{cut}");
        assert_eq!(rig.rows.policies, BTreeMap::from([(chat.id, Fact { seq: 12, is: Policy::default() })]));
        assert_eq!(rig.rows.pins, BTreeMap::from([(chat.id, Fact { seq: 8, is: vec![2] })]));
        let summary = &rig.rows.summaries[&chat.id];
        assert_eq!((summary.head, summary.ordinal), (14, 3), "none of them counts");
    }
}

#[test]
fn a_chats_models_are_those_of_the_fold_however_its_rows_are_cut_and_in_no_other_order() {
    let mut chat = Chat::new(1);
    let entries = [
        chat.created(&[1, 2]),
        chat.message(1, "one"),
        chat.entry(2, reacted(2, "+")),
        chat.entry(1, slowed(5)),
        chat.entry(1, Event::ChatRenamed { name: "on tuesdays".into() }),
        chat.entry(1, Event::MemberRemoved { user: user(2) }),
        chat.message(1, "two"),
        chat.entry(1, Event::MessageDeleted { seq: 2 }),
        chat.entry(1, edited(7, "three", 0)),
    ];
    let mut rig = Rig::new();
    rig.read(vec![event_record(1, &entries)], vec![]).unwrap();
    let rows = |entries: &[LoggedEntry]| entries.iter().map(|row| row.entry.clone()).collect::<Vec<_>>();
    for cut in 1..=entries.len() {
        let mut models = Models::default();
        for part in entries.chunks(cut) {
            models.fold(chat.id, rows(part)).unwrap();
        }
        let mut written = Rows::default();
        written.write(Projected { events: 1, ..models.projected(chat.id) });
        assert_eq!(written, rig.rows, "{cut}");
    }
    for at in 1..entries.len() - 1 {
        let mut swapped = rows(&entries);
        swapped.swap(at, at + 1);
        assert!(matches!(Models::default().fold(chat.id, swapped), Err(FoldError::Hole { .. })), "{at}");
    }
}

#[test]
fn rows_that_are_newer_than_the_fold_come_to_the_same_models() {
    let mut chat = Chat::new(1);
    let events = [
        chat.created(&[1, 2]),
        chat.message(1, "one"),
        chat.message(2, "two"),
        chat.entry(2, edited(3, "three", 0)),
        chat.entry(2, edited(3, "four", 4)),
        chat.entry(1, edited(2, "one, edited", 0)),
        chat.entry(1, Event::MessageDeleted { seq: 3 }),
    ];
    // With and without the deletion at the end.
    for through in [events.len() - 1, events.len()] {
        let events = &events[..through];
        let row = |logged: &LoggedEntry| {
            let by = |row: Entry, by: &LoggedEntry| row.changed_by(&by.entry).unwrap_or(row);
            LoggedEntry::encode(events.iter().fold(logged.entry.clone(), by))
        };
        let rows: Vec<_> = events.iter().map(row).collect();
        assert_ne!(rows[2], events[2]);
        let folded = |entries: &[LoggedEntry]| {
            let mut rig = Rig::new();
            for (sequence, entry) in (1..).zip(entries) {
                rig.read(vec![event_record(sequence, std::slice::from_ref(entry))], vec![]).unwrap();
            }
            rig.rows
        };
        assert_eq!(folded(&rows), folded(events));
    }
}

#[test]
fn statuses_are_merged_by_maximum_and_written_is_said_after_the_write() {
    let mut rig = Rig::new();
    let mut group = Chat::new(1);
    let entries = [group.created(&[1, 2]), group.message(1, "a"), group.message(1, "b")];
    let statuses = vec![
        status_record(1, &[(1, 2, mark(3, 2, 1))]),
        status_record(2, &[(1, 2, mark(2, 3, 2)), (1, 1, mark(1, 0, 0))]),
        // A hole in the lossy stream.
        status_record(9, &[]),
    ];
    rig.read(vec![event_record(1, &entries)], statuses).unwrap();
    assert_eq!(rig.rows.marks[&(group.id, user(2))], mark(3, 3, 2));
    assert_eq!(rig.rows.marks[&(group.id, user(1))], mark(3, 3, 2));
    assert_eq!(rig.written, [9]);
    rig.fold.handle(Input::Tick, &mut Vec::new());
    let mut actions = Vec::new();
    rig.fold.handle(Input::Tick, &mut actions);
    assert!(matches!(actions[..], [Action::Written { statuses: 9, .. }]), "said again, should it have been lost");
}

#[test]
fn a_member_who_left_in_an_earlier_write_keeps_the_stay_and_a_later_one_replaces_it() {
    let mut rig = Rig::new();
    let mut chat = Chat::new(1);
    let created = chat.created(&[1, 2]);
    rig.read(vec![event_record(1, &[created])], vec![]).unwrap();
    let left = chat.entry(2, Event::MemberLeft);
    rig.read(vec![event_record(2, &[left])], vec![]).unwrap();
    assert_eq!(rig.rows.stays[&(user(2), chat.id)], Stay { joined_seq: 1, left_seq: Some(2) });
    let back = chat.entry(1, Event::MemberAdded { member: Member { user: user(2), role: Role::Member } });
    rig.read(vec![event_record(3, &[back])], vec![]).unwrap();
    assert_eq!(rig.rows.stays[&(user(2), chat.id)], Stay { joined_seq: 3, left_seq: None });
}

#[test]
fn what_is_no_message_moves_the_head_alone_and_the_latest_name_stays() {
    let mut rig = Rig::new();
    let mut chat = Chat::new(1);
    let rename = |name: &str| Event::ChatRenamed { name: name.into() };
    let first =
        [chat.created(&[1, 2]), chat.message(1, "a"), chat.entry(2, rename("one")), chat.entry(1, rename("two"))];
    rig.read(vec![event_record(1, &first)], vec![]).unwrap();
    assert_eq!(rig.rows.names[&chat.id], Name { seq: 4, text: "two".into() });
    let member = Member { user: user(2), role: Role::Reader };
    let later = [
        chat.entry(1, Event::RoleSet { member }),
        chat.entry(1, Event::OwnershipTransferred { user: user(2) }),
        chat.entry(1, rename("")),
    ];
    rig.read(vec![event_record(2, &later)], vec![]).unwrap();
    let summary = &rig.rows.summaries[&chat.id];
    assert_eq!((summary.head, summary.ordinal, summary.activity), (7, 1, 1_007));
    assert_eq!(summary.preview.as_ref().map(|last| last.seq), Some(2));
    // Nothing of it is read by having done it, and nobody's stay is another one.
    assert_eq!(rig.rows.marks[&(chat.id, user(1))], mark(2, 2, 1));
    assert_eq!(rig.rows.stays[&(user(2), chat.id)], Stay { joined_seq: 1, left_seq: None });
    assert_eq!(rig.rows.names[&chat.id], Name { seq: 7, text: "".into() });
}

#[test]
fn a_preview_is_cut() {
    let mut rig = Rig::new();
    let mut chat = Chat::new(1);
    let entries = [chat.created(&[1]), chat.message(1, &"x".repeat(1_000))];
    rig.read(vec![event_record(1, &entries)], vec![]).unwrap();
    let last = rig.rows.summaries[&chat.id].preview.as_ref().unwrap();
    assert_eq!((last.body.len(), last.length), (PREVIEW_BYTES, 1_000));
}

#[test]
fn holes_in_the_stream_or_in_a_chat_halt_and_nothing_is_written() {
    let mut group = Chat::new(1);
    let (first, second, third) = (group.created(&[1]), group.message(1, "a"), group.message(1, "b"));
    let mut rig = Rig::new();
    let error = rig.read(vec![event_record(2, std::slice::from_ref(&first))], vec![]).unwrap_err();
    assert!(matches!(error, FoldError::OutOfOrder { expected: 1, found: 2 }));
    let mut rig = Rig::new();
    rig.read(vec![event_record(1, std::slice::from_ref(&first))], vec![]).unwrap();
    let before = rig.rows.clone();
    let error = rig.read(vec![event_record(2, std::slice::from_ref(&third))], vec![]).unwrap_err();
    assert!(matches!(error, FoldError::Hole { head: 1, seq: 3, .. }));
    assert_eq!(rig.rows, before);
    assert!(!rig.fold.wants_records());
    let mut rig = Rig::new();
    let error = rig.read(vec![event_record(1, &[second])], vec![]).unwrap_err();
    assert!(matches!(error, FoldError::Hole { head: 0, seq: 2, .. }));
}

#[test]
fn foreign_epochs_newer_schemas_and_garbage_halt_for_events_and_are_passed_over_for_statuses() {
    let batch = |schema, epoch| EventBatch { schema, epoch, ..EventBatch::default() }.encode_to_vec().into();
    let read = |payload: Bytes| Rig::new().read(vec![Raw { sequence: 1, payload }], vec![]);
    assert!(matches!(read(batch(1, 8)), Err(FoldError::Epoch { sequence: 1 })));
    assert!(matches!(read(batch(2, 7)), Err(FoldError::Schema { schema: 2, .. })));
    assert!(matches!(read(Bytes::from_static(&[0xff; 9])), Err(FoldError::Record { .. })));
    let status = |schema, epoch| StatusBatch { schema, epoch, statuses: vec![] }.encode_to_vec().into();
    let mut rig = Rig::new();
    let statuses = [status(1, 8), Bytes::from_static(&[0xff; 9])];
    let raws = statuses.into_iter().zip(1..).map(|(payload, sequence)| Raw { sequence, payload });
    rig.read(vec![], raws.collect()).unwrap();
    assert_eq!((rig.skipped, rig.written), (2, vec![2]));
    let newer = Raw { sequence: 1, payload: status(2, 7) };
    assert!(matches!(Rig::new().read(vec![], vec![newer]), Err(FoldError::Schema { schema: 2, .. })));
}

proptest! {
    /// Any cut into writes, restarts from the checkpoint between them and any size of the cache: the same rows.
    #[test]
    fn rows_do_not_depend_on_cuts_and_restarts(
        steps in prop::collection::vec((0..3_u64, 1..5_u8, 0..5_u8), 1..60),
        cuts in prop::collection::vec((1..5_usize, any::<bool>()), 60),
        cache in 0..3_usize,
    ) {
        let mut chats: Vec<Chat> = (0..3).map(Chat::new).collect();
        let (mut events, mut statuses) = (Vec::new(), Vec::new());
        for (which, n, what) in steps {
            let chat = &mut chats[usize::try_from(which).unwrap()];
            let entry = match what {
                _ if chat.seq == 0 => chat.created(&[1, 2, 3, 4]),
                0 => chat.entry(1, Event::MemberRemoved { user: user(n) }),
                1 => chat.entry(1, Event::MemberAdded { member: Member { user: user(n), role: Role::Member } }),
                2 => {
                    let said = mark(chat.seq, chat.seq / 2, chat.seq / 3);
                    statuses.push(status_record(statuses.len() as u64 + 1, &[(which, n, said)]));
                    chat.message(n, "status beside it")
                }
                _ => chat.message(n, &format!("{}", chat.seq)),
            };
            events.push(event_record(events.len() as u64 + 1, &[entry]));
        }
        let mut whole = Rig::new();
        whole.read(events.clone(), statuses.clone()).unwrap();
        let mut cut = Rig::over(Rows::default(), cache);
        let (mut event, mut status) = (0, 0);
        for (size, restart) in cuts.into_iter().cycle() {
            if event == events.len() && status == statuses.len() {
                break;
            }
            let next_event = events.len().min(event + size);
            let next_status = statuses.len().min(status + size - 1);
            cut.read(events[event..next_event].to_vec(), statuses[status..next_status].to_vec()).unwrap();
            (event, status) = (next_event, if event == next_event { statuses.len().min(status + size) } else { next_status });
            if restart {
                cut = Rig::over(cut.rows, cache);
                event = usize::try_from(cut.rows.events).unwrap();
                status = usize::try_from(cut.rows.statuses).unwrap();
            }
        }
        prop_assert_eq!(whole.rows, cut.rows);
    }
}

#[test]
fn a_leaving_does_not_end_a_later_stay_that_another_owner_has_written() {
    let mut log = Chat::new(1);
    let created = log.created(&[1, 2]);
    let removed = log.entry(1, Event::MemberRemoved { user: user(2) });
    let mut fold = Fold::new(16);
    let mut actions = Vec::new();
    fold.handle(Input::Took { epoch: EPOCH, events: 0, statuses: 0 }, &mut actions);
    fold.handle(Input::Read { events: vec![event_record(1, &[created])], statuses: vec![] }, &mut actions);
    fold.handle(Input::Stored, &mut actions);
    actions.clear();
    // The summary is at hand, the stay is read: by then the other owner has folded that user 2 is back.
    fold.handle(Input::Read { events: vec![event_record(2, &[removed])], statuses: vec![] }, &mut actions);
    let back = Stay { joined_seq: 3, left_seq: None };
    let stays = BTreeMap::from([((user(2), log.id), back)]);
    fold.handle(Input::Loaded { summaries: BTreeMap::new(), stays }, &mut actions);
    let projected = actions.iter().find_map(|action| if let Action::Project(it) = action { Some(it) } else { None });
    assert_eq!(projected.expect("a write").stays, []);
}
