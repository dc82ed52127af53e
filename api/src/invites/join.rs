//! Looking at an invite, and coming in by it.

use audit::{Action as Audited, Event};
use axum::extract::State as Extract;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use domain::{ChatId, Code as Refusal, UserId, crash_point};
use proto::v1::{self, command::Action};
use serde::Serialize;
use store::{InviteRow, InviteUse, MemberRow, ReadError, UserState};
use utoipa::ToSchema;

use super::{Code, check_may_add};
use crate::accounts::check_stays;
use crate::caller::Caller;
use crate::chats::{KindOfChat, Stored, kind_of, name_of};
use crate::desk::Outcome;
use crate::edge::Origin;
use crate::problem::{Kind, Problem};
use crate::refusals::OfInvite;
use crate::state::{Shared, State, now_us};
use crate::wire::{self, At};

/// Where an invite leads.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Invited {
    /// The chat's id.
    chat: String,
    kind: KindOfChat,
    /// What it is called, if it is called something.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// How many are in it.
    members: usize,
    /// The id of who lets in by it.
    invited_by: String,
    /// When it ends, RFC 3339.
    expires_at: String,
}

/// Nobody knows yet whether the chat lets the caller in.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Joining {
    /// The chat's id.
    chat: String,
}

/// The invite with this code, unless its maker may do nothing here any more.
async fn invite(shared: &Shared, code: &str) -> Result<InviteRow, Problem> {
    let code = Code::parse(code).ok_or(Kind::NotFound)?;
    let row = shared.store.invite(code.hash()).await?.ok_or(Kind::NotFound)?;
    // A user of another identity system has no row here.
    let account = shared.store.user(row.inviter).await?;
    if account.is_some_and(|account| account.state != UserState::Active) {
        return Err(Kind::InviteEnded.into());
    }
    Ok(row)
}

/// Refuses an invite whose maker could not let anybody into the chat now.
async fn check_inviter(shared: &Shared, row: &InviteRow) -> Result<(), Problem> {
    check_may_add(shared, row.chat, row.inviter)
        .await
        .map_err(|problem| if problem.is_unavailability() { problem } else { Kind::InviteEnded.into() })
}

/// The caller's latest stay in the chat.
async fn stay(shared: &Shared, chat: ChatId, user: UserId) -> Result<Option<MemberRow>, Problem> {
    match shared.store.stays(chat, user, 0, shared.read_deadline()).await {
        Ok(stays) => Ok(stays.into_iter().max_by_key(|stay| stay.joined_seq)),
        Err(ReadError::NotAMember | ReadError::UnknownChat) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Where an invite leads.
#[utoipa::path(
    get, path = "/v1/invites/{code}", tag = "chats", security(("bearer" = [])),
    params(("code" = String, Path, description = "the invite's code")),
    responses(
        (status = 200, body = Invited),
        OfInvite
    )
)]
pub(crate) async fn look(
    Extract(shared): State,
    _caller: Caller,
    At(code): At<String>,
) -> Result<axum::Json<Invited>, Problem> {
    let row = invite(&shared, &code).await?;
    if !row.is_open_at(now_us()) {
        return Err(Kind::InviteEnded.into());
    }
    check_inviter(&shared, &row).await?;
    let members = shared.store.members(row.chat, 0, shared.read_deadline()).await?;
    Ok(axum::Json(Invited {
        chat: row.chat.to_string(),
        kind: kind_of(&shared, row.chat).await?.into(),
        name: name_of(&shared, row.chat).await?,
        members: members.iter().filter(|member| member.left_seq.is_none()).count(),
        invited_by: row.inviter.to_string(),
        expires_at: wire::time(row.expires_us),
    }))
}

/// Comes in by an invite. Repeated by the same user, it is the same coming in.
#[utoipa::path(
    post, path = "/v1/invites/{code}", tag = "chats", security(("bearer" = [])),
    params(("code" = String, Path, description = "the invite's code")),
    responses(
        (status = 201, description = "in", body = Stored),
        (status = 202, description = "not decided in time: repeat it", body = Joining),
        OfInvite
    )
)]
pub(crate) async fn join(
    Extract(shared): State,
    caller: Caller,
    origin: Origin,
    At(code): At<String>,
) -> Result<Response, Problem> {
    check_stays(&shared, caller.user).await?;
    let row = invite(&shared, &code).await?;
    let done = come_in(&shared, &caller, &row).await;
    if let Some(event) = origin.tried(Audited::MemberAdd, &done) {
        let (chat, subject) = (Some(row.chat.to_string()), Some(caller.user.to_string()));
        let is_pending = done.as_ref().is_ok_and(|answer| answer.status() == StatusCode::ACCEPTED);
        let outcome = if is_pending { audit::Outcome::Pending } else { event.outcome };
        shared.audit.record(&caller.did(Event { chat, subject, outcome, ..event }));
    }
    done
}

/// Counts the caller's use of the invite and has its maker let the caller in.
async fn come_in(shared: &Shared, caller: &Caller, row: &InviteRow) -> Result<Response, Problem> {
    let used = used(shared, row, caller.user).await?;
    crash_point("api.invite_counted");
    let member = v1::Member { user: caller.user.to_wire(), role: v1::Role::Member.into() };
    let command = v1::Command {
        chat: row.chat.to_wire(),
        origin: used.origin,
        n: 1,
        after: 0,
        basis: used.basis,
        action: Some(Action::AddMember(v1::AddMember { member: Some(member) })),
    };
    match shared.desk.send(row.inviter, command).await? {
        Outcome::Stored { chat, seq, time } => {
            // Who was let in by it and is out again is not let in by asking again.
            if stay(shared, chat, caller.user).await?.is_some_and(|stay| stay.left_seq.is_some()) {
                return Err(Kind::InviteEnded.into());
            }
            Ok((StatusCode::CREATED, axum::Json(Stored::new(chat, seq, time))).into_response())
        }
        Outcome::Pending => {
            Ok((StatusCode::ACCEPTED, axum::Json(Joining { chat: row.chat.to_string() })).into_response())
        }
        // Said of the inviter, which is nothing to the caller. Unknown is an outbox to a chat whose member it is no more.
        Outcome::Rejected(Refusal::Forbidden | Refusal::NotAMember | Refusal::UnknownChat | Refusal::OriginUnknown) => {
            Err(Kind::InviteEnded.into())
        }
        Outcome::Rejected(code) => Err(Problem::rejected(code)),
    }
}

/// The caller's use of the invite: an earlier one, or a new one that is counted.
async fn used(shared: &Shared, row: &InviteRow, user: UserId) -> Result<InviteUse, Problem> {
    if let Some(used) = shared.store.invite_use(row.hash, user).await? {
        return Ok(used);
    }
    // Before anything is counted for nothing.
    if stay(shared, row.chat, user).await?.is_some_and(|stay| stay.left_seq.is_none()) {
        return Err(Problem::rejected(Refusal::AlreadyAMember));
    }
    check_inviter(shared, row).await?;
    let summary = shared.store.summaries(&[row.chat]).await?.into_iter().flatten().next();
    let proposed = InviteUse {
        hash: row.hash,
        user,
        origin: rand::random(),
        // As new as the read model: where that is too old for the chat, the chat says so and how old (M14).
        basis: summary.map_or(1, |summary| summary.head),
        at_us: now_us(),
    };
    Ok(shared.store.use_invite(proposed).await?.ok_or(Kind::InviteEnded)?)
}
