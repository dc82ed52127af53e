//! The end of a run: everything comes to rest, every chat is read as each who may, and the checker judges.

use std::collections::BTreeMap;
use std::time::Duration;

use checker::{Hash, SeenEntry};
use client::machine::Entry;
use client::{ChatId, Client, UserId};
use futures_util::future::join_all;
use proto::v1::ErrorCode;
use tokio::time::{Instant, sleep, timeout};
use witness::{chat_of, seen_entry, user_of};

use super::cast::{Cast, holds};
use super::http::Answers;

/// Between two tries to read a page.
const AGAIN_AFTER: Duration = Duration::from_millis(50);
/// Evidence lines that a report keeps of one violation, and characters of each.
const EVIDENCE_MAX: usize = 6;
const EVIDENCE_CHARS_MAX: usize = 400;

/// A broken promise.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Violation {
    /// `N1` … `N10`, `Record` where the record proves nothing, `Rest` where the deployment does not come to rest.
    pub(crate) invariant: String,
    pub(crate) what: String,
    pub(crate) evidence: Vec<String>,
}

/// How much was judged, and what was wrong.
#[derive(Clone, Debug, Default)]
pub(crate) struct Verdict {
    pub(crate) violations: Vec<Violation>,
    /// How many there are of each invariant, kept or not.
    pub(crate) totals: BTreeMap<String, u64>,
    pub(crate) counts: checker::Counts,
    /// HTTP sends whose entry was looked for.
    pub(crate) http: u64,
    /// Lines of the chat list that were held against the log.
    pub(crate) lines: u64,
    /// Watermarks of users that were held against what they had been told.
    pub(crate) marks: u64,
}

/// Who read what of each chat when the run was over.
pub(crate) type Histories = BTreeMap<(ChatId, String), Vec<SeenEntry>>;

impl Verdict {
    pub(crate) fn add(&mut self, invariant: &str, what: impl Into<String>, evidence: Vec<String>) {
        *self.totals.entry(invariant.to_owned()).or_default() += 1;
        self.violations.push(Violation { invariant: invariant.to_owned(), what: what.into(), evidence });
    }
}

/// Waits until nobody waits for an answer; says who still does.
pub(crate) async fn rest(cast: &Cast, within: Duration, verdict: &mut Verdict) {
    let seats = cast.seats();
    if holds(within, || seats.iter().all(|seat| seat.client().unsettled() == 0)).await {
        return;
    }
    for seat in seats {
        let open = seat.client().unsettled();
        if open > 0 {
            verdict.add(
                "Rest",
                format!("{open} commands of {} have no outcome after {within:?}", seat.name),
                Vec::new(),
            );
        }
    }
}

/// Reads every chat as everybody, and notes it for the checker.
pub(crate) async fn read_all(cast: &Cast, within: Duration, verdict: &mut Verdict) -> Histories {
    let readers: BTreeMap<String, Client> =
        cast.names().into_iter().map(|name| (name.clone(), cast.reader(&name))).collect();
    let mut reading = Vec::new();
    for chat in cast.chats() {
        let stored = cast.highest_stored(chat);
        for (name, reader) in &readers {
            reading.push(async move {
                let whole = history(reader, chat, stored, Instant::now() + within).await;
                // What can be read at all still tells something.
                let part = match whole {
                    Read::Stuck { .. } => Some(history(reader, chat, 0, Instant::now() + within / 4).await),
                    Read::Whole(_) | Read::Stranger => None,
                };
                (chat, stored, name, whole, part)
            });
        }
    }
    let mut histories = Histories::new();
    for (chat, stored, name, whole, part) in join_all(reading).await {
        if let Read::Stuck { through, error } = &whole {
            let what = format!(
                "chat {chat} is told to be stored through seq {stored}, and {name} can read it through {through} only: {error}"
            );
            verdict.add("N1", what, Vec::new());
        }
        if let Read::Whole(entries) = part.unwrap_or(whole) {
            let through = entries.last().map_or(0, |entry| entry.seq);
            let reader = user_of(cast.entry().user(name));
            cast.recorder.final_history(chat_of(chat), reader, through, entries.clone());
            histories.insert((chat, name.clone()), entries);
        }
    }
    histories
}

/// Waits until every device holds what its user may see; says which do not.
pub(crate) async fn delivered(cast: &Cast, histories: &Histories, within: Duration, verdict: &mut Verdict) {
    let user = |name: &String| cast.entry().user(name);
    let mut last: BTreeMap<UserId, Vec<(ChatId, u64)>> = BTreeMap::new();
    for ((chat, name), entries) in histories {
        last.entry(user(name)).or_default().push((*chat, entries.last().map_or(0, |entry| entry.seq)));
    }
    let seats = cast.seats();
    let lacks = |seat: &super::cast::Seat| {
        let client = seat.client();
        let due = last.get(&seat.user).into_iter().flatten();
        let missing = due.filter(|(chat, last)| client.known(*chat) < *last).count();
        (!seat.eyes().seen().caught_up)
            .then_some("is not caught up")
            .or_else(|| (missing > 0).then_some("lacks entries"))
    };
    if holds(within, || seats.iter().all(|seat| lacks(seat).is_none())).await {
        return;
    }
    for seat in &seats {
        if let Some(lack) = lacks(seat) {
            verdict.add(
                "N4",
                format!("a device of {} {lack} {within:?} after the last outcome", seat.name),
                Vec::new(),
            );
        }
    }
}

/// What the checker says of everything that was seen.
pub(crate) fn judge(cast: &Cast, verdict: &mut Verdict) {
    // An echo says what this owner was told, not what the table says: see docs/gaps.md.
    let options = checker::Options { echoes_kept: false, ..checker::Options::default() };
    let report = checker::check_with(&cast.recorder.history(), options);
    verdict.counts = report.counts;
    for (invariant, total) in &report.totals {
        *verdict.totals.entry(format!("{invariant:?}")).or_default() += total;
    }
    for fault in report.faults {
        let cut = |line: String| line.chars().take(EVIDENCE_CHARS_MAX).collect();
        let evidence = fault.evidence.into_iter().take(EVIDENCE_MAX).map(cut).collect();
        verdict.violations.push(Violation { invariant: format!("{:?}", fault.invariant), what: fault.what, evidence });
    }
    if report.counts.members_unread > 0 {
        let what = format!("{} members' histories were not read", report.counts.members_unread);
        verdict.add("Record", what, Vec::new());
    }
}

/// N1 and N2 of what was sent over HTTP: each answered send is there once, where its answers say.
pub(crate) fn judge_http(answers: &Answers, histories: &Histories, chat: ChatId, verdict: &mut Verdict) {
    for wrong in &answers.wrong {
        verdict.add("N1", wrong.clone(), Vec::new());
    }
    if let Some(text) = &answers.open {
        verdict.add("Rest", format!("an HTTP send has no answer: {text}"), Vec::new());
    }
    let whole = histories.iter().filter(|((of, _), _)| *of == chat).max_by_key(|(_, entries)| entries.len());
    let Some((_, entries)) = whole else {
        verdict.add("Record", format!("nobody could read chat {chat}"), Vec::new());
        return;
    };
    let mut places: BTreeMap<Hash, Vec<u64>> = BTreeMap::new();
    for entry in entries {
        places.entry(entry.content).or_default().push(entry.seq);
    }
    for sent in &answers.stored {
        verdict.http += 1;
        let found = places.get(&Hash::of(sent.text.as_bytes())).cloned().unwrap_or_default();
        let (invariant, how) = match found[..] {
            [seq] if seq == sent.seq => continue,
            [] => ("N1", "is nowhere".to_owned()),
            [seq] => ("N1", format!("is at seq {seq}")),
            _ => ("N2", format!("is at seqs {found:?}")),
        };
        let what =
            format!("HTTP send `{}` under key {} was answered with seq {} and {how}", sent.text, sent.key, sent.seq);
        verdict.add(invariant, what, Vec::new());
    }
}

enum Read {
    Whole(Vec<SeenEntry>),
    /// Never was a member.
    Stranger,
    Stuck {
        through: u64,
        error: String,
    },
}

async fn history(reader: &Client, chat: ChatId, at_least: u64, end: Instant) -> Read {
    let (mut through, mut entries) = (0, Vec::new());
    loop {
        let page = loop {
            let left = end.saturating_duration_since(Instant::now());
            let error = match timeout(left, reader.history(chat, through, 0, at_least)).await {
                Ok(Ok(page)) => break page,
                Ok(Err(client::Error::Refused(error))) if error.code() == ErrorCode::NotAMember => {
                    return Read::Stranger;
                }
                // The rows are on their way; or it is a stranger's, who hears the same however long it asks.
                Ok(Err(client::Error::Refused(error))) if error.code() == ErrorCode::NotYet => {
                    if is_stranger(reader, chat).await {
                        return Read::Stranger;
                    }
                    error.text
                }
                // Not signed in yet.
                Ok(Err(error)) => error.to_string(),
                Err(_late) => "no answer".to_owned(),
            };
            if Instant::now() >= end {
                return Read::Stuck { through, error };
            }
            sleep(AGAIN_AFTER).await;
        };
        entries.extend(page.entries.into_iter().filter_map(Entry::new).filter_map(|entry| seen_entry(&entry)));
        if page.through <= through {
            return Read::Whole(entries);
        }
        through = page.through;
    }
}

async fn is_stranger(reader: &Client, chat: ChatId) -> bool {
    let asked = reader.history(chat, 0, 1, 0).await;
    matches!(asked, Err(client::Error::Refused(error)) if error.code() == ErrorCode::NotAMember)
}
