//! What an operator wants of a partition's owner: nobody, a certain worker, or whoever has the smallest share.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::routing::post;
use axum::{Extension, Json, Router};
use domain::Partition;
use event_log::{Order, Role};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

use super::Shared;
use super::acted::{Action, acted};
use super::refusal::Refusal;
use super::serve::Peer;

/// Those whose partitions have owners.
pub(crate) const ROLES: [Role; 3] = [Role::Ingest, Role::Delivery, Role::Projections];
/// Longer than an owner that lives and does not let go may keep a partition.
const FOLLOWED_WITHIN: Duration = Duration::from_secs(15);
const LOOK_EVERY: Duration = Duration::from_millis(100);

pub(super) fn routes() -> Router<Arc<Shared>> {
    Router::new()
        .route("/partitions/{partition}/{role}/pause", post(pause))
        .route("/partitions/{partition}/{role}/move", post(move_to))
        .route("/partitions/{partition}/{role}/resume", post(resume))
}

/// What is wanted, and who has the partition.
#[derive(Debug, Serialize)]
pub(super) struct Ordered {
    partition: u16,
    role: &'static str,
    /// Null: as the workers share it.
    order: Option<Order>,
    /// Null: nobody.
    owner: Option<String>,
    /// Whether it is as it is wanted; false: not yet.
    followed: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Destination {
    to: String,
}

async fn pause(
    State(shared): State<Arc<Shared>>,
    Extension(peer): Extension<Peer>,
    Path(whose): Path<(u16, String)>,
) -> Result<Json<Ordered>, Refusal> {
    order(&shared, peer, "partition.pause", whose, Some(Order::Pause)).await
}

async fn move_to(
    State(shared): State<Arc<Shared>>,
    Extension(peer): Extension<Peer>,
    Path(whose): Path<(u16, String)>,
    asked: Result<Json<Destination>, JsonRejection>,
) -> Result<Json<Ordered>, Refusal> {
    let Json(Destination { to }) = asked?;
    order(&shared, peer, "partition.move", whose, Some(Order::Move { to })).await
}

async fn resume(
    State(shared): State<Arc<Shared>>,
    Extension(peer): Extension<Peer>,
    Path(whose): Path<(u16, String)>,
) -> Result<Json<Ordered>, Refusal> {
    order(&shared, peer, "partition.resume", whose, None).await
}

async fn order(
    shared: &Shared,
    peer: Peer,
    name: &'static str,
    (partition, role): (u16, String),
    order: Option<Order>,
) -> Result<Json<Ordered>, Refusal> {
    let (role, partition) = whose(shared, partition, &role)?;
    acted(&shared.audit, peer, Action::on_partition(name, role, partition), async {
        if let Some(Order::Move { to }) = &order
            && !shared.log.knows_worker(role, to).await?
        {
            return Err(Refusal::Conflict(format!("no worker “{to}” takes part in {}", role.name())));
        }
        shared.log.order(role, partition, order.as_ref()).await?;
        followed(shared, role, partition, order).await.map(Json)
    })
    .await
}

fn whose(shared: &Shared, partition: u16, role: &str) -> Result<(Role, Partition), Refusal> {
    let Some(role) = ROLES.into_iter().find(|known| known.name() == role) else {
        return Err(Refusal::NotFound(format!("{role} owns no partitions; ingest, delivery and projections do")));
    };
    Ok((role, shared.partition(partition)?))
}

/// Waits until it is as it is wanted, but not for ever: who has to let go may be gone without a word.
async fn followed(shared: &Shared, role: Role, partition: Partition, order: Option<Order>) -> Result<Ordered, Refusal> {
    let deadline = Instant::now() + FOLLOWED_WITHIN;
    loop {
        let owner = shared.log.owner(role, partition).await?.map(|owner| owner.worker);
        let followed = match &order {
            Some(Order::Pause) => owner.is_none(),
            Some(Order::Move { to }) => owner.as_ref() == Some(to),
            None => owner.is_some(),
        };
        if followed || Instant::now() >= deadline {
            return Ok(Ordered { partition: partition.0, role: role.name(), order, owner, followed });
        }
        sleep(LOOK_EVERY).await;
    }
}
