//! Sign-ins: how one begins, goes on and ends.

use std::time::Duration;

use audit::{Action, Event, Outcome};
use axum::extract::State as Extract;
use axum::http::StatusCode;
use domain::{UserId, crash_point};
use metrics::counter;
use serde::{Deserialize, Serialize};
use store::{REFRESH_FAMILIES_MAX, RefreshFamily, UserState};
use utoipa::ToSchema;
use uuid::Uuid;

use super::endings::{EndError, end_sign_ins};
use super::{Tokens, User, active, device, devices, handle, tokens};
use crate::caller::Caller;
use crate::edge::{Origin, audited};
use crate::problem::{Kind, Problem};
use crate::refresh::{self, RefreshToken, Use, sign_in_of};
use crate::refusals::{OfCaller, OfRefresh, OfSignIn};
use crate::state::{Shared, State, now_us};
use crate::wire::Json;

/// How often room is made for a sign-in that others take at once.
pub(super) const ROOM_TRIES: u32 = 8;
/// How often a row is written that others write at the same time.
const ROW_TRIES: u32 = 8;

/// Who signs in.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SignIn {
    #[schema(example = "alice")]
    handle: String,
    #[schema(example = "correct horse battery staple")]
    password: String,
    /// Names the device; drawn once by the client and kept.
    #[schema(example = "laptop", pattern = "^[ -~]{1,128}$")]
    device: String,
}

/// A device that is signed in.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SignedIn {
    pub(super) user: User,
    #[serde(flatten)]
    pub(super) tokens: Tokens,
}

/// A refresh token to be used.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Refresh {
    refresh_token: String,
}

/// Signs a device in.
#[utoipa::path(
    post, path = "/v1/sign-ins", tag = "accounts", request_body = SignIn,
    responses(
        (status = 201, description = "signed in", body = SignedIn),
        OfSignIn
    )
)]
pub(crate) async fn sign_in(
    Extract(shared): State,
    origin: Origin,
    Json(asked): Json<SignIn>,
) -> Result<(StatusCode, axum::Json<SignedIn>), Problem> {
    let (mut named, device) = (None, audited(&asked.device));
    let done = checked(&shared, &origin, asked, &mut named).await;
    if let Some(event) = origin.tried(Action::SignIn, &done) {
        let user = done.as_ref().ok().map(|signed_in| signed_in.user.id.clone());
        // What leads to no account may be a password in the wrong field, and so may a device that nobody came in on.
        let device = device.filter(|_| done.is_ok());
        shared.audit.record(&Event { user, handle: named, device, ..event });
    }
    done.map(|signed_in| (StatusCode::CREATED, axum::Json(signed_in)))
}

/// Signs in whoever knows the password; says in `named` which handle led to an account, whatever comes of it.
async fn checked(
    shared: &Shared,
    origin: &Origin,
    asked: SignIn,
    named: &mut Option<String>,
) -> Result<SignedIn, Problem> {
    let device = device(&asked.device)?;
    shared.allowances.password(origin)?;
    let guess = shared.allowances.guess(origin, &asked.handle)?;
    let user = match handle(&asked.handle) {
        Ok(handle) => {
            let user = shared.store.user_of_handle(&handle).await?;
            *named = user.is_some().then_some(handle);
            user
        }
        // A handle that nobody can have is one that nobody has.
        Err(_) => None,
    };
    let row = match user {
        Some(user) => {
            let row = shared.store.user(user).await?;
            row.filter(|row| !matches!(row.state, UserState::Leaving | UserState::Deleted))
        }
        None => None,
    };
    let hashed = row.as_ref().map(|row| &*row.password);
    let is_right = shared.passwords.verify(asked.password, hashed).await?;
    let Some(row) = row.filter(|_| is_right) else {
        guess.wrong();
        counter!("api_sign_ins_refused_total").increment(1);
        return Err(Kind::WrongPassword.into());
    };
    guess.right();
    // Only who knows the password hears of it.
    if row.state == UserState::Banned {
        counter!("api_sign_ins_refused_total").increment(1);
        return Err(Kind::Banned.into());
    }
    let (family, tokens) = begin(shared, row.user, device).await?;
    // The password may have been changed, or its user banned, while this one waited to be checked. Either writes the row
    // before it ends the sign-ins, so it found this one or it is seen here.
    let now = shared.store.user(row.user).await?;
    let refused = match &now {
        Some(now) if now.state == UserState::Banned => Some(Kind::Banned),
        Some(now) if now.state == UserState::Active && now.password == row.password => None,
        Some(_) | None => Some(Kind::WrongPassword),
    };
    if let Some(refused) = refused {
        end(shared, &family).await?;
        return Err(refused.into());
    }
    Ok(SignedIn { user: row.into(), tokens })
}

/// A new sign-in and its first tokens.
pub(super) async fn begin(shared: &Shared, user: UserId, device: &str) -> Result<(RefreshFamily, Tokens), Problem> {
    let (family, refresh) = refresh::begin(&shared.config, user, device, now_us());
    // Before the family stands: who ends the sign-in from then on ends this token too.
    let tokens = tokens(shared, user, device, &refresh)?;
    put_family(shared, &family).await?;
    // Behind the family: whoever signs in is listed, or never hears of it.
    devices::see(shared, user, device).await?;
    Ok((family, tokens))
}

/// Stores a new sign-in, in the place of the oldest ones where a user has as many as may be.
async fn put_family(shared: &Shared, family: &RefreshFamily) -> Result<(), Problem> {
    for _ in 0..ROOM_TRIES {
        make_room(shared, family.user).await?;
        match shared.store.put_refresh_family(family.clone(), 0).await {
            // Others were faster.
            Err(store::Error::Full { .. }) => {}
            put => return put.map(|_is_new| ()).map_err(Problem::from),
        }
    }
    Err(Kind::Busy.into())
}

/// Ends the oldest sign-ins of a user who has as many as may be, and those whose end was broken off.
async fn make_room(shared: &Shared, user: UserId) -> Result<(), Problem> {
    let families = shared.store.refresh_families_of(user).await?;
    let row = shared.store.user(user).await?;
    let has_ended = |family: &RefreshFamily| row.as_ref().is_some_and(|row| row.has_signed_out(family.created_us));
    let (ended, mut families): (Vec<_>, Vec<_>) = families.into_iter().partition(has_ended);
    for family in ended {
        end(shared, &family).await?;
    }
    families.sort_by_key(|family| family.expires_us);
    let excess = (families.len() + 1).saturating_sub(REFRESH_FAMILIES_MAX);
    for family in families.into_iter().take(excess) {
        end(shared, &family).await?;
    }
    Ok(())
}

/// Uses a refresh token: another pair, and the one before is spent.
#[utoipa::path(
    post, path = "/v1/sign-ins/refresh", tag = "accounts", request_body = Refresh,
    responses(
        (status = 200, description = "the next pair", body = Tokens),
        OfRefresh
    )
)]
pub(crate) async fn refresh(
    Extract(shared): State,
    origin: Origin,
    Json(asked): Json<Refresh>,
) -> Result<axum::Json<Tokens>, Problem> {
    shared.allowances.refresh(&origin)?;
    let token = RefreshToken::parse(&asked.refresh_token).ok_or(Kind::RefreshRefused)?;
    loop {
        let family = shared.store.refresh_family(token.family).await?.ok_or(Kind::RefreshRefused)?;
        let version = family.version;
        match refresh::use_token(&shared.config, family.clone(), &token, now_us()) {
            Use::Next(next, refresh) => {
                let row = active(&shared, next.user).await?;
                // Also one whose end was broken off behind the row.
                if row.is_none_or(|row| row.has_signed_out(family.created_us)) {
                    end(&shared, &family).await?;
                    return Err(Kind::RefreshRefused.into());
                }
                // First: where it fails, the token is not spent.
                devices::see(&shared, next.user, &next.device).await?;
                // Before the family stands: whoever ends the sign-in from then on ends this token too.
                let tokens = tokens(&shared, next.user, &next.device, &refresh)?;
                if shared.store.put_refresh_family(next, version).await? {
                    return Ok(axum::Json(tokens));
                }
                // Somebody was faster: what it is now decides.
            }
            Use::Expired => {
                shared.store.remove_refresh_family(token.family).await?;
                return Err(Kind::RefreshRefused.into());
            }
            Use::Stolen => {
                counter!("api_refresh_tokens_reused_total").increment(1);
                tracing::info!(user.id = %family.user, "a spent refresh token was used: its sign-in ends");
                shared.audit.record(&Event {
                    user: Some(family.user.to_string()),
                    device: audited(&family.device),
                    ..origin.event(Action::RefreshReuse, Outcome::Refused)
                });
                end(&shared, &family).await?;
                return Err(Kind::RefreshRefused.into());
            }
        }
    }
}

/// Signs out the device that asks.
#[utoipa::path(
    delete, path = "/v1/sign-ins/current", tag = "accounts", security(("bearer" = [])),
    responses(
        (status = 204, description = "signed out; its sockets are closed"),
        OfCaller
    )
)]
pub(crate) async fn sign_out(Extract(shared): State, caller: Caller, origin: Origin) -> Result<StatusCode, Problem> {
    let done = end_own(&shared, &caller).await;
    if let Some(event) = origin.tried(Action::SignOut, &done) {
        shared.audit.record(&Event { device: audited(&caller.grant.device), ..caller.did(event) });
    }
    done.map(|()| StatusCode::NO_CONTENT)
}

/// Ends the sign-in of the token that the request came with.
async fn end_own(shared: &Shared, caller: &Caller) -> Result<(), Problem> {
    let sign_in = &*caller.grant.sign_in;
    if sign_in.is_empty() {
        // A token that was made by hand: there is no sign-in to end, and all of them is not what was asked.
        return Err(Problem::bad("the token comes from no sign-in"));
    }
    for family in shared.store.refresh_families_of(caller.user).await? {
        if sign_in_of(family.family) == sign_in {
            end(shared, &family).await?;
        }
    }
    revoke(shared, caller.user, sign_in).await
}

/// Signs out everywhere.
#[utoipa::path(
    delete, path = "/v1/sign-ins", tag = "accounts", security(("bearer" = [])),
    responses(
        (status = 204, description = "signed out everywhere; all sockets are closed"),
        OfCaller
    )
)]
pub(crate) async fn sign_out_everywhere(
    Extract(shared): State,
    caller: Caller,
    origin: Origin,
) -> Result<StatusCode, Problem> {
    let done = end_all(&shared, caller.user).await;
    if let Some(event) = origin.tried(Action::SignOutEverywhere, &done) {
        shared.audit.record(&caller.did(event));
    }
    done.map(|()| StatusCode::NO_CONTENT)
}

/// Ends all sign-ins of a user: in the row first, so that none goes on wherever this is broken off.
async fn end_all(shared: &Shared, user: UserId) -> Result<(), Problem> {
    mark_signed_out(shared, user).await?;
    crash_point("accounts.row_written");
    end_sign_ins(&shared.store, &shared.log, user, "").await?;
    Ok(())
}

async fn mark_signed_out(shared: &Shared, user: UserId) -> Result<(), Problem> {
    for _ in 0..ROW_TRIES {
        // A user of another identity system has no row here; that of an account that has ended says so already.
        let Some(mut row) = active(shared, user).await? else { return Ok(()) };
        let version = row.version;
        row.sign_out(now_us());
        if shared.store.put_user(row, version).await? {
            return Ok(());
        }
    }
    Err(Kind::Busy.into())
}

/// Ends a sign-in: those of its tokens that are about are worthless, and there are no further ones.
///
/// In this order, as everywhere here: one that was broken off is carried out whole when it is tried again.
async fn end(shared: &Shared, family: &RefreshFamily) -> Result<(), Problem> {
    revoke(shared, family.user, &sign_in_of(family.family)).await?;
    shared.store.remove_refresh_family(family.family).await?;
    Ok(())
}

/// Tells every gateway and API that tokens of this sign-in are worthless.
async fn revoke(shared: &Shared, user: UserId, sign_in: &str) -> Result<(), Problem> {
    let id = Uuid::new_v4().to_string();
    // Only tokens of ours name a sign-in, and those are short.
    let longest = Duration::from_secs(shared.config.access_token_s);
    let told = tokens::revoke(&shared.log, user, ("", sign_in), longest, &id).await;
    told.map_err(|error| EndError::from(error).into())
}
