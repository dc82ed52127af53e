//! The models' rows, as the fold makes them.

use bytes::Bytes;
use domain::{ChatId, ChatKind, Micros, Ordinal, Policy, Seq, UserId, Watermark};

/// How much of the last message a list shows: its first bytes, cut without regard to what they mean.
pub const PREVIEW_BYTES: usize = 256;

/// A chat in a user's list; a left one stays.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stay {
    /// The entry that began the latest stay.
    pub joined_seq: Seq,
    /// The entry that ended it.
    pub left_seq: Option<Seq>,
}

/// What a list shows of a chat's last message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Preview {
    /// Its seq.
    pub seq: Seq,
    /// Whose it is.
    pub sender: UserId,
    /// Its time.
    pub time: Micros,
    /// Bytes of its whole body.
    pub length: u32,
    /// At most [`PREVIEW_BYTES`] of them.
    pub body: Bytes,
    /// It is deleted, and nothing of it left.
    pub deleted: bool,
}

/// What a list shows of a chat.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Summary {
    /// Its highest seq.
    pub head: Seq,
    /// How many messages it has.
    pub ordinal: Ordinal,
    /// The lowest seq that is still kept.
    pub first_seq: Seq,
    /// The last message; none before the first.
    pub preview: Option<Preview>,
    /// The time of the last entry.
    pub activity: Micros,
    /// The chat's kind.
    pub kind: ChatKind,
}

impl Preview {
    /// With this body; none: deleted.
    pub(super) fn with(self, body: Option<&Bytes>) -> Self {
        let said = body.map_or(&[][..], |body| body);
        Self {
            length: u32::try_from(said.len()).unwrap_or(u32::MAX),
            // A copy: a slice would keep the whole record in memory.
            body: Bytes::copy_from_slice(&said[..said.len().min(PREVIEW_BYTES)]),
            deleted: body.is_none(),
            ..self
        }
    }
}

impl Summary {
    /// Another body for what is shown, if that is this message; none: it is deleted, and stays so.
    pub(super) fn change(&mut self, seq: Seq, body: Option<&Bytes>) {
        if let Some(preview) = self.preview.take_if(|preview| preview.seq == seq && !preview.deleted) {
            self.preview = Some(preview.with(body));
        }
    }

    /// Of a chat of which nothing is folded yet, not even the entry that makes it.
    pub(super) fn first(first_seq: Seq, kind: ChatKind) -> Self {
        Self { head: 0, ordinal: 0, first_seq, preview: None, activity: 0, kind }
    }
}

/// What a chat is called.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Name {
    /// The entry that says so.
    pub seq: Seq,
    /// Empty: it has no name any more.
    pub text: Box<str>,
}

/// What holds in a chat since an entry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fact<T> {
    /// The entry that says so.
    pub seq: Seq,
    /// What it says.
    pub is: T,
}

/// What a user thinks of a message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reaction {
    /// Empty: none any more.
    pub text: Box<str>,
    /// The entry that says so.
    pub by: Seq,
}

/// One atomic write: rows, and how far they go.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Projected {
    /// Lists that changed.
    pub stays: Vec<(UserId, ChatId, Stay)>,
    /// Summaries that changed.
    pub summaries: Vec<(ChatId, Summary)>,
    /// Names that changed.
    pub names: Vec<(ChatId, Name)>,
    /// Policies that changed.
    pub policies: Vec<(ChatId, Fact<Policy>)>,
    /// Chats whose pins changed: the messages, the latest last.
    pub pins: Vec<(ChatId, Fact<Vec<Seq>>)>,
    /// Reactions that changed, by chat, message and user.
    pub reactions: Vec<((ChatId, Seq, UserId), Reaction)>,
    /// Messages that have no reactions any more, and the entries that deleted them.
    pub deleted: Vec<(ChatId, Seq, Seq)>,
    /// Watermarks that may have moved.
    pub watermarks: Vec<(ChatId, UserId, Watermark)>,
    /// Sequence in EVENTS-p of the last record folded.
    pub events: Seq,
    /// Sequence in STATUS-p of the last record folded.
    pub statuses: Seq,
}
