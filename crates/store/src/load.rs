//! Loads a chat: its snapshot, its members as of the snapshot, and the fold of the later rows (M18).
//!
//! One implementation for all engines, over the port. The parts are read one after the other while the chat may go on;
//! they meet all the same: members of the snapshot's head are told by their intervals, whatever was added since.

use std::sync::Arc;

use domain::{Chat, ChatId, MemberState};
use prost::Message;
use proto::log::ChatSnapshot;
use tokio::time::Instant;

use crate::{Error, HISTORY_BYTES_MAX, HISTORY_ROWS_MAX, Store};

/// The chat as of its last stored row; none if nothing of it is stored.
pub(crate) async fn load_chat(store: &Store, chat: ChatId) -> Result<Option<Chat>, Error> {
    let unreadable = |source| Error::Entry { chat, source: Arc::new(source) };
    let mut state = match store.snapshot(chat).await? {
        Some(bytes) => {
            let snapshot = ChatSnapshot::decode(bytes)
                .map_err(|error| Error::corrupt("chat_snapshots", format!("chat {chat}: {error}")))?;
            // Rows of the snapshot's head are stored with it or before it: no need to wait.
            let members = store.members(chat, 0, Instant::now()).await?;
            let members = members
                .into_iter()
                .filter(|row| row.is_member_after(snapshot.head))
                .map(|row| (row.user, MemberState { role: row.role, joined_seq: row.joined_seq }));
            Some(Chat::restore(chat, &snapshot, members).map_err(unreadable)?)
        }
        None => None,
    };
    loop {
        let head = state.as_ref().map_or(0, Chat::head);
        let page = store.history(chat, head, HISTORY_ROWS_MAX, HISTORY_BYTES_MAX).await?;
        if page.rows.is_empty() {
            return Ok(state);
        }
        for row in &page.rows {
            match &mut state {
                // Rows of a page have no hole; but were rows let go since the snapshot was read, they begin above it.
                Some(state) if row.entry.seq != state.head() + 1 => {
                    let (head, seq) = (state.head(), row.entry.seq);
                    return Err(Error::corrupt("chat_log", format!("chat {chat} goes on from {head} with {seq}")));
                }
                Some(state) => state.apply(&row.entry),
                None => {
                    state = Some(Chat::create(&row.entry).ok_or_else(|| {
                        Error::corrupt("chat_log", format!("chat {chat} does not begin with its creation"))
                    })?);
                }
            }
        }
    }
}
