//! Reads, each over one view of the engine, so that no half of a commit is ever seen.
//!
//! Every read is one that a CQL table with the same key serves: by whole key, or a run of one partition's rows.

use std::{collections::HashMap, ops::Bound};

use bytes::Bytes;
use domain::{ChatId, LoggedEntry, Partition, PartitionPosition, Seq, UserId, Watermark};
use fjall::{Guard, Readable, Slice, Snapshot};

use super::{
    codec, keys,
    tables::{Table, Tables},
};
use crate::{
    ChatFacts, ChatLine, Checkpoint, Error, Head, HistoryPage, LIST_ROWS_MAX, MemberRow, NameRow, ReactionRow,
    Reactions, Reader, Receipt, SummaryRow, UserChatRow, codes::fact_of, join, page::Page,
};

/// No user's id is above it.
const LAST_USER: UserId = UserId::new([0xff; 16]);

/// The engine as of one moment.
pub(super) struct View<'a> {
    tables: &'a Tables,
    snapshot: Snapshot,
}

impl<'a> View<'a> {
    pub(super) fn of(tables: &'a Tables) -> Self {
        Self { tables, snapshot: tables.database.snapshot() }
    }

    pub(super) fn get(&self, table: Table, key: &[u8]) -> Result<Option<Slice>, Error> {
        self.snapshot.get(self.tables.keyspace(table), key).map_err(Error::engine)
    }

    fn pairs(
        &self,
        table: Table,
        range: (Bound<&[u8]>, Bound<&[u8]>),
    ) -> impl DoubleEndedIterator<Item = Result<(Slice, Slice), Error>> + use<> {
        let range: (Bound<Vec<u8>>, Bound<Vec<u8>>) = (range.0.map(<[u8]>::to_vec), range.1.map(<[u8]>::to_vec));
        self.snapshot
            .range(self.tables.keyspace(table), range)
            .map(|guard: Guard| guard.into_inner().map_err(Error::engine))
    }

    /// Rows whose key begins with `prefix`, by key, those up to the key `after` left out.
    pub(super) fn page(
        &self,
        table: Table,
        prefix: &[u8],
        after: Option<&[u8]>,
    ) -> impl Iterator<Item = Result<(Slice, Slice), Error>> + use<> {
        // An `after` below the prefix leaves all of them, one above them none.
        let from = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            Some(_) | None => Bound::Included(prefix),
        };
        let prefix = prefix.to_vec();
        self.pairs(table, (from, Bound::Unbounded))
            .take_while(move |row| row.as_ref().map_or(true, |(key, _)| key.starts_with(&prefix)))
    }

    /// The first keys below a bound.
    pub(super) fn keys_below(&self, table: Table, bound: &[u8], limit: usize) -> Result<Vec<Slice>, Error> {
        let below = self.pairs(table, (Bound::Unbounded, Bound::Excluded(bound)));
        below.take(limit).map(|row| Ok(row?.0)).collect()
    }

    fn starting_with(
        &self,
        table: Table,
        prefix: &[u8],
    ) -> impl Iterator<Item = Result<(Slice, Slice), Error>> + use<> {
        self.snapshot
            .prefix(self.tables.keyspace(table), prefix)
            .map(|guard: Guard| guard.into_inner().map_err(Error::engine))
    }

    pub(super) fn position(&self, partition: Partition) -> Result<Option<PartitionPosition>, Error> {
        self.get(Table::Partitions, &keys::partition(partition))?.map(|value| codec::position(&value)).transpose()
    }

    /// The positions of all partitions.
    pub(super) fn positions(&self) -> Result<HashMap<Partition, PartitionPosition>, Error> {
        self.starting_with(Table::Partitions, &[])
            .map(|pair| {
                let (key, value) = pair?;
                let partition = keys::partition_of(&key)
                    .ok_or_else(|| Error::corrupt("partitions", "its key has another length"))?;
                Ok((partition, codec::position(&value)?))
            })
            .collect()
    }

    pub(super) fn checkpoint(&self, reader: Reader, partition: Partition) -> Result<Option<Checkpoint>, Error> {
        let key = keys::checkpoint(reader, partition);
        self.get(Table::Checkpoints, &key)?.map(|value| codec::checkpoint(&value)).transpose()
    }

    pub(super) fn direct(&self, a: UserId, b: UserId) -> Result<Option<ChatId>, Error> {
        self.get(Table::Direct, &keys::direct(a, b))?.map(|value| codec::direct(&value)).transpose()
    }

    pub(super) fn snapshot(&self, chat: ChatId) -> Result<Option<Bytes>, Error> {
        let Some(value) = self.get(Table::Snapshots, chat.as_bytes())? else { return Ok(None) };
        let (_, state) = codec::snapshot(&value)?;
        Ok(Some(Bytes::copy_from_slice(state)))
    }

    pub(super) fn has_row(&self, chat: ChatId, seq: Seq) -> Result<bool, Error> {
        self.snapshot.contains_key(self.tables.keyspace(Table::Log), keys::log(chat, seq)).map_err(Error::engine)
    }

    pub(super) fn entry(&self, chat: ChatId, seq: Seq) -> Result<Option<LoggedEntry>, Error> {
        let row = self.get(Table::Log, &keys::log(chat, seq))?;
        row.map(|value| decode(chat, seq, &value)).transpose()
    }

    pub(super) fn members(&self, chat: ChatId) -> Result<Vec<MemberRow>, Error> {
        self.starting_with(Table::Members, chat.as_bytes())
            .map(|pair| {
                let (key, value) = pair?;
                codec::member_of(chat, &key, &value)
            })
            .collect()
    }

    /// The stays of one user; none: the chat has no members at all.
    pub(super) fn stays(&self, chat: ChatId, user: UserId) -> Result<Option<Vec<MemberRow>>, Error> {
        let stays: Vec<_> = self
            .starting_with(Table::Members, &keys::stays(chat, user))
            .map(|pair| {
                let (key, value) = pair?;
                codec::member_of(chat, &key, &value)
            })
            .collect::<Result<_, Error>>()?;
        if stays.is_empty() && self.starting_with(Table::Members, chat.as_bytes()).next().transpose()?.is_none() {
            return Ok(None);
        }
        Ok(Some(stays))
    }

    /// A page of who is in the chat and was with this seq, by user.
    pub(super) fn receipts(
        &self,
        chat: ChatId,
        seq: Seq,
        after: Option<UserId>,
        limit: usize,
    ) -> Result<Vec<Receipt>, Error> {
        let after = after.map(|after| keys::member(chat, after, Seq::MAX));
        let mut receipts = Vec::new();
        for pair in self.page(Table::Members, chat.as_bytes(), after.as_ref().map(|key| &key[..])) {
            let (key, value) = pair?;
            let stay = codec::member_of(chat, &key, &value)?;
            if stay.left_seq.is_some() || stay.joined_seq > seq {
                continue;
            }
            receipts.push(Receipt { user: stay.user, watermark: self.watermark(chat, stay.user)? });
            if receipts.len() == limit {
                break;
            }
        }
        Ok(receipts)
    }

    /// The lowest seq that is kept: a column of the snapshot's row; without one, nothing was ever let go.
    fn first_seq(&self, chat: ChatId) -> Result<Seq, Error> {
        match self.get(Table::Snapshots, chat.as_bytes())? {
            Some(value) => Ok(codec::snapshot(&value)?.0.first_seq.max(1)),
            None => Ok(1),
        }
    }

    pub(super) fn history(
        &self,
        chat: ChatId,
        after: Seq,
        limit_entries: usize,
        limit_bytes: usize,
    ) -> Result<HistoryPage, Error> {
        let mut page = Page::new(chat, self.first_seq(chat)?, after, limit_entries, limit_bytes);
        let (from, to) = (keys::log(chat, page.expected()), keys::log(chat, Seq::MAX));
        for pair in self.pairs(Table::Log, (Bound::Included(&from), Bound::Included(&to))) {
            let (key, value) = pair?;
            let Some(seq) = keys::log_seq(&key) else { break };
            if !page.take(seq, value.len(), || copy(&value))? {
                break;
            }
        }
        let mut below = None;
        if page.is_below_after() {
            let range = (Bound::Included(&keys::log(chat, 0)[..]), Bound::Excluded(&from[..]));
            if let Some(pair) = self.pairs(Table::Log, range).next_back() {
                let seq = keys::log_seq(&pair?.0);
                below = Some(seq.ok_or_else(|| Error::corrupt("chat_log", "its key is too short"))?);
            }
        }
        Ok(page.whole(below))
    }

    pub(super) fn chats_of(
        &self,
        user: UserId,
        partition: Option<Partition>,
        after: Option<ChatId>,
        limit: usize,
    ) -> Result<Vec<UserChatRow>, Error> {
        let limit = limit.clamp(1, LIST_ROWS_MAX);
        let prefix = |partition: Partition| [&user.as_bytes()[..], &partition.0.to_be_bytes()].concat();
        let within = partition.map_or_else(|| user.as_bytes().to_vec(), prefix);
        let after = after.map(|after| keys::user_chat(user, after));
        self.page(Table::UserChats, &within, after.as_ref().map(|key| &key[..]))
            .take(limit)
            .map(|pair| {
                let (key, value) = pair?;
                let chat = keys::user_chat_chat(&key)
                    .ok_or_else(|| Error::corrupt("chats_by_user", "its key has another length"))?;
                codec::user_chat(user, chat, &value)
            })
            .collect()
    }

    pub(super) fn summary(&self, chat: ChatId) -> Result<Option<SummaryRow>, Error> {
        self.get(Table::Summaries, chat.as_bytes())?.map(|value| codec::summary(chat, &value)).transpose()
    }

    pub(super) fn name(&self, chat: ChatId) -> Result<Option<NameRow>, Error> {
        self.get(Table::ChatNames, chat.as_bytes())?.map(|value| codec::name(chat, &value)).transpose()
    }

    pub(super) fn chat_facts(&self, chat: ChatId) -> Result<ChatFacts, Error> {
        const TABLE: &str = "chat_facts";
        let mut facts = ChatFacts::default();
        for pair in self.starting_with(Table::ChatFacts, chat.as_bytes()) {
            let (key, value) = pair?;
            let code = *key.last().ok_or_else(|| Error::corrupt(TABLE, "its key is empty"))?;
            facts.extend(fact_of(TABLE, code, codec::fact(&value)?.1)?);
        }
        Ok(facts)
    }

    pub(super) fn reactions(&self, chat: ChatId, after: Seq, through: Seq, limit: usize) -> Result<Reactions, Error> {
        let (from, to) = (keys::log(chat, after.saturating_add(1)), keys::reaction(chat, through, LAST_USER));
        let mut rows = Vec::new();
        for pair in self.pairs(Table::Reactions, (Bound::Included(&from), Bound::Included(&to))) {
            let (key, value) = pair?;
            let place =
                keys::reaction_parts(&key).ok_or_else(|| Error::corrupt("reactions", "its key has another length"))?;
            if rows.len() >= limit && rows.last().is_some_and(|last: &ReactionRow| last.seq < place.0) {
                return Ok(Reactions { rows, through: place.0 - 1 });
            }
            let row = codec::reaction(chat, place, &value)?;
            if !row.reaction.is_empty() {
                rows.push(row);
            }
        }
        Ok(Reactions { rows, through })
    }

    /// Over the whole table, as a CQL engine would page through it by token.
    pub(super) fn all_summaries(&self, after: Option<ChatId>, limit: usize) -> Result<Vec<SummaryRow>, Error> {
        let after = after.as_ref().map(|chat| &chat.as_bytes()[..]);
        self.page(Table::Summaries, &[], after)
            .take(limit)
            .map(|pair| {
                let (key, value) = pair?;
                let chat = ChatId::try_from(&key[..])
                    .map_err(|_fault| Error::corrupt("chat_summaries", "its key has another length"))?;
                codec::summary(chat, &value)
            })
            .collect()
    }

    /// From the first row of a chat to the first behind its last.
    pub(super) fn logged_chats(&self, partition: Partition) -> Result<Vec<ChatId>, Error> {
        let (mut chats, mut from) = (Vec::new(), Vec::new());
        loop {
            let Some(pair) = self.pairs(Table::Log, (Bound::Included(&from[..]), Bound::Unbounded)).next() else {
                return Ok(chats);
            };
            let (chat, _) =
                keys::log_parts(&pair?.0).ok_or_else(|| Error::corrupt("chat_log", "its key has another length"))?;
            if chat.partition() == partition {
                chats.push(chat);
            }
            from = keys::log(chat, Seq::MAX).to_vec();
            from.push(0);
        }
    }

    pub(super) fn watermark(&self, chat: ChatId, user: UserId) -> Result<Watermark, Error> {
        let value = self.get(Table::Watermarks, &keys::watermark(chat, user))?;
        value.map(|value| codec::watermark(&value)).transpose().map(Option::unwrap_or_default)
    }

    pub(super) fn heads(
        &self,
        user: UserId,
        partition: Partition,
        after: Option<ChatId>,
        limit: usize,
    ) -> Result<Vec<Head>, Error> {
        let chats = self.chats_of(user, Some(partition), after, limit)?;
        chats.into_iter().map(|row| self.head(&row).map(|(head, _)| head)).collect()
    }

    /// A page of a user's list over all partitions.
    pub(super) fn chat_lines(&self, user: UserId, after: Option<ChatId>, limit: usize) -> Result<Vec<ChatLine>, Error> {
        let chats = self.chats_of(user, None, after, limit)?;
        let line = |row: UserChatRow| {
            let (head, summary) = self.head(&row)?;
            let name = join::name(&row, self.name(row.chat)?);
            Ok(ChatLine { head, summary, name, setting: self.chat_setting(user, row.chat)? })
        };
        chats.into_iter().map(line).collect()
    }

    /// The chat's head for one user, and what is shown of the chat: nothing from before or after the stay.
    fn head(&self, row: &UserChatRow) -> Result<(Head, Option<SummaryRow>), Error> {
        let leaving = match row.left_seq {
            Some(left_seq) => self.entry(row.chat, left_seq)?,
            None => None,
        };
        let watermark = self.watermark(row.chat, row.user)?;
        Ok(join::head(row, self.summary(row.chat)?, leaving.as_ref().map(|row| &row.entry), watermark))
    }
}

fn decode(chat: ChatId, seq: Seq, value: &[u8]) -> Result<LoggedEntry, Error> {
    join::logged(chat, seq, copy(value))
}

/// Not a slice of the engine's block: an answer that waits for a slow socket must not hold whole blocks.
fn copy(value: &[u8]) -> Bytes {
    Bytes::copy_from_slice(value)
}
