//! `revoke`: tells every gateway that tokens of somebody are worthless, over the durable CONTROL stream.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use event_log::{Log, LogConfig};
use prost::Message as _;
use proto::log::{Control, Revocation, control::What};
use uuid::Uuid;

use crate::{broker, folder};

/// Revokes what was issued to the user until now; of it only what is for `device`, unless that is empty.
///
/// # Errors
/// Nothing runs on the folder, or it did not store the revocation in time.
pub async fn run(data: &Path, user: Uuid, device: String) -> Result<()> {
    let servers = vec![broker::url_of(&folder::broker(data))?];
    let log =
        Log::connect(LogConfig { servers, ..LogConfig::default() }).await.context("`heliograph up` does not run")?;
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let revocation = Revocation {
        user: user.into_bytes().to_vec().into(),
        issued_through_s: now_s,
        device,
        sign_in: String::new(),
        forget_after_s: now_s + gateway::VALID_MAX.as_secs(),
    };
    let record = Control { schema: 1, what: Some(What::Revocation(revocation)) }.encode_to_vec();
    log.publish_control(record.into(), &Uuid::new_v4().to_string()).await.context("the revocation is not stored")?;
    Ok(())
}
