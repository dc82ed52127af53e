//! What a client can see, and one line of a history in plain words.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Chat, Client, Hash, User};

/// One line of a history.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Line {
    /// Grows with every observation of the run, whoever made it.
    pub index: u64,
    pub client: Client,
    pub saw: Observation,
}

/// Something that one client did, was told or was shown, in the order in which it happened to it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Observation {
    /// First line of a client: whose device it is. Written by [`crate::Recorder::client`].
    Started {
        user: User,
        device: String,
    },
    /// The client's timeline of a chat begins above this seq: it holds what is older, or never asked for it.
    ///
    /// A client that was connected before starts again here: what lies above is shown once more.
    Resumed {
        chat: Chat,
        through: u64,
        /// Of the chat's partition, as it was kept; 0: none was.
        epoch: u64,
    },
    Connected,
    Disconnected,
    /// Ended on purpose: its unsettled sends need no outcome.
    Stopped,
    /// From here on, all that happens in the partition's chats is pushed.
    Ready {
        partition: u16,
        epoch: u64,
    },
    /// The server named the chat's head for this user.
    HeadTold {
        chat: Chat,
        head: u64,
    },
    /// The client holds, and shows as whole, everything up to the heads that it was told.
    CaughtUp {
        partition: u16,
    },
    /// The client noticed a gap or was resynced: not caught up until it says so again.
    FellBehind {
        partition: u16,
    },
    /// A command left for the server, first time or again.
    Sent {
        send: SendKey,
        /// Compared with the entry's `content`; `None` where the two are not comparable.
        content: Option<Hash>,
        /// µs, of the run's own clock.
        at: u64,
    },
    Accepted {
        send: SendKey,
    },
    Outcome {
        send: SendKey,
        answer: Answer,
    },
    /// An entry as it came, duplicates too.
    Entry {
        via: Via,
        /// Of the chat's partition, as the frame says it.
        epoch: u64,
        entry: SeenEntry,
    },
    /// The user was shown the next entry of a chat.
    Shown {
        chat: Chat,
        seq: u64,
        /// In the place of what another epoch said.
        replaces: bool,
    },
    /// A history answer's frame; its entries are [`Observation::Entry`] lines before it.
    HistoryAnswer {
        chat: Chat,
        after: u64,
        through: u64,
        seqs: Vec<u64>,
    },
    /// A watermark as it came, before any merging.
    Watermark {
        chat: Chat,
        user: User,
        delivered: u64,
        seen: u64,
    },
    /// What a member reads of the whole chat when the run is over and quiet.
    FinalHistory {
        chat: Chat,
        reader: User,
        through: u64,
        entries: Vec<SeenEntry>,
    },
}

/// A command's identity, together with the user who sends it. A `CreateChat` has origin 0 and n 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct SendKey {
    pub chat: Chat,
    pub origin: u64,
    pub n: u64,
}

impl SendKey {
    /// Whether it names a `CreateChat`, whose identity is the chat id.
    pub fn is_creation(&self) -> bool {
        self.origin == 0 && self.n == 0
    }
}

/// The final answer to a command.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Answer {
    /// `chat` is another than asked for only where a direct chat existed already.
    Stored { chat: Chat, seq: u64, time: u64 },
    /// With the wire's error code.
    Rejected { code: u32 },
}

/// How an entry reached the client.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Via {
    Push,
    History,
    /// Read out of a model that was dropped and built again.
    Rebuilt,
}

/// An entry as a client decoded it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SeenEntry {
    pub chat: Chat,
    pub seq: u64,
    pub ordinal: u64,
    pub sender: User,
    pub origin: u64,
    pub n: u64,
    pub time: u64,
    /// Of the entry's encoded bytes.
    pub hash: Hash,
    /// Of what was asked for: a message's or an edit's body.
    pub content: Hash,
    /// The edit or deletion that made this version; 0: of an edit, the deletion of its message; none: as it was pushed.
    #[serde(default)]
    pub changed: Option<u64>,
    pub event: Content,
}

/// What an entry did to the chat's membership. Kinds and roles are the wire's numbers.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Content {
    ChatCreated {
        kind: i32,
        members: Vec<(User, i32)>,
    },
    MemberAdded {
        user: User,
        role: i32,
    },
    MemberRemoved {
        user: User,
    },
    MemberLeft,
    RoleSet {
        user: User,
        role: i32,
    },
    ChatRenamed,
    /// The user is an owner in the place of the sender, who is an admin.
    OwnershipTransferred {
        user: User,
    },
    Message,
    /// The message at this seq has another body.
    Edited {
        seq: u64,
    },
    /// The message at this seq is taken back.
    Deleted {
        seq: u64,
    },
    /// The sender's reaction to the message at this seq is another.
    Reacted {
        seq: u64,
    },
    /// Something else holds in the chat.
    PolicySet {
        /// All of it.
        policy: Policy,
        /// What was asked for.
        change: Policy,
    },
    /// The message at this seq is pinned, or no more.
    Pinned {
        seq: u64,
        unpinned: bool,
        /// All that are pinned now.
        pins: Vec<u64>,
    },
    /// Begins a chat whose history an operator brings in.
    ImportBegun {
        kind: i32,
    },
    /// Lets the members in; what is before is theirs too.
    ImportEnded {
        members: Vec<(User, i32)>,
    },
}

/// What holds in a chat, as far as it is said.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct Policy {
    /// Members may add members and readers.
    pub members_add: Option<bool>,
    /// Seconds from one entry to the next of who is no owner or admin; 0: off.
    pub slow_mode_s: Option<u32>,
}

impl Policy {
    /// With what another one says.
    pub(crate) fn with(self, change: Self) -> Self {
        Self {
            members_add: change.members_add.or(self.members_add),
            slow_mode_s: change.slow_mode_s.or(self.slow_mode_s),
        }
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}] {} {}", self.index, self.client, self.saw)
    }
}

impl fmt::Display for SendKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_creation() {
            write!(f, "the creation of chat {}", self.chat)
        } else {
            write!(f, "send {} of origin {:016x} in chat {}", self.n, self.origin, self.chat)
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stored { chat, seq, time } => write!(f, "stored in chat {chat} at seq {seq}, time {time}"),
            Self::Rejected { code } => write!(f, "rejected with code {code}"),
        }
    }
}

impl fmt::Display for SeenEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { chat, seq, ordinal, sender, origin, n, time, hash, content: _, changed, event } = self;
        if let Some(by) = changed {
            write!(f, "as changed by {by}, ")?;
        }
        write!(
            f,
            "chat {chat} seq {seq} (ordinal {ordinal}, {event:?} by {sender}, origin {origin:016x} n {n}, time {time}, \
             bytes {hash})"
        )
    }
}

impl fmt::Display for Observation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Started { user, device } => write!(f, "is device {device} of user {user}"),
            Self::Resumed { chat, through, epoch } => {
                write!(f, "begins chat {chat} above seq {through} of epoch {epoch}")
            }
            Self::Connected => f.write_str("connected"),
            Self::Disconnected => f.write_str("was disconnected"),
            Self::Stopped => f.write_str("stopped"),
            Self::Ready { partition, epoch } => {
                write!(f, "was told that partition {partition} is ready in epoch {epoch}")
            }
            Self::HeadTold { chat, head } => write!(f, "was told head {head} of chat {chat}"),
            Self::CaughtUp { partition } => write!(f, "caught up in partition {partition}"),
            Self::FellBehind { partition } => write!(f, "fell behind in partition {partition}"),
            Self::Sent { send, content, at } => write!(f, "sent {send} at {at} µs, content {content:?}"),
            Self::Accepted { send } => write!(f, "got accepted for {send}"),
            Self::Outcome { send, answer } => write!(f, "got the outcome of {send}: {answer}"),
            Self::Entry { via: Via::Push, epoch, entry } => write!(f, "was pushed in epoch {epoch} {entry}"),
            Self::Entry { via: Via::History, epoch, entry } => write!(f, "read in history of epoch {epoch} {entry}"),
            Self::Entry { via: Via::Rebuilt, entry, .. } => write!(f, "read in a rebuilt model {entry}"),
            Self::Shown { chat, seq, replaces: false } => write!(f, "was shown seq {seq} of chat {chat}"),
            Self::Shown { chat, seq, replaces: true } => {
                write!(f, "was shown seq {seq} of chat {chat} in place of another")
            }
            Self::HistoryAnswer { chat, after, through, seqs } => {
                write!(f, "got history of chat {chat} after {after} through {through}: {} entries", seqs.len())?;
                if let (Some(first), Some(last)) = (seqs.first(), seqs.last()) {
                    write!(f, ", {first} to {last}")?;
                }
                Ok(())
            }
            Self::Watermark { chat, user, delivered, seen } => {
                write!(f, "was told that user {user} got chat {chat} through {delivered} and saw it through {seen}")
            }
            Self::FinalHistory { chat, reader, through, entries } => {
                write!(f, "read the final history of chat {chat} as {reader}: {} entries", entries.len())?;
                write!(f, ", whole through {through}")
            }
        }
    }
}
