//! Rows to write: chats, users and entries that no other test uses.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use bytes::Bytes;
use domain::{
    ChatId, ChatKind, CommandPosition, Entry, Epoch, Event, EventPosition, LoggedEntry, Member, Origin, Partition,
    PartitionPosition, Role, Seq, UserId, WriterId,
};
use prost::Message;
use store::{
    Append, ChatAppend, ChatSetting, Checkpoint, DeviceRow, InviteRow, InviteUse, MemberRow, Preview, Projection,
    Reader, RefreshFamily, SendClaim, SendOutcome, Spent, Store, SummaryRow, TicketRow, UserRow, UserState,
};
use tokio::time::Instant;

static DRAWN: AtomicU64 = AtomicU64::new(1);

/// A number that was not drawn before.
fn draw() -> u64 {
    DRAWN.fetch_add(1, Ordering::Relaxed)
}

/// How many cases of a property an engine is asked for: over a network each takes some hundred times as long.
pub(crate) fn cases(store: &Store) -> u32 {
    match store {
        Store::Embedded(_) => 128,
        Store::Cql(_) => 16,
    }
}

/// A chat that no other test knows.
pub(crate) fn new_chat(partition: u16) -> ChatId {
    ChatId::draw(Partition(partition), draw(), draw() << 8)
}

/// A user that no other test knows.
pub(crate) fn new_user() -> UserId {
    let mut bytes = [7; 16];
    bytes[8..].copy_from_slice(&draw().to_be_bytes());
    UserId::new(bytes)
}

/// A partition that no other test in this process writes to.
pub(crate) fn new_partition() -> u16 {
    static PARTITIONS: AtomicU64 = AtomicU64::new(0);
    u16::try_from(PARTITIONS.fetch_add(1, Ordering::Relaxed)).expect("fewer than 4,096 tests")
}

/// Soon, but long for anything that is there.
pub(crate) fn soon() -> Instant {
    Instant::now() + Duration::from_millis(50)
}

/// Long beside anything that is awaited.
pub(crate) fn later() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

/// An entry as it is stored.
pub(crate) fn logged(entry: Entry) -> LoggedEntry {
    let bytes = entry.encode();
    LoggedEntry { entry, bytes }
}

/// The message `seq` of a chat whose every entry but the first is a message.
pub(crate) fn message(chat: ChatId, sender: UserId, seq: Seq, body: &[u8]) -> LoggedEntry {
    logged(Entry {
        chat,
        seq,
        ordinal: seq - 1,
        sender,
        origin: Origin(9),
        n: seq,
        time: 1_000 + seq,
        event: Event::MessageSent(domain::Message::plain(Bytes::copy_from_slice(body))),
    })
}

/// The first entry of a group of one.
pub(crate) fn created(chat: ChatId, creator: UserId) -> LoggedEntry {
    logged(Entry {
        chat,
        seq: 1,
        ordinal: 0,
        sender: creator,
        origin: Origin(0),
        n: 0,
        time: 1_001,
        event: Event::ChatCreated { kind: ChatKind::Group, members: vec![Member { user: creator, role: Role::Owner }] },
    })
}

/// Rows 1 to `head` of a chat: its creation and messages.
pub(crate) fn rows(chat: ChatId, creator: UserId, seqs: impl IntoIterator<Item = Seq>) -> Vec<LoggedEntry> {
    seqs.into_iter()
        .map(|seq| {
            if seq == 1 {
                created(chat, creator)
            } else {
                message(chat, creator, seq, format!("body {seq}").as_bytes())
            }
        })
        .collect()
}

/// A position at one event of one epoch.
pub(crate) fn at(epoch: u64, sequence: Seq) -> PartitionPosition {
    PartitionPosition {
        epoch: Epoch(epoch),
        commands: CommandPosition { sequence, count: 1, time_ns: 5, message_id: format!("m{sequence}") },
        events: EventPosition { sequence, writer: WriterId(4), batch: sequence },
    }
}

/// An append of one chat's rows.
pub(crate) fn append(chat: ChatId, position: PartitionPosition, rows: Vec<LoggedEntry>) -> Append {
    Append {
        partition: chat.partition(),
        position,
        chats: vec![ChatAppend { chat, members: Vec::new(), roles: Vec::new(), rows, snapshot: None }],
    }
}

/// A stay in a chat.
pub(crate) fn stay(chat: ChatId, user: UserId, joined_seq: Seq, left_seq: Option<Seq>) -> MemberRow {
    MemberRow { chat, user, joined_seq, role: Role::Member, left_seq }
}

/// A snapshot that says no more than head and first seq.
pub(crate) fn snapshot(head: Seq, first_seq: Seq) -> Bytes {
    proto::log::ChatSnapshot { schema: 1, head, first_seq, ..Default::default() }.encode_to_vec().into()
}

/// The message at one head.
pub(crate) fn preview(head: Seq) -> Preview {
    Preview {
        seq: head,
        sender: UserId::new([6; 16]),
        time: 1_000 + head,
        length: 500,
        body: Bytes::from(format!("preview {head}")),
        deleted: false,
    }
}

/// A summary at one head.
pub(crate) fn summary(chat: ChatId, head: Seq) -> SummaryRow {
    SummaryRow {
        chat,
        head,
        ordinal: head.saturating_sub(1),
        first_seq: 1,
        preview: Some(preview(head)),
        activity: 1_000 + head,
        kind: ChatKind::Group,
    }
}

/// A projection with nothing but a checkpoint.
pub(crate) fn projection(partition: u16, epoch: u64, events: Seq, statuses: Seq) -> Projection {
    let checkpoint = Checkpoint { epoch: Epoch(epoch), events, statuses };
    Projection::bare(Reader::Projections, Partition(partition), checkpoint)
}

/// The seqs of some rows.
pub(crate) fn seqs(rows: &[LoggedEntry]) -> Vec<Seq> {
    rows.iter().map(|row| row.entry.seq).collect()
}

/// A text that no other test knows; none of them begins with another.
pub(crate) fn new_text(what: &str) -> String {
    format!("{what}-{:08}-", draw())
}

/// The name of a refresh family that no other test knows.
pub(crate) fn new_family() -> [u8; 16] {
    let mut family = [9; 16];
    family[8..].copy_from_slice(&draw().to_be_bytes());
    family
}

/// An account as it is before its first write.
pub(crate) fn user_row(user: UserId, display_name: &str) -> UserRow {
    UserRow {
        user,
        handle: "handle".into(),
        display_name: display_name.into(),
        avatar: "".into(),
        password: "$argon2id$v=19$m=8,t=1,p=1$c2FsdA$aGFzaA".into(),
        created_us: 1_790_000_000_000_000,
        state: UserState::Active,
        signed_out_us: 0,
        version: 0,
    }
}

/// A refresh family with one spent token, as it is before its first write.
pub(crate) fn family(user: UserId, family: [u8; 16]) -> RefreshFamily {
    RefreshFamily {
        family,
        user,
        device: "device".into(),
        live: [3; 32],
        spent: vec![Spent { hash: [4; 32], at_us: 11 }],
        created_us: 10,
        expires_us: 20,
        version: 0,
    }
}

/// What a key was first used for.
pub(crate) fn send_claim(user: UserId, key: &str, at_us: u64) -> SendClaim {
    let chat = ChatId::draw(Partition(4), 1, 1);
    SendClaim {
        user,
        key: key.into(),
        chat,
        origin: 5,
        n: 6,
        basis: 7,
        fingerprint: 8,
        at_us,
        outcome: SendOutcome::Unknown,
    }
}

/// A device of a user, as it is when it was first seen at 1.
pub(crate) fn device(user: UserId, device: &str) -> DeviceRow {
    DeviceRow { user, device: device.into(), name: device.into(), created_us: 1, seen_us: 1 }
}

/// A pinned chat, as it is before its first write.
pub(crate) fn setting(user: UserId, chat: ChatId) -> ChatSetting {
    ChatSetting { user, chat, muted_until_us: 3, pinned: true, archived: false, version: 0 }
}

/// A ticket that no other test knows.
pub(crate) fn ticket(user: UserId, expires_us: u64) -> TicketRow {
    let mut hash = [2; 32];
    hash[..8].copy_from_slice(&draw().to_be_bytes());
    let (device, sign_in) = ("device".into(), "sign-in".into());
    TicketRow { hash, user, device, sign_in, issued_s: 1, token_expires_s: 2, expires_us }
}

/// An invite that no other test knows.
pub(crate) fn invite(chat: ChatId, inviter: UserId, expires_us: u64, uses_max: u32) -> InviteRow {
    let mut hash = [4; 32];
    hash[..8].copy_from_slice(&draw().to_be_bytes());
    InviteRow { hash, chat, inviter, created_us: 1, expires_us, uses_max, uses: 0 }
}

/// A use of an invite, with what it is told by from one of another time.
pub(crate) fn invite_use(row: &InviteRow, user: UserId, origin: u64) -> InviteUse {
    InviteUse { hash: row.hash, user, origin, basis: 7, at_us: 5 }
}
