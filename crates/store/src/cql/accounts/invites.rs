//! `invites`: hash ▸ user, the invite itself static beside its uses; `invites_by_chat`: chat ▸ hash, its places;
//! `invites_by_maker`: user ▸ hash.
//!
//! A place is taken before the invite is made, and given back after it is removed: a crash between leaves a place that
//! nobody uses until it ends by itself. So it is with the maker's row: it goes after an invite that was there, so that one
//! that is made while its maker is erased is found the next time.

use std::time::Duration;

use domain::{ChatId, UserId};

use super::super::{
    Cql, TRIES_MAX,
    cluster::Values,
    kept_for,
    numbers::{array, big, chat as chat_of, number, user as user_of},
    statements::Statement,
};
use crate::{Error, INVITE_KEPT_US, INVITES_MAX, InviteRow, InviteUse, LIST_ROWS_MAX};

const TABLE: &str = "invites";
const PLACES: &str = "invites_by_chat";
const MADE: &str = "invites_by_maker";

/// Chat, inviter, created, expires, most uses, uses, removed.
type Row = (Option<Vec<u8>>, Option<Vec<u8>>, Option<i64>, Option<i64>, Option<i64>, Option<i64>, Option<bool>);

/// An invite and its uses live as long as from its making to its end, from the last use on.
fn kept(row: &InviteRow) -> i32 {
    let life_us = row.expires_us.saturating_sub(row.created_us).saturating_add(INVITE_KEPT_US);
    kept_for(Duration::from_micros(life_us))
}

/// None: there is none, or it was removed, or part of it has ended.
fn invite_of(hash: [u8; 32], row: Row) -> Result<Option<InviteRow>, Error> {
    let (Some(chat), Some(inviter), Some(created_us), Some(expires_us), Some(uses_max), Some(uses), Some(false)) = row
    else {
        return Ok(None);
    };
    let small = |big| u32::try_from(big).map_err(|_range| Error::corrupt(TABLE, format!("it counts {big}")));
    Ok(Some(InviteRow {
        hash,
        chat: chat_of(TABLE, &chat)?,
        inviter: user_of(TABLE, &inviter)?,
        created_us: number(created_us),
        expires_us: number(expires_us),
        uses_max: small(uses_max)?,
        uses: small(uses)?,
    }))
}

impl Cql {
    pub(crate) async fn invite(&self, hash: [u8; 32]) -> Result<Option<InviteRow>, Error> {
        self.look_for_invite(Statement::Invite, hash).await
    }

    async fn look_for_invite(&self, look: Statement, hash: [u8; 32]) -> Result<Option<InviteRow>, Error> {
        let row = self.shared.cluster.row::<Row>(look, (hash,)).await?;
        row.map_or(Ok(None), |row| invite_of(hash, row))
    }

    pub(crate) async fn put_invite(&self, row: InviteRow) -> Result<bool, Error> {
        row.check()?;
        if self.invite(row.hash).await?.is_some() {
            return Ok(false);
        }
        if !self.take_place(&row).await? {
            return Ok(false);
        }
        let made = (*row.inviter.as_bytes(), row.hash, kept(&row));
        self.shared.cluster.write(Statement::PutMade, made).await?;
        let values = (
            kept(&row),
            *row.chat.as_bytes(),
            *row.inviter.as_bytes(),
            big(row.created_us),
            big(row.expires_us),
            i64::from(row.uses_max),
            row.hash,
        );
        let turn = self.shared.turns.take(TABLE, &row.hash).await;
        let is_made = self.shared.cluster.write_if(Statement::AddInvite, values).await?;
        drop(turn);
        if !is_made
            && self.look_for_invite(Statement::InviteSerial, row.hash).await?.is_none_or(|at| at.chat != row.chat)
        {
            self.give_place_back(row.chat, row.hash).await?;
        }
        Ok(is_made)
    }

    /// Whether there was room, and the hash has no place yet.
    async fn take_place(&self, row: &InviteRow) -> Result<bool, Error> {
        let (cluster, chat) = (&self.shared.cluster, *row.chat.as_bytes());
        let _turn = self.shared.turns.take(PLACES, &chat).await;
        for _ in 0..TRIES_MAX {
            let places: Vec<(Option<i64>, Option<Vec<u8>>)> =
                cluster.rows(Statement::Places, (chat,), usize::MAX).await?;
            let hashes: Vec<_> = places.iter().filter_map(|(_, hash)| hash.as_ref()).collect();
            if hashes.iter().any(|hash| hash[..] == row.hash) {
                // One that was broken off: the place is there, and the invite is made now.
                return Ok(true);
            }
            if hashes.len() >= INVITES_MAX {
                return Err(Error::Full { what: "invites", max: INVITES_MAX });
            }
            let generation = places.first().and_then(|(generation, _)| *generation);
            let raise = (generation.unwrap_or_default() + 1, chat, generation);
            let parts: Vec<(Statement, Values)> = vec![
                (Statement::AddPlace, Box::new((chat, row.hash, kept(row)))),
                (Statement::RaisePlaces, Box::new(raise)),
            ];
            if cluster.write_together_if(parts).await? {
                return Ok(true);
            }
        }
        Err(Error::Contended { table: PLACES })
    }

    async fn give_place_back(&self, chat: ChatId, hash: [u8; 32]) -> Result<(), Error> {
        let _turn = self.shared.turns.take(PLACES, chat.as_bytes()).await;
        self.shared.cluster.write_if(Statement::RemovePlace, (*chat.as_bytes(), hash)).await?;
        Ok(())
    }

    pub(crate) async fn invite_use(&self, hash: [u8; 32], user: UserId) -> Result<Option<InviteUse>, Error> {
        self.look_for_use(Statement::Use, hash, user).await
    }

    async fn look_for_use(&self, look: Statement, hash: [u8; 32], user: UserId) -> Result<Option<InviteUse>, Error> {
        type Row = (Option<i64>, Option<i64>, Option<i64>, Option<bool>);
        let row = self.shared.cluster.row::<Row>(look, (hash, *user.as_bytes())).await?;
        let Some((Some(origin), Some(basis), Some(at_us), Some(false))) = row else { return Ok(None) };
        Ok(Some(InviteUse { hash, user, origin: number(origin), basis: number(basis), at_us: number(at_us) }))
    }

    pub(crate) async fn invites_of(&self, chat: ChatId) -> Result<Vec<InviteRow>, Error> {
        let key = (*chat.as_bytes(),);
        let places: Vec<(Option<i64>, Option<Vec<u8>>)> =
            self.shared.cluster.rows(Statement::Places, key, usize::MAX).await?;
        let mut invites = Vec::with_capacity(places.len());
        for (_, hash) in places {
            let Some(hash) = hash else { continue };
            // A place without an invite is one of a making or a removal that is not through.
            invites.extend(self.invite(array(PLACES, &hash)?).await?);
        }
        Ok(invites)
    }

    pub(crate) async fn invites_by(
        &self,
        maker: UserId,
        after: Option<[u8; 32]>,
        limit: usize,
    ) -> Result<Vec<InviteRow>, Error> {
        let (limit, id) = (limit.clamp(1, LIST_ROWS_MAX), *maker.as_bytes());
        let (mut made, mut after) = (Vec::new(), after);
        while made.len() < limit {
            let wanted = limit - made.len();
            let hashes: Vec<(Vec<u8>,)> = match after {
                Some(after) => self.shared.cluster.rows(Statement::MadeAfter, (id, after), wanted).await?,
                None => self.shared.cluster.rows(Statement::Made, (id,), wanted).await?,
            };
            for (hash,) in &hashes {
                let hash = array(MADE, hash)?;
                made.extend(self.invite(hash).await?.filter(|invite| invite.inviter == maker));
                after = Some(hash);
            }
            if hashes.len() < wanted {
                break;
            }
        }
        Ok(made)
    }

    /// Removes what the user made.
    pub(crate) async fn remove_invites_by(&self, maker: UserId) -> Result<(), Error> {
        loop {
            let made = self.invites_by(maker, None, LIST_ROWS_MAX).await?;
            for invite in &made {
                self.remove_invite(invite.hash).await?;
            }
            if made.len() < LIST_ROWS_MAX {
                return Ok(());
            }
        }
    }

    pub(crate) async fn use_invite(&self, proposed: InviteUse) -> Result<Option<InviteUse>, Error> {
        let InviteUse { hash, user, origin, basis, at_us } = proposed;
        // Also a code that nobody made is asked for, and costs a read.
        if self.invite(hash).await?.is_none() {
            return Ok(None);
        }
        let _turn = self.shared.turns.take(TABLE, &hash).await;
        let mut doubt = None;
        for _ in 0..TRIES_MAX {
            if let Some(used) = self.look_for_use(Statement::UseSerial, hash, user).await? {
                return Ok(Some(used));
            }
            let Some(invite) = self.look_for_invite(Statement::InviteSerial, hash).await? else { return Ok(None) };
            if !invite.is_open_at(at_us) {
                return Ok(None);
            }
            let ttl = kept(&invite);
            let using = (hash, *user.as_bytes(), big(origin), big(basis), big(at_us), ttl);
            let counting = (ttl, i64::from(invite.uses) + 1, hash, i64::from(invite.uses));
            let parts: Vec<(Statement, Values)> =
                vec![(Statement::AddUse, Box::new(using)), (Statement::CountUse, Box::new(counting))];
            match self.shared.cluster.write_together_if(parts).await {
                Ok(true) => return Ok(Some(proposed)),
                Ok(false) => {}
                // If it landed, the next look finds it.
                Err(error @ Error::Stalled { .. }) if doubt.is_none() => doubt = Some(error),
                Err(error) => return Err(error),
            }
        }
        Err(doubt.unwrap_or(Error::Contended { table: TABLE }))
    }

    pub(crate) async fn remove_invite(&self, hash: [u8; 32]) -> Result<bool, Error> {
        let Some(invite) = self.look_for_invite(Statement::InviteSerial, hash).await? else { return Ok(false) };
        let turn = self.shared.turns.take(TABLE, &hash).await;
        // From here on it is gone for everybody; what follows only frees room, and all of it ends by itself too.
        let is_removed = self.shared.cluster.write_if(Statement::RemoveInvite, (kept(&invite), hash)).await?;
        if is_removed {
            self.shared.cluster.write(Statement::EraseInvite, (hash,)).await?;
        }
        drop(turn);
        if is_removed {
            self.give_place_back(invite.chat, hash).await?;
            self.shared.cluster.write(Statement::RemoveMade, (*invite.inviter.as_bytes(), hash)).await?;
        }
        Ok(is_removed)
    }
}
