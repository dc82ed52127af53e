//! Correct histories pass, whatever their shape; a history survives being kept as text.

use checker::{Client, Error, Invariant, Line, Observation, Report, SendKey, Via, check, dump, load};
use proptest::prelude::*;

use crate::world;

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    #[test]
    fn a_correct_history_has_no_fault(seed in any::<u64>(), steps in 0usize..600) {
        let report = check(&world::history(seed, steps));
        prop_assert!(report.is_clean(), "{report}");
    }
}

#[test]
fn counts_say_how_much_was_looked_at() {
    let history = world::history(7, 2_000);
    let counts = check(&history).counts;
    let lines = |wanted: fn(&Observation) -> bool| history.iter().filter(|line| wanted(&line.saw)).count() as u64;
    assert_eq!(counts.sends, lines(|saw| matches!(saw, Observation::Sent { .. })));
    assert_eq!(counts.watermarks, lines(|saw| matches!(saw, Observation::Watermark { .. })));
    assert_eq!(counts.pushed + counts.read, lines(|saw| matches!(saw, Observation::Entry { .. })));
    assert!(counts.entries > 100 && counts.rejected > 0 && counts.caught_up > 0, "{counts:?}");
    assert_eq!(counts.members_unread, 0);
}

#[test]
fn a_history_is_judged_the_same_after_it_was_kept() {
    let history = world::history(11, 400);
    let mut kept = Vec::new();
    dump(&history, &mut kept).unwrap();
    assert_eq!(load(&kept[..]).unwrap(), history);
}

#[test]
fn a_damaged_history_names_its_line() {
    let mut kept = Vec::new();
    dump(&world::history(11, 10), &mut kept).unwrap();
    let damaged = String::from_utf8(kept).unwrap().replacen("Connected", "Connecting", 1);
    let error = load(damaged.as_bytes()).unwrap_err();
    assert!(matches!(error, Error::Line { line: 2, .. }), "{error:?}");
}

#[test]
fn lines_out_of_order_are_sorted_before_they_are_judged() {
    let mut history = world::history(13, 400);
    history.reverse();
    let report = check(&history);
    assert!(report.is_clean(), "{report}");
}

#[test]
fn a_client_that_stopped_owes_nothing() {
    let mut history = world::history(17, 100);
    let Some(Line { client, saw: Observation::Sent { send, .. }, .. }) =
        history.iter().find(|line| matches!(line.saw, Observation::Sent { .. })).cloned()
    else {
        panic!("someone sends something");
    };
    let send = SendKey { n: 1_000_000, origin: 5, ..send };
    let mut add = |client: Client, saw| history.push(Line { index: history.len() as u64, client, saw });
    add(client, Observation::Sent { send, content: None, at: 0 });
    add(client, Observation::Accepted { send });
    let open = check(&history);
    assert!(open.breaks(Invariant::N1));
    history.push(Line { index: history.len() as u64, client, saw: Observation::Stopped });
    let report = check(&history);
    assert!(report.is_clean(), "{report}");
}

#[test]
fn faults_beyond_the_bound_are_counted_only() {
    let mut history = world::history(19, 2_000);
    history.retain(|line| !matches!(line.saw, Observation::FinalHistory { .. }));
    for line in &mut history {
        if let Observation::Entry { entry, .. } = &mut line.saw {
            entry.chat = checker::Chat::from([(line.index % 200) as u8; 16]);
        }
    }
    let report = check(&history);
    assert!(report.totals[&Invariant::Record] > checker::FAULTS_KEPT as u64);
    assert_eq!(report.faults.iter().filter(|fault| fault.invariant == Invariant::Record).count(), checker::FAULTS_KEPT);
}

/// A device is told head 2 and pushed seq 3 in one epoch; in the other it is told `head`, and reads seq 1 of history.
fn caught_up_with_seq_1((first, second): (u64, u64), head: u64) -> Report {
    let mut history = world::history(23, 400);
    let whole = history.iter().find_map(|line| match &line.saw {
        Observation::FinalHistory { chat, reader, entries, .. }
            if entries.get(2).is_some_and(|third| third.seq == 3) =>
        {
            Some((*chat, *reader, entries.clone()))
        }
        _ => None,
    });
    let Some((chat, user, entries)) = whole else { panic!("someone is in a chat from its start") };
    let (partition, [one, _, three]) = (chat.partition(), [&entries[0], &entries[1], &entries[2]]);
    let lines = [
        Observation::Started { user, device: "late".to_owned() },
        Observation::Connected,
        Observation::Ready { partition, epoch: first },
        Observation::HeadTold { chat, head: 2 },
        Observation::Entry { via: Via::Push, epoch: first, entry: three.clone() },
        Observation::Disconnected,
        Observation::Connected,
        Observation::Ready { partition, epoch: second },
        Observation::HeadTold { chat, head },
        Observation::Entry { via: Via::History, epoch: second, entry: one.clone() },
        Observation::HistoryAnswer { chat, after: 0, through: 1, seqs: vec![1] },
        Observation::Shown { chat, seq: 1, replaces: false },
        Observation::CaughtUp { partition },
        Observation::Disconnected,
    ];
    for saw in lines {
        history.push(Line { index: history.len() as u64, client: Client(99), saw });
    }
    check(&history)
}

#[test]
fn a_later_epoch_owes_only_what_it_told_itself() {
    let report = caught_up_with_seq_1((1_000, 1_001), 1);
    assert!(report.is_clean(), "{report}");
    assert!(caught_up_with_seq_1((1_000, 1_000), 1).breaks(Invariant::N4));
    assert!(caught_up_with_seq_1((1_000, 1_001), 2).breaks(Invariant::N4));
}
