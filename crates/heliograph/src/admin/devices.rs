//! Devices and sign-ins of a user. Nothing here says a token, a hash or the name of a family.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::{end_sign_ins, rfc3339};
use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Extension, Path, State};
use serde::{Deserialize, Serialize};
use store::{DeviceRow, RefreshFamily};

use super::Shared;
use super::acted::{Action, acted};
use super::refusal::Refusal;
use super::serve::Peer;
use super::users::find;

/// A device that a user has named.
#[derive(Debug, Serialize)]
pub(super) struct Device {
    device: String,
    name: String,
    created_at: String,
    seen_at: String,
}

impl From<&DeviceRow> for Device {
    fn from(row: &DeviceRow) -> Self {
        Self {
            device: row.device.to_string(),
            name: row.name.to_string(),
            created_at: rfc3339(row.created_us),
            seen_at: rfc3339(row.seen_us),
        }
    }
}

/// A sign-in that goes on.
#[derive(Debug, Serialize)]
pub(super) struct SignIn {
    device: String,
    created_at: String,
    expires_at: String,
}

impl From<&RefreshFamily> for SignIn {
    fn from(row: &RefreshFamily) -> Self {
        Self {
            device: row.device.to_string(),
            created_at: rfc3339(row.created_us),
            expires_at: rfc3339(row.expires_us),
        }
    }
}

/// What is known of one device.
#[derive(Debug, Default, Serialize)]
pub(super) struct Known {
    device: String,
    name: Option<String>,
    seen_at: Option<String>,
    sign_ins: usize,
    /// When the last of its sign-ins ends if nobody uses it.
    expires_at: Option<String>,
}

/// All devices of a user, by id.
#[derive(Debug, Serialize)]
pub(super) struct Devices {
    devices: Vec<Known>,
}

pub(super) async fn list(State(shared): State<Arc<Shared>>, Path(who): Path<String>) -> Result<Json<Devices>, Refusal> {
    let user = find(&shared, &who).await?.user;
    let mut known: BTreeMap<Box<str>, Known> = BTreeMap::new();
    for row in shared.store.devices_of(user).await? {
        let device = known.entry(row.device).or_default();
        device.name = Some(row.name.into());
        device.seen_at = Some(rfc3339(row.seen_us));
    }
    let mut sign_ins = shared.store.refresh_families_of(user).await?;
    sign_ins.sort_by_key(|family| family.expires_us);
    for family in sign_ins {
        let device = known.entry(family.device).or_default();
        device.sign_ins += 1;
        device.expires_at = Some(rfc3339(family.expires_us));
    }
    let named = known.into_iter().map(|(device, known)| Known { device: device.into(), ..known });
    Ok(Json(Devices { devices: named.collect() }))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Named {
    device: String,
}

/// What became of a device.
#[derive(Debug, Serialize)]
pub(super) struct Revoked {
    user: String,
    device: String,
    /// Whether anything was known of it; its tokens are revoked all the same.
    known: bool,
    sign_ins_ended: usize,
}

pub(super) async fn revoke(
    State(shared): State<Arc<Shared>>,
    Extension(peer): Extension<Peer>,
    Path(who): Path<String>,
    named: Result<Json<Named>, JsonRejection>,
) -> Result<Json<Revoked>, Refusal> {
    let Json(Named { device }) = named?;
    if device.is_empty() || device.len() > tokens::NAME_BYTES_MAX {
        return Err(Refusal::Bad(format!("a device has 1 to {} bytes", tokens::NAME_BYTES_MAX)));
    }
    let user = find(&shared, &who).await?.user;
    let revoking = async {
        let sign_ins_ended = end_sign_ins(&shared.store, &shared.log, user, &device).await?;
        let was_there = shared.store.remove_device(user, &device).await?;
        let known = was_there || sign_ins_ended > 0;
        Ok(Revoked { user: user.to_string(), device: device.clone(), known, sign_ins_ended })
    };
    acted(&shared.audit, peer, Action::on_device("device.revoke", user, device.clone()), revoking).await.map(Json)
}
