//! Messages: sending one, and reading what was said.

pub(crate) mod changes;
pub(crate) mod flight;
mod flight_times;
pub(crate) mod key;
pub(crate) mod pins;
pub(crate) mod reactions;
pub(crate) mod receipts;
pub(crate) mod searched;
pub(crate) mod sends;

use std::collections::BTreeSet;

use axum::extract::State as Extract;
use axum::http::HeaderMap;
use domain::limits::MENTIONS_MAX;
use domain::{ChatId, LoggedEntry, Seq, UserId};
use proto::v1::{self, command::Action};
use serde::{Deserialize, Serialize};
use store::{Asked as Wanted, HistoryPage, MemberRow};
use tokio::time::Instant;
use utoipa::{IntoParams, ToSchema};

use crate::caller::Caller;
use crate::chats::{self, Answer, RoleOfMember};
use crate::members::act;
use crate::policy::Policy;
use crate::problem::{Kind, Problem};
use crate::refusals::{OfEntry, OfThing};
use crate::state::{Shared, State};
use crate::wire::{self, Asked, At, Json, present, whole};

/// Entries of one page unless told otherwise.
const PAGE: usize = 50;
/// Most entries of one page.
const PAGE_MAX: usize = 256;
/// Most bytes of the entries of one page.
const PAGE_BYTES_MAX: usize = 256 * 1024;

/// A message to be sent: a text or bytes, and what it refers to.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(min_properties = 1)]
pub(crate) struct NewMessage {
    /// What is said, at most 16 KiB of UTF-8.
    #[serde(default, deserialize_with = "present")]
    #[schema(example = "good morning", nullable = false, max_length = 16384)]
    text: Option<String>,
    /// The same as bytes of any kind, in base64, in the place of `text`.
    #[serde(default, deserialize_with = "present")]
    #[schema(
        nullable = false,
        pattern = "^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/][AQgw]==|[A-Za-z0-9+/]{2}[AEIMQUYcgkosw048]=)?$"
    )]
    body: Option<String>,
    /// The seq of the entry that it answers.
    #[serde(default, deserialize_with = "whole")]
    #[schema(nullable = false, minimum = 1)]
    reply_to: Option<Seq>,
    /// The ids of those it is meant for, members or not, each once.
    #[serde(default)]
    #[schema(max_items = 50)]
    mentions: Vec<String>,
    /// It is meant for everybody in the chat.
    #[serde(default)]
    mention_all: bool,
}

impl NewMessage {
    fn to_wire(&self) -> Result<v1::SendMessage, Problem> {
        let body = body_of(self.text.as_deref(), self.body.as_deref())?;
        if self.reply_to == Some(0) {
            return Err(Problem::bad("`reply_to` is a seq, from 1"));
        }
        if self.mentions.len() > MENTIONS_MAX {
            return Err(Problem::bad("`mentions` has at most 50 ids"));
        }
        let ids = self.mentions.iter().map(|user| user.parse().map_err(|_fault| Problem::bad("`mentions` has ids")));
        let ids = ids.collect::<Result<Vec<UserId>, _>>()?;
        if ids.iter().collect::<BTreeSet<_>>().len() < ids.len() {
            return Err(Problem::bad("`mentions` has each id once"));
        }
        Ok(v1::SendMessage {
            body: body.into(),
            reply_to: self.reply_to.unwrap_or_default(),
            mentions: ids.iter().map(|user| user.to_wire()).collect(),
            mention_all: self.mention_all,
        })
    }
}

/// A message, as paths name it.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct Place {
    /// the chat's id
    chat: String,
    /// the message's seq
    seq: u64,
}

/// The caller's stays in a chat that the caller is in now; else there is no such chat.
async fn stays_of_member(shared: &Shared, caller: &Caller, chat: ChatId) -> Result<Vec<MemberRow>, Problem> {
    let stays = shared.store.stays(chat, caller.user, 0, shared.read_deadline()).await?;
    if stays.iter().all(|stay| stay.left_seq.is_some()) { Err(Kind::NotFound.into()) } else { Ok(stays) }
}

/// A message's seq out of a path: there is nothing at 0.
fn seq_of(seq: Seq) -> Result<Seq, Kind> {
    if seq == 0 { Err(Kind::NotFound) } else { Ok(seq) }
}

/// What is to be said, in the one of two ways.
fn body_of(text: Option<&str>, body: Option<&str>) -> Result<Vec<u8>, Problem> {
    match (text, body) {
        (Some(text), None) => Ok(text.as_bytes().to_vec()),
        (None, Some(body)) => wire::from_base64(body),
        (Some(_), Some(_)) | (None, None) => Err(Problem::bad("either `text` or `body`")),
    }
}

/// Sends a message.
#[utoipa::path(
    post, path = "/v1/chats/{chat}/messages", tag = "messages", security(("bearer" = [])), request_body = NewMessage,
    params(("chat" = String, Path, description = "the chat's id"), key::Header),
    responses(OfEntry)
)]
pub(crate) async fn send(
    Extract(shared): State,
    caller: Caller,
    At(chat): At<String>,
    headers: HeaderMap,
    Json(asked): Json<NewMessage>,
) -> Result<Answer, Problem> {
    act(&shared, &caller, &chat, &headers, Action::SendMessage(asked.to_wire()?)).await
}

/// What of a chat is read.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct Range {
    /// Entries above this seq, in order; from the first one if nothing is said.
    after: Option<Seq>,
    /// Entries below this seq, the latest of them.
    before: Option<Seq>,
    /// At most so many, 50 if nothing is said.
    #[param(minimum = 1, maximum = 256)]
    limit: Option<usize>,
    /// Waits up to 2 s until the chat is stored through this seq.
    at_least: Option<Seq>,
}

/// What happened in a chat.
#[derive(Debug, Serialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum Happened {
    ChatCreated {
        chat_kind: chats::KindOfChat,
        members: Vec<Joined>,
    },
    MemberAdded {
        /// The user's id.
        user: String,
        role: RoleOfMember,
    },
    MemberRemoved {
        /// The user's id.
        user: String,
    },
    MemberLeft,
    MessageSent {
        /// The body, if it is UTF-8.
        #[serde(skip_serializing_if = "Option::is_none")]
        text: Option<String>,
        /// The body in base64.
        body: String,
        /// The seq of the entry that it answers, which may be hidden from the caller.
        #[serde(skip_serializing_if = "Option::is_none")]
        reply_to: Option<Seq>,
        /// The ids of those it is meant for, members or not.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        mentions: Vec<String>,
        /// It is meant for everybody in the chat.
        #[serde(skip_serializing_if = "is_false")]
        mention_all: bool,
        /// The edit whose body this is.
        #[serde(skip_serializing_if = "Option::is_none")]
        edited_seq: Option<Seq>,
        /// The deletion: nothing else is left.
        #[serde(skip_serializing_if = "Option::is_none")]
        deleted_seq: Option<Seq>,
    },
    /// The sender says something else in the place of what it had.
    MessageEdited {
        /// The seq of the message.
        message: Seq,
        /// The body, if it is UTF-8 and the message not deleted.
        #[serde(skip_serializing_if = "Option::is_none")]
        text: Option<String>,
        /// The body in base64; empty where the message is deleted.
        body: String,
        /// The message is deleted, and with it this body.
        #[serde(skip_serializing_if = "is_false")]
        erased: bool,
    },
    /// A message is taken back.
    MessageDeleted {
        /// Its seq.
        message: Seq,
    },
    /// What the sender thinks of a message.
    MessageReacted {
        /// The seq of the message.
        message: Seq,
        /// Empty: nothing any more.
        reaction: String,
    },
    /// A message is pinned for everybody.
    MessagePinned {
        /// Its seq.
        message: Seq,
        /// It is not pinned any more.
        #[serde(skip_serializing_if = "is_false")]
        unpinned: bool,
        /// The seqs of all that are pinned now, the latest last.
        pins: Vec<Seq>,
    },
    /// Something else holds in the chat.
    ChatPolicySet {
        policy: Policy,
    },
    RoleSet {
        /// The user's id.
        user: String,
        role: RoleOfMember,
    },
    ChatRenamed {
        /// Empty: it has no name any more.
        name: String,
    },
    /// The user is an owner in the place of the sender, who is an admin.
    OwnershipTransferred {
        /// The user's id.
        user: String,
    },
    /// Seq 1 of a chat that an operator brought in, in the place of `chat_created`.
    ImportBegun {
        chat_kind: chats::KindOfChat,
    },
    /// What is before was brought in with its times, for these members.
    ImportEnded {
        members: Vec<Joined>,
    },
}

/// Who is in a chat from its beginning.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Joined {
    /// The user's id.
    user: String,
    role: RoleOfMember,
}

/// An entry of a chat.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Entry {
    /// Its number in the chat: 1, 2, 3 …
    seq: Seq,
    /// How many messages the chat had with it.
    ordinal: u64,
    /// The id of who did it.
    sender: String,
    /// When, RFC 3339.
    time: String,
    #[serde(flatten)]
    happened: Happened,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_false(value: &bool) -> bool {
    !value
}

fn text(body: &[u8]) -> Option<String> {
    std::str::from_utf8(body).ok().map(str::to_owned)
}

impl From<&LoggedEntry> for Entry {
    fn from(logged: &LoggedEntry) -> Self {
        let entry = &logged.entry;
        let joined = |member: &domain::Member| Joined { user: member.user.to_string(), role: member.role.into() };
        let happened = match &entry.event {
            domain::Event::ChatCreated { kind, members } => {
                Happened::ChatCreated { chat_kind: (*kind).into(), members: members.iter().map(joined).collect() }
            }
            domain::Event::ImportBegun { kind, .. } => Happened::ImportBegun { chat_kind: (*kind).into() },
            domain::Event::ImportEnded { members } => {
                Happened::ImportEnded { members: members.iter().map(joined).collect() }
            }
            domain::Event::MemberAdded { member } => {
                Happened::MemberAdded { user: member.user.to_string(), role: member.role.into() }
            }
            domain::Event::MemberRemoved { user } => Happened::MemberRemoved { user: user.to_string() },
            domain::Event::MemberLeft => Happened::MemberLeft,
            domain::Event::RoleSet { member } => {
                Happened::RoleSet { user: member.user.to_string(), role: member.role.into() }
            }
            domain::Event::ChatRenamed { name } => Happened::ChatRenamed { name: name.to_string() },
            domain::Event::OwnershipTransferred { user } => Happened::OwnershipTransferred { user: user.to_string() },
            domain::Event::MessageSent(message) => Happened::MessageSent {
                text: text(&message.body).filter(|_| !message.version.is_deleted()),
                body: wire::base64(&message.body),
                reply_to: message.reply_to,
                mentions: message.mentions.iter().map(ToString::to_string).collect(),
                mention_all: message.mention_all,
                edited_seq: Some(message.version.seq()).filter(|seq| *seq > 0 && !message.version.is_deleted()),
                deleted_seq: Some(message.version.seq()).filter(|_| message.version.is_deleted()),
            },
            domain::Event::MessageEdited(edit) => Happened::MessageEdited {
                message: edit.seq,
                text: text(&edit.body).filter(|_| !edit.erased),
                body: wire::base64(&edit.body),
                erased: edit.erased,
            },
            domain::Event::MessageDeleted { seq } => Happened::MessageDeleted { message: *seq },
            domain::Event::MessageReacted { seq, reaction } => {
                Happened::MessageReacted { message: *seq, reaction: reaction.to_string() }
            }
            domain::Event::MessagePinned { seq, unpinned, pins } => {
                Happened::MessagePinned { message: *seq, unpinned: *unpinned, pins: pins.clone() }
            }
            domain::Event::ChatPolicySet { policy, .. } => Happened::ChatPolicySet { policy: (*policy).into() },
        };
        Self {
            seq: entry.seq,
            ordinal: entry.ordinal,
            sender: entry.sender.to_string(),
            time: wire::time(entry.time),
            happened,
        }
    }
}

/// A page of a chat.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Page {
    /// Ascending; only what the caller's membership shows.
    entries: Vec<Entry>,
    /// No entry above the first asked for and at or below this is missing, but what membership hides.
    through: Seq,
    /// The lowest seq that is still kept.
    first_seq: Seq,
}

/// A page of what was said and done.
#[utoipa::path(
    get, path = "/v1/chats/{chat}/messages", tag = "messages", security(("bearer" = [])),
    params(("chat" = String, Path, description = "the chat's id"), Range),
    responses(
        (status = 200, body = Page),
        OfThing
    )
)]
pub(crate) async fn read(
    Extract(shared): State,
    caller: Caller,
    At(chat): At<String>,
    Asked(range): Asked<Range>,
) -> Result<axum::Json<Page>, Problem> {
    let chat = chats::id(&shared, &chat)?;
    let limit = range.limit.unwrap_or(PAGE);
    if !(1..=PAGE_MAX).contains(&limit) {
        return Err(Problem::bad("`limit` is from 1 to 256"));
    }
    let reading = Reading {
        shared: &shared,
        chat,
        reader: caller.user,
        at_least: range.at_least.unwrap_or(0),
        deadline: shared.read_deadline(),
    };
    let after = range.after.unwrap_or(0);
    let page = match range.before {
        None => reading.page(after, limit).await?,
        Some(before) => reading.backwards(after, before, limit).await?,
    };
    let entries = page.rows.iter().map(Entry::from).collect();
    Ok(axum::Json(Page { entries, through: page.through, first_seq: page.first_seq }))
}

/// One request's way of reading.
struct Reading<'a> {
    shared: &'a Shared,
    chat: ChatId,
    reader: UserId,
    at_least: Seq,
    deadline: Instant,
}

impl Reading<'_> {
    async fn page(&self, after: Seq, entries: usize) -> Result<HistoryPage, Problem> {
        let wanted = Wanted { after, entries, bytes: PAGE_BYTES_MAX, at_least: self.at_least };
        Ok(self.shared.store.history_of(self.chat, self.reader, wanted, self.deadline).await?)
    }

    /// The latest entries above `above` and below `before`: as many as fit, and none of the latest left out.
    async fn backwards(&self, above: Seq, before: Seq, limit: usize) -> Result<HistoryPage, Problem> {
        let last = self.shared.store.last_of(self.chat, self.reader, self.deadline).await?;
        let last = before.saturating_sub(1).min(last);
        let mut span = limit as Seq;
        loop {
            let after = last.saturating_sub(span).max(above.min(last));
            let mut page = self.page(after, usize::try_from(last - after).unwrap_or(limit).max(1)).await?;
            if page.through >= last || span <= 1 {
                page.rows.retain(|row| row.entry.seq <= last);
                page.through = page.through.min(last);
                return Ok(page);
            }
            // Too many bytes: fewer entries, from nearer the end.
            span /= 2;
        }
    }
}
