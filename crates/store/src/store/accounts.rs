//! The port's operations on accounts.
//!
//! Every write is on disk before it is answered, since nothing could replay it; several that wait may share one sync.
//! Texts and lists beyond their bounds are [`Error::Length`]. After [`Error::Stalled`] whether a write landed is open:
//! one that compares is asked again after a look at the row.

use domain::{ChatId, Micros, UserId};

use super::{Store, boxed};
use crate::{
    ChatSetting, DeviceRow, Error, InviteRow, InviteUse, RefreshFamily, SendClaim, SendOutcome, TicketRow, UserRow,
    UserState,
};

impl Store {
    /// A user's row.
    pub async fn user(&self, user: UserId) -> Result<Option<UserRow>, Error> {
        match self {
            Self::Embedded(engine) => engine.user(user),
            Self::Cql(engine) => boxed(engine.user(user)).await,
        }
    }

    /// Writes a user's row if the stored version is `expected` (0: there is none), and says whether it did.
    ///
    /// The row is stored with version `expected` + 1, whatever version it names.
    pub async fn put_user(&self, row: UserRow, expected: u64) -> Result<bool, Error> {
        match self {
            Self::Embedded(engine) => engine.put_user(row, expected).await,
            Self::Cql(engine) => boxed(engine.put_user(row, expected)).await,
        }
    }

    /// Some of the users whose row is [`crate::UserState::Leaving`], by id; at most [`crate::LIST_ROWS_MAX`].
    pub async fn leaving_users(&self, limit: usize) -> Result<Vec<UserId>, Error> {
        match self {
            Self::Embedded(engine) => engine.leaving_users(limit).await,
            Self::Cql(engine) => boxed(engine.leaving_users(limit)).await,
        }
    }

    /// Who has the handle now: `user`, or whoever claimed it first. Handles are compared by bytes.
    pub async fn claim_handle(&self, handle: &str, user: UserId) -> Result<UserId, Error> {
        match self {
            Self::Embedded(engine) => engine.claim_handle(handle, user).await,
            Self::Cql(engine) => boxed(engine.claim_handle(handle, user)).await,
        }
    }

    /// Gives a handle up, if it is this user's, and says whether it was.
    pub async fn release_handle(&self, handle: &str, user: UserId) -> Result<bool, Error> {
        match self {
            Self::Embedded(engine) => engine.release_handle(handle, user).await,
            Self::Cql(engine) => boxed(engine.release_handle(handle, user)).await,
        }
    }

    /// Whose handle this is.
    pub async fn user_of_handle(&self, handle: &str) -> Result<Option<UserId>, Error> {
        match self {
            Self::Embedded(engine) => engine.user_of_handle(handle),
            Self::Cql(engine) => boxed(engine.user_of_handle(handle)).await,
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
            Self::Cql(engine) => boxed(engine.handles(prefix, after, limit)).await,
        }
    }

    /// A refresh family; whether it has expired is the caller's to see.
    pub async fn refresh_family(&self, family: [u8; 16]) -> Result<Option<RefreshFamily>, Error> {
        match self {
            Self::Embedded(engine) => engine.refresh_family(family),
            Self::Cql(engine) => boxed(engine.refresh_family(family)).await,
        }
    }

    /// Writes a refresh family if the stored version is `expected` (0: there is none), and says whether it did.
    ///
    /// Stored with version `expected` + 1. A family never changes its user: such a write is not done. A new one beyond
    /// [`crate::REFRESH_FAMILIES_MAX`] of its user is [`Error::Full`].
    pub async fn put_refresh_family(&self, row: RefreshFamily, expected: u64) -> Result<bool, Error> {
        match self {
            Self::Embedded(engine) => engine.put_refresh_family(row, expected).await,
            Self::Cql(engine) => boxed(engine.put_refresh_family(row, expected)).await,
        }
    }

    /// Ends a refresh family, and says what it was; none if it had ended.
    pub async fn remove_refresh_family(&self, family: [u8; 16]) -> Result<Option<RefreshFamily>, Error> {
        match self {
            Self::Embedded(engine) => engine.remove_refresh_family(family).await,
            Self::Cql(engine) => boxed(engine.remove_refresh_family(family)).await,
        }
    }

    /// All refresh families of a user, expired ones included, by their names.
    pub async fn refresh_families_of(&self, user: UserId) -> Result<Vec<RefreshFamily>, Error> {
        match self {
            Self::Embedded(engine) => engine.refresh_families_of(user).await,
            Self::Cql(engine) => boxed(engine.refresh_families_of(user)).await,
        }
    }

    /// Sweeps at most `limit` families that ended before `before_us`, and says how many; as [`Self::forget_send_claims`].
    pub async fn forget_refresh_families(&self, before_us: Micros, limit: usize) -> Result<usize, Error> {
        match self {
            Self::Embedded(engine) => engine.forget_refresh_families(before_us, limit).await,
            Self::Cql(_) => Ok(0),
        }
    }

    /// What stands under this user and key now: `claim`, or the one that was first.
    ///
    /// One that is older than [`crate::SEND_CLAIM_KEPT_US`] by the new one's time counts as none and is replaced.
    pub async fn claim_send(&self, claim: SendClaim) -> Result<SendClaim, Error> {
        match self {
            Self::Embedded(engine) => engine.claim_send(claim).await,
            Self::Cql(engine) => boxed(engine.claim_send(claim)).await,
        }
    }

    /// What stands under this user and key, however old it is.
    pub async fn send_claim(&self, user: UserId, key: &str) -> Result<Option<SendClaim>, Error> {
        match self {
            Self::Embedded(engine) => engine.send_claim(user, key),
            Self::Cql(engine) => boxed(engine.send_claim(user, key)).await,
        }
    }

    /// Notes what became of a claim's command, and says whether that is what the row says now.
    ///
    /// Only of the claim with this origin. What was stored is never noted as rejected, nor anything as unknown.
    pub async fn settle_send(&self, user: UserId, key: &str, origin: u64, outcome: SendOutcome) -> Result<bool, Error> {
        match self {
            Self::Embedded(engine) => engine.settle_send(user, key, origin, outcome).await,
            Self::Cql(engine) => boxed(engine.settle_send(user, key, origin, outcome)).await,
        }
    }

    /// Sweeps at most `limit` claims from before `before_us`, and says how many; at most some thousand a call.
    ///
    /// Only frees room, so it alone is not on disk when it is answered. An engine whose rows go by themselves sweeps none.
    pub async fn forget_send_claims(&self, before_us: Micros, limit: usize) -> Result<usize, Error> {
        match self {
            Self::Embedded(engine) => engine.forget_send_claims(before_us, limit).await,
            Self::Cql(_) => Ok(0),
        }
    }

    /// A device is seen: a new one is named after its id, and when one was last seen only moves forward.
    ///
    /// A new one beyond [`crate::DEVICES_MAX`] of its user is [`Error::Full`].
    pub async fn see_device(&self, user: UserId, device: &str, now_us: Micros) -> Result<(), Error> {
        match self {
            Self::Embedded(engine) => engine.see_device(user, device, now_us).await,
            Self::Cql(engine) => boxed(engine.see_device(user, device, now_us)).await,
        }
    }

    /// Gives a device another name, and says whether there is such a device.
    pub async fn name_device(&self, user: UserId, device: &str, name: &str) -> Result<bool, Error> {
        match self {
            Self::Embedded(engine) => engine.name_device(user, device, name).await,
            Self::Cql(engine) => boxed(engine.name_device(user, device, name)).await,
        }
    }

    /// All devices of a user, by their ids.
    pub async fn devices_of(&self, user: UserId) -> Result<Vec<DeviceRow>, Error> {
        match self {
            Self::Embedded(engine) => engine.devices_of(user).await,
            Self::Cql(engine) => boxed(engine.devices_of(user)).await,
        }
    }

    /// Removes a device, and says whether it was there. Its refresh families are the caller's to end.
    pub async fn remove_device(&self, user: UserId, device: &str) -> Result<bool, Error> {
        match self {
            Self::Embedded(engine) => engine.remove_device(user, device).await,
            Self::Cql(engine) => boxed(engine.remove_device(user, device)).await,
        }
    }

    /// Has `user` block `other`, if that is not so already. Says nothing of the other direction.
    pub async fn block(&self, user: UserId, other: UserId) -> Result<(), Error> {
        match self {
            Self::Embedded(engine) => engine.set_block(user, other, true).await,
            Self::Cql(engine) => boxed(engine.set_block(user, other, true)).await,
        }
    }

    /// Lifts a block, if there is one.
    pub async fn unblock(&self, user: UserId, other: UserId) -> Result<(), Error> {
        match self {
            Self::Embedded(engine) => engine.set_block(user, other, false).await,
            Self::Cql(engine) => boxed(engine.set_block(user, other, false)).await,
        }
    }

    /// Whether `user` blocks `other`.
    pub async fn is_blocked(&self, user: UserId, other: UserId) -> Result<bool, Error> {
        match self {
            Self::Embedded(engine) => engine.is_blocked(user, other),
            Self::Cql(engine) => boxed(engine.is_blocked(user, other)).await,
        }
    }

    /// Whether `user` is not to be reached by `other`: blocks it, or has gone. Who has no row is to be reached.
    pub async fn turns_away(&self, user: UserId, other: UserId) -> Result<bool, Error> {
        if self.is_blocked(user, other).await? {
            return Ok(true);
        }
        let row = self.user(user).await?;
        Ok(row.is_some_and(|row| row.state != UserState::Active))
    }

    /// A page of those whom a user blocks, by id.
    ///
    /// Ask on with the last one as `after`; fewer than `limit` are the last ones. At most [`crate::LIST_ROWS_MAX`].
    pub async fn blocks_of(&self, user: UserId, after: Option<UserId>, limit: usize) -> Result<Vec<UserId>, Error> {
        match self {
            Self::Embedded(engine) => engine.blocks_of(user, after, limit).await,
            Self::Cql(engine) => boxed(engine.blocks_of(user, after, limit)).await,
        }
    }

    /// Writes a user's setting of a chat if the stored version is `expected` (0: there is none), and says whether it did.
    ///
    /// Stored with version `expected` + 1.
    pub async fn put_chat_setting(&self, row: ChatSetting, expected: u64) -> Result<bool, Error> {
        match self {
            Self::Embedded(engine) => engine.put_chat_setting(row, expected).await,
            Self::Cql(engine) => boxed(engine.put_chat_setting(row, expected)).await,
        }
    }

    /// A user's setting of a chat.
    pub async fn chat_setting(&self, user: UserId, chat: ChatId) -> Result<Option<ChatSetting>, Error> {
        match self {
            Self::Embedded(engine) => engine.chat_setting(user, chat),
            Self::Cql(engine) => boxed(engine.chat_setting(user, chat)).await,
        }
    }

    /// A page of a user's settings, by chat id.
    ///
    /// Ask on with the last one's chat as `after`; fewer than `limit` are the last ones. At most
    /// [`crate::LIST_ROWS_MAX`].
    pub async fn chat_settings_of(
        &self,
        user: UserId,
        after: Option<ChatId>,
        limit: usize,
    ) -> Result<Vec<ChatSetting>, Error> {
        match self {
            Self::Embedded(engine) => engine.chat_settings_of(user, after, limit).await,
            Self::Cql(engine) => boxed(engine.chat_settings_of(user, after, limit)).await,
        }
    }

    /// Writes a ticket, over one with the same hash.
    pub async fn put_ticket(&self, row: TicketRow) -> Result<(), Error> {
        match self {
            Self::Embedded(engine) => engine.put_ticket(row).await,
            Self::Cql(engine) => boxed(engine.put_ticket(row)).await,
        }
    }

    /// Takes a ticket out: the first to ask has it, and nobody one that ended at `now_us` or before.
    ///
    /// Whether its user may still sign in is the caller's to see. After [`Error::Stalled`] it may be gone with nobody
    /// having it.
    pub async fn take_ticket(&self, hash: [u8; 32], now_us: Micros) -> Result<Option<TicketRow>, Error> {
        match self {
            Self::Embedded(engine) => engine.take_ticket(hash, now_us).await,
            Self::Cql(engine) => boxed(engine.take_ticket(hash, now_us)).await,
        }
    }

    /// Sweeps at most `limit` tickets that ended before `before_us`, and says how many; as [`Self::forget_send_claims`].
    pub async fn forget_tickets(&self, before_us: Micros, limit: usize) -> Result<usize, Error> {
        match self {
            Self::Embedded(engine) => engine.forget_tickets(before_us, limit).await,
            Self::Cql(_) => Ok(0),
        }
    }

    /// Writes a new invite, and says whether it did: one with the same hash stays as it is.
    ///
    /// One beyond [`crate::INVITES_MAX`] of its chat is [`Error::Full`].
    pub async fn put_invite(&self, row: InviteRow) -> Result<bool, Error> {
        match self {
            Self::Embedded(engine) => engine.put_invite(row).await,
            Self::Cql(engine) => boxed(engine.put_invite(row)).await,
        }
    }

    /// An invite; whether it has ended is the caller's to see.
    pub async fn invite(&self, hash: [u8; 32]) -> Result<Option<InviteRow>, Error> {
        match self {
            Self::Embedded(engine) => engine.invite(hash),
            Self::Cql(engine) => boxed(engine.invite(hash)).await,
        }
    }

    /// The use that a user made of an invite.
    pub async fn invite_use(&self, hash: [u8; 32], user: UserId) -> Result<Option<InviteUse>, Error> {
        match self {
            Self::Embedded(engine) => engine.invite_use(hash, user),
            Self::Cql(engine) => boxed(engine.invite_use(hash, user)).await,
        }
    }

    /// All invites of a chat, ended ones included, by their hashes.
    pub async fn invites_of(&self, chat: ChatId) -> Result<Vec<InviteRow>, Error> {
        match self {
            Self::Embedded(engine) => engine.invites_of(chat).await,
            Self::Cql(engine) => boxed(engine.invites_of(chat)).await,
        }
    }

    /// A page of what a user made, by hash, ended ones included; behind `after`, at most [`crate::LIST_ROWS_MAX`].
    ///
    /// Without what was made by a version that kept no such list: an invite of it ends within 90 days.
    pub async fn invites_by(
        &self,
        maker: UserId,
        after: Option<[u8; 32]>,
        limit: usize,
    ) -> Result<Vec<InviteRow>, Error> {
        match self {
            Self::Embedded(engine) => engine.invites_by(maker, after, limit).await,
            Self::Cql(engine) => boxed(engine.invites_by(maker, after, limit)).await,
        }
    }

    /// Uses an invite at `proposed.at_us`: the use that its user has now, `proposed` or an earlier one.
    ///
    /// Each user is counted once, and never more than the invite lets in; an earlier use holds after the end. None: there
    /// is no such invite, or it lets nobody in any more.
    pub async fn use_invite(&self, proposed: InviteUse) -> Result<Option<InviteUse>, Error> {
        match self {
            Self::Embedded(engine) => engine.use_invite(proposed).await,
            Self::Cql(engine) => boxed(engine.use_invite(proposed)).await,
        }
    }

    /// Removes an invite and its uses, and says whether it was there.
    pub async fn remove_invite(&self, hash: [u8; 32]) -> Result<bool, Error> {
        match self {
            Self::Embedded(engine) => engine.remove_invite(hash).await,
            Self::Cql(engine) => boxed(engine.remove_invite(hash)).await,
        }
    }

    /// The first invites that ended before `before_us`, for them to be removed.
    ///
    /// An engine whose rows go by themselves names none.
    pub async fn invites_ended_before(&self, before_us: Micros, limit: usize) -> Result<Vec<[u8; 32]>, Error> {
        match self {
            Self::Embedded(engine) => engine.invites_ended_before(before_us, limit).await,
            Self::Cql(_) => Ok(Vec::new()),
        }
    }

    /// Removes a user's devices, refresh families, blocks, settings, send claims and invites; asked again, it goes on.
    ///
    /// In steps, so that others do not wait: a crash may leave some, and what is written for the user meanwhile may stay.
    /// The user's row and handle are the caller's, tickets and uses of others' invites end by themselves, and blocks of
    /// this user by others stay.
    pub async fn erase_user(&self, user: UserId) -> Result<(), Error> {
        match self {
            Self::Embedded(engine) => engine.erase_user(user).await,
            Self::Cql(engine) => boxed(engine.erase_user(user)).await,
        }
    }
}
