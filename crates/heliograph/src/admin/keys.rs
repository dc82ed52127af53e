//! The keys that sign tokens: which there are, a new one, and one that was stolen.

use std::sync::Arc;
use std::time::Duration;

use api::rfc3339;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use tokens::{KEYS_MAX, KeyState, KeyTag, KnownKey, PUBLISHED_AHEAD, VALID_MAX};
use uuid::Uuid;

use super::Shared;
use super::acted::{Action, acted};
use super::refusal::Refusal;
use super::serve::Peer;
use crate::key_file::{Removed, Rotated};

/// A key; what is null is not known.
#[derive(Debug, Serialize)]
pub(super) struct Key {
    kid: Box<str>,
    state: KeyState,
    created_at: Option<String>,
    /// Null: since ever.
    signs_from: Option<String>,
    /// When the last token that it may have signed has ended.
    until: Option<String>,
}

impl From<KnownKey> for Key {
    fn from(key: KnownKey) -> Self {
        let KnownKey { kid, state, created_s, signs_from_s, until_s } = key;
        let time = |seconds: Option<u64>| seconds.map(|seconds| rfc3339(seconds.saturating_mul(1_000_000)));
        Self { kid, state, created_at: time(created_s), signs_from: time(signs_from_s), until: time(until_s) }
    }
}

/// All keys that are not gone: the one that signs first.
#[derive(Debug, Serialize)]
pub(super) struct Keys {
    keys: Vec<Key>,
}

fn keys(known: Vec<KnownKey>) -> Vec<Key> {
    known.into_iter().map(Key::from).collect()
}

pub(super) async fn list(State(shared): State<Arc<Shared>>) -> Json<Keys> {
    Json(Keys { keys: keys(shared.keys.known()) })
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    /// How long the new key is published before it signs.
    #[serde(default = "published_ahead_s")]
    ahead_s: u64,
}

const fn published_ahead_s() -> u64 {
    PUBLISHED_AHEAD.as_secs()
}

/// The keys as they are now.
#[derive(Debug, Serialize)]
pub(super) struct Changed {
    keys: Vec<Key>,
    /// Whether one of them is new; false: one waits already.
    changed: bool,
}

pub(super) async fn rotate(
    State(shared): State<Arc<Shared>>,
    Extension(peer): Extension<Peer>,
    asked: Result<Json<Asked>, JsonRejection>,
) -> Result<Json<Changed>, Refusal> {
    let Json(Asked { ahead_s }) = asked?;
    if ahead_s > VALID_MAX.as_secs() {
        return Err(Refusal::Bad(format!("a key signs at most {} s after it is made", VALID_MAX.as_secs())));
    }
    let rotating = async {
        match shared.keys.rotate(Duration::from_secs(ahead_s)).await {
            Ok(Rotated::Keys(known, changed)) => Ok(Changed { keys: keys(known), changed }),
            Ok(Rotated::Full) => {
                Err(Refusal::Conflict(format!("{KEYS_MAX} keys are in use: `token keys` says when the first one goes")))
            }
            Err(error) => Err(Refusal::Fault(format!("{error:#}"))),
        }
    };
    acted(&shared.audit, peer, Action::alone("token.rotate"), rotating).await.map(Json)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Named {
    kid: String,
}

/// What became of a key that was taken out.
#[derive(Debug, Serialize)]
pub(super) struct Revoked {
    kid: String,
    /// What it was used for; null: it is not here, and its tokens are refused all the same.
    was: Option<KeyState>,
    /// The keys as they are now.
    keys: Vec<Key>,
}

pub(super) async fn revoke(
    State(shared): State<Arc<Shared>>,
    Extension(peer): Extension<Peer>,
    named: Result<Json<Named>, JsonRejection>,
) -> Result<Json<Revoked>, Refusal> {
    let Json(Named { kid }) = named?;
    if KeyTag::of(&kid).is_none() {
        return Err(Refusal::Bad("that is no key's name: `token keys` has them".to_owned()));
    }
    let revoking = async {
        // The file first: the key is out here, whatever becomes of the log, and stays out after a kill.
        let removed = shared.keys.remove(&kid).await;
        let Removed { was, keys: known } = removed.map_err(|error| Refusal::Fault(format!("{error:#}")))?;
        // Sockets that are open, and processes that have a copy of the file.
        tokens::revoke_key(&shared.log, &kid, &Uuid::new_v4().to_string()).await?;
        Ok(Revoked { kid: kid.clone(), was, keys: keys(known) })
    };
    acted(&shared.audit, peer, Action::on_key("token.revoke_key", kid.clone()), revoking).await.map(Json)
}
