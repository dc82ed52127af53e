//! Making invites, listing and revoking them: for whoever may let others in.

use audit::{Action as Audited, Event};
use axum::extract::State as Extract;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use store::{INVITE_USES_MAX, InviteRow};
use utoipa::ToSchema;

use super::{Code, check_may_add};
use crate::accounts::check_stays;
use crate::caller::Caller;
use crate::chats;
use crate::edge::{Origin, audited};
use crate::problem::{Kind, Problem};
use crate::refusals::OfInvites;
use crate::state::{Shared, State, now_us};
use crate::wire::{self, At, Json, present, whole};

/// How long an invite holds unless told otherwise: a week.
const LASTS_US: u64 = 7 * DAY_US;
/// How long one may hold.
const LASTS_US_MAX: u64 = 90 * DAY_US;
const DAY_US: u64 = 24 * 3_600 * 1_000_000;
/// How many one lets in unless told otherwise.
const USES: u32 = 100;

/// An invite to be made.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewInvite {
    /// When it ends, RFC 3339, within 90 days; in a week if nothing is said.
    #[serde(default, deserialize_with = "present")]
    #[schema(nullable = false, format = DateTime)]
    expires_at: Option<String>,
    /// How many it lets in, 100 if nothing is said.
    #[serde(default, deserialize_with = "whole")]
    #[schema(nullable = false, minimum = 1, maximum = 1000)]
    max_uses: Option<u32>,
}

/// An invite.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Invite {
    /// Names it to those who may revoke it; lets nobody in.
    id: String,
    /// What lets others in. Told once, when it is made.
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<String>,
    /// The id of who made it, by whose right it lets in.
    invited_by: String,
    /// When it was made, RFC 3339.
    created_at: String,
    /// When it ends, RFC 3339.
    expires_at: String,
    /// How many it lets in.
    max_uses: u32,
    /// How many have used it.
    uses: u32,
}

impl From<&InviteRow> for Invite {
    fn from(row: &InviteRow) -> Self {
        Self {
            id: row.id(),
            code: None,
            invited_by: row.inviter.to_string(),
            created_at: wire::time(row.created_us),
            expires_at: wire::time(row.expires_us),
            max_uses: row.uses_max,
            uses: row.uses,
        }
    }
}

/// All invites of a chat.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Invites {
    invites: Vec<Invite>,
}

/// Makes a link that lets others in.
#[utoipa::path(
    post, path = "/v1/chats/{chat}/invites", tag = "chats", security(("bearer" = [])), request_body = NewInvite,
    params(("chat" = String, Path, description = "the chat's id")),
    responses(
        (status = 201, description = "made; its code is told here alone", body = Invite),
        OfInvites
    )
)]
pub(crate) async fn create(
    Extract(shared): State,
    caller: Caller,
    origin: Origin,
    At(chat): At<String>,
    Json(asked): Json<NewInvite>,
) -> Result<(StatusCode, axum::Json<Invite>), Problem> {
    let done = made(&shared, &caller, &chat, asked).await;
    record(&shared, &caller, &origin, (Audited::InviteCreate, &chat), &done);
    done.map(|invite| (StatusCode::CREATED, axum::Json(invite)))
}

/// Keeps who made or ended a way into which chat.
fn record<T>(
    shared: &Shared,
    caller: &Caller,
    origin: &Origin,
    (action, chat): (Audited, &str),
    done: &Result<T, Problem>,
) {
    if let Some(event) = origin.tried(action, done) {
        shared.audit.record(&caller.did(Event { chat: audited(chat), ..event }));
    }
}

async fn made(shared: &Shared, caller: &Caller, chat: &str, asked: NewInvite) -> Result<Invite, Problem> {
    // What such a one makes would be made behind the removal of all that it had.
    check_stays(shared, caller.user).await?;
    let chat = chats::id(shared, chat)?;
    check_may_add(shared, chat, caller.user).await?;
    let now_us = now_us();
    let expires_us = asked.expires_at.map_or(Ok(now_us + LASTS_US), |at| wire::from_time("expires_at", &at))?;
    if !(now_us..=now_us + LASTS_US_MAX).contains(&expires_us) {
        return Err(Problem::bad("`expires_at` is within the next 90 days"));
    }
    let uses_max = asked.max_uses.unwrap_or(USES);
    if !(1..=INVITE_USES_MAX).contains(&uses_max) {
        return Err(Problem::bad("`max_uses` is from 1 to 1000"));
    }
    let code = Code::draw();
    let row =
        InviteRow { hash: code.hash(), chat, inviter: caller.user, created_us: now_us, expires_us, uses_max, uses: 0 };
    if !shared.store.put_invite(row.clone()).await? {
        return Err(Kind::Internal.into());
    }
    Ok(Invite { code: Some(code.text()), ..Invite::from(&row) })
}

/// The invites of a chat, ended ones included for an hour.
#[utoipa::path(
    get, path = "/v1/chats/{chat}/invites", tag = "chats", security(("bearer" = [])),
    params(("chat" = String, Path, description = "the chat's id")),
    responses(
        (status = 200, body = Invites),
        OfInvites
    )
)]
pub(crate) async fn list(
    Extract(shared): State,
    caller: Caller,
    At(chat): At<String>,
) -> Result<axum::Json<Invites>, Problem> {
    let chat = chats::id(&shared, &chat)?;
    check_may_add(&shared, chat, caller.user).await?;
    let invites = shared.store.invites_of(chat).await?.iter().map(Invite::from).collect();
    Ok(axum::Json(Invites { invites }))
}

/// Ends an invite: from then on it lets nobody in.
#[utoipa::path(
    delete, path = "/v1/chats/{chat}/invites/{invite}", tag = "chats", security(("bearer" = [])),
    params(
        ("chat" = String, Path, description = "the chat's id"),
        ("invite" = String, Path, description = "the invite's id")
    ),
    responses(
        (status = 204, description = "gone"),
        OfInvites
    )
)]
pub(crate) async fn revoke(
    Extract(shared): State,
    caller: Caller,
    origin: Origin,
    At((chat, invite)): At<(String, String)>,
) -> Result<StatusCode, Problem> {
    let done = ended(&shared, &caller, &chat, &invite).await;
    record(&shared, &caller, &origin, (Audited::InviteRevoke, &chat), &done);
    done.map(|()| StatusCode::NO_CONTENT)
}

async fn ended(shared: &Shared, caller: &Caller, chat: &str, invite: &str) -> Result<(), Problem> {
    let chat = chats::id(shared, chat)?;
    check_may_add(shared, chat, caller.user).await?;
    let invites = shared.store.invites_of(chat).await?;
    let row = invites.iter().find(|row| row.id() == invite).ok_or(Kind::NotFound)?;
    if shared.store.remove_invite(row.hash).await? { Ok(()) } else { Err(Kind::NotFound.into()) }
}
