//! The caller's list of chats: a page is one run of rows, joined with what each of them shows.

use axum::extract::State as Extract;
use axum::http::HeaderMap;
use axum::response::Response;
use domain::Seq;
use serde::Serialize;
use store::{ChatLine, Preview};
use utoipa::ToSchema;

use crate::caller::Caller;
use crate::chats::KindOfChat;
use crate::paging::{Page, next};
use crate::problem::Problem;
use crate::refusals::OfCaller;
use crate::settings::Settings;
use crate::state::State;
use crate::tagged::{self, tagged};
use crate::wire::{self, Asked};

/// What can be the last of a chat.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum KindOfLast {
    MessageSent,
}

/// The last message of a chat, as far as a list shows it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Last {
    /// Its seq.
    seq: Seq,
    /// The id of who said it.
    sender: String,
    /// When, RFC 3339.
    time: String,
    kind: KindOfLast,
    /// Its beginning, at most 256 bytes; absent where the body is no text.
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    /// There is more of it.
    cut: bool,
    /// It is deleted: nothing of it is left to show.
    deleted: bool,
}

impl From<&Preview> for Last {
    fn from(preview: &Preview) -> Self {
        let cut = preview.length as usize > preview.body.len();
        Self {
            seq: preview.seq,
            sender: preview.sender.to_string(),
            time: wire::time(preview.time),
            kind: KindOfLast::MessageSent,
            text: beginning(&preview.body, cut).filter(|_| !preview.deleted).map(str::to_owned),
            cut,
            deleted: preview.deleted,
        }
    }
}

/// The text that these bytes are, or begin where they were `cut`: then a character may have lost its end.
fn beginning(bytes: &[u8], cut: bool) -> Option<&str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Some(text),
        Err(fault) if cut && fault.error_len().is_none() => std::str::from_utf8(bytes.get(..fault.valid_up_to())?).ok(),
        Err(_) => None,
    }
}

/// A chat in the caller's list.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Line {
    /// The chat's id.
    id: String,
    kind: KindOfChat,
    /// What it is called, if it is called something; for who has left, as of the leaving.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// Its highest seq for the caller.
    head: Seq,
    /// How many messages the caller has not read.
    unread: u64,
    /// How far the caller has read.
    seen: Seq,
    /// When something last happened, as far as the caller may know, RFC 3339.
    active_at: String,
    /// The caller has left it.
    left: bool,
    /// The last message, if it is of the caller's stay.
    #[serde(skip_serializing_if = "Option::is_none")]
    last: Option<Last>,
    settings: Settings,
}

impl Line {
    /// None while the read models do not know the chat: it takes its place and is shown by a later look.
    fn of(ChatLine { head, summary, name, setting }: &ChatLine) -> Option<Self> {
        let summary = summary.as_ref()?;
        Some(Self {
            id: head.chat.to_string(),
            kind: summary.kind.into(),
            name: name.as_deref().map(str::to_owned),
            head: head.head,
            unread: head.ordinal.saturating_sub(head.watermark.seen_ordinal),
            seen: head.watermark.seen,
            active_at: wire::time(summary.activity),
            left: head.left_seq.is_some(),
            last: summary.preview.as_ref().map(Last::from),
            settings: (*setting).into(),
        })
    }
}

/// A page of the caller's chats.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Chats {
    /// By id, whatever happens in them: a page is not moved by what is said meanwhile.
    chats: Vec<Line>,
    /// The next page's `cursor`; none after the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// The caller's chats, left ones included.
#[utoipa::path(
    get, path = "/v1/chats", tag = "chats", security(("bearer" = [])), params(Page, tagged::Header),
    responses(
        (status = 200, body = Chats, headers(("ETag" = String, description = "names this answer"))),
        (status = 304, description = "the answer is the one that is named"),
        OfCaller
    )
)]
pub(crate) async fn list(
    Extract(shared): State,
    caller: Caller,
    headers: HeaderMap,
    Asked(page): Asked<Page>,
) -> Result<Response, Problem> {
    let (limit, after) = (page.limit()?, page.after()?);
    let lines = shared.store.chat_lines(caller.user, after, limit).await?;
    let next = next(&lines, limit, |line| line.head.chat.to_string());
    tagged(&headers, &Chats { chats: lines.iter().filter_map(Line::of).collect(), next })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_text_ends_before_the_character_that_was_cut() {
        assert_eq!(beginning("häh".as_bytes(), false), Some("häh"));
        assert_eq!(beginning(&"häh".as_bytes()[..2], true), Some("h"));
        assert_eq!(beginning(&"häh".as_bytes()[..2], false), None, "so it was sent");
        assert_eq!(beginning(b"h\xffh", true), None);
        assert_eq!(beginning(b"", true), Some(""));
    }
}
