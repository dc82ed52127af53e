//! What holds in a group or channel: who adds, and how often one speaks.

use proto::v1;

use crate::{Code, limits::SLOW_MODE_S_MAX};

/// What holds in a chat. As it is made, nothing of it is set.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Policy {
    /// Members may add members and readers.
    pub members_add: bool,
    /// Seconds from one entry to the next of who is no owner or admin; 0: slow mode is off.
    pub slow_mode_s: u32,
}

/// What of a policy is to be other than it was.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct PolicyChange {
    /// [`Policy::members_add`].
    pub members_add: Option<bool>,
    /// [`Policy::slow_mode_s`].
    pub slow_mode_s: Option<u32>,
}

impl Policy {
    /// With what is named in a change.
    #[must_use]
    pub fn with(self, change: PolicyChange) -> Self {
        Self {
            members_add: change.members_add.unwrap_or(self.members_add),
            slow_mode_s: change.slow_mode_s.unwrap_or(self.slow_mode_s),
        }
    }

    /// With each field set.
    pub fn to_wire(self) -> v1::ChatPolicy {
        PolicyChange { members_add: Some(self.members_add), slow_mode_s: Some(self.slow_mode_s) }.to_wire()
    }

    /// What an entry or a row says.
    pub fn from_wire(wire: v1::ChatPolicy) -> Self {
        Self::default().with(PolicyChange::from_wire(wire))
    }
}

impl PolicyChange {
    /// Checks what a client asks for; nothing at all is no change.
    pub(crate) fn from_client(wire: Option<v1::ChatPolicy>) -> Result<Self, Code> {
        let change = Self::from_wire(wire.unwrap_or_default());
        let is_slow = change.slow_mode_s.is_some_and(|seconds| seconds > SLOW_MODE_S_MAX);
        if is_slow || change == Self::default() { Err(Code::BadRequest) } else { Ok(change) }
    }

    pub(crate) fn from_wire(wire: v1::ChatPolicy) -> Self {
        let v1::ChatPolicy { members_add, slow_mode_s } = wire;
        Self { members_add, slow_mode_s }
    }

    pub(crate) fn to_wire(self) -> v1::ChatPolicy {
        let Self { members_add, slow_mode_s } = self;
        v1::ChatPolicy { members_add, slow_mode_s }
    }

    /// Different for any two changes: a field that is not named is none of its values.
    pub(crate) fn hashed(self) -> [u8; 6] {
        let [a, b, c, d] = self.slow_mode_s.unwrap_or_default().to_be_bytes();
        let adds = self.members_add.map_or(0, |adds| 1 + u8::from(adds));
        [adds, self.slow_mode_s.is_some().into(), a, b, c, d]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_leaves_what_it_does_not_name() {
        let policy = Policy { members_add: true, slow_mode_s: 5 };
        assert_eq!(policy.with(PolicyChange { slow_mode_s: Some(0), ..PolicyChange::default() }).slow_mode_s, 0);
        assert_eq!(policy.with(PolicyChange::default()), policy);
        assert_eq!(Policy::from_wire(policy.to_wire()), policy);
        assert_eq!(Policy::from_wire(v1::ChatPolicy::default()), Policy::default());
    }

    #[test]
    fn what_changes_nothing_or_beyond_its_bound_is_refused() {
        assert_eq!(PolicyChange::from_client(None), Err(Code::BadRequest));
        let seconds = |slow_mode_s| v1::ChatPolicy { slow_mode_s: Some(slow_mode_s), members_add: None };
        assert_eq!(PolicyChange::from_client(Some(seconds(SLOW_MODE_S_MAX + 1))), Err(Code::BadRequest));
        let most = PolicyChange { slow_mode_s: Some(SLOW_MODE_S_MAX), members_add: None };
        assert_eq!(PolicyChange::from_client(Some(seconds(SLOW_MODE_S_MAX))), Ok(most));
    }

    #[test]
    fn no_two_changes_hash_alike() {
        let fields = [None, Some(false), Some(true)];
        let seconds = [None, Some(0), Some(1), Some(SLOW_MODE_S_MAX)];
        let all =
            fields.iter().flat_map(|adds| seconds.map(|slow| PolicyChange { members_add: *adds, slow_mode_s: slow }));
        let hashed: std::collections::BTreeSet<_> = all.map(PolicyChange::hashed).collect();
        assert_eq!(hashed.len(), fields.len() * seconds.len());
    }
}
