//! Judges watermarks: they never go back, and `seen` ≤ `delivered` ≤ head.

use std::collections::HashMap;

use super::Court;
use crate::{Chat, Client, Invariant, Line, User};

#[derive(Debug, Default)]
pub(super) struct Watermarks<'a> {
    latest: HashMap<(Client, Chat, User), (u64, u64, &'a Line)>,
}

impl<'a> Watermarks<'a> {
    pub(super) fn seen(
        &mut self,
        court: &mut Court<'_>,
        line: &'a Line,
        (chat, user): (Chat, User),
        delivered: u64,
        seen: u64,
    ) {
        if !court.has_truth(line, chat) {
            return;
        }
        let head = court.truth[&chat].head();
        if seen > delivered || delivered > head {
            let what = || format!("seen {seen} ≤ delivered {delivered} ≤ head {head} does not hold in chat {chat}");
            court.report.fault(Invariant::N8, what, [line]);
        }
        let latest = self.latest.entry((line.client, chat, user)).or_insert((delivered, seen, line));
        if delivered < latest.0 || seen < latest.1 {
            let what = || format!("the watermark of {user} in chat {chat} went back");
            court.report.fault(Invariant::N8, what, [latest.2, line]);
        }
        *latest = (delivered.max(latest.0), seen.max(latest.1), line);
    }
}
