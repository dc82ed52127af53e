//! Read models: whether they are what the chats' logs say, and how they are written anew.
//!
//! A partition is gone through chat by chat, in pages of so many as some seconds allow: whoever asks goes on from where the
//! last page ended.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use domain::{ChatId, Epoch, Partition};
use event_log::Role;
use projections::rebuild::{self, Began};
use projections::verify::{self, Difference, MODELS, Verdict};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::Shared;
use super::acted::{Action, acted};
use super::refusal::Refusal;
use super::serve::Peer;

/// How long one page goes on: well below what an answer may take.
const PAGE_LASTS: Duration = Duration::from_secs(5);

pub(super) fn routes() -> Router<Arc<Shared>> {
    Router::new()
        .route("/projections/{partition}/verify", get(verify_page))
        .route("/projections/{partition}/rebuild", post(rebuild_page))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    /// The last chat of the page before.
    after: Option<String>,
    /// One of [`MODELS`]; none: all of them.
    model: Option<String>,
}

/// A chat whose models are not what its log says.
#[derive(Debug, Serialize)]
struct Wrong {
    chat: String,
    model: &'static str,
    stored: String,
    folded: String,
}

/// What a page of chats comes to.
#[derive(Debug, Serialize)]
struct Verified {
    equal: u64,
    /// Chats that never stood still for long enough.
    changing: Vec<String>,
    /// The first one that differs; the page ends with it.
    differs: Option<Wrong>,
    /// The next page's `after`; none: that was the last.
    next: Option<String>,
}

async fn verify_page(
    State(shared): State<Arc<Shared>>,
    Path(partition): Path<u16>,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Result<Json<Verified>, Refusal> {
    let Query(Asked { after, model }) = asked?;
    if let Some(model) = &model
        && !MODELS.contains(&&**model)
    {
        return Err(Refusal::NotFound(format!("no model {model}; there are {}", MODELS.join(", "))));
    }
    let (chats, ends) = (chats(&shared, partition, after.as_deref()).await?, Instant::now() + PAGE_LASTS);
    let mut page = Verified { equal: 0, changing: Vec::new(), differs: None, next: None };
    for (place, chat) in chats.iter().enumerate() {
        match verify::verify(&shared.store, *chat, model.as_deref()).await? {
            Verdict::Equal => page.equal += 1,
            Verdict::Changing => page.changing.push(chat.to_string()),
            Verdict::Differs(Difference { model, stored, folded }) => {
                page.differs = Some(Wrong { chat: chat.to_string(), model, stored, folded });
            }
        }
        let is_last = place + 1 == chats.len();
        if !is_last && (page.differs.is_some() || Instant::now() >= ends) {
            page.next = Some(chat.to_string());
            break;
        }
    }
    Ok(Json(page))
}

/// How far a rebuild is, as its client says.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Progress {
    after: String,
    epoch: u64,
    events: u64,
}

/// What a page of chats came to.
#[derive(Debug, Serialize)]
struct Rebuilt {
    chats: u64,
    /// Where it began: the streams' epoch and what was appended then. Null: the partition is empty.
    epoch: Option<u64>,
    events: Option<u64>,
    /// The next page's `after`; none: projections go on from `events` now, if they were not there yet.
    next: Option<String>,
}

async fn rebuild_page(
    State(shared): State<Arc<Shared>>,
    Extension(peer): Extension<Peer>,
    Path(partition): Path<u16>,
    asked: Result<Json<Option<Progress>>, JsonRejection>,
) -> Result<Json<Rebuilt>, Refusal> {
    let Json(progress) = asked?;
    if let Some(Progress { after, epoch, events }) = progress {
        let began = Began { epoch: Epoch(epoch), events };
        return rebuild_from(&shared, partition, Some(&after), began).await.map(Json);
    }
    // One action, however many pages it takes.
    let action = Action::on_partition("projections.rebuild", Role::Projections, Partition(partition));
    acted(&shared.audit, peer, action, async {
        match rebuild::begin(&shared.store, shared.partition(partition)?).await? {
            Some(began) => rebuild_from(&shared, partition, None, began).await.map(Json),
            None => Ok(Json(Rebuilt { chats: 0, epoch: None, events: None, next: None })),
        }
    })
    .await
}

async fn rebuild_from(shared: &Shared, partition: u16, after: Option<&str>, began: Began) -> Result<Rebuilt, Refusal> {
    let (chats, ends) = (chats(shared, partition, after).await?, Instant::now() + PAGE_LASTS);
    let (epoch, events) = (Some(began.epoch.0), Some(began.events));
    for (done, chat) in (1..).zip(&chats) {
        rebuild::chat(&shared.store, began, *chat).await?;
        if done < chats.len() as u64 && Instant::now() >= ends {
            return Ok(Rebuilt { chats: done, epoch, events, next: Some(chat.to_string()) });
        }
    }
    rebuild::end(&shared.store, Partition(partition), began).await?;
    Ok(Rebuilt { chats: chats.len() as u64, epoch, events, next: None })
}

/// The partition's chats by id, behind one.
async fn chats(shared: &Shared, partition: u16, after: Option<&str>) -> Result<Vec<ChatId>, Refusal> {
    let partition = shared.partition(partition)?;
    let after: Option<ChatId> = match after {
        Some(after) => Some(after.parse().map_err(|_fault| Refusal::Bad("`after` is no chat".to_owned()))?),
        None => None,
    };
    let mut chats = shared.store.logged_chats(partition).await?;
    chats.retain(|chat| after.is_none_or(|after| *chat > after));
    chats.sort_unstable();
    Ok(chats)
}
