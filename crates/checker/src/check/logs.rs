//! Judges the final histories: one log a chat, dense, in order, written by members only.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::{Court, rules};
use crate::{
    Chat, Content, Invariant, Line, Observation, SeenEntry, User,
    truth::{ChatTruth, Placed},
};

pub(super) fn judge(court: &mut Court<'_>, history: &[Line]) {
    let stored = stored_seqs(history);
    let mut readers: HashSet<(Chat, User)> = HashSet::new();
    for line in history {
        if let Observation::FinalHistory { chat, reader, through, entries } = &line.saw {
            readers.insert((*chat, *reader));
            final_history(court, line, *chat, *reader, *through, entries, &stored);
        }
    }
    let truth = std::mem::take(&mut court.truth);
    for (chat, log) in &truth {
        let unread = log.members_now().filter(|user| !readers.contains(&(*chat, *user))).count();
        court.report.counts.members_unread += unread as u64;
        dense(court, *chat, log);
        in_order(court, *chat, log);
        if log.whole {
            rules::judge(court, *chat, log);
        }
    }
    court.truth = truth;
}

/// Which seqs a client was told to be stored: missing, they are a loss and not just a hole.
fn stored_seqs(history: &[Line]) -> HashSet<(Chat, u64)> {
    let mut stored = HashSet::new();
    for line in history {
        if let Observation::Outcome { answer: crate::Answer::Stored { chat, seq, .. }, .. } = &line.saw {
            stored.insert((*chat, *seq));
        }
    }
    stored
}

/// N1, N3, N4, N7: one reader's view is what its membership shows of the one log.
fn final_history(
    court: &mut Court<'_>,
    line: &Line,
    chat: Chat,
    reader: User,
    through: u64,
    entries: &[SeenEntry],
    stored: &HashSet<(Chat, u64)>,
) {
    let Court { truth, report, options, .. } = court;
    let log = &truth[&chat];
    let mut shown = BTreeSet::new();
    let mut last = 0;
    for entry in entries {
        let seq = entry.seq;
        if !shown.insert(seq) {
            report.fault(Invariant::N1, || format!("seq {seq} of chat {chat} is in one history twice"), [line]);
        } else if seq <= last {
            report.fault(Invariant::N4, || format!("seq {seq} of chat {chat} comes after seq {last}"), [line]);
        }
        last = last.max(seq);
        if entry.chat != chat || seq > through {
            let what = || format!("{entry} is outside of what the history of chat {chat} claims to hold");
            report.fault(Invariant::N4, what, [line]);
        }
        match log.at(seq) {
            Some(placed) if !log.agree(placed.entry, entry) => {
                let evidence = [format!("{line}: {entry}"), format!("{}: {}", placed.line, placed.entry)];
                let what = || format!("two readers see different entries at seq {seq} of chat {chat}");
                report.fault(Invariant::N3, what, evidence);
            }
            Some(_) => {}
            None => report.fault(Invariant::N4, || format!("chat {chat} cannot have a seq {seq}"), [line]),
        }
        if log.whole && !log.shows(reader, seq) && !(options.earlier_history && seq <= log.last_shown(reader)) {
            let what = || format!("{reader} reads seq {seq} of chat {chat} without being a member");
            report.fault(Invariant::N7, what, [line]);
        }
    }
    if !log.whole {
        return;
    }
    if through > log.head() || (log.is_member_now(reader) && through < log.head()) {
        let what = || format!("history of chat {chat} is whole through {through}, its head is {}", log.head());
        report.fault(Invariant::N4, what, [line]);
    }
    for seq in (1..=log.head()).filter(|seq| log.shows(reader, *seq) && !shown.contains(seq)) {
        let invariant = if stored.contains(&(chat, seq)) { Invariant::N1 } else { Invariant::N4 };
        report.fault(invariant, || format!("{reader} does not find seq {seq} in chat {chat}"), [line]);
    }
}

/// N4: 1, 2, 3 … with no hole, over what all readers see together.
fn dense(court: &mut Court<'_>, chat: Chat, log: &ChatTruth<'_>) {
    for (first, last) in log.holes() {
        let evidence = [log.at(first - 1), log.at(last + 1)];
        let evidence = evidence.iter().flatten().map(|placed| format!("{}: {}", placed.line, placed.entry));
        court.report.fault(
            Invariant::N4,
            || format!("no final history of chat {chat} holds seq {first} to {last}"),
            evidence,
        );
    }
    if log.head() == 0 {
        let what = || format!("every final history of chat {chat} is empty");
        court.report.fault(Invariant::Record, what, std::iter::empty::<String>());
    }
}

/// N2, N3, N5: each command once, each origin's in order, time and ordinal as the entries say.
fn in_order(court: &mut Court<'_>, chat: Chat, log: &ChatTruth<'_>) {
    let mut sends: HashMap<(User, u64, u64), Placed<'_>> = HashMap::new();
    let mut latest: HashMap<(User, u64), Placed<'_>> = HashMap::new();
    let mut before: Option<Placed<'_>> = None;
    for placed in log.entries() {
        let Placed { entry, line } = placed;
        let evidence = |other: &Placed<'_>| [format!("{}: {}", other.line, other.entry), format!("{line}: {entry}")];
        if let Some(before) = &before {
            if entry.time <= before.entry.time {
                let what = || format!("time does not grow from seq {} to {}", before.entry.seq, entry.seq);
                court.report.fault(Invariant::N5, what, evidence(before));
            }
            let expected = before.entry.ordinal + u64::from(entry.event == Content::Message);
            if entry.seq == before.entry.seq + 1 && entry.ordinal != expected {
                let what = || format!("ordinal at seq {} is not {expected}", entry.seq);
                court.report.fault(Invariant::N5, what, evidence(before));
            }
        } else if entry.seq == 1 && entry.ordinal != 0 {
            court.report.fault(
                Invariant::N5,
                || format!("chat {chat} begins with an ordinal"),
                [format!("{line}: {entry}")],
            );
        }
        before = Some(placed);
        if matches!(entry.event, Content::ChatCreated { .. }) {
            continue;
        }
        if let Some(other) = sends.insert((entry.sender, entry.origin, entry.n), placed) {
            let what = || format!("one send is stored at seq {} and at seq {}", other.entry.seq, entry.seq);
            court.report.fault(Invariant::N2, what, evidence(&other));
        } else if let Some(other) = latest.get(&(entry.sender, entry.origin)).filter(|other| other.entry.n > entry.n) {
            let what = || format!("send {} stands after send {} of its origin", entry.n, other.entry.n);
            court.report.fault(Invariant::N3, what, evidence(other));
        }
        latest.insert((entry.sender, entry.origin), placed);
    }
}
