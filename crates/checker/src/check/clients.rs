//! Judges each client's timelines: no hole once it is caught up, and nothing that its user may not see.

use std::collections::{BTreeMap, BTreeSet};

use super::{Court, shown::Screen};
use crate::{Chat, Client, Invariant, Line, Observation, SeenEntry, User, Via, runs::Run};

#[derive(Debug, Default)]
pub(super) struct Clients<'a> {
    clients: BTreeMap<Client, Timelines<'a>>,
}

#[derive(Debug, Default)]
struct Timelines<'a> {
    runs: BTreeMap<Chat, Run>,
    screen: Screen,
    connected: bool,
    told: BTreeMap<Chat, (u64, &'a Line)>,
    caught_up: BTreeMap<u16, &'a Line>,
}

impl<'a> Clients<'a> {
    pub(super) fn entry(
        &mut self,
        court: &mut Court<'_>,
        line: &Line,
        user: User,
        entry: &SeenEntry,
        (via, epoch): (Via, u64),
    ) {
        let timelines = self.clients.entry(line.client).or_default();
        if via != Via::Rebuilt {
            timelines.epoch(entry.chat.partition(), epoch);
        }
        timelines.runs.entry(entry.chat).or_default().got(entry.seq);
        let Some(log) = court.truth.get(&entry.chat).filter(|log| log.whole && entry.seq <= log.head()) else { return };
        if via == Via::Push && log.is_imported(entry.seq) {
            let what = || format!("{user} is pushed seq {} of chat {}, which was imported", entry.seq, entry.chat);
            court.report.fault(Invariant::N7, what, [line]);
        }
        let allowed = log.shows(user, entry.seq)
            || match via {
                Via::Push => false,
                Via::History => court.options.earlier_history && entry.seq <= log.last_shown(user),
                Via::Rebuilt => true,
            };
        if !allowed {
            let what = || format!("{user} gets seq {} of chat {} without being a member", entry.seq, entry.chat);
            court.report.fault(Invariant::N7, what, [line]);
        }
    }

    /// Lines that move a client's timelines, other than entries.
    pub(super) fn line(&mut self, court: &mut Court<'_>, line: &'a Line, user: User) {
        let timelines = self.clients.entry(line.client).or_default();
        if let Observation::Resumed { chat, through, epoch } = &line.saw {
            timelines.runs.entry(*chat).or_default().begin(*through);
            timelines.screen.resumed(court, line, user, (*chat, *through, *epoch), timelines.connected);
        } else if let Observation::Connected = &line.saw {
            timelines.connected = true;
        } else if let Observation::Ready { partition, epoch } = &line.saw {
            timelines.epoch(*partition, *epoch);
        } else if let Observation::Shown { chat, seq, replaces } = &line.saw {
            if !timelines.runs.get(chat).is_some_and(|run| run.holds(*seq)) {
                let what = || format!("seq {seq} of chat {chat} is shown and never came");
                court.report.fault(Invariant::N4, what, [line]);
            }
            timelines.screen.shown(court, line, user, (*chat, *seq, *replaces));
        } else if let Observation::Disconnected = &line.saw {
            timelines.caught_up.clear();
        } else if let Observation::FellBehind { partition } = &line.saw {
            timelines.caught_up.remove(partition);
        } else if let Observation::HeadTold { chat, head } = &line.saw {
            timelines.head_told(court, line, *chat, *head);
        } else if let Observation::CaughtUp { partition } = &line.saw {
            timelines.caught_up(court, line, user, *partition);
        } else if let Observation::HistoryAnswer { chat, after, through, seqs } = &line.saw {
            history_answer(court, line, user, *chat, (*after, *through), seqs);
        }
    }

    pub(super) fn stopped(&mut self, client: Client) {
        self.clients.remove(&client);
    }

    /// N4 at the end: who is still caught up has no hole, and on a quiet end everything.
    pub(super) fn close(&mut self, court: &mut Court<'_>) {
        let Court { truth, report, options, users, .. } = court;
        for (client, timelines) in &mut self.clients {
            let user = users[client];
            for (chat, log) in truth.iter().filter(|(_, log)| log.whole) {
                let Some(since) = timelines.caught_up.get(&chat.partition()) else { continue };
                let highest = timelines.runs.get(chat).map_or(0, Run::highest);
                let last = if options.quiet_end { log.last_shown(user) } else { highest };
                if last == 0 {
                    // Most clients have no part in most chats: no run is kept for those.
                    continue;
                }
                let run = timelines.runs.entry(*chat).or_default();
                let (missing, how) = match run.missing(log, user, last) {
                    None => (timelines.screen.due(log, user, *chat, last), "never showed"),
                    missing => (missing, "lacks"),
                };
                if let Some(missing) = missing {
                    let what = || format!("{client} is caught up at the end and {how} seq {missing} of chat {chat}");
                    let lacks = log.at(missing).map(|placed| format!("the final history says: {}", placed.entry));
                    report.fault(Invariant::N4, what, [Some(since.to_string()), lacks].into_iter().flatten());
                }
            }
        }
    }
}

impl<'a> Timelines<'a> {
    /// M7: what an earlier epoch told or pushed may not be in this one's log; its own heads and entries say what is.
    fn epoch(&mut self, partition: u16, epoch: u64) {
        if !self.screen.epoch(partition, epoch) {
            return;
        }
        self.told.retain(|chat, _| chat.partition() != partition);
        let runs = self.runs.iter_mut().filter(|(chat, _)| chat.partition() == partition);
        runs.for_each(|(_, run)| run.epoch_began());
    }

    fn head_told(&mut self, court: &mut Court<'_>, line: &'a Line, chat: Chat, head: u64) {
        if !court.has_truth(line, chat) {
            return;
        }
        let last = court.truth[&chat].head();
        if head > last {
            let what = || format!("head {head} of chat {chat} was told, its log ends at {last}");
            court.report.fault(Invariant::N5, what, [line]);
        }
        let told = self.told.entry(chat).or_insert((head, line));
        if head > told.0 {
            *told = (head, line);
        }
    }

    fn caught_up(&mut self, court: &mut Court<'_>, line: &'a Line, user: User, partition: u16) {
        self.caught_up.insert(partition, line);
        let Court { truth, report, .. } = court;
        let chats = self.runs.keys().chain(self.told.keys()).copied();
        let chats: BTreeSet<_> = chats.chain(self.screen.chats()).collect();
        for chat in chats.into_iter().filter(|chat| chat.partition() == partition) {
            let Some(log) = truth.get(&chat).filter(|log| log.whole) else { continue };
            let run = self.runs.entry(chat).or_default();
            let told = self.told.get(&chat);
            let last = told.map_or(0, |(head, _)| *head).max(run.highest());
            let (missing, how) = match run.missing(log, user, last) {
                None => (self.screen.due(log, user, chat, last), "never showed"),
                missing => (missing, "lacks"),
            };
            if let Some(missing) = missing {
                let what = || format!("caught up through {last} of chat {chat} and {how} seq {missing}");
                let told = told.map(|(_, told)| told.to_string());
                report.fault(Invariant::N4, what, told.into_iter().chain([line.to_string()]));
            }
        }
    }
}

/// N4 and M22: an answer is unbroken from after + 1 through what it claims.
fn history_answer(
    court: &mut Court<'_>,
    line: &Line,
    user: User,
    chat: Chat,
    (after, through): (u64, u64),
    seqs: &[u64],
) {
    if !court.has_truth(line, chat) {
        return;
    }
    let Court { truth, report, .. } = court;
    let log = &truth[&chat];
    let inside = seqs.iter().all(|seq| (after.saturating_add(1)..=through).contains(seq));
    if through < after || !inside || !seqs.is_sorted_by(|earlier, later| earlier < later) {
        report.fault(
            Invariant::N4,
            || format!("history of chat {chat} does not rise from {after} to {through}"),
            [line],
        );
        return;
    }
    if through > log.head() {
        let what =
            || format!("history of chat {chat} is said to be whole through {through}, it ends at {}", log.head());
        report.fault(Invariant::N4, what, [line]);
    }
    if !log.whole {
        return;
    }
    let mut shown = seqs.iter().copied().peekable();
    for seq in after.saturating_add(1)..=through.min(log.head()) {
        if shown.next_if_eq(&seq).is_none() && log.shows(user, seq) {
            let what = || format!("history of chat {chat} after {after} through {through} lacks seq {seq}");
            report.fault(Invariant::N4, what, [line]);
        }
    }
}
