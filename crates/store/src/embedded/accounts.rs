//! Accounts in the embedded engine: a file a table has its key, its value, its writes and its reads.
//!
//! A write is compared with what is stored by the writer, in order and within its commit, so of two at once one sees the
//! other. An index row is staged with its row, so a crash leaves both or none. Reads are in place: what is visible was
//! synced before it became so.

mod blocks;
mod claims;
mod devices;
mod erasure;
mod families;
mod handles;
mod invites;
mod settings;
mod tickets;
mod users;

use domain::{ChatId, Micros, UserId};
use fjall::Slice;

use super::{
    Embedded,
    batch::Batch,
    queue::{ROW_OVERHEAD, Write, Written},
};
use crate::{
    ChatSetting, DEVICES_MAX, DeviceRow, Error, INVITES_MAX, InviteRow, InviteUse, LIST_ROWS_MAX, REFRESH_FAMILIES_MAX,
    RefreshFamily, SendClaim, SendOutcome, TicketRow, UserRow, accounts,
};

/// Most rows that one call sweeps: some milliseconds of the writer's work.
const SWEPT_MAX: usize = 1_024;

/// A write to the tables of accounts.
#[derive(Debug)]
pub(super) enum AccountWrite {
    PutUser { row: Box<UserRow>, expected: u64 },
    ClaimHandle { handle: Box<str>, user: UserId },
    ReleaseHandle { handle: Box<str>, user: UserId },
    PutFamily { row: Box<RefreshFamily>, expected: u64 },
    RemoveFamily { family: [u8; 16] },
    ForgetFamilies { old: Vec<Slice> },
    ClaimSend(Box<SendClaim>),
    SettleSend { user: UserId, key: Box<str>, origin: u64, outcome: SendOutcome },
    ForgetSendClaims { old: Vec<Slice> },
    SeeDevice { user: UserId, device: Box<str>, now_us: Micros },
    NameDevice { user: UserId, device: Box<str>, name: Box<str> },
    RemoveDevice { user: UserId, device: Box<str> },
    SetBlock { user: UserId, other: UserId, is_blocked: bool },
    PutChatSetting { row: ChatSetting, expected: u64 },
    PutTicket(Box<TicketRow>),
    TakeTicket { hash: [u8; 32], now_us: Micros },
    ForgetTickets { old: Vec<Slice> },
    PutInvite(Box<InviteRow>),
    UseInvite(Box<InviteUse>),
    RemoveInvite { hash: [u8; 32] },
    Erase(UserId),
}

impl AccountWrite {
    /// Bytes of what has no fixed size.
    pub(super) fn weight(&self) -> usize {
        match self {
            Self::PutUser { row, .. } => {
                row.handle.len() + row.display_name.len() + row.avatar.len() + row.password.len()
            }
            Self::ClaimHandle { handle, .. } | Self::ReleaseHandle { handle, .. } => handle.len(),
            Self::PutFamily { row, .. } => row.device.len() + size_of_val(&row.spent[..]),
            Self::ClaimSend(claim) => claim.key.len(),
            Self::SettleSend { key, .. } => key.len(),
            Self::NameDevice { device, name, .. } => device.len() + name.len(),
            Self::SeeDevice { device, .. } | Self::RemoveDevice { device, .. } => device.len(),
            Self::PutTicket(row) => row.device.len() + row.sign_in.len(),
            Self::ForgetFamilies { old } | Self::ForgetSendClaims { old } | Self::ForgetTickets { old } => {
                old.iter().map(|key| key.len() + ROW_OVERHEAD).sum()
            }
            Self::RemoveFamily { .. }
            | Self::SetBlock { .. }
            | Self::PutChatSetting { .. }
            | Self::TakeTicket { .. }
            | Self::PutInvite(_)
            | Self::UseInvite(_)
            | Self::RemoveInvite { .. }
            | Self::Erase(_) => 0,
        }
    }
}

impl Batch<'_> {
    /// Adds one write to the tables of accounts.
    pub(super) fn account(&mut self, write: &AccountWrite) -> Result<Written, Error> {
        match write {
            AccountWrite::PutUser { row, expected } => self.put_user(row, *expected).map(Written::Flag),
            AccountWrite::ClaimHandle { handle, user } => self.claim_handle(handle, *user).map(Written::User),
            AccountWrite::ReleaseHandle { handle, user } => self.release_handle(handle, *user).map(Written::Flag),
            AccountWrite::PutFamily { row, expected } => self.put_family(row, *expected).map(Written::Flag),
            AccountWrite::RemoveFamily { family } => {
                self.remove_family(*family).map(|removed| Written::Family(removed.map(Box::new)))
            }
            AccountWrite::ForgetFamilies { old } => self.forget_families(old).map(Written::Count),
            AccountWrite::ClaimSend(claim) => self.claim_send(claim).map(|held| Written::Claim(Box::new(held))),
            AccountWrite::SettleSend { user, key, origin, outcome } => {
                self.settle_send(*user, key, *origin, *outcome).map(Written::Flag)
            }
            AccountWrite::ForgetSendClaims { old } => self.forget_send_claims(old).map(Written::Count),
            AccountWrite::SeeDevice { user, device, now_us } => {
                self.see_device(*user, device, *now_us).map(|()| Written::Done)
            }
            AccountWrite::NameDevice { user, device, name } => self.name_device(*user, device, name).map(Written::Flag),
            AccountWrite::RemoveDevice { user, device } => self.remove_device(*user, device).map(Written::Flag),
            AccountWrite::SetBlock { user, other, is_blocked } => {
                self.set_block(*user, *other, *is_blocked).map(|()| Written::Done)
            }
            AccountWrite::PutChatSetting { row, expected } => self.put_chat_setting(row, *expected).map(Written::Flag),
            AccountWrite::PutTicket(row) => self.put_ticket(row).map(|()| Written::Done),
            AccountWrite::TakeTicket { hash, now_us } => {
                self.take_ticket(*hash, *now_us).map(|taken| Written::Ticket(taken.map(Box::new)))
            }
            AccountWrite::ForgetTickets { old } => self.forget_tickets(old).map(Written::Count),
            AccountWrite::PutInvite(row) => self.put_invite(row).map(Written::Flag),
            AccountWrite::UseInvite(proposed) => {
                self.use_invite(proposed).map(|used| Written::InviteUse(used.map(Box::new)))
            }
            AccountWrite::RemoveInvite { hash } => self.remove_invite(*hash),
            AccountWrite::Erase(user) => {
                self.erase(*user).map(|is_done| if is_done { Written::Done } else { Written::Part })
            }
        }
    }
}

/// The version that a row has after a compare and set; none if what is stored is not what was expected.
fn next_version(stored: Option<u64>, expected: u64) -> Option<u64> {
    if stored.unwrap_or_default() == expected { expected.checked_add(1) } else { None }
}

impl Embedded {
    async fn account(&self, write: AccountWrite) -> Result<Written, Error> {
        self.queue.submit(Write::Account(write)).await
    }

    async fn flag(&self, write: AccountWrite) -> Result<bool, Error> {
        let Written::Flag(flag) = self.account(write).await? else { return Err(Error::Closed) };
        Ok(flag)
    }

    async fn count(&self, write: AccountWrite) -> Result<usize, Error> {
        let Written::Count(count) = self.account(write).await? else { return Err(Error::Closed) };
        Ok(count)
    }

    pub(crate) fn user(&self, user: UserId) -> Result<Option<UserRow>, Error> {
        self.view().user(user)
    }

    pub(crate) async fn leaving_users(&self, limit: usize) -> Result<Vec<UserId>, Error> {
        let limit = limit.clamp(1, LIST_ROWS_MAX);
        self.read(limit, move |view| view.leaving_users(limit)).await
    }

    pub(crate) async fn put_user(&self, row: UserRow, expected: u64) -> Result<bool, Error> {
        row.check()?;
        self.flag(AccountWrite::PutUser { row: Box::new(row), expected }).await
    }

    pub(crate) async fn claim_handle(&self, handle: &str, user: UserId) -> Result<UserId, Error> {
        accounts::check_handle(handle)?;
        if let Some(first) = self.view().user_of_handle(handle)? {
            return Ok(first);
        }
        let write = AccountWrite::ClaimHandle { handle: handle.into(), user };
        let Written::User(first) = self.account(write).await? else { return Err(Error::Closed) };
        Ok(first)
    }

    pub(crate) async fn release_handle(&self, handle: &str, user: UserId) -> Result<bool, Error> {
        accounts::check_handle(handle)?;
        self.flag(AccountWrite::ReleaseHandle { handle: handle.into(), user }).await
    }

    pub(crate) fn user_of_handle(&self, handle: &str) -> Result<Option<UserId>, Error> {
        accounts::check_handle(handle)?;
        self.view().user_of_handle(handle)
    }

    pub(crate) async fn handles(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(Box<str>, UserId)>, Error> {
        accounts::check_handle(prefix)?;
        let (prefix, after) = (Box::<str>::from(prefix), after.map(Box::<str>::from));
        let limit = limit.clamp(1, LIST_ROWS_MAX);
        self.read(limit, move |view| view.handles(&prefix, after.as_deref(), limit)).await
    }

    pub(crate) fn refresh_family(&self, family: [u8; 16]) -> Result<Option<RefreshFamily>, Error> {
        self.view().family(family)
    }

    pub(crate) async fn put_refresh_family(&self, row: RefreshFamily, expected: u64) -> Result<bool, Error> {
        row.check()?;
        self.flag(AccountWrite::PutFamily { row: Box::new(row), expected }).await
    }

    pub(crate) async fn remove_refresh_family(&self, family: [u8; 16]) -> Result<Option<RefreshFamily>, Error> {
        let removed = self.account(AccountWrite::RemoveFamily { family }).await?;
        let Written::Family(removed) = removed else { return Err(Error::Closed) };
        Ok(removed.map(|family| *family))
    }

    pub(crate) async fn refresh_families_of(&self, user: UserId) -> Result<Vec<RefreshFamily>, Error> {
        // Index and row.
        self.read(2 * REFRESH_FAMILIES_MAX, move |view| view.families_of(user)).await
    }

    pub(crate) async fn forget_refresh_families(&self, before_us: Micros, limit: usize) -> Result<usize, Error> {
        let limit = limit.min(SWEPT_MAX);
        let old = self.read(SWEPT_MAX, move |view| view.families_before(before_us, limit)).await?;
        if old.is_empty() {
            return Ok(0);
        }
        self.count(AccountWrite::ForgetFamilies { old }).await
    }

    pub(crate) async fn claim_send(&self, claim: SendClaim) -> Result<SendClaim, Error> {
        claim.check()?;
        if let Some(held) = self.view().send_claim(claim.user, &claim.key)?
            && held.holds_at(claim.at_us)
        {
            return Ok(held);
        }
        let held = self.account(AccountWrite::ClaimSend(Box::new(claim))).await?;
        let Written::Claim(held) = held else { return Err(Error::Closed) };
        Ok(*held)
    }

    pub(crate) fn send_claim(&self, user: UserId, key: &str) -> Result<Option<SendClaim>, Error> {
        accounts::check_idempotency_key(key)?;
        self.view().send_claim(user, key)
    }

    pub(crate) async fn settle_send(
        &self,
        user: UserId,
        key: &str,
        origin: u64,
        outcome: SendOutcome,
    ) -> Result<bool, Error> {
        accounts::check_idempotency_key(key)?;
        self.flag(AccountWrite::SettleSend { user, key: key.into(), origin, outcome }).await
    }

    pub(crate) async fn forget_send_claims(&self, before_us: Micros, limit: usize) -> Result<usize, Error> {
        let limit = limit.min(SWEPT_MAX);
        // Sought here and not by the writer: the way leads past all that was swept before, and appends would wait for it.
        let old = self.read(SWEPT_MAX, move |view| view.send_claims_before(before_us, limit)).await?;
        if old.is_empty() {
            return Ok(0);
        }
        self.count(AccountWrite::ForgetSendClaims { old }).await
    }

    pub(crate) async fn see_device(&self, user: UserId, device: &str, now_us: Micros) -> Result<(), Error> {
        accounts::check_device(device)?;
        self.write(Write::Account(AccountWrite::SeeDevice { user, device: device.into(), now_us })).await
    }

    pub(crate) async fn name_device(&self, user: UserId, device: &str, name: &str) -> Result<bool, Error> {
        accounts::check_device(device)?;
        accounts::check_device_name(name)?;
        self.flag(AccountWrite::NameDevice { user, device: device.into(), name: name.into() }).await
    }

    pub(crate) async fn devices_of(&self, user: UserId) -> Result<Vec<DeviceRow>, Error> {
        self.read(DEVICES_MAX, move |view| view.devices_of(user)).await
    }

    pub(crate) async fn remove_device(&self, user: UserId, device: &str) -> Result<bool, Error> {
        accounts::check_device(device)?;
        self.flag(AccountWrite::RemoveDevice { user, device: device.into() }).await
    }

    pub(crate) async fn set_block(&self, user: UserId, other: UserId, is_blocked: bool) -> Result<(), Error> {
        self.write(Write::Account(AccountWrite::SetBlock { user, other, is_blocked })).await
    }

    pub(crate) fn is_blocked(&self, user: UserId, other: UserId) -> Result<bool, Error> {
        self.view().is_blocked(user, other)
    }

    pub(crate) async fn blocks_of(
        &self,
        user: UserId,
        after: Option<UserId>,
        limit: usize,
    ) -> Result<Vec<UserId>, Error> {
        let limit = limit.clamp(1, LIST_ROWS_MAX);
        self.read(limit, move |view| view.blocks_of(user, after, limit)).await
    }

    pub(crate) async fn put_chat_setting(&self, row: ChatSetting, expected: u64) -> Result<bool, Error> {
        self.flag(AccountWrite::PutChatSetting { row, expected }).await
    }

    pub(crate) fn chat_setting(&self, user: UserId, chat: ChatId) -> Result<Option<ChatSetting>, Error> {
        self.view().chat_setting(user, chat)
    }

    pub(crate) async fn chat_settings_of(
        &self,
        user: UserId,
        after: Option<ChatId>,
        limit: usize,
    ) -> Result<Vec<ChatSetting>, Error> {
        let limit = limit.clamp(1, LIST_ROWS_MAX);
        self.read(limit, move |view| view.chat_settings_of(user, after, limit)).await
    }

    pub(crate) async fn put_ticket(&self, row: TicketRow) -> Result<(), Error> {
        row.check()?;
        self.write(Write::Account(AccountWrite::PutTicket(Box::new(row)))).await
    }

    pub(crate) async fn take_ticket(&self, hash: [u8; 32], now_us: Micros) -> Result<Option<TicketRow>, Error> {
        if !self.view().has_ticket(hash)? {
            // Anybody may ask, with noise: the writer is kept free of it.
            return Ok(None);
        }
        let taken = self.account(AccountWrite::TakeTicket { hash, now_us }).await?;
        let Written::Ticket(taken) = taken else { return Err(Error::Closed) };
        Ok(taken.map(|ticket| *ticket))
    }

    pub(crate) async fn forget_tickets(&self, before_us: Micros, limit: usize) -> Result<usize, Error> {
        let limit = limit.min(SWEPT_MAX);
        let old = self.read(SWEPT_MAX, move |view| view.tickets_before(before_us, limit)).await?;
        if old.is_empty() {
            return Ok(0);
        }
        self.count(AccountWrite::ForgetTickets { old }).await
    }

    pub(crate) async fn put_invite(&self, row: InviteRow) -> Result<bool, Error> {
        row.check()?;
        self.flag(AccountWrite::PutInvite(Box::new(row))).await
    }

    pub(crate) fn invite(&self, hash: [u8; 32]) -> Result<Option<InviteRow>, Error> {
        self.view().invite(hash)
    }

    pub(crate) fn invite_use(&self, hash: [u8; 32], user: UserId) -> Result<Option<InviteUse>, Error> {
        self.view().invite_use(hash, user)
    }

    pub(crate) async fn invites_of(&self, chat: ChatId) -> Result<Vec<InviteRow>, Error> {
        // Index and row.
        self.read(2 * INVITES_MAX, move |view| view.invites_of(chat)).await
    }

    pub(crate) async fn invites_by(
        &self,
        maker: UserId,
        after: Option<[u8; 32]>,
        limit: usize,
    ) -> Result<Vec<InviteRow>, Error> {
        let limit = limit.clamp(1, LIST_ROWS_MAX);
        // Index and row.
        self.read(2 * limit, move |view| view.invites_by(maker, after, limit)).await
    }

    pub(crate) async fn use_invite(&self, proposed: InviteUse) -> Result<Option<InviteUse>, Error> {
        let used = self.account(AccountWrite::UseInvite(Box::new(proposed))).await?;
        let Written::InviteUse(used) = used else { return Err(Error::Closed) };
        Ok(used.map(|used| *used))
    }

    pub(crate) async fn remove_invite(&self, hash: [u8; 32]) -> Result<bool, Error> {
        self.flag(AccountWrite::RemoveInvite { hash }).await
    }

    pub(crate) async fn invites_ended_before(&self, before_us: Micros, limit: usize) -> Result<Vec<[u8; 32]>, Error> {
        let limit = limit.min(SWEPT_MAX);
        self.read(SWEPT_MAX, move |view| view.invites_ended_before(before_us, limit)).await
    }

    pub(crate) async fn erase_user(&self, user: UserId) -> Result<(), Error> {
        self.write(Write::Account(AccountWrite::Erase(user))).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_follows_the_expected_one_alone() {
        assert_eq!(next_version(None, 0), Some(1));
        assert_eq!(next_version(Some(1), 1), Some(2));
        assert_eq!(next_version(Some(1), 0), None);
        assert_eq!(next_version(None, 1), None);
        assert_eq!(next_version(Some(u64::MAX), u64::MAX), None);
    }
}
