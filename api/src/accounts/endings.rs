//! The end of a user's sign-ins, the same for whoever decides it: the user, or an operator.

use domain::{UserId, crash_point};
use event_log::{Log, PublishError};
use store::Store;
use tokens::VALID_MAX;
use uuid::Uuid;

use crate::problem::{Kind, Problem};

/// Why sign-ins may still stand; asked again, their end goes on.
#[derive(Debug, thiserror::Error)]
pub enum EndError {
    /// The store.
    #[error("the store")]
    Store(#[from] store::Error),
    /// The revocation is not in the log, or nobody knows.
    #[error("the revocation")]
    Revocation(#[from] PublishError),
}

impl From<EndError> for Problem {
    fn from(error: EndError) -> Self {
        match error {
            EndError::Store(error) => error.into(),
            EndError::Revocation(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "a revocation is not stored");
                Kind::Unavailable.into()
            }
        }
    }
}

/// Ends a user's sign-ins, of this device or, if that is empty, of all; says how many there were.
///
/// Told twice: at once, so that sockets close, and again once the refresh tokens are gone, for what was drawn with one of
/// them in between.
///
/// # Errors
/// [`EndError`]; whatever was done holds.
pub async fn end_sign_ins(store: &Store, log: &Log, user: UserId, device: &str) -> Result<usize, EndError> {
    revoke_all(log, user, device).await?;
    crash_point("accounts.revoked");
    let mut ended = 0;
    for family in store.refresh_families_of(user).await? {
        if device.is_empty() || *family.device == *device {
            ended += usize::from(store.remove_refresh_family(family.family).await?.is_some());
        }
    }
    if ended > 0 {
        revoke_all(log, user, device).await?;
    }
    Ok(ended)
}

/// Makes what was issued to the user until now worthless, for this device or, if that is empty, for all.
pub(super) async fn revoke_all(log: &Log, user: UserId, device: &str) -> Result<(), EndError> {
    Ok(tokens::revoke(log, user, (device, ""), VALID_MAX, &Uuid::new_v4().to_string()).await?)
}
