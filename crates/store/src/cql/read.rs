//! Reads of chats: history, members, snapshots.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use domain::{ChatId, LoggedEntry, Seq, UserId};
use scylla::response::PagingState;
use tokio::time::{Instant, sleep, timeout_at};

use super::{
    Cql, Shared,
    numbers::{BUCKET_ROWS, big, bound, bucket, code, number, user},
    statements::Statement,
};
use crate::{Error, HISTORY_BYTES_MAX, HISTORY_ROWS_MAX, HistoryPage, MemberRow, codes::role_of, join, page::Page};

/// Another process tells nobody here of its appends: who waits for a row looks again, after pauses of these lengths.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
const LOOK_AGAIN_MAX: Duration = Duration::from_millis(500);

/// User, joined, role, left.
pub(super) type StayRow = (Vec<u8>, i64, i16, Option<i64>);

pub(super) fn stay(chat: ChatId, (id, joined_seq, role, left_seq): &StayRow) -> Result<MemberRow, Error> {
    const TABLE: &str = "chat_members";
    Ok(MemberRow {
        chat,
        user: user(TABLE, id)?,
        joined_seq: number(*joined_seq),
        role: role_of(TABLE, code(TABLE, *role)?)?,
        left_seq: left_seq.map(number),
    })
}

impl Cql {
    pub(crate) async fn snapshot(&self, chat: ChatId) -> Result<Option<Bytes>, Error> {
        let row = self.shared.cluster.row::<(Vec<u8>,)>(Statement::Snapshot, (*chat.as_bytes(),)).await?;
        Ok(row.map(|(state,)| state.into()))
    }

    pub(crate) async fn members(
        &self,
        chat: ChatId,
        at_least: Seq,
        deadline: Instant,
    ) -> Result<Vec<MemberRow>, Error> {
        self.wait_for_row(chat, at_least, deadline).await?;
        let shared = Arc::clone(&self.shared);
        let read = async move {
            let rows = shared.cluster.rows::<StayRow>(Statement::Members, (*chat.as_bytes(),), usize::MAX).await?;
            rows.iter().map(|row| stay(chat, row)).collect::<Result<Vec<_>, _>>().map(Arc::new)
        };
        let members = self.shared.members.read(chat, read).await?;
        Ok(Arc::unwrap_or_clone(members))
    }

    pub(crate) async fn stays(
        &self,
        chat: ChatId,
        user: UserId,
        at_least: Seq,
        deadline: Instant,
    ) -> Result<Option<Vec<MemberRow>>, Error> {
        self.wait_for_row(chat, at_least, deadline).await?;
        let cluster = &self.shared.cluster;
        let key = (*chat.as_bytes(), *user.as_bytes());
        let rows = cluster.rows::<StayRow>(Statement::Stays, key, usize::MAX).await?;
        if rows.is_empty() && cluster.row::<(Vec<u8>,)>(Statement::AnyMember, (key.0,)).await?.is_none() {
            return Ok(None);
        }
        rows.iter().map(|row| stay(chat, row)).collect::<Result<_, _>>().map(Some)
    }

    /// Returns once the row is stored; [`Error::NotYet`] at the deadline.
    pub(crate) async fn wait_for_row(&self, chat: ChatId, seq: Seq, deadline: Instant) -> Result<(), Error> {
        if seq == 0 || self.has_row(chat, seq).await? {
            return Ok(());
        }
        let place = self.shared.waiters.enter(chat)?;
        let mut pause = LOOK_AGAIN;
        loop {
            let appended = place.appended.notified();
            tokio::pin!(appended);
            // Registered before the look, so that no append of this process falls between.
            appended.as_mut().enable();
            let look = async {
                if self.has_row(chat, seq).await? {
                    return Ok(true);
                }
                tokio::select! {
                    () = appended => {}
                    () = sleep(pause) => {}
                }
                Ok(false)
            };
            match timeout_at(deadline, look).await {
                Ok(Ok(true)) => return Ok(()),
                Ok(Ok(false)) => pause = (pause * 2).min(LOOK_AGAIN_MAX),
                Ok(Err(error)) => return Err(error),
                Err(_elapsed) => return Err(Error::NotYet { chat, at_least: seq }),
            }
        }
    }

    async fn has_row(&self, chat: ChatId, seq: Seq) -> Result<bool, Error> {
        let shared = Arc::clone(&self.shared);
        let read = async move {
            let key = (*chat.as_bytes(), big(bucket(seq)), bound(seq));
            Ok(shared.cluster.row::<(i64,)>(Statement::HasEntry, key).await?.is_some())
        };
        self.shared.rows.read((chat, seq), read).await
    }

    pub(crate) async fn history(
        &self,
        chat: ChatId,
        after: Seq,
        limit_entries: usize,
        limit_bytes: usize,
    ) -> Result<HistoryPage, Error> {
        let entries = limit_entries.clamp(1, HISTORY_ROWS_MAX);
        let bytes = limit_bytes.min(HISTORY_BYTES_MAX);
        let shared = Arc::clone(&self.shared);
        let read = async move { shared.history(chat, after, entries, bytes).await };
        self.shared.histories.read((chat, after, entries, bytes), read).await
    }

    pub(crate) async fn entry(&self, chat: ChatId, seq: Seq) -> Result<Option<LoggedEntry>, Error> {
        self.shared.entry(chat, seq).await
    }
}

impl Shared {
    /// One row of the log, if it is stored.
    pub(super) async fn entry(&self, chat: ChatId, seq: Seq) -> Result<Option<LoggedEntry>, Error> {
        let key = (*chat.as_bytes(), big(bucket(seq)), bound(seq), bound(seq));
        let row = self.cluster.row::<(i64, Vec<u8>)>(Statement::Entries, key).await?;
        row.map(|(seq, bytes)| join::logged(chat, number(seq), bytes.into())).transpose()
    }

    async fn history(
        &self,
        chat: ChatId,
        after: Seq,
        limit_entries: usize,
        limit_bytes: usize,
    ) -> Result<HistoryPage, Error> {
        // The lowest seq that is kept is a column of the snapshot; without one, nothing was ever let go.
        let snapshot = self.cluster.row::<(i64, i64)>(Statement::SnapshotHead, (*chat.as_bytes(),)).await?;
        let (snapshot_head, first_seq) = snapshot.map_or((0, 1), |(head, first)| (number(head), number(first).max(1)));
        let mut page = Page::new(chat, first_seq, after, limit_entries, limit_bytes);
        let begin = page.expected();
        let ended = self.fill(chat, limit_entries, &mut page).await?;
        let mut below = None;
        if page.is_below_after() {
            below = self.last_below(chat, begin, snapshot_head).await?;
        } else if ended {
            self.heads.learn(chat, page.through());
        }
        Ok(page.whole(below))
    }

    /// Reads rows into the page; whether it ended because there are no more rows.
    async fn fill(&self, chat: ChatId, limit_entries: usize, page: &mut Page) -> Result<bool, Error> {
        while i64::try_from(page.expected()).is_ok() {
            let at = bucket(page.expected());
            let first_of_next = (at + 1) * BUCKET_ROWS;
            // The row `after` comes beside those that are asked for.
            let last = page.expected().saturating_add(limit_entries as u64).min(first_of_next - 1);
            let values = (*chat.as_bytes(), big(at), bound(page.expected()), bound(last));
            let mut from = PagingState::start();
            loop {
                let (rows, next) = self.cluster.page::<(i64, Vec<u8>)>(Statement::Entries, &values, from).await?;
                for (seq, bytes) in rows {
                    if !page.take(number(seq), bytes.len(), || bytes.into())? {
                        return Ok(false);
                    }
                }
                match next {
                    Some(next) => from = next,
                    None => break,
                }
            }
            if page.expected() != last + 1 {
                // A row is missing before the last one that was asked for. Above it may be others, past a hole.
                return Ok(true);
            }
        }
        Ok(true)
    }

    /// The highest stored row below a seq.
    ///
    /// Buckets are walked, never guessed at: from that of a row that was stored when the snapshot was, up to the first
    /// empty one, or down from below it.
    async fn last_below(&self, chat: ChatId, seq: Seq, snapshot_head: Seq) -> Result<Option<Seq>, Error> {
        let Some(highest) = seq.checked_sub(1) else { return Ok(None) };
        let known = self.heads.get(chat).unwrap_or_default().max(snapshot_head);
        let begin = bucket(known).min(bucket(highest));
        let mut found = None;
        for at in begin..=bucket(highest) {
            match self.last_of(chat, at, highest).await? {
                Some(last) => found = Some(last),
                None => break,
            }
        }
        let mut below = begin;
        while found.is_none() && below > 0 {
            below -= 1;
            found = self.last_of(chat, below, highest).await?;
        }
        Ok(found)
    }

    async fn last_of(&self, chat: ChatId, at: u64, highest: Seq) -> Result<Option<Seq>, Error> {
        let values = (*chat.as_bytes(), big(at), bound(highest));
        let row = self.cluster.row::<(i64,)>(Statement::LastEntry, values).await?;
        Ok(row.map(|(seq,)| number(seq)))
    }
}
