//! Switches for the rules that a model check of the design showed to be needed.
//!
//! All on, always, but in the simulator and in the controls of the chaos run, which turn each off to show that it would
//! be missed.

macro_rules! rules {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// One switch a rule; a rule left out breaks an invariant within a few steps.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[allow(clippy::struct_excessive_bools, reason = "one switch a rule is the point")]
        pub struct Rules {
            $($(#[$doc])* pub $name: bool,)*
        }

        impl Rules {
            /// Every rule holds.
            pub const ALL: Self = Self { $($name: true,)* };

            /// The rules' names, in order.
            pub const NAMES: &'static [&'static str] = &[$(stringify!($name)),*];

            /// All but the named one; none if there is no such rule.
            pub fn without(name: &str) -> Option<Self> {
                match name {
                    $(stringify!($name) => Some(Self { $name: false, ..Self::ALL }),)*
                    _ => None,
                }
            }
        }
    };
}

rules! {
    /// A chat with entries decided but not yet appended is neither evicted nor loaded.
    m1,
    /// Every decided batch is published, also one without events, before any answer that it covers.
    m2,
    /// Fenced by the expected last sequence; in doubt, the same bytes again; refused, the tail decides.
    m3,
    /// `decide` reads chat state, command and record stamp only; time is strictly monotone per chat.
    m4,
    /// Takeover compares both fingerprints.
    m5,
    /// A broker reconnect is a step down and a takeover.
    m6,
    /// A client of another epoch refetches above the common head.
    m7,
    /// Rows, members, snapshots, positions and checkpoints only move forward.
    m8,
    /// Trim only below the stored, synced position; never the last event record nor the command it names.
    m9,
    /// Dedupe before rules.
    m10,
    /// A client's span of unsettled sends stays below 32.
    m11,
    /// `after` is computed anew at each resend.
    m12,
    /// Stored wins over rejected.
    m13,
    /// `basis` below `evicted_through` of an unknown origin is `origin_unknown`.
    m14,
    /// Another owner in a batch, ack or `through` means resync; lower revisions are ignored.
    m15,
    /// `through` carries the last batch number.
    m16,
    /// `ready` only on its owner's ack of the announcement.
    m17,
    /// Members are loaded at least to seq − 1, then folded on.
    m18,
    /// Resync: announce again, wait for the new owner's ack, send heads at that `as_of`.
    m19,
    /// Watermarks are echoed only from the table.
    m20,
    /// Rebuild starts at the stored append position read before the scan.
    m21,
    /// `through` is the highest seq with no missing row at or below.
    m22,
    /// A session goes on over another socket only where every push that its client did not get is at hand.
    m24,
    /// What an origin has stored is answered as the first time, and not stored again (N2).
    dedupe,
    /// Who receives an entry follows from membership as of it, not as of now (N7).
    as_of,
    /// Events are published with the sequence that is expected before them (N6). A rule of the shell.
    fence,
    /// A command is said to be accepted once it stands in the log (N1). A rule of the shell.
    publish_first,
    /// The position of an append is stored with its rows, never before them (N1). A rule of the shell.
    rows_first,
}

impl Default for Rules {
    fn default() -> Self {
        Self::ALL
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rule_can_be_switched_off_by_its_name() {
        assert_eq!(Rules::NAMES.len(), 28);
        for name in Rules::NAMES {
            assert_ne!(Rules::without(name), Some(Rules::ALL));
        }
        assert_eq!(Rules::without("m99"), None);
    }
}
