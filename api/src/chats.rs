//! Chats: making them, and who is in them.

use std::sync::Arc;

use audit::{Action as Audited, Event};
use axum::extract::State as Extract;
use axum::http::header::LOCATION;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use domain::{ChatId, ChatKind, Code, Micros, Seq, UserId};
use proto::v1::{self, command::Action};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::accounts::{blocks, check_stays};
use crate::caller::Caller;
use crate::edge::Origin;
use crate::messages::key::{self, IdempotencyKey};
use crate::messages::sends::carry_out;
use crate::policy::Policy;
use crate::problem::{Kind, Problem};
use crate::refusals::{OfInvitation, OfThing};
use crate::settings::Settings;
use crate::state::{Shared, State};
use crate::tagged::{self, tagged};
use crate::wire::{self, At, Json, objects};

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
    #[schema(format = "uuid")]
    user: String,
    #[serde(default)]
    role: RoleOfMember,
}

impl NewMember {
    pub(crate) fn id(&self) -> Result<UserId, Problem> {
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
    #[serde(deserialize_with = "objects")]
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

impl Stored {
    pub(crate) fn new(chat: ChatId, seq: Seq, time: Micros) -> Self {
        Self { chat: chat.to_string(), seq, time: wire::time(time) }
    }
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

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        match self {
            Self::Stored(stored) => (StatusCode::CREATED, axum::Json(stored)).into_response(),
            Self::Accepted(accepted) => {
                let status = key::status_path(&accepted.idempotency_key);
                let mut response = (StatusCode::ACCEPTED, axum::Json(accepted)).into_response();
                response.headers_mut().extend(HeaderValue::try_from(status).map(|status| (LOCATION, status)));
                response
            }
        }
    }
}

impl Answer {
    /// None is stored: nobody knows yet.
    pub(crate) fn of(chat: ChatId, key: &IdempotencyKey, stored: Option<Stored>) -> Self {
        match stored {
            Some(stored) => Self::Stored(stored),
            None => Self::Accepted(Accepted { chat: chat.to_string(), idempotency_key: key.text().to_owned() }),
        }
    }
}

/// Makes a chat. A direct chat that is there already is the answer.
#[utoipa::path(
    post, path = "/v1/chats", tag = "chats", security(("bearer" = [])), request_body = NewChat, params(key::Header),
    responses(
        (status = 201, description = "the chat", body = Stored),
        (
            status = 202, description = "not decided in time: its status tells, and so does a repetition under the same key",
            body = Accepted, headers(("Location" = String, description = "its status"))
        ),
        OfInvitation
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
    shared: &Arc<Shared>,
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
    check_stays(shared, caller.user).await?;
    let key = IdempotencyKey::of(headers)?;
    let is_there = match other {
        Some(other) => shared.store.direct(caller.user, other).await?.is_some(),
        None => false,
    };
    if !is_there {
        let others = asked.members.iter().map(NewMember::id).collect::<Result<Vec<_>, _>>()?;
        blocks::admit(shared, caller, &key, None, &others).await?;
    }
    let claim = key.claim(shared, caller.user, shared.draw_chat(), &action, 0).await?;
    let chat = match other {
        Some(other) => shared.store.claim_direct(caller.user, other, claim.chat).await?,
        None => claim.chat,
    };
    let command =
        v1::Command { chat: chat.to_wire(), origin: claim.origin, action: Some(action), ..v1::Command::default() };
    let stored = carry_out(shared, claim, command).await?;
    Ok(Answer::of(chat, &key, stored))
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
    /// What it is called, if it is called something.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// Its highest seq that is stored.
    head: Seq,
    policy: Policy,
    /// The seqs of the messages that are pinned, the latest last; one that was deleted since may be among them.
    pins: Vec<Seq>,
    /// Who is in it.
    members: Vec<Member>,
    settings: Settings,
}

/// A chat that the caller is in.
#[utoipa::path(
    get, path = "/v1/chats/{chat}", tag = "chats", security(("bearer" = [])),
    params(("chat" = String, Path, description = "the chat's id"), tagged::Header),
    responses(
        (status = 200, body = Chat, headers(("ETag" = String, description = "names this answer"))),
        (status = 304, description = "the answer is the one that is named"),
        OfThing
    )
)]
pub(crate) async fn get(
    Extract(shared): State,
    caller: Caller,
    headers: HeaderMap,
    At(chat): At<String>,
) -> Result<Response, Problem> {
    let chat = id(&shared, &chat)?;
    let members = shared.store.members(chat, 0, shared.read_deadline()).await?;
    let present = || members.iter().filter(|member| member.left_seq.is_none());
    if !present().any(|member| member.user == caller.user) {
        return Err(Kind::NotFound.into());
    }
    let facts = shared.store.chat_facts(chat).await?;
    let answer = Chat {
        policy: facts.policy.into(),
        pins: facts.pins,
        id: chat.to_string(),
        kind: kind_of(&shared, chat).await?.into(),
        name: name_of(&shared, chat).await?,
        head: shared.store.history(chat, Seq::MAX, 1, 1).await?.through,
        settings: shared.store.chat_setting(caller.user, chat).await?.into(),
        members: present()
            .map(|member| Member {
                user: member.user.to_string(),
                role: member.role.into(),
                joined_seq: member.joined_seq,
            })
            .collect(),
    };
    tagged(&headers, &answer)
}

/// The chat's kind, which never changes.
pub(crate) async fn kind_of(shared: &Shared, chat: ChatId) -> Result<ChatKind, Problem> {
    if let Some(summary) = shared.store.summaries(&[chat]).await?.into_iter().flatten().next() {
        return Ok(summary.kind);
    }
    // So new that the read models do not know it, and soon folded.
    Ok(shared.store.load_chat(chat).await?.ok_or(Kind::NotFound)?.kind())
}

/// What the chat is called, if it is called something.
pub(crate) async fn name_of(shared: &Shared, chat: ChatId) -> Result<Option<String>, Problem> {
    let name = shared.store.chat_name(chat).await?.map(|row| row.name);
    Ok(name.filter(|name| !name.is_empty()).map(Into::into))
}

/// The id of a chat that there can be.
pub(crate) fn id(shared: &Shared, text: &str) -> Result<ChatId, Problem> {
    let chat: ChatId = text.parse().map_err(|_fault| Kind::NotFound)?;
    shared.check_chat(chat).map_err(|_code: Code| Kind::NotFound)?;
    Ok(chat)
}
