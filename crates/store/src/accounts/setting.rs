//! How a user wants to see a chat. The others of the chat learn nothing of it, so it is no event.

use domain::{ChatId, Micros, UserId};

/// How a user wants to see a chat.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ChatSetting {
    /// Whose wish it is.
    pub user: UserId,
    /// The chat.
    pub chat: ChatId,
    /// Until when the chat is silent, µs since 1970; 0: it is not.
    pub muted_until_us: Micros,
    /// Whether it stands on top of the list.
    pub pinned: bool,
    /// Whether it is out of the list.
    pub archived: bool,
    /// Which write of the row this is: 1, 2, 3 …
    pub version: u64,
}
