//! Judges watermarks: `seen` ≤ `delivered` ≤ head, none goes back, and none is ahead of what was sent.

use std::collections::{BTreeMap, HashMap};

use super::Court;
use crate::{Chat, Client, Content, Invariant, Line, Observation, SendKey, User};

#[derive(Debug, Default)]
pub(super) struct Watermarks<'a> {
    latest: HashMap<(Client, Chat, User), Latest<'a>>,
    /// How often each client was told that a partition is ready.
    readies: HashMap<(Client, u16), u64>,
    /// Right only if another owner took over: its ready, or the end of the socket, is on the way then.
    falls: HashMap<(Client, u16), Vec<Fall<'a>>>,
    /// Per chat and seq: the line before which the entry cannot have been. The index is seq − 1.
    born: BTreeMap<Chat, Vec<Option<&'a Line>>>,
}

/// A watermark that is lower than the one before it.
#[derive(Debug)]
struct Fall<'a> {
    /// The device's user's: an echo, no tick.
    own: bool,
    chat: Chat,
    user: User,
    lines: [&'a Line; 2],
}

#[derive(Debug)]
struct Latest<'a> {
    delivered: u64,
    seen: u64,
    readies: u64,
    line: &'a Line,
}

impl<'a> Watermarks<'a> {
    /// Finds when each command was first sent.
    pub(super) fn new(court: &Court<'_>, history: &'a [Line]) -> Self {
        let mut sent: HashMap<(User, SendKey), &'a Line> = HashMap::new();
        for line in history {
            if let Observation::Sent { send, .. } = &line.saw
                && let Some(user) = court.users.get(&line.client)
            {
                sent.entry((*user, *send)).or_insert(line);
            }
        }
        let mut born = BTreeMap::new();
        for (chat, log) in &court.truth {
            let mut latest: Option<&'a Line> = None;
            let lines = (1..=log.head()).map(|seq| {
                let entry = log.at(seq).map(|placed| placed.entry)?;
                let creation = matches!(entry.event, Content::ChatCreated { .. });
                let (origin, n) = if creation { (0, 0) } else { (entry.origin, entry.n) };
                let first = sent.get(&(entry.sender, SendKey { chat: *chat, origin, n })).copied();
                // An entry is not older than those before it.
                latest = latest.into_iter().chain(first).max_by_key(|line| line.index);
                latest
            });
            born.insert(*chat, lines.collect());
        }
        Self { latest: HashMap::new(), readies: HashMap::new(), falls: HashMap::new(), born }
    }

    /// There may be another owner, who knows less than the one before it.
    pub(super) fn ready(&mut self, client: Client, partition: u16) {
        *self.readies.entry((client, partition)).or_default() += 1;
        // Its first batches are faster than its ready.
        self.falls.remove(&(client, partition));
    }

    /// No ready can follow any more.
    pub(super) fn disconnected(&mut self, client: Client) {
        self.falls.retain(|(of, _), _| *of != client);
    }

    /// N8: a frame as it came to a device of `own`.
    pub(super) fn seen(
        &mut self,
        court: &mut Court<'_>,
        line: &'a Line,
        own: User,
        (chat, user): (Chat, User),
        (delivered, seen): (u64, u64),
    ) {
        if !court.has_truth(line, chat) {
            return;
        }
        let head = court.truth[&chat].head();
        if seen > delivered || delivered > head {
            let what = || format!("seen {seen} ≤ delivered {delivered} ≤ head {head} does not hold in chat {chat}");
            court.report.fault(Invariant::N8, what, [line]);
        }
        let last = usize::try_from(delivered.max(seen).min(head)).unwrap_or_default();
        let born = last.checked_sub(1).and_then(|place| *self.born.get(&chat)?.get(place)?);
        if let Some(sent) = born.filter(|sent| sent.index > line.index) {
            let what = || format!("{user} has a watermark at seq {last} of chat {chat} before that could be");
            court.report.fault(Invariant::N8, what, [line, sent]);
        }
        let readies = self.readies.get(&(line.client, chat.partition())).copied().unwrap_or_default();
        let now = Latest { delivered, seen, readies, line };
        let Some(before) = self.latest.insert((line.client, chat, user), now) else { return };
        if delivered >= before.delivered && seen >= before.seen {
            return;
        }
        let fall = Fall { own: user == own, chat, user, lines: [before.line, line] };
        if fall.own && court.options.echoes_kept {
            // M20: out of the table, which never goes back.
            fall.tell(court);
        } else if before.readies == readies && court.options.ticks_kept {
            self.falls.entry((line.client, chat.partition())).or_default().push(fall);
        }
    }

    /// N8 at the end: what fell without another owner fell for no reason.
    pub(super) fn close(self, court: &mut Court<'_>) {
        let mut falls: Vec<_> = self.falls.into_values().flatten().collect();
        falls.sort_unstable_by_key(|fall| fall.lines[1].index);
        falls.iter().for_each(|fall| fall.tell(court));
    }
}

impl Fall<'_> {
    fn tell(&self, court: &mut Court<'_>) {
        let Self { own, chat, user, lines } = self;
        let name = if *own { "echo" } else { "tick" };
        court.report.fault(Invariant::N8, || format!("the {name} of {user} in chat {chat} went back"), lines);
    }
}
