//! Planted faults: each is put into correct histories and must be named by its invariant.

#![expect(clippy::ptr_arg, reason = "all plants share one type; some of them add lines")]

use std::collections::BTreeSet;

use checker::{
    Answer, Chat, Client, Content, Hash,
    Invariant::{self, N1, N2, N3, N4, N5, N7, N8, Record},
    Line, Observation, SeenEntry, SendKey, User, Via, check,
};

use crate::world::{self, Dice};

/// Spoils a history; false where it holds nothing that can be spoiled so.
type Plant = fn(&mut Vec<Line>, &mut Dice) -> bool;

const FAULTS: &[(&str, Invariant, Plant)] = &[
    ("an accepted send is never answered", N1, unanswered),
    ("stored is answered for a seq that does not exist", N1, stored_nowhere),
    ("stored is answered for another's seq", N1, stored_elsewhere),
    ("a stored entry is missing from one member's history", N1, lost_for_one),
    ("a history shows one entry twice", N1, shown_twice),
    ("a stored send is rejected when asked again", N1, stored_then_rejected),
    ("other content is stored than was sent", N1, other_content),
    ("something is stored that was never sent", N1, never_sent),
    ("one send is stored at two seqs", N2, stored_twice),
    ("a repeat is answered with another time", N2, two_outcomes),
    ("a device is pushed other bytes", N3, |lines, dice| other_bytes(lines, dice, Via::Push)),
    ("a history answer shows other bytes", N3, |lines, dice| other_bytes(lines, dice, Via::History)),
    ("two members read different bytes", N3, readers_differ),
    ("a rebuilt model shows other bytes", N3, rebuilt_differs),
    ("sends of one origin change places", N3, out_of_order),
    ("a seq is missing for everybody", N4, hole_for_all),
    ("a history answer lacks a seq and looks whole", N4, answer_with_hole),
    ("a history answer claims more than there is", N4, answer_beyond_head),
    ("a push is lost and nobody notices", N4, |lines, dice| lost_entry(lines, dice, Via::Push)),
    ("catch-up skips an entry", N4, |lines, dice| lost_entry(lines, dice, Via::History)),
    ("the last push of a chat is lost", N4, lost_last),
    ("a final history ends early", N4, ends_early),
    ("an entry is shown twice", N2, shown_again),
    ("two entries are shown in the wrong order", N3, shown_in_other_order),
    ("an entry is replaced though the epoch is the same", N3, replaced_without_reason),
    ("an entry came and is passed over", N4, never_shown),
    ("the last entry of a chat came and is not shown", N4, last_never_shown),
    ("a program that starts again passes over what it did not show", N4, passed_over_at_restart),
    ("a replacement passes over an entry", N4, replacement_with_hole),
    ("an entry is shown that is not stored", N5, shown_not_stored),
    ("an entry is pushed that is not stored", N5, pushed_not_stored),
    ("a device is pushed what is not final", N5, |lines, dice| other_bytes(lines, dice, Via::Push)),
    ("time stands still", N5, |lines, dice| spoil_entry(lines, dice, |entry, before| entry.time = before.time)),
    ("an ordinal is skipped", N5, |lines, dice| spoil_entry(lines, dice, |entry, _| entry.ordinal += 1)),
    ("a head is told that does not exist", N5, head_beyond_log),
    ("a stranger's entry is stored", N7, |lines, dice| {
        spoil_entry(lines, dice, |entry, _| entry.sender = User::from([0xee; 16]))
    }),
    ("a stranger is pushed an entry", N7, pushed_to_stranger),
    ("a former member reads on", N7, reads_on),
    ("a former member is shown more", N7, shown_to_former_member),
    ("a reader writes", N7, reader_writes),
    ("a member is added twice", N7, |lines, dice| {
        spoil_entry(lines, dice, |entry, _| {
            if entry.event == Content::Message {
                entry.event = Content::MemberAdded { user: entry.sender, role: 3 };
            }
        })
    }),
    ("an own echo goes back on another socket", N8, echo_back),
    ("another's tick goes back", N8, tick_back),
    ("a watermark is ahead of what was sent", N8, watermark_ahead),
    ("seen is above delivered", N8, |lines, dice| {
        spoil_watermark(lines, dice, |delivered, seen| *seen = *delivered + 1)
    }),
    ("delivered is above the head", N8, |lines, dice| {
        spoil_watermark(lines, dice, |delivered, _| *delivered += 1_000_000)
    }),
    ("a chat's final history was not taken", Record, no_final_history),
    ("an answer comes to what nobody asked", Record, answer_unasked),
];

#[test]
fn each_planted_fault_is_named_by_its_invariant() {
    let mut missed = Vec::new();
    for (name, invariant, plant) in FAULTS {
        let mut planted = 0;
        for seed in 0..30 {
            let mut history = world::history(seed, 300);
            if !plant(&mut history, &mut Dice(seed)) {
                continue;
            }
            planted += 1;
            let report = check(&history);
            if !report.breaks(*invariant) {
                missed.push(format!("{name} (seed {seed}) is not caught as {invariant:?}: {report}"));
            }
            let evident = report.faults.iter().all(|fault| !fault.what.is_empty() && fault.evidence.len() < 5);
            assert!(evident, "{name} (seed {seed}):\n{report}");
        }
        if planted < 10 {
            missed.push(format!("{name} could be planted in {planted} histories only"));
        }
    }
    assert!(missed.is_empty(), "{}", missed.join("\n"));
}

/// One of the places where `pick` finds something.
fn find<T>(lines: &[Line], dice: &mut Dice, pick: impl Fn(&Line) -> Option<T>) -> Option<(usize, T)> {
    let mut found: Vec<_> = lines.iter().enumerate().filter_map(|(place, line)| Some((place, pick(line)?))).collect();
    (!found.is_empty()).then(|| found.swap_remove(dice.below(found.len())))
}

fn add(lines: &mut Vec<Line>, client: Client, saw: Observation) {
    lines.push(Line { index: lines.len() as u64, client, saw });
}

/// Puts a line between others; the indexes follow.
fn insert(lines: &mut Vec<Line>, place: usize, client: Client, saw: Observation) {
    lines.insert(place, Line { index: 0, client, saw });
    for (line, index) in lines.iter_mut().zip(0..) {
        line.index = index;
    }
}

/// Changes an entry wherever it is seen, so that all agree on what is wrong.
fn rewrite(lines: &mut [Line], chat: Chat, seq: u64, change: impl Fn(&mut SeenEntry)) {
    let change = |entry: &mut SeenEntry| {
        if entry.chat == chat && entry.seq == seq {
            change(entry);
        }
    };
    for line in lines {
        if let Observation::Entry { entry, .. } = &mut line.saw {
            change(entry);
        } else if let Observation::FinalHistory { entries, .. } = &mut line.saw {
            entries.iter_mut().for_each(change);
        }
    }
}

fn stored(line: &Line) -> Option<(SendKey, Chat, u64, u64)> {
    if let Observation::Outcome { send, answer: Answer::Stored { chat, seq, time } } = line.saw {
        return (!send.is_creation()).then_some((send, chat, seq, time));
    }
    None
}

fn final_entries(line: &Line) -> Option<Vec<SeenEntry>> {
    if let Observation::FinalHistory { entries, .. } = &line.saw { Some(entries.clone()) } else { None }
}

fn unanswered(lines: &mut Vec<Line>, dice: &mut Dice) -> bool {
    let rejected = find(lines, dice, |line| match &line.saw {
        Observation::Outcome { send, answer: Answer::Rejected { .. } } => Some((line.client, *send)),
        _ => None,
    });
    let Some((_, (client, open))) = rejected else { return false };
    let answers = |line: &Line| matches!(line.saw, Observation::Outcome { send, .. } if send == open);
    lines.retain(|line| line.client != client || !answers(line));
    true
}

fn stored_nowhere(lines: &mut Vec<Line>, dice: &mut Dice) -> bool {
    let Some((place, (send, chat, _, time))) = find(lines, dice, stored) else { return false };
    lines[place].saw = Observation::Outcome { send, answer: Answer::Stored { chat, seq: 1_000_000, time } };
    true
}

fn stored_elsewhere(lines: &mut Vec<Line>, dice: &mut Dice) -> bool {
    let Some((place, (send, chat, seq, time))) = find(lines, dice, stored) else { return false };
    lines.retain({
        let kept = lines[place].index;
        move |line| line.index == kept || stored(line).is_none_or(|(other, ..)| other != send)
    });
    let place = lines.iter().position(|line| stored(line).is_some_and(|(other, ..)| other == send)).unwrap();
    lines[place].saw = Observation::Outcome { send, answer: Answer::Stored { chat, seq: seq - 1, time } };
    true
}

fn lost_for_one(lines: &mut Vec<Line>, dice: &mut Dice) -> bool {
    let told: BTreeSet<_> = lines.iter().filter_map(stored).map(|(_, chat, seq, _)| (chat, seq)).collect();
    // Somebody else's history must still show it, or it is missing for all.
    let many: BTreeSet<_> = told
        .into_iter()
        .filter(|key| lines.iter().filter_map(final_entries).flatten().filter(|e| (e.chat, e.seq) == *key).count() > 1)
        .collect();
    let lost =
        find(lines, dice, |line| final_entries(line)?.iter().position(|entry| many.contains(&(entry.chat, entry.seq))));
    let Some((place, lost)) = lost else { return false };
    if let Observation::FinalHistory { entries, .. } = &mut lines[place].saw {
        entries.remove(lost);
    }
    true
}

fn shown_twice(lines: &mut Vec<Line>, dice: &mut Dice) -> bool {
    let Some((place, count)) = find(lines, dice, |line| Some(final_entries(line)?.len())) else { return false };
    let twice = dice.below(count);
    if let Observation::FinalHistory { entries, .. } = &mut lines[place].saw {
        entries.insert(twice, entries[twice].clone());
    }
    true
}

fn stored_then_rejected(lines: &mut Vec<Line>, dice: &mut Dice) -> bool {
    let Some((place, (send, ..))) = find(lines, dice, stored) else { return false };
    let client = lines[place].client;
    // On a connection of its own: on an earlier one it could be the late answer to an earlier copy.
    add(lines, client, Observation::Connected);
    add(lines, client, Observation::Sent { send, content: None, at: 0 });
    add(lines, client, Observation::Outcome { send, answer: Answer::Rejected { code: 17 } });
    true
}

fn other_content(lines: &mut Vec<Line>, dice: &mut Dice) -> bool {
    let Some((_, (_, chat, seq, _))) = find(lines, dice, stored) else { return false };
    rewrite(lines, chat, seq, |entry| entry.content = Hash(1));
    true
}

fn never_sent(lines: &mut Vec<Line>, dice: &mut Dice) -> bool {
    let Some((_, (send, ..))) = find(lines, dice, stored) else { return false };
    // The origin stays known by its sends in this and other chats.
    let mut kept = false;
    lines.retain(|line| match &line.saw {
        Observation::Sent { send: other, .. } | Observation::Accepted { send: other } => {
            kept |= *other != send && other.origin == send.origin;
            *other != send
        }
        Observation::Outcome { send: other, .. } => *other != send,
        _ => true,
    });
    kept
}

fn stored_twice(lines: &mut Vec<Line>, dice: &mut Dice) -> bool {
    let Some((_, (send, chat, seq, _))) = find(lines, dice, stored) else { return false };
    let later = lines.iter().filter_map(final_entries).flatten();
    let later = later
        .filter(|entry| entry.chat == chat && entry.origin == send.origin && entry.seq > seq)
        .min_by_key(|entry| entry.seq);
    let Some(later) = later else { return false };
    rewrite(lines, chat, later.seq, |entry| entry.n = send.n);
    true
}

fn two_outcomes(lines: &mut Vec<Line>, dice: &mut Dice) -> bool {
    let Some((place, (send, chat, seq, time))) = find(lines, dice, stored) else { return false };
    let client = lines[place].client;
    add(lines, client, Observation::Outcome { send, answer: Answer::Stored { chat, seq, time: time + 1 } });
    true
}

fn other_bytes(lines: &mut Vec<Line>, dice: &mut Dice, wanted: Via) -> bool {
    let seen =
        find(lines, dice, |line| matches!(line.saw, Observation::Entry { via, .. } if via == wanted).then_some(()));
    let Some((place, ())) = seen else { return false };
    if let Observation::Entry { entry, .. } = &mut lines[place].saw {
        entry.hash = Hash(entry.hash.0 ^ 1);
    }
    true
}

fn readers_differ(lines: &mut Vec<Line>, dice: &mut Dice) -> bool {
    // The first entry of a chat is in the history of several.
    let several = find(lines, dice, |line| {
        let first = final_entries(line)?.first()?.clone();
        let readers = lines.iter().filter_map(final_entries).filter(|all| all.contains(&first)).count();
        (readers > 1).then_some(())
    });
    let Some((place, ())) = several else { return false };
    if let Observation::FinalHistory { entries, .. } = &mut lines[place].saw {
        entries[0].hash = Hash(7);
    }
    true
}

fn rebuilt_differs(lines: &mut Vec<Line>, dice: &mut Dice) -> bool {
    let Some((_, entries)) = find(lines, dice, final_entries) else { return false };
    let mut entry = entries[dice.below(entries.len())].clone();
    entry.time += 1;
    add(lines, Client(1), Observation::Entry { via: Via::Rebuilt, epoch: 0, entry });
    true
}

fn out_of_order(lines: &mut Vec<Line>, dice: &mut Dice) -> bool {
    let Some((_, (send, chat, seq, _))) = find(lines, dice, stored) else { return false };
    let later = lines.iter().filter_map(final_entries).flatten();
    let later = later
        .filter(|entry| entry.chat == chat && entry.origin == send.origin && entry.seq > seq)
        .min_by_key(|entry| entry.seq);
    let Some(later) = later else { return false };
    rewrite(lines, chat, seq, |entry| entry.n = later.n);
    rewrite(lines, chat, later.seq, |entry| entry.n = send.n);
    true
}

fn hole_for_all(lines: &mut Vec<Line>, dice: &mut Dice) -> bool {
    let Some((_, all)) = find(lines, dice, |line| final_entries(line).filter(|all| all.len() > 2)) else {
        return false;
    };
    let SeenEntry { chat, seq, .. } = all[dice.below(all.len() - 1)];
    for line in lines {
        if let Observation::FinalHistory { entries, .. } = &mut line.saw {
            entries.retain(|entry| (entry.chat, entry.seq) != (chat, seq));
        }
    }
    true
}

fn answer_with_hole(lines: &mut Vec<Line>, dice: &mut Dice) -> bool {
    let answer = find(lines, dice, |line| {
        matches!(&line.saw, Observation::HistoryAnswer { seqs, .. } if !seqs.is_empty()).then_some(())
    });
    let Some((place, ())) = answer else { return false };
    if let Observation::HistoryAnswer { seqs, .. } = &mut lines[place].saw {
        seqs.remove(dice.below(seqs.len()));
    }
    true
}

fn answer_beyond_head(lines: &mut Vec<Line>, dice: &mut Dice) -> bool {
    let answer = find(lines, dice, |line| matches!(&line.saw, Observation::HistoryAnswer { .. }).then_some(()));
    let Some((place, ())) = answer else { return false };
    if let Observation::HistoryAnswer { through, .. } = &mut lines[place].saw {
        *through += 1_000_000;
    }
    true
}

fn lost_entry(lines: &mut Vec<Line>, dice: &mut Dice, wanted: Via) -> bool {
    let seen = find(lines, dice, |line| match &line.saw {
        Observation::Entry { via, entry, .. } if *via == wanted => Some((line.client, entry.chat, entry.seq)),
        _ => None,
    });
    let Some((_, (client, chat, seq))) = seen else { return false };
    lines.retain(|line| {
        let lost = matches!(&line.saw, Observation::Entry { entry, .. } if (entry.chat, entry.seq) == (chat, seq));
        line.client != client || !lost
    });
    true
}

fn lost_last(lines: &mut Vec<Line>, dice: &mut Dice) -> bool {
    let Some((_, entries)) = find(lines, dice, final_entries) else { return false };
    let SeenEntry { chat, seq, .. } = *entries.last().unwrap();
    let pushed = find(lines, dice, |line| match &line.saw {
        Observation::Entry { via: Via::Push, entry, .. } if (entry.chat, entry.seq) == (chat, seq) => Some(line.client),
        _ => None,
    });
    let Some((_, client)) = pushed else { return false };
    lines.retain(|line| {
        let lost = matches!(&line.saw, Observation::Entry { entry, .. } if (entry.chat, entry.seq) == (chat, seq));
        line.client != client || !lost
    });
    true
}

fn ends_early(lines: &mut Vec<Line>, dice: &mut Dice) -> bool {
    let present = find(lines, dice, |line| match &line.saw {
        Observation::FinalHistory { reader, through, entries, .. } if entries.last()?.seq == *through => {
            let last = entries.last()?;
            let stays = last.event != Content::MemberRemoved { user: *reader };
            (stays && !(last.event == Content::MemberLeft && last.sender == *reader)).then_some(())
        }
        _ => None,
    });
    let Some((place, ())) = present else { return false };
    if let Observation::FinalHistory { through, entries, .. } = &mut lines[place].saw {
        *through -= 1;
        entries.pop();
    }
    true
}

fn shown(line: &Line) -> Option<(Client, Chat, u64, bool)> {
    if let Observation::Shown { chat, seq, replaces } = line.saw {
        return Some((line.client, chat, seq, replaces));
    }
    None
}

/// Two entries of one chat that a client was shown one after the other, both for the first time.
fn shown_pair(lines: &[Line], dice: &mut Dice) -> Option<(usize, usize)> {
    let first = |line: &Line| shown(line).filter(|(.., replaces)| !replaces);
    let (place, other) = find(lines, dice, |line| {
        let (client, chat, seq, _) = first(line)?;
        let after = lines.iter().enumerate().filter(|(_, other)| other.index > line.index && other.client == client);
        let mut after =
            after.take_while(|(_, other)| !matches!(other.saw, Observation::Resumed { chat: of, .. } if of == chat));
        let (other, next) =
            after.find_map(|(place, other)| Some((place, shown(other).filter(|next| next.1 == chat)?)))?;
        (!next.3 && next.2 > seq).then_some(other)
    })?;
    Some((place, other))
}

fn shown_again(lines: &mut Vec<Line>, dice: &mut Dice) -> bool {
    let Some((place, _)) = find(lines, dice, shown) else { return false };
    let twice = lines[place].clone();
    insert(lines, place + 1, twice.client, twice.saw);
    true
}

fn shown_in_other_order(lines: &mut Vec<Line>, dice: &mut Dice) -> bool {
    let Some((place, other)) = shown_pair(lines, dice) else { return false };
    let saw = lines[place].saw.clone();
    lines[place].saw = std::mem::replace(&mut lines[other].saw, saw);
    true
}

fn replaced_without_reason(lines: &mut Vec<Line>, dice: &mut Dice) -> bool {
    let epoch = |line: &Line| match line.saw {
        Observation::Ready { epoch, .. } | Observation::Entry { epoch, .. } | Observation::Resumed { epoch, .. } => {
            Some(epoch)
        }
        _ => None,
    };
    let first = find(lines, dice, |line| {
        let earlier = lines.iter().filter(|other| other.client == line.client && other.index < line.index);
        let epochs: BTreeSet<_> = earlier.filter_map(epoch).collect();
        (shown(line).is_some() && epochs.len() == 1).then_some(())
    });
    let Some((place, ())) = first else { return false };
    if let Observation::Shown { replaces, .. } = &mut lines[place].saw {
        *replaces = true;
    }
    true
}

fn never_shown(lines: &mut Vec<Line>, dice: &mut Dice) -> bool {
    let Some((place, _)) = shown_pair(lines, dice) else { return false };
    lines.remove(place);
    true
}

fn last_never_shown(lines: &mut Vec<Line>, dice: &mut Dice) -> bool {
    let Some((place, (client, chat, ..))) = find(lines, dice, shown) else { return false };
    let last = lines.iter().rposition(|line| shown(line).is_some_and(|(c, of, ..)| (c, of) == (client, chat)));
    lines.remove(last.unwrap_or(place));
    true
}

fn passed_over_at_restart(lines: &mut Vec<Line>, dice: &mut Dice) -> bool {
    let Some((place, other)) = shown_pair(lines, dice) else { return false };
    let Some((client, chat, through, _)) = shown(&lines[other]) else { return false };
    // It takes for shown what came last, and nobody saw it.
    lines.remove(other);
    insert(lines, place + 1, client, Observation::Resumed { chat, through, epoch: 0 });
    true
}

fn replacement_with_hole(lines: &mut Vec<Line>, dice: &mut Dice) -> bool {
    let replaced = |line: &Line| shown(line).filter(|(.., replaces)| *replaces);
    let between = find(lines, dice, |line| {
        let (client, chat, seq, _) = replaced(line)?;
        let place = usize::try_from(line.index).ok()?;
        let before = lines.get(place.checked_sub(1)?).and_then(replaced)?;
        let after = lines.get(place + 1).and_then(replaced)?;
        let one = (before.0, before.1) == (client, chat) && (after.0, after.1) == (client, chat);
        (one && before.2 < seq && seq < after.2).then_some(())
    });
    let Some((place, ())) = between else { return false };
    lines.remove(place);
    true
}

fn shown_not_stored(lines: &mut Vec<Line>, dice: &mut Dice) -> bool {
    let Some((_, (client, chat, seq, _))) = find(lines, dice, shown) else { return false };
    add(lines, client, Observation::Shown { chat, seq: seq + 1_000, replaces: false });
    true
}

fn shown_to_former_member(lines: &mut Vec<Line>, dice: &mut Dice) -> bool {
    let gone = find(lines, dice, |line| match &line.saw {
        Observation::FinalHistory { chat, reader, through, entries } if entries.last()?.seq < *through => {
            Some((*chat, *reader, entries.last()?.seq + 1))
        }
        _ => None,
    });
    let Some((_, (chat, reader, seq))) = gone else { return false };
    let of = |line: &Line| matches!(line.saw, Observation::Started { user, .. } if user == reader);
    let Some(client) = lines.iter().find(|line| of(line)).map(|line| line.client) else { return false };
    add(lines, client, Observation::Shown { chat, seq, replaces: false });
    true
}

fn pushed_not_stored(lines: &mut Vec<Line>, dice: &mut Dice) -> bool {
    let Some((_, entries)) = find(lines, dice, final_entries) else { return false };
    let mut entry = entries.last().unwrap().clone();
    entry.seq += 1_000;
    add(lines, Client(1), Observation::Entry { via: Via::Push, epoch: 1, entry });
    true
}

/// Spoils an entry that is not its chat's first, given the one before it.
fn spoil_entry(lines: &mut Vec<Line>, dice: &mut Dice, spoil: fn(&mut SeenEntry, &SeenEntry)) -> bool {
    let pairs = |line: &Line| {
        let entries = final_entries(line)?;
        let fits = |pair: &&[SeenEntry]| pair[0].seq + 1 == pair[1].seq && pair[1].event == Content::Message;
        let pairs: Vec<_> = entries.windows(2).filter(fits).map(<[_]>::to_vec).collect();
        (!pairs.is_empty()).then_some(pairs)
    };
    let Some((_, pairs)) = find(lines, dice, pairs) else { return false };
    let pair = &pairs[dice.below(pairs.len())];
    rewrite(lines, pair[1].chat, pair[1].seq, |entry| spoil(entry, &pair[0]));
    true
}

fn head_beyond_log(lines: &mut Vec<Line>, dice: &mut Dice) -> bool {
    let told = find(lines, dice, |line| matches!(line.saw, Observation::HeadTold { .. }).then_some(()));
    let Some((place, ())) = told else { return false };
    if let Observation::HeadTold { head, .. } = &mut lines[place].saw {
        *head += 1_000_000;
    }
    true
}

fn pushed_to_stranger(lines: &mut Vec<Line>, dice: &mut Dice) -> bool {
    let Some((_, entries)) = find(lines, dice, final_entries) else { return false };
    let entry = entries[dice.below(entries.len())].clone();
    let (user, device) = (User::from([0xdd; 16]), "spy".to_owned());
    add(lines, Client(99), Observation::Started { user, device });
    add(lines, Client(99), Observation::Entry { via: Via::Push, epoch: 1, entry });
    true
}

fn reads_on(lines: &mut Vec<Line>, dice: &mut Dice) -> bool {
    let short = find(lines, dice, |line| match &line.saw {
        Observation::FinalHistory { chat, through, entries, .. } if entries.last()?.seq < *through => {
            Some((*chat, *through))
        }
        _ => None,
    });
    let Some((place, (of, head))) = short else { return false };
    let all = lines.iter().filter_map(final_entries).flatten();
    let Some(last) = all.into_iter().find(|entry| (entry.chat, entry.seq) == (of, head)) else { return false };
    if let Observation::FinalHistory { entries, .. } = &mut lines[place].saw {
        entries.push(last);
    }
    true
}

fn reader_writes(lines: &mut Vec<Line>, dice: &mut Dice) -> bool {
    let created = find(lines, dice, |line| {
        let all = final_entries(line)?;
        let Content::ChatCreated { members, .. } = &all.first()?.event else { return None };
        let writes = |user: &User| all.iter().any(|entry| entry.event == Content::Message && entry.sender == *user);
        let still = |user: &User| {
            !all.iter().any(|entry| {
                entry.event == Content::MemberRemoved { user: *user }
                    || (entry.event == Content::MemberLeft && entry.sender == *user)
            })
        };
        members.iter().position(|(user, _)| writes(user) && still(user)).map(|writer| (all[0].chat, writer))
    });
    let Some((_, (chat, writer))) = created else { return false };
    rewrite(lines, chat, 1, |entry| {
        if let Content::ChatCreated { members, .. } = &mut entry.event {
            members[writer].1 = 4;
        }
    });
    true
}

fn own(lines: &[Line], client: Client, who: User) -> bool {
    lines
        .iter()
        .any(|line| line.client == client && matches!(line.saw, Observation::Started { user, .. } if user == who))
}

fn mark(line: &Line) -> Option<(Client, Chat, User, u64)> {
    if let Observation::Watermark { chat, user, delivered, seen: _ } = line.saw {
        return (delivered > 0).then_some((line.client, chat, user, delivered));
    }
    None
}

fn echo_back(lines: &mut Vec<Line>, dice: &mut Dice) -> bool {
    let echo = find(lines, dice, |line| mark(line).filter(|(client, _, user, _)| own(lines, *client, *user)));
    let Some((_, (client, chat, user, delivered))) = echo else { return false };
    add(lines, client, Observation::Disconnected);
    add(lines, client, Observation::Connected);
    add(lines, client, Observation::Ready { partition: chat.partition(), epoch: 1_000 });
    add(lines, client, Observation::Watermark { chat, user, delivered: delivered - 1, seen: 0 });
    true
}

fn tick_back(lines: &mut Vec<Line>, dice: &mut Dice) -> bool {
    let tick = find(lines, dice, |line| mark(line).filter(|(client, _, user, _)| !own(lines, *client, *user)));
    let Some((_, (client, chat, user, delivered))) = tick else { return false };
    // At the end: no ready of another owner follows.
    add(lines, client, Observation::Watermark { chat, user, delivered, seen: 0 });
    add(lines, client, Observation::Watermark { chat, user, delivered: delivered - 1, seen: 0 });
    true
}

fn watermark_ahead(lines: &mut Vec<Line>, dice: &mut Dice) -> bool {
    let Some((_, (send, chat, seq, _))) = find(lines, dice, stored) else { return false };
    let sent = lines.iter().position(|line| matches!(line.saw, Observation::Sent { send: of, .. } if of == send));
    let Some(place) = sent else { return false };
    let client = lines[place].client;
    // Of one who has no other watermark there, so that none goes back.
    let user = User::from([0xcc; 16]);
    insert(lines, place, client, Observation::Watermark { chat, user, delivered: seq, seen: 0 });
    true
}

fn spoil_watermark(lines: &mut Vec<Line>, dice: &mut Dice, spoil: fn(&mut u64, &mut u64)) -> bool {
    let mark = find(lines, dice, |line| matches!(line.saw, Observation::Watermark { .. }).then_some(()));
    let Some((place, ())) = mark else { return false };
    if let Observation::Watermark { delivered, seen, .. } = &mut lines[place].saw {
        spoil(delivered, seen);
    }
    true
}

fn no_final_history(lines: &mut Vec<Line>, dice: &mut Dice) -> bool {
    let of = find(lines, dice, |line| match &line.saw {
        Observation::FinalHistory { chat, .. } => Some(*chat),
        _ => None,
    });
    let Some((_, of)) = of else { return false };
    lines.retain(|line| !matches!(&line.saw, Observation::FinalHistory { chat, .. } if *chat == of));
    true
}

fn answer_unasked(lines: &mut Vec<Line>, dice: &mut Dice) -> bool {
    let Some((place, (send, ..))) = find(lines, dice, stored) else { return false };
    let (client, send) = (lines[place].client, SendKey { n: 1_000_000, ..send });
    add(lines, client, Observation::Outcome { send, answer: Answer::Rejected { code: 17 } });
    true
}
