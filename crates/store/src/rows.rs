//! What goes into the store and comes out of it: rows, and the writes that carry them.
//!
//! Plain data. A log row is a [`LoggedEntry`]: its columns (chat, seq, ordinal, kind, sender, origin, n, time, schema) are
//! fields of the entry, its bytes the entry's own.

use bytes::Bytes;
use domain::{
    ChatId, ChatKind, Epoch, LoggedEntry, Micros, Ordinal, Partition, PartitionPosition, Policy, Role, Seq, UserId,
    Watermark,
};

use crate::ChatSetting;

/// What ingest appends after it published: rows of some chats and the partition's new position.
///
/// Order of an append: member rows, log rows, position. The embedded engine writes it as one atomic batch.
#[derive(Clone, Debug)]
pub struct Append {
    /// The partition that all of its chats belong to.
    pub partition: Partition,
    /// What is folded and appended once these rows are written.
    pub position: PartitionPosition,
    /// The rows, a part a chat.
    pub chats: Vec<ChatAppend>,
}

/// The rows of one chat within an [`Append`].
#[derive(Clone, Debug)]
pub struct ChatAppend {
    /// The chat.
    pub chat: ChatId,
    /// Intervals that began or ended with these rows.
    pub members: Vec<MemberRow>,
    /// Roles that changed within stays that are stored, or among `members`.
    pub roles: Vec<RoleRow>,
    /// Log rows in seq order.
    pub rows: Vec<LoggedEntry>,
    /// An encoded `heliograph.log.v1.ChatSnapshot` as of the last of these rows, or of an earlier one.
    pub snapshot: Option<Bytes>,
}

/// One stay of a user in a chat; a later stay is a row of its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MemberRow {
    /// The chat.
    pub chat: ChatId,
    /// The member.
    pub user: UserId,
    /// The entry that made the user a member.
    pub joined_seq: Seq,
    /// What the member may do: as of the last change, which may be of an entry that is not stored yet.
    pub role: Role,
    /// The entry that ended the stay. The interval is inclusive: its member gets and keeps that entry.
    pub left_seq: Option<Seq>,
}

impl MemberRow {
    /// Whether the user is a member in the state after the entry `seq`.
    pub fn is_member_after(&self, seq: Seq) -> bool {
        self.joined_seq <= seq && self.left_seq.is_none_or(|left| left > seq)
    }

    /// Whether who stayed so may read the entry `seq`: both ends of the stay are shown.
    pub fn shows(&self, seq: Seq) -> bool {
        self.joined_seq <= seq && self.left_seq.is_none_or(|left| left >= seq)
    }
}

/// Another role of a member: a cell of its stay, which follows the highest `seq` (M8).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RoleRow {
    /// The member.
    pub user: UserId,
    /// Which stay.
    pub joined_seq: Seq,
    /// What the member may do from now on.
    pub role: Role,
    /// The entry that says so.
    pub seq: Seq,
}

/// A whole part of a chat's log.
#[derive(Clone, Debug)]
pub struct HistoryPage {
    /// Rows in seq order with no hole among them.
    pub rows: Vec<LoggedEntry>,
    /// The highest seq with no missing row at or below it, within the limits (M22).
    pub through: Seq,
    /// The lowest seq that is still kept.
    pub first_seq: Seq,
}

/// Who reads a partition's streams and keeps a checkpoint.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Reader {
    /// The read models.
    Projections,
    /// Pushes to online sessions.
    Delivery,
    /// Notifications to devices of members who are offline.
    Push,
}

/// How far a reader got in a partition's streams.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Checkpoint {
    /// The streams' identity; a checkpoint of another epoch is never trusted.
    pub epoch: Epoch,
    /// Sequence in EVENTS-p; 0: before the first.
    pub events: Seq,
    /// Sequence in STATUS-p; 0: before the first.
    pub statuses: Seq,
}

/// What projections fold out of some records, with the checkpoint beside it: one atomic, forward-only write.
#[derive(Clone, Debug)]
pub struct Projection {
    /// Whose checkpoint it is.
    pub reader: Reader,
    /// The partition that the records came from.
    pub partition: Partition,
    /// Rows of `chats_by_user`: a later stay wins, and of one stay its end.
    pub user_chats: Vec<UserChatRow>,
    /// Rows of `chat_summaries`: the higher head wins.
    pub summaries: Vec<SummaryRow>,
    /// Rows of `chat_names`: the higher seq wins.
    pub names: Vec<NameRow>,
    /// Rows of `chat_facts`: the higher seq wins.
    pub facts: Vec<FactRow>,
    /// Rows of `reactions`: the later entry wins.
    pub reactions: Vec<ReactionRow>,
    /// Messages that are deleted, and by which entries: they have no reactions any more, and get none.
    pub deleted: Vec<(ChatId, Seq, Seq)>,
    /// Rows of `watermarks`: merged by maximum.
    pub watermarks: Vec<(ChatId, UserId, Watermark)>,
    /// How far the records go.
    pub checkpoint: Checkpoint,
}

impl Projection {
    /// Records that come to no rows.
    pub const fn bare(reader: Reader, partition: Partition, checkpoint: Checkpoint) -> Self {
        Self {
            reader,
            partition,
            user_chats: Vec::new(),
            summaries: Vec::new(),
            names: Vec::new(),
            facts: Vec::new(),
            reactions: Vec::new(),
            deleted: Vec::new(),
            watermarks: Vec::new(),
            checkpoint,
        }
    }
}

/// A chat in a user's list. A left chat stays.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UserChatRow {
    /// Whose list it is.
    pub user: UserId,
    /// The chat.
    pub chat: ChatId,
    /// The entry that began the latest stay.
    pub joined_seq: Seq,
    /// The entry that ended it.
    pub left_seq: Option<Seq>,
}

/// What a list shows of a chat's last message. The order is that of its fields.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Preview {
    /// The message's seq.
    pub seq: Seq,
    /// Whose it is.
    pub sender: UserId,
    /// Its time.
    pub time: Micros,
    /// Bytes of the whole body.
    pub length: u32,
    /// The first of them; what they mean is not looked at.
    pub body: Bytes,
    /// The message is deleted: nothing of it is left to show.
    pub deleted: bool,
}

/// In the place of a deleted message's first bytes: more of them than it has is what no other one shows, and what a version
/// from before deletions can read.
const DELETED: &[u8] = &[0];

impl Preview {
    /// Length and first bytes as they are stored.
    pub(crate) fn put(&self) -> (u32, &[u8]) {
        if self.deleted { (0, DELETED) } else { (self.length, &self.body) }
    }

    /// As stored by [`Self::put`].
    pub(crate) fn of(seq: Seq, sender: UserId, time: Micros, length: u32, body: Bytes) -> Self {
        let deleted = length == 0 && &body[..] == DELETED;
        Self { seq, sender, time, length, body: if deleted { Bytes::new() } else { body }, deleted }
    }
}

/// What a list shows of a chat.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SummaryRow {
    /// The chat.
    pub chat: ChatId,
    /// Its highest seq.
    pub head: Seq,
    /// How many messages it had up to the head.
    pub ordinal: Ordinal,
    /// The lowest seq that is still kept.
    pub first_seq: Seq,
    /// The last message; none before the first.
    pub preview: Option<Preview>,
    /// When something last happened.
    pub activity: Micros,
    /// The chat's kind.
    pub kind: ChatKind,
}

/// What holds in a chat, but for what it is called.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fact {
    /// What its members may do.
    Policy(Policy),
    /// The messages that are pinned, the latest last.
    Pins(Vec<Seq>),
}

/// One of a chat's facts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FactRow {
    /// The chat.
    pub chat: ChatId,
    /// The entry that says so.
    pub seq: Seq,
    /// What it says.
    pub fact: Fact,
}

/// All facts of a chat; what no entry says is as it was made.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct ChatFacts {
    /// What its members may do.
    pub policy: Policy,
    /// The messages that are pinned, the latest last; one that was deleted since may be among them.
    pub pins: Vec<Seq>,
}

impl Extend<Fact> for ChatFacts {
    fn extend<T: IntoIterator<Item = Fact>>(&mut self, facts: T) {
        for fact in facts {
            match fact {
                Fact::Policy(policy) => self.policy = policy,
                Fact::Pins(pins) => self.pins = pins,
            }
        }
    }
}

/// A user's reaction to a message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReactionRow {
    /// The chat.
    pub chat: ChatId,
    /// The message.
    pub seq: Seq,
    /// Whose it is.
    pub user: UserId,
    /// Empty: none any more.
    pub reaction: Box<str>,
    /// The entry that says so.
    pub by: Seq,
}

/// The reactions to a run of messages.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reactions {
    /// By message, then by user; what was taken away is not among them.
    pub rows: Vec<ReactionRow>,
    /// Those to all messages up to this seq are there.
    pub through: Seq,
}

/// What a chat is called.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NameRow {
    /// The chat.
    pub chat: ChatId,
    /// The entry that says so.
    pub seq: Seq,
    /// Empty: it has no name any more.
    pub name: Box<str>,
}

/// One line of a user's heads: the list joined with summary and own watermark.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Head {
    /// The chat.
    pub chat: ChatId,
    /// The chat's head for this user: for one who left, the seq of the leaving.
    pub head: Seq,
    /// How many messages the chat had up to that head.
    pub ordinal: Ordinal,
    /// The lowest seq that is still kept.
    pub first_seq: Seq,
    /// When the latest stay began.
    pub joined_seq: Seq,
    /// When it ended.
    pub left_seq: Option<Seq>,
    /// The user's own watermark.
    pub watermark: Watermark,
}

/// One line of a user's list of chats, with no more of the chat than the user's latest stay shows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ChatLine {
    /// The chat's head for this user.
    pub head: Head,
    /// For one who left as of the leaving, its preview only if it is of the stay; none: not folded yet.
    pub summary: Option<SummaryRow>,
    /// What the chat is called; none for one who left before it was called so.
    pub name: Option<Box<str>>,
    /// How the user wants to see it, if that was ever said.
    pub setting: Option<ChatSetting>,
}

/// A member of a chat and how far it has got and read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Receipt {
    /// The member.
    pub user: UserId,
    /// Its watermark; zero before the first one.
    pub watermark: Watermark,
}
