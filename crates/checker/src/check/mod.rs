//! Judges a history: the logs first, then every line against them, then what was left open.

mod clients;
mod logs;
mod rules;
mod sends;
mod shown;
mod watermarks;

use std::collections::{BTreeSet, HashMap};

use crate::{
    Chat, Client, Counts, Invariant, Line, Observation, Report, SeenEntry, User, Via,
    truth::{self, Truth},
};

/// What a run promises beyond the invariants.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The run waited until all was delivered: a client that is caught up at its end holds all there is.
    pub quiet_end: bool,
    /// A member may read what was written before it joined.
    pub earlier_history: bool,
    /// No delivery owner had to forget a chat: a tick falls only with a change of the owner.
    pub ticks_kept: bool,
    /// The echo of one's own watermark never falls, whoever owns the partition; else it is judged as a tick is.
    pub echoes_kept: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { quiet_end: true, earlier_history: false, ticks_kept: true, echoes_kept: true }
    }
}

/// Judges a history of a run that ended quiet, where members read what was written while they were members.
pub fn check(history: &[Line]) -> Report {
    check_with(history, Options::default())
}

/// Judges a history; it is put into the order of its indexes first if it is not.
pub fn check_with(history: &[Line], options: Options) -> Report {
    if !history.is_sorted_by_key(|line| line.index) {
        let mut sorted = history.to_vec();
        sorted.sort_by_key(|line| line.index);
        return judge(&sorted, options);
    }
    judge(history, options)
}

fn judge(history: &[Line], options: Options) -> Report {
    let mut court = Court::new(history, options);
    logs::judge(&mut court, history);
    let mut sends = sends::Sends::default();
    let mut clients = clients::Clients::default();
    let mut watermarks = watermarks::Watermarks::new(&court, history);
    for line in history {
        court.count(line);
        let Some(user) = court.user(line) else { continue };
        match &line.saw {
            Observation::Sent { send, content, .. } => sends.sent(line, user, *send, *content),
            Observation::Accepted { send } => sends.accepted(&mut court, line, user, *send),
            Observation::Outcome { send, answer } => sends.outcome(&mut court, line, user, *send, *answer),
            Observation::Connected => {
                sends.connected(line.client);
                clients.line(&mut court, line, user);
            }
            Observation::Stopped => {
                sends.stopped(line.client);
                clients.stopped(line.client);
                watermarks.disconnected(line.client);
            }
            Observation::Entry { via, epoch, entry } => {
                court.agrees(line, entry, *via);
                clients.entry(&mut court, line, user, entry, (*via, *epoch));
            }
            Observation::Watermark { chat, user: of, delivered, seen } => {
                watermarks.seen(&mut court, line, user, (*chat, *of), (*delivered, *seen));
            }
            Observation::Disconnected => {
                watermarks.disconnected(line.client);
                clients.line(&mut court, line, user);
            }
            Observation::Ready { partition, .. } => {
                watermarks.ready(line.client, *partition);
                clients.line(&mut court, line, user);
            }
            Observation::Resumed { .. }
            | Observation::Shown { .. }
            | Observation::HeadTold { .. }
            | Observation::CaughtUp { .. }
            | Observation::FellBehind { .. }
            | Observation::HistoryAnswer { .. } => clients.line(&mut court, line, user),
            Observation::Started { .. } | Observation::FinalHistory { .. } => {}
        }
    }
    sends.close(&mut court);
    clients.close(&mut court);
    watermarks.close(&mut court);
    court.report
}

/// What all parts of a check share.
#[derive(Debug)]
struct Court<'a> {
    options: Options,
    truth: Truth<'a>,
    users: HashMap<Client, User>,
    unread: BTreeSet<Chat>,
    /// Each entry as it was first seen unchanged: of a changed one the final history does not tell it.
    originals: HashMap<(Chat, u64), (&'a Line, &'a SeenEntry)>,
    report: Report,
}

impl<'a> Court<'a> {
    fn new(history: &'a [Line], options: Options) -> Self {
        let truth = truth::gather(history);
        let mut users = HashMap::new();
        for line in history {
            if let Observation::Started { user, .. } = &line.saw {
                users.insert(line.client, *user);
            }
        }
        let counts = Counts {
            clients: users.len() as u64,
            chats: truth.len() as u64,
            entries: truth.values().map(|of_chat| of_chat.entries().count() as u64).sum(),
            ..Counts::default()
        };
        let report = Report { counts, ..Report::default() };
        Self { options, truth, users, unread: BTreeSet::new(), originals: HashMap::new(), report }
    }

    /// Whose line it is. The run's own lines are nobody's.
    fn user(&mut self, line: &Line) -> Option<User> {
        let user = self.users.get(&line.client).copied();
        if user.is_none() && line.client != Client(0) {
            self.report.fault(Invariant::Record, || format!("{} never said whose it is", line.client), [line]);
        }
        user
    }

    /// Notes, once a chat, that nothing can be said of it.
    fn has_truth(&mut self, line: &Line, chat: Chat) -> bool {
        let known = self.truth.contains_key(&chat);
        if !known && self.unread.insert(chat) {
            self.report.fault(Invariant::Record, || format!("chat {chat} has no final history"), [line]);
        }
        known
    }

    /// N3 and N5: the entry stands in the final history, byte for byte but for what was edited or deleted since.
    fn agrees(&mut self, line: &'a Line, entry: &'a SeenEntry, via: Via) {
        if !self.has_truth(line, entry.chat) {
            return;
        }
        let Some(placed) = self.truth[&entry.chat].at(entry.seq) else {
            let (invariant, how) = match via {
                Via::Push => (Invariant::N5, "pushed"),
                Via::History => (Invariant::N3, "shown by history"),
                Via::Rebuilt => (Invariant::N3, "shown by a rebuilt model"),
            };
            let what = || format!("seq {} of chat {} was {how}, yet is in no final history", entry.seq, entry.chat);
            self.report.fault(invariant, what, [line]);
            return;
        };
        if entry.changed.is_none() {
            let (first, said) = *self.originals.entry((entry.chat, entry.seq)).or_insert((line, entry));
            if said != entry {
                let what = || format!("two contents of seq {} in chat {}", entry.seq, entry.chat);
                self.report.fault(Invariant::N3, what, [first, line]);
            }
        }
        if !self.truth[&entry.chat].agree(placed.entry, entry) {
            let what = || format!("two contents of seq {} in chat {}", entry.seq, entry.chat);
            let evidence = || [line.to_string(), format!("the final history says: {}", placed.entry)];
            self.report.fault(Invariant::N3, what, evidence());
            if via == Via::Push {
                let what = || format!("seq {} of chat {} was pushed with other content", entry.seq, entry.chat);
                self.report.fault(Invariant::N5, what, evidence());
            }
        }
    }

    fn count(&mut self, line: &Line) {
        let counts = &mut self.report.counts;
        let counter = match &line.saw {
            Observation::Sent { .. } => &mut counts.sends,
            Observation::Accepted { .. } => &mut counts.accepted,
            Observation::Outcome { answer: crate::Answer::Stored { .. }, .. } => &mut counts.stored,
            Observation::Outcome { answer: crate::Answer::Rejected { .. }, .. } => &mut counts.rejected,
            Observation::Entry { via: Via::Push, .. } => &mut counts.pushed,
            Observation::Entry { via: Via::History | Via::Rebuilt, .. } => &mut counts.read,
            Observation::Shown { .. } => &mut counts.shown,
            Observation::CaughtUp { .. } => &mut counts.caught_up,
            Observation::Watermark { .. } => &mut counts.watermarks,
            Observation::FinalHistory { .. } => &mut counts.final_histories,
            Observation::Started { .. }
            | Observation::Resumed { .. }
            | Observation::Connected
            | Observation::Disconnected
            | Observation::Stopped
            | Observation::Ready { .. }
            | Observation::HeadTold { .. }
            | Observation::FellBehind { .. }
            | Observation::HistoryAnswer { .. } => return,
        };
        *counter += 1;
    }
}
