//! Devices: where a user has signed in, and how one is put out.

use audit::{Action, Event};
use axum::extract::State as Extract;
use axum::http::StatusCode;
use domain::UserId;
use serde::{Deserialize, Serialize};
use store::DeviceRow;
use utoipa::ToSchema;

use super::endings::end_sign_ins;
use super::sign_ins::ROOM_TRIES;
use crate::caller::Caller;
use crate::edge::{Origin, audited};
use crate::problem::{Kind, Problem};
use crate::refusals::{OfCaller, OfThing};
use crate::state::{Shared, State, now_us};
use crate::wire::{self, At, Json};

/// Characters of a device's name.
const NAME_CHARS: std::ops::RangeInclusive<usize> = 1..=64;

/// A device that the caller signed in on.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Device {
    /// As it names itself when it signs in.
    id: String,
    /// As its user calls it; at first its id.
    name: String,
    /// When it first signed in, RFC 3339.
    created_at: String,
    /// When it last signed in or used a refresh token, RFC 3339.
    seen_at: String,
    /// Whether the request comes from it.
    current: bool,
}

/// The caller's devices.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Devices {
    devices: Vec<Device>,
}

/// What is changed.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Naming {
    /// 1 to 64 characters, none a control.
    #[schema(
        pattern = "^[^\\s\\u0000-\\u001f\\u007f-\\u009f]([^\\u0000-\\u001f\\u007f-\\u009f]{0,62}[^\\s\\u0000-\\u001f\\u007f-\\u009f])?$"
    )]
    name: String,
}

impl Device {
    fn of(row: DeviceRow, caller: &Caller) -> Self {
        Self {
            current: row.device == caller.grant.device,
            id: row.device.into(),
            name: row.name.into(),
            created_at: wire::time(row.created_us),
            seen_at: wire::time(row.seen_us),
        }
    }
}

/// The caller's devices, at most 128, by id.
#[utoipa::path(
    get, path = "/v1/devices", tag = "accounts", security(("bearer" = [])),
    responses(
        (status = 200, body = Devices),
        OfCaller
    )
)]
pub(crate) async fn list(Extract(shared): State, caller: Caller) -> Result<axum::Json<Devices>, Problem> {
    let rows = shared.store.devices_of(caller.user).await?;
    Ok(axum::Json(Devices { devices: rows.into_iter().map(|row| Device::of(row, &caller)).collect() }))
}

/// Gives one of the caller's devices a name.
#[utoipa::path(
    patch, path = "/v1/devices/{device}", tag = "accounts", security(("bearer" = [])), request_body = Naming,
    params(("device" = String, Path, description = "the device's id")),
    responses(
        (status = 200, body = Device),
        OfThing
    )
)]
pub(crate) async fn name(
    Extract(shared): State,
    caller: Caller,
    At(device): At<String>,
    Json(asked): Json<Naming>,
) -> Result<axum::Json<Device>, Problem> {
    let name = asked.name.trim();
    if !NAME_CHARS.contains(&name.chars().count()) || name.chars().any(char::is_control) {
        return Err(Problem::bad("a device's name has 1 to 64 characters, none a control"));
    }
    let device = super::device(&device).map_err(|_no_id| Kind::NotFound)?;
    if !shared.store.name_device(caller.user, device, name).await? {
        return Err(Kind::NotFound.into());
    }
    let rows = shared.store.devices_of(caller.user).await?;
    let row = rows.into_iter().find(|row| *row.device == *device).ok_or(Kind::NotFound)?;
    Ok(axum::Json(Device::of(row, &caller)))
}

/// Puts one of the caller's devices out: its sign-ins end, its sockets are closed.
#[utoipa::path(
    delete, path = "/v1/devices/{device}", tag = "accounts", security(("bearer" = [])),
    params(("device" = String, Path, description = "the device's id")),
    responses(
        (status = 204, description = "gone; its sockets are closed"),
        OfThing
    )
)]
pub(crate) async fn remove(
    Extract(shared): State,
    caller: Caller,
    origin: Origin,
    At(device): At<String>,
) -> Result<StatusCode, Problem> {
    let done = removed(&shared, &caller, &device).await;
    if let Some(event) = origin.tried(Action::DeviceRemove, &done) {
        shared.audit.record(&Event { device: audited(&device), ..caller.did(event) });
    }
    done.map(|()| StatusCode::NO_CONTENT)
}

async fn removed(shared: &Shared, caller: &Caller, device: &str) -> Result<(), Problem> {
    let device = super::device(device).map_err(|_no_id| Kind::NotFound)?;
    let is_listed = shared.store.devices_of(caller.user).await?.iter().any(|row| *row.device == *device);
    let families = shared.store.refresh_families_of(caller.user).await?;
    if !is_listed && !families.iter().any(|family| *family.device == *device) {
        return Err(Kind::NotFound.into());
    }
    end_device(shared, caller.user, device).await
}

/// Lists the device, or when it was seen; the one that was longest not seen goes where there are too many.
pub(super) async fn see(shared: &Shared, user: UserId, device: &str) -> Result<(), Problem> {
    for _ in 0..ROOM_TRIES {
        match shared.store.see_device(user, device, now_us()).await {
            Err(store::Error::Full { .. }) => {}
            seen => return seen.map_err(Problem::from),
        }
        let rows = shared.store.devices_of(user).await?;
        if let Some(row) = rows.into_iter().min_by_key(|row| row.seen_us) {
            metrics::counter!("api_devices_displaced_total").increment(1);
            end_device(shared, user, &row.device).await?;
        }
    }
    Err(Kind::Busy.into())
}

/// Ends the device's sign-ins and takes it off the list; tokens for it that come from no sign-in are revoked too.
///
/// Broken off, it is still listed, and goes on when it is asked again. A sign-in that crosses it and was listed already
/// ends with it: hence the second look.
async fn end_device(shared: &Shared, user: UserId, device: &str) -> Result<(), Problem> {
    end_sign_ins(&shared.store, &shared.log, user, device).await?;
    shared.store.remove_device(user, device).await?;
    end_sign_ins(&shared.store, &shared.log, user, device).await?;
    Ok(())
}
