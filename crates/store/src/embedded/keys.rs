//! Keys of the embedded engine: big endian, so that the order of bytes is the order of rows.
//!
//! Each is the key that the CQL table has, partition key first. `chat_log` leaves out its bucket (seq ÷ 4,096): it
//! changes no order here, and every read of the log walks seqs from a known one, so it knows its buckets.

use domain::{ChatId, Partition, Seq, UserId};

use crate::{Reader, codes::reader_code};

const ID: usize = 16;

/// `chat_log`: (chat, bucket) ▸ seq.
pub(super) fn log(chat: ChatId, seq: Seq) -> [u8; 24] {
    let mut key = [0; 24];
    key[..ID].copy_from_slice(chat.as_bytes());
    key[ID..].copy_from_slice(&seq.to_be_bytes());
    key
}

/// The seq of a `chat_log` key.
pub(super) fn log_seq(key: &[u8]) -> Option<Seq> {
    Some(Seq::from_be_bytes(key.get(ID..)?.try_into().ok()?))
}

/// Chat and seq of a `chat_log` key.
pub(super) fn log_parts(key: &[u8]) -> Option<(ChatId, Seq)> {
    Some((ChatId::try_from(key.get(..ID)?).ok()?, log_seq(key)?))
}

/// `chat_members`: chat ▸ user ▸ `joined_seq`.
pub(super) fn member(chat: ChatId, user: UserId, joined_seq: Seq) -> [u8; 40] {
    let mut key = [0; 40];
    key[..ID].copy_from_slice(chat.as_bytes());
    key[ID..2 * ID].copy_from_slice(user.as_bytes());
    key[2 * ID..].copy_from_slice(&joined_seq.to_be_bytes());
    key
}

/// What begins the keys of all stays of one user.
pub(super) fn stays(chat: ChatId, user: UserId) -> [u8; 32] {
    let mut key = [0; 32];
    key[..ID].copy_from_slice(chat.as_bytes());
    key[ID..].copy_from_slice(user.as_bytes());
    key
}

/// User and joined seq of a `chat_members` key.
pub(super) fn member_parts(key: &[u8]) -> Option<(UserId, Seq)> {
    let user = UserId::try_from(key.get(ID..2 * ID)?).ok()?;
    Some((user, Seq::from_be_bytes(key.get(2 * ID..)?.try_into().ok()?)))
}

/// `reactions`: (chat, bucket) ▸ seq ▸ user.
pub(super) fn reaction(chat: ChatId, seq: Seq, user: UserId) -> [u8; 40] {
    let mut key = [0; 40];
    key[..24].copy_from_slice(&log(chat, seq));
    key[24..].copy_from_slice(user.as_bytes());
    key
}

/// Message and user of a `reactions` key.
pub(super) fn reaction_parts(key: &[u8]) -> Option<(Seq, UserId)> {
    Some((log_seq(key.get(..24)?)?, UserId::try_from(key.get(24..)?).ok()?))
}

/// `chat_facts`: chat ▸ kind.
pub(super) fn fact(chat: ChatId, code: u8) -> [u8; 17] {
    let mut key = [0; 17];
    key[..ID].copy_from_slice(chat.as_bytes());
    key[ID] = code;
    key
}

/// `partitions`: partition.
pub(super) fn partition(partition: Partition) -> [u8; 2] {
    partition.0.to_be_bytes()
}

/// The partition of a `partitions` key.
pub(super) fn partition_of(key: &[u8]) -> Option<Partition> {
    Some(Partition(u16::from_be_bytes(key.try_into().ok()?)))
}

/// `direct_chats`: (lower user, higher user).
pub(super) fn direct(a: UserId, b: UserId) -> [u8; 32] {
    let mut key = [0; 32];
    key[..ID].copy_from_slice(a.min(b).as_bytes());
    key[ID..].copy_from_slice(a.max(b).as_bytes());
    key
}

/// `chats_by_user`: user ▸ (partition, chat). The chat names its partition; first, so that one partition is one range.
pub(super) fn user_chat(user: UserId, chat: ChatId) -> [u8; 34] {
    let mut key = [0; 34];
    key[..ID].copy_from_slice(user.as_bytes());
    key[ID..18].copy_from_slice(&chat.partition().0.to_be_bytes());
    key[18..].copy_from_slice(chat.as_bytes());
    key
}

/// The chat of a `chats_by_user` key.
pub(super) fn user_chat_chat(key: &[u8]) -> Option<ChatId> {
    ChatId::try_from(key.get(18..)?).ok()
}

/// `watermarks`: chat ▸ user.
pub(super) fn watermark(chat: ChatId, user: UserId) -> [u8; 32] {
    let mut key = [0; 32];
    key[..ID].copy_from_slice(chat.as_bytes());
    key[ID..].copy_from_slice(user.as_bytes());
    key
}

/// `checkpoints`: (reader, partition).
pub(super) fn checkpoint(reader: Reader, partition: Partition) -> [u8; 3] {
    let [high, low] = partition.0.to_be_bytes();
    [reader_code(reader), high, low]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_keys_sort_by_chat_and_seq() {
        let chat = ChatId::draw(Partition(1), 5, 5);
        let other = ChatId::draw(Partition(1), 6, 5);
        assert!(log(chat, 255) < log(chat, 256));
        assert!(log(chat, Seq::MAX) < log(other, 0));
        assert_eq!(log_parts(&log(chat, 77)), Some((chat, 77)));
    }

    #[test]
    fn parts_of_a_key_come_back() {
        let chat = ChatId::draw(Partition(0x0abc), 5, 5);
        let user = UserId::new([9; 16]);
        assert_eq!(member_parts(&member(chat, user, 12)), Some((user, 12)));
        assert_eq!(reaction_parts(&reaction(chat, 12, user)), Some((12, user)));
        assert_eq!(user_chat_chat(&user_chat(user, chat)), Some(chat));
        assert_eq!(direct(user, UserId::new([1; 16])), direct(UserId::new([1; 16]), user));
    }
}
