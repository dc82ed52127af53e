//! The packer, a case at a time and by its properties.

use super::*;
use proptest::prelude::*;
use prost::Message as _;

fn command(request: u64, bytes: usize) -> PackerInput {
    let command = proto::log::Command { sender: vec![7; bytes].into(), ..proto::log::Command::default() };
    PackerInput::Command(Waiting { session: 1, request, bytes: command.encode_to_vec().into() })
}

fn run(packer: &mut Packer, inputs: impl IntoIterator<Item = PackerInput>) -> Vec<PackerAction> {
    let mut actions = Vec::new();
    inputs.into_iter().for_each(|input| packer.handle(input, &mut actions));
    actions
}

#[test]
fn what_arrives_while_a_record_is_in_flight_goes_in_the_next() {
    let mut packer = Packer::new(Epoch(5));
    let actions = run(&mut packer, [command(1, 10), PackerInput::Go, command(2, 10), command(3, 10), PackerInput::Go]);
    let [PackerAction::Publish { number: 1, payload }] = &actions[..] else { panic!("{actions:?}") };
    assert_eq!(proto::log::CommandBatch::decode(payload.clone()).unwrap().commands.len(), 1);
    let actions = run(&mut packer, [PackerInput::Acknowledged, PackerInput::Go]);
    assert_eq!(actions[0], PackerAction::Accepted(vec![(1, 1)]));
    let PackerAction::Publish { number: 2, payload } = &actions[1] else { panic!("{actions:?}") };
    let batch = proto::log::CommandBatch::decode(payload.clone()).unwrap();
    assert_eq!(batch.epoch, 5);
    assert_eq!((batch.schema, batch.commands.len()), (SCHEMA, 2));
}

#[test]
fn a_record_in_doubt_is_published_again_as_it_was() {
    let mut packer = Packer::new(Epoch(5));
    let first = run(&mut packer, [command(1, 10), PackerInput::Go]);
    let again = run(&mut packer, [command(2, 10), PackerInput::InDoubt]);
    assert_eq!(first, again);
}

#[test]
fn a_refused_record_makes_its_senders_wait_and_the_next_goes_on() {
    let mut packer = Packer::new(Epoch(5));
    run(&mut packer, [command(1, 10), PackerInput::Go, command(2, 10)]);
    let actions = run(&mut packer, [PackerInput::Refused, PackerInput::Go]);
    assert_eq!(actions[0], PackerAction::Busy(vec![(1, 1)]));
    assert!(matches!(actions[1], PackerAction::Publish { number: 2, .. }));
}

#[test]
fn records_and_what_waits_stay_within_their_bounds() {
    let mut packer = Packer::new(Epoch(5));
    let mut actions = run(&mut packer, (0..400).map(|at| command(at, 16_000)));
    let refused = actions.iter().filter(|action| matches!(action, PackerAction::Busy(_))).count();
    assert!(refused > 100, "{refused}");
    actions = run(&mut packer, [PackerInput::Go]);
    let mut records = 0;
    while let Some(PackerAction::Publish { payload, .. }) = actions.pop() {
        assert!(payload.len() <= RECORD_BYTES_MAX);
        records += 1;
        actions = run(&mut packer, [PackerInput::Acknowledged, PackerInput::Go]);
    }
    assert!(records >= 16);
    assert_eq!(packer.waiting_bytes, 0);
}

#[derive(Clone, Debug)]
enum Step {
    Command(usize),
    Go,
    Answer(Answer),
}

#[derive(Clone, Copy, Debug)]
enum Answer {
    Acknowledged,
    InDoubt,
    Refused,
}

fn step() -> impl Strategy<Value = Step> {
    let answer = prop_oneof![Just(Answer::Acknowledged), Just(Answer::InDoubt), Just(Answer::Refused)];
    prop_oneof![
        4 => prop_oneof![0..200_usize, Just(16_000)].prop_map(Step::Command),
        2 => Just(Step::Go),
        2 => answer.prop_map(Step::Answer),
    ]
}

fn records_in(payload: &Bytes) -> usize {
    proto::log::CommandBatch::decode(payload.clone()).unwrap().commands.len()
}

proptest! {
    #[test]
    fn each_command_is_answered_once_in_order_and_only_by_its_own_record(steps in prop::collection::vec(step(), 1..400)) {
        let mut packer = Packer::new(Epoch(5));
        let mut flying: Option<(u64, Bytes)> = None;
        let (mut given, mut answered, mut last) = (0, 0, 0);
        let end = std::iter::repeat_n([Step::Go, Step::Answer(Answer::Acknowledged)], 400).flatten();
        for step in steps.into_iter().chain(end) {
            let mut actions = Vec::new();
            let mut expected = None;
            let input = match step {
                Step::Command(bytes) => {
                    given += 1;
                    command(given, bytes)
                }
                Step::Go => PackerInput::Go,
                // The shell answers only what is in flight.
                Step::Answer(_) if flying.is_none() => continue,
                Step::Answer(Answer::InDoubt) => PackerInput::InDoubt,
                Step::Answer(answer) => {
                    expected = Some((answer, records_in(&flying.as_ref().unwrap().1)));
                    if matches!(answer, Answer::Refused) { PackerInput::Refused } else { PackerInput::Acknowledged }
                }
            };
            let in_doubt = matches!(input, PackerInput::InDoubt);
            packer.handle(input, &mut actions);
            if expected.is_some() {
                flying = None;
            }
            for action in actions {
                match action {
                    PackerAction::Publish { number, payload } if in_doubt => {
                        prop_assert_eq!(flying.as_ref(), Some(&(number, payload)));
                    }
                    PackerAction::Publish { number, payload } => {
                        prop_assert!(flying.is_none(), "two in flight");
                        prop_assert!(payload.len() <= RECORD_BYTES_MAX && records_in(&payload) > 0);
                        prop_assert_eq!(number, last + 1);
                        last = number;
                        flying = Some((number, payload));
                    }
                    PackerAction::Accepted(asked) | PackerAction::Busy(asked) => {
                        let (_, count) = expected.take().expect("an answer of the log");
                        prop_assert_eq!(asked.len(), count);
                        for (_, request) in asked {
                            answered += 1;
                            prop_assert_eq!(request, answered);
                        }
                    }
                }
            }
            prop_assert!(packer.waiting_bytes <= WAITING_BYTES_MAX);
        }
        prop_assert!(!packer.waits() && flying.is_none());
        prop_assert_eq!(answered, given);
    }
}
