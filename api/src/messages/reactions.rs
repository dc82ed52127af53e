//! What members think of messages.

use std::collections::BTreeMap;

use axum::extract::State as Extract;
use axum::http::HeaderMap;
use domain::{Seq, UserId, is_reaction};
use proto::v1::{self, command::Action};
use serde::{Deserialize, Serialize};
use store::ReactionRow;
use utoipa::{IntoParams, ToSchema};

use super::receipts::message;
use super::{Place, key, seq_of, stays_of_member};
use crate::caller::Caller;
use crate::chats::{self, Answer};
use crate::members::act;
use crate::paging::{Page, next};
use crate::problem::Problem;
use crate::refusals::{OfEntry, OfThing};
use crate::state::State;
use crate::wire::{Asked, At, Json};

/// Rows of one answer, but for those of its last message: about what a page of history may take in bytes.
const ROWS_MAX: usize = 4_096;

/// What one thinks of a message.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewReaction {
    /// At most 64 bytes of UTF-8, without control characters and spaces.
    #[schema(example = "👍", min_length = 1, max_length = 64)]
    reaction: String,
}

/// Sets the caller's reaction to a message, in the place of the one before.
#[utoipa::path(
    put, path = "/v1/chats/{chat}/messages/{seq}/reaction", tag = "messages", security(("bearer" = [])),
    request_body = NewReaction,
    params(Place, key::Header),
    responses(OfEntry)
)]
pub(crate) async fn put(
    Extract(shared): State,
    caller: Caller,
    At(Place { chat, seq }): At<Place>,
    headers: HeaderMap,
    Json(NewReaction { reaction }): Json<NewReaction>,
) -> Result<Answer, Problem> {
    if reaction.is_empty() || !is_reaction(&reaction) {
        return Err(Problem::bad("`reaction` has 1 to 64 bytes, and neither control characters nor spaces"));
    }
    let seq = seq_of(seq)?;
    act(&shared, &caller, &chat, &headers, Action::React(v1::React { seq, reaction })).await
}

/// Takes the caller's reaction to a message away.
#[utoipa::path(
    delete, path = "/v1/chats/{chat}/messages/{seq}/reaction", tag = "messages", security(("bearer" = [])),
    params(Place, key::Header),
    responses(OfEntry)
)]
pub(crate) async fn remove(
    Extract(shared): State,
    caller: Caller,
    At(Place { chat, seq }): At<Place>,
    headers: HeaderMap,
) -> Result<Answer, Problem> {
    let seq = seq_of(seq)?;
    act(&shared, &caller, &chat, &headers, Action::React(v1::React { seq, reaction: String::new() })).await
}

/// What one user thinks of a message.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Reaction {
    /// The user's id.
    user: String,
    reaction: String,
}

/// Who thinks what of a message.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Who {
    /// By user id; who has left the chat is among them.
    reactions: Vec<Reaction>,
    /// The next page's `cursor`; none after the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// Who thinks what of a message.
#[utoipa::path(
    get, path = "/v1/chats/{chat}/messages/{seq}/reactions", tag = "messages", security(("bearer" = [])),
    params(Place, Page),
    responses((status = 200, body = Who), OfThing)
)]
pub(crate) async fn who(
    Extract(shared): State,
    caller: Caller,
    At(Place { chat, seq }): At<Place>,
    Asked(page): Asked<Page>,
) -> Result<axum::Json<Who>, Problem> {
    let chat = chats::id(&shared, &chat)?;
    let (limit, after) = (page.limit()?, page.after::<UserId>()?);
    message(&shared, &caller, chat, seq).await?;
    let rows = shared.store.reactions(chat, seq - 1, seq, ROWS_MAX).await?.rows.into_iter();
    let rows: Vec<_> = rows.filter(|row| after.is_none_or(|after| row.user > after)).take(limit).collect();
    let next = next(&rows, limit, |row| row.user.to_string());
    let reaction = |row: ReactionRow| Reaction { user: row.user.to_string(), reaction: row.reaction.into() };
    Ok(axum::Json(Who { reactions: rows.into_iter().map(reaction).collect(), next }))
}

/// How many think so of a message.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Count {
    reaction: String,
    count: usize,
    /// The caller is among them.
    own: bool,
}

/// What is thought of one message.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Opinions {
    /// The message's seq.
    message: Seq,
    /// The most frequent first.
    reactions: Vec<Count>,
}

/// What is thought of a run of messages.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Reactions {
    /// By seq; a message without reactions is not among them, nor what membership hides.
    messages: Vec<Opinions>,
    /// All messages above `after` and at or below this are counted.
    through: Seq,
}

/// Which messages.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct Range {
    /// Those above this seq; from the first one if nothing is said.
    after: Option<Seq>,
    /// Those up to this seq; at most 1,024 on, and fewer where they have many reactions.
    through: Option<Seq>,
}

/// What is thought of a run of messages: counts, as a page of history is shown with.
#[utoipa::path(
    get, path = "/v1/chats/{chat}/reactions", tag = "messages", security(("bearer" = [])),
    params(("chat" = String, Path, description = "the chat's id"), Range),
    responses((status = 200, body = Reactions), OfThing)
)]
pub(crate) async fn counts(
    Extract(shared): State,
    caller: Caller,
    At(chat): At<String>,
    Asked(Range { after, through }): Asked<Range>,
) -> Result<axum::Json<Reactions>, Problem> {
    let chat = chats::id(&shared, &chat)?;
    let stays = stays_of_member(&shared, &caller, chat).await?;
    let after = after.unwrap_or_default();
    let through = through.map_or(Seq::MAX, |through| through.max(after));
    let page = shared.store.reactions(chat, after, through, ROWS_MAX).await?;
    let shown: Vec<_> = page.rows.into_iter().filter(|row| stays.iter().any(|stay| stay.shows(row.seq))).collect();
    let messages = shown.chunk_by(|one, other| one.seq == other.seq).map(|rows| counted(rows, caller.user));
    Ok(axum::Json(Reactions { messages: messages.collect(), through: page.through }))
}

/// Of one message's rows.
fn counted(rows: &[ReactionRow], caller: UserId) -> Opinions {
    let mut counts: BTreeMap<&str, (usize, bool)> = BTreeMap::new();
    for row in rows {
        let (count, own) = counts.entry(&row.reaction).or_default();
        *count += 1;
        *own |= row.user == caller;
    }
    let count = |(reaction, (count, own)): (&str, (usize, bool))| Count { reaction: reaction.to_owned(), count, own };
    let mut reactions: Vec<_> = counts.into_iter().map(count).collect();
    reactions.sort_by_key(|it| std::cmp::Reverse(it.count));
    Opinions { message: rows.first().map_or(0, |row| row.seq), reactions }
}
