//! `revoke`: tells every gateway that tokens of somebody are worthless, over the durable CONTROL stream.

use std::path::Path;

use anyhow::{Context as _, Result};
use domain::UserId;
use event_log::{Log, LogConfig};
use uuid::Uuid;

use crate::broker::{self, Access};
use crate::folder;

/// Revokes what was issued to the user until now; of it only what is for `device`, unless that is empty.
///
/// # Errors
/// Nothing runs on the folder, or it did not store the revocation in time.
pub async fn run(data: &Path, user: UserId, device: &str) -> Result<()> {
    let Access { url, login } = broker::access_of(&folder::broker(data))?;
    let config = LogConfig { servers: vec![url], login: Some(login), ..LogConfig::default() };
    let log = Log::connect(config).await.context("`heliograph up` does not run")?;
    let id = Uuid::new_v4().to_string();
    tokens::revoke(&log, user, (device, ""), tokens::VALID_MAX, &id).await.context("the revocation is not stored")
}
