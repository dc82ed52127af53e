//! Whom a command may bring into a chat: nobody who has gone, and nobody who wants nothing of its sender.
//!
//! Looked at before the command is in the log, where users are not known. One that was carried out goes on its way, so
//! that a copy of it has the same answer (N1).

use std::time::Duration;

use domain::{ChatId, Seq, UserId};
use store::{MemberRow, ReadError};
use tokio::time::Instant;

use crate::edge::Edge;

/// How long a read may wait for the store.
const WITHIN: Duration = Duration::from_secs(2);

/// Who is to come into a chat.
#[derive(Debug)]
pub(crate) struct Admission {
    pub(crate) chat: ChatId,
    pub(crate) users: Vec<UserId>,
    /// Whether the command makes the chat.
    pub(crate) is_new: bool,
    /// The chat's head as the command's first copy knew it.
    pub(crate) basis: Seq,
}

impl Admission {
    /// Whether `sender` may bring all of them in, or has done so.
    pub(crate) async fn is_given(&self, edge: &Edge, sender: UserId) -> Result<bool, store::Error> {
        for &user in &self.users {
            if edge.store.turns_away(user, sender).await? && !self.came_in(edge, user).await? {
                // In a chat of others it says nothing of who blocks whom: the fold refuses it whoever is named.
                return Ok(!self.is_new && self.is_foreign(edge, sender).await?);
            }
        }
        Ok(true)
    }

    /// Whether the chat is there, and the user is not in it.
    async fn is_foreign(&self, edge: &Edge, user: UserId) -> Result<bool, store::Error> {
        let stays = self.stays(edge, user).await?;
        Ok(stays.is_some_and(|stays| stays.iter().all(|stay| stay.left_seq.is_some())))
    }

    /// Whether it is in the chat, or came into it above the basis.
    async fn came_in(&self, edge: &Edge, user: UserId) -> Result<bool, store::Error> {
        let stays = self.stays(edge, user).await?.unwrap_or_default();
        Ok(stays.iter().any(|stay| stay.left_seq.is_none() || stay.joined_seq > self.basis))
    }

    /// None: nothing of the chat is stored, as while its creation is under way.
    async fn stays(&self, edge: &Edge, user: UserId) -> Result<Option<Vec<MemberRow>>, store::Error> {
        match edge.store.stays(self.chat, user, 0, Instant::now() + WITHIN).await {
            Ok(stays) => Ok(Some(stays)),
            Err(ReadError::NotAMember | ReadError::OutOfRange) => Ok(Some(Vec::new())),
            Err(ReadError::UnknownChat) => Ok(None),
            Err(ReadError::Store(error)) => Err(error),
        }
    }
}
