//! `refresh_families`: user ▸ family, with the generation that bounds them; `refresh_family_users`: family, whose it is.
//!
//! A family is found by its name alone, so what names its user is written first and lives at least as long.

use std::time::Duration;

use bytes::{Buf as _, BufMut as _};
use domain::UserId;

use super::super::{
    Cql, TRIES_MAX,
    cluster::Values,
    kept_for,
    numbers::{array, big, number, user as user_of},
    statements::Statement,
};
use crate::{Error, REFRESH_FAMILIES_MAX, RefreshFamily, SPENT_MAX, Spent};

const TABLE: &str = "refresh_families";
type Row = (i64, Box<str>, Vec<u8>, Vec<u8>, i64, i64);

/// Spent tokens, one after the other: hash, time.
fn encode(spent: &[Spent]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(spent.len() * 40);
    for spent in spent {
        bytes.put_slice(&spent.hash);
        bytes.put_u64(spent.at_us);
    }
    bytes
}

fn decode(mut bytes: &[u8]) -> Result<Vec<Spent>, Error> {
    if !bytes.len().is_multiple_of(40) || bytes.len() > SPENT_MAX * 40 {
        return Err(Error::corrupt(TABLE, format!("its spent tokens have {} bytes", bytes.len())));
    }
    let mut spent = Vec::with_capacity(bytes.len() / 40);
    while bytes.has_remaining() {
        let mut hash = [0; 32];
        bytes.copy_to_slice(&mut hash);
        spent.push(Spent { hash, at_us: bytes.get_u64() });
    }
    Ok(spent)
}

fn row_of(family: [u8; 16], user: UserId, row: Row) -> Result<RefreshFamily, Error> {
    let (version, device, live, spent, created_us, expires_us) = row;
    Ok(RefreshFamily {
        family,
        user,
        device,
        live: array(TABLE, &live)?,
        spent: decode(&spent)?,
        created_us: number(created_us),
        expires_us: number(expires_us),
        version: number(version),
    })
}

/// From each use on a family lives as long as from its sign-in to its end, at most.
fn kept(row: &RefreshFamily) -> i32 {
    kept_for(Duration::from_micros(row.expires_us.saturating_sub(row.created_us)))
}

impl Cql {
    pub(crate) async fn refresh_family(&self, family: [u8; 16]) -> Result<Option<RefreshFamily>, Error> {
        let Some(user) = self.user_of_family(Statement::FamilyUser, family).await? else { return Ok(None) };
        self.family(Statement::Family, family, user).await
    }

    async fn user_of_family(&self, look: Statement, family: [u8; 16]) -> Result<Option<UserId>, Error> {
        let row = self.shared.cluster.row::<(Vec<u8>,)>(look, (family,)).await?;
        row.map(|(user,)| user_of("refresh_family_users", &user)).transpose()
    }

    async fn family(&self, look: Statement, family: [u8; 16], user: UserId) -> Result<Option<RefreshFamily>, Error> {
        let row = self.shared.cluster.row::<Row>(look, (*user.as_bytes(), family)).await?;
        row.map(|row| row_of(family, user, row)).transpose()
    }

    pub(crate) async fn put_refresh_family(&self, row: RefreshFamily, expected: u64) -> Result<bool, Error> {
        row.check()?;
        let Some(version) = expected.checked_add(1) else { return Ok(false) };
        let (cluster, user) = (&self.shared.cluster, *row.user.as_bytes());
        // Whose sign-in it was does not change, and another one's family is nobody's to write.
        let named = self.user_of_family(Statement::FamilyUser, row.family).await?;
        if expected > 0 {
            if named != Some(row.user) {
                return Ok(false);
            }
            // Before the row, so that it is found for as long as it lives.
            cluster.write(Statement::KeepFamily, (row.family, user, kept(&row))).await?;
            let _turn = self.shared.turns.take(TABLE, &user).await;
            let values = (
                kept(&row),
                big(version),
                &*row.device,
                row.live,
                encode(&row.spent),
                big(row.created_us),
                big(row.expires_us),
                user,
                row.family,
                big(expected),
            );
            return cluster.write_if(Statement::ChangeFamily, values).await;
        }
        let claim = (row.family, user, kept(&row));
        let first = self.claim(Statement::ClaimFamily, claim, Statement::FamilyUserSerial, (row.family,)).await?;
        if first.is_some_and(|first| first != user) {
            return Ok(false);
        }
        self.add_family(row).await
    }

    async fn add_family(&self, row: RefreshFamily) -> Result<bool, Error> {
        let (cluster, user) = (&self.shared.cluster, *row.user.as_bytes());
        let _turn = self.shared.turns.take(TABLE, &user).await;
        for _ in 0..TRIES_MAX {
            // Generation and families as of one moment: a row of static columns alone has no family.
            let rows: Vec<(Option<i64>, Option<Vec<u8>>)> =
                cluster.rows(Statement::FamilyNames, (user,), usize::MAX).await?;
            let generation = rows.first().and_then(|(generation, _)| *generation);
            let names: Vec<_> = rows.iter().filter_map(|(_, family)| family.as_ref()).collect();
            if names.iter().any(|name| name[..] == row.family) {
                return Ok(false);
            }
            if names.len() >= REFRESH_FAMILIES_MAX {
                return Err(Error::Full { what: "refresh families", max: REFRESH_FAMILIES_MAX });
            }
            let values = (
                1_i64,
                row.device.to_string(),
                row.live,
                encode(&row.spent),
                big(row.created_us),
                big(row.expires_us),
                user,
                row.family,
                kept(&row),
            );
            let raise = (generation.unwrap_or_default() + 1, user, generation);
            let parts: Vec<(Statement, Values)> =
                vec![(Statement::AddFamily, Box::new(values)), (Statement::RaiseFamilies, Box::new(raise))];
            if cluster.write_together_if(parts).await? {
                return Ok(true);
            }
        }
        Err(Error::Contended { table: TABLE })
    }

    pub(crate) async fn remove_refresh_family(&self, family: [u8; 16]) -> Result<Option<RefreshFamily>, Error> {
        let Some(user) = self.user_of_family(Statement::FamilyUser, family).await? else { return Ok(None) };
        let _turn = self.shared.turns.take(TABLE, user.as_bytes()).await;
        for _ in 0..TRIES_MAX {
            let Some(stored) = self.family(Statement::FamilySerial, family, user).await? else { return Ok(None) };
            let values = (*user.as_bytes(), family, big(stored.version));
            if self.shared.cluster.write_if(Statement::RemoveFamily, values).await? {
                return Ok(Some(stored));
            }
        }
        Err(Error::Contended { table: TABLE })
    }

    pub(crate) async fn refresh_families_of(&self, user: UserId) -> Result<Vec<RefreshFamily>, Error> {
        type Named = (
            Option<Vec<u8>>,
            Option<i64>,
            Option<Box<str>>,
            Option<Vec<u8>>,
            Option<Vec<u8>>,
            Option<i64>,
            Option<i64>,
        );
        let key = (*user.as_bytes(),);
        // Not cut to the bound: who ends all of them must get all of them.
        let rows = self.shared.cluster.rows::<Named>(Statement::Families, key, usize::MAX).await?;
        let mut families = Vec::with_capacity(rows.len());
        for (family, version, device, live, spent, created_us, expires_us) in rows {
            // The generation alone.
            let Some(family) = family else { continue };
            let row = (|| Some((version?, device?, live?, spent?, created_us?, expires_us?)))();
            let row = row.ok_or_else(|| Error::corrupt(TABLE, "a family lacks a column"))?;
            families.push(row_of(array(TABLE, &family)?, user, row)?);
        }
        Ok(families)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spent_tokens_come_back_and_damage_is_an_error() {
        let spent: Vec<_> = (0..3).map(|at_us| Spent { hash: [9; 32], at_us }).collect();
        let bytes = encode(&spent);
        assert_eq!(decode(&bytes).unwrap(), spent);
        assert!(decode(&bytes[..bytes.len() - 1]).is_err());
        assert!(decode(&[0; 40 * (SPENT_MAX + 1)]).is_err());
    }
}
