//! The keys that sign tokens: which there are, and a new one.

use std::sync::Arc;
use std::time::Duration;

use api::rfc3339;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use tokens::{KEYS_MAX, KeyState, KnownKey, PUBLISHED_AHEAD, VALID_MAX};

use super::Shared;
use super::acted::{Action, acted};
use super::refusal::Refusal;
use super::serve::Peer;
use crate::key_file::Rotated;

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
