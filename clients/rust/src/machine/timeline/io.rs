//! What a timeline is told and what it wants done; its entries, its bounds, and where it left off.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message as _;
use proto::v1::{self, ErrorCode, entry};
use xxhash_rust::xxh3::xxh3_64;

use crate::machine::Micros;
use crate::{ChatId, UserId};

/// What a timeline may hold, and how long it waits.
#[derive(Clone, Copy, Debug)]
pub struct TimelineBounds {
    /// Most entries held beyond gaps; further ones are left to history.
    pub held: usize,
    /// Most bytes of them.
    pub held_bytes: usize,
    /// Most history requests under way.
    pub fetches: usize,
    /// Time without an answer after which history is asked again.
    pub fetch_us: Micros,
    /// First wait after a refusal; doubles from there.
    pub rest_us: Micros,
    /// Longest such wait.
    pub longest_us: Micros,
    /// Whether what arrives is claimed as received on its own.
    pub receipts: bool,
}

impl Default for TimelineBounds {
    fn default() -> Self {
        Self {
            held: 1_024,
            held_bytes: 1 << 20,
            fetches: 4,
            fetch_us: 10_000_000,
            rest_us: 50_000,
            longest_us: 10_000_000,
            receipts: true,
        }
    }
}

/// Where a client left off, to go on from after a restart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Known without a hole up to this seq.
    pub known: BTreeMap<ChatId, u64>,
    /// The epoch of each partition.
    pub epochs: BTreeMap<u32, u64>,
}

/// One entry of a chat with the hash of its bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The chat.
    pub chat: ChatId,
    /// xxh3-64 of the encoded entry.
    pub hash: u64,
    /// The entry.
    pub entry: v1::Entry,
}

impl Entry {
    /// Hashes an entry; none if its chat id is not one.
    pub fn new(entry: v1::Entry) -> Option<Self> {
        let chat = ChatId::from_wire(&entry.chat)?;
        let hash = xxh3_64(&entry.encode_to_vec());
        Some(Self { chat, hash, entry })
    }

    /// The body, if this is a message: of an edited one as history has it, the newest.
    pub fn body(&self) -> Option<&Bytes> {
        match &self.entry.event {
            Some(entry::Event::MessageSent(message)) => Some(&message.body),
            Some(
                entry::Event::ChatCreated(_)
                | entry::Event::MemberAdded(_)
                | entry::Event::MemberRemoved(_)
                | entry::Event::MemberLeft(_)
                | entry::Event::RoleSet(_)
                | entry::Event::ChatRenamed(_)
                | entry::Event::OwnershipTransferred(_)
                | entry::Event::MessageEdited(_)
                | entry::Event::MessageDeleted(_)
                | entry::Event::MessageReacted(_)
                | entry::Event::ChatPolicySet(_)
                | entry::Event::MessagePinned(_)
                | entry::Event::ImportBegun(_)
                | entry::Event::ImportEnded(_),
            )
            | None => None,
        }
    }
}

/// What happens to a timeline.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "moved once on its way: a box would cost each push an allocation")]
pub enum TimelineInput {
    /// A socket is signed in as this user, and a new session began.
    Opened(UserId),
    /// A socket is signed in, and the session goes on over it.
    Reopened,
    /// All that the session was pushed without this device getting it has come now.
    Replayed,
    /// The socket is gone.
    Closed,
    /// Time has passed; see [`Timeline::deadline`].
    Tick,
    /// A partition's owner knows this session.
    Ready(v1::Ready),
    /// The user's chats of a partition, or a part of them.
    Heads(v1::Heads),
    /// An entry was pushed.
    Pushed {
        /// The epoch of its partition.
        epoch: u64,
        /// The entry.
        entry: Entry,
    },
    /// History answered a request.
    History {
        /// The request.
        request: u64,
        /// The answer but for its entries.
        epoch: u64,
        /// No entry at or below is missing.
        through: u64,
        /// Ascending.
        entries: Vec<Entry>,
    },
    /// History refused a request.
    Refused {
        /// The request.
        request: u64,
        /// Why.
        code: ErrorCode,
        /// Whether to ask again.
        retryable: bool,
        /// Not before this time has passed.
        retry_after_us: Micros,
    },
    /// The chat is to be known at least through `head`.
    Want {
        /// The chat.
        chat: ChatId,
        /// How far.
        head: u64,
    },
    /// The user read the chat up to here.
    Seen {
        /// The chat.
        chat: ChatId,
        /// How far.
        through: u64,
    },
    /// Everything up to here reached this device; needed only where receipts are not automatic.
    Received {
        /// The chat.
        chat: ChatId,
        /// How far.
        through: u64,
    },
    /// The server's table says how far this user got.
    Echo {
        /// The chat.
        chat: ChatId,
        /// Received up to here.
        delivered: u64,
        /// Read up to here.
        seen: u64,
    },
}

/// What a timeline wants done.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "moved once on its way: a box would cost each push an allocation")]
pub enum TimelineAction {
    /// Show this entry: the next of its chat, or one that replaces what another epoch said.
    Show {
        /// The entry.
        entry: Entry,
        /// It takes the place of one shown before (M7).
        replaces: bool,
    },
    /// Ask history.
    Fetch {
        /// Names the request.
        request: u64,
        /// The chat.
        chat: ChatId,
        /// Entries above this seq.
        after: u64,
        /// Wait until the chat is stored through this seq.
        at_least: u64,
    },
    /// The chat is known without a hole through `seq`.
    Known {
        /// The chat.
        chat: ChatId,
        /// How far.
        seq: u64,
    },
    /// The chat's history is refused for good.
    Unreadable {
        /// The chat.
        chat: ChatId,
        /// Why.
        code: ErrorCode,
    },
    /// Report how far this device got.
    Report {
        /// The chat.
        chat: ChatId,
        /// Received up to here.
        received: Option<u64>,
        /// Read up to here.
        seen: Option<u64>,
    },
    /// All that the partition's chats hold is shown, and what comes will be pushed.
    CaughtUp {
        /// The partition.
        partition: u32,
        /// Its epoch.
        epoch: u64,
    },
}
