//! Chats, as operators see them: who is in them and how far they go, never what is said.

use std::sync::Arc;

use api::rfc3339;
use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use domain::{ChatId, ChatKind, Role, Seq};
use serde::{Deserialize, Serialize};
use store::{MemberRow, SummaryRow, UserChatRow};
use tokio::time::Instant;

use super::Shared;
use super::refusal::Refusal;
use super::users::find;

/// Chats of one page.
const PAGE: usize = 256;

/// A chat as the read models have it, a moment behind.
#[derive(Debug, Serialize)]
pub(super) struct Chat {
    chat: String,
    kind: &'static str,
    partition: u16,
    head: Seq,
    messages: u64,
    first_seq: Seq,
    last_activity: String,
}

impl From<&SummaryRow> for Chat {
    fn from(row: &SummaryRow) -> Self {
        Self {
            chat: row.chat.to_string(),
            kind: kind(row.kind),
            partition: row.chat.partition().0,
            head: row.head,
            messages: row.ordinal,
            first_seq: row.first_seq,
            last_activity: rfc3339(row.activity),
        }
    }
}

pub(super) const fn kind(kind: ChatKind) -> &'static str {
    match kind {
        ChatKind::Direct => "direct",
        ChatKind::Group => "group",
        ChatKind::Channel => "channel",
    }
}

/// A page of chats.
#[derive(Debug, Serialize)]
pub(super) struct Chats {
    chats: Vec<Chat>,
    next: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    user: Option<String>,
    after: Option<String>,
}

pub(super) async fn list(
    State(shared): State<Arc<Shared>>,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Result<Json<Chats>, Refusal> {
    let Query(Asked { user, after }) = asked?;
    let after = after.as_deref().map(id).transpose()?;
    let (rows, last) = match user {
        None => {
            let rows = shared.store.all_summaries(after, PAGE).await?;
            let last = rows.last().filter(|_| rows.len() == PAGE).map(|row| row.chat);
            (rows, last)
        }
        Some(user) => {
            let user = find(&shared, &user).await?.user;
            let rows = shared.store.chats_of(user, None, after, PAGE).await?;
            let last = rows.last().filter(|_| rows.len() == PAGE).map(|row| row.chat);
            let chats: Vec<_> = rows.iter().map(|row: &UserChatRow| row.chat).collect();
            (shared.store.summaries(&chats).await?.into_iter().flatten().collect(), last)
        }
    };
    Ok(Json(Chats { chats: rows.iter().map(Chat::from).collect(), next: last.map(|chat| chat.to_string()) }))
}

/// One stay of a member.
#[derive(Debug, Serialize)]
pub(super) struct Stay {
    user: String,
    role: &'static str,
    joined_seq: Seq,
    left_seq: Option<Seq>,
}

impl From<&MemberRow> for Stay {
    fn from(row: &MemberRow) -> Self {
        let role = match row.role {
            Role::Owner => "owner",
            Role::Admin => "admin",
            Role::Member => "member",
            Role::Reader => "reader",
        };
        Self { user: row.user.to_string(), role, joined_seq: row.joined_seq, left_seq: row.left_seq }
    }
}

/// A chat with its members.
#[derive(Debug, Serialize)]
pub(super) struct Whole {
    chat: String,
    partition: u16,
    /// The last stored entry; the list may be a moment behind.
    stored: Seq,
    /// Its history is being imported: nobody is in it.
    importing: bool,
    /// None: the read models do not have it yet.
    summary: Option<Chat>,
    /// All stays, those that have ended too, by user and time.
    members: Vec<Stay>,
}

pub(super) async fn show(State(shared): State<Arc<Shared>>, Path(chat): Path<String>) -> Result<Json<Whole>, Refusal> {
    let chat = id(&chat)?;
    // At 0 it waits for nothing.
    let members = shared.store.members(chat, 0, Instant::now()).await?;
    let stored = shared.store.history(chat, Seq::MAX, 1, 1).await?.through;
    if stored == 0 {
        return Err(Refusal::NotFound(format!("there is no chat {chat}")));
    }
    let summary = shared.store.summaries(&[chat]).await?.into_iter().flatten().next();
    Ok(Json(Whole {
        chat: chat.to_string(),
        partition: chat.partition().0,
        stored,
        // Whoever was in a chat has a stay that ended.
        importing: members.is_empty(),
        summary: summary.as_ref().map(Chat::from),
        members: members.iter().map(Stay::from).collect(),
    }))
}

/// The id of a chat as it is typed.
pub(super) fn id(text: &str) -> Result<ChatId, Refusal> {
    text.parse().map_err(|_fault| Refusal::Bad(format!("{text:?} is no id of a chat: a UUID")))
}
