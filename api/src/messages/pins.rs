//! Messages that are pinned for everybody in a chat.

use std::sync::Arc;

use audit::Action as Audited;
use axum::extract::State as Extract;
use axum::http::HeaderMap;
use domain::{LoggedEntry, Seq, Target};
use proto::v1::{self, command::Action};
use serde::Serialize;
use utoipa::ToSchema;

use super::{Entry, Place, key, seq_of, stays_of_member};
use crate::caller::Caller;
use crate::chats::{self, Answer};
use crate::edge::Origin;
use crate::members::{act, record};
use crate::problem::Problem;
use crate::refusals::{OfEntry, OfThing};
use crate::state::{Shared, State};
use crate::wire::At;

/// What is pinned in a chat.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Pins {
    /// The messages in their newest versions, the latest pin last; only what the caller's membership shows.
    pins: Vec<Entry>,
}

/// The messages that are pinned.
#[utoipa::path(
    get, path = "/v1/chats/{chat}/pins", tag = "messages", security(("bearer" = [])),
    params(("chat" = String, Path, description = "the chat's id")),
    responses((status = 200, body = Pins), OfThing)
)]
pub(crate) async fn list(
    Extract(shared): State,
    caller: Caller,
    At(chat): At<String>,
) -> Result<axum::Json<Pins>, Problem> {
    let chat = chats::id(&shared, &chat)?;
    let stays = stays_of_member(&shared, &caller, chat).await?;
    let mut pins = Vec::new();
    for seq in shared.store.chat_facts(chat).await?.pins {
        if !stays.iter().any(|stay| stay.shows(seq)) {
            continue;
        }
        // The model follows the rows: one that was deleted may be pinned in it for a moment, or until the next pin.
        let row = shared.store.entry(chat, seq).await?;
        let is_said = |row: &LoggedEntry| matches!(Target::of(&row.entry), Target::Said { .. });
        pins.extend(row.filter(is_said).as_ref().map(Entry::from));
    }
    Ok(axum::Json(Pins { pins }))
}

async fn set(
    shared: &Arc<Shared>,
    caller: &Caller,
    origin: &Origin,
    headers: &HeaderMap,
    (chat, seq): (&str, Seq),
    unpin: bool,
) -> Result<Answer, Problem> {
    let action = Action::PinMessage(v1::PinMessage { seq: seq_of(seq)?, unpin });
    let done = act(shared, caller, chat, headers, action).await;
    record(shared, caller, origin, (Audited::MessagePin, chat, None), &done);
    done
}

/// Pins a message for everybody: by owners and admins, in a direct chat by both.
#[utoipa::path(
    put, path = "/v1/chats/{chat}/pins/{seq}", tag = "messages", security(("bearer" = [])),
    params(Place, key::Header),
    responses(OfEntry)
)]
pub(crate) async fn put(
    Extract(shared): State,
    caller: Caller,
    At(Place { chat, seq }): At<Place>,
    origin: Origin,
    headers: HeaderMap,
) -> Result<Answer, Problem> {
    set(&shared, &caller, &origin, &headers, (&chat, seq), false).await
}

/// Takes a message's pin away.
#[utoipa::path(
    delete, path = "/v1/chats/{chat}/pins/{seq}", tag = "messages", security(("bearer" = [])),
    params(Place, key::Header),
    responses(OfEntry)
)]
pub(crate) async fn remove(
    Extract(shared): State,
    caller: Caller,
    At(Place { chat, seq }): At<Place>,
    origin: Origin,
    headers: HeaderMap,
) -> Result<Answer, Problem> {
    set(&shared, &caller, &origin, &headers, (&chat, seq), true).await
}
