//! What a user says of itself, and how others find it.

use audit::Action;
use axum::extract::State as Extract;
use axum::http::StatusCode;
use domain::{UserId, crash_point};
use serde::{Deserialize, Serialize};
use store::UserRow;
use utoipa::{IntoParams, ToSchema};

use super::endings::end_sign_ins;
use super::{User, active, avatar, display_name, password};
use crate::caller::Caller;
use crate::edge::Origin;
use crate::problem::{Kind, Problem};
use crate::refusals::{OfCaller, OfChange, OfThing};
use crate::state::{Shared, State, now_us};
use crate::wire::{Asked, At, Json, present};

/// Users of one page of a search.
const FOUND_MAX: usize = 20;

/// What is changed; what is left out stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Change {
    /// What others see.
    #[serde(default, deserialize_with = "present")]
    #[schema(nullable = false, pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]{0,64}$")]
    display_name: Option<String>,
    /// Where the picture is: an https address of at most 1,024 bytes without a user in it; empty: there is none.
    #[serde(default, deserialize_with = "present")]
    #[schema(nullable = false, format = "uri-reference", max_length = 1024)]
    avatar: Option<String>,
}

/// A password to be changed.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChangePassword {
    /// The one of now.
    current: String,
    /// 8 to 256 characters.
    #[schema(min_length = 8, max_length = 256)]
    new: String,
}

/// What is looked for.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct Search {
    /// How the handle begins.
    #[param(min_length = 1, max_length = 32)]
    prefix: String,
}

/// Users that were found, by handle.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Found {
    users: Vec<User>,
}

/// The caller's own account.
#[utoipa::path(
    get, path = "/v1/me", tag = "accounts", security(("bearer" = [])),
    responses(
        (status = 200, body = User),
        OfThing
    )
)]
pub(crate) async fn me(Extract(shared): State, caller: Caller) -> Result<axum::Json<User>, Problem> {
    let row = active(&shared, caller.user).await?.ok_or(Kind::NotFound)?;
    Ok(axum::Json(row.into()))
}

/// Changes the caller's account.
#[utoipa::path(
    patch, path = "/v1/me", tag = "accounts", security(("bearer" = [])), request_body = Change,
    responses(
        (status = 200, body = User),
        OfChange
    )
)]
pub(crate) async fn change(
    Extract(shared): State,
    caller: Caller,
    Json(asked): Json<Change>,
) -> Result<axum::Json<User>, Problem> {
    let mut row = active(&shared, caller.user).await?.ok_or(Kind::NotFound)?;
    if let Some(name) = &asked.display_name {
        row.display_name = display_name(name)?.into();
    }
    if let Some(address) = &asked.avatar {
        row.avatar = avatar(address)?.into();
    }
    let version = row.version;
    if !shared.store.put_user(row.clone(), version).await? {
        return Err(Kind::Changed.into());
    }
    Ok(axum::Json(row.into()))
}

/// Changes the caller's password and signs out everywhere.
#[utoipa::path(
    put, path = "/v1/me/password", tag = "accounts", security(("bearer" = [])), request_body = ChangePassword,
    responses(
        (status = 204, description = "changed; every device signs in again"),
        OfChange
    )
)]
pub(crate) async fn change_password(
    Extract(shared): State,
    caller: Caller,
    origin: Origin,
    Json(asked): Json<ChangePassword>,
) -> Result<StatusCode, Problem> {
    let done = changed(&shared, &caller, &origin, asked).await;
    if let Some(event) = origin.tried(Action::PasswordChange, &done) {
        shared.audit.record(&caller.did(event));
    }
    done.map(|()| StatusCode::NO_CONTENT)
}

/// Puts the new password in the place of the one that is given.
async fn changed(shared: &Shared, caller: &Caller, origin: &Origin, asked: ChangePassword) -> Result<(), Problem> {
    password(&asked.new)?;
    let mut row = active(shared, caller.user).await?.ok_or(Kind::NotFound)?;
    if !knows(shared, origin, &row, asked.current).await? {
        // A token that should be gone by now comes with the repetition of a change that was broken off.
        let is_repeated = row.has_signed_out(caller.grant.issued_s.saturating_mul(1_000_000));
        if !is_repeated || !knows(shared, origin, &row, asked.new).await? {
            return Err(Kind::WrongPassword.into());
        }
    } else {
        row.password = shared.passwords.hash(asked.new).await?.into();
        row.sign_out(now_us());
        let version = row.version;
        if !shared.store.put_user(row, version).await? {
            return Err(Kind::Changed.into());
        }
        crash_point("accounts.row_written");
    }
    end_sign_ins(&shared.store, &shared.log, caller.user, "").await?;
    Ok(())
}

/// Whether this is the user's password; each look counts for the address, and each wrong one as a guess.
///
/// Who has a token of somebody must not find the password with it, nor keep others from signing in.
pub(super) async fn knows(shared: &Shared, origin: &Origin, row: &UserRow, password: String) -> Result<bool, Problem> {
    shared.allowances.password(origin)?;
    let guess = shared.allowances.guess(origin, &row.handle)?;
    let is_right = shared.passwords.verify(password, Some(&row.password)).await?;
    if is_right {
        guess.right();
    } else {
        guess.wrong();
    }
    Ok(is_right)
}

/// A user.
#[utoipa::path(
    get, path = "/v1/users/{user}", tag = "accounts", security(("bearer" = [])),
    params(("user" = String, Path, description = "the user's id")),
    responses(
        (status = 200, body = User),
        OfThing
    )
)]
pub(crate) async fn user(
    Extract(shared): State,
    _caller: Caller,
    At(user): At<String>,
) -> Result<axum::Json<User>, Problem> {
    let user: UserId = user.parse().map_err(|_fault| Kind::NotFound)?;
    let row = active(&shared, user).await?.ok_or(Kind::NotFound)?;
    Ok(axum::Json(row.into()))
}

/// Users whose handle begins so, at most 20, by handle.
#[utoipa::path(
    get, path = "/v1/users", tag = "accounts", security(("bearer" = [])), params(Search),
    responses(
        (status = 200, body = Found),
        OfCaller
    )
)]
pub(crate) async fn users(
    Extract(shared): State,
    _caller: Caller,
    Asked(asked): Asked<Search>,
) -> Result<axum::Json<Found>, Problem> {
    let prefix = asked.prefix.to_ascii_lowercase();
    if !(1..=32).contains(&prefix.chars().count()) {
        return Err(Problem::bad("`prefix` has 1 to 32 characters"));
    }
    let mut users = Vec::new();
    for (_, user) in shared.store.handles(&prefix, None, FOUND_MAX).await? {
        users.extend(active(&shared, user).await?.map(User::from));
    }
    Ok(axum::Json(Found { users }))
}
