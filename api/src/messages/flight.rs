//! How far a message has come: which stages it has passed by the members' watermarks, and when by the log.

use axum::extract::State as Extract;
use domain::limits::MEMBERS_MAX;
use domain::{Micros, Seq};
use serde::Serialize;
use store::LIST_ROWS_MAX;
use utoipa::ToSchema;

use super::Place;
use super::flight_times::{Sought, Times, look};
use super::receipts::message;
use crate::caller::Caller;
use crate::chats;
use crate::problem::{Kind, Problem};
use crate::refusals::OfThing;
use crate::state::State;
use crate::wire::{self, At};

const _: () = assert!(MEMBERS_MAX <= LIST_ROWS_MAX, "all members are one read");

/// How many flights are looked up in the log at a time; others wait for a place, as long as a look may take.
pub(crate) const LOOKS_AT_ONCE: usize = 4;

/// What a message passes on its way, in this order.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum NameOfStage {
    /// The log has the command.
    Accepted,
    /// The log has the entry: it is true.
    Published,
    /// The entry can be read.
    Stored,
    /// Devices of members have it.
    Delivered,
    /// Members have read it.
    Seen,
}

/// What a message has passed.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Stage {
    stage: NameOfStage,
    /// When, RFC 3339, where the log still tells: `stored` by when, `delivered` and `seen` when for the first member.
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<String>,
    /// For how many of the members; absent where it is for all at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    members: Option<usize>,
}

/// How far a message has come.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Flight {
    /// How many members it is for: who is in the chat and was when it came, without its sender.
    members: usize,
    /// What it has passed; what is not named has not happened yet, as far as is known.
    stages: Vec<Stage>,
}

/// How far the caller's own message has come.
#[utoipa::path(
    get, path = "/v1/chats/{chat}/messages/{seq}/flight", tag = "messages", security(("bearer" = [])),
    params(Place),
    responses(
        (status = 200, body = Flight),
        OfThing
    )
)]
pub(crate) async fn flight(
    Extract(shared): State,
    caller: Caller,
    At(Place { chat, seq }): At<Place>,
) -> Result<axum::Json<Flight>, Problem> {
    let chat = chats::id(&shared, &chat)?;
    let message = message(&shared, &caller, chat, seq).await?;
    if message.sender != caller.user {
        return Err(Kind::NotFound.into());
    }
    let mut members = shared.store.receipts(chat, seq, None, MEMBERS_MAX).await?;
    members.retain(|member| member.user != caller.user);
    let having = |has: fn(&store::Receipt, Seq) -> bool| {
        members.iter().filter(|member| has(member, seq)).map(|member| member.user).collect()
    };
    let sought = Sought {
        chat,
        seq,
        time: message.time,
        delivered: having(|member, seq| member.watermark.delivered >= seq),
        seen: having(|member, seq| member.watermark.seen >= seq),
    };
    // An imported one's time is when it was said, long before it came into the log.
    let times = if message.is_imported_message() {
        Times::default()
    } else {
        look(&shared.log, &shared.flights, &sought).await
    };
    let at = |time: Option<Micros>| time.map(wire::time);
    let passed = |stage, time, members| Stage { stage, at: at(time), members };
    // The entry's time is that of the record which brought its command.
    let mut stages = vec![
        passed(NameOfStage::Accepted, Some(message.time), None),
        passed(NameOfStage::Published, times.published, None),
        passed(NameOfStage::Stored, times.stored, None),
    ];
    for (stage, time, by) in
        [(NameOfStage::Delivered, times.delivered, &sought.delivered), (NameOfStage::Seen, times.seen, &sought.seen)]
    {
        if !by.is_empty() {
            stages.push(passed(stage, time, Some(by.len())));
        }
    }
    Ok(axum::Json(Flight { members: members.len(), stages }))
}
