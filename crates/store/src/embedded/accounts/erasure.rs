//! Takes out what is one user's alone, in steps.
//!
//! A user may have any number of blocks and settings, and one commit only does so much while appends wait behind it: what
//! is left is done by the next ones.

use domain::UserId;

use super::super::{batch::Batch, tables::Table};
use crate::Error;

impl Batch<'_> {
    /// One step; whether nothing is left.
    pub(super) fn erase(&mut self, user: UserId) -> Result<bool, Error> {
        let prefix = user.as_bytes();
        for table in [Table::Devices, Table::Blocks, Table::ChatSettings] {
            let rows = self.rows(table, prefix, |key| key.starts_with(prefix), self.removals_left)?;
            for key in rows.keys() {
                self.remove(table, key);
            }
            self.removed(rows.len());
        }
        let families: Vec<_> = self.family_index(user, self.removals_left)?.collect::<Result<_, _>>()?;
        for family in &families {
            self.take_family_out(user, *family)?;
        }
        self.removed(families.len());
        let claims = self.rows(Table::SendClaims, prefix, |key| key.starts_with(prefix), self.removals_left)?;
        for (key, value) in &claims {
            self.take_send_claim_out(key, value)?;
        }
        self.removed(claims.len());
        Ok(self.remove_invites_by(user)? && self.removals_left > 0)
    }

    fn removed(&mut self, rows: usize) {
        self.removals_left -= rows;
        self.sync |= rows > 0;
    }
}
