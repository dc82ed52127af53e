//! Users, as operators see and change them.
//!
//! What ends an account is written in the order in which it holds when it is broken off, and asked again it goes on: the
//! row first, so that no sign-in begins any more, then tokens and sign-ins.

use std::sync::Arc;

use api::{end_sign_ins, now_us, rfc3339};
use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Extension, Path, Query, State};
use domain::{UserId, crash_point};
use serde::{Deserialize, Serialize};
use store::{Store, UserRow, UserState};

use super::Shared;
use super::acted::{Action, acted};
use super::devices::{Device, SignIn};
use super::refusal::Refusal;
use super::serve::Peer;

/// Users of one page.
const PAGE: usize = 256;
/// What a handle may begin with, in the order of bytes: the store lists handles by their beginning only.
const FIRST_CHARS: &str = "-.0123456789_abcdefghijklmnopqrstuvwxyz";
/// A user's id as text is longer than any handle.
const ID_CHARS: usize = 36;
/// How often a row that others write at the same time is written.
const TRIES: u32 = 8;

/// A user.
#[derive(Debug, Serialize)]
pub(super) struct User {
    id: String,
    handle: String,
    display_name: String,
    state: &'static str,
    created_at: String,
}

impl From<&UserRow> for User {
    fn from(row: &UserRow) -> Self {
        Self {
            id: row.user.to_string(),
            handle: row.handle.to_string(),
            display_name: row.display_name.to_string(),
            state: match row.state {
                UserState::Active => "active",
                UserState::Banned => "banned",
                UserState::Leaving => "leaving",
                UserState::Deleted => "erased",
            },
            created_at: rfc3339(row.created_us),
        }
    }
}

/// A page of users, by handle.
#[derive(Debug, Serialize)]
pub(super) struct Users {
    users: Vec<User>,
    next: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    #[serde(default)]
    prefix: String,
    after: Option<String>,
}

pub(super) async fn list(
    State(shared): State<Arc<Shared>>,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Result<Json<Users>, Refusal> {
    let Query(Asked { prefix, after }) = asked?;
    let (handles, next) = handles(&shared.store, &prefix.to_ascii_lowercase(), after.as_deref(), PAGE).await?;
    let mut users = Vec::with_capacity(handles.len());
    for (_, user) in handles {
        users.extend(shared.store.user(user).await?.as_ref().map(User::from));
    }
    Ok(Json(Users { users, next }))
}

/// A page of the handles that begin so, and the last one if more may follow.
async fn handles(
    store: &Store,
    prefix: &str,
    after: Option<&str>,
    limit: usize,
) -> Result<(Vec<(Box<str>, UserId)>, Option<String>), Refusal> {
    let beginnings: Vec<String> =
        if prefix.is_empty() { FIRST_CHARS.chars().map(String::from).collect() } else { vec![prefix.to_owned()] };
    let mut handles = Vec::new();
    for beginning in beginnings {
        // Those that lie before the page's beginning as a whole.
        if after.is_some_and(|after| *after > *beginning && !after.starts_with(&beginning)) {
            continue;
        }
        handles.extend(store.handles(&beginning, after, limit - handles.len()).await?);
        if handles.len() == limit {
            break;
        }
    }
    let next = handles.last().filter(|_| handles.len() == limit).map(|(handle, _)| handle.to_string());
    Ok((handles, next))
}

/// The row of whoever has this handle or id.
pub(super) async fn find(shared: &Shared, who: &str) -> Result<UserRow, Refusal> {
    let nobody = || Refusal::NotFound(format!("there is no user {who:?}"));
    let user = match who.parse().ok().filter(|_| who.len() == ID_CHARS) {
        Some(user) => Some(user),
        None => shared.store.user_of_handle(&who.to_ascii_lowercase()).await?,
    };
    shared.store.user(user.ok_or_else(nobody)?).await?.ok_or_else(nobody)
}

/// A user with devices and sign-ins.
#[derive(Debug, Serialize)]
pub(super) struct Whole {
    #[serde(flatten)]
    user: User,
    devices: Vec<Device>,
    sign_ins: Vec<SignIn>,
}

pub(super) async fn show(State(shared): State<Arc<Shared>>, Path(who): Path<String>) -> Result<Json<Whole>, Refusal> {
    let row = find(&shared, &who).await?;
    let devices = shared.store.devices_of(row.user).await?.iter().map(Device::from).collect();
    let sign_ins = shared.store.refresh_families_of(row.user).await?.iter().map(SignIn::from).collect();
    Ok(Json(Whole { user: User::from(&row), devices, sign_ins }))
}

/// What an action made of a user.
#[derive(Debug, Serialize)]
pub(super) struct Changed {
    #[serde(flatten)]
    user: User,
    /// Whether it was otherwise before.
    changed: bool,
}

pub(super) async fn ban(
    State(shared): State<Arc<Shared>>,
    Extension(peer): Extension<Peer>,
    Path(who): Path<String>,
) -> Result<Json<Changed>, Refusal> {
    let user = find(&shared, &who).await?.user;
    let banning = async {
        let (row, changed) = write(&shared, user, |row| match row.state {
            UserState::Active => {
                row.state = UserState::Banned;
                // No sign-in of before comes back with the account, wherever this is broken off.
                row.sign_out(now_us());
                Ok(true)
            }
            UserState::Banned => Ok(false),
            UserState::Leaving => Err(Refusal::Conflict(LEAVES.to_owned())),
            UserState::Deleted => Err(Refusal::Conflict("the user is erased: there is nobody to ban".to_owned())),
        })
        .await?;
        crash_point("admin.row_written");
        end_sign_ins(&shared.store, &shared.log, user, "").await?;
        Ok(Changed { user: User::from(&row), changed })
    };
    acted(&shared.audit, peer, Action::on_user("user.ban", user), banning).await.map(Json)
}

pub(super) async fn unban(
    State(shared): State<Arc<Shared>>,
    Extension(peer): Extension<Peer>,
    Path(who): Path<String>,
) -> Result<Json<Changed>, Refusal> {
    let user = find(&shared, &who).await?.user;
    let unbanning = async {
        let (row, changed) = write(&shared, user, |row| match row.state {
            UserState::Banned => {
                row.state = UserState::Active;
                Ok(true)
            }
            UserState::Active => Ok(false),
            UserState::Leaving => Err(Refusal::Conflict(LEAVES.to_owned())),
            UserState::Deleted => Err(Refusal::Conflict("the user is erased, which is for ever".to_owned())),
        })
        .await?;
        Ok(Changed { user: User::from(&row), changed })
    };
    acted(&shared.audit, peer, Action::on_user("user.unban", user), unbanning).await.map(Json)
}

pub(super) async fn erase(
    State(shared): State<Arc<Shared>>,
    Extension(peer): Extension<Peer>,
    Path(who): Path<String>,
) -> Result<Json<Changed>, Refusal> {
    let user = find(&shared, &who).await?.user;
    let erasing = erase_account(&shared, user);
    acted(&shared.audit, peer, Action::on_user("user.erase", user), erasing).await.map(Json)
}

/// Of a user whose deletion is being carried out, whoever wanted it.
const LEAVES: &str = "the user is being erased, which is for ever";

/// Marks the account to be deleted and signs it out everywhere; the API carries out the rest, as of any deletion.
async fn erase_account(shared: &Shared, user: UserId) -> Result<Changed, Refusal> {
    let (row, changed) = write(shared, user, |row| match row.state {
        UserState::Active | UserState::Banned => {
            row.leave(now_us());
            Ok(true)
        }
        UserState::Leaving | UserState::Deleted => Ok(false),
    })
    .await?;
    crash_point("admin.row_written");
    end_sign_ins(&shared.store, &shared.log, user, "").await?;
    Ok(Changed { user: User::from(&row), changed })
}

/// Writes a user's row as `change` makes it, and says whether it had to.
async fn write(
    shared: &Shared,
    user: UserId,
    change: impl Fn(&mut UserRow) -> Result<bool, Refusal>,
) -> Result<(UserRow, bool), Refusal> {
    for _ in 0..TRIES {
        let gone = || Refusal::NotFound(format!("there is no user {user}"));
        let mut row = shared.store.user(user).await?.ok_or_else(gone)?;
        if !change(&mut row)? {
            return Ok((row, false));
        }
        let version = row.version;
        if shared.store.put_user(row.clone(), version).await? {
            return Ok((row, true));
        }
    }
    Err(Refusal::Conflict("others change the user at the same time: ask again".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn pages_of_handles_cover_all_once_whatever_they_begin_with() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(store::Config::in_folder(folder.path())).await.unwrap();
        let all = ["-x", ".x", "0zero", "9", "_u", "a", "alice", "alice.b", "b", "bob", "zoe"];
        for (n, handle) in (1..).zip(all) {
            store.claim_handle(handle, UserId::new([n; 16])).await.unwrap();
        }
        for (prefix, limit) in [("", 1), ("", 2), ("", 3), ("", 100), ("al", 1), ("zz", 1)] {
            let (mut walked, mut after) = (Vec::new(), None);
            loop {
                let (page, next) = handles(&store, prefix, after.as_deref(), limit).await.unwrap();
                assert!(page.len() <= limit && walked.len() <= all.len(), "it goes on for ever");
                walked.extend(page.into_iter().map(|(handle, _)| handle));
                after = next;
                if after.is_none() {
                    break;
                }
            }
            let expected: Vec<_> = all.into_iter().filter(|handle| handle.starts_with(prefix)).collect();
            assert_eq!(walked.iter().map(|handle| &**handle).collect::<Vec<_>>(), expected, "{prefix:?} {limit}");
        }
    }
}
