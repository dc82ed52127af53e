//! Chats: making them, finding them, and who is in them.

use audit::{Action as Audited, Event};
use axum::extract::State as Extract;
use axum::http::{HeaderMap, StatusCode};
use domain::{ChatId, ChatKind, Code, Seq, UserId};
use proto::v1::{self, command::Action};
use serde::{Deserialize, Serialize};
use store::LIST_ROWS_MAX;
use utoipa::{IntoParams, ToSchema};

use crate::caller::Caller;
use crate::desk::Outcome;
use crate::edge::Origin;
use crate::messages::key::{self, IdempotencyKey};
use crate::problem::{Kind, Problem};
use crate::refusals::{OfCaller, OfCommand, OfThing};
use crate::state::{Shared, State};
use crate::wire::{self, Asked, At, Json};

/// Chats of one page.
const PAGE: usize = 100;

/// The kinds of chats.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum KindOfChat {
    /// Two people; there is one for each two.
    Direct,
    /// Everybody may write.
    Group,
    /// Few write, many read.
    Channel,
}

impl From<ChatKind> for KindOfChat {
    fn from(kind: ChatKind) -> Self {
        match kind {
            ChatKind::Direct => Self::Direct,
            ChatKind::Group => Self::Group,
            ChatKind::Channel => Self::Channel,
        }
    }
}

impl From<KindOfChat> for v1::ChatKind {
    fn from(kind: KindOfChat) -> Self {
        match kind {
            KindOfChat::Direct => Self::Direct,
            KindOfChat::Group => Self::Group,
            KindOfChat::Channel => Self::Channel,
        }
    }
}

/// What a member may do.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RoleOfMember {
    Owner,
    Admin,
    #[default]
    Member,
    Reader,
}

impl From<domain::Role> for RoleOfMember {
    fn from(role: domain::Role) -> Self {
        match role {
            domain::Role::Owner => Self::Owner,
            domain::Role::Admin => Self::Admin,
            domain::Role::Member => Self::Member,
            domain::Role::Reader => Self::Reader,
        }
    }
}

impl From<RoleOfMember> for v1::Role {
    fn from(role: RoleOfMember) -> Self {
        match role {
            RoleOfMember::Owner => Self::Owner,
            RoleOfMember::Admin => Self::Admin,
            RoleOfMember::Member => Self::Member,
            RoleOfMember::Reader => Self::Reader,
        }
    }
}

/// Somebody to be let in.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewMember {
    /// The user's id.
    user: String,
    #[serde(default)]
    role: RoleOfMember,
}

impl NewMember {
    fn id(&self) -> Result<UserId, Problem> {
        self.user.parse().map_err(|_fault| Problem::bad("`user` is no id"))
    }

    /// The user's id, as it was written.
    pub(crate) fn user(&self) -> &str {
        &self.user
    }

    pub(crate) fn to_wire(&self) -> Result<v1::Member, Problem> {
        Ok(v1::Member { user: self.id()?.to_wire(), role: v1::Role::from(self.role).into() })
    }
}

/// A chat to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewChat {
    kind: KindOfChat,
    /// Without the caller, who becomes the owner; in a direct chat exactly one.
    members: Vec<NewMember>,
}

/// What a command came to.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Stored {
    /// The chat's id.
    chat: String,
    /// The entry's seq in the chat.
    seq: Seq,
    /// The entry's time, RFC 3339.
    time: String,
}

/// Nobody knows yet what a command comes to.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Accepted {
    /// The chat's id.
    chat: String,
    /// The key to repeat the same request with, which then tells.
    idempotency_key: String,
}

/// The answer to a request that changes a chat.
pub(crate) enum Answer {
    Stored(Stored),
    Accepted(Accepted),
}

impl axum::response::IntoResponse for Answer {
    fn into_response(self) -> axum::response::Response {
        match self {
            Self::Stored(stored) => (StatusCode::CREATED, axum::Json(stored)).into_response(),
            Self::Accepted(accepted) => (StatusCode::ACCEPTED, axum::Json(accepted)).into_response(),
        }
    }
}

impl Answer {
    pub(crate) fn of(chat: ChatId, key: &IdempotencyKey, outcome: Outcome) -> Self {
        match outcome {
            Outcome::Stored { chat, seq, time } => {
                Self::Stored(Stored { chat: chat.to_string(), seq, time: wire::time(time) })
            }
            Outcome::Pending => {
                Self::Accepted(Accepted { chat: chat.to_string(), idempotency_key: key.text().to_owned() })
            }
        }
    }
}

/// Makes a chat. A direct chat that is there already is the answer.
#[utoipa::path(
    post, path = "/v1/chats", tag = "chats", security(("bearer" = [])), request_body = NewChat, params(key::Header),
    responses(
        (status = 201, description = "the chat", body = Stored),
        (status = 202, description = "not decided in time: repeat it under the same key", body = Accepted),
        OfCommand
    )
)]
pub(crate) async fn create(
    Extract(shared): State,
    caller: Caller,
    origin: Origin,
    headers: HeaderMap,
    Json(asked): Json<NewChat>,
) -> Result<Answer, Problem> {
    let done = made(&shared, &caller, &origin, &headers, asked).await;
    if let Some(event) = origin.tried(Audited::ChatCreate, &done) {
        shared.audit.record(&caller.did(with_chat(event, &done)));
    }
    done
}

/// An event with the chat that it was done to and how far it came, as the answer says.
pub(crate) fn with_chat(event: Event, done: &Result<Answer, Problem>) -> Event {
    match done {
        Ok(Answer::Stored(stored)) => Event { chat: Some(stored.chat.clone()), ..event },
        Ok(Answer::Accepted(accepted)) => {
            Event { chat: Some(accepted.chat.clone()), outcome: audit::Outcome::Pending, ..event }
        }
        Err(_) => event,
    }
}

/// Makes the chat, or finds the direct one that is there.
async fn made(
    shared: &Shared,
    caller: &Caller,
    origin: &Origin,
    headers: &HeaderMap,
    asked: NewChat,
) -> Result<Answer, Problem> {
    let members = asked.members.iter().map(NewMember::to_wire).collect::<Result<Vec<_>, _>>()?;
    let action = Action::CreateChat(v1::CreateChat { kind: v1::ChatKind::from(asked.kind).into(), members });
    let other = match (asked.kind, &asked.members[..]) {
        (KindOfChat::Direct, [other]) => Some(other.id()?),
        (KindOfChat::Direct, _) => return Err(Problem::bad("a direct chat has exactly one other member")),
        (KindOfChat::Group | KindOfChat::Channel, _) => None,
    };
    if other == Some(caller.user) {
        return Err(Problem::bad("nobody has a direct chat with oneself"));
    }
    shared.allowances.chat(origin, caller.user)?;
    let key = IdempotencyKey::of(headers)?;
    let claim = key.claim(shared, caller.user, shared.draw_chat(), &action, 0).await?;
    let chat = match other {
        Some(other) => shared.store.claim_direct(caller.user, other, claim.chat).await?,
        None => claim.chat,
    };
    let command =
        v1::Command { chat: chat.to_wire(), origin: claim.origin, action: Some(action), ..v1::Command::default() };
    let outcome = shared.desk.send(caller.user, command).await?;
    Ok(Answer::of(chat, &key, outcome))
}

/// A member as the chat shows it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Member {
    /// The user's id.
    user: String,
    role: RoleOfMember,
    /// The seq of the entry that let the user in.
    joined_seq: Seq,
}

/// A chat as its members see it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Chat {
    /// The chat's id.
    id: String,
    kind: KindOfChat,
    /// Its highest seq that the read model knows of.
    head: Seq,
    /// Who is in it.
    members: Vec<Member>,
}

/// A chat that the caller is in.
#[utoipa::path(
    get, path = "/v1/chats/{chat}", tag = "chats", security(("bearer" = [])),
    params(("chat" = String, Path, description = "the chat's id")),
    responses(
        (status = 200, body = Chat),
        OfThing
    )
)]
pub(crate) async fn get(
    Extract(shared): State,
    caller: Caller,
    At(chat): At<String>,
) -> Result<axum::Json<Chat>, Problem> {
    let chat = id(&shared, &chat)?;
    let stored = shared.store.load_chat(chat).await?.ok_or(Kind::NotFound)?;
    let members = shared.store.members(chat, 0, shared.read_deadline()).await?;
    let present = || members.iter().filter(|member| member.left_seq.is_none());
    if !present().any(|member| member.user == caller.user) {
        return Err(Kind::NotFound.into());
    }
    Ok(axum::Json(Chat {
        id: chat.to_string(),
        kind: stored.kind().into(),
        head: stored.head(),
        members: present()
            .map(|member| Member {
                user: member.user.to_string(),
                role: member.role.into(),
                joined_seq: member.joined_seq,
            })
            .collect(),
    }))
}

/// Which page of a list.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct Page {
    /// `next` of the page before.
    cursor: Option<String>,
    /// At most so many, 100 if nothing is said.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
}

/// A chat in the caller's list.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Line {
    /// The chat's id.
    id: String,
    kind: KindOfChat,
    /// Its highest seq for the caller.
    head: Seq,
    /// How many messages the caller has not read.
    unread: u64,
    /// How far the caller has read.
    seen: Seq,
    /// When something last happened, RFC 3339.
    active_at: String,
    /// The caller has left it.
    left: bool,
}

/// A page of the caller's chats.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct List {
    chats: Vec<Line>,
    /// The next page's `cursor`; none after the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// The caller's chats, left ones included.
#[utoipa::path(
    get, path = "/v1/chats", tag = "chats", security(("bearer" = [])), params(Page),
    responses(
        (status = 200, body = List),
        OfCaller
    )
)]
pub(crate) async fn list(
    Extract(shared): State,
    caller: Caller,
    Asked(page): Asked<Page>,
) -> Result<axum::Json<List>, Problem> {
    let limit = page.limit.unwrap_or(PAGE);
    if !(1..=LIST_ROWS_MAX.min(1_000)).contains(&limit) {
        return Err(Problem::bad("`limit` is from 1 to 1000"));
    }
    let after = page.cursor.map(|cursor| cursor.parse::<ChatId>()).transpose();
    let mut after = after.map_err(|_fault| Problem::bad("`cursor` is none of ours"))?;
    let (mut chats, mut last, mut is_full) = (Vec::new(), None, false);
    // By partition and chat id, which a cursor names both.
    let first = after.map_or(0, |chat| chat.partition().0);
    for partition in (first..shared.partitions).map(domain::Partition) {
        let wanted = limit - chats.len();
        let heads = shared.store.heads(caller.user, partition, after.take(), wanted).await?;
        is_full = heads.len() >= wanted;
        last = heads.last().map(|head| head.chat).or(last);
        let ids: Vec<_> = heads.iter().map(|head| head.chat).collect();
        let summaries = shared.store.summaries(&ids).await?;
        for (head, summary) in heads.iter().zip(summaries) {
            let Some(summary) = summary else { continue };
            chats.push(Line {
                id: head.chat.to_string(),
                kind: summary.kind.into(),
                head: head.head,
                unread: head.ordinal.saturating_sub(head.watermark.seen_ordinal),
                seen: head.watermark.seen,
                active_at: wire::time(summary.activity),
                left: head.left_seq.is_some(),
            });
        }
        if is_full {
            break;
        }
    }
    // One whose summary is not there yet takes its place and is shown by a later look.
    let next = if is_full { last.map(|chat| chat.to_string()) } else { None };
    Ok(axum::Json(List { chats, next }))
}

/// The id of a chat that there can be.
pub(crate) fn id(shared: &Shared, text: &str) -> Result<ChatId, Problem> {
    let chat: ChatId = text.parse().map_err(|_fault| Kind::NotFound)?;
    shared.check_chat(chat).map_err(|_code: Code| Kind::NotFound)?;
    Ok(chat)
}
