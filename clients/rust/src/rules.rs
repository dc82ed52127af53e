//! Switches for the client's rules of the design, for the simulator to show that each is needed.

/// The rules that a client keeps; all on by default.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "one switch a rule is the point")]
pub struct Rules {
    /// A client of another epoch refetches above the common head.
    pub m7: bool,
    /// n − (lowest unsettled n) stays below 32.
    pub m11: bool,
    /// `after` is computed anew at each resend.
    pub m12: bool,
    /// Stored wins over rejected.
    pub m13: bool,
    /// `basis` is the head known when the command was made, at each resend too.
    pub m14: bool,
    /// Watermark claims are asserted again until they are echoed.
    pub m20: bool,
    /// All up to `through` of a history answer counts as known, and nothing above.
    pub m22: bool,
}

impl Rules {
    /// Every rule holds.
    pub const ALL: Self = Self { m7: true, m11: true, m12: true, m13: true, m14: true, m20: true, m22: true };
}

impl Default for Rules {
    fn default() -> Self {
        Self::ALL
    }
}
