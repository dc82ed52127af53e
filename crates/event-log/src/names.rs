//! Names on the broker: the deployment's prefix before streams, the bucket and subjects.

use domain::Partition;

use crate::streams::{CONTROL, Stream};
use crate::subject::Subject;

/// Puts the deployment's prefix on, and takes it off.
#[derive(Debug, Clone)]
pub(crate) struct Names {
    // Empty, or `NAME.` for subjects; streams take it as `NAME-`, since a stream's name holds no dot.
    subjects: String,
    streams: String,
}

impl Names {
    pub(crate) fn new(prefix: &str) -> Self {
        if prefix.is_empty() {
            return Self { subjects: String::new(), streams: String::new() };
        }
        Self { subjects: format!("{prefix}."), streams: format!("{prefix}-") }
    }

    pub(crate) fn stream(&self, stream: Stream, partition: Partition) -> String {
        format!("{}{}-{}", self.streams, stream.name(), partition.0)
    }

    /// The stream where commands wait for a partition's new epoch.
    pub(crate) fn waiting(&self, partition: Partition) -> String {
        format!("{}RENEWAL-{}", self.streams, partition.0)
    }

    /// Of that stream, and of no one else.
    pub(crate) fn waiting_subject(&self, partition: Partition) -> String {
        format!("{}rnw.{}", self.subjects, partition.0)
    }

    pub(crate) fn control(&self) -> String {
        format!("{}{CONTROL}", self.streams)
    }

    pub(crate) fn tenures(&self) -> String {
        format!("{}own", self.streams)
    }

    /// Of a key of the bucket of tenures.
    pub(crate) fn tenure(&self, key: &str) -> String {
        format!("$KV.{}.{key}", self.tenures())
    }

    pub(crate) fn subject(&self, subject: &Subject) -> String {
        format!("{}{subject}", self.subjects)
    }

    pub(crate) fn parse(&self, text: &str) -> Option<Subject> {
        Subject::parse(text.strip_prefix(self.subjects.as_str())?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_separates_deployments() {
        let (own, other, bare) = (Names::new("a"), Names::new("b"), Names::new(""));
        let subject = Subject::Commands(Partition(2));
        assert_eq!(own.subject(&subject), "a.cmd.2");
        assert_eq!(own.stream(Stream::Commands, Partition(2)), "a-COMMANDS-2");
        assert_eq!(own.parse("a.cmd.2"), Some(subject));
        assert_eq!(own.parse(&other.subject(&subject)), None);
        assert_eq!(own.parse("cmd.2"), None);
        assert_eq!(bare.parse("cmd.2"), Some(subject));
        assert_eq!(bare.stream(Stream::Statuses, Partition(0)), "STATUS-0");
        assert_eq!((own.tenures(), bare.control()), ("a-own".to_owned(), "CONTROL".to_owned()));
    }
}
