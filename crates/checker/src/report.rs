//! What a check found: faults with their evidence, and how much was looked at.

use std::{collections::BTreeMap, fmt};

/// How many faults of one invariant keep their evidence; the others are counted only.
pub const FAULTS_KEPT: usize = 50;

/// Which invariant a fault breaks.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Invariant {
    /// No loss.
    N1,
    /// No duplicate.
    N2,
    /// One order.
    N3,
    /// No hole.
    N4,
    /// Pushed is final.
    N5,
    /// Rules hold at commit.
    N7,
    /// Receipts are monotone.
    N8,
    /// None: the record itself is incomplete or makes no sense, so it proves nothing.
    Record,
}

/// One broken promise.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fault {
    pub invariant: Invariant,
    /// What is wrong, in one sentence.
    pub what: String,
    /// The lines that show it, in plain words.
    pub evidence: Vec<String>,
}

/// How much a history held: a check of nothing finds nothing.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Counts {
    pub clients: u64,
    pub chats: u64,
    /// Entries in the final histories, each once.
    pub entries: u64,
    pub final_histories: u64,
    /// Present members whose final history was not recorded.
    pub members_unread: u64,
    pub sends: u64,
    pub accepted: u64,
    pub stored: u64,
    pub rejected: u64,
    pub pushed: u64,
    pub read: u64,
    pub shown: u64,
    pub caught_up: u64,
    pub watermarks: u64,
}

/// The verdict on one history.
#[derive(Clone, Default, Debug)]
pub struct Report {
    /// The first [`FAULTS_KEPT`] of each invariant.
    pub faults: Vec<Fault>,
    /// How many faults there are of each invariant, kept or not.
    pub totals: BTreeMap<Invariant, u64>,
    pub counts: Counts,
}

impl Report {
    /// Whether nothing is wrong.
    pub fn is_clean(&self) -> bool {
        self.totals.is_empty()
    }

    /// Whether this invariant is broken.
    pub fn breaks(&self, invariant: Invariant) -> bool {
        self.totals.contains_key(&invariant)
    }

    /// Notes a fault; what it says is only put together if it is kept.
    pub(crate) fn fault<E: ToString>(
        &mut self,
        invariant: Invariant,
        what: impl FnOnce() -> String,
        evidence: impl IntoIterator<Item = E>,
    ) {
        let total = self.totals.entry(invariant).or_default();
        *total += 1;
        if *total <= FAULTS_KEPT as u64 {
            let evidence = evidence.into_iter().map(|line| line.to_string()).collect();
            self.faults.push(Fault { invariant, what: what(), evidence });
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.invariant, self.what)?;
        self.evidence.iter().try_for_each(|line| write!(f, "\n    {line}"))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counts { clients, chats, entries, sends, stored, rejected, pushed, read, shown, watermarks, .. } =
            self.counts;
        writeln!(
            f,
            "{clients} clients, {chats} chats, {entries} entries, {sends} sends, {stored} stored, {rejected} rejected, \
             {pushed} pushed, {read} read, {shown} shown, {watermarks} watermarks"
        )?;
        if self.is_clean() {
            return f.write_str("no fault");
        }
        self.faults.iter().try_for_each(|fault| writeln!(f, "{fault}"))?;
        write!(f, "faults in all: {:?}", self.totals)
    }
}
