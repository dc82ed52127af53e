//! An invite: lets whoever has its code into a chat, by the right of who made it.

use std::fmt;

use domain::{ChatId, Micros, Seq, UserId};

use crate::Error;

/// Most invites of one chat, ended ones included until they are swept; a further one is [`Error::Full`].
pub const INVITES_MAX: usize = 64;
/// Most uses of one invite: as many members as a chat may have, and few enough to be taken out in one commit.
pub const INVITE_USES_MAX: u32 = 1_000;
/// How long an invite is kept beyond its end: who used it just then may still ask what came of it.
pub const INVITE_KEPT_US: Micros = 60 * 60 * 1_000_000;

/// Bytes of the hash that name an invite.
const ID_BYTES: usize = 16;

/// An invite to a chat.
#[derive(Clone, PartialEq, Eq)]
pub struct InviteRow {
    /// The code's hash.
    pub hash: [u8; 32],
    /// Where it leads.
    pub chat: ChatId,
    /// By whose right it lets in.
    pub inviter: UserId,
    /// When it was made, µs since 1970.
    pub created_us: Micros,
    /// From when on it lets nobody in, µs since 1970.
    pub expires_us: Micros,
    /// How many users it lets in, 1 to [`INVITE_USES_MAX`].
    pub uses_max: u32,
    /// How many have used it.
    pub uses: u32,
}

impl fmt::Debug for InviteRow {
    // Without what no log may have: the code's hash.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InviteRow")
            .field("chat", &self.chat)
            .field("inviter", &self.inviter)
            .field("expires_us", &self.expires_us)
            .field("uses_max", &self.uses_max)
            .field("uses", &self.uses)
            .finish_non_exhaustive()
    }
}

impl InviteRow {
    pub(crate) fn check(&self) -> Result<(), Error> {
        if (1..=INVITE_USES_MAX).contains(&self.uses_max) {
            return Ok(());
        }
        let what = "an invite's list of uses";
        Err(Error::Length { what, length: self.uses_max as usize, min: 1, max: INVITE_USES_MAX as usize })
    }

    /// Names it to those who may revoke it: the code, which lets in, cannot be told from it.
    pub fn id(&self) -> String {
        self.hash[..ID_BYTES].iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Whether a further user may use it at `now_us`.
    pub fn is_open_at(&self, now_us: Micros) -> bool {
        now_us < self.expires_us && self.uses < self.uses_max
    }
}

/// One user's use of an invite: fixes the command that lets the user in, in the inviter's name.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct InviteUse {
    /// The code's hash.
    pub hash: [u8; 32],
    /// Who used it.
    pub user: UserId,
    /// The command's origin; its number there is 1.
    pub origin: u64,
    /// Its basis.
    pub basis: Seq,
    /// When it was first used, µs since 1970.
    pub at_us: Micros,
}

impl fmt::Debug for InviteUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InviteUse")
            .field("user", &self.user)
            .field("origin", &self.origin)
            .field("basis", &self.basis)
            .field("at_us", &self.at_us)
            .finish_non_exhaustive()
    }
}
