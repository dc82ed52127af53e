//! The worker's one mirror, and what each partition still has to hear of it.
//!
//! The mirror changes first and the partitions hear of it after: an ack's `as_of` is thus never ahead of what was
//! expanded with the acknowledged sessions (M17).

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError, RwLock, RwLockReadGuard};

use domain::{GatewayId, Micros, Partition};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::machine::{Mirror, MirrorAction, MirrorInput};

/// What a partition has to hear of one gateway: that it was forgotten, then that a version is held.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Notice {
    pub(crate) forgotten: bool,
    pub(crate) held: Option<u64>,
}

/// Notices of one partition, at most one a gateway.
#[derive(Debug, Default)]
pub(crate) struct Board {
    notices: Mutex<BTreeMap<GatewayId, Notice>>,
    posted: Notify,
}

impl Board {
    /// Waits until something is posted; a permit stays if nobody waits.
    pub(crate) async fn posted(&self) {
        self.posted.notified().await;
    }

    pub(crate) fn take(&self) -> BTreeMap<GatewayId, Notice> {
        std::mem::take(&mut *self.notices.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn post(&self, action: &MirrorAction) {
        let mut notices = self.notices.lock().unwrap_or_else(PoisonError::into_inner);
        match action {
            MirrorAction::Held { gateway, version } => notices.entry(*gateway).or_default().held = Some(*version),
            MirrorAction::Forgotten(gateway) => {
                notices.insert(*gateway, Notice { forgotten: true, held: None });
            }
            MirrorAction::Ask(_) | MirrorAction::Refused => return,
        }
        drop(notices);
        self.posted.notify_one();
    }
}

#[derive(Debug)]
pub(crate) struct Roster {
    mirror: RwLock<Mirror>,
    boards: BTreeMap<Partition, Board>,
    started: Instant,
}

impl Roster {
    pub(crate) fn new(partitions: &[Partition]) -> Self {
        let boards = partitions.iter().map(|partition| (*partition, Board::default())).collect();
        Self { mirror: RwLock::new(Mirror::new()), boards, started: Instant::now() }
    }

    /// µs since the worker started: machines only measure spans.
    pub(crate) fn now(&self) -> Micros {
        Micros::try_from(self.started.elapsed().as_micros()).unwrap_or(Micros::MAX)
    }

    pub(crate) fn mirror(&self) -> RwLockReadGuard<'_, Mirror> {
        self.mirror.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn board(&self, partition: Partition) -> Option<&Board> {
        self.boards.get(&partition)
    }

    /// Feeds the mirror, tells the partitions, and returns what was asked for.
    pub(crate) fn feed(&self, input: MirrorInput) -> Vec<MirrorAction> {
        let mut actions = Vec::new();
        self.mirror.write().unwrap_or_else(PoisonError::into_inner).handle(self.now(), input, &mut actions);
        for action in &actions {
            for board in self.boards.values() {
                board.post(action);
            }
        }
        actions
    }
}

#[cfg(test)]
mod tests {
    use proto::relay::Announcement;

    use super::*;

    #[test]
    fn a_gateway_that_went_and_came_back_in_between_is_both_forgotten_and_held() {
        let roster = Roster::new(&[Partition(0)]);
        let here = |version| Announcement { gateway: 1, version, snapshot: true, ..Announcement::default() };
        roster.feed(MirrorInput::Announced(here(1)));
        roster.feed(MirrorInput::Announced(Announcement { leaving: true, ..here(2) }));
        roster.feed(MirrorInput::Announced(here(3)));
        let notices = roster.board(Partition(0)).unwrap().take();
        let notice = notices[&GatewayId(1)];
        assert!(notice.forgotten);
        assert_eq!(notice.held, Some(3));
    }
}
