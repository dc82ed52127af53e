//! The end of an account: marked at once, then carried out in steps that may be broken off anywhere.
//!
//! ```text
//! delete ─ marked as leaving ▶ revoked ▶ erased ▶ out of its chats ▶ nothing found, 3 s after the mark ▶ handle given up ▶ deleted
//! ```
//! The mark is what counts: from then on nobody signs in. All that follows is found by it again after a kill, by whichever
//! API looks, and each step may be repeated. What was said stays in its chats, under an id that is never given again.

use std::sync::Arc;
use std::time::Duration;

use audit::Action as Audited;
use axum::extract::State as Extract;
use axum::http::StatusCode;
use domain::{Code, Micros, Partition, UserId};
use metrics::counter;
use proto::v1::{self, command::Action};
use serde::Deserialize;
use store::{Head, LIST_ROWS_MAX, UserRow, UserState};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use utoipa::ToSchema;
use xxhash_rust::xxh3::xxh3_64;

use super::active;
use super::endings::revoke_all;
use super::profile::knows;
use crate::Error;
use crate::caller::Caller;
use crate::desk::Outcome;
use crate::edge::Origin;
use crate::problem::{Kind, Problem};
use crate::refusals::OfChange;
use crate::state::{Shared, State, now_us};
use crate::wire::Json;

/// Between two looks for accounts that an operator marked, or that another API left half done.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Before what was begun is gone on with: the read model has caught up by then.
const GO_ON_AFTER: Duration = Duration::from_secs(1);
/// How long after the mark a look that finds nothing to leave is believed: tokens pass for up to two seconds, and what was
/// done with one shows in the read model a moment later.
const SETTLED_AFTER_US: Micros = 3_000_000;
/// What a chat says that cannot be left, or is not the user's any more.
const STAYS: [Code; 4] = [Code::DirectChatIsFixed, Code::LastOwner, Code::NotAMember, Code::UnknownChat];
/// Chats of a page.
const CHATS: usize = 100;

/// Who means it.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Delete {
    /// The account's.
    password: String,
}

/// Deletes the caller's account.
#[utoipa::path(
    delete, path = "/v1/me", tag = "accounts", security(("bearer" = [])), request_body = Delete,
    responses(
        (status = 204, description = "nobody signs in any more; all sockets are closed"),
        OfChange
    )
)]
pub(crate) async fn delete(
    Extract(shared): State,
    caller: Caller,
    origin: Origin,
    Json(asked): Json<Delete>,
) -> Result<StatusCode, Problem> {
    let done = marked(&shared, &caller, &origin, asked).await;
    if let Some(event) = origin.tried(Audited::AccountDelete, &done) {
        shared.audit.record(&caller.did(event));
    }
    done.map(|()| StatusCode::NO_CONTENT)
}

/// Marks the account and ends its sign-ins.
async fn marked(shared: &Shared, caller: &Caller, origin: &Origin, asked: Delete) -> Result<(), Problem> {
    let mut row = active(shared, caller.user).await?.ok_or(Kind::NotFound)?;
    if !knows(shared, origin, &row, asked.password).await? {
        return Err(Kind::WrongPassword.into());
    }
    let version = row.version;
    row.leave(now_us());
    if !shared.store.put_user(row, version).await? {
        return Err(Kind::Changed.into());
    }
    counter!("api_accounts_leaving_total").increment(1);
    shared.leaving_users.notify_one();
    Ok(revoke_all(&shared.log, caller.user, "").await?)
}

/// Carries out what is marked, until stopped.
pub(crate) async fn carry_out(shared: Arc<Shared>, stop: CancellationToken) -> Result<(), Error> {
    let carrying_out = async {
        loop {
            let pause = if all(&shared).await { LOOK_EVERY } else { GO_ON_AFTER };
            // Whoever is marked meanwhile is not made to wait.
            let _ = timeout(pause, shared.leaving_users.notified()).await;
        }
    };
    // Broken off anywhere, as by a kill.
    stop.run_until_cancelled(carrying_out).await.unwrap_or(Ok(()))
}

/// One look at all who leave; whether nobody is left.
async fn all(shared: &Shared) -> bool {
    let leaving = match shared.store.leaving_users(LIST_ROWS_MAX).await {
        Ok(leaving) => leaving,
        Err(error) => {
            tracing::warn!(error = &error as &dyn std::error::Error, "accounts that are to be deleted are not found");
            return false;
        }
    };
    let mut is_done = leaving.len() < LIST_ROWS_MAX;
    for user in leaving {
        match one(shared, user).await {
            Ok(is_gone) => is_done &= is_gone,
            Err(problem) => {
                counter!("api_deletions_put_off_total").increment(1);
                tracing::info!(user.id = %user, ?problem, "a deletion is gone on with later");
                is_done = false;
            }
        }
    }
    is_done
}

/// One user; whether the account is gone.
async fn one(shared: &Shared, user: UserId) -> Result<bool, Problem> {
    let Some(row) = shared.store.user(user).await?.filter(|row| row.state == UserState::Leaving) else {
        return Ok(true);
    };
    // Twice: at once, and for what a refresh that crossed the mark has drawn before its family went.
    revoke_all(&shared.log, user, "").await?;
    shared.store.erase_user(user).await?;
    revoke_all(&shared.log, user, "").await?;
    let is_settled = now_us() >= row.signed_out_us.saturating_add(SETTLED_AFTER_US);
    if leave_chats(shared, user).await? > 0 || !is_settled {
        // The read model may not have shown all of them.
        return Ok(false);
    }
    shared.store.erase_user(user).await?;
    if !row.handle.is_empty() {
        shared.store.release_handle(&row.handle, user).await?;
    }
    let version = row.version;
    let gone = UserRow { state: UserState::Deleted, handle: "".into(), ..row };
    if shared.store.put_user(gone, version).await? {
        counter!("api_accounts_deleted_total").increment(1);
    }
    Ok(true)
}

/// Leaves the chats that can be left; how many that were.
async fn leave_chats(shared: &Shared, user: UserId) -> Result<usize, Problem> {
    let mut left = 0;
    for partition in (0..shared.partitions).map(Partition) {
        let mut after = None;
        loop {
            let heads = shared.store.heads(user, partition, after, CHATS).await?;
            for head in heads.iter().filter(|head| head.left_seq.is_none()) {
                left += usize::from(leave(shared, user, head).await?);
            }
            after = heads.last().map(|head| head.chat);
            if heads.len() < CHATS {
                break;
            }
        }
    }
    Ok(left)
}

/// Leaves a chat; false: it cannot be left, or it was.
async fn leave(shared: &Shared, user: UserId, head: &Head) -> Result<bool, Problem> {
    let stay = [user.as_bytes(), head.chat.as_bytes(), &head.joined_seq.to_be_bytes()[..]].concat();
    let command = v1::Command {
        chat: head.chat.to_wire(),
        // The same at each look, so that this stay is left once (N2).
        origin: xxh3_64(&stay),
        n: 1,
        after: 0,
        basis: head.head,
        action: Some(Action::LeaveChat(v1::LeaveChat {})),
    };
    match shared.desk.send(user, command).await {
        Ok(Outcome::Stored { .. }) => Ok(true),
        Ok(Outcome::Pending) => Err(Kind::NotYet.into()),
        // A direct chat has two members for ever, and a last owner cannot go while others stay. Or it was left.
        Ok(Outcome::Rejected(code)) if STAYS.contains(&code) => Ok(false),
        Ok(Outcome::Rejected(code)) => Err(Problem::rejected(code)),
        Err(problem) => Err(problem),
    }
}
