//! What may go wrong, drawn with everything that its repetition needs.

use std::fmt;
use std::time::Duration;

use rand::RngExt as _;
use rand::rngs::StdRng;

/// A kind of fault.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Kind {
    /// SIGKILL to a process of ours, and a new start.
    KillProcess,
    /// SIGKILL to all processes of ours and to the broker at once.
    KillAll,
    /// SIGTERM to a process of ours, its orderly end, and a new start.
    RestartProcess,
    /// SIGSTOP to a process of ours, and SIGCONT a moment later.
    PauseProcess,
    /// The same for longer than leases and heartbeats last.
    FreezeProcess,
    /// SIGKILL to a broker, which whoever keeps it starts again.
    KillBroker,
    /// SIGTERM to a broker.
    RestartBroker,
    /// SIGSTOP to a broker, and SIGCONT a moment later.
    PauseBroker,
    /// The same for longer than any publish, ping or lease waits.
    FreezeBroker,
    /// A broker stands still, so that much is under way, and then a process of ours is killed.
    KillBehindBroker,
    /// The same, and the forgetful clients are killed between, without their outboxes.
    ForgetBehindBroker,
    /// All clients' connections end.
    CutLinks,
    /// What clients send, or are sent, is held back and then let go.
    HoldLinks,
    /// What clients send and are sent comes late.
    SlowLinks,
    /// A client is killed and started again from its outbox and its progress.
    RestartClient,
    /// A client is killed and comes back knowing nothing.
    ForgetClient,
    /// The disk of the deployment is full, and then is not.
    FillDisk,
    /// A second worker of the same roles is cut off from the broker for longer than its lease, and comes back.
    HoldWorker,
}

/// One fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Fault {
    pub(crate) kind: Kind,
    /// Which of those that it may hit, modulo their number.
    pub(crate) target: u32,
    /// How long what is held, stopped or full stays so; of what is killed, how long it stays down.
    pub(crate) ms: u64,
    /// A second drawn number: how late, or how long before the kill.
    pub(crate) by_ms: u64,
}

/// Each kind with its name, how many of it are in a deck, and how long it lasts, in ms.
const TABLE: [(Kind, &str, usize, std::ops::Range<u64>); 18] = [
    (Kind::KillProcess, "kill-process", 4, 0..1_500),
    (Kind::KillAll, "kill-all", 2, 0..1_000),
    (Kind::RestartProcess, "restart-process", 1, 0..500),
    (Kind::PauseProcess, "pause-process", 2, 200..2_500),
    (Kind::FreezeProcess, "freeze-process", 1, 6_000..20_000),
    (Kind::KillBroker, "kill-broker", 3, 0..1),
    (Kind::RestartBroker, "restart-broker", 2, 0..1),
    (Kind::PauseBroker, "pause-broker", 2, 200..2_500),
    (Kind::FreezeBroker, "freeze-broker", 1, 6_000..20_000),
    (Kind::KillBehindBroker, "kill-behind-broker", 2, 100..800),
    (Kind::ForgetBehindBroker, "forget-behind-broker", 1, 200..800),
    (Kind::CutLinks, "cut-links", 2, 0..1),
    (Kind::HoldLinks, "hold-links", 2, 300..4_000),
    (Kind::SlowLinks, "slow-links", 1, 1_000..4_000),
    (Kind::RestartClient, "restart-client", 3, 0..500),
    (Kind::ForgetClient, "forget-client", 1, 0..500),
    (Kind::FillDisk, "fill-disk", 1, 1_000..6_000),
    (Kind::HoldWorker, "hold-worker", 2, 3_500..6_000),
];

impl Kind {
    /// As in the plan and the report.
    pub(crate) fn name(self) -> &'static str {
        self.row().1
    }

    /// The kind of this name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        TABLE.iter().find(|row| row.1 == name).map(|row| row.0)
    }

    /// All kinds.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        TABLE.iter().map(|row| row.0)
    }

    /// How many of it are in a deck.
    pub(crate) fn weight(self) -> usize {
        self.row().2
    }

    fn row(self) -> &'static (Self, &'static str, usize, std::ops::Range<u64>) {
        // Each kind has its row, in the order of the kinds: a test looks.
        &TABLE[self as usize]
    }
}

impl Fault {
    /// One of this kind.
    pub(crate) fn draw(kind: Kind, random: &mut StdRng) -> Self {
        let (target, ms, by_ms) =
            (random.random(), random.random_range(kind.row().3.clone()), random.random_range(20..300));
        Self { kind, target, ms, by_ms }
    }

    /// How long it lasts.
    pub(crate) const fn time(&self) -> Duration {
        Duration::from_millis(self.ms)
    }

    /// Its second time.
    pub(crate) const fn by(&self) -> Duration {
        Duration::from_millis(self.by_ms)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, target, ms, by_ms } = self;
        write!(f, "{:20} {ms:5} ms, {by_ms:3} ms, target {target}", kind.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_its_own_row() {
        for (place, row) in TABLE.iter().enumerate() {
            assert_eq!(row.0 as usize, place);
            assert_eq!(Kind::named(row.1), Some(row.0));
        }
    }
}
