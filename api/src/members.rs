//! Who is let into a chat and put out of it.

use std::sync::Arc;

use audit::{Action as Audited, Event};
use axum::extract::State as Extract;
use axum::http::HeaderMap;
use domain::UserId;
use proto::v1::{self, command::Action};

use crate::accounts::blocks;
use crate::caller::Caller;
use crate::chats::{self, Accepted, Answer, NewMember, Stored};
use crate::edge::{Origin, audited};
use crate::messages::key::{self, IdempotencyKey};
use crate::messages::sends::carry_out;
use crate::problem::{Kind, Problem};
use crate::refusals::{OfEntry, OfInvitation};
use crate::state::{Shared, State};
use crate::wire::{At, Json};

/// Lets somebody in.
#[utoipa::path(
    post, path = "/v1/chats/{chat}/members", tag = "chats", security(("bearer" = [])), request_body = NewMember,
    params(("chat" = String, Path, description = "the chat's id"), key::Header),
    responses(
        (status = 201, body = Stored),
        (
            status = 202, description = "not decided in time: its status tells, and so does a repetition under the same key",
            body = Accepted, headers(("Location" = String, description = "its status"))
        ),
        OfInvitation
    )
)]
pub(crate) async fn add(
    Extract(shared): State,
    caller: Caller,
    At(chat): At<String>,
    origin: Origin,
    headers: HeaderMap,
    Json(asked): Json<NewMember>,
) -> Result<Answer, Problem> {
    let member = Some(asked.to_wire()?);
    let added = async {
        let to = Some(chats::id(&shared, &chat)?);
        blocks::admit(&shared, &caller, &IdempotencyKey::of(&headers)?, to, &[asked.id()?]).await?;
        act(&shared, &caller, &chat, &headers, Action::AddMember(v1::AddMember { member })).await
    };
    let done = added.await;
    record(&shared, &caller, &origin, (Audited::MemberAdd, &chat, Some(asked.user())), &done);
    done
}

/// Keeps who changed what of a chat, and whose part in it.
pub(crate) fn record(
    shared: &Shared,
    caller: &Caller,
    origin: &Origin,
    (action, chat, subject): (Audited, &str, Option<&str>),
    done: &Result<Answer, Problem>,
) {
    if let Some(event) = origin.tried(action, done) {
        let event = Event { chat: audited(chat), subject: subject.and_then(audited), ..event };
        shared.audit.record(&caller.did(chats::with_chat(event, done)));
    }
}

/// Puts somebody out, or leaves.
#[utoipa::path(
    delete, path = "/v1/chats/{chat}/members/{user}", tag = "chats", security(("bearer" = [])),
    params(
        ("chat" = String, Path, description = "the chat's id"),
        ("user" = String, Path, description = "the user's id; one's own leaves"),
        key::Header
    ),
    responses(OfEntry)
)]
pub(crate) async fn remove(
    Extract(shared): State,
    caller: Caller,
    At((chat, user)): At<(String, String)>,
    origin: Origin,
    headers: HeaderMap,
) -> Result<Answer, Problem> {
    let id: UserId = user.parse().map_err(|_fault| Kind::NotFound)?;
    let action = if id == caller.user {
        Action::LeaveChat(v1::LeaveChat {})
    } else {
        Action::RemoveMember(v1::RemoveMember { user: id.to_wire() })
    };
    let done = act(&shared, &caller, &chat, &headers, action).await;
    record(&shared, &caller, &origin, (Audited::MemberRemove, &chat, Some(&user)), &done);
    done
}

/// Sends one command to a chat under the request's key.
pub(crate) async fn act(
    shared: &Arc<Shared>,
    caller: &Caller,
    chat: &str,
    headers: &HeaderMap,
    action: Action,
) -> Result<Answer, Problem> {
    let chat = chats::id(shared, chat)?;
    let key = IdempotencyKey::of(headers)?;
    // As new as the read model: where that is too old for the chat, the chat says so and how old (M14).
    let head = shared.store.summaries(&[chat]).await?.into_iter().flatten().next().map_or(1, |summary| summary.head);
    let claim = key.claim(shared, caller.user, chat, &action, head).await?;
    let command = v1::Command {
        chat: chat.to_wire(),
        origin: claim.origin,
        n: claim.n,
        after: 0,
        basis: claim.basis,
        action: Some(action),
    };
    let stored = carry_out(shared, claim, command).await?;
    Ok(Answer::of(chat, &key, stored))
}
