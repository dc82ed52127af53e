//! Numbers and ids as columns have them.
//!
//! CQL's `bigint` has a sign; a number above its highest value stands as a negative one and comes back as it was. Those
//! that are compared in the cluster (seqs, epochs, times) never get there.

use domain::{ChatId, Partition, Seq, UserId};

use crate::Error;

/// Seqs of one CQL partition of the chat log.
pub(super) const BUCKET_ROWS: u64 = 4_096;

/// A `bigint`.
pub(super) const fn big(number: u64) -> i64 {
    number.cast_signed()
}

/// The number in a `bigint`.
pub(super) const fn number(big: i64) -> u64 {
    big.cast_unsigned()
}

/// A seq to compare with: one above all that `bigint` has is above all that is stored.
pub(super) fn bound(seq: Seq) -> i64 {
    i64::try_from(seq).unwrap_or(i64::MAX)
}

/// A timestamp by which the higher number wins.
///
/// The lowest is 1: a timestamp of 0 means "none" to some tools.
pub(super) fn stamp(number: u64) -> i64 {
    i64::try_from(number.saturating_add(1)).unwrap_or(i64::MAX)
}

/// The bucket that a seq stands in.
pub(super) const fn bucket(seq: Seq) -> u64 {
    seq / BUCKET_ROWS
}

/// A partition's number as a column.
pub(super) const fn small(partition: Partition) -> i16 {
    partition.0.cast_signed()
}

/// A chat's id.
pub(super) fn chat(table: &'static str, bytes: &[u8]) -> Result<ChatId, Error> {
    ChatId::try_from(bytes).map_err(|error| Error::corrupt(table, error.to_string()))
}

/// A user's id.
pub(super) fn user(table: &'static str, bytes: &[u8]) -> Result<UserId, Error> {
    UserId::try_from(bytes).map_err(|error| Error::corrupt(table, error.to_string()))
}

/// A fixed number of bytes.
pub(super) fn array<const N: usize>(table: &'static str, bytes: &[u8]) -> Result<[u8; N], Error> {
    bytes.try_into().map_err(|_length| Error::corrupt(table, format!("it has {} bytes for {N}", bytes.len())))
}

/// A code of one byte.
pub(super) fn code(table: &'static str, small: i16) -> Result<u8, Error> {
    u8::try_from(small).map_err(|_range| Error::corrupt(table, format!("code {small} is not known")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_comes_back() {
        for original in [0, 1, u64::MAX / 2, u64::MAX / 2 + 1, u64::MAX] {
            assert_eq!(number(big(original)), original);
        }
    }

    #[test]
    fn higher_numbers_have_higher_timestamps() {
        assert!(stamp(0) > 0 && stamp(0) < stamp(1) && stamp(1) < stamp(2));
        assert_eq!((stamp(u64::MAX), bound(u64::MAX)), (i64::MAX, i64::MAX));
    }

    #[test]
    fn a_bucket_holds_4096_seqs() {
        assert_eq!((bucket(1), bucket(4_095), bucket(4_096), bucket(8_191)), (0, 0, 1, 1));
    }
}
