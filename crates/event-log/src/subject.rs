//! Every subject of the system, parsed and formatted in one place.
//!
//! The text here has no deployment prefix; that is put on and taken off where the broker is spoken to.

use std::fmt;
use std::str::FromStr;

use domain::{GatewayId, Partition};

/// Where a record or a message goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Subject {
    /// `cmd.P`: packed commands, stored in COMMANDS-P. Gateways → ingest.
    Commands(Partition),
    /// `evt.P`: packed events, stored in EVENTS-P. Ingest → readers.
    Events(Partition),
    /// `sts.P`: advanced watermarks, stored in STATUS-P. Delivery → projections.
    Statuses(Partition),
    /// `ctl`: what every gateway must learn, stored in CONTROL.
    Control,
    /// `ans.G`: outcomes for one gateway. Ingest → gateway.
    Answers(GatewayId),
    /// `psh.G`: pushes, marks and announcement acks for one gateway, in order. Delivery → gateway.
    Pushes(GatewayId),
    /// `ann`: which sessions a gateway holds. Gateways → every delivery worker.
    Announcements,
    /// `ask`: asks gateways to announce in full. Delivery → every gateway.
    AnnounceRequests,
    /// `rcp.P`: receipts. Gateways → delivery's owner of P.
    Receipts(Partition),
    /// `wrt.P`: how far the statuses of P stand in the store. Projections → delivery's owner of P.
    Written(Partition),
}

/// A text that is no subject of the system.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no subject of the system")]
pub struct ParseSubjectError(pub String);

impl Subject {
    /// Reads what `Display` writes, and nothing else.
    pub fn parse(text: &str) -> Result<Self, ParseSubjectError> {
        Self::parsed(text).ok_or_else(|| ParseSubjectError(text.to_owned()))
    }

    /// A bounded label for metrics: the subject without its id.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Commands(_) => "cmd",
            Self::Events(_) => "evt",
            Self::Statuses(_) => "sts",
            Self::Control => "ctl",
            Self::Answers(_) => "ans",
            Self::Pushes(_) => "psh",
            Self::Announcements => "ann",
            Self::AnnounceRequests => "ask",
            Self::Receipts(_) => "rcp",
            Self::Written(_) => "wrt",
        }
    }

    /// Whether only one subscription in the whole system reads it.
    pub(crate) fn is_exclusive(self) -> bool {
        matches!(self, Self::Answers(_) | Self::Pushes(_))
    }

    fn parsed(text: &str) -> Option<Self> {
        let Some((kind, id)) = text.split_once('.') else {
            return match text {
                "ctl" => Some(Self::Control),
                "ann" => Some(Self::Announcements),
                "ask" => Some(Self::AnnounceRequests),
                _ => None,
            };
        };
        match kind {
            "cmd" => partition(id).map(Self::Commands),
            "evt" => partition(id).map(Self::Events),
            "sts" => partition(id).map(Self::Statuses),
            "rcp" => partition(id).map(Self::Receipts),
            "wrt" => partition(id).map(Self::Written),
            "ans" => gateway(id).map(Self::Answers),
            "psh" => gateway(id).map(Self::Pushes),
            _ => None,
        }
    }
}

/// A decimal number as `Display` writes it: no sign, no leading zero.
fn partition(id: &str) -> Option<Partition> {
    let number: u16 = id.parse().ok()?;
    (number.to_string() == id).then_some(Partition(number))
}

/// 16 lower-case hexadecimal digits.
fn gateway(id: &str) -> Option<GatewayId> {
    let number = u64::from_str_radix(id, 16).ok()?;
    (format!("{number:016x}") == id).then_some(GatewayId(number))
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = self.kind();
        match self {
            Self::Commands(partition)
            | Self::Events(partition)
            | Self::Statuses(partition)
            | Self::Receipts(partition)
            | Self::Written(partition) => write!(f, "{kind}.{}", partition.0),
            Self::Answers(gateway) | Self::Pushes(gateway) => write!(f, "{kind}.{:016x}", gateway.0),
            Self::Control | Self::Announcements | Self::AnnounceRequests => f.write_str(kind),
        }
    }
}

impl FromStr for Subject {
    type Err = ParseSubjectError;

    fn from_str(text: &str) -> Result<Self, ParseSubjectError> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_formatted_parses_back() {
        let table = [
            (Subject::Commands(Partition(0)), "cmd.0"),
            (Subject::Events(Partition(7)), "evt.7"),
            (Subject::Statuses(Partition(4095)), "sts.4095"),
            (Subject::Control, "ctl"),
            (Subject::Answers(GatewayId(0xab)), "ans.00000000000000ab"),
            (Subject::Pushes(GatewayId(u64::MAX)), "psh.ffffffffffffffff"),
            (Subject::Announcements, "ann"),
            (Subject::AnnounceRequests, "ask"),
            (Subject::Receipts(Partition(3)), "rcp.3"),
            (Subject::Written(Partition(12)), "wrt.12"),
        ];
        for (subject, text) in table {
            assert_eq!(subject.to_string(), text);
            assert_eq!(Subject::parse(text), Ok(subject));
        }
    }

    #[test]
    fn a_text_that_no_subject_formats_to_is_refused() {
        for text in [
            "",
            "cmd",
            "cmd.",
            "cmd.x",
            "cmd.-1",
            "cmd.+1",
            "cmd.01",
            "cmd.65536",
            "cmd.1.2",
            "ann.1",
            "ctl.",
            "ans.ab",
            "ans.00000000000000AB",
            "ans.+0000000000000ab",
            "psh.00000000000000000",
            "xyz.1",
            "evt.*",
            "evt.>",
        ] {
            assert_eq!(Subject::parse(text), Err(ParseSubjectError(text.to_owned())));
        }
    }
}
