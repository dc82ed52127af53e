//! Which rows an edit or a deletion rewrites: its message's, and of a deletion those of all the edits before it.
//!
//! One implementation for all engines, which read and write the rows. The message comes last: whoever finds it deleted
//! has all of its edits erased, so a write that was cut off goes on from where it ended.

use domain::{Entry, Event, LoggedEntry, Seq};

/// The rows that one entry changes.
#[derive(Debug)]
pub(crate) struct Rewrites<'a> {
    by: &'a Entry,
    wants: Option<Seq>,
    edits: Vec<LoggedEntry>,
    message: Option<LoggedEntry>,
}

impl<'a> Rewrites<'a> {
    /// Of an entry that changes nothing there are none.
    pub(crate) fn of(by: &'a Entry) -> Self {
        Self { by, wants: by.changes(), edits: Vec::new(), message: None }
    }

    /// The row that is to be looked at next, until there is none.
    pub(crate) fn wants(&self) -> Option<Seq> {
        self.wants
    }

    /// The row that was wanted, as it stands.
    pub(crate) fn found(&mut self, row: Option<&Entry>) {
        self.wants = None;
        let Some(row) = row else { return };
        let changed = row.changed_by(self.by).map(LoggedEntry::encode);
        let mut before = (0, self.by.seq);
        if let Event::MessageEdited(edit) = &row.event {
            self.edits.extend(changed);
            before = (edit.previous, row.seq);
        } else if let (Event::MessageSent(message), Some(changed)) = (&row.event, changed) {
            // One that has this version or a later one already has its edits erased, too.
            self.message = Some(changed);
            before.0 = message.version.seq();
        }
        // From the message to its last edit, and from each edit to one before it, so it ends.
        let (before, below) = before;
        let deletes = matches!(self.by.event, Event::MessageDeleted { .. });
        self.wants = (deletes && (1..below).contains(&before)).then_some(before);
    }

    /// The rows as they are to be, in the order in which they are to be written.
    pub(crate) fn rows(self) -> impl Iterator<Item = LoggedEntry> {
        self.edits.into_iter().chain(self.message)
    }
}

/// Whether what is stored under the row's seq is of the same entry: as the log has it, or a later version.
pub(crate) fn is_of(stored: &[u8], row: &LoggedEntry) -> bool {
    stored == &row.bytes[..] || {
        let stored = Entry::decode(&bytes::Bytes::copy_from_slice(stored));
        stored.is_ok_and(|stored| stored.is_version_of(&row.entry))
    }
}
