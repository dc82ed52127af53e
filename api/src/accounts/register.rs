//! A new account.

use axum::extract::State as Extract;
use axum::http::StatusCode;
use domain::UserId;
use serde::{Deserialize, Serialize};
use store::{UserRow, UserState};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{Tokens, User, device, display_name, handle, password, tokens};
use crate::problem::{Kind, Problem};
use crate::refresh;
use crate::refusals::OfRegistration;
use crate::state::{State, now_us};
use crate::wire::Json;

/// A new account.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Register {
    /// 3 to 32 of a–z, 0–9, `_`, `.` and `-`; upper case is taken as lower.
    #[schema(example = "alice")]
    handle: String,
    /// 8 to 256 characters.
    #[schema(example = "correct horse battery staple")]
    password: String,
    /// What others see; the handle if there is none.
    display_name: Option<String>,
    /// Names the device that is signed in; drawn once by the client and kept.
    #[schema(example = "laptop")]
    device: String,
}

/// An account and what signs its first device in.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Registered {
    user: User,
    #[serde(flatten)]
    tokens: Tokens,
}

/// Makes an account and signs its first device in.
#[utoipa::path(
    post, path = "/v1/accounts", tag = "accounts", request_body = Register,
    responses(
        (status = 201, description = "the account", body = Registered),
        OfRegistration
    )
)]
pub(crate) async fn register(
    Extract(shared): State,
    Json(asked): Json<Register>,
) -> Result<(StatusCode, axum::Json<Registered>), Problem> {
    let handle = handle(&asked.handle)?;
    let display_name = display_name(asked.display_name.as_deref().unwrap_or(&handle))?.to_owned();
    password(&asked.password)?;
    let device = device(&asked.device)?.to_owned();
    // A look first: a name that is gone costs no hash.
    if shared.store.user_of_handle(&handle).await?.is_some() {
        return Err(Kind::HandleTaken.into());
    }
    let password = shared.passwords.hash(asked.password).await?;
    let (user, now_us) = (UserId::new(Uuid::now_v7().into_bytes()), now_us());
    let row = UserRow {
        user,
        handle: handle.as_str().into(),
        display_name: display_name.into(),
        avatar: "".into(),
        password: password.into(),
        created_us: now_us,
        state: UserState::Active,
        version: 0,
    };
    // The account first, then its name: one that nobody can name is nobody's, and a name never leads to no account.
    if !shared.store.put_user(row.clone(), 0).await? {
        return Err(Kind::Internal.into());
    }
    if shared.store.claim_handle(&handle, user).await? != user {
        let nobody = UserRow { handle: "".into(), password: "".into(), state: UserState::Deleted, ..row };
        shared.store.put_user(nobody, 1).await?;
        return Err(Kind::HandleTaken.into());
    }
    let (family, refresh) = refresh::begin(&shared.config, user, &device, now_us);
    let tokens = tokens(&shared, user, &device, &refresh)?;
    shared.store.put_refresh_family(family, 0).await?;
    metrics::counter!("api_accounts_made_total").increment(1);
    Ok((StatusCode::CREATED, axum::Json(Registered { user: row.into(), tokens })))
}
