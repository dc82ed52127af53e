//! Who has received and seen a message, by the members' watermarks.

use axum::extract::State as Extract;
use domain::{ChatId, Entry, Event, Seq};
use serde::Serialize;
use store::{Asked as Wanted, ReadError};
use utoipa::ToSchema;

use super::{Place, stays_of_member};
use crate::caller::Caller;
use crate::chats;
use crate::paging::{Page, next};
use crate::problem::{Kind, Problem};
use crate::refusals::OfThing;
use crate::state::{Shared, State};
use crate::wire::{Asked, At};

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
    stays_of_member(shared, caller, chat).await?;
    let after = seq.checked_sub(1).ok_or(Kind::NotFound)?;
    let wanted = Wanted { after, entries: 1, bytes: 1, at_least: 0 };
    let page = match shared.store.history_of(chat, caller.user, wanted, shared.read_deadline()).await {
        Err(ReadError::OutOfRange) => return Err(Kind::NotFound.into()),
        page => page?,
    };
    let entry = page.rows.into_iter().map(|row| row.entry).find(|entry| entry.seq == seq).ok_or(Kind::NotFound)?;
    matches!(entry.event, Event::MessageSent { .. }).then_some(entry).ok_or_else(|| Kind::NotFound.into())
}

/// Who has received and seen a message.
#[utoipa::path(
    get, path = "/v1/chats/{chat}/messages/{seq}/receipts", tag = "messages", security(("bearer" = [])),
    params(Place, Page),
    responses(
        (status = 200, body = Receipts),
        OfThing
    )
)]
pub(crate) async fn receipts(
    Extract(shared): State,
    caller: Caller,
    At(Place { chat, seq }): At<Place>,
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
