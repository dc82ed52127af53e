//! What the writer committed lately, so that it need not search the engine for what it compares with (M8).
//!
//! The writer alone writes, so what it remembers is what stands there. Rows of a hot table are written over and over, and
//! the engine keeps each version until its file is written: a search among them costs more than the write itself.

use std::collections::HashMap;

use domain::{ChatId, Seq};
use fjall::Slice;

use super::tables::Table;

/// Most chats whose head is remembered, some 3 MB; at the bound all are forgotten and looked up again as they come.
const HEADS_MAX: usize = 1 << 16;
/// Most bytes of remembered rows, keys and overhead included; at the bound all are forgotten.
const VALUES_BYTES_MAX: usize = 16 << 20;
/// What a remembered row takes beside key and value.
const ROW_OVERHEAD: usize = 96;

/// What the writer committed lately.
#[derive(Debug, Default)]
pub(super) struct Recent {
    /// The highest stored row of chats that were appended to.
    heads: HashMap<ChatId, Seq>,
    /// Rows of tables whose rows are written again and again.
    values: HashMap<(Table, Slice), Slice>,
    values_bytes: usize,
}

impl Recent {
    /// The chat's highest row, if it is known.
    pub(super) fn head(&self, chat: ChatId) -> Option<Seq> {
        self.heads.get(&chat).copied()
    }

    /// The row as it stands, if it is known.
    pub(super) fn value(&self, place: &(Table, Slice)) -> Option<&Slice> {
        self.values.get(place)
    }

    /// A commit raised these heads.
    pub(super) fn appended(&mut self, heads: &HashMap<ChatId, Seq>) {
        if self.heads.len() + heads.len() > HEADS_MAX {
            self.heads.clear();
        }
        for (chat, head) in heads {
            let known = self.heads.entry(*chat).or_default();
            *known = (*known).max(*head);
        }
    }

    /// A commit wrote these rows.
    pub(super) fn wrote(&mut self, rows: Vec<((Table, Slice), Slice)>) {
        for (place, value) in rows {
            let bytes = value.len();
            let key = place.1.len() + ROW_OVERHEAD;
            match self.values.insert(place, value) {
                Some(before) => self.values_bytes -= before.len(),
                None => self.values_bytes += key,
            }
            self.values_bytes += bytes;
        }
        if self.values_bytes > VALUES_BYTES_MAX {
            self.values.clear();
            self.values_bytes = 0;
        }
    }
}

/// Whether rows of the table are worth remembering: those that are compared and written anew each time.
pub(super) const fn is_remembered(table: Table) -> bool {
    match table {
        Table::Partitions | Table::Summaries | Table::Watermarks | Table::Checkpoints => true,
        Table::Log | Table::Snapshots | Table::Members | Table::Direct | Table::UserChats | Table::Meta => false,
        Table::ChatFacts | Table::Reactions => false,
        Table::ChatNames | Table::Users | Table::Handles | Table::LeavingUsers => false,
        Table::Families | Table::UserFamilies | Table::FamilyTimes => false,
        Table::SendClaims | Table::SendClaimTimes => false,
        Table::Devices | Table::Blocks | Table::ChatSettings | Table::Tickets | Table::TicketTimes => false,
        Table::Invites | Table::InviteUses => false,
        Table::ChatInvites | Table::MakerInvites | Table::InviteTimes => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(key: &str, bytes: usize) -> ((Table, Slice), Slice) {
        ((Table::Summaries, Slice::from(key.as_bytes())), Slice::from(vec![7; bytes]))
    }

    #[test]
    fn the_last_write_of_a_row_is_what_stands_there() {
        let mut recent = Recent::default();
        recent.wrote(vec![row("a", 1), row("b", 2)]);
        recent.wrote(vec![row("a", 3)]);
        let (a, value) = row("a", 3);
        assert_eq!(recent.value(&a), Some(&value));
        assert_eq!(recent.values_bytes, 2 * (1 + ROW_OVERHEAD) + 3 + 2);
    }

    #[test]
    fn beyond_its_bytes_all_is_forgotten() {
        let mut recent = Recent::default();
        recent.wrote(vec![row("a", VALUES_BYTES_MAX)]);
        assert_eq!((recent.value(&row("a", 0).0), recent.values_bytes), (None, 0));
        recent.wrote(vec![row("a", 9)]);
        assert!(recent.value(&row("a", 0).0).is_some());
    }

    #[test]
    fn a_head_never_goes_back() {
        let mut recent = Recent::default();
        let chat = ChatId::new([1; 16]);
        recent.appended(&HashMap::from([(chat, 5)]));
        recent.appended(&HashMap::from([(chat, 3)]));
        assert_eq!(recent.head(chat), Some(5));
    }
}
