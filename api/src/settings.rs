//! How a user wants to see a chat: silent, on top, put away. Nobody else learns of it.

use axum::extract::State as Extract;
use serde::{Deserialize, Serialize};
use store::ChatSetting;
use utoipa::ToSchema;

use crate::caller::Caller;
use crate::chats;
use crate::problem::{Kind, Problem};
use crate::refusals::OfSetting;
use crate::state::State;
use crate::wire::{self, At, Json, present};

/// How the caller wants to see a chat.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Settings {
    /// Until when it is silent, RFC 3339; absent: it never was, or that was taken back.
    #[serde(skip_serializing_if = "Option::is_none")]
    muted_until: Option<String>,
    /// It stands on top of the list.
    pinned: bool,
    /// It is put away.
    archived: bool,
}

impl From<Option<ChatSetting>> for Settings {
    fn from(row: Option<ChatSetting>) -> Self {
        let muted_until = row.map(|row| row.muted_until_us).filter(|until| *until > 0).map(wire::time);
        Self { muted_until, pinned: row.is_some_and(|row| row.pinned), archived: row.is_some_and(|row| row.archived) }
    }
}

/// What is changed; what is left out stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChangeSettings {
    /// Until when it is silent, RFC 3339; null: it is not.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<String>, format = DateTime)]
    muted_until: Option<Option<String>>,
    #[serde(default, deserialize_with = "present")]
    #[schema(nullable = false)]
    pinned: Option<bool>,
    #[serde(default, deserialize_with = "present")]
    #[schema(nullable = false)]
    archived: Option<bool>,
}

/// Changes how the caller sees a chat, also one that was left.
#[utoipa::path(
    patch, path = "/v1/chats/{chat}/settings", tag = "chats", security(("bearer" = [])), request_body = ChangeSettings,
    params(("chat" = String, Path, description = "the chat's id")),
    responses(
        (status = 200, body = Settings),
        OfSetting
    )
)]
pub(crate) async fn change(
    Extract(shared): State,
    caller: Caller,
    At(chat): At<String>,
    Json(asked): Json<ChangeSettings>,
) -> Result<axum::Json<Settings>, Problem> {
    let chat = chats::id(&shared, &chat)?;
    // Also for who has left: such a chat stays in the list.
    shared.store.stays(chat, caller.user, 0, shared.read_deadline()).await?;
    let none = ChatSetting { user: caller.user, chat, muted_until_us: 0, pinned: false, archived: false, version: 0 };
    let mut row = shared.store.chat_setting(caller.user, chat).await?.unwrap_or(none);
    if let Some(until) = asked.muted_until {
        row.muted_until_us = until.map_or(Ok(0), |until| wire::from_time("muted_until", &until))?;
    }
    row.pinned = asked.pinned.unwrap_or(row.pinned);
    row.archived = asked.archived.unwrap_or(row.archived);
    if !shared.store.put_chat_setting(row, row.version).await? {
        return Err(Kind::Changed.into());
    }
    Ok(axum::Json(Some(row).into()))
}
