//! The block list: with whom a user wants to have nothing to do.
//!
//! Who is blocked is not told, and is refused in the words that are used for somebody who has gone.

use axum::extract::State as Extract;
use axum::http::StatusCode;
use domain::{ChatId, UserId};
use metrics::counter;
use serde::Serialize;
use store::SEND_CLAIM_KEPT_US;
use utoipa::ToSchema;

use crate::caller::Caller;
use crate::invites::check_may_add;
use crate::messages::key::IdempotencyKey;
use crate::paging::{Page, next};
use crate::problem::{Kind, Problem};
use crate::refusals::{OfBlock, OfCaller, OfThing};
use crate::state::{Shared, State, now_us};
use crate::wire::{Asked, At};

/// Users whom one may block; some more where several are blocked at once.
const BLOCKS_MAX: usize = 1_000;

/// Whom the caller blocks.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Blocked {
    /// The users' ids.
    users: Vec<String>,
    /// The next page's `cursor`; none after the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// Whom the caller blocks, by id.
#[utoipa::path(
    get, path = "/v1/blocks", tag = "accounts", security(("bearer" = [])), params(Page),
    responses(
        (status = 200, body = Blocked),
        OfCaller
    )
)]
pub(crate) async fn list(
    Extract(shared): State,
    caller: Caller,
    Asked(page): Asked<Page>,
) -> Result<axum::Json<Blocked>, Problem> {
    let (limit, after) = (page.limit()?, page.after()?);
    let users = shared.store.blocks_of(caller.user, after, limit).await?;
    let next = next(&users, limit, ToString::to_string);
    Ok(axum::Json(Blocked { users: users.iter().map(ToString::to_string).collect(), next }))
}

/// Blocks somebody.
#[utoipa::path(
    put, path = "/v1/blocks/{user}", tag = "accounts", security(("bearer" = [])),
    params(("user" = String, Path, description = "the user's id")),
    responses(
        (status = 204, description = "blocked"),
        OfBlock
    )
)]
pub(crate) async fn put(Extract(shared): State, caller: Caller, At(user): At<String>) -> Result<StatusCode, Problem> {
    let user: UserId = user.parse().map_err(|_fault| Kind::NotFound)?;
    if user == caller.user {
        return Err(Problem::bad("nobody blocks oneself"));
    }
    if !shared.store.is_blocked(caller.user, user).await? {
        if shared.store.blocks_of(caller.user, None, BLOCKS_MAX).await?.len() >= BLOCKS_MAX {
            return Err(Kind::TooMany.into());
        }
        shared.store.block(caller.user, user).await?;
    }
    Ok(StatusCode::NO_CONTENT)
}

/// Blocks somebody no more.
#[utoipa::path(
    delete, path = "/v1/blocks/{user}", tag = "accounts", security(("bearer" = [])),
    params(("user" = String, Path, description = "the user's id")),
    responses(
        (status = 204, description = "not blocked, whatever it was"),
        OfThing
    )
)]
pub(crate) async fn remove(
    Extract(shared): State,
    caller: Caller,
    At(user): At<String>,
) -> Result<StatusCode, Problem> {
    let user: UserId = user.parse().map_err(|_fault| Kind::NotFound)?;
    shared.store.unblock(caller.user, user).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Whether the caller may bring these into a chat.
///
/// Into a chat that is there only if the caller may let anybody in: to others it says nothing of who blocks whom.
///
/// Not asked of a request that was let through under its key before: repeated, it has the same answer (N2). One that is
/// refused here leaves no key.
pub(crate) async fn admit(
    shared: &Shared,
    caller: &Caller,
    key: &IdempotencyKey,
    chat: Option<ChatId>,
    others: &[UserId],
) -> Result<(), Problem> {
    for other in others.iter().filter(|other| **other != caller.user) {
        if shared.store.turns_away(*other, caller.user).await? {
            let claim = shared.store.send_claim(caller.user, key.text()).await?;
            if claim.is_some_and(|claim| now_us().saturating_sub(claim.at_us) <= SEND_CLAIM_KEPT_US) {
                return Ok(());
            }
            if let Some(chat) = chat {
                check_may_add(shared, chat, caller.user).await?;
            }
            counter!("api_users_not_reached_total").increment(1);
            return Err(Problem::not_reachable(*other));
        }
    }
    Ok(())
}
