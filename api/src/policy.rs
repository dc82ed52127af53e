//! What holds in a chat: who adds, and how often one speaks.

use audit::Action as Audited;
use axum::extract::State as Extract;
use axum::http::HeaderMap;
use domain::limits::SLOW_MODE_S_MAX;
use proto::v1::{self, command::Action};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::caller::Caller;
use crate::chats::Answer;
use crate::edge::Origin;
use crate::members::{act, record};
use crate::messages::key;
use crate::problem::Problem;
use crate::refusals::OfEntry;
use crate::state::State;
use crate::wire::{At, Json, present, whole};

/// What holds in a chat.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Policy {
    /// Members may add members and readers; else owners and admins add.
    members_add: bool,
    /// Slow mode: who is no owner or admin makes one entry (message, edit, reaction) in so many seconds; 0: off.
    slow_mode_s: u32,
}

impl From<domain::Policy> for Policy {
    fn from(policy: domain::Policy) -> Self {
        Self { members_add: policy.members_add, slow_mode_s: policy.slow_mode_s }
    }
}

/// What is to hold from now on; what is not named stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(min_properties = 1)]
pub(crate) struct NewPolicy {
    /// Whether members may add members and readers.
    #[serde(default, deserialize_with = "present")]
    #[schema(nullable = false)]
    members_add: Option<bool>,
    /// Seconds from one entry to the next of who is no owner or admin; 0 ends slow mode.
    #[serde(default, deserialize_with = "whole")]
    #[schema(nullable = false, maximum = 21600)]
    slow_mode_s: Option<u32>,
}

/// Changes what holds in a group or channel.
#[utoipa::path(
    patch, path = "/v1/chats/{chat}/policy", tag = "chats", security(("bearer" = [])), request_body = NewPolicy,
    params(("chat" = String, Path, description = "the chat's id"), key::Header),
    responses(OfEntry)
)]
pub(crate) async fn change(
    Extract(shared): State,
    caller: Caller,
    At(chat): At<String>,
    origin: Origin,
    headers: HeaderMap,
    Json(asked): Json<NewPolicy>,
) -> Result<Answer, Problem> {
    let NewPolicy { members_add, slow_mode_s } = asked;
    if members_add.is_none() && slow_mode_s.is_none() {
        return Err(Problem::bad("`members_add`, `slow_mode_s` or both"));
    }
    if slow_mode_s.is_some_and(|seconds| seconds > SLOW_MODE_S_MAX) {
        return Err(Problem::bad("`slow_mode_s` is at most 21600"));
    }
    let change = Some(v1::ChatPolicy { members_add, slow_mode_s });
    let done = act(&shared, &caller, &chat, &headers, Action::SetChatPolicy(v1::SetChatPolicy { change })).await;
    record(&shared, &caller, &origin, (Audited::ChatPolicySet, &chat, None), &done);
    done
}
