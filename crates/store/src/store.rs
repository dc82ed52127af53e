//! The port: what roles may ask of the store, over whichever engine is there.
//!
//! Futures of writes may be dropped: a write that was taken is still carried out, but for a conditional one of the CQL
//! engine, of which whether it was done is then open.
//!
//! Those of the CQL engine are boxed: they are ten times as large, and callers over the embedded one would carry the room.

mod accounts;
mod reading;

pub use reading::{Asked, ReadError};

use bytes::Bytes;
use domain::{Chat, ChatId, LoggedEntry, Partition, PartitionPosition, Seq, UserId, Watermark};
use futures_util::future::BoxFuture;
use tokio::time::Instant;

use crate::{
    Append, ChatFacts, ChatLine, Checkpoint, Cql, Embedded, Error, Head, HistoryPage, MemberRow, NameRow, Projection,
    Reactions, Reader, Receipt, StoreConfig, Summary, UserChat, load,
};

/// A future of an engine whose futures are large, and of a type that callers need not look into.
fn boxed<'a, T>(future: impl Future<Output = T> + Send + 'a) -> BoxFuture<'a, T> {
    Box::pin(future)
}

/// The store; clones are cheap and share one engine.
#[derive(Clone, Debug)]
pub enum Store {
    /// In this process, on this machine's disk.
    Embedded(Embedded),
    /// In a ScyllaDB or Cassandra cluster.
    Cql(Cql),
}

impl Store {
    /// Opens an engine.
    ///
    /// The embedded one makes its folder if needed, takes as long as the journal's replay, and fails with
    /// [`Error::Locked`] when the folder is open already. The CQL one fails with [`Error::Schema`] for a keyspace that
    /// [`crate::schema::apply`] has not made what this version needs.
    pub async fn open(config: impl Into<StoreConfig>) -> Result<Self, Error> {
        match config.into() {
            StoreConfig::Embedded(config) => Embedded::open(config).await.map(Self::Embedded),
            StoreConfig::Cql(config) => boxed(Cql::open(config)).await.map(Self::Cql),
        }
    }

    /// Appends rows of one partition and moves its position, which never goes back (M8).
    ///
    /// Rewriting rows that are there is no change; another entry under a stored seq is [`Error::Conflict`], and then
    /// nothing of the append is stored. An edit or a deletion among the rows brings the rows of its message, and those of
    /// the edits of a deleted one, to their new version. An answer means: there after a kill; after a power cut, see
    /// [`Self::synced_position`].
    pub async fn append(&self, append: Append) -> Result<(), Error> {
        match self {
            Self::Embedded(engine) => engine.append(append).await,
            Self::Cql(engine) => boxed(engine.append(append)).await,
        }
    }

    /// The partition's stored position; none before the first append.
    ///
    /// Over a cluster it is a while behind (M23): whoever goes on from it appends the rest again.
    pub async fn position(&self, partition: Partition) -> Result<Option<PartitionPosition>, Error> {
        match self {
            Self::Embedded(engine) => engine.position(partition),
            Self::Cql(engine) => boxed(engine.position(partition)).await,
        }
    }

    /// The highest position that a power cut cannot take: what the log may be trimmed behind (M9).
    pub async fn synced_position(&self, partition: Partition) -> Result<Option<PartitionPosition>, Error> {
        match self {
            Self::Embedded(engine) => Ok(engine.synced_position(partition)),
            Self::Cql(engine) => boxed(engine.position(partition)).await,
        }
    }

    /// Brings all that was answered so far to the disk.
    pub async fn sync(&self) -> Result<(), Error> {
        match self {
            Self::Embedded(engine) => engine.sync().await,
            Self::Cql(engine) => boxed(engine.sync()).await,
        }
    }

    /// The chat's latest snapshot: an encoded `heliograph.log.v1.ChatSnapshot`.
    pub async fn snapshot(&self, chat: ChatId) -> Result<Option<Bytes>, Error> {
        match self {
            Self::Embedded(engine) => engine.snapshot(chat),
            Self::Cql(engine) => boxed(engine.snapshot(chat)).await,
        }
    }

    /// All stays of all members that began at or below the last stored row, by user and time.
    ///
    /// Waits for row `at_least` until `deadline`, else [`Error::NotYet`]: members are then whole through the entry
    /// after it (M18). 0 waits for nothing. Over a cluster a stay may come before its row does: callers judge by seq.
    pub async fn members(&self, chat: ChatId, at_least: Seq, deadline: Instant) -> Result<Vec<MemberRow>, Error> {
        match self {
            Self::Embedded(engine) => engine.members(chat, at_least, deadline).await,
            Self::Cql(engine) => boxed(engine.members(chat, at_least, deadline)).await,
        }
    }

    /// One row of a chat's log, in its newest version; none where nothing is stored.
    pub async fn entry(&self, chat: ChatId, seq: Seq) -> Result<Option<LoggedEntry>, Error> {
        match self {
            Self::Embedded(engine) => engine.entry(chat, seq),
            Self::Cql(engine) => boxed(engine.entry(chat, seq)).await,
        }
    }

    /// The rows from `after` + 1 up to a hole or a limit, whichever comes first; at least one if there is one (M22).
    ///
    /// An `after` above what is stored yields no rows, and what is stored as `through`.
    pub async fn history(
        &self,
        chat: ChatId,
        after: Seq,
        limit_entries: usize,
        limit_bytes: usize,
    ) -> Result<HistoryPage, Error> {
        match self {
            Self::Embedded(engine) => engine.history(chat, after, limit_entries, limit_bytes).await,
            Self::Cql(engine) => boxed(engine.history(chat, after, limit_entries, limit_bytes)).await,
        }
    }

    /// As [`Self::history`], once row `at_least` is stored; [`Error::NotYet`] at `deadline`.
    pub async fn history_at_least(
        &self,
        chat: ChatId,
        after: Seq,
        limit_entries: usize,
        limit_bytes: usize,
        at_least: Seq,
        deadline: Instant,
    ) -> Result<HistoryPage, Error> {
        match self {
            Self::Embedded(engine) => {
                engine.wait_for_row(chat, at_least, deadline).await?;
                engine.history(chat, after, limit_entries, limit_bytes).await
            }
            Self::Cql(engine) => {
                boxed(engine.wait_for_row(chat, at_least, deadline)).await?;
                boxed(engine.history(chat, after, limit_entries, limit_bytes)).await
            }
        }
    }

    /// The chat as of its last stored row: snapshot, members as of it, fold of later rows (M18).
    pub async fn load_chat(&self, chat: ChatId) -> Result<Option<Chat>, Error> {
        load::load_chat(self, chat).await
    }

    /// The direct chat of two users, if one was claimed. Order of the two does not matter.
    pub async fn direct(&self, a: UserId, b: UserId) -> Result<Option<ChatId>, Error> {
        match self {
            Self::Embedded(engine) => engine.direct(a, b),
            Self::Cql(engine) => boxed(engine.direct(a, b)).await,
        }
    }

    /// The direct chat of two users: `proposed` if none was claimed before. Order of the two does not matter.
    ///
    /// On disk before it is answered, since nothing could replay it.
    pub async fn claim_direct(&self, a: UserId, b: UserId, proposed: ChatId) -> Result<ChatId, Error> {
        match self {
            Self::Embedded(engine) => engine.claim_direct(a, b, proposed).await,
            Self::Cql(engine) => boxed(engine.claim_direct(a, b, proposed)).await,
        }
    }

    /// A value fixed at its first claim (partition count, cluster id): what is stored now.
    ///
    /// On disk before it is answered.
    pub async fn claim_meta(&self, key: &str, value: Bytes) -> Result<Bytes, Error> {
        match self {
            Self::Embedded(engine) => engine.claim_meta(key, value).await,
            Self::Cql(engine) => boxed(engine.claim_meta(key, value)).await,
        }
    }

    /// Writes read models and their checkpoint, merged forward only: any order and repetition gives the same rows.
    pub async fn project(&self, projection: Projection) -> Result<(), Error> {
        match self {
            Self::Embedded(engine) => engine.project(projection).await,
            Self::Cql(engine) => boxed(engine.project(projection)).await,
        }
    }

    /// A page of a user's chats by (partition, chat id), left ones included.
    pub async fn chats_of(
        &self,
        user: UserId,
        partition: Option<Partition>,
        after: Option<ChatId>,
        limit: usize,
    ) -> Result<Vec<UserChat>, Error> {
        match self {
            Self::Embedded(engine) => engine.chats_of(user, partition, after, limit).await,
            Self::Cql(engine) => boxed(engine.chats_of(user, partition, after, limit)).await,
        }
    }

    /// A page of the summaries of all chats, in an order of the engine's own; for operators.
    ///
    /// Ask on with the last one's chat as `after`; fewer than `limit` are the last ones. At most
    /// [`crate::LIST_ROWS_MAX`].
    pub async fn all_summaries(&self, after: Option<ChatId>, limit: usize) -> Result<Vec<Summary>, Error> {
        match self {
            Self::Embedded(engine) => engine.all_summaries(after, limit).await,
            Self::Cql(engine) => boxed(engine.all_summaries(after, limit)).await,
        }
    }

    /// The chats of a partition that have rows, in no order: 16 bytes each in memory, after a scan of all logs.
    pub async fn logged_chats(&self, partition: Partition) -> Result<Vec<ChatId>, Error> {
        match self {
            Self::Embedded(engine) => engine.logged_chats(partition).await,
            Self::Cql(engine) => boxed(engine.logged_chats(partition)).await,
        }
    }

    /// The summaries of these chats, in the order asked.
    pub async fn summaries(&self, chats: &[ChatId]) -> Result<Vec<Option<Summary>>, Error> {
        match self {
            Self::Embedded(engine) => engine.summaries(chats).await,
            Self::Cql(engine) => boxed(engine.summaries(chats)).await,
        }
    }

    /// What the chat is called; none: nobody ever said.
    pub async fn chat_name(&self, chat: ChatId) -> Result<Option<NameRow>, Error> {
        match self {
            Self::Embedded(engine) => engine.chat_name(chat).await,
            Self::Cql(engine) => boxed(engine.chat_name(chat)).await,
        }
    }

    /// What holds in the chat.
    pub async fn chat_facts(&self, chat: ChatId) -> Result<ChatFacts, Error> {
        match self {
            Self::Embedded(engine) => engine.chat_facts(chat).await,
            Self::Cql(engine) => boxed(engine.chat_facts(chat)).await,
        }
    }

    /// The reactions to the messages above `after` and up to `through`, or up to an earlier one where they are many.
    ///
    /// Of each message all: the page ends with the one that reaches `limit`, or [`crate::REACTION_SEQS_MAX`] seqs on.
    pub async fn reactions(&self, chat: ChatId, after: Seq, through: Seq, limit: usize) -> Result<Reactions, Error> {
        let through = through.min(after.saturating_add(crate::REACTION_SEQS_MAX));
        if after >= through {
            return Ok(Reactions { rows: Vec::new(), through });
        }
        let limit = limit.max(1);
        match self {
            Self::Embedded(engine) => engine.reactions(chat, after, through, limit).await,
            Self::Cql(engine) => boxed(engine.reactions(chat, after, through, limit)).await,
        }
    }

    /// The watermarks of these users, in the order asked; zero where there is none.
    pub async fn watermarks(&self, chat: ChatId, users: &[UserId]) -> Result<Vec<Watermark>, Error> {
        match self {
            Self::Embedded(engine) => engine.watermarks(chat, users).await,
            Self::Cql(engine) => boxed(engine.watermarks(chat, users)).await,
        }
    }

    /// A page of a user's heads in one partition: list, summaries and own watermarks, joined at read time.
    ///
    /// Ask on with the last line's chat as `after`; fewer lines than `limit` are the last ones.
    pub async fn heads(
        &self,
        user: UserId,
        partition: Partition,
        after: Option<ChatId>,
        limit: usize,
    ) -> Result<Vec<Head>, Error> {
        match self {
            Self::Embedded(engine) => engine.heads(user, partition, after, limit).await,
            Self::Cql(engine) => boxed(engine.heads(user, partition, after, limit)).await,
        }
    }

    /// A page of a user's list by (partition, chat id): [`Self::heads`] over all partitions, with what the list shows.
    ///
    /// One run of rows, whatever the number of partitions. Ask on with the last line's chat as `after`; fewer lines than
    /// `limit` are the last ones.
    pub async fn chat_lines(&self, user: UserId, after: Option<ChatId>, limit: usize) -> Result<Vec<ChatLine>, Error> {
        match self {
            Self::Embedded(engine) => engine.chat_lines(user, after, limit).await,
            Self::Cql(engine) => boxed(engine.chat_lines(user, after, limit)).await,
        }
    }

    /// A page of those who are in the chat now and were with the entry `seq`, each with its watermark, by user id.
    ///
    /// Ask on with the last one's user as `after`; fewer than `limit` are the last ones. At most
    /// [`crate::LIST_ROWS_MAX`].
    pub async fn receipts(
        &self,
        chat: ChatId,
        seq: Seq,
        after: Option<UserId>,
        limit: usize,
    ) -> Result<Vec<Receipt>, Error> {
        match self {
            Self::Embedded(engine) => engine.receipts(chat, seq, after, limit).await,
            Self::Cql(engine) => boxed(engine.receipts(chat, seq, after, limit)).await,
        }
    }

    /// How far a reader got; none before its first write.
    pub async fn checkpoint(&self, reader: Reader, partition: Partition) -> Result<Option<Checkpoint>, Error> {
        match self {
            Self::Embedded(engine) => engine.checkpoint(reader, partition),
            Self::Cql(engine) => boxed(engine.checkpoint(reader, partition)).await,
        }
    }

    /// Moves a reader's checkpoint; never back (M8).
    pub async fn save_checkpoint(
        &self,
        reader: Reader,
        partition: Partition,
        checkpoint: Checkpoint,
    ) -> Result<(), Error> {
        match self {
            Self::Embedded(engine) => engine.save_checkpoint(reader, partition, checkpoint).await,
            Self::Cql(engine) => boxed(engine.save_checkpoint(reader, partition, checkpoint)).await,
        }
    }

    /// How many commits the engine made since it was opened: one may carry the writes of many callers.
    ///
    /// Over a cluster a commit is a statement or a batch of one CQL partition.
    pub fn commits(&self) -> u64 {
        match self {
            Self::Embedded(engine) => engine.commits(),
            Self::Cql(engine) => engine.commits(),
        }
    }
}
