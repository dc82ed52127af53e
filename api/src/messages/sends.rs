//! What becomes of a keyed command: carried out, followed past its request's deadline, told when asked.
//!
//! The chat's rows say what is stored. A rejection stands nowhere in the log's truth, so it is noted with the key.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State as Extract;
use domain::{Code, Seq};
use metrics::counter;
use proto::v1;
use serde::Serialize;
use store::{SendClaim, SendOutcome};
use utoipa::ToSchema;

use crate::caller::Caller;
use crate::chats::Stored;
use crate::desk::{Outcome, Own, Place};
use crate::messages::searched::Looked;
use crate::problem::{Kind, Problem};
use crate::refusals::OfThing;
use crate::state::{Shared, State, now_us};
use crate::wire::At;

/// Commands that are followed past their deadline at a time; of further ones only what is stored is told.
pub(crate) const FOLLOWED_MAX: usize = 1_024;
/// How long one is followed: a takeover of its partition takes less.
const FOLLOWED_FOR: Duration = Duration::from_mins(1);

/// Carries out what a key stands for; none: not decided in time. A rejection is the problem that it is to the client.
pub(crate) async fn carry_out(
    shared: &Arc<Shared>,
    claim: SendClaim,
    command: v1::Command,
) -> Result<Option<Stored>, Problem> {
    let outcome = shared.desk.send(claim.user, command.clone()).await?;
    note(shared, &claim, outcome).await;
    match outcome {
        Outcome::Stored { chat, seq, time } => Ok(Some(Stored::new(chat, seq, time))),
        Outcome::Rejected(code) => Err(Problem::rejected(code)),
        Outcome::Pending => {
            follow(shared, claim, command);
            Ok(None)
        }
    }
}

/// Goes on asking when the request is answered, so that who asks for the status learns of a rejection too.
fn follow(shared: &Arc<Shared>, claim: SendClaim, command: v1::Command) {
    let Ok(place) = Arc::clone(&shared.followed).try_acquire_owned() else {
        counter!("api_sends_unfollowed_total").increment(1);
        return;
    };
    let shared = Arc::clone(shared);
    tokio::spawn(async move {
        let _place = place;
        let following = async {
            // What finds no room now is asked again by its client.
            if let Ok(outcome) = shared.desk.send_within(claim.user, command, FOLLOWED_FOR).await {
                note(&shared, &claim, outcome).await;
            }
        };
        let _ = shared.leaving.run_until_cancelled(following).await;
    });
}

/// Notes what the chat's rows would not tell whoever asks under the key.
async fn note(shared: &Shared, claim: &SendClaim, outcome: Outcome) {
    let noted = match outcome {
        Outcome::Rejected(code) => SendOutcome::Rejected { code: code as u32 },
        // Found from the claim, unless the chat is another one than it names or something else was noted.
        Outcome::Stored { chat, seq, time } if chat != claim.chat || claim.outcome != SendOutcome::Unknown => {
            SendOutcome::Stored { chat, seq, time }
        }
        Outcome::Stored { .. } | Outcome::Pending => return,
    };
    if noted == claim.outcome {
        return;
    }
    if let Err(error) = shared.store.settle_send(claim.user, &claim.key, claim.origin, noted).await {
        // The request itself is answered all the same, and asked again it is told.
        counter!("api_sends_unnoted_total").increment(1);
        tracing::debug!(%error, "an outcome is not noted");
    }
}

/// What became of a request that changes a chat.
#[derive(Debug, Serialize, ToSchema)]
#[serde(tag = "status", rename_all = "snake_case")]
pub(crate) enum Status {
    /// Nobody knows yet: repeated under its key, the request goes on.
    Pending,
    /// In the chat for good.
    Stored(Stored),
    /// The chat decided against it, when it last was asked.
    Rejected {
        /// The type of the problem that the request is answered with.
        problem: String,
        /// The code of the protocol's table of errors, where the caller may know it.
        #[serde(skip_serializing_if = "Option::is_none")]
        code: Option<i32>,
    },
}

/// What became of a request of the caller, by its key, for a day.
#[utoipa::path(
    get, path = "/v1/sends/{key}", tag = "messages", security(("bearer" = [])),
    params(("key" = String, Path, description = "the request's `Idempotency-Key`")),
    responses(
        (status = 200, body = Status),
        OfThing
    )
)]
pub(crate) async fn status(
    Extract(shared): State,
    caller: Caller,
    At(key): At<String>,
) -> Result<axum::Json<Status>, Problem> {
    let claim = shared.store.send_claim(caller.user, &key).await?;
    let claim = claim.filter(|claim| claim.holds_at(now_us())).ok_or(Kind::NotFound)?;
    if let SendOutcome::Stored { chat, seq, time } = claim.outcome {
        return Ok(axum::Json(Status::Stored(Stored::new(chat, seq, time))));
    }
    // Before a rejection: a later copy may be stored (M13).
    if let Some(Place { seq, time }) = stored(&shared, &claim).await? {
        return Ok(axum::Json(Status::Stored(Stored::new(claim.chat, seq, time))));
    }
    Ok(axum::Json(match claim.outcome {
        SendOutcome::Rejected { code } => {
            let code = i32::try_from(code).ok().and_then(|code| Code::try_from(code).ok()).unwrap_or(Code::Internal);
            let problem = Problem::rejected(code);
            Status::Rejected { problem: problem.type_name(), code: problem.code() }
        }
        SendOutcome::Unknown | SendOutcome::Stored { .. } => Status::Pending,
    }))
}

/// The claim's entry in the chat, as far as it is stored.
async fn stored(shared: &Shared, claim: &SendClaim) -> Result<Option<Place>, Problem> {
    let named = (claim.user, claim.origin);
    // A creation has no place in an outbox, and is the first entry.
    let origin = if claim.n == 0 { 0 } else { claim.origin };
    let mut after = match shared.searched.known(named) {
        Some(Looked::Found(place)) => return Ok(Some(place)),
        Some(Looked::Through(seq)) => seq,
        None if claim.n == 0 => 0,
        None => claim.basis,
    };
    let head = shared.store.history(claim.chat, Seq::MAX, 1, 1).await?.through;
    let through = if claim.n == 0 { head.min(1) } else { head };
    let own = Own { sender: claim.user, origin, n: claim.n };
    let found = shared.desk.find(claim.chat, own, &mut after, through, shared.read_deadline()).await;
    // Also where the time was too short: the next poll goes on from there.
    let looked = found.as_ref().ok().copied().flatten().map_or(Looked::Through(after), Looked::Found);
    shared.searched.remember(named, looked);
    found
}
