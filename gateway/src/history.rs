//! History over the socket: what the reader's membership shows, and through where it is whole.

use std::time::Duration;

use domain::{ChatId, Code, LoggedEntry, limits};
use proto::v1::ReadHistory;
use store::MemberRow;
use tokio::time::Instant;

use crate::edge::Edge;
use crate::frames;
use crate::session::Session;
use crate::socket::{Class, PushError};

/// Bytes of the entries of one answer: a frame that fits an empty queue with its envelope.
const ANSWER_BYTES_MAX: usize = 48 * 1024;

/// Answers a history request.
///
/// # Errors
/// What the client hears instead.
pub(crate) async fn read(edge: &Edge, session: &Session, id: u64, request: &ReadHistory) -> Result<(), Code> {
    let chat = ChatId::try_from(&request.chat[..]).map_err(|_fault| Code::BadRequest)?;
    let epoch = *edge.epochs.get(usize::from(chat.partition().0)).ok_or(Code::UnknownChat)?;
    let limit = match request.limit {
        0 => limits::HISTORY_ENTRIES_MAX,
        limit => limit.min(limits::HISTORY_ENTRIES_MAX),
    };
    let wait = Duration::from_millis(edge.config.history_wait_ms);
    let stays = own_stays(edge, session, chat, 0).await?;
    let page = edge
        .store
        .history_at_least(
            chat,
            request.after,
            limit as usize,
            ANSWER_BYTES_MAX,
            request.at_least,
            Instant::now() + wait,
        )
        .await
        .map_err(|error| code(&error))?;
    if request.after > page.through {
        return Err(Code::OutOfRange);
    }
    // The page may hold the entry that lets the reader in, or out: membership as of the page (M18).
    let stays = if page.rows.is_empty() { stays } else { own_stays(edge, session, chat, page.through).await? };
    let is_shown = |row: &&LoggedEntry| {
        stays
            .iter()
            .any(|stay| stay.joined_seq <= row.entry.seq && stay.left_seq.is_none_or(|left| row.entry.seq <= left))
    };
    let rows: Vec<_> = page.rows.iter().filter(is_shown).collect();
    let frame = frames::history(id, chat, epoch, &rows, page.through, page.first_seq);
    loop {
        match session.outbound.push(frame.clone(), Class::History) {
            Err(PushError::NotEmpty) => session.outbound.drained().await,
            // Taken, or the socket is closing.
            Ok(()) | Err(PushError::Closed | PushError::Slow | PushError::Dropped) => return Ok(()),
        }
    }
}

async fn own_stays(edge: &Edge, session: &Session, chat: ChatId, at_least: u64) -> Result<Vec<MemberRow>, Code> {
    let members = edge.store.members(chat, at_least, Instant::now()).await.map_err(|error| code(&error))?;
    if members.is_empty() {
        return Err(Code::UnknownChat);
    }
    let own: Vec<_> = members.into_iter().filter(|row| row.user == session.user).collect();
    if own.is_empty() { Err(Code::NotAMember) } else { Ok(own) }
}

fn code(error: &store::Error) -> Code {
    if matches!(error, store::Error::NotYet { .. }) {
        return Code::NotYet;
    }
    tracing::warn!(error = error as &dyn std::error::Error, "history cannot be read");
    if error.is_retryable() { Code::Unavailable } else { Code::Internal }
}
