//! Invites: links that let whoever has them into a chat, by the right that their maker has when they are used.
//!
//! The code is known to whoever it was given to; the store has its hash. A use is counted before its command goes out, and
//! fixes it: whatever is killed in between, its user asks again and is let in without a second use. Who decides is the
//! chat: the command is the inviter's, so whoever was put out or lost the right lets nobody in any more (N7).

pub(crate) mod join;
pub(crate) mod manage;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use domain::{ChatId, ChatKind, Code as Refusal, Role, UserId};
use store::{INVITE_KEPT_US, Store};

use crate::chats::kind_of;
use crate::problem::{Kind, Problem};
use crate::state::{Shared, now_us};

/// Bytes of chance in a code: 192 bits.
const CODE_BYTES: usize = 24;
/// Invites that are swept at a time; each may have a thousand uses.
const SWEPT_AT_ONCE: usize = 16;

/// A code as its holder has it.
struct Code([u8; CODE_BYTES]);

impl Code {
    fn draw() -> Self {
        Self(rand::random())
    }

    fn parse(text: &str) -> Option<Self> {
        Some(Self(URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()?))
    }

    fn text(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.0)
    }

    /// What is stored of it.
    fn hash(&self) -> [u8; 32] {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, &self.0).as_ref());
        hash
    }
}

/// Refuses whoever may not let others into the chat, as the chat itself would.
pub(crate) async fn check_may_add(shared: &Shared, chat: ChatId, user: UserId) -> Result<(), Problem> {
    let stays = shared.store.stays(chat, user, 0, shared.read_deadline()).await?;
    let present = stays.iter().find(|stay| stay.left_seq.is_none()).ok_or(Kind::NotFound)?;
    if kind_of(shared, chat).await? == ChatKind::Direct {
        return Err(Problem::rejected(Refusal::DirectChatIsFixed));
    }
    let may = match present.role {
        Role::Owner | Role::Admin => true,
        Role::Member => shared.store.chat_facts(chat).await?.policy.members_add,
        Role::Reader => false,
    };
    if may { Ok(()) } else { Err(Problem::rejected(Refusal::Forbidden)) }
}

/// Takes out invites that ended a while ago.
pub(crate) async fn sweep(store: &Store) -> Result<(), store::Error> {
    let before_us = now_us().saturating_sub(INVITE_KEPT_US);
    loop {
        let ended = store.invites_ended_before(before_us, SWEPT_AT_ONCE).await?;
        for hash in &ended {
            store.remove_invite(*hash).await?;
        }
        if ended.len() < SWEPT_AT_ONCE {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_told_from_what_is_none() {
        let code = Code::draw();
        let text = code.text();
        assert_eq!(text.len(), 32);
        assert_eq!(Code::parse(&text).unwrap().hash(), code.hash());
        assert_ne!(Code::draw().text(), text);
        for bad in ["", &text[1..], &format!("{text}A"), &text.replace(&text[..1], "*"), &format!("{text}=")] {
            assert!(Code::parse(bad).is_none(), "{bad}");
        }
    }
}
