//! What goes into one partition's machine and what comes out of it.

use bytes::Bytes;
use domain::{ChatId, Epoch, GatewayId, LoggedEntry, Ordinal, Seq, TenureId};
use prost::Message as _;
use proto::log::{EventBatch, StatusBatch};
use proto::relay::{Receipt, ToGateway};

use super::hot::Membership;

/// Bounds of one partition's delivery.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Most bytes of hot chats that are kept beyond those of the records in work.
    pub hot_bytes_max: usize,
    /// Most users whose status waits for its publish or for the table.
    pub statuses_max: usize,
    /// Most receipts that wait for members or for an ordinal.
    pub receipts_max: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { hot_bytes_max: 32 * 1024 * 1024, statuses_max: 65_536, receipts_max: 16_384 }
    }
}

/// One record of EVENTS-p, decoded.
#[derive(Clone, Debug)]
pub struct EventRecord {
    /// Its sequence in the stream.
    pub sequence: Seq,
    /// Its entries, in order of decision.
    pub entries: Vec<LoggedEntry>,
}

impl EventRecord {
    /// Decodes a record's payload and says of which epoch it is.
    pub fn decode(sequence: Seq, payload: Bytes) -> Result<(Epoch, Self), crate::Error> {
        let batch = EventBatch::decode(payload).map_err(|source| crate::Error::Record { sequence, source })?;
        if batch.schema > domain::limits::SCHEMA {
            return Err(crate::Error::Schema { sequence, schema: batch.schema });
        }
        let entry = |bytes| LoggedEntry::decode(bytes).map_err(|source| crate::Error::Entry { sequence, source });
        let entries = batch.entries.into_iter().map(entry).collect::<Result<_, _>>()?;
        Ok((Epoch(batch.epoch), Self { sequence, entries }))
    }
}

/// How long a load may wait for a row.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Patience {
    /// For an event: until ingest has appended the entry before it.
    Long,
    /// For a receipt: not at all, the client asserts it again.
    None,
}

/// What one partition's delivery is told.
#[derive(Debug)]
pub enum Input {
    /// The partition was acquired; events after this sequence are expanded, numbers start at 1 (M15).
    Took {
        /// This acquisition.
        owner: TenureId,
        /// The streams' epoch.
        epoch: Epoch,
        /// Sequence in EVENTS-p of the checkpoint.
        after: Seq,
    },
    /// Records in order, the first one next to what was given before.
    Events(Vec<EventRecord>),
    /// The members that an [`Action::LoadMembers`] asked for.
    Members {
        /// The chat.
        chat: ChatId,
        /// The `at_least` of the load.
        at_least: Seq,
        /// The patience of the load.
        patience: Patience,
        /// All memberships that the store holds; none if the row was not there in time.
        rows: Option<Vec<Membership>>,
    },
    /// The ordinal that an [`Action::ReadOrdinal`] asked for; none if the row is not there.
    Ordinal {
        /// The chat.
        chat: ChatId,
        /// The entry.
        seq: Seq,
        /// How many messages the chat had up to it.
        ordinal: Option<Ordinal>,
    },
    /// The mirror holds this version.
    Announced {
        /// Who announced.
        gateway: GatewayId,
        /// What the mirror holds of it.
        version: u64,
    },
    /// The mirror forgot this gateway.
    Forgotten(GatewayId),
    /// A gateway's receipts.
    Receipts(Vec<Receipt>),
    /// The statuses handed out last are published at this sequence; none: not published.
    StatusesPublished(Option<Seq>),
    /// Statuses up to this sequence stand in the table.
    Written {
        /// Of STATUS-p.
        epoch: Epoch,
        /// Sequence in STATUS-p.
        statuses: Seq,
    },
    /// About once a second.
    Tick,
}

/// What was dropped; each kind has a counter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Dropped {
    /// A receipt of somebody who never was a member.
    NotMember,
    /// A receipt that names no chat of this partition or no user.
    BadReceipt,
    /// A receipt above a bound, or for a chat that the store does not hold so far.
    Receipt,
    /// An echo above the bound.
    Echo,
}

impl Dropped {
    /// The counter's label.
    pub fn label(self) -> &'static str {
        match self {
            Self::NotMember => "not_member",
            Self::BadReceipt => "bad_receipt",
            Self::Receipt => "receipt",
            Self::Echo => "echo",
        }
    }
}

/// What one partition's delivery wants done.
#[derive(Debug)]
pub enum Action {
    /// Send to a gateway, in order. What cannot be sent may be dropped: its number is then missing.
    Send {
        /// To whom.
        gateway: GatewayId,
        /// What.
        message: ToGateway,
    },
    /// Read all memberships of a chat that the store holds at least through this seq.
    LoadMembers {
        /// The chat.
        chat: ChatId,
        /// The row that must be there.
        at_least: Seq,
        /// How long to wait for it.
        patience: Patience,
    },
    /// Read the ordinal of an entry's row.
    ReadOrdinal {
        /// The chat.
        chat: ChatId,
        /// The entry.
        seq: Seq,
    },
    /// Publish to STATUS-p and report by [`Input::StatusesPublished`]; one at a time.
    PublishStatuses(StatusBatch),
    /// Keep the checkpoint.
    Checkpoint {
        /// Sequence in EVENTS-p.
        events: Seq,
    },
    /// Count what was dropped.
    Dropped(Dropped),
}
