//! How a chat is run: what it is called, what its members may do, whose it is.

use audit::Action as Audited;
use axum::extract::State as Extract;
use axum::http::HeaderMap;
use domain::UserId;
use proto::v1::{self, command::Action};
use serde::Deserialize;
use utoipa::ToSchema;

use crate::caller::Caller;
use crate::chats::{Answer, RoleOfMember};
use crate::edge::Origin;
use crate::members::{act, record};
use crate::messages::key;
use crate::problem::{Kind, Problem};
use crate::refusals::OfEntry;
use crate::state::State;
use crate::wire::{At, Json};

/// What a chat is to be called.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewName {
    /// At most 256 bytes of UTF-8, without control characters and without spaces at its ends; empty takes the name away.
    #[schema(example = "climbing on tuesdays", max_length = 256)]
    name: String,
}

/// Gives a chat another name.
#[utoipa::path(
    patch, path = "/v1/chats/{chat}", tag = "chats", security(("bearer" = [])), request_body = NewName,
    params(("chat" = String, Path, description = "the chat's id"), key::Header),
    responses(OfEntry)
)]
pub(crate) async fn rename(
    Extract(shared): State,
    caller: Caller,
    At(chat): At<String>,
    origin: Origin,
    headers: HeaderMap,
    Json(asked): Json<NewName>,
) -> Result<Answer, Problem> {
    if !domain::is_name(&asked.name) {
        return Err(Problem::bad("`name` is one line of at most 256 bytes, with no space at its ends"));
    }
    let action = Action::RenameChat(v1::RenameChat { name: asked.name });
    let done = act(&shared, &caller, &chat, &headers, action).await;
    record(&shared, &caller, &origin, (Audited::ChatRename, &chat, None), &done);
    done
}

/// What a member is to be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewRole {
    role: RoleOfMember,
}

/// Gives a member another role.
#[utoipa::path(
    patch, path = "/v1/chats/{chat}/members/{user}", tag = "chats", security(("bearer" = [])), request_body = NewRole,
    params(
        ("chat" = String, Path, description = "the chat's id"),
        ("user" = String, Path, description = "the user's id; oneself may step down"),
        key::Header
    ),
    responses(OfEntry)
)]
pub(crate) async fn set_role(
    Extract(shared): State,
    caller: Caller,
    At((chat, user)): At<(String, String)>,
    origin: Origin,
    headers: HeaderMap,
    Json(asked): Json<NewRole>,
) -> Result<Answer, Problem> {
    let id: UserId = user.parse().map_err(|_fault| Kind::NotFound)?;
    let action = Action::SetRole(v1::SetRole { user: id.to_wire(), role: v1::Role::from(asked.role).into() });
    let done = act(&shared, &caller, &chat, &headers, action).await;
    record(&shared, &caller, &origin, (Audited::RoleSet, &chat, Some(&user)), &done);
    done
}

/// Who is to be the owner.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewOwner {
    /// The id of another member.
    #[schema(format = "uuid")]
    user: String,
}

/// Makes another member an owner in the caller's place, who is an admin from then on.
#[utoipa::path(
    post, path = "/v1/chats/{chat}/owner", tag = "chats", security(("bearer" = [])), request_body = NewOwner,
    params(("chat" = String, Path, description = "the chat's id"), key::Header),
    responses(OfEntry)
)]
pub(crate) async fn transfer(
    Extract(shared): State,
    caller: Caller,
    At(chat): At<String>,
    origin: Origin,
    headers: HeaderMap,
    Json(asked): Json<NewOwner>,
) -> Result<Answer, Problem> {
    let user: UserId = asked.user.parse().map_err(|_fault| Problem::bad("`user` is no id"))?;
    let action = Action::TransferOwnership(v1::TransferOwnership { user: user.to_wire() });
    let done = act(&shared, &caller, &chat, &headers, action).await;
    record(&shared, &caller, &origin, (Audited::OwnershipTransfer, &chat, Some(&asked.user)), &done);
    done
}
