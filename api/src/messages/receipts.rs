//! Who has received and seen a message, and how far it has come, by the members' watermarks.

use axum::extract::State as Extract;
use domain::limits::MEMBERS_MAX;
use domain::{ChatId, Entry, Event, Seq};
use serde::Serialize;
use store::{Asked as Wanted, LIST_ROWS_MAX, ReadError};
use utoipa::ToSchema;

use crate::caller::Caller;
use crate::chats;
use crate::paging::{Page, next};
use crate::problem::{Kind, Problem};
use crate::refusals::OfThing;
use crate::state::{Shared, State};
use crate::wire::{self, Asked, At};

const _: () = assert!(MEMBERS_MAX <= LIST_ROWS_MAX, "all members are one read");

/// How one member has a message.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Receipt {
    /// The member's id.
    user: String,
    /// A device of the member has it.
    delivered: bool,
    /// The member has read this far.
    seen: bool,
}

/// Who has a message.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Receipts {
    /// By id: who is in the chat and was when the message came, without its sender.
    receipts: Vec<Receipt>,
    /// The next page's `cursor`; none after the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// The message, if the caller is in the chat and its stays show it.
pub(super) async fn message(shared: &Shared, caller: &Caller, chat: ChatId, seq: Seq) -> Result<Entry, Problem> {
    let deadline = shared.read_deadline();
    let stays = shared.store.stays(chat, caller.user, 0, deadline).await?;
    if stays.iter().all(|stay| stay.left_seq.is_some()) {
        return Err(Kind::NotFound.into());
    }
    let after = seq.checked_sub(1).ok_or(Kind::NotFound)?;
    let wanted = Wanted { after, entries: 1, bytes: 1, at_least: 0 };
    let page = match shared.store.history_of(chat, caller.user, wanted, deadline).await {
        Err(ReadError::OutOfRange) => return Err(Kind::NotFound.into()),
        page => page?,
    };
    let entry = page.rows.into_iter().map(|row| row.entry).find(|entry| entry.seq == seq).ok_or(Kind::NotFound)?;
    matches!(entry.event, Event::MessageSent { .. }).then_some(entry).ok_or_else(|| Kind::NotFound.into())
}

/// Who has received and seen a message.
#[utoipa::path(
    get, path = "/v1/chats/{chat}/messages/{seq}/receipts", tag = "messages", security(("bearer" = [])),
    params(
        ("chat" = String, Path, description = "the chat's id"),
        ("seq" = u64, Path, description = "the message's seq"),
        Page
    ),
    responses(
        (status = 200, body = Receipts),
        OfThing
    )
)]
pub(crate) async fn receipts(
    Extract(shared): State,
    caller: Caller,
    At((chat, seq)): At<(String, Seq)>,
    Asked(page): Asked<Page>,
) -> Result<axum::Json<Receipts>, Problem> {
    let chat = chats::id(&shared, &chat)?;
    let (limit, after) = (page.limit()?, page.after()?);
    let message = message(&shared, &caller, chat, seq).await?;
    let members = shared.store.receipts(chat, seq, after, limit).await?;
    let next = next(&members, limit, |member| member.user.to_string());
    let receipts = members.iter().filter(|member| member.user != message.sender).map(|member| Receipt {
        user: member.user.to_string(),
        delivered: member.watermark.delivered >= seq,
        seen: member.watermark.seen >= seq,
    });
    Ok(axum::Json(Receipts { receipts: receipts.collect(), next }))
}

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
    /// When, RFC 3339, where that is recorded.
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
    params(
        ("chat" = String, Path, description = "the chat's id"),
        ("seq" = u64, Path, description = "the message's seq")
    ),
    responses(
        (status = 200, body = Flight),
        OfThing
    )
)]
pub(crate) async fn flight(
    Extract(shared): State,
    caller: Caller,
    At((chat, seq)): At<(String, Seq)>,
) -> Result<axum::Json<Flight>, Problem> {
    let chat = chats::id(&shared, &chat)?;
    let message = message(&shared, &caller, chat, seq).await?;
    if message.sender != caller.user {
        return Err(Kind::NotFound.into());
    }
    let members = shared.store.receipts(chat, seq, None, MEMBERS_MAX).await?;
    let watermarks: Vec<_> =
        members.iter().filter(|member| member.user != caller.user).map(|member| member.watermark).collect();
    let delivered = watermarks.iter().filter(|mark| mark.delivered >= seq).count();
    let seen = watermarks.iter().filter(|mark| mark.seen >= seq).count();
    let passed = |stage| Stage { stage, at: None, members: None };
    // The entry's time is that of the record which brought its command. Nothing else of its way is recorded.
    let mut stages = vec![
        Stage { at: Some(wire::time(message.time)), ..passed(NameOfStage::Accepted) },
        passed(NameOfStage::Published),
        passed(NameOfStage::Stored),
    ];
    for (stage, count) in [(NameOfStage::Delivered, delivered), (NameOfStage::Seen, seen)] {
        if count > 0 {
            stages.push(Stage { members: Some(count), ..passed(stage) });
        }
    }
    Ok(axum::Json(Flight { members: watermarks.len(), stages }))
}
