//! How a row that comes meets the row that is stored: forward only (M8).
//!
//! Each function is a maximum over a total order, so the rows that remain do not depend on the order, the grouping or
//! the repetition of the writes. `None` means that the stored row stays as it is.

use domain::{ChatId, PartitionPosition, Seq, Watermark};

use crate::{Checkpoint, MemberRow, Preview, RoleRow, SummaryRow, UserChatRow};

/// Of one stay: its end, once known, is never taken back by a write that does not know it.
pub(crate) fn member(stored: Option<MemberRow>, new: MemberRow) -> Option<MemberRow> {
    let Some(stored) = stored else { return Some(new) };
    // The end of a stay is one entry, so two ends are the same one.
    let merged = MemberRow { left_seq: stored.left_seq.max(new.left_seq), ..stored };
    (merged != stored).then_some(merged)
}

/// Of one stay: the role that the latest entry gave, whichever write brings it last.
///
/// A stored role goes with the entry that gave it: the joining, or a later change.
pub(crate) fn role(stored: Option<(MemberRow, Seq)>, chat: ChatId, new: RoleRow) -> Option<(MemberRow, Seq)> {
    let RoleRow { user, joined_seq, role, seq } = new;
    match stored {
        Some((_, since)) if since >= seq => None,
        Some((row, _)) => Some((MemberRow { role, ..row }, seq)),
        None => Some((MemberRow { chat, user, joined_seq, role, left_seq: None }, seq)),
    }
}

/// Of one chat in one list: the later stay, and of one stay its end.
pub(crate) fn user_chat(stored: Option<UserChatRow>, new: UserChatRow) -> Option<UserChatRow> {
    match stored {
        Some(stored) if (stored.joined_seq, stored.left_seq) >= (new.joined_seq, new.left_seq) => None,
        _ => Some(new),
    }
}

/// The higher head; the parts after it only make the order total, one head has one summary.
pub(crate) fn summary(stored: Option<&SummaryRow>, new: &SummaryRow) -> bool {
    fn rank(row: &SummaryRow) -> (u64, u64, u64, u64, i32, Option<&Preview>) {
        (
            row.head,
            row.first_seq,
            row.ordinal,
            row.activity,
            i32::from(crate::codes::kind_code(row.kind)),
            row.preview.as_ref(),
        )
    }
    stored.is_none_or(|stored| rank(stored) < rank(new))
}

/// The maximum in each part.
pub(crate) fn watermark(stored: Option<Watermark>, new: Watermark) -> Option<Watermark> {
    // Merged even when nothing is stored: `seen` lifts `delivered` (M20).
    let merged = stored.unwrap_or_default().merge(new);
    (stored != Some(merged)).then_some(merged)
}

/// A later epoch wins whole; within one, the maximum in each part.
pub(crate) fn checkpoint(stored: Option<Checkpoint>, new: Checkpoint) -> Option<Checkpoint> {
    let Some(stored) = stored else { return Some(new) };
    if stored.epoch != new.epoch {
        return (new.epoch > stored.epoch).then_some(new);
    }
    // Each write holds its rows beside its checkpoint, so what both parts stand for is stored.
    let merged = Checkpoint {
        events: stored.events.max(new.events),
        statuses: stored.statuses.max(new.statuses),
        epoch: stored.epoch,
    };
    (merged != stored).then_some(merged)
}

/// The later epoch, then the higher event; every decided batch is an event record (M2), so this orders all positions.
pub(crate) fn position(stored: Option<&PartitionPosition>, new: &PartitionPosition) -> bool {
    fn rank(position: &PartitionPosition) -> (domain::Epoch, u64, u64, u32) {
        (position.epoch, position.events.sequence, position.commands.sequence, position.commands.count)
    }
    stored.is_none_or(|stored| rank(stored) < rank(new))
}

#[cfg(test)]
mod tests {
    use domain::{CommandPosition, Epoch, EventPosition, Partition, Role, UserId, WriterId};
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn chat() -> ChatId {
        ChatId::draw(Partition(3), 1, 1)
    }

    fn stay(left_seq: Option<u64>) -> MemberRow {
        MemberRow { chat: chat(), user: UserId::new([1; 16]), joined_seq: 4, role: Role::Member, left_seq }
    }

    #[test]
    fn the_end_of_a_stay_is_not_taken_back() {
        assert_eq!(member(Some(stay(None)), stay(Some(9))), Some(stay(Some(9))));
        assert_eq!(member(Some(stay(Some(9))), stay(None)), None);
        assert_eq!(member(Some(stay(Some(9))), stay(Some(9))), None);
    }

    #[test]
    fn a_role_follows_the_latest_entry_whatever_comes_last() {
        let given = |role, seq| RoleRow { user: UserId::new([1; 16]), joined_seq: 4, role, seq };
        let first = role(Some((stay(Some(9)), 4)), chat(), given(Role::Admin, 6)).unwrap();
        assert_eq!(first, (MemberRow { role: Role::Admin, ..stay(Some(9)) }, 6));
        assert_eq!(role(Some(first), chat(), given(Role::Reader, 5)), None);
        assert_eq!(role(Some(first), chat(), given(Role::Admin, 6)), None);
        assert_eq!(role(None, chat(), given(Role::Member, 5)), Some((stay(None), 5)));
    }

    #[test]
    fn a_position_of_an_earlier_epoch_or_event_is_not_taken() {
        let at = |epoch, sequence| PartitionPosition {
            epoch: Epoch(epoch),
            commands: CommandPosition { sequence, ..CommandPosition::default() },
            events: EventPosition { sequence, writer: WriterId(1), batch: sequence },
        };
        assert!(position(None, &at(1, 1)));
        assert!(position(Some(&at(1, 5)), &at(1, 6)));
        assert!(position(Some(&at(1, 5)), &at(2, 1)));
        assert!(!position(Some(&at(1, 5)), &at(1, 5)));
        assert!(!position(Some(&at(1, 5)), &at(1, 4)));
        assert!(!position(Some(&at(2, 1)), &at(1, 9)));
    }

    #[test]
    fn a_read_message_counts_as_delivered_from_its_first_write_on() {
        let seen = Watermark { delivered: 0, seen: 7, seen_ordinal: 5 };
        assert_eq!(watermark(None, seen), Some(Watermark { delivered: 7, seen: 7, seen_ordinal: 5 }));
    }

    fn fold<T: Copy>(rows: &[T], merge: impl Fn(Option<T>, T) -> Option<T>) -> Option<T> {
        rows.iter().fold(None, |stored, row| merge(stored, *row).or(stored))
    }

    proptest! {
        #[test]
        fn checkpoints_and_lists_do_not_depend_on_order(
            parts in vec((0u64..3, 0u64..6, 0u64..6, prop::option::of(0u64..6)), 1..8),
            rotate in 0usize..8,
        ) {
            let mut turned = parts.clone();
            turned.rotate_left(rotate % parts.len());
            turned.reverse();
            let checkpoints = |parts: &[(u64, u64, u64, Option<u64>)]| {
                let rows: Vec<_> = parts.iter().map(|&(epoch, events, statuses, _)| Checkpoint { epoch: Epoch(epoch), events, statuses }).collect();
                fold(&rows, checkpoint)
            };
            prop_assert_eq!(checkpoints(&parts), checkpoints(&turned));
            let lists = |parts: &[(u64, u64, u64, Option<u64>)]| {
                let rows: Vec<_> = parts.iter().map(|&(joined_seq, _, _, left_seq)| UserChatRow { user: UserId::new([1; 16]), chat: chat(), joined_seq, left_seq }).collect();
                fold(&rows, user_chat)
            };
            prop_assert_eq!(lists(&parts), lists(&turned));
        }
    }
}
