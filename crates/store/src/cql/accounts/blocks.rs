//! `blocks`: user ▸ whom the user blocks. Not conditional: of two writes the later one by the writer's clock counts.

use domain::UserId;

use super::super::{Cql, numbers::user as user_of, statements::Statement};
use crate::{Error, LIST_ROWS_MAX};

impl Cql {
    pub(crate) async fn set_block(&self, user: UserId, other: UserId, is_blocked: bool) -> Result<(), Error> {
        let (cluster, at_us) = (&self.shared.cluster, self.shared.now());
        let (user, other) = (*user.as_bytes(), *other.as_bytes());
        // One timestamp for all tries: one that arrives late does not undo what was written after it.
        if is_blocked {
            cluster.write(Statement::Block, (user, other, at_us, at_us)).await
        } else {
            cluster.write(Statement::Unblock, (at_us, user, other)).await
        }
    }

    pub(crate) async fn is_blocked(&self, user: UserId, other: UserId) -> Result<bool, Error> {
        let key = (*user.as_bytes(), *other.as_bytes());
        Ok(self.shared.cluster.row::<(Vec<u8>,)>(Statement::IsBlocked, key).await?.is_some())
    }

    pub(crate) async fn blocks_of(
        &self,
        user: UserId,
        after: Option<UserId>,
        limit: usize,
    ) -> Result<Vec<UserId>, Error> {
        let limit = limit.clamp(1, LIST_ROWS_MAX);
        let (cluster, id) = (&self.shared.cluster, *user.as_bytes());
        let rows: Vec<(Vec<u8>,)> = match after {
            Some(after) => cluster.rows(Statement::BlocksAfter, (id, *after.as_bytes()), limit).await?,
            None => cluster.rows(Statement::Blocks, (id,), limit).await?,
        };
        rows.iter().map(|(other,)| user_of("blocks", other)).collect()
    }
}
