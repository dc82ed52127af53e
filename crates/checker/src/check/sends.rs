//! Judges sends: each accepted one gets an answer, each answer is true, and it never changes.

use std::collections::{HashMap, HashSet};

use super::Court;
use crate::{Answer, Chat, Client, Content, Hash, Invariant, Line, SeenEntry, SendKey, User, truth::Placed};

/// The wire's codes that a copy of a stored send may be answered with: conflict, superseded, `origin_unknown`.
const CODES_OF_LATE_COPIES: [u32; 3] = [19, 20, 22];

#[derive(Debug, Default)]
pub(super) struct Sends<'a> {
    sends: HashMap<(User, SendKey), Send<'a>>,
    origins: HashSet<(User, u64)>,
    stopped: HashSet<Client>,
    /// How often each client connected.
    connections: HashMap<Client, u64>,
}

/// A client's connection: an answer comes on the one that its copy was sent on, or not at all.
type Connection = (Client, u64);

#[derive(Debug, Default)]
struct Send<'a> {
    sent: Vec<(&'a Line, Option<Hash>)>,
    accepted: Option<&'a Line>,
    answered: bool,
    stored: Option<(&'a Line, Answer)>,
    /// The last connection on which it was sent before the client knew that it was stored: there, a rejection may be
    /// the late answer to such a copy.
    unsure_on: Option<Connection>,
    /// The last other connection on which it was sent after that.
    asked_again_on: Option<Connection>,
}

impl<'a> Sends<'a> {
    pub(super) fn sent(&mut self, line: &'a Line, user: User, key: SendKey, content: Option<Hash>) {
        self.origins.insert((user, key.origin));
        let on = self.connection(line.client);
        let send = self.sends.entry((user, key)).or_default();
        if send.stored.is_none() {
            send.unsure_on = Some(on);
        } else if send.unsure_on != Some(on) {
            send.asked_again_on = Some(on);
        }
        // A resend adds nothing; another content under the same identity does.
        if !send.sent.iter().any(|(_, other)| *other == content) {
            send.sent.push((line, content));
        }
    }

    pub(super) fn connected(&mut self, client: Client) {
        *self.connections.entry(client).or_default() += 1;
    }

    fn connection(&self, client: Client) -> Connection {
        (client, self.connections.get(&client).copied().unwrap_or_default())
    }

    pub(super) fn accepted(&mut self, court: &mut Court<'_>, line: &'a Line, user: User, key: SendKey) {
        let send = self.known(court, line, user, key);
        send.accepted.get_or_insert(line);
    }

    pub(super) fn outcome(&mut self, court: &mut Court<'_>, line: &'a Line, user: User, key: SendKey, answer: Answer) {
        let on = self.connection(line.client);
        let send = self.known(court, line, user, key);
        send.answered = true;
        let first = send.stored;
        match answer {
            Answer::Stored { chat, seq, time } => {
                send.stored.get_or_insert((line, answer));
                match first {
                    Some((_, known)) if known == answer => return,
                    Some((first, _)) => {
                        court.report.fault(Invariant::N2, || format!("two outcomes of {key}"), [first, line]);
                    }
                    None => {}
                }
                stands(court, line, user, key, (chat, seq, time));
            }
            Answer::Rejected { code } => {
                // Before it is known to be stored, an earlier copy may be rejected and a later one stored.
                let Some((first, _)) = first.filter(|_| send.asked_again_on == Some(on)) else { return };
                if !CODES_OF_LATE_COPIES.contains(&code) {
                    let what = || format!("{key} was stored and is rejected when asked for again");
                    court.report.fault(Invariant::N1, what, [first, line]);
                }
            }
        }
    }

    pub(super) fn stopped(&mut self, client: Client) {
        self.stopped.insert(client);
    }

    /// N1 at the end: an answer to all that was accepted, and nothing in the logs that was not sent.
    pub(super) fn close(&self, court: &mut Court<'_>) {
        let Court { truth, report, originals, .. } = court;
        let mut stored: HashSet<(User, SendKey)> = HashSet::new();
        for placed in truth.values().flat_map(|log| log.entries()) {
            let Placed { entry, line } = placed;
            let creation = matches!(entry.event, Content::ChatCreated { .. });
            let (origin, n) = if creation { (0, 0) } else { (entry.origin, entry.n) };
            let key = SendKey { chat: entry.chat, origin, n };
            stored.insert((entry.sender, key));
            let evidence = || format!("{line}: {entry}");
            if let Some(send) = self.sends.get(&(entry.sender, key)) {
                // Of what was changed since, what was seen before tells it.
                let original = originals.get(&(entry.chat, entry.seq)).map_or(entry, |(_, said)| said);
                let is_known = original.changed.is_none();
                let sent_so = |(_, content): &(&Line, Option<Hash>)| {
                    !is_known || content.is_none_or(|hash| hash == original.content)
                };
                if !send.sent.is_empty() && !send.sent.iter().any(sent_so) {
                    let mut lines: Vec<_> = send.sent.iter().take(4).map(|(sent, _)| sent.to_string()).collect();
                    lines.push(evidence());
                    report.fault(Invariant::N1, || format!("{key} was stored with other content"), lines);
                }
            } else if origin != 0 && self.origins.contains(&(entry.sender, origin)) {
                report.fault(Invariant::N1, || format!("{key} is stored and was never sent"), [evidence()]);
            }
        }
        let mut open: Vec<_> = self
            .sends
            .iter()
            .filter(|(key, send)| !send.answered && !stored.contains(key))
            .filter_map(|((_, key), send)| send.accepted.map(|line| (line, key)))
            .filter(|(line, _)| !self.stopped.contains(&line.client))
            .collect();
        open.sort_unstable_by_key(|(line, _)| line.index);
        for (line, key) in open {
            let what = || format!("{key} was accepted and has neither an outcome nor an entry");
            report.fault(Invariant::N1, what, [line]);
        }
    }

    fn known(&mut self, court: &mut Court<'_>, line: &'a Line, user: User, key: SendKey) -> &mut Send<'a> {
        let send = self.sends.entry((user, key)).or_default();
        if send.sent.is_empty() {
            court.report.fault(Invariant::Record, || format!("{key} is answered and was never sent"), [line]);
        }
        send
    }
}

/// N1: the log holds, where the outcome says, what the command led to.
fn stands(court: &mut Court<'_>, line: &Line, user: User, key: SendKey, (chat, seq, time): (Chat, u64, u64)) {
    if !court.has_truth(line, chat) {
        return;
    }
    let Some(Placed { entry, .. }) = court.truth[&chat].at(seq) else {
        let what = || format!("{key} is said to be stored at seq {seq}, where nothing is");
        court.report.fault(Invariant::N1, what, [line]);
        return;
    };
    if !is_of(entry, user, key, chat) || entry.time != time {
        let what = || format!("{key} is said to be stored at seq {seq}, where something else is");
        let evidence = [line.to_string(), format!("the final history says: {entry}")];
        court.report.fault(Invariant::N1, what, evidence);
    }
}

/// Whether this entry is what that command led to.
fn is_of(entry: &SeenEntry, user: User, key: SendKey, chat: Chat) -> bool {
    if let Content::ChatCreated { members, .. } = &entry.event {
        // A direct chat that existed answers for the new one: the other may have made it.
        let own = entry.sender == user && chat == key.chat;
        key.is_creation() && (own || members.iter().any(|(member, _)| *member == user))
    } else {
        chat == key.chat && (entry.sender, entry.origin, entry.n) == (user, key.origin, key.n)
    }
}
