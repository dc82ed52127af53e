//! Loading a chat: snapshot, members as of it, and the fold of later rows give what the whole fold gives (M18).

use domain::{
    Chat, ChatId, ChatKind, Edit, Entry, Event, LoggedEntry, Member, MemberState, Origin, Role, Seq, Target, UserId,
};
use proptest::{
    collection::vec,
    prelude::*,
    test_runner::{Config, TestRunner},
};
use prost::Message;
use store::{Append, ChatAppend, Error, MemberRow, RoleRow, Store};

use super::versions::folded;
use crate::rows::{append, at, cases, logged, new_chat, new_partition, new_user, rows};

/// What may happen next to a chat, with users by number.
#[derive(Clone, Copy, Debug)]
enum Step {
    Say,
    Add(usize),
    Remove(usize),
    Give(usize, Role),
    Edit(usize),
    Delete(usize),
}

/// A chat's entries, the rows of members and roles that each brings, and the chat after each.
struct Told {
    chat: ChatId,
    entries: Vec<LoggedEntry>,
    members: Vec<Vec<MemberRow>>,
    roles: Vec<Option<RoleRow>>,
    folds: Vec<Chat>,
}

fn edited(entry: &Entry) -> Option<Seq> {
    match Target::of(entry) {
        Target::Said { edited, .. } => Some(edited),
        Target::Missing | Target::Deleted => None,
    }
}

fn tell(chat: ChatId, users: &[UserId], steps: &[Step]) -> Told {
    let owner = users[0];
    let first = Event::ChatCreated { kind: ChatKind::Group, members: vec![Member { user: owner, role: Role::Owner }] };
    let mut told = Told { chat, entries: Vec::new(), members: Vec::new(), roles: Vec::new(), folds: Vec::new() };
    told.push(owner, first, vec![MemberRow { chat, user: owner, joined_seq: 1, role: Role::Owner, left_seq: None }]);
    told.roles.push(None);
    for step in steps {
        let state = told.folds.last().expect("there is the creation");
        let seq = state.head() + 1;
        let inside = |user: UserId| state.members().get(&user).copied();
        let (event, rows) = match *step {
            Step::Say => (Event::MessageSent(domain::Message::plain(format!("body {seq}"))), vec![]),
            Step::Add(number) if inside(users[number]).is_none() => {
                let member = Member { user: users[number], role: Role::Member };
                let row = MemberRow { chat, user: member.user, joined_seq: seq, role: Role::Member, left_seq: None };
                (Event::MemberAdded { member }, vec![row])
            }
            Step::Remove(number) if number != 0 && inside(users[number]).is_some() => {
                let MemberState { role, joined_seq } = inside(users[number]).expect("looked at just now");
                let row = MemberRow { chat, user: users[number], joined_seq, role, left_seq: Some(seq) };
                (Event::MemberRemoved { user: users[number] }, vec![row])
            }
            Step::Give(number, role) if number != 0 && inside(users[number]).is_some() => {
                (Event::RoleSet { member: Member { user: users[number], role } }, vec![])
            }
            Step::Edit(number) if let Some((seq, previous)) = told.message(number) => {
                let body = format!("edit {}", state.head()).into();
                (Event::MessageEdited(Edit { seq, body, previous, erased: false }), vec![])
            }
            Step::Delete(number) if let Some((seq, _)) = told.message(number) => {
                (Event::MessageDeleted { seq }, vec![])
            }
            Step::Add(_) | Step::Remove(_) | Step::Give(..) | Step::Edit(_) | Step::Delete(_) => continue,
        };
        let joined_seq = |user| inside(user).map_or(0, |member| member.joined_seq);
        let role = if let Event::RoleSet { member: Member { user, role } } = event {
            Some(RoleRow { user, joined_seq: joined_seq(user), role, seq })
        } else {
            None
        };
        told.push(owner, event, rows);
        told.roles.push(role);
    }
    told
}

impl Told {
    fn push(&mut self, sender: UserId, event: Event, rows: Vec<MemberRow>) {
        let (seq, ordinal) = self.folds.last().map_or((0, 0), |state| (state.head(), state.ordinal()));
        let first = seq == 0;
        let entry = Entry {
            chat: self.chat,
            seq: seq + 1,
            ordinal: ordinal + u64::from(event.is_message()),
            sender,
            origin: Origin(if first { 0 } else { 3 }),
            n: seq,
            time: 5_000 + seq,
            event,
        };
        let fold = match self.folds.last() {
            None => Chat::create(&entry).expect("a creation"),
            Some(state) => {
                let mut state = state.clone();
                state.apply(&entry);
                state
            }
        };
        self.entries.push(logged(entry));
        self.members.push(rows);
        self.folds.push(fold);
    }

    /// One of the messages that are not deleted, and its last edit.
    fn message(&self, number: usize) -> Option<(Seq, Seq)> {
        let rows = folded(&self.entries);
        let messages: Vec<_> = rows.iter().filter_map(|row| Some((row.entry.seq, edited(&row.entry)?))).collect();
        messages.get(number % messages.len().max(1)).copied()
    }

    fn head(&self) -> Seq {
        self.entries.len() as Seq
    }

    /// The append of the entries `from + 1 ..= to`, with a snapshot as of `snapshot`.
    fn append(&self, from: usize, to: usize, snapshot: Option<usize>) -> Append {
        Append {
            partition: self.chat.partition(),
            position: at(1, to as Seq),
            chats: vec![ChatAppend {
                chat: self.chat,
                members: self.members[from..to].concat(),
                roles: self.roles[from..to].iter().flatten().copied().collect(),
                rows: self.entries[from..to].to_vec(),
                snapshot: snapshot.map(|head| self.folds[head - 1].snapshot().encode_to_vec().into()),
            }],
        }
    }
}

pub(crate) async fn an_unknown_chat_is_none(store: &Store) {
    assert_eq!(store.load_chat(new_chat(new_partition())).await.unwrap(), None);
}

pub(crate) async fn a_chat_without_snapshot_is_the_fold_of_its_rows(store: &Store) {
    let told = tell(new_chat(new_partition()), &[new_user(), new_user()], &[Step::Say, Step::Add(1), Step::Say]);
    store.append(told.append(0, 4, None)).await.unwrap();
    assert_eq!(store.load_chat(told.chat).await.unwrap().as_ref(), told.folds.last());
    // More rows than one page holds.
    let told = tell(new_chat(new_partition()), &[new_user()], &[Step::Say; 2_500]);
    store.append(told.append(0, 2_501, None)).await.unwrap();
    assert_eq!(store.load_chat(told.chat).await.unwrap().as_ref(), told.folds.last());
}

pub(crate) async fn members_are_those_of_the_snapshot_then_folded_on(store: &Store) {
    let users = [new_user(), new_user(), new_user()];
    let steps = [Step::Add(1), Step::Say, Step::Remove(1), Step::Add(2), Step::Add(1)];
    let told = tell(new_chat(new_partition()), &users, &steps);
    // Written: all six entries and their members; the snapshot is from before the removal.
    store.append(told.append(0, 6, Some(3))).await.unwrap();
    let loaded = store.load_chat(told.chat).await.unwrap().unwrap();
    assert_eq!(Some(&loaded), told.folds.last());
    assert_eq!(loaded.members()[&users[1]].joined_seq, 6);
}

pub(crate) async fn a_role_is_that_of_the_latest_entry_however_late_the_others_come(store: &Store) {
    let users = [new_user(), new_user()];
    let steps = [Step::Add(1), Step::Give(1, Role::Admin), Step::Say, Step::Give(1, Role::Reader), Step::Remove(1)];
    let told = tell(new_chat(new_partition()), &users, &steps);
    let role = async || {
        let members = store.members(told.chat, 0, crate::rows::soon()).await.unwrap();
        let stay = members.iter().find(|row| row.user == users[1]).copied().unwrap();
        (stay.joined_seq, stay.role, stay.left_seq)
    };
    store.append(told.append(0, 3, Some(1))).await.unwrap();
    assert_eq!(role().await, (2, Role::Admin, None));
    store.append(told.append(3, 5, None)).await.unwrap();
    assert_eq!(role().await, (2, Role::Reader, None));
    // A stale owner says again what it decided first.
    store.append(told.append(0, 3, None)).await.unwrap();
    assert_eq!(role().await, (2, Role::Reader, None));
    assert_eq!(store.load_chat(told.chat).await.unwrap().as_ref(), told.folds.get(4));
    store.append(told.append(5, 6, None)).await.unwrap();
    assert_eq!(role().await, (2, Role::Reader, Some(6)));
    store.append(told.append(2, 5, None)).await.unwrap();
    assert_eq!(role().await, (2, Role::Reader, Some(6)));
    assert_eq!(store.load_chat(told.chat).await.unwrap().as_ref(), told.folds.last());
}

pub(crate) async fn a_log_without_its_beginning_is_an_error(store: &Store) {
    let (user, chat) = (new_user(), new_chat(new_partition()));
    let mut headless = rows(chat, user, 2..=3);
    headless[0].entry.seq = 1;
    headless[0].bytes = headless[0].entry.encode();
    store.append(append(chat, at(1, 1), headless)).await.unwrap();
    let refused = store.load_chat(chat).await;
    assert!(matches!(refused, Err(Error::Corrupt { table: "chat_log", .. })), "{refused:?}");
}

pub(crate) async fn any_snapshot_and_any_split_give_the_same_chat(store: &Store) {
    let role = prop::sample::select(vec![Role::Owner, Role::Admin, Role::Member, Role::Reader]);
    let step = prop_oneof![
        Just(Step::Say),
        (0..4_usize).prop_map(Step::Add),
        (0..4_usize).prop_map(Step::Remove),
        (0..4_usize, role).prop_map(|(number, role)| Step::Give(number, role)),
        (0..9_usize).prop_map(Step::Edit),
        (0..9_usize).prop_map(Step::Delete),
    ];
    // After which entries an append ends, and how far back its snapshot lies, if it has one.
    let tales = (vec(step, 0..40), vec((1..6_usize, prop::option::of(0..8_usize)), 1..20));
    let mut runner = TestRunner::new(Config { cases: cases(store), failure_persistence: None, ..Config::default() });
    let handle = tokio::runtime::Handle::current();
    let partition = new_partition();
    tokio::task::block_in_place(|| {
        runner
            .run(&tales, |(steps, splits)| {
                let users = [new_user(), new_user(), new_user(), new_user()];
                let told = tell(new_chat(partition), &users, &steps);
                let mut stored = 0;
                for (size, back) in splits {
                    let to = (stored + size).min(told.head() as usize);
                    let snapshot = back.map(|back| to.saturating_sub(back).max(1));
                    let loaded = handle.block_on(async {
                        store.append(told.append(stored, to, snapshot)).await.unwrap();
                        store.load_chat(told.chat).await.unwrap()
                    });
                    prop_assert_eq!(loaded.as_ref(), told.folds.get(to - 1));
                    let page = handle.block_on(store.history(told.chat, 0, 100, 1 << 20)).unwrap();
                    prop_assert_eq!(page.rows, folded(&told.entries[..to]));
                    stored = to;
                }
                Ok(())
            })
            .unwrap();
    });
}
