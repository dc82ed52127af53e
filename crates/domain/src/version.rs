//! Versions of a message: what an edit or a deletion makes of the row in which it stands.
//!
//! The log says what happened, for ever the same; a row says what there is of it now. What is deleted is gone from the
//! rows, of the message and of its edits, and so from all that is read from them.

use bytes::Bytes;
use proto::v1;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use crate::{Entry, Error, Event, EventKind, Message, Seq, UserId};

/// The content hash of what is gone: it equals that of any content, so that a repeat is answered as stored.
pub(crate) const ANY: u128 = 0;

/// Which version of a message this is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Version {
    /// As it was said.
    #[default]
    Original,
    /// With the body of an edit.
    Edited {
        /// The edit.
        seq: Seq,
        /// The original's [`Event::content_hash`].
        first_hash: u128,
    },
    /// Deleted: nothing of it is left but that it was said.
    Deleted {
        /// The deletion.
        seq: Seq,
    },
}

impl Version {
    /// The entry that made it; 0: the message's own.
    pub const fn seq(&self) -> Seq {
        match self {
            Self::Original => 0,
            Self::Edited { seq, .. } | Self::Deleted { seq } => *seq,
        }
    }

    /// Whether it is deleted.
    pub const fn is_deleted(&self) -> bool {
        matches!(self, Self::Deleted { .. })
    }

    /// Of the fields `edited_seq`, `first_hash` and `deleted_seq`.
    pub(crate) fn from_wire(edited_seq: Seq, first_hash: &[u8], deleted_seq: Seq) -> Result<Self, Error> {
        match (edited_seq, deleted_seq) {
            (0, 0) => Ok(Self::Original),
            (seq, 0) => {
                let hash: [u8; 16] = first_hash.try_into().map_err(|_fault| Error::Missing("first_hash"))?;
                Ok(Self::Edited { seq, first_hash: u128::from_be_bytes(hash) })
            }
            (_, seq) => Ok(Self::Deleted { seq }),
        }
    }
}

/// Another body for a message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Edit {
    /// The message.
    pub seq: Seq,
    /// Opaque bytes.
    pub body: Bytes,
    /// The edit before; 0: none.
    pub previous: Seq,
    /// The message is deleted, and with it the body. Of a row only, never of what is published.
    pub erased: bool,
}

impl Edit {
    pub(crate) fn from_wire(wire: v1::MessageEdited) -> Result<Self, Error> {
        let v1::MessageEdited { seq, body, previous, erased } = wire;
        if seq == 0 { Err(Error::Missing("seq")) } else { Ok(Self { seq, body, previous, erased }) }
    }

    pub(crate) fn to_wire(&self) -> v1::MessageEdited {
        let Self { seq, body, previous, erased } = self.clone();
        v1::MessageEdited { seq, body, previous, erased }
    }

    /// The upper half says of which message, so that the hashes of its edits are found when it is deleted.
    pub(crate) fn content_hash(&self) -> u128 {
        if self.erased {
            return ANY;
        }
        let mut hash = Xxh3::new();
        hash.update(&[EventKind::MessageEdited as u8]);
        hash.update(&self.seq.to_be_bytes());
        hash.update(&self.body);
        u128::from(edits_of(self.seq)) << 64 | u128::from(hash.digest())
    }
}

/// The upper half of the content hashes of a message's edits.
pub(crate) fn edits_of(seq: Seq) -> u64 {
    xxh3_64(&seq.to_be_bytes())
}

/// What stands at a seq, as of a decision: what an edit or a deletion of it is judged by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Target {
    /// No message.
    Missing,
    /// A message.
    Said {
        /// Whose.
        by: UserId,
        /// Its latest edit; 0: none.
        edited: Seq,
    },
    /// A message that is deleted.
    Deleted,
}

impl Target {
    /// What a row says of itself.
    pub const fn of(entry: &Entry) -> Self {
        let Event::MessageSent(message) = &entry.event else { return Self::Missing };
        if message.version.is_deleted() {
            Self::Deleted
        } else {
            Self::Said { by: entry.sender, edited: message.version.seq() }
        }
    }

    /// What an entry makes of the message that it changes, and which one that is.
    pub const fn after(entry: &Entry) -> Option<(Seq, Self)> {
        if let Event::MessageEdited(edit) = &entry.event {
            // Nobody but its sender edits a message.
            return Some((edit.seq, Self::Said { by: entry.sender, edited: entry.seq }));
        }
        if let Event::MessageDeleted { seq } = &entry.event { Some((*seq, Self::Deleted)) } else { None }
    }
}

impl Entry {
    /// The message that this entry edits or deletes.
    pub fn changes(&self) -> Option<Seq> {
        Target::after(self).map(|(seq, _)| seq)
    }

    /// The row of this entry after `by` has changed it.
    ///
    /// None if `by` does not change it, or did so before: versions only move forward (M8). Of an edit, `by` is the
    /// deletion of its message.
    pub fn changed_by(&self, by: &Self) -> Option<Self> {
        if self.chat != by.chat || by.seq <= self.seq {
            return None;
        }
        let event = match (&self.event, &by.event) {
            (Event::MessageSent(message), Event::MessageEdited(edit)) if edit.seq == self.seq => {
                let first_hash = match message.version {
                    _ if edit.erased || message.version.seq() >= by.seq => return None,
                    Version::Original => self.event.content_hash(),
                    Version::Edited { first_hash, .. } => first_hash,
                    Version::Deleted { .. } => return None,
                };
                let version = Version::Edited { seq: by.seq, first_hash };
                Event::MessageSent(Message { body: edit.body.clone(), version, ..message.clone() })
            }
            (Event::MessageSent(message), Event::MessageDeleted { seq }) if *seq == self.seq => {
                if message.version.is_deleted() {
                    return None;
                }
                Event::MessageSent(Message { version: Version::Deleted { seq: by.seq }, ..Message::default() })
            }
            (Event::MessageEdited(edit), Event::MessageDeleted { seq }) if *seq == edit.seq && !edit.erased => {
                Event::MessageEdited(Edit { body: Bytes::new(), erased: true, ..*edit })
            }
            _ => return None,
        };
        Some(Self { event, ..self.clone() })
    }

    /// Whether this row is of the same entry as the row `other`, in the same or a later version.
    ///
    /// So a log that is read again never says other than what is stored.
    pub fn is_version_of(&self, other: &Self) -> bool {
        let place =
            |entry: &Self| (entry.chat, entry.seq, entry.ordinal, entry.sender, entry.origin, entry.n, entry.time);
        let is_later = || match (&self.event, &other.event) {
            (Event::MessageSent(this), Event::MessageSent(that)) => match this.version {
                Version::Deleted { .. } => true,
                Version::Edited { seq, first_hash } => {
                    seq > that.version.seq() && first_hash == other.event.content_hash()
                }
                Version::Original => false,
            },
            (Event::MessageEdited(this), Event::MessageEdited(that)) => {
                this.erased && (this.seq, this.previous) == (that.seq, that.previous)
            }
            _ => false,
        };
        place(self) == place(other) && (self.event == other.event || is_later())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ChatId, Origin};

    fn entry(seq: Seq, event: Event) -> Entry {
        let (chat, sender) = (ChatId::new([7; 16]), UserId::new([1; 16]));
        Entry { chat, seq, ordinal: 1, sender, origin: Origin(9), n: seq, time: 1_000 + seq, event }
    }

    fn edit(seq: Seq, body: &'static str, previous: Seq) -> Entry {
        entry(seq, Event::MessageEdited(Edit { seq: 2, body: body.into(), previous, erased: false }))
    }

    fn version(row: &Entry) -> (&[u8], Version) {
        let Event::MessageSent(message) = &row.event else { panic!("{row:?}") };
        (&message.body, message.version)
    }

    #[test]
    fn a_row_takes_the_latest_of_its_versions_whatever_comes_first() {
        let said = Message { reply_to: Some(1), mention_all: true, ..Message::plain("one") };
        let first = entry(2, Event::MessageSent(said));
        let first_hash = first.event.content_hash();
        let (second, third) = (edit(3, "two", 0), edit(5, "three", 3));
        let row = first.changed_by(&second).unwrap();
        assert_eq!(version(&row), (&b"two"[..], Version::Edited { seq: 3, first_hash }));
        let row = row.changed_by(&third).unwrap();
        assert_eq!(version(&row), (&b"three"[..], Version::Edited { seq: 5, first_hash }));
        assert_eq!((row.changed_by(&second), row.changed_by(&third)), (None, None), "forward only");
        assert_eq!(row.event.content_hash(), first_hash);
        let Event::MessageSent(message) = &row.event else { panic!() };
        assert_eq!((message.reply_to, message.mention_all), (Some(1), true));

        let deletion = entry(6, Event::MessageDeleted { seq: 2 });
        let gone = row.changed_by(&deletion).unwrap();
        let message = Message { version: Version::Deleted { seq: 6 }, ..Message::default() };
        assert_eq!(gone, Entry { event: Event::MessageSent(message), ..first.clone() });
        assert_eq!((gone.changed_by(&third), gone.changed_by(&deletion)), (None, None));
        let erased = second.changed_by(&deletion).unwrap();
        let expected = Edit { seq: 2, body: Bytes::new(), previous: 0, erased: true };
        assert_eq!(erased.event, Event::MessageEdited(expected));
        assert_eq!((erased.changed_by(&deletion), first.changed_by(&erased)), (None, None));
        assert_eq!((gone.event.content_hash(), erased.event.content_hash()), (ANY, ANY));
    }

    #[test]
    fn what_is_about_another_message_or_chat_changes_nothing() {
        let first = entry(2, Event::MessageSent(Message::plain("one")));
        for by in [
            entry(3, Event::MessageDeleted { seq: 1 }),
            entry(2, Event::MessageDeleted { seq: 2 }),
            Entry { chat: ChatId::new([8; 16]), ..edit(3, "two", 0) },
            entry(3, Event::MemberLeft),
        ] {
            assert_eq!(first.changed_by(&by), None, "{by:?}");
        }
        assert_eq!(edit(3, "two", 0).changed_by(&edit(4, "three", 3)), None);
    }

    #[test]
    fn a_later_version_is_of_its_entry_and_of_no_other() {
        let first = entry(2, Event::MessageSent(Message::plain("one")));
        let second = first.changed_by(&edit(3, "two", 0)).unwrap();
        let third = second.changed_by(&edit(4, "three", 3)).unwrap();
        let gone = third.changed_by(&entry(5, Event::MessageDeleted { seq: 2 })).unwrap();
        let all = [&first, &second, &third, &gone];
        for (at, later) in all.iter().enumerate() {
            for (before, earlier) in all.iter().enumerate() {
                assert_eq!(later.is_version_of(earlier), before <= at, "{later:?} of {earlier:?}");
            }
        }
        let other = entry(2, Event::MessageSent(Message::plain("other")));
        assert!(!second.is_version_of(&other), "of another text");
        for other in
            [Entry { n: 9, ..first.clone() }, Entry { time: 9, ..first.clone() }, Entry { ordinal: 2, ..first }]
        {
            assert!(!gone.is_version_of(&other), "{other:?}");
        }
        let deletion = entry(6, Event::MessageDeleted { seq: 2 });
        let erased = edit(3, "two", 0).changed_by(&deletion).unwrap();
        assert!(erased.is_version_of(&edit(3, "two", 0)) && erased.is_version_of(&erased));
        assert!(!erased.is_version_of(&edit(3, "two", 1)) && !edit(3, "two", 0).is_version_of(&erased));
        assert!(!edit(3, "two", 0).is_version_of(&edit(3, "three", 0)));
    }
}
