//! The port's operations on accounts.
//!
//! Every write is on disk before it is answered, since nothing could replay it; several that wait may share one sync.
//! Texts and lists beyond their bounds are [`Error::Length`]. After [`Error::Stalled`] whether a write landed is open:
//! one that compares is asked again after a look at the row.

use domain::{Micros, UserId};

use super::Store;
use crate::{Error, RefreshFamily, SendClaim, UserRow};

#[expect(clippy::unused_async, reason = "engines over a network wait in every operation, and callers must not care")]
impl Store {
    /// A user's row.
    pub async fn user(&self, user: UserId) -> Result<Option<UserRow>, Error> {
        match self {
            Self::Embedded(engine) => engine.user(user),
        }
    }

    /// Writes a user's row if the stored version is `expected` (0: there is none), and says whether it did.
    ///
    /// The row is stored with version `expected` + 1, whatever version it names.
    pub async fn put_user(&self, row: UserRow, expected: u64) -> Result<bool, Error> {
        match self {
            Self::Embedded(engine) => engine.put_user(row, expected).await,
        }
    }

    /// Who has the handle now: `user`, or whoever claimed it first. Handles are compared by bytes.
    pub async fn claim_handle(&self, handle: &str, user: UserId) -> Result<UserId, Error> {
        match self {
            Self::Embedded(engine) => engine.claim_handle(handle, user).await,
        }
    }

    /// Gives a handle up, if it is this user's, and says whether it was.
    pub async fn release_handle(&self, handle: &str, user: UserId) -> Result<bool, Error> {
        match self {
            Self::Embedded(engine) => engine.release_handle(handle, user).await,
        }
    }

    /// Whose handle this is.
    pub async fn user_of_handle(&self, handle: &str) -> Result<Option<UserId>, Error> {
        match self {
            Self::Embedded(engine) => engine.user_of_handle(handle),
        }
    }

    /// A page of the handles that begin with `prefix`, which is not empty, in the order of their bytes.
    ///
    /// Ask on with the last one as `after`; fewer than `limit` are the last ones. At most [`crate::LIST_ROWS_MAX`].
    pub async fn handles(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(Box<str>, UserId)>, Error> {
        match self {
            Self::Embedded(engine) => engine.handles(prefix, after, limit).await,
        }
    }

    /// A refresh family; whether it has expired is the caller's to see.
    pub async fn refresh_family(&self, family: [u8; 16]) -> Result<Option<RefreshFamily>, Error> {
        match self {
            Self::Embedded(engine) => engine.refresh_family(family),
        }
    }

    /// Writes a refresh family if the stored version is `expected` (0: there is none), and says whether it did.
    ///
    /// Stored with version `expected` + 1. A family never changes its user: such a write is not done. A new one beyond
    /// [`crate::REFRESH_FAMILIES_MAX`] of its user is [`Error::Full`].
    pub async fn put_refresh_family(&self, row: RefreshFamily, expected: u64) -> Result<bool, Error> {
        match self {
            Self::Embedded(engine) => engine.put_refresh_family(row, expected).await,
        }
    }

    /// Ends a refresh family, and says what it was; none if it had ended.
    pub async fn remove_refresh_family(&self, family: [u8; 16]) -> Result<Option<RefreshFamily>, Error> {
        match self {
            Self::Embedded(engine) => engine.remove_refresh_family(family).await,
        }
    }

    /// All refresh families of a user, expired ones included, by their names.
    pub async fn refresh_families_of(&self, user: UserId) -> Result<Vec<RefreshFamily>, Error> {
        match self {
            Self::Embedded(engine) => engine.refresh_families_of(user).await,
        }
    }

    /// What stands under this user and key now: `claim`, or the one that was first.
    ///
    /// One that is older than [`crate::SEND_CLAIM_KEPT_US`] by the new one's time counts as none and is replaced.
    pub async fn claim_send(&self, claim: SendClaim) -> Result<SendClaim, Error> {
        match self {
            Self::Embedded(engine) => engine.claim_send(claim).await,
        }
    }

    /// Sweeps at most `limit` claims from before `before_us`, and says how many; at most some thousand a call.
    ///
    /// Only frees room, so it alone is not on disk when it is answered. An engine whose rows go by themselves sweeps none.
    pub async fn forget_send_claims(&self, before_us: Micros, limit: usize) -> Result<usize, Error> {
        match self {
            Self::Embedded(engine) => engine.forget_send_claims(before_us, limit).await,
        }
    }
}
