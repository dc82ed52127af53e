//! Controls that must fail: the same roles with one rule left out, under the faults that show it.

use clap::ValueEnum;

use super::fault::Kind;

/// A control.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Control {
    /// Every rule holds: judged as the product is, and must be clean.
    None,
    /// What was stored is stored again when it is sent again.
    Dedupe,
    /// A stale owner's events go into the stream.
    Fence,
    /// Commands are accepted before they stand in the log.
    AcceptedBeforePublish,
    /// The position of an append is stored before its rows.
    CheckpointBeforeRows,
    /// Who gets an entry is who is a member when it is pushed.
    MembersNow,
}

impl Control {
    /// The rule that does not hold.
    pub(crate) const fn without(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::Dedupe => Some("dedupe"),
            Self::Fence => Some("fence"),
            Self::AcceptedBeforePublish => Some("publish_first"),
            Self::CheckpointBeforeRows => Some("rows_first"),
            Self::MembersNow => Some("as_of"),
        }
    }

    /// The faults that show it; without a rule left out, all.
    pub(crate) fn menu(self) -> Vec<Kind> {
        match self {
            // A broker whose disk was full stores nothing more until it is started again, and nobody does: docs/chaos.md.
            Self::None => Kind::all().filter(|kind| *kind != Kind::FillDisk).collect(),
            Self::Dedupe => vec![Kind::CutLinks, Kind::HoldLinks, Kind::RestartClient, Kind::KillProcess],
            Self::Fence => vec![Kind::HoldWorker],
            Self::AcceptedBeforePublish => vec![Kind::ForgetBehindBroker],
            Self::CheckpointBeforeRows => vec![Kind::KillProcess],
            Self::MembersNow => vec![Kind::KillBroker, Kind::RestartBroker],
        }
    }

    /// The invariants of which one must be found broken.
    pub(crate) const fn breaks(self) -> &'static [&'static str] {
        match self {
            Self::None => &[],
            Self::Dedupe => &["N2"],
            Self::Fence | Self::CheckpointBeforeRows => &["N1", "N3", "N5"],
            Self::AcceptedBeforePublish => &["N1"],
            Self::MembersNow => &["N7"],
        }
    }

    /// Its name on the command line.
    pub(crate) fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}
