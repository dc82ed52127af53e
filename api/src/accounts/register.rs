//! A new account.

use audit::{Action, Event};
use axum::extract::State as Extract;
use axum::http::StatusCode;
use domain::UserId;
use serde::Deserialize;
use store::{UserRow, UserState};
use utoipa::ToSchema;
use uuid::Uuid;

use super::sign_ins::{SignedIn, begin};
use super::{device, display_name, handle, password};
use crate::edge::{Origin, audited};
use crate::problem::{Kind, Problem};
use crate::refusals::OfRegistration;
use crate::state::{Shared, State, now_us};
use crate::wire::{Json, present};

/// A new account.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Register {
    /// 3 to 32 of a–z, 0–9, `_`, `.` and `-`; upper case is taken as lower.
    #[schema(example = "alice", pattern = "^[A-Za-z0-9_.-]{3,32}$")]
    handle: String,
    /// 8 to 256 characters.
    #[schema(example = "correct horse battery staple", min_length = 8, max_length = 256)]
    password: String,
    /// What others see; the handle if there is none.
    #[serde(default, deserialize_with = "present")]
    #[schema(nullable = false, pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]{0,64}$")]
    display_name: Option<String>,
    /// Names the device that is signed in; drawn once by the client and kept.
    #[schema(example = "laptop", pattern = "^[ -~]{1,128}$")]
    device: String,
}

/// Makes an account and signs its first device in.
#[utoipa::path(
    post, path = "/v1/accounts", tag = "accounts", request_body = Register,
    responses(
        (status = 201, description = "the account", body = SignedIn),
        OfRegistration
    )
)]
pub(crate) async fn register(
    Extract(shared): State,
    origin: Origin,
    Json(asked): Json<Register>,
) -> Result<(StatusCode, axum::Json<SignedIn>), Problem> {
    let (handle, device) = (audited(&asked.handle), audited(&asked.device));
    let done = made(&shared, &origin, asked).await;
    if let Some(event) = origin.tried(Action::Register, &done) {
        let user = done.as_ref().ok().map(|signed_in| signed_in.user.id.clone());
        // What became no account may be a password in the wrong field.
        let (handle, device) = if done.is_ok() { (handle, device) } else { (None, None) };
        shared.audit.record(&Event { user, handle, device, ..event });
    }
    done.map(|signed_in| (StatusCode::CREATED, axum::Json(signed_in)))
}

/// Makes the account and signs in.
async fn made(shared: &Shared, origin: &Origin, asked: Register) -> Result<SignedIn, Problem> {
    let handle = handle(&asked.handle)?;
    let display_name = display_name(asked.display_name.as_deref().unwrap_or(&handle))?.to_owned();
    password(&asked.password)?;
    let device = device(&asked.device)?.to_owned();
    shared.allowances.password(origin)?;
    // A look first: a name that is gone costs no hash.
    if shared.store.user_of_handle(&handle).await?.is_some() {
        return Err(Kind::HandleTaken.into());
    }
    let password = shared.passwords.hash(asked.password).await?;
    let user = UserId::new(Uuid::now_v7().into_bytes());
    let row = UserRow {
        user,
        handle: handle.as_str().into(),
        display_name: display_name.into(),
        avatar: "".into(),
        password: password.into(),
        created_us: now_us(),
        state: UserState::Active,
        signed_out_us: 0,
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
    let (_family, tokens) = begin(shared, user, &device).await?;
    metrics::counter!("api_accounts_made_total").increment(1);
    Ok(SignedIn { user: row.into(), tokens })
}
