//! The timeline against a model of a chat's log, whatever is lost, repeated or late on the way.

use proptest::prelude::*;

use proto::v1::ErrorCode;

use super::*;
use crate::machine::mixed;

const CHAT: ChatId = ChatId([0, 0, 0, 0, 0, 0, 0x70, 0, 0x80, 0, 0, 0, 0, 0, 0, 1]);
const ME: UserId = UserId([1; 16]);

fn entry(seq: u64, text: &str) -> Entry {
    let event =
        entry::Event::MessageSent(v1::MessageSent { body: text.to_owned().into(), ..v1::MessageSent::default() });
    let entry = v1::Entry { chat: CHAT.to_wire(), seq, event: Some(event), ..v1::Entry::default() };
    Entry::new(entry).unwrap()
}

fn push(epoch: u64, seq: u64) -> TimelineInput {
    TimelineInput::Pushed { epoch, entry: entry(seq, &format!("{epoch}-{seq}")) }
}

fn heads(head: u64, current: bool) -> TimelineInput {
    let heads = vec![v1::Head { chat: CHAT.to_wire(), head, ..v1::Head::default() }];
    TimelineInput::Heads(v1::Heads { partition: 0, heads, last: true, current })
}

fn ready(epoch: u64) -> TimelineInput {
    TimelineInput::Ready(v1::Ready { partition: 0, epoch, as_of: 0 })
}

fn timeline(rules: Rules) -> (Timeline, Vec<TimelineAction>) {
    let (mut timeline, mut actions) =
        (Timeline::new(rules, TimelineBounds::default(), Progress::default()), Vec::new());
    timeline.handle(0, TimelineInput::Opened(ME), &mut actions);
    (timeline, actions)
}

fn shown(actions: &[TimelineAction]) -> Vec<u64> {
    let each = actions.iter().filter_map(|action| match action {
        TimelineAction::Show { entry, .. } => Some(entry.entry.seq),
        TimelineAction::Fetch { .. }
        | TimelineAction::Known { .. }
        | TimelineAction::Unreadable { .. }
        | TimelineAction::Report { .. }
        | TimelineAction::CaughtUp { .. } => None,
    });
    each.collect()
}

fn fetches(actions: &[TimelineAction]) -> Vec<(u64, u64, u64)> {
    let each = actions.iter().filter_map(|action| {
        if let TimelineAction::Fetch { request, after, at_least, .. } = action {
            Some((*request, *after, *at_least))
        } else {
            None
        }
    });
    each.collect()
}

fn is_caught_up(actions: &[TimelineAction]) -> bool {
    actions.iter().any(|action| matches!(action, TimelineAction::CaughtUp { .. }))
}

fn page(request: u64, epoch: u64, seqs: std::ops::RangeInclusive<u64>, through: u64) -> TimelineInput {
    let entries = seqs.map(|seq| entry(seq, &format!("{epoch}-{seq}"))).collect();
    TimelineInput::History { request, epoch, through, entries }
}

#[test]
fn an_entry_of_a_kind_that_is_not_known_counts_as_known() {
    let (mut timeline, mut actions) = timeline(Rules::ALL);
    for input in [ready(1), heads(3, true), push(1, 1)] {
        timeline.handle(1, input, &mut actions);
    }
    // As a binary frame of a newer server decodes: all but the event.
    let newer = Entry::new(v1::Entry { event: None, ..entry(2, "").entry }).unwrap();
    timeline.handle(1, TimelineInput::Pushed { epoch: 1, entry: newer }, &mut actions);
    assert!(!is_caught_up(&actions));
    timeline.handle(1, push(1, 3), &mut actions);
    assert_eq!(shown(&actions), [1, 2, 3]);
    assert!(is_caught_up(&actions));
}

#[test]
fn a_gap_is_filled_from_history_and_what_was_held_follows() {
    let (mut timeline, mut actions) = timeline(Rules::ALL);
    for seq in [1, 4, 3, 1] {
        timeline.handle(1, push(1, seq), &mut actions);
    }
    assert_eq!(shown(&actions), [1]);
    let (request, after, at_least) = fetches(&actions)[0];
    // Stored through what was pushed beyond the gap: that may be the entry that let this user in.
    assert_eq!((after, at_least), (1, 4));
    timeline.handle(2, page(request, 1, 2..=3, 3), &mut actions);
    assert_eq!(shown(&actions), [1, 2, 3, 4]);
}

#[test]
fn caught_up_needs_ready_current_heads_and_all_chats_fetched() {
    let (mut timeline, mut actions) = timeline(Rules::ALL);
    timeline.handle(1, heads(2, true), &mut actions);
    timeline.handle(1, ready(1), &mut actions);
    timeline.handle(1, heads(2, false), &mut actions);
    let (request, ..) = fetches(&actions)[0];
    timeline.handle(1, page(request, 1, 1..=2, 2), &mut actions);
    assert!(!is_caught_up(&actions), "the heads were not current");
    timeline.handle(1, heads(3, true), &mut actions);
    assert!(!is_caught_up(&actions), "3 is missing");
    timeline.handle(1, push(1, 3), &mut actions);
    assert!(is_caught_up(&actions));
    actions.clear();
    timeline.handle(2, ready(1), &mut actions);
    assert!(!timeline.is_caught_up(0), "a resync starts over (M19)");
    timeline.handle(2, heads(3, true), &mut actions);
    assert!(is_caught_up(&actions));
}

#[test]
fn through_counts_as_known_also_where_nothing_is_shown() {
    for (rules, caught_up) in [(Rules::ALL, true), (Rules { m22: false, ..Rules::ALL }, false)] {
        let (mut timeline, mut actions) = timeline(rules);
        timeline.handle(1, ready(1), &mut actions);
        timeline.handle(1, heads(9, true), &mut actions);
        let (request, ..) = fetches(&actions)[0];
        timeline.handle(1, TimelineInput::History { request, epoch: 1, through: 9, entries: vec![] }, &mut actions);
        assert_eq!(is_caught_up(&actions), caught_up, "M22");
    }
}

#[test]
fn what_history_shows_above_through_may_have_holes_below_and_is_held() {
    let (mut timeline, mut actions) = timeline(Rules::ALL);
    timeline.handle(1, heads(5, true), &mut actions);
    let (request, ..) = fetches(&actions)[0];
    let entries = [1, 2, 5].map(|seq| entry(seq, &format!("1-{seq}"))).to_vec();
    timeline.handle(1, TimelineInput::History { request, epoch: 1, through: 2, entries }, &mut actions);
    assert_eq!((shown(&actions), timeline.known(CHAT)), (vec![1, 2], 2));
    let (request, after, at_least) = fetches(&actions)[1];
    assert_eq!((after, at_least), (2, 5));
    timeline.handle(1, page(request, 1, 3..=4, 4), &mut actions);
    assert_eq!(shown(&actions), [1, 2, 3, 4, 5]);
}

#[test]
fn a_refusal_counts_for_what_was_said_to_exist_when_it_was_asked() {
    let (mut timeline, mut actions) = timeline(Rules::ALL);
    timeline.handle(1, ready(1), &mut actions);
    timeline.handle(1, heads(2, true), &mut actions);
    let (request, ..) = fetches(&actions)[0];
    // The entry that lets this user in comes as a push while the request is under way.
    timeline.handle(2, push(1, 5), &mut actions);
    actions.clear();
    let refused =
        |request| TimelineInput::Refused { request, code: ErrorCode::NotAMember, retryable: false, retry_after_us: 0 };
    timeline.handle(3, refused(request), &mut actions);
    assert!(!is_caught_up(&actions));
    let (request, after, at_least) = fetches(&actions)[0];
    assert_eq!((after, at_least), (0, 5));
    timeline.handle(4, refused(request), &mut actions);
    assert!(is_caught_up(&actions), "nothing more is said to exist");
}

#[test]
fn a_request_that_a_lost_socket_took_along_does_not_stop_the_next_one() {
    let (mut timeline, mut actions) = timeline(Rules::ALL);
    timeline.handle(1, heads(2, true), &mut actions);
    timeline.handle(1, push(1, 1), &mut actions);
    timeline.handle(1, push(1, 2), &mut actions);
    // Nothing is missing any more, but the request was never answered.
    timeline.handle(2, TimelineInput::Closed, &mut actions);
    timeline.handle(3, TimelineInput::Opened(ME), &mut actions);
    actions.clear();
    timeline.handle(4, heads(3, true), &mut actions);
    assert_eq!(fetches(&actions).len(), 1);
}

#[test]
fn another_epoch_is_refetched_above_the_common_head() {
    let (mut timeline, mut actions) = timeline(Rules::ALL);
    for seq in 1..=40 {
        timeline.handle(1, push(1, seq), &mut actions);
    }
    actions.clear();
    timeline.handle(2, ready(2), &mut actions);
    // 39 and 40 were lost with the old epoch's tail; another 39 took their place.
    let (request, after, _) = fetches(&actions)[0];
    assert_eq!(after, 8, "the oldest that can be compared");
    let mut entries: Vec<_> = (9..=38).map(|seq| entry(seq, &format!("1-{seq}"))).collect();
    entries.push(entry(39, "2-39"));
    timeline.handle(2, TimelineInput::History { request, epoch: 2, through: 39, entries }, &mut actions);
    assert_eq!(shown(&actions), [39]);
    assert!(actions.iter().any(|action| matches!(action, TimelineAction::Show { replaces: true, .. })), "M7");
    let (request, after, _) = fetches(&actions)[1];
    assert_eq!(after, 39);
    timeline.handle(3, heads(39, true), &mut actions);
    timeline.handle(3, TimelineInput::History { request, epoch: 2, through: 39, entries: vec![] }, &mut actions);
    timeline.handle(3, ready(2), &mut actions);
    timeline.handle(3, heads(39, true), &mut actions);
    assert!(is_caught_up(&actions));
    actions.clear();
    timeline.handle(4, push(1, 40), &mut actions);
    assert!(shown(&actions).is_empty(), "a late push of the old epoch is dropped");
}

#[test]
fn when_even_the_oldest_kept_differs_everything_is_fetched() {
    let (mut timeline, mut actions) = timeline(Rules::ALL);
    for seq in 1..=40 {
        timeline.handle(1, push(1, seq), &mut actions);
    }
    actions.clear();
    timeline.handle(2, ready(2), &mut actions);
    let (request, ..) = fetches(&actions)[0];
    timeline.handle(2, page(request, 2, 9..=20, 20), &mut actions);
    assert!(shown(&actions).is_empty());
    assert_eq!(fetches(&actions)[1].1, 0);
}

#[test]
fn history_that_is_not_there_yet_is_asked_again() {
    let (mut timeline, mut actions) = timeline(Rules::ALL);
    timeline.handle(1, heads(2, true), &mut actions);
    let (request, ..) = fetches(&actions)[0];
    let refused = TimelineInput::Refused { request, code: ErrorCode::NotYet, retryable: true, retry_after_us: 0 };
    timeline.handle(2, refused, &mut actions);
    assert_eq!(fetches(&actions).len(), 1);
    timeline.handle(timeline.deadline().unwrap(), TimelineInput::Tick, &mut actions);
    assert_eq!(fetches(&actions).len(), 2);
}

#[test]
fn what_arrives_is_claimed_until_echoed() {
    let (mut timeline, mut actions) = timeline(Rules::ALL);
    timeline.handle(1, push(1, 1), &mut actions);
    let reports = |actions: &[TimelineAction]| {
        actions.iter().filter(|action| matches!(action, TimelineAction::Report { .. })).count()
    };
    assert_eq!(reports(&actions), 1);
    let again = timeline.deadline().unwrap();
    timeline.handle(again, TimelineInput::Tick, &mut actions);
    assert_eq!(reports(&actions), 2, "M20");
    timeline.handle(again, TimelineInput::Echo { chat: CHAT, delivered: 1, seen: 0 }, &mut actions);
    assert_eq!(timeline.deadline(), None);
}

/// Pushes lost, repeated and late, sockets cut, history short: each seq is shown once, in order, all of them.
fn run(seed: u64, total: u64) -> Result<(), String> {
    let mut bits = seed;
    let mut draw = |below: u64| {
        bits = mixed(bits.wrapping_add(0x9e37_79b9_7f4a_7c15));
        bits % below
    };
    let bounds = TimelineBounds { held: 4, ..TimelineBounds::default() };
    let (mut timeline, mut actions) = (Timeline::new(Rules::ALL, bounds, Progress::default()), Vec::new());
    timeline.handle(0, TimelineInput::Opened(ME), &mut actions);
    let (mut head, mut told, mut now, mut next) = (0, 0, 0, 1);
    let mut asked = VecDeque::<(u64, u64, u64)>::new();
    let mut late = Vec::new();
    for step in 0..6_000 {
        let calm = step > 3_000;
        now += draw(300_000);
        match draw(7) {
            0 | 1 if head < total => {
                head += 1;
                match draw(4) {
                    0 => {}
                    1 => late.push(head),
                    _ => timeline.handle(now, push(1, head), &mut actions),
                }
            }
            2 if !late.is_empty() => {
                let at = draw(late.len() as u64) as usize;
                timeline.handle(now, push(1, late[at]), &mut actions);
                if draw(2) == 0 {
                    late.swap_remove(at);
                }
            }
            3 => {
                if let Some((request, after, at_least)) = asked.pop_front()
                    && (calm || draw(5) > 0)
                {
                    // The store may be behind the log, and a page is short.
                    let kept = if calm { head } else { head.saturating_sub(draw(3)) };
                    let through = (after + 1 + draw(3)).min(kept);
                    if at_least > kept {
                        let code = ErrorCode::NotYet;
                        let refused = TimelineInput::Refused { request, code, retryable: true, retry_after_us: 0 };
                        timeline.handle(now, refused, &mut actions);
                    } else {
                        timeline.handle(now, page(request, 1, after + 1..=through, through.max(after)), &mut actions);
                    }
                }
            }
            4 if !calm && draw(10) == 0 => {
                timeline.handle(now, TimelineInput::Closed, &mut actions);
                asked.clear();
                late.clear();
                timeline.handle(now, TimelineInput::Opened(ME), &mut actions);
            }
            5 => {
                timeline.handle(now, ready(1), &mut actions);
                timeline.handle(now, heads(head, true), &mut actions);
                told = head;
            }
            _ => timeline.handle(now, TimelineInput::Tick, &mut actions),
        }
        for action in actions.drain(..) {
            match action {
                TimelineAction::Show { entry, .. } => {
                    if entry.entry.seq != next {
                        return Err(format!("{} shown where {next} was due", entry.entry.seq));
                    }
                    next += 1;
                }
                TimelineAction::Fetch { request, after, at_least, .. } => asked.push_back((request, after, at_least)),
                TimelineAction::CaughtUp { .. } if next <= told => {
                    return Err(format!("caught up at {} of {told}", next - 1));
                }
                TimelineAction::CaughtUp { .. }
                | TimelineAction::Known { .. }
                | TimelineAction::Unreadable { .. }
                | TimelineAction::Report { .. } => {}
            }
        }
    }
    if next != total + 1 { Err(format!("{} of {total} shown", next - 1)) } else { Ok(()) }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]
    #[test]
    fn every_entry_is_shown_once_and_in_order(seed: u64, total in 1u64..80) {
        prop_assert_eq!(run(seed, total), Ok(()));
    }
}
