//! Recipients, numbers, acks and owner changes.

use proptest::prelude::*;

use super::*;

#[test]
fn an_entry_goes_to_members_before_it_and_after_it() {
    let mut rig = Rig::new(Rules::ALL);
    rig.online(G1, 1, &[1, 2, 3]);
    let mut chat = Chat::new(1);
    let entries = [
        chat.created(&[1, 2]),
        chat.message(1),
        chat.entry(1, Event::MemberAdded { member: member(3) }),
        chat.entry(1, Event::MemberRemoved { user: user(2) }),
        chat.message(1),
        chat.entry(3, Event::MemberLeft),
        chat.message(1),
    ];
    rig.record(&entries);
    let seen = rig.take();
    assert_eq!(seen.seqs(101), [1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(seen.seqs(102), [1, 2, 3, 4], "the removal is the last that a removed member gets");
    assert_eq!(seen.seqs(103), [3, 4, 5, 6], "from the joining to the leaving");
}

fn imported(chat: &mut Chat) -> Vec<LoggedEntry> {
    let begun = Event::ImportBegun { kind: ChatKind::Group, import: domain::ImportId::new([8; 16]) };
    let said = || Event::MessageSent(domain::Message::plain("long ago"));
    vec![
        chat.imported(1, begun),
        chat.imported(2, said()),
        chat.imported(9, said()),
        chat.imported(1, Event::ImportEnded { members: vec![member(1), member(2)] }),
        chat.message(1),
    ]
}

#[test]
fn of_an_import_its_end_alone_goes_out_and_all_of_it_is_seen() {
    let mut rig = Rig::new(Rules::ALL);
    rig.online(G1, 1, &[1, 2, 9]);
    let mut chat = Chat::new(1);
    for entry in imported(&mut chat) {
        rig.record(&[entry]);
        // Nobody is in it yet, so nobody can claim anything.
        rig.receipt(chat.id, 9, 1, 1);
    }
    let seen = rig.take();
    assert_eq!((seen.seqs(101), seen.seqs(102), seen.seqs(109)), (vec![4, 5], vec![4, 5], vec![]));
    rig.receipt(chat.id, 2, 3, 3);
    let statuses = rig.take().statuses;
    assert_eq!(statuses.iter().flatten().map(|status| status.seen).collect::<Vec<_>>(), [4], "as of the end");
}

#[test]
fn an_owner_that_reads_an_import_again_pushes_none_of_it_though_the_rows_have_its_members() {
    let mut rig = Rig::new(Rules::ALL);
    rig.online(G1, 1, &[1, 2]);
    let mut chat = Chat::new(1);
    let entries = imported(&mut chat);
    entries.iter().for_each(|entry| rig.append(entry));
    // From the middle, cold: the store has all of it.
    rig.record_unappended(&entries[2..]);
    let seen = rig.take();
    assert_eq!((seen.seqs(101), seen.seqs(102)), (vec![4, 5], vec![4, 5]));
}

#[test]
fn each_gateway_gets_the_bytes_once_with_all_its_sessions_and_numbers_of_its_own() {
    let mut rig = Rig::new(Rules::ALL);
    rig.online(G1, 1, &[1, 2, 3]);
    rig.online(G2, 1, &[2]);
    let mut chat = Chat::new(1);
    let first = chat.created(&[1, 2, 3]);
    rig.record(&[first]);
    let second = chat.message(1);
    rig.record(std::slice::from_ref(&second));
    let seen = rig.take();
    assert_eq!(seen.numbers(G1), [1, 2]);
    assert_eq!(seen.numbers(G2), [1, 2]);
    let (_, last) = seen.batches.iter().rfind(|(to, _)| to.0 == G1).unwrap();
    assert_eq!(last.pushes.len(), 1);
    // Those of the sender come last.
    assert_eq!((&last.pushes[0].sessions[..], last.pushes[0].own), (&[102, 103, 101][..], 1));
    assert_eq!(last.pushes[0].what, Some(What::Entry(second.bytes)));
    assert_eq!((last.owner, last.epoch, last.partition), (5, EPOCH.0, 3));
}

#[test]
fn a_cold_chat_waits_for_the_row_before_and_nothing_overtakes_it() {
    let mut rig = Rig::new(Rules::ALL);
    rig.online(G1, 1, &[1, 2, 9]);
    let mut cold = Chat::new(1);
    let old = [cold.created(&[1]), cold.entry(1, Event::MemberAdded { member: member(9) })];
    rig.append(&old[0]);
    rig.answers = false;
    let mut other = Chat::new(2);
    let (late, fresh) = (cold.message(1), other.created(&[2]));
    rig.record_unappended(&[late, fresh]);
    let seen = rig.take();
    assert_eq!(seen.loads, [(chat(1), 2, Patience::Long)]);
    assert!(seen.batches.is_empty(), "a record is expanded as a whole");
    assert!(!rig.machine.wants_events());
    // The row is not there: asked again at the tick.
    rig.feed(Input::Members { chat: chat(1), at_least: 2, patience: Patience::Long, rows: None });
    rig.feed(Input::Tick);
    assert_eq!(rig.take().loads, [(chat(1), 2, Patience::Long)]);
    rig.append(&old[1]);
    let rows = rig.members(chat(1), 2);
    rig.feed(Input::Members { chat: chat(1), at_least: 2, patience: Patience::Long, rows });
    let seen = rig.take();
    assert_eq!(seen.seqs(109), [3], "added by the row that was waited for");
    assert_eq!(seen.seqs(102), [1]);
    assert!(rig.machine.wants_events());
}

#[test]
fn members_are_those_of_the_entry_before_though_the_store_knows_more() {
    let mut chat = Chat::new(1);
    let log = [
        chat.created(&[1, 2]),
        chat.message(1),
        chat.entry(1, Event::MemberAdded { member: member(3) }),
        chat.entry(1, Event::MemberRemoved { user: user(2) }),
        chat.message(1),
    ];
    // All is stored; the new owner's checkpoint lies before each of the later entries in turn.
    for (after, of_2, of_3) in [(1, &[2, 3, 4][..], &[3, 4, 5][..]), (3, &[4], &[4, 5]), (4, &[], &[5])] {
        let mut rig = Rig::new(Rules::ALL);
        rig.online(G1, 1, &[1, 2, 3]);
        for logged in &log {
            rig.append(logged);
        }
        rig.sequence = after;
        rig.feed(Input::Took { owner: TenureId(6), epoch: EPOCH, after });
        for logged in &log[usize::try_from(after).unwrap()..] {
            rig.record_unappended(std::slice::from_ref(logged));
        }
        let seen = rig.take();
        assert_eq!((seen.seqs(102).as_slice(), seen.seqs(103).as_slice()), (of_2, of_3), "after {after}");
    }
}

#[test]
fn without_m18_a_member_whose_row_was_not_there_yet_gets_nothing() {
    let rules = Rules::without("m18").unwrap();
    let mut rig = Rig::new(rules);
    rig.online(G1, 1, &[1, 9]);
    let mut cold = Chat::new(1);
    let old = [cold.created(&[1]), cold.entry(1, Event::MemberAdded { member: member(9) })];
    rig.append(&old[0]);
    let late = cold.message(1);
    rig.record_unappended(&[late]);
    assert!(!rig.rules.m18);
    assert_eq!(rig.take().seqs(109), [] as [Seq; 0]);
}

#[test]
fn an_ack_says_what_is_expanded_and_never_lies_inside_a_record() {
    let mut rig = Rig::new(Rules::ALL);
    let mut hot = Chat::new(1);
    let first = hot.created(&[1]);
    rig.record(&[first]);
    let mut cold = Chat::new(2);
    let old = cold.created(&[2]);
    rig.append(&old);
    rig.answers = false;
    let (a, b) = (hot.message(1), cold.message(2));
    rig.record(&[a, b]);
    rig.online(G1, 4, &[1]);
    let ack = rig.take().acks.remove(0);
    assert_eq!((ack.version, ack.as_of, ack.last_batch, ack.owner), (4, 1, 0, 5));
    // So the session that was acknowledged as of 1 gets all of record 2, its first entry too.
    let rows = rig.members(chat(2), 1);
    rig.feed(Input::Members { chat: chat(2), at_least: 1, patience: Patience::Long, rows });
    assert_eq!(rig.take().seqs(101), [2]);
}

#[test]
fn once_a_second_each_gateway_hears_how_far_and_the_checkpoint_moves() {
    let mut rig = Rig::new(Rules::ALL);
    rig.online(G1, 1, &[1]);
    rig.online(G2, 1, &[7]);
    let mut chat = Chat::new(1);
    let first = chat.created(&[1]);
    rig.record(&[first]);
    rig.take();
    rig.feed(Input::Tick);
    let seen = rig.take();
    let throughs: Vec<_> = seen.throughs.iter().map(|(to, t)| (to.0, t.events, t.last_batch)).collect();
    assert_eq!(throughs, [(G1, 1, 1), (G2, 1, 0)], "M16: the last batch number is told");
    assert_eq!(seen.checkpoints, [1]);
    rig.feed(Input::Tick);
    assert!(rig.take().checkpoints.is_empty(), "nothing moved");
}

#[test]
fn a_gateway_that_was_forgotten_sees_a_number_missing() {
    let mut rig = Rig::new(Rules::ALL);
    rig.online(G1, 1, &[1]);
    let mut chat = Chat::new(1);
    let first = chat.created(&[1]);
    rig.record(&[first]);
    rig.feed(Input::Forgotten(GatewayId(G1)));
    rig.online(G1, 2, &[1]);
    let second = chat.message(1);
    rig.record(&[second]);
    let seen = rig.take();
    assert_eq!(seen.numbers(G1), [1, 3]);
    assert_eq!(seen.acks.last().unwrap().last_batch, 2);
}

#[test]
fn hot_chats_stay_within_their_bytes_and_cold_ones_are_loaded_again() {
    let settings = Settings { hot_bytes_max: 4_096, ..Settings::default() };
    let mut rig = Rig::with(Rules::ALL, settings);
    rig.online(G1, 1, &[1]);
    let mut chats: Vec<Chat> = (0..50).map(Chat::new).collect();
    for chat in &mut chats {
        let first = chat.created(&[1]);
        rig.record(&[first]);
        assert!(rig.machine.hot().bytes() <= 4_096);
    }
    let again = chats[0].message(1);
    rig.record(&[again]);
    assert_eq!(rig.take().seqs(101).len(), 51);
    assert!(rig.machine.hot().len() < 50);
}

#[test]
fn large_batches_are_cut_below_what_a_message_may_carry() {
    let mut rig = Rig::new(Rules::ALL);
    rig.online(G1, 1, &[1]);
    let mut chat = Chat::new(1);
    let first = chat.created(&[1]);
    let mut entries = vec![first];
    for _ in 0..40 {
        entries.push(chat.entry(1, Event::MessageSent(domain::Message::plain(vec![0; 16 * 1024]))));
    }
    rig.record(&entries);
    let seen = rig.take();
    assert_eq!(seen.numbers(G1), [1, 2, 3]);
    assert!(seen.batches.iter().all(|(_, batch)| prost::Message::encoded_len(batch) < 300 * 1024));
    assert_eq!(seen.seqs(101).len(), 41);
}

proptest! {
    /// Owners come and go at any point, each starts from the kept checkpoint: a session that is there all the time is
    /// pushed every event, in order when repeats are left out; and each owner's numbers are 1, 2, 3 … without a hole.
    #[test]
    fn owner_changes_lose_no_event(
        steps in prop::collection::vec((0..4_u64, 0..3_u8, 0..10_u8), 1..60),
    ) {
        let mut rig = Rig::new(Rules::ALL);
        rig.online(G1, 1, &[1, 2]);
        let mut chats: Vec<Chat> = (0..4).map(Chat::new).collect();
        let mut log: Vec<Vec<LoggedEntry>> = Vec::new();
        let (mut owner, mut checkpoint) = (5, 0);
        let mut got: BTreeMap<ChatId, Vec<Seq>> = BTreeMap::new();
        let mut numbers: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        for (which, sender, fate) in steps {
            let chat = &mut chats[usize::try_from(which).unwrap()];
            let entry = if chat.seq == 0 { chat.created(&[0, 1, 2]) } else { chat.message(sender) };
            log.push(vec![entry.clone()]);
            rig.record(&[entry]);
            match fate {
                0 => rig.feed(Input::Tick),
                1 => {
                    // All that the new owner knows is the checkpoint that was kept.
                    owner += 1;
                    rig.machine = Expansion::new(P, Rules::ALL, Settings::default());
                    let kept = checkpoint;
                    rig.feed(Input::Took { owner: TenureId(owner), epoch: EPOCH, after: kept });
                    let records = log.iter().enumerate().skip(usize::try_from(kept).unwrap());
                    let records = records.map(|(place, entries)| {
                        EventRecord { sequence: place as u64 + 1, entries: entries.clone() }
                    });
                    rig.feed(Input::Events(records.collect()));
                }
                _ => {}
            }
            let seen = rig.take();
            checkpoint = seen.checkpoints.last().copied().unwrap_or(checkpoint);
            for (chat, seq) in seen.entries().remove(&101).unwrap_or_default() {
                got.entry(chat).or_default().push(seq);
            }
            for (_, batch) in seen.batches {
                numbers.entry(batch.owner).or_default().push(batch.number);
            }
        }
        for chat in &chats {
            let mut known = 0;
            for seq in got.remove(&chat.id).unwrap_or_default() {
                prop_assert!(seq <= known + 1, "a hole before {}", seq);
                known = known.max(seq);
            }
            prop_assert_eq!(known, chat.seq);
        }
        for (_, numbers) in numbers {
            let dense: Vec<u64> = (1..=numbers.len() as u64).collect();
            prop_assert_eq!(numbers, dense);
        }
    }
}
