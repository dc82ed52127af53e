//! `handles`: (first byte) ▸ handle. Those of one first byte are together, so that a prefix is a range.

use domain::UserId;

use super::super::{Cql, numbers::user as user_of, statements::Statement};
use crate::{Error, LIST_ROWS_MAX, accounts};

const TABLE: &str = "handles";

/// The key of a handle that was checked not to be empty.
fn key(handle: &str) -> (i16, &str) {
    (i16::from(handle.as_bytes().first().copied().unwrap_or_default()), handle)
}

impl Cql {
    pub(crate) async fn claim_handle(&self, handle: &str, user: UserId) -> Result<UserId, Error> {
        if let Some(first) = self.user_of_handle(handle).await? {
            return Ok(first);
        }
        let _turn = self.shared.turns.take(TABLE, handle.as_bytes()).await;
        let (first_byte, handle) = key(handle);
        let values = (first_byte, handle, *user.as_bytes());
        let first = self.claim(Statement::ClaimHandle, values, Statement::HandleSerial, (first_byte, handle)).await?;
        first.map_or(Ok(user), |first| user_of(TABLE, &first))
    }

    pub(crate) async fn release_handle(&self, handle: &str, user: UserId) -> Result<bool, Error> {
        accounts::check_handle(handle)?;
        let _turn = self.shared.turns.take(TABLE, handle.as_bytes()).await;
        let (first_byte, handle) = key(handle);
        self.shared.cluster.write_if(Statement::ReleaseHandle, (first_byte, handle, *user.as_bytes())).await
    }

    pub(crate) async fn user_of_handle(&self, handle: &str) -> Result<Option<UserId>, Error> {
        accounts::check_handle(handle)?;
        let row = self.shared.cluster.row::<(Vec<u8>,)>(Statement::Handle, key(handle)).await?;
        row.map(|(user,)| user_of(TABLE, &user)).transpose()
    }

    pub(crate) async fn handles(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(Box<str>, UserId)>, Error> {
        accounts::check_handle(prefix)?;
        let limit = limit.clamp(1, LIST_ROWS_MAX);
        let cluster = &self.shared.cluster;
        let (first_byte, prefix) = key(prefix);
        let rows: Vec<(Box<str>, Vec<u8>)> = match after {
            Some(after) if after >= prefix => cluster.rows(Statement::HandlesAfter, (first_byte, after), limit).await?,
            Some(_) | None => cluster.rows(Statement::HandlesFrom, (first_byte, prefix), limit).await?,
        };
        let rows = rows.into_iter().take_while(|(handle, _)| handle.starts_with(prefix));
        rows.map(|(handle, user)| Ok((handle, user_of(TABLE, &user)?))).collect()
    }
}
