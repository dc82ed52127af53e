//! Messages that are edited and taken back.

use audit::Action as Audited;
use axum::extract::State as Extract;
use axum::http::HeaderMap;
use proto::v1::{self, command::Action};
use serde::Deserialize;
use utoipa::ToSchema;

use super::{Place, body_of, key, seq_of};
use crate::caller::Caller;
use crate::chats::{self, Answer};
use crate::edge::Origin;
use crate::members::{act, record};
use crate::problem::Problem;
use crate::refusals::OfEntry;
use crate::state::State;
use crate::wire::{At, Json, present};

/// What a message is to say: a text or bytes. What it refers to stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(min_properties = 1, max_properties = 1)]
pub(crate) struct NewBody {
    /// What is said, at most 16 KiB of UTF-8.
    #[serde(default, deserialize_with = "present")]
    #[schema(example = "good evening", nullable = false, max_length = 16384)]
    text: Option<String>,
    /// The same as bytes of any kind, in base64, in the place of `text`.
    #[serde(default, deserialize_with = "present")]
    #[schema(
        nullable = false,
        pattern = "^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/][AQgw]==|[A-Za-z0-9+/]{2}[AEIMQUYcgkosw048]=)?$"
    )]
    body: Option<String>,
}

/// Says something else in the place of one's own message.
#[utoipa::path(
    patch, path = "/v1/chats/{chat}/messages/{seq}", tag = "messages", security(("bearer" = [])), request_body = NewBody,
    params(Place, key::Header),
    responses(OfEntry)
)]
pub(crate) async fn edit(
    Extract(shared): State,
    caller: Caller,
    At(Place { chat, seq }): At<Place>,
    headers: HeaderMap,
    Json(asked): Json<NewBody>,
) -> Result<Answer, Problem> {
    let seq = seq_of(seq)?;
    let body = body_of(asked.text.as_deref(), asked.body.as_deref())?.into();
    act(&shared, &caller, &chat, &headers, Action::EditMessage(v1::EditMessage { seq, body })).await
}

/// Takes a message back: one's own, or any in a group or channel by its owners and admins.
#[utoipa::path(
    delete, path = "/v1/chats/{chat}/messages/{seq}", tag = "messages", security(("bearer" = [])),
    params(Place, key::Header),
    responses(OfEntry)
)]
pub(crate) async fn delete(
    Extract(shared): State,
    caller: Caller,
    At(Place { chat, seq }): At<Place>,
    origin: Origin,
    headers: HeaderMap,
) -> Result<Answer, Problem> {
    let seq = seq_of(seq)?;
    let message = shared.store.entry(chats::id(&shared, &chat)?, seq).await?;
    let done = act(&shared, &caller, &chat, &headers, Action::DeleteMessage(v1::DeleteMessage { seq })).await;
    // Of one's own there is nothing to account for.
    if let Some(other) = message.map(|row| row.entry.sender).filter(|sender| *sender != caller.user) {
        record(&shared, &caller, &origin, (Audited::MessageDelete, &chat, Some(&other.to_string())), &done);
    }
    done
}
