//! A message may be seen in any of its versions, and in no other.

use checker::{Chat, Client, Content, Hash, Invariant, Line, Observation, SeenEntry, User, Via, check};

const OWNER: i32 = 1;

fn user() -> User {
    User::from([1; 16])
}

fn chat() -> Chat {
    Chat::from([7; 16])
}

fn entry(seq: u64, ordinal: u64, content: &[u8], event: Content) -> SeenEntry {
    let (chat, sender, hash) = (chat(), user(), Hash(seq.into()));
    let (origin, content) = (u64::from(seq > 1), Hash::of(content));
    SeenEntry { chat, seq, ordinal, sender, origin, n: seq, time: seq, hash, content, changed: None, event }
}

fn version(of: &SeenEntry, by: u64, content: &[u8]) -> SeenEntry {
    SeenEntry { hash: Hash(u128::from(by) << 64), content: Hash::of(content), changed: Some(by), ..of.clone() }
}

/// What was said: a message, two edits of it, and its deletion.
fn log() -> Vec<SeenEntry> {
    let created = Content::ChatCreated { kind: 2, members: vec![(user(), OWNER)] };
    vec![
        entry(1, 0, b"", created),
        entry(2, 1, b"one", Content::Message),
        entry(3, 1, b"two", Content::Edited { seq: 2 }),
        entry(4, 1, b"three", Content::Edited { seq: 2 }),
        entry(5, 1, b"", Content::Deleted { seq: 2 }),
        entry(6, 2, b"other", Content::Message),
    ]
}

/// The faults where the final history is this one, and one device saw these entries of it.
fn faults(last: Vec<SeenEntry>, seen: Vec<SeenEntry>) -> Vec<Invariant> {
    let mut saws = vec![Observation::Started { user: user(), device: "1".to_owned() }];
    saws.extend(seen.into_iter().map(|entry| Observation::Entry { via: Via::History, epoch: 1, entry }));
    let mut lines: Vec<_> =
        saws.into_iter().zip(0..).map(|(saw, index)| Line { index, client: Client(1), saw }).collect();
    let saw = Observation::FinalHistory { chat: chat(), reader: user(), through: last.len() as u64, entries: last };
    lines.push(Line { index: lines.len() as u64, client: Client(0), saw });
    check(&lines).faults.into_iter().map(|fault| fault.invariant).collect()
}

/// The log up to a seq, its rows as they then are.
fn rows(through: usize) -> Vec<SeenEntry> {
    let mut rows = log();
    rows.truncate(through);
    match through {
        3 => rows[1] = version(&rows[1], 3, b"two"),
        4 => rows[1] = version(&rows[1], 4, b"three"),
        _ => {
            rows[1] = version(&rows[1], 5, b"");
            rows[2] = version(&rows[2], 0, b"");
            rows[3] = version(&rows[3], 0, b"");
        }
    }
    rows
}

#[test]
fn each_version_that_was_is_no_fault() {
    let first = log();
    for through in 3..=6 {
        let mut seen = first[..through].to_vec();
        seen.extend((3..=through).flat_map(rows));
        assert_eq!(faults(rows(through), seen), [], "through {through}");
    }
}

#[test]
fn a_version_that_never_was_is_a_fault() {
    let first = log();
    let message = &first[1];
    for (what, wrong) in [
        ("another text than its edit says", version(message, 3, b"four")),
        ("a deleted one that is shown", version(message, 5, b"one")),
        ("by what is no change", version(message, 6, b"other")),
        ("by what is not there", version(message, 9, b"two")),
        ("by what came before", version(message, 1, b"")),
        ("of another sender", SeenEntry { sender: User::from([2; 16]), ..version(message, 3, b"two") }),
        ("at another time", SeenEntry { time: 9, ..version(message, 3, b"two") }),
        ("an edit of another", version(&first[5], 3, b"two")),
        ("what cannot change", version(&first[0], 3, b"two")),
    ] {
        for last in [rows(6), first.clone()] {
            // Where the edits are erased nobody can tell what they said.
            let is_lost = last[2].changed.is_some() && what.starts_with("another text");
            let found = faults(last, vec![wrong.clone()]);
            assert_eq!(found.contains(&Invariant::N3), !is_lost, "{what}: {found:?}");
        }
    }
    assert!(faults(rows(4), vec![version(&first[2], 0, b"")]).contains(&Invariant::N3), "erased and not deleted");
    assert!(faults(rows(6), vec![version(&first[2], 0, b"two")]).contains(&Invariant::N3), "erased and shown");
    let other = SeenEntry { content: Hash::of(b"other"), hash: Hash(9), ..message.clone() };
    assert!(faults(rows(6), vec![message.clone(), other]).contains(&Invariant::N3), "two originals");
    let mut shown = rows(6);
    shown[1] = version(message, 5, b"one");
    assert!(faults(shown, vec![rows(6)[1].clone()]).contains(&Invariant::N3), "at rest a deleted body is shown");
}
