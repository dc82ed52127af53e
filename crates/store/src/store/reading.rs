//! A chat as one of its members may read it.

use domain::{ChatId, LoggedEntry, Seq, UserId};
use tokio::time::{Instant, sleep_until};

use super::{Store, boxed};
use crate::{Error, HistoryPage, MemberRow};

/// What of a chat is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// Entries above this seq, in order.
    pub after: Seq,
    /// At most so many.
    pub entries: usize,
    /// At most so many bytes, but for a single one.
    pub bytes: usize,
    /// Not before this seq is stored; 0 waits for nothing.
    pub at_least: Seq,
}

/// Why a member reads nothing.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// There is no such chat.
    #[error("no such chat")]
    UnknownChat,
    /// The reader never was in it.
    #[error("not a member")]
    NotAMember,
    /// Asked for what lies above all that the reader may know of.
    #[error("nothing is that high")]
    OutOfRange,
    /// The store said no.
    #[error(transparent)]
    Store(#[from] Error),
}

impl Store {
    /// All stays of `user` in the chat, as [`Store::members`] knows them.
    ///
    /// # Errors
    /// Also for who never was in it.
    pub async fn stays(
        &self,
        chat: ChatId,
        user: UserId,
        at_least: Seq,
        deadline: Instant,
    ) -> Result<Vec<MemberRow>, ReadError> {
        let stays = match self {
            Self::Embedded(engine) => engine.stays(chat, user, at_least, deadline).await?,
            Self::Cql(engine) => boxed(engine.stays(chat, user, at_least, deadline)).await?,
        };
        let stays = stays.ok_or(ReadError::UnknownChat)?;
        if stays.is_empty() { Err(ReadError::NotAMember) } else { Ok(stays) }
    }

    /// The last seq that the reader may know of: the chat's head, or where the reader left.
    ///
    /// # Errors
    /// As of [`Store::stays`].
    pub async fn last_of(&self, chat: ChatId, reader: UserId, deadline: Instant) -> Result<Seq, ReadError> {
        let stays = self.stays(chat, reader, 0, deadline).await?;
        let head = self.history(chat, Seq::MAX, 1, 1).await?.through;
        Ok(head.min(end_of(&stays)))
    }

    /// A page of history with the rows that the reader's stays show, whole through its `through` (M22).
    ///
    /// # Errors
    /// [`Error::NotYet`] at `deadline`, and what a reader may not see.
    pub async fn history_of(
        &self,
        chat: ChatId,
        reader: UserId,
        asked: Asked,
        deadline: Instant,
    ) -> Result<HistoryPage, ReadError> {
        let Asked { after, entries, bytes, at_least } = asked;
        let stays = match self.stays(chat, reader, 0, deadline).await {
            // What lets the reader in may not be stored yet, though it was told of it (M18).
            Err(ReadError::UnknownChat | ReadError::NotAMember) if at_least > 0 => {
                match self.stays(chat, reader, at_least, deadline).await {
                    // Who never was in it hears the same after the same time, whatever the chat has.
                    Err(ReadError::UnknownChat | ReadError::NotAMember) => {
                        sleep_until(deadline).await;
                        return Err(Error::NotYet { chat, at_least }.into());
                    }
                    stays => stays?,
                }
            }
            stays => stays?,
        };
        // Who has left waits for nothing behind that: it would tell how the chat goes on.
        let at_least = at_least.min(end_of(&stays));
        let page = self.history_at_least(chat, after, entries, bytes, at_least, deadline).await?;
        // The page may hold the entry that lets the reader in, or out: membership as of the page (M18).
        let stays = if page.rows.is_empty() { stays } else { self.stays(chat, reader, page.through, deadline).await? };
        // What goes on in the chat after the reader's last stay is not told, not even that it does.
        let through = page.through.min(end_of(&stays));
        if after > through {
            return Err(ReadError::OutOfRange);
        }
        let is_shown = |row: &LoggedEntry| stays.iter().any(|stay| stay.shows(row.entry.seq));
        let HistoryPage { mut rows, first_seq, .. } = page;
        rows.retain(is_shown);
        Ok(HistoryPage { rows, through, first_seq })
    }
}

/// Where the last of these stays ended; the highest seq if it goes on.
fn end_of(stays: &[MemberRow]) -> Seq {
    stays.iter().max_by_key(|stay| stay.joined_seq).and_then(|stay| stay.left_seq).unwrap_or(Seq::MAX)
}
