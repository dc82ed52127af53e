//! What an outbox is told and what it wants done; drafts, settlements, and what is kept over a restart.

use proto::v1::{self, ErrorCode, command};

use crate::ChatId;
use crate::machine::Micros;

/// Names one command of this outbox, whatever origin and n it travels under.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SendId(pub u64);

/// What an outbox may hold, and how long it waits.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Most unsettled commands.
    pub count: usize,
    /// Most bytes of unsettled commands.
    pub bytes: usize,
    /// Rejected commands that are remembered, should one turn out to be stored after all (M13).
    pub rejected: usize,
    /// Time without an answer after which a command is sent again on the live socket.
    pub resend_us: Micros,
    /// First wait after `busy`; doubles from there.
    pub busy_us: Micros,
    /// Longest wait of either kind.
    pub longest_us: Micros,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            count: 1_024,
            bytes: 4 << 20,
            rejected: 256,
            resend_us: 5_000_000,
            busy_us: 100_000,
            longest_us: 60_000_000,
        }
    }
}

/// A command to be held and sent.
#[derive(Clone, Debug)]
pub struct Draft {
    /// The chat that it is for.
    pub chat: ChatId,
    /// The chat's head as known now (M14).
    pub basis: u64,
    /// What is asked.
    pub action: command::Action,
}

/// The outbox is at a bound: the caller slows down.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the outbox holds {count} commands of {bytes} bytes and takes no more until some settle")]
pub struct Full {
    /// Commands held.
    pub count: usize,
    /// Their bytes.
    pub bytes: usize,
}

/// The final answer to a command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Settlement {
    /// In the chat's log for good. The chat is another than asked for where a direct chat existed.
    Stored {
        /// The chat that holds it.
        chat: ChatId,
        /// Its place in the chat.
        seq: u64,
        /// Its time, µs since 1970.
        time_us: u64,
    },
    /// Not stored, as far as is known; a correction may follow (M13).
    Rejected {
        /// Why.
        code: ErrorCode,
        /// The chat's head when it was decided; 0 where unknown.
        head: u64,
    },
}

/// One's own entry as a push or a history answer shows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sighting {
    /// The chat.
    pub chat: ChatId,
    /// The entry's place in it.
    pub seq: u64,
    /// The entry's time.
    pub time_us: u64,
    /// The outbox that it came from; 0 for the creation of a chat.
    pub origin: u64,
    /// Its number there; 0 for the creation of a chat.
    pub n: u64,
}

/// What the server knows a command by; the creation of a chat has origin 0 and n 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Identity {
    /// The chat that was asked for.
    pub chat: ChatId,
    /// The outbox.
    pub origin: u64,
    /// The number.
    pub n: u64,
}

/// What happens to an outbox.
#[derive(Clone, Debug)]
pub enum Input {
    /// A socket is signed in: everything unsettled is sent again, in order.
    Opened,
    /// The socket is gone.
    Closed,
    /// Time has passed; see [`Outbox::deadline`].
    Tick,
    /// The server has a command in its log.
    Accepted(SendId),
    /// The server's answer.
    Outcome(SendId, v1::Outcome),
    /// An error frame in reply to a command.
    Refused {
        /// The command.
        id: SendId,
        /// Why.
        code: ErrorCode,
        /// Whether it may be sent again unchanged.
        retryable: bool,
        /// Not before this time has passed.
        retry_after_us: Micros,
    },
    /// One's own entry was seen.
    Seen(Sighting),
    /// The chat is known through `through`, all own entries up to there were shown; `fresh` are random bits.
    Read {
        /// The chat.
        chat: ChatId,
        /// Known without a hole up to here.
        through: u64,
        /// Becomes the chat's new origin if one is needed.
        fresh: u64,
    },
    /// The chat's history cannot be read.
    Unreadable {
        /// The chat.
        chat: ChatId,
        /// Why.
        code: ErrorCode,
    },
}

/// What an outbox wants done.
#[derive(Clone, Debug)]
pub enum Action {
    /// Send this command.
    Send(SendId, v1::Command),
    /// Know the chat at least through `head`, then answer with [`Input::Read`].
    Read {
        /// The chat.
        chat: ChatId,
        /// How far.
        head: u64,
    },
    /// Tell the caller: in the server's log.
    Accepted(SendId),
    /// Tell the caller: settled. Once a command.
    Settled(SendId, Identity, Settlement),
    /// Tell the caller: what was rejected turned out to be stored (M13).
    Corrected(SendId, Identity, Settlement),
}

/// An outbox as it is kept over a restart of the program.
#[derive(Clone, Debug, Default)]
pub struct Kept {
    /// The next command's id.
    pub next_id: u64,
    /// Chats with unsettled commands.
    pub lanes: Vec<KeptLane>,
    /// Commands whose rejection is final only until they turn up stored (M13).
    pub rejected: Vec<KeptRejected>,
}

/// One rejected command of a kept outbox.
#[derive(Clone, Debug)]
pub struct KeptRejected {
    /// Its id.
    pub id: SendId,
    /// What it travelled under.
    pub keys: Vec<Identity>,
}

/// One chat of a kept outbox.
#[derive(Clone, Debug)]
pub struct KeptLane {
    /// The chat.
    pub chat: ChatId,
    /// Unsettled commands, in the order of their making.
    pub sends: Vec<KeptSend>,
}

/// One unsettled command of a kept outbox.
#[derive(Clone, Debug)]
pub struct KeptSend {
    /// Its id.
    pub id: SendId,
    /// The origin that numbers it; 0 for the creation of the chat.
    pub origin: u64,
    /// Its number; 0 for the creation of the chat.
    pub n: u64,
    /// The head known when it was made.
    pub basis: u64,
    /// What is asked.
    pub action: command::Action,
}
