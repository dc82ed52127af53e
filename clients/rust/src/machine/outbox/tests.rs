//! The outbox against a model of the rule that the server decides by.

use proptest::prelude::*;

use super::*;
use crate::machine::mixed;

const CHAT: ChatId = ChatId([7; 16]);

fn message(text: &str) -> command::Action {
    command::Action::SendMessage(v1::SendMessage { body: text.to_owned().into(), ..v1::SendMessage::default() })
}

fn outbox(rules: Rules) -> Outbox {
    Outbox::new(rules, Bounds::default(), 99)
}

fn submit(outbox: &mut Outbox, text: &str, basis: u64, actions: &mut Vec<Action>) -> SendId {
    let draft = Draft { chat: CHAT, basis, action: message(text) };
    outbox.submit(0, draft, actions).unwrap().0
}

fn sent(actions: &[Action]) -> Vec<(SendId, v1::Command)> {
    let each = actions
        .iter()
        .filter_map(|action| if let Action::Send(id, command) = action { Some((*id, command.clone())) } else { None });
    each.collect()
}

fn rejected(command: &v1::Command, code: ErrorCode, head: u64) -> v1::Outcome {
    let result = v1::outcome::Result::Rejected(v1::Rejected { code: code.into(), text: String::new(), head });
    v1::Outcome { chat: command.chat.clone(), origin: command.origin, n: command.n, result: Some(result) }
}

fn stored(command: &v1::Command, seq: u64) -> v1::Outcome {
    let result = v1::outcome::Result::Stored(v1::Stored { seq, time_us: seq });
    v1::Outcome { chat: command.chat.clone(), origin: command.origin, n: command.n, result: Some(result) }
}

#[test]
fn a_send_beyond_the_span_waits_until_the_lowest_settles() {
    let (mut outbox, mut actions) = (outbox(Rules::ALL), Vec::new());
    outbox.handle(0, Input::Opened, &mut actions);
    for n in 0..40 {
        submit(&mut outbox, &n.to_string(), 0, &mut actions);
    }
    let first = sent(&actions);
    assert_eq!(first.len(), 32, "M11");
    actions.clear();
    outbox.handle(0, Input::Outcome(first[1].0, stored(&first[1].1, 2)), &mut actions);
    assert!(sent(&actions).is_empty(), "the lowest is unsettled still");
    outbox.handle(0, Input::Outcome(first[0].0, stored(&first[0].1, 1)), &mut actions);
    assert_eq!(sent(&actions).iter().map(|(_, command)| command.n).collect::<Vec<_>>(), [33, 34]);
}

#[test]
fn after_names_the_highest_unsettled_below_and_is_computed_anew() {
    let (mut outbox, mut actions) = (outbox(Rules::ALL), Vec::new());
    outbox.handle(0, Input::Opened, &mut actions);
    submit(&mut outbox, "a", 0, &mut actions);
    submit(&mut outbox, "b", 0, &mut actions);
    let first = sent(&actions);
    assert_eq!((first[0].1.after, first[1].1.after), (0, 1));
    actions.clear();
    outbox.handle(1, Input::Outcome(first[0].0, rejected(&first[0].1, ErrorCode::Forbidden, 0)), &mut actions);
    outbox.handle(1, Input::Outcome(first[1].0, rejected(&first[1].1, ErrorCode::PredecessorMissing, 0)), &mut actions);
    assert_eq!(sent(&actions)[0].1.after, 0, "M12: 1 is settled");
}

#[test]
fn a_rejected_send_that_turns_up_is_corrected_to_stored() {
    let (mut outbox, mut actions) = (outbox(Rules::ALL), Vec::new());
    outbox.handle(0, Input::Opened, &mut actions);
    let id = submit(&mut outbox, "a", 0, &mut actions);
    let command = sent(&actions)[0].1.clone();
    outbox.handle(1, Input::Outcome(id, rejected(&command, ErrorCode::NotAMember, 0)), &mut actions);
    actions.clear();
    let seen = Sighting { chat: CHAT, seq: 5, time_us: 6, origin: command.origin, n: 1 };
    outbox.handle(2, Input::Seen(seen), &mut actions);
    outbox.handle(2, Input::Seen(seen), &mut actions);
    assert!(
        matches!(actions[..], [Action::Corrected(_, _, Settlement::Stored { seq: 5, .. })]),
        "M13, once: {actions:?}"
    );
}

#[test]
fn an_unknown_origin_is_recovered_by_reading_and_a_new_origin() {
    let (mut outbox, mut actions) = (outbox(Rules::ALL), Vec::new());
    outbox.handle(0, Input::Opened, &mut actions);
    submit(&mut outbox, "a", 3, &mut actions);
    submit(&mut outbox, "b", 3, &mut actions);
    let first = sent(&actions);
    actions.clear();
    outbox.handle(1, Input::Outcome(first[0].0, rejected(&first[0].1, ErrorCode::OriginUnknown, 9)), &mut actions);
    assert!(matches!(actions[..], [Action::Read { head: 9, .. }]));
    actions.clear();
    // The first was stored long ago, and its origin forgotten.
    let origin = first[0].1.origin;
    outbox.handle(2, Input::Seen(Sighting { chat: CHAT, seq: 5, time_us: 5, origin, n: 1 }), &mut actions);
    outbox.handle(2, Input::Read { chat: CHAT, through: 8, fresh: 1234 }, &mut actions);
    assert!(sent(&actions).is_empty(), "not read far enough");
    outbox.handle(2, Input::Read { chat: CHAT, through: 10, fresh: 1234 }, &mut actions);
    let again = sent(&actions);
    assert_eq!(again.len(), 1);
    let command = &again[0].1;
    assert_eq!((command.origin, command.n, command.after, command.basis), (1234, 1, 0, 10));
    // A late answer to the copy under the old origin says nothing.
    actions.clear();
    outbox.handle(3, Input::Outcome(first[1].0, rejected(&first[1].1, ErrorCode::OriginUnknown, 9)), &mut actions);
    assert!(actions.is_empty());
}

#[test]
fn an_origin_unknown_without_a_head_is_the_answer_of_a_chat_that_shows_none() {
    let (mut outbox, mut actions) = (outbox(Rules::ALL), Vec::new());
    outbox.handle(0, Input::Opened, &mut actions);
    submit(&mut outbox, "a", 0, &mut actions);
    let (id, command) = sent(&actions).remove(0);
    actions.clear();
    outbox.handle(1, Input::Outcome(id, rejected(&command, ErrorCode::OriginUnknown, 0)), &mut actions);
    assert!(matches!(&actions[..], [Action::Settled(it, _, Settlement::Rejected { head: 0, .. })] if *it == id));
    assert!(outbox.is_empty());
}

#[test]
fn a_rejected_command_that_turns_up_is_corrected_over_a_restart_too() {
    let (mut outbox, mut actions) = (outbox(Rules::ALL), Vec::new());
    outbox.handle(0, Input::Opened, &mut actions);
    submit(&mut outbox, "a", 0, &mut actions);
    let (id, command) = sent(&actions).remove(0);
    outbox.handle(1, Input::Outcome(id, rejected(&command, ErrorCode::UnknownChat, 0)), &mut actions);
    let mut outbox = Outbox::restore(Rules::ALL, Bounds::default(), outbox.kept(), 100);
    actions.clear();
    let seen = Sighting { chat: CHAT, seq: 2, time_us: 2, origin: command.origin, n: command.n };
    outbox.handle(2, Input::Seen(seen), &mut actions);
    assert!(matches!(&actions[..], [Action::Corrected(it, ..)] if *it == id), "M13");
}

#[test]
fn basis_is_that_of_the_making() {
    for (rules, basis) in [(Rules::ALL, 3), (Rules { m14: false, ..Rules::ALL }, 8)] {
        let (mut outbox, mut actions) = (outbox(rules), Vec::new());
        submit(&mut outbox, "a", 3, &mut actions);
        outbox.handle(1, Input::Read { chat: CHAT, through: 8, fresh: 1 }, &mut actions);
        outbox.handle(1, Input::Opened, &mut actions);
        assert_eq!(sent(&actions)[0].1.basis, basis, "M14");
    }
}

#[test]
fn busy_is_waited_out_and_order_kept() {
    let (mut outbox, mut actions) = (outbox(Rules::ALL), Vec::new());
    outbox.handle(0, Input::Opened, &mut actions);
    let first = submit(&mut outbox, "a", 0, &mut actions);
    let second = submit(&mut outbox, "b", 0, &mut actions);
    actions.clear();
    let busy = |id| Input::Refused { id, code: ErrorCode::Busy, retryable: true, retry_after_us: 500_000 };
    outbox.handle(1, busy(first), &mut actions);
    outbox.handle(1, busy(second), &mut actions);
    outbox.handle(2, Input::Tick, &mut actions);
    assert!(actions.is_empty());
    outbox.handle(2_000_000, Input::Tick, &mut actions);
    assert_eq!(sent(&actions).iter().map(|(id, _)| *id).collect::<Vec<_>>(), [first, second]);
}

#[test]
fn nothing_overtakes_a_send_that_waits() {
    let (mut outbox, mut actions) = (outbox(Rules::ALL), Vec::new());
    outbox.handle(0, Input::Opened, &mut actions);
    let id = submit(&mut outbox, "a", 0, &mut actions);
    outbox.handle(1, Input::Refused { id, code: ErrorCode::Busy, retryable: true, retry_after_us: 9 }, &mut actions);
    actions.clear();
    submit(&mut outbox, "b", 0, &mut actions);
    assert!(actions.is_empty());
}

#[test]
fn a_missing_predecessor_is_sent_again_first_and_nothing_twice() {
    let (mut outbox, mut actions) = (outbox(Rules::ALL), Vec::new());
    outbox.handle(0, Input::Opened, &mut actions);
    for text in ["a", "b", "c"] {
        submit(&mut outbox, text, 0, &mut actions);
    }
    let first = sent(&actions);
    actions.clear();
    // The first was lost; both others are refused for it.
    for (id, command) in &first[1..] {
        outbox.handle(1, Input::Outcome(*id, rejected(command, ErrorCode::PredecessorMissing, 0)), &mut actions);
    }
    assert_eq!(sent(&actions).iter().map(|(_, command)| command.n).collect::<Vec<_>>(), [1, 2, 3]);
}

#[test]
fn sends_wait_for_the_creation_of_their_chat_and_follow_it_to_another_id() {
    let (mut outbox, mut actions) = (outbox(Rules::ALL), Vec::new());
    outbox.handle(0, Input::Opened, &mut actions);
    let create = command::Action::CreateChat(v1::CreateChat::default());
    outbox.submit(0, Draft { chat: CHAT, basis: 0, action: create }, &mut actions).unwrap();
    submit(&mut outbox, "a", 0, &mut actions);
    let first = sent(&actions);
    assert_eq!(first.len(), 1);
    assert_eq!((first[0].1.origin, first[0].1.n), (0, 0));
    actions.clear();
    let other = ChatId([9; 16]);
    let mut outcome = stored(&first[0].1, 1);
    outcome.chat = other.to_wire();
    outbox.handle(1, Input::Outcome(first[0].0, outcome), &mut actions);
    let follow = sent(&actions);
    assert_eq!(follow.len(), 1);
    assert_eq!((ChatId::from_wire(&follow[0].1.chat), follow[0].1.n), (Some(other), 1));
}

#[test]
fn a_full_outbox_says_so_and_a_kept_one_goes_on() {
    let bounds = Bounds { count: 2, ..Bounds::default() };
    let (mut outbox, mut actions) = (Outbox::new(Rules::ALL, bounds, 5), Vec::new());
    submit(&mut outbox, "a", 0, &mut actions);
    submit(&mut outbox, "b", 0, &mut actions);
    let third = Draft { chat: CHAT, basis: 0, action: message("c") };
    assert!(outbox.submit(0, third, &mut actions).is_err());
    let before: Vec<_> = outbox.kept().lanes[0].sends.iter().map(|send| (send.origin, send.n)).collect();
    let mut restored = Outbox::restore(Rules::ALL, bounds, outbox.kept(), 6);
    restored.handle(0, Input::Opened, &mut actions);
    let again: Vec<_> = sent(&actions).into_iter().map(|(_, command)| (command.origin, command.n)).collect();
    assert_eq!(again, before);
}

#[test]
fn what_was_sent_after_the_state_was_kept_shares_no_number_with_what_follows_a_crash() {
    let (mut outbox, mut actions) = (outbox(Rules::ALL), Vec::new());
    outbox.handle(0, Input::Opened, &mut actions);
    submit(&mut outbox, "kept", 0, &mut actions);
    let kept = outbox.kept();
    submit(&mut outbox, "sent, never kept", 0, &mut actions);
    let mut server = Server::default();
    for (_, command) in sent(&actions) {
        server.decide(&command, false);
    }
    // Crashed, and gone on from the older state, twice.
    let mut texts = vec!["kept", "sent, never kept"];
    for (origin, text) in [(100, "after the crash"), (101, "after the next")] {
        let mut again = Outbox::restore(Rules::ALL, Bounds::default(), kept.clone(), origin);
        actions.clear();
        again.handle(0, Input::Opened, &mut actions);
        let id = submit(&mut again, text, 0, &mut actions);
        assert_eq!(sent(&actions).len(), 1, "what was kept goes first");
        while let Some((id, command)) = sent(&std::mem::take(&mut actions)).pop() {
            again.handle(1, Input::Outcome(id, server.decide(&command, false)), &mut actions);
        }
        assert!(again.is_empty(), "{id:?} settles");
        texts.push(text);
    }
    let stored: Vec<_> = server.log.iter().map(|(_, _, body)| String::from_utf8_lossy(body)).collect();
    assert_eq!(stored, texts, "each once, none answered for another (N1, N2)");
}

#[test]
fn a_command_that_follows_its_chat_does_so_under_the_same_identity_after_a_crash_too() {
    let (mut outbox, mut actions) = (outbox(Rules::ALL), Vec::new());
    outbox.handle(0, Input::Opened, &mut actions);
    let create = command::Action::CreateChat(v1::CreateChat::default());
    outbox.submit(0, Draft { chat: CHAT, basis: 0, action: create }, &mut actions).unwrap();
    submit(&mut outbox, "a", 0, &mut actions);
    let kept = outbox.kept();
    let mut moved = Vec::new();
    for mut outbox in [outbox, Outbox::restore(Rules::ALL, Bounds::default(), kept, 100)] {
        actions.clear();
        outbox.handle(1, Input::Closed, &mut actions);
        outbox.handle(1, Input::Opened, &mut actions);
        let (id, creation) = sent(&actions).remove(0);
        actions.clear();
        let outcome = v1::Outcome { chat: ChatId([9; 16]).to_wire(), ..stored(&creation, 1) };
        outbox.handle(1, Input::Outcome(id, outcome), &mut actions);
        let (_, command) = sent(&actions).remove(0);
        moved.push((command.chat, command.origin, command.n));
    }
    assert_eq!(moved[0], moved[1]);
}

#[test]
fn without_an_answer_a_send_is_repeated_on_the_live_socket() {
    let (mut outbox, mut actions) = (outbox(Rules::ALL), Vec::new());
    outbox.handle(0, Input::Opened, &mut actions);
    submit(&mut outbox, "a", 0, &mut actions);
    let due = outbox.deadline().unwrap();
    assert!((5_000_000..=10_000_000).contains(&due), "{due}");
    outbox.handle(due, Input::Tick, &mut actions);
    assert_eq!(sent(&actions).len(), 2);
}

/// The server's rule for one origin of one chat: dedupe, order, then a decision by chance.
#[derive(Default)]
struct Server {
    log: Vec<(u64, u64, bytes::Bytes)>,
    last: BTreeMap<u64, u64>,
}

impl Server {
    fn decide(&mut self, command: &v1::Command, refuse: bool) -> v1::Outcome {
        let last = self.last.get(&command.origin).copied().unwrap_or(0);
        if command.n <= last {
            let place = self.log.iter().position(|(origin, n, _)| (*origin, *n) == (command.origin, command.n));
            return match place {
                Some(place) if command.n + SPAN > last => stored(command, place as u64 + 1),
                Some(_) | None => rejected(command, ErrorCode::Superseded, 0),
            };
        }
        if command.after > last {
            return rejected(command, ErrorCode::PredecessorMissing, 0);
        }
        if refuse {
            return rejected(command, ErrorCode::Forbidden, 0);
        }
        let Some(command::Action::SendMessage(send)) = &command.action else { panic!("a message") };
        self.log.push((command.origin, command.n, send.body.clone()));
        self.last.insert(command.origin, command.n);
        stored(command, self.log.len() as u64)
    }
}

/// Runs `steps` of chance, then a lossless end; returns what each send settled as.
fn run(rules: Rules, seed: u64, sends: usize) -> Result<(), String> {
    let mut bits = seed;
    let mut draw = |below: u64| {
        bits = mixed(bits.wrapping_add(0x9e37_79b9_7f4a_7c15));
        bits % below
    };
    let (mut outbox, mut server, mut actions) = (outbox(rules), Server::default(), Vec::new());
    let (mut wire, mut answers) = (std::collections::VecDeque::new(), std::collections::VecDeque::new());
    let (mut settled, mut now, mut open, mut submitted) = (BTreeMap::new(), 0, false, 0);
    let mut shown = 0;
    for step in 0..20_000 {
        let calm = step > 4_000 || submitted == sends && step > 2_000;
        now += draw(400_000);
        match draw(8) {
            0 if !calm && open => {
                open = false;
                outbox.handle(now, Input::Closed, &mut actions);
                // What was on its way may still be decided, or be lost; answers are gone.
                let keep = draw(wire.len() as u64 + 1) as usize;
                wire.truncate(keep);
                answers.clear();
            }
            0 | 1 if !open => {
                open = true;
                outbox.handle(now, Input::Opened, &mut actions);
            }
            2 if submitted < sends => {
                let draft = Draft { chat: CHAT, basis: 0, action: message(&submitted.to_string()) };
                outbox.submit(now, draft, &mut actions).map_err(|full| full.to_string())?;
                submitted += 1;
            }
            3 | 4 => {
                if let Some((id, command)) = wire.pop_front() {
                    answers.push_back((id, server.decide(&command, !calm && draw(10) == 0)));
                }
            }
            5 | 6 => {
                if let Some((id, outcome)) = answers.pop_front()
                    && (calm || draw(4) > 0)
                {
                    outbox.handle(now, Input::Outcome(id, outcome), &mut actions);
                }
            }
            _ => {
                // Pushes come in order, some late.
                if shown < server.log.len() && draw(3) == 0 {
                    let (origin, n, _) = server.log[shown];
                    shown += 1;
                    let seq = shown as u64;
                    outbox.handle(
                        now,
                        Input::Seen(Sighting { chat: CHAT, seq, time_us: seq, origin, n }),
                        &mut actions,
                    );
                }
                outbox.handle(now, Input::Tick, &mut actions);
            }
        }
        for action in actions.drain(..) {
            match action {
                Action::Send(id, command) if open => wire.push_back((id, command)),
                Action::Settled(id, _, settlement) => {
                    if settled.insert(id, settlement).is_some() {
                        return Err(format!("{id:?} settled twice"));
                    }
                }
                Action::Corrected(id, _, settlement) => {
                    if !matches!(settled.insert(id, settlement), Some(Settlement::Rejected { .. })) {
                        return Err(format!("{id:?} corrected without a rejection"));
                    }
                }
                Action::Send(..) | Action::Accepted(_) | Action::Read { .. } => {}
            }
        }
    }
    if !outbox.is_empty() || settled.len() != sends {
        return Err(format!("{} of {sends} settled", settled.len()));
    }
    // Each result is what the log says, the log has each send at most once, and order is kept.
    let mut stored_ids = Vec::new();
    for (place, (_, n, body)) in server.log.iter().enumerate() {
        let id = SendId(String::from_utf8_lossy(body).parse::<u64>().map_err(|error| error.to_string())? + 1);
        let seq = place as u64 + 1;
        if !matches!(settled.get(&id), Some(Settlement::Stored { seq: told, .. }) if *told == seq) {
            return Err(format!("{id:?} (n {n}) is stored at {seq} but settled as {:?}", settled.get(&id)));
        }
        stored_ids.push(id);
    }
    if !stored_ids.is_sorted() || stored_ids.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err("out of order or stored twice".to_owned());
    }
    let told = settled.values().filter(|settlement| matches!(settlement, Settlement::Stored { .. })).count();
    if told != server.log.len() { Err("said to be stored, but is not".to_owned()) } else { Ok(()) }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn each_send_settles_once_as_the_log_says(seed: u64, sends in 1usize..60) {
        prop_assert_eq!(run(Rules::ALL, seed, sends), Ok(()));
    }
}

#[test]
fn each_switched_off_rule_is_caught() {
    for (name, rules) in [("m12", Rules { m12: false, ..Rules::ALL }), ("m13", Rules { m13: false, ..Rules::ALL })] {
        assert!((0..200).any(|seed| run(rules, seed, 50).is_err()), "{name}");
    }
}
