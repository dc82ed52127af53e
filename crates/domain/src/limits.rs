//! Bounds that every hop relies on, each with its reason.

/// Largest message body, in bytes: what a push frame and a row carry with ease; larger things are files.
pub const BODY_BYTES_MAX: usize = 16 * 1024;
/// Most users that one message mentions: what a person types, and less than a twentieth of its body's bytes.
pub const MENTIONS_MAX: usize = 50;
/// Longest name of a chat, in bytes of UTF-8: one line of a list, in any script.
pub const NAME_BYTES_MAX: usize = 256;
/// Longest reaction, in bytes of UTF-8: an emoji of several parts, or the name of a picture.
pub const REACTION_BYTES_MAX: usize = 64;
/// Most pinned messages of a chat: they are part of its state, and one read.
pub const PINS_MAX: usize = 50;
/// Slowest slow mode, in seconds: far below the time that a sender's last entry is remembered.
pub const SLOW_MODE_S_MAX: u32 = 21_600;
/// Largest client frame, in bytes: a body or a thousand members with room to spare.
pub const FRAME_BYTES_MAX: usize = 64 * 1024;
/// Most members of one chat until large chats are expanded at the gateways.
pub const MEMBERS_MAX: usize = 1_000;
/// Largest packed record, in bytes: one fsync carries much, and a reader's memory stays small.
pub const RECORD_BYTES_MAX: usize = 256 * 1024;
/// A client keeps n − (lowest unsettled n) below this, and the fold remembers as many outcomes an origin (M11).
pub const OUTBOX_SPAN: u64 = 32;
/// How long an origin is remembered after its last entry, in µs of event time.
pub const ORIGIN_KEPT_US: u64 = 24 * 3_600 * 1_000_000;
/// Most origins of one sender in one chat: its devices, with room for reinstalls.
pub const ORIGINS_PER_SENDER_MAX: usize = 32;
/// Most origins of one chat: bounds the chat's state.
pub const ORIGINS_PER_CHAT_MAX: usize = 4_096;
/// Most entries of one history answer.
pub const HISTORY_ENTRIES_MAX: u32 = 256;
/// Schema version written into entries, records and snapshots.
pub const SCHEMA: u32 = 1;
