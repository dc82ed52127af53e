//! Read models: lists, summaries, watermarks and checkpoints.
//!
//! Nothing is read to be merged: each cell is written with a timestamp that grows as its value does, so what the cluster
//! keeps is the maximum of all that was ever written, in whatever order it came. Only cells that do not depend on each
//! other have timestamps of their own; those of a summary are one value of one head.

use std::collections::{BTreeSet, HashMap};

use bytes::Bytes;
use domain::{ChatId, Epoch, Partition, Seq, UserId, Watermark};
use futures_util::{FutureExt as _, StreamExt as _, TryStreamExt as _, future::BoxFuture, stream};
use scylla::response::PagingState;

use super::{
    Cql, Shared,
    cluster::Values,
    numbers::{big, bound, bucket, chat, code, number, small, user},
    read::{StayRow, stay},
    statements::Statement,
};
use crate::{
    ChatFacts, ChatLine, Checkpoint, Error, FactRow, Head, LIST_ROWS_MAX, NameRow, Preview, Projection, ReactionRow,
    Reactions, Reader, Receipt, SummaryRow, UserChatRow,
    codes::{fact_of, kind_code, kind_of, put_fact, reader_code},
    join,
};

/// Statements of one batch.
const BATCH_ROWS: usize = 256;
/// Users whose watermarks one statement asks for.
const USERS_TOGETHER: usize = 100;

type UserChatRowOf = (Vec<u8>, Option<i64>, Option<i64>);
type SummaryRowOf = (Vec<u8>, i64, i64, i64, i64, i16, i64, Vec<u8>, i64, i64, Vec<u8>);
type ReactionOf = (i64, Vec<u8>, i64, String);
type WatermarkRow = (Vec<u8>, Option<i64>, Option<i64>, Option<i64>);

fn reaction(chat: ChatId, (seq, id, by, reaction): ReactionOf) -> Result<ReactionRow, Error> {
    let user = user("reactions", &id)?;
    Ok(ReactionRow { chat, seq: number(seq), user, reaction: reaction.into(), by: number(by) })
}

impl Cql {
    pub(crate) async fn project(&self, projection: Projection) -> Result<(), Error> {
        let Projection { reader, partition, checkpoint, .. } = projection;
        // Carried out whether or not the caller waits: a part of it would only be repeated.
        let shared = std::sync::Arc::clone(&self.shared);
        let done = tokio::spawn(async move {
            shared.write_models(projection).await?;
            // Last, when all that it stands for is there.
            shared.write_checkpoint(reader, partition, checkpoint).await
        });
        done.await.map_err(|_ended| Error::Closed)?
    }

    pub(crate) async fn checkpoint(&self, reader: Reader, partition: Partition) -> Result<Option<Checkpoint>, Error> {
        let key = (i16::from(reader_code(reader)), small(partition));
        let row = self.shared.cluster.row::<(i64, Option<i64>, Option<i64>)>(Statement::Checkpoint, key).await?;
        Ok(row.map(|(epoch, events, statuses)| Checkpoint {
            epoch: Epoch(number(epoch)),
            events: events.map_or(0, number),
            statuses: statuses.map_or(0, number),
        }))
    }

    pub(crate) async fn save_checkpoint(
        &self,
        reader: Reader,
        partition: Partition,
        checkpoint: Checkpoint,
    ) -> Result<(), Error> {
        self.shared.write_checkpoint(reader, partition, checkpoint).await
    }

    pub(crate) async fn chats_of(
        &self,
        user: UserId,
        partition: Option<Partition>,
        after: Option<ChatId>,
        limit: usize,
    ) -> Result<Vec<UserChatRow>, Error> {
        let limit = limit.clamp(1, LIST_ROWS_MAX);
        let (cluster, id) = (&self.shared.cluster, *user.as_bytes());
        let rows: Vec<UserChatRowOf> = match (partition, after) {
            // All of an `after` in a lower partition, none of one in a higher.
            (Some(within), Some(after)) if after.partition() > within => Vec::new(),
            (Some(within), Some(after)) if after.partition() == within => {
                let key = (id, small(within), *after.as_bytes());
                cluster.rows(Statement::UserChatsOfPartitionAfter, key, limit).await?
            }
            (Some(within), _) => cluster.rows(Statement::UserChatsOfPartition, (id, small(within)), limit).await?,
            (None, Some(after)) => {
                let key = (id, small(after.partition()), *after.as_bytes());
                cluster.rows(Statement::UserChatsAfter, key, limit).await?
            }
            (None, None) => cluster.rows(Statement::UserChats, (id,), limit).await?,
        };
        rows.iter().map(|row| user_chat(user, row)).collect()
    }

    pub(crate) async fn all_summaries(&self, after: Option<ChatId>, limit: usize) -> Result<Vec<SummaryRow>, Error> {
        let limit = limit.clamp(1, LIST_ROWS_MAX);
        let cluster = &self.shared.cluster;
        let Some(after) = after else {
            let rows = cluster.rows::<SummaryRowOf>(Statement::Summaries, (), limit).await?;
            return rows.into_iter().map(summary).collect();
        };
        // In the order of tokens, and among chats of one token in that of their ids: those begin with some that were told.
        let rows = cluster.rows::<SummaryRowOf>(Statement::SummariesFrom, (*after.as_bytes(),), limit + 1).await?;
        let told = rows.iter().position(|row| row.0 == after.as_bytes());
        let rows = rows.into_iter().skip(told.map_or(0, |told| told + 1)).take(limit);
        rows.map(summary).collect()
    }

    pub(crate) async fn logged_chats(&self, partition: Partition) -> Result<Vec<ChatId>, Error> {
        let mut chats = BTreeSet::new();
        let mut from = PagingState::start();
        loop {
            let (rows, next) = self.shared.cluster.page::<(Vec<u8>, i64)>(Statement::LoggedBuckets, &(), from).await?;
            for (chat, _) in rows {
                let chat = ChatId::try_from(&chat[..])
                    .map_err(|_fault| Error::corrupt("chat_log", "its chat has another length"))?;
                if chat.partition() == partition {
                    chats.insert(chat);
                }
            }
            match next {
                Some(next) => from = next,
                None => return Ok(chats.into_iter().collect()),
            }
        }
    }

    pub(crate) async fn summaries(&self, chats: &[ChatId]) -> Result<Vec<Option<SummaryRow>>, Error> {
        let reads = chats.iter().map(|chat| self.summary(*chat).boxed()).collect();
        self.side_by_side(reads).await
    }

    async fn summary(&self, chat: ChatId) -> Result<Option<SummaryRow>, Error> {
        let row = self.shared.cluster.row::<SummaryRowOf>(Statement::Summary, (*chat.as_bytes(),)).await?;
        row.map(summary).transpose()
    }

    pub(crate) async fn chat_name(&self, chat: ChatId) -> Result<Option<NameRow>, Error> {
        let row = self.shared.cluster.row::<(i64, String)>(Statement::Name, (*chat.as_bytes(),)).await?;
        Ok(row.map(|(seq, name)| NameRow { chat, seq: number(seq), name: name.into() }))
    }

    pub(crate) async fn chat_facts(&self, chat: ChatId) -> Result<ChatFacts, Error> {
        const TABLE: &str = "chat_facts";
        let rows =
            self.shared.cluster.rows::<(i16, Vec<u8>)>(Statement::Facts, (*chat.as_bytes(),), usize::MAX).await?;
        let mut facts = ChatFacts::default();
        for (kind, value) in rows {
            facts.extend(fact_of(TABLE, code(TABLE, kind)?, &value)?);
        }
        Ok(facts)
    }

    pub(crate) async fn reactions(
        &self,
        chat: ChatId,
        after: Seq,
        through: Seq,
        limit: usize,
    ) -> Result<Reactions, Error> {
        let mut rows: Vec<ReactionRow> = Vec::new();
        let mut end = through;
        for place in bucket(after.saturating_add(1))..=bucket(through) {
            let key = (*chat.as_bytes(), big(place), bound(after), bound(through));
            // One more, by which the message before it is known to be whole.
            let wanted = limit.saturating_sub(rows.len()).saturating_add(1);
            let found = self.shared.cluster.rows::<ReactionOf>(Statement::Reactions, key, wanted).await?;
            let is_cut = found.len() == wanted;
            for row in found {
                rows.push(reaction(chat, row)?);
            }
            if !is_cut {
                continue;
            }
            let Some(last) = rows.last().map(|row| row.seq) else { break };
            if rows.iter().any(|row| row.seq < last) {
                rows.retain(|row| row.seq < last);
                end = last - 1;
            } else {
                // A message with more than a page of them has all on its page.
                let key = (*chat.as_bytes(), big(place), bound(last - 1), bound(last));
                let whole = self.shared.cluster.rows::<ReactionOf>(Statement::Reactions, key, usize::MAX).await?;
                rows = whole.into_iter().map(|row| reaction(chat, row)).collect::<Result<_, _>>()?;
                end = last;
            }
            break;
        }
        rows.retain(|row| !row.reaction.is_empty());
        Ok(Reactions { rows, through: end })
    }

    pub(crate) async fn watermarks(&self, chat: ChatId, users: &[UserId]) -> Result<Vec<Watermark>, Error> {
        let parts = users.chunks(USERS_TOGETHER).map(<[UserId]>::to_vec).collect::<Vec<_>>();
        let reads = parts.into_iter().map(|users| self.watermark_rows(chat, users).boxed()).collect();
        let rows = self.side_by_side(reads).await?;
        let mut found = HashMap::new();
        for (id, delivered, seen, seen_ordinal) in rows.into_iter().flatten() {
            let part = |part: Option<i64>| part.map_or(0, number);
            let mark = Watermark { delivered: part(delivered), seen: part(seen), seen_ordinal: part(seen_ordinal) };
            found.insert(user("watermarks", &id)?, mark);
        }
        Ok(users.iter().map(|user| found.get(user).copied().unwrap_or_default()).collect())
    }

    async fn watermark_rows(&self, chat: ChatId, users: Vec<UserId>) -> Result<Vec<WatermarkRow>, Error> {
        let users: Vec<_> = users.iter().map(|user| *user.as_bytes()).collect();
        self.shared.cluster.rows(Statement::Watermarks, (*chat.as_bytes(), users), usize::MAX).await
    }

    pub(crate) async fn heads(
        &self,
        user: UserId,
        partition: Partition,
        after: Option<ChatId>,
        limit: usize,
    ) -> Result<Vec<Head>, Error> {
        let chats = self.chats_of(user, Some(partition), after, limit).await?;
        let reads = chats.into_iter().map(|row| self.head(row).boxed()).collect();
        Ok(self.side_by_side(reads).await?.into_iter().map(|(head, _)| head).collect())
    }

    pub(crate) async fn chat_lines(
        &self,
        user: UserId,
        after: Option<ChatId>,
        limit: usize,
    ) -> Result<Vec<ChatLine>, Error> {
        let chats = self.chats_of(user, None, after, limit).await?;
        let reads = chats.into_iter().map(|row| self.chat_line(row).boxed()).collect();
        self.side_by_side(reads).await
    }

    async fn chat_line(&self, row: UserChatRow) -> Result<ChatLine, Error> {
        let (name, setting) = (self.chat_name(row.chat), self.chat_setting(row.user, row.chat));
        let ((head, summary), name, setting) = futures_util::try_join!(self.head(row), name, setting)?;
        Ok(ChatLine { head, summary, name: join::name(&row, name), setting })
    }

    /// The chat's head for one user, and what is shown of the chat.
    async fn head(&self, row: UserChatRow) -> Result<(Head, Option<SummaryRow>), Error> {
        let leaving = async {
            match row.left_seq {
                Some(left_seq) => self.entry(row.chat, left_seq).await,
                None => Ok(None),
            }
        };
        let user = [row.user];
        let watermark = self.watermarks(row.chat, &user);
        let (summary, leaving, watermark) = futures_util::try_join!(self.summary(row.chat), leaving, watermark)?;
        let watermark = watermark.first().copied().unwrap_or_default();
        Ok(join::head(&row, summary, leaving.as_ref().map(|row| &row.entry), watermark))
    }

    pub(crate) async fn receipts(
        &self,
        chat: ChatId,
        seq: Seq,
        after: Option<UserId>,
        limit: usize,
    ) -> Result<Vec<Receipt>, Error> {
        let limit = limit.clamp(1, LIST_ROWS_MAX);
        let mut users = Vec::new();
        let (mut after, mut is_over) = (after, false);
        // Stays that are passed over are read too, so a page of receipts may take several of members.
        while users.len() < limit && !is_over {
            let (cluster, id) = (&self.shared.cluster, *chat.as_bytes());
            let rows: Vec<StayRow> = match after {
                Some(after) => cluster.rows(Statement::MembersAfter, (id, *after.as_bytes()), LIST_ROWS_MAX).await?,
                None => cluster.rows(Statement::Members, (id,), LIST_ROWS_MAX).await?,
            };
            let mut stays = rows.iter().map(|row| stay(chat, row)).collect::<Result<Vec<_>, _>>()?;
            is_over = stays.len() < LIST_ROWS_MAX;
            if !is_over && let Some(last) = stays.last().map(|last| last.user) {
                // Its later stays may be on the next page: it is asked for again with them, unless it fills this one.
                let of_others = stays.iter().position(|stay| stay.user == last).unwrap_or_default();
                if of_others > 0 {
                    stays.truncate(of_others);
                }
            }
            after = stays.last().map(|last| last.user);
            let is_there = stays.iter().filter(|stay| stay.left_seq.is_none() && stay.joined_seq <= seq);
            users.extend(is_there.map(|stay| stay.user));
        }
        users.truncate(limit);
        let marks = self.watermarks(chat, &users).await?;
        Ok(users.into_iter().zip(marks).map(|(user, watermark)| Receipt { user, watermark }).collect())
    }

    /// Several reads at a time, answers in the order asked.
    async fn side_by_side<T>(&self, reads: Vec<BoxFuture<'_, Result<T, Error>>>) -> Result<Vec<T>, Error> {
        stream::iter(reads).buffered(self.shared.config.concurrency.max(1)).try_collect().await
    }
}

impl Shared {
    /// Writes the rows of the models. Summaries come last: what is at or below the head of a stored one counts as folded,
    /// so all else of it must stand by then, whenever this is cut off.
    async fn write_models(&self, projection: Projection) -> Result<(), Error> {
        let Projection { user_chats, summaries, names, facts, reactions, deleted, watermarks, .. } = projection;
        // By CQL partition: the lists of one user; name, facts and watermarks of one chat, reactions of one bucket.
        let mut lists: HashMap<UserId, Vec<(Statement, Values)>> = HashMap::new();
        for row in &user_chats {
            let list = lists.entry(row.user).or_default();
            list.push(self.put_user_chat(row));
            list.extend(row.left_seq.map(|left_seq| self.leave_user_chat(row, left_seq)));
        }
        let mut marks: HashMap<ChatId, Vec<(Statement, Values)>> = HashMap::new();
        for (chat, user, watermark) in watermarks {
            // Merged with nothing: what was read was delivered (M20).
            let mark = Watermark::default().merge(watermark);
            let parts = [
                (Statement::Deliver, mark.delivered),
                (Statement::See, mark.seen),
                (Statement::SeeOrdinal, mark.seen_ordinal),
            ];
            let parts = parts.into_iter().filter(|(_, value)| *value > 0).map(|(statement, value)| {
                let values = (self.stamp(value), big(value), *chat.as_bytes(), *user.as_bytes());
                (statement, Box::new(values) as Values)
            });
            marks.entry(chat).or_default().extend(parts);
        }
        let mut opinions: HashMap<(ChatId, u64), Vec<(Statement, Values)>> = HashMap::new();
        for row in &reactions {
            opinions.entry((row.chat, bucket(row.seq))).or_default().push(self.put_reaction(row));
        }
        for (chat, seq, by) in deleted {
            let values = (self.stamp(by), *chat.as_bytes(), big(bucket(seq)), big(seq));
            let opinions = opinions.entry((chat, bucket(seq))).or_default();
            opinions.push((Statement::EraseReactions, Box::new(values)));
        }
        let mut writes: Vec<_> = lists.into_values().chain(marks.into_values()).chain(opinions.into_values()).collect();
        writes.extend(names.iter().map(|row| vec![self.put_name(row)]));
        writes.extend(facts.iter().map(|row| vec![self.put_fact(row)]));
        self.write_all(writes).await?;
        self.write_all(summaries.iter().map(|row| vec![self.put_summary(row)]).collect()).await
    }

    async fn write_all(&self, writes: Vec<Vec<(Statement, Values)>>) -> Result<(), Error> {
        let writes: Vec<_> = writes.into_iter().map(|parts| self.write_parts(parts)).collect();
        stream::iter(writes).buffer_unordered(self.config.concurrency.max(1)).try_collect().await
    }

    /// Writes of one CQL partition, in batches.
    pub(super) async fn write_parts(&self, mut parts: Vec<(Statement, Values)>) -> Result<(), Error> {
        while !parts.is_empty() {
            let rest = parts.split_off(parts.len().min(BATCH_ROWS));
            self.cluster.write_together(std::mem::replace(&mut parts, rest)).await?;
        }
        Ok(())
    }

    async fn write_checkpoint(
        &self,
        reader: Reader,
        partition: Partition,
        checkpoint: Checkpoint,
    ) -> Result<(), Error> {
        let (reader, partition, epoch) = (i16::from(reader_code(reader)), small(partition), big(checkpoint.epoch.0));
        let parts = [(Statement::ReachEvents, checkpoint.events), (Statement::ReachStatuses, checkpoint.statuses)];
        let parts = parts.map(|(statement, value)| {
            let values = (self.stamp(value), big(value), reader, partition, epoch);
            (statement, Box::new(values) as Values)
        });
        self.cluster.write_together(parts.into()).await
    }

    fn put_user_chat(&self, row: &UserChatRow) -> (Statement, Values) {
        let key = (*row.user.as_bytes(), small(row.chat.partition()), *row.chat.as_bytes());
        let values = (self.stamp(row.joined_seq), big(row.joined_seq), key.0, key.1, key.2);
        (Statement::PutUserChat, Box::new(values))
    }

    fn leave_user_chat(&self, row: &UserChatRow, left_seq: Seq) -> (Statement, Values) {
        let key = (*row.user.as_bytes(), small(row.chat.partition()), *row.chat.as_bytes());
        let values = (self.stamp(left_seq), big(left_seq), key.0, key.1, key.2);
        (Statement::LeaveUserChat, Box::new(values))
    }

    fn put_name(&self, row: &NameRow) -> (Statement, Values) {
        let values = (*row.chat.as_bytes(), big(row.seq), row.name.to_string(), self.stamp(row.seq));
        (Statement::PutName, Box::new(values))
    }

    fn put_fact(&self, row: &FactRow) -> (Statement, Values) {
        let (code, bytes) = put_fact(&row.fact);
        let values = (*row.chat.as_bytes(), i16::from(code), big(row.seq), bytes, self.stamp(row.seq));
        (Statement::PutFact, Box::new(values))
    }

    fn put_reaction(&self, row: &ReactionRow) -> (Statement, Values) {
        let key = (*row.chat.as_bytes(), big(bucket(row.seq)), big(row.seq), *row.user.as_bytes());
        let values = (key.0, key.1, key.2, key.3, big(row.by), row.reaction.to_string(), self.stamp(row.by));
        (Statement::PutReaction, Box::new(values))
    }

    fn put_summary(&self, row: &SummaryRow) -> (Statement, Values) {
        // Every cell, also those that say "none": a cell that is left out would keep what an earlier head had.
        let none = Preview::of(0, UserId::new([0; 16]), 0, 0, Bytes::new());
        let preview = row.preview.as_ref().unwrap_or(&none);
        let (length, body) = preview.put();
        let values = (
            *row.chat.as_bytes(),
            big(row.head),
            big(row.ordinal),
            big(row.first_seq),
            big(row.activity),
            i16::from(kind_code(row.kind)),
            big(preview.seq),
            *preview.sender.as_bytes(),
            big(preview.time),
            i64::from(length),
            body.to_vec(),
            self.stamp(row.head),
        );
        (Statement::PutSummary, Box::new(values))
    }
}

fn user_chat(user: UserId, (id, joined_seq, left_seq): &UserChatRowOf) -> Result<UserChatRow, Error> {
    const TABLE: &str = "chats_by_user";
    let joined_seq = joined_seq.map(number);
    let joined_seq = joined_seq.ok_or_else(|| Error::corrupt(TABLE, "it does not say when its stay began"))?;
    // Both cells keep their maximum. An end that lies before the beginning is that of an earlier stay.
    let left_seq = left_seq.map(number).filter(|left_seq| *left_seq >= joined_seq);
    Ok(UserChatRow { user, chat: chat(TABLE, id)?, joined_seq, left_seq })
}

fn summary(row: SummaryRowOf) -> Result<SummaryRow, Error> {
    const TABLE: &str = "chat_summaries";
    let (id, head, ordinal, first_seq, activity, kind, seq, sender, time, length, body) = row;
    let preview = if seq == 0 {
        None
    } else {
        let length = u32::try_from(length).map_err(|error| Error::corrupt(TABLE, error.to_string()))?;
        let sender = user(TABLE, &sender)?;
        Some(Preview::of(number(seq), sender, number(time), length, body.into()))
    };
    Ok(SummaryRow {
        chat: chat(TABLE, &id)?,
        head: number(head),
        ordinal: number(ordinal),
        first_seq: number(first_seq),
        preview,
        activity: number(activity),
        kind: kind_of(TABLE, code(TABLE, kind)?)?,
    })
}
