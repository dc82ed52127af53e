//! Takes out what is one user's alone, table by table; asked again, it goes on.

use domain::UserId;
use scylla::response::PagingState;

use super::super::{Cql, statements::Statement};
use crate::Error;

/// A removal is ordered by its coordinator's clock, and may be behind a write that another one ordered just before: it is
/// made again until nothing is left.
const REMOVALS_MAX: usize = 8;

impl Cql {
    pub(crate) async fn erase_user(&self, user: UserId) -> Result<(), Error> {
        let id = (*user.as_bytes(),);
        let cluster = &self.shared.cluster;
        cluster.write(Statement::EraseBlocks, (self.shared.now(), id.0)).await?;
        for _ in 0..REMOVALS_MAX {
            cluster.write(Statement::EraseDevices, id).await?;
            cluster.write(Statement::EraseFamilies, id).await?;
            cluster.write(Statement::EraseSettings, id).await?;
            let is_gone = self.devices_of(user).await?.is_empty()
                && self.refresh_families_of(user).await?.is_empty()
                && self.chat_settings_of(user, None, 1).await?.is_empty();
            if is_gone {
                self.erase_claims(user).await?;
                return self.remove_invites_by(user).await;
            }
        }
        Err(Error::Contended { table: "devices, refresh_families or chat_settings" })
    }

    async fn erase_claims(&self, user: UserId) -> Result<(), Error> {
        let (cluster, id) = (&self.shared.cluster, *user.as_bytes());
        let mut at = PagingState::start();
        loop {
            let (names, next) = cluster.page::<(Box<str>,)>(Statement::ClaimNames, &(id,), at).await?;
            for (name,) in names {
                cluster.write_if(Statement::RemoveClaim, (id, &*name)).await?;
                // After the claim, which is found by it.
                cluster.write(Statement::RemoveClaimName, (id, &*name)).await?;
            }
            match next {
                Some(next) => at = next,
                None => return Ok(()),
            }
        }
    }
}
