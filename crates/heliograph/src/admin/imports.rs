//! Imports of old history: each request is some steps of one, and none leaves anything that a repeat would not finish.
//!
//! The chat's id follows from what is imported, so a second run of the same import finds what the first one left.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::rejection::JsonRejection;
use axum::extract::{DefaultBodyLimit, Extension, Path, State};
use axum::routing::post;
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use domain::limits::{BODY_BYTES_MAX, MEMBERS_MAX};
use domain::{Chat, ChatId, ChatKind, Import, ImportId, Member, Micros, Partition, Step, UserId};
use metrics::counter;
use store::UserState;

use super::Shared;
use super::acted::{Action, acted};
use super::chats;
use super::refusal::Refusal;
use super::serve::Peer;
use crate::import::wire::{self, Begin, Begun, End, MESSAGES_MAX, Messages, REQUEST_BYTES_MAX, Stored};

pub(super) fn routes() -> Router<Arc<Shared>> {
    Router::new()
        .route("/imports", post(begin))
        .route("/imports/{chat}/messages", post(messages))
        .route("/imports/{chat}/end", post(end))
        .layer(DefaultBodyLimit::max(REQUEST_BYTES_MAX))
}

/// The chat that an import makes: its place among others is that of its time, its partition and the rest are chance.
fn chat_of(import: ImportId, time: Micros, partitions: u16) -> ChatId {
    let [high, low] = [&import.as_bytes()[..8], &import.as_bytes()[8..]];
    let number = |bytes: &[u8]| bytes.iter().fold(0, |number: u64, byte| number << 8 | u64::from(*byte));
    let partition = u16::try_from(number(low) % u64::from(partitions.max(1))).unwrap_or_default();
    ChatId::draw(Partition(partition), time / 1_000, number(high))
}

async fn begin(
    State(shared): State<Arc<Shared>>,
    Extension(peer): Extension<Peer>,
    asked: Result<Json<Begin>, JsonRejection>,
) -> Result<Json<Begun>, Refusal> {
    let Json(Begin { import, kind, time_us, opener, members }) = asked?;
    let (import, sender, kind) = (import_id(&import)?, user_id(&opener)?, ChatKind::from(kind));
    let members = checked(members)?;
    let chat = chat_of(import, time_us, shared.partitions);
    let beginning = async {
        let is_over = shared.store.load_chat(chat).await?.is_some_and(|chat| !chat.is_importing());
        if !is_over {
            nobody_is_gone(&shared, &members).await?;
        }
        if let (ChatKind::Direct, [a, b]) = (kind, &members[..]) {
            let claimed = shared.store.claim_direct(a.user, b.user, chat).await?;
            if claimed != chat {
                return Err(Refusal::Conflict(format!("the two have a direct chat already: {claimed}")));
            }
        }
        let step = Import { chat, import, sender, seq: 1, step: Step::Begin { kind, time: time_us } };
        shared.steps.send(&[step]).await?;
        let state = shared.store.load_chat(chat).await?;
        let stored = state.as_ref().map_or(0, Chat::head);
        let ended = state.as_ref().is_some_and(|chat| !chat.is_importing());
        Ok(Begun { chat: chat.to_string(), stored, ended })
    };
    acted(&shared.audit, peer, Action::on_chat("chat.import", chat), beginning).await.map(Json)
}

async fn messages(
    State(shared): State<Arc<Shared>>,
    Path(chat): Path<String>,
    asked: Result<Json<Messages>, JsonRejection>,
) -> Result<Json<Stored>, Refusal> {
    let Json(Messages { import, first_seq, messages }) = asked?;
    let (chat, import) = (chat_id(&shared, &chat)?, import_id(&import)?);
    if messages.len() > MESSAGES_MAX {
        return Err(Refusal::Bad(format!("more than {MESSAGES_MAX} messages at once")));
    }
    if !(2..=u64::MAX / 2).contains(&first_seq) {
        return Err(Refusal::Bad("`first_seq` is that of no message".to_owned()));
    }
    let mut steps = Vec::with_capacity(messages.len());
    for (wire::Message { sender, time_us, body }, seq) in messages.into_iter().zip(first_seq..) {
        let body = STANDARD.decode(body).map_err(|_fault| Refusal::Bad("`body` is no base64".to_owned()))?;
        if body.len() > BODY_BYTES_MAX {
            // No record would take it.
            return Err(Refusal::Bad(format!("seq {seq} has a body of more than {BODY_BYTES_MAX} bytes")));
        }
        let step = Step::Message { time: time_us, body: body.into() };
        steps.push(Import { chat, import, sender: user_id(&sender)?, seq, step });
    }
    shared.steps.send(&steps).await?;
    counter!("admin_imported_messages_total").increment(steps.len() as u64);
    Ok(Json(Stored { stored: steps.last().map_or(0, |step| step.seq) }))
}

async fn end(
    State(shared): State<Arc<Shared>>,
    Extension(peer): Extension<Peer>,
    Path(chat): Path<String>,
    asked: Result<Json<End>, JsonRejection>,
) -> Result<Json<Stored>, Refusal> {
    let Json(End { import, seq, opener, members }) = asked?;
    let (chat, import, sender) = (chat_id(&shared, &chat)?, import_id(&import)?, user_id(&opener)?);
    let members = checked(members)?;
    let ending = async {
        if shared.store.load_chat(chat).await?.is_some_and(|chat| chat.is_importing()) {
            nobody_is_gone(&shared, &members).await?;
        }
        let step = Import { chat, import, sender, seq, step: Step::End { members } };
        shared.steps.send(&[step]).await?;
        Ok(Stored { stored: seq })
    };
    acted(&shared.audit, peer, Action::on_chat("chat.import_end", chat), ending).await.map(Json)
}

/// Members in the order that an entry has them in.
fn checked(members: Vec<wire::Member>) -> Result<Vec<Member>, Refusal> {
    if members.len() > MEMBERS_MAX {
        return Err(Refusal::Bad(format!("more than {MEMBERS_MAX} members")));
    }
    let mut checked = BTreeSet::new();
    for wire::Member { user, role } in members {
        checked.insert(Member { user: user_id(&user)?, role: role.into() });
    }
    Ok(checked.into_iter().collect())
}

/// Who is deleted comes into no chat.
async fn nobody_is_gone(shared: &Shared, members: &[Member]) -> Result<(), Refusal> {
    for Member { user, .. } in members {
        let state = shared.store.user(*user).await?.map(|row| row.state);
        if matches!(state, Some(UserState::Leaving | UserState::Deleted)) {
            return Err(Refusal::Conflict(format!("user {user} is erased: name it as `former`")));
        }
    }
    Ok(())
}

fn import_id(text: &str) -> Result<ImportId, Refusal> {
    text.parse().map_err(|_fault| Refusal::Bad("`import` is no UUID".to_owned()))
}

fn user_id(text: &str) -> Result<UserId, Refusal> {
    text.parse().map_err(|_fault| Refusal::Bad(format!("{text:?} is no id of a user: a UUID")))
}

/// Of a chat whose partition there is: no other one has a place in the log.
fn chat_id(shared: &Shared, text: &str) -> Result<ChatId, Refusal> {
    let chat = chats::id(text)?;
    let is_ours = chat.is_well_formed() && chat.partition().0 < shared.partitions;
    is_ours.then_some(chat).ok_or_else(|| Refusal::NotFound(format!("there is no chat {chat}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_import_is_the_same_chat_and_each_partition_gets_some() {
        let import = |n: u64| {
            let mut bytes = [7; 16];
            bytes[8..].copy_from_slice(&n.to_be_bytes());
            ImportId::new(bytes)
        };
        for partitions in [1, 2, 8, 4_096] {
            let chats: Vec<_> = (0..u64::from(partitions)).map(|n| chat_of(import(n), 1_000_000, partitions)).collect();
            let places: BTreeSet<_> = chats.iter().map(|chat| chat.partition().0).collect();
            assert_eq!(places.len(), usize::from(partitions));
            assert!(chats.iter().all(|chat| chat.is_well_formed()));
            assert_eq!(chats[0], chat_of(import(0), 1_000_999, partitions), "of the same millisecond");
        }
        assert_ne!(chat_of(import(0), 1_000_000, 1), chat_of(import(0), 2_000_000, 1));
    }
}
